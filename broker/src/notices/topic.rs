//! The topics under which the broker tells of accounts and their sessions (specification of the
//! broker, 7.2, 7.3 and 20.2).

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use super::record::cut;
use super::{Kind, Notice, What};
use crate::shard::session_number;

/// What is escaped in a client identifier that is a level: all but what is common in names.
const ESCAPED: &AsciiSet =
    &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~').remove(b':');

/// Bytes of a client identifier that stand in a topic.
const LEVEL_MAX: usize = 1_024;

/// Where a notice is published.
pub(crate) fn log_topic(notice: &Notice) -> String {
    let event = notice.what.event();
    match &notice.what {
        What::Session { client_id, .. } => {
            let level = utf8_percent_encode(cut(client_id, LEVEL_MAX), ESCAPED);
            format!("flespi/log/mqtt/sessions/{level}/{event}")
        }
        What::Object { kind, id, .. } => {
            format!("flespi/log/platform/{}/{id}/{event}", kind.level())
        }
        What::Told(told) => format!("flespi/log/{}/{event}", told.origin),
        What::Called(_) => format!("flespi/log/platform/customer/{}/{event}", notice.account),
    }
}

/// Where the state of an object is retained.
pub(crate) fn state_topic(kind: Kind, id: u64) -> String {
    format!("flespi/state/platform/{}/{id}", kind.level())
}

/// Where the state of a session is retained.
pub(crate) fn state_of_session(account: u64, client_id: &str) -> String {
    format!("flespi/state/mqtt/sessions/{}", session_number(account, client_id))
}

/// Where a counter of an account is retained: `tokens_count` under `tokens/count`, as tools of
/// flespi look for `api/calls`, `mqtt/#` and `+/count`.
pub(crate) fn counter_topic(name: &str) -> String {
    format!("flespi/state/platform/customer/counters/{}", name.replacen('_', "/", 1))
}

impl Kind {
    /// The level of its topics.
    fn level(self) -> &'static str {
        match self {
            Self::Token => "tokens",
            Self::Account => "subaccounts",
            Self::Limit => "limits",
        }
    }
}
