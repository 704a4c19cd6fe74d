//! The library: a broker inside a program, and the client without a socket.

use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use longshore::acl::Anonymous;
use longshore::codec::{Property, QoS, ReasonCode, RetainHandling, SubscribeOptions};
use longshore::{Broker, Limits, Link, LinkError, Message};
use pollster::block_on;

const QOS: [QoS; 3] = [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce];

fn broker() -> Broker {
    Broker::builder().auth(Arc::new(Anonymous::new())).start().expect("no listener can fail")
}

async fn subscribe(link: &Link, filter: &str, qos: QoS) -> longshore::Subscription {
    link.subscribe(filter, SubscribeOptions::new(qos)).await.expect("the filter is granted")
}

#[test]
fn a_message_arrives_as_it_was_published_at_every_qos() {
    let broker = broker();
    block_on(async {
        let link = broker.link("one");
        for qos in QOS {
            let mut inbox = subscribe(&link, "a/+", qos).await;
            let sent = Message::new("a/b", vec![0, 255, 7])
                .qos(qos)
                .property(Property::ContentType("bytes"))
                .property(Property::UserProperty("k", "v"));
            let outcome = link.publish(sent.clone()).await.expect("the link is open");
            assert_eq!(outcome.reason, ReasonCode::Success);
            assert_eq!(inbox.recv().await, Some(sent), "{qos:?}");
        }
    });
}

#[test]
fn the_outcome_is_what_puback_carries() {
    let mut limits = Limits::default();
    limits.retained_messages = 0;
    let broker = Broker::builder().limits(limits).start().expect("no listener can fail");
    block_on(async {
        let link = broker.link("one");
        let message = || Message::new("nobody/here", "x").qos(QoS::AtLeastOnce);
        let outcome = link.publish(message()).await.expect("the link is open");
        assert_eq!(outcome.reason, ReasonCode::NoMatchingSubscribers);
        let outcome = link.publish(message().retain()).await.expect("the link is open");
        assert_eq!(outcome.reason, ReasonCode::QuotaExceeded);
    });
}

#[test]
fn what_is_not_valid_is_refused_before_it_is_sent() {
    let broker = broker();
    block_on(async {
        let link = broker.link("one");
        for topic in ["", "a/+", "#", "a\0"] {
            let refused = link.publish(Message::new(topic, "x")).await;
            assert_eq!(refused, Err(LinkError::Invalid), "{topic:?}");
        }
        for filter in ["", "a/#/b", "$share//a", "a+"] {
            let refused = link.subscribe(filter, SubscribeOptions::new(QoS::AtMostOnce)).await;
            assert_eq!(refused.err(), Some(LinkError::Invalid), "{filter:?}");
        }
        let shared = SubscribeOptions { no_local: true, ..SubscribeOptions::new(QoS::AtMostOnce) };
        let refused = link.subscribe("$share/g/a", shared).await;
        assert_eq!(refused.err(), Some(LinkError::Closed(Some(ReasonCode::ProtocolError))));
    });
}

#[test]
fn a_batch_keeps_its_order_and_gets_an_answer_for_each() {
    const COUNT: u32 = 20_000;
    let broker = broker();
    block_on(async {
        let link = broker.link("one");
        let mut inbox = subscribe(&link, "a", QoS::AtLeastOnce).await;
        let batch =
            (0..COUNT).map(|number| Message::new("a", number.to_be_bytes()).qos(QoS::AtLeastOnce));
        let outcomes = link.publish_all(batch).await.expect("the link is open");
        assert_eq!(outcomes.len(), COUNT as usize);
        for number in 0..COUNT {
            let message = inbox.recv().await.expect("the broker runs");
            assert_eq!(message.payload, number.to_be_bytes());
        }
    });
}

#[test]
fn a_slow_subscription_keeps_its_messages_waiting_and_delays_no_other() {
    const COUNT: u32 = 5_000;
    let mut limits = Limits::default();
    limits.inflight = 10;
    let broker = Broker::builder().limits(limits).start().expect("no listener can fail");
    block_on(async {
        let link = broker.link("one");
        let mut slow = subscribe(&link, "a", QoS::AtLeastOnce).await;
        let mut quick = subscribe(&link, "a", QoS::AtLeastOnce).await;
        for number in 0..COUNT {
            let message = Message::new("a", number.to_be_bytes()).qos(QoS::AtLeastOnce);
            link.publish(message).await.expect("the link is open");
            let got = quick.recv().await.expect("the broker runs");
            assert_eq!(got.payload, number.to_be_bytes());
        }
        assert!(broker.stats().queued_bytes.get() > 0, "the slow one's messages wait");
        for number in 0..COUNT {
            let got = slow.recv().await.expect("the broker runs");
            assert_eq!(got.payload, number.to_be_bytes());
        }
    });
}

#[test]
fn retained_messages_come_first_and_options_are_those_of_mqtt_5() {
    let broker = broker();
    block_on(async {
        let link = broker.link("one");
        let kept = Message::new("state/1", "on").qos(QoS::AtLeastOnce).retain();
        link.publish(kept.clone()).await.expect("the link is open");
        let mut all = subscribe(&link, "state/#", QoS::AtLeastOnce).await;
        assert_eq!(all.recv().await, Some(kept));
        let options = SubscribeOptions {
            retain_handling: RetainHandling::DoNotSend,
            ..SubscribeOptions::new(QoS::AtMostOnce)
        };
        let mut live = link.subscribe("state/#", options).await.expect("the filter is granted");
        link.publish(Message::new("state/1", "off")).await.expect("the link is open");
        assert_eq!(live.recv().await.map(|message| message.payload), Some(b"off".to_vec()));
    });
}

#[test]
fn dropping_a_subscription_unsubscribes() {
    let broker = broker();
    block_on(async {
        let link = broker.link("one");
        let dropped = subscribe(&link, "a", QoS::AtLeastOnce).await;
        drop(dropped);
        // It is another connection: its end is seen sooner or later.
        loop {
            let message = Message::new("a", "x").qos(QoS::AtLeastOnce);
            let outcome = link.publish(message).await.expect("the link is open");
            if outcome.reason == ReasonCode::NoMatchingSubscribers {
                break;
            }
        }
    });
}

/// Whose clones are counted, by its `Arc`.
struct Idle;

impl std::task::Wake for Idle {
    fn wake(self: Arc<Self>) {}
}

#[test]
fn a_subscription_that_is_polled_for_other_reasons_keeps_one_waker() {
    let broker = broker();
    block_on(async {
        let link = broker.link("one");
        let mut inbox = subscribe(&link, "a", QoS::AtLeastOnce).await;
        let mut next = Box::pin(inbox.recv());
        // As of one task: wakers of it need not compare equal.
        let all: Vec<_> = (0..1_000).map(|_| Arc::new(Idle)).collect();
        for one in &all {
            let waker = Waker::from(Arc::clone(one));
            assert!(next.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
        }
        let kept = all.iter().filter(|it| Arc::strong_count(it) > 1).count();
        assert_eq!(kept, 1);
    });
}

#[test]
fn a_forgotten_publish_leaves_nothing_behind() {
    let broker = broker();
    let link = broker.link("one");
    let message = || Message::new("a", "x").qos(QoS::AtLeastOnce);
    block_on(link.publish(message())).expect("the link is open");
    for _ in 0..100_000 {
        let mut forgotten = Box::pin(link.publish(message()));
        let _: Poll<_> = forgotten.as_mut().poll(&mut Context::from_waker(Waker::noop()));
    }
    let outcome = block_on(link.publish(message())).expect("the link is open");
    assert_eq!(outcome.reason, ReasonCode::NoMatchingSubscribers);
}

#[test]
fn stopping_the_broker_ends_its_links_and_says_why() {
    let broker = broker();
    let link = broker.link("one");
    let mut inbox = block_on(subscribe(&link, "a", QoS::AtMostOnce));
    block_on(link.publish(Message::new("b", "x").qos(QoS::AtLeastOnce))).expect("it runs");
    broker.shutdown();
    assert_eq!(block_on(inbox.recv()), None);
    broker.wait().expect("it stopped in order");
    let closed = block_on(link.publish(Message::new("a", "x").qos(QoS::AtLeastOnce)));
    assert_eq!(closed, Err(LinkError::Closed(Some(ReasonCode::ServerShuttingDown))));
    let late = broker.link("two");
    let closed = block_on(late.publish(Message::new("a", "x").qos(QoS::AtLeastOnce)));
    assert_eq!(closed, Err(LinkError::Closed(None)));
}

#[test]
fn several_brokers_in_one_process_know_nothing_of_each_other() {
    let (first, second) = (broker(), broker());
    block_on(async {
        let mut here = subscribe(&first.link("one"), "a", QoS::AtLeastOnce).await;
        let mut there = subscribe(&second.link("one"), "a", QoS::AtLeastOnce).await;
        for (broker, payload) in [(&first, "first"), (&second, "second")] {
            let message = Message::new("a", payload).qos(QoS::AtLeastOnce);
            broker.link("two").publish(message).await.expect("the link is open");
        }
        assert_eq!(here.recv().await.map(|message| message.payload), Some(b"first".to_vec()));
        assert_eq!(there.recv().await.map(|message| message.payload), Some(b"second".to_vec()));
    });
}

/// Publishes and receives once; the future may move between threads.
async fn round_trip(link: Link) {
    let mut inbox = subscribe(&link, "a", QoS::AtLeastOnce).await;
    let message = Message::new("a", "x").qos(QoS::AtLeastOnce);
    link.publish(message.clone()).await.expect("the link is open");
    assert_eq!(inbox.recv().await, Some(message));
}

#[test]
fn links_work_on_any_flavour_of_runtime() {
    let broker = broker();
    let runtimes = [
        tokio::runtime::Builder::new_current_thread().build(),
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).build(),
    ];
    for runtime in runtimes {
        let runtime = runtime.expect("the system has room for a runtime");
        let task = runtime.spawn(round_trip(broker.link("one")));
        runtime.block_on(task).expect("the task holds");
        runtime.block_on(async {
            // A broker starts and stops inside a runtime, too.
            let inner = Broker::builder().start().expect("no listener can fail");
            round_trip(inner.link("one")).await;
        });
    }
}
