//! The driver alone: no listener, no other shard.

use std::sync::Arc;
use std::task::{Context, Poll};

use longshore_acl::Anonymous;
use tokio::runtime::Builder;
use tokio::task::LocalSet;

use super::*;
use crate::net::mailbox::Mailbox;
use crate::net::pipe::{Receiver, ToShard};

/// Takes all and looks at nothing.
struct Deaf;

impl Receiver for Deaf {
    fn take(&self, bytes: &[u8]) -> usize {
        bytes.len()
    }

    fn poll_ready(&self, _: &mut Context<'_>) -> Poll<()> {
        Poll::Ready(())
    }

    fn close(&self) {}
}

fn driver() -> Rc<Driver> {
    let config = Config::new(Limits::default(), Arc::new(Anonymous::new()), 1);
    let totals = Totals::of(std::slice::from_ref(&config));
    let mailboxes: Mailboxes = [Mailbox::default()].into();
    let around = Around { mailboxes, totals, counts: Arc::default(), clock: Clock::start() };
    Driver::new(config, 0, None, &around)
}

/// Until all tasks have done what they can.
async fn settle() {
    for _ in 0..100 {
        yield_now().await;
    }
}

/// MQTT 5.0, 3.1.2.10: what a client sends counts from when it came. It was dated back to the first
/// packet of a turn that nobody ended, and clients were closed for a silence that was none.
#[test]
fn a_turn_that_brings_nothing_to_write_ends_too() {
    let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
    LocalSet::new().block_on(&runtime, async {
        let driver = driver();
        spawn_local(Writer::new(Rc::clone(&driver)));
        let (links, pipes) = mpsc::unbounded_channel();
        spawn_local(Rc::clone(&driver).take_links(pipes));
        let to_shard = Arc::<ToShard>::default();
        links.send(Pipe::new(Arc::clone(&to_shard), Arc::new(Deaf))).expect("it is taken");
        // CONNECT of MQTT 3.1.1, with a keep alive of 60 s.
        to_shard.write(|bytes| bytes.extend(b"\x10\x0d\x00\x04MQTT\x04\x02\x00\x3c\x00\x01c"));
        settle().await;
        assert!(driver.turn.get().is_none(), "CONNECT");

        // PUBLISH at QoS 0, of a topic that nobody asked for.
        to_shard.write(|bytes| bytes.extend(b"\x30\x04\x00\x01t!"));
        settle().await;
        assert!(driver.turn.get().is_none(), "PUBLISH");
        assert_eq!(driver.stats.received_total[0].get(), 1, "it came");
    });
}
