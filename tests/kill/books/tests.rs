//! The auditor itself: what it must find, and what it must let pass.

use super::*;

const PLAIN: Delivery<'_> = Delivery { topic: "a/1", qos: 1, dup: false, retain: false };
const DUP: Delivery<'_> = Delivery { dup: true, ..PLAIN };
const QOS_2: Delivery<'_> = Delivery { topic: "a/2", qos: 2, ..PLAIN };

/// Books of one publisher to a topic at QoS 1 and one at QoS 2, and one receiver of both; and what
/// is done most.
struct Desk(Books);

impl Desk {
    fn new() -> Self {
        let mut books = Books::default();
        books.course("publisher", &[("a/1".to_owned(), 1), ("a/2".to_owned(), 2)]);
        books.reader("reader", None, [("a/+", 2)]);
        books.round();
        let mut desk = Self(books);
        desk.subscribe();
        desk
    }

    fn subscribe(&mut self) {
        self.0.subscribing(0, 0);
        self.0.subscribed(0, 0);
    }

    fn unsubscribe(&mut self) {
        self.0.unsubscribing(0, 0);
        self.0.unsubscribed(0, 0);
    }

    /// A message to the topic of this QoS, acknowledged.
    fn publish(&mut self, qos: usize) -> Key {
        let key = self.0.sent(0, qos - 1);
        self.0.taken(key);
        key
    }

    fn receive(&mut self, key: Key, delivery: Delivery<'_>) {
        self.0.received(0, key, delivery);
    }

    fn audit(&mut self) -> Vec<String> {
        self.0.audit();
        self.0.faults()
    }

    /// Whether the audit has one fault, with these words in it.
    fn has(&mut self, words: &str) {
        let faults = self.audit();
        assert!(faults.len() == 1 && faults[0].contains(words), "not {words:?} but {faults:#?}");
    }

    fn is_clean(&mut self) {
        assert_eq!(self.audit(), [""; 0]);
    }
}

#[test]
fn a_lost_message_is_found() {
    for qos in [1, 2] {
        let mut desk = Desk::new();
        let key = desk.publish(qos);
        assert_eq!(desk.0.totals().missing, 1);
        desk.has(&format!("reader lost publisher number {}", key.number));
    }
}

#[test]
fn a_message_that_was_not_acknowledged_may_be_lost() {
    let mut desk = Desk::new();
    desk.0.sent(0, 0);
    desk.0.sent(0, 1);
    desk.is_clean();
}

#[test]
fn a_qos_2_message_that_comes_twice_is_found() {
    let mut desk = Desk::new();
    let key = desk.publish(2);
    // It is sent until it is acknowledged, and is still one message.
    desk.0.sent_again(key);
    desk.receive(key, QOS_2);
    desk.receive(key, Delivery { dup: true, ..QOS_2 });
    desk.has("2 times in all");
    let mut desk = Desk::new();
    let key = desk.0.sent(0, 1);
    desk.receive(key, QOS_2);
    desk.receive(key, QOS_2);
    desk.has("not acknowledged 2 times in all");
}

#[test]
fn a_qos_1_message_comes_again_with_dup_or_when_it_was_sent_again() {
    let mut desk = Desk::new();
    let key = desk.publish(1);
    desk.receive(key, PLAIN);
    desk.receive(key, DUP);
    desk.0.sent_again(key);
    desk.receive(key, PLAIN);
    desk.is_clean();
    desk.receive(key, PLAIN);
    desk.has("3 times without DUP");
}

#[test]
fn a_message_out_of_its_turn_is_found() {
    let mut desk = Desk::new();
    let [first, second, other] = [1, 1, 2].map(|qos| desk.publish(qos));
    desk.receive(other, QOS_2);
    desk.receive(second, PLAIN);
    desk.receive(first, PLAIN);
    desk.has("behind number 1");
}

#[test]
fn what_comes_again_has_no_turn() {
    let mut desk = Desk::new();
    let [first, second] = [1, 1].map(|qos| desk.publish(qos));
    desk.receive(first, PLAIN);
    desk.receive(second, PLAIN);
    desk.receive(first, DUP);
    desk.receive(second, DUP);
    desk.is_clean();
}

#[test]
fn a_message_in_other_clothes_is_found() {
    let rows = [
        Delivery { topic: "a/2", ..PLAIN },
        Delivery { retain: true, ..PLAIN },
        Delivery { qos: 2, ..PLAIN },
        Delivery { qos: 0, ..PLAIN },
    ];
    for delivery in rows {
        let mut desk = Desk::new();
        let key = desk.0.sent(0, 0);
        desk.receive(key, delivery);
        desk.has("reader got Delivery");
    }
    let mut desk = Desk::new();
    desk.receive(Key { course: 0, number: 0 }, PLAIN);
    desk.has("never sent");
}

#[test]
fn a_subscription_that_was_lost_is_found() {
    let mut desk = Desk::new();
    desk.unsubscribe();
    desk.publish(1);
    desk.subscribe();
    desk.publish(1);
    desk.has("lost publisher number 1");
}

#[test]
fn a_subscription_that_is_not_gone_is_found() {
    let mut desk = Desk::new();
    desk.unsubscribe();
    let key = desk.publish(1);
    desk.receive(key, PLAIN);
    desk.has("is not subscribed");
    // One that came back later does not excuse it.
    let mut desk = Desk::new();
    desk.unsubscribe();
    let key = desk.publish(1);
    desk.subscribe();
    desk.receive(key, PLAIN);
    desk.has("is not subscribed");
}

#[test]
fn while_a_subscription_changes_a_message_may_come_or_not() {
    for comes in [false, true] {
        let mut desk = Desk::new();
        desk.0.unsubscribing(0, 0);
        let first = desk.publish(1);
        desk.0.unsubscribed(0, 0);
        desk.0.subscribing(0, 0);
        let second = desk.publish(1);
        desk.0.subscribed(0, 0);
        if comes {
            desk.receive(first, PLAIN);
            desk.receive(second, PLAIN);
        }
        desk.is_clean();
    }
}

#[test]
fn what_waits_may_go_with_its_subscription_but_not_what_others_have_overtaken() {
    let mut desk = Desk::new();
    let [first, second, third] = [1, 1, 1].map(|qos| desk.publish(qos));
    desk.receive(second, PLAIN);
    desk.unsubscribe();
    desk.has(&format!("lost publisher number {}", first.number));
    assert_eq!(third.number, 2);
}

#[test]
fn what_an_old_session_had_must_not_come_to_a_new_one() {
    let mut desk = Desk::new();
    let key = desk.publish(1);
    desk.0.forgetting(0);
    desk.0.forgotten(0);
    desk.is_clean();
    desk.subscribe();
    desk.receive(key, PLAIN);
    desk.has("is not subscribed");
}

/// Books of one publisher as above and a group of two members at `qos`.
fn group(qos: u8) -> Books {
    let mut books = Books::default();
    books.course("publisher", &[("a/1".to_owned(), 1), ("a/2".to_owned(), 2)]);
    for member in 0..2 {
        books.reader("member", Some(0), [("a/+", qos)]);
        books.subscribing(member, 0);
        books.subscribed(member, 0);
    }
    books
}

#[test]
fn a_message_that_no_member_of_a_group_has_is_found() {
    let mut books = group(1);
    let [first, second] = [0, 0].map(|topic| books.sent(0, topic));
    books.taken(first);
    books.taken(second);
    books.received(1, second, PLAIN);
    books.received(0, second, PLAIN);
    books.audit();
    let faults = books.faults();
    // Each of them might have had it.
    assert!(faults.len() == 2 && faults[0].contains("lost publisher number 0"), "{faults:#?}");
}

#[test]
fn a_qos_2_message_that_two_members_have_is_found() {
    let mut books = group(2);
    let key = books.sent(0, 1);
    books.taken(key);
    books.received(0, key, QOS_2);
    assert!(!books.has_faults());
    books.received(1, key, QOS_2);
    assert!(books.faults()[0].contains("2 times in its group"));
}

#[test]
fn faults_beyond_those_told_are_counted() {
    let mut desk = Desk::new();
    for _ in 0..TOLD_MAX + 3 {
        desk.publish(1);
    }
    let faults = desk.audit();
    assert_eq!((faults.len(), faults[TOLD_MAX].as_str()), (TOLD_MAX + 1, "and 3 more"));
}
