//! What becomes of a message that its publisher may not publish: it is rejected, unless it is a
//! call of REST.

use std::rc::Rc;

use bytes::Bytes;
use longshore_acl::Action;
use longshore_codec::{Properties, Property, Publish, QoS, topic};

use super::{Admitted, Input};
use crate::cache::Route;
use crate::called::{ANSWERS, Answering, CALLS, Called};
use crate::clock::Now;
use crate::connection::ConnectionId;
use crate::session::SessionId;
use crate::shard::{Fault, Shard};

const TOO_MANY: &str = "too many calls of REST at once";

impl Shard {
    /// Hands a call over, or rejects the message.
    #[cold]
    #[expect(clippy::too_many_arguments, reason = "the rest of publishing")]
    pub(super) fn turn_away(
        &mut self,
        id: ConnectionId,
        session: SessionId,
        publish: &Publish<'_>,
        input: Input<'_>,
        admitted: Admitted<'_>,
        scratch: &mut Vec<u8>,
        now: Now,
    ) -> Result<(), Fault> {
        let called = match self.dialect.rest_over_mqtt {
            true => self.called(id, session, publish, &admitted),
            false => None,
        };
        let Some(called) = called else {
            self.reject(id, session, publish);
            return Ok(());
        };
        if !self.commons.calls().is_some_and(|calls| calls.take(called)) {
            return self.refuse_for_quota(id, session, publish, TOO_MANY);
        }
        // To all others it is a message that nobody has subscribed to, and that nobody keeps.
        self.matches.clear();
        let route = Rc::new(Route::new(self.number, admitted.name, &mut self.matches));
        let publish = Publish { retain: false, ..*publish };
        let admitted = Admitted { route, ..admitted };
        self.publish_admitted(id, session, &publish, input, admitted, scratch, now)
    }

    /// The call that a message is, if it is one, and may be answered where it says.
    fn called(
        &self,
        id: ConnectionId,
        session_id: SessionId,
        publish: &Publish<'_>,
        admitted: &Admitted<'_>,
    ) -> Option<Called> {
        let name = std::str::from_utf8(admitted.name).ok()?;
        let path = name.strip_prefix(CALLS)?;
        let (peer, session) = (self.connections.get(id)?.peer, self.sessions.get(session_id)?);
        let principal = session.principal;
        if principal.token.is_none() || principal.anonymous || self.is_link(session) {
            return None;
        }
        let (mut named, mut chosen, mut correlation) = (Vec::new(), None, None);
        let properties = if admitted.v5 { publish.properties } else { Properties::none() };
        for property in properties.iter() {
            match property {
                Ok(Property::UserProperty(name, value)) => {
                    named.push((name.to_owned(), value.to_owned()));
                }
                Ok(Property::ResponseTopic(topic)) => chosen = Some(topic),
                Ok(Property::CorrelationData(data)) => correlation = Some(data.to_vec()),
                _ => {}
            }
        }
        // The broker publishes nothing for a client that it may not publish itself.
        let class = admitted.from.class;
        let may = |topic: &str| self.commons.classes.allows(class, Action::Publish, topic);
        if chosen.is_some_and(|it| topic::validate(it.as_bytes()).is_err() || !may(it)) {
            return None;
        }
        let topic = chosen.map_or_else(|| format!("{ANSWERS}{path}"), str::to_owned);
        let account = principal.account;
        let (is_private, qos) = (chosen.is_none(), publish.qos.min(QoS::AtLeastOnce));
        let session = session_id;
        let answer = Answering { session, account, topic, is_private, correlation, qos };
        let body = Bytes::copy_from_slice(publish.payload);
        Some(Called { principal, peer, path: path.to_owned(), named, body, answer })
    }
}
