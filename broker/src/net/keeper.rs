//! What time asks of accounts, their logs, and the counters that are shown: a thread that no client
//! waits for.

use std::future::poll_fn;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Runtime;
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval, sleep};
use tracing::{error, info};

use super::sys::{self, Sys};
use crate::accounts::Accounts;

/// How often it is looked which tokens have come to their end, and logs are written.
const SPAN: Duration = Duration::from_secs(1);
/// Between two looks at notices: those of that time are taken together, so that whoever takes one
/// seldom has to wake this thread.
const NOTICES_SPAN: Duration = Duration::from_millis(20);

/// Does what is to be done for accounts, until the broker stops.
pub(crate) fn keep_accounts(
    runtime: &Runtime,
    accounts: &Arc<Accounts>,
    mut sys: Option<Sys>,
    mut stopped: watch::Receiver<bool>,
) {
    accounts.renew_states();
    runtime.block_on(async {
        let mut every = interval(SPAN);
        every.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut looks = interval(sys::SPAN);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut dropped = 0;
        loop {
            tokio::select! {
                _ = stopped.wait_for(|stop| *stop) => break,
                _ = every.tick() => {
                    end_tokens(accounts);
                    dropped = accounts.keep_logs(dropped);
                }
                _ = looks.tick(), if sys.is_some() => sys.iter_mut().for_each(Sys::tick),
                notices = poll_fn(|cx| accounts.notices().poll_take(cx)) => {
                    accounts.take_notices(notices);
                    sleep(NOTICES_SPAN).await;
                }
            }
        }
    });
}

fn end_tokens(accounts: &Accounts) {
    match accounts.tick() {
        Ok(gone) => gone.iter().for_each(|token| info!(token = token.id, "token expired")),
        Err(error) => error!(cause = %error, "accounts cannot be kept"),
    }
}
