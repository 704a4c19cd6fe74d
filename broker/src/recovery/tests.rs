//! What sessions have after a replay, where records stand in an unusual order.

use longshore_storage::{Batch, Disk, Log, Options, SimulatedDisk};

use super::*;
use crate::journal::ReadRecords;
use crate::limits::Limits;
use crate::message::{Identifiers, Parts};
use crate::record::{Encoded, encode_list, encode_page};
use longshore_codec::QoS;

#[derive(Debug)]
struct Nothing;

impl ReadRecords for Nothing {
    fn read(
        &self,
        _: Position,
        _: &mut longshore_storage::Ahead,
        _: &mut Vec<u8>,
    ) -> Result<(), longshore_storage::ReadError> {
        unreachable!("nobody asks")
    }
}

/// Records of one journal, in order.
#[derive(Default)]
struct Records(Batch);

impl Records {
    fn message(&mut self, number: u64, refs: Encoded<'_>) {
        let parts = Parts { topic: b"t", properties: b"", payload: b"x", shared: None };
        let mut body = Vec::new();
        Head::of(number, QoS::AtLeastOnce, false, None).encode(&parts, refs, &mut body);
        body.extend_from_slice(parts.payload);
        self.0.push(MESSAGE, &body);
    }

    fn events(&mut self, events: &[Event<'_>]) {
        let mut body = Vec::new();
        events.iter().for_each(|event| event.encode(&mut body));
        self.0.push(EVENTS, &body);
    }

    /// The numbers of messages that wait for each session, by its number.
    fn waiting(mut self) -> Vec<(u64, Vec<u64>)> {
        let disk: Arc<dyn Disk> = Arc::new(SimulatedDisk::new(1));
        let open = |recovery: &mut Recovery| {
            Log::open(Arc::clone(&disk), &Options::default(), recovery).expect("a sound journal").0
        };
        let mut log = open(&mut Recovery::new());
        log.append(&mut self.0).expect("there is room");
        log.commit().expect("the disk works");
        drop(log);
        let mut recovery = Recovery::new();
        drop(open(&mut recovery));
        assert_eq!(recovery.unreadable(), None);
        let auth = Arc::new(longshore_acl::Anonymous::default());
        let mut configs = Config::of(1, Limits::default(), auth, 1);
        recovery.apply(&mut configs, &(Arc::new(Nothing) as Arc<dyn ReadRecords>), 0);
        let storage = configs[0].storage.take().expect("it was applied");
        let sessions = storage.sessions.lock().expect("nobody has panicked");
        let numbers = |session: &Session| {
            let mut numbers = Vec::new();
            session.waiting.for_each(|entry, _| numbers.push(entry.number));
            (session.holder, numbers)
        };
        sessions.iter().map(numbers).collect()
    }
}

fn to(holder: u64, packet_id: Option<u16>) -> Ref {
    let (qos, identifiers) = (QoS::AtLeastOnce, Identifiers::None);
    let packet_id = packet_id.and_then(PacketId::new);
    Ref { holder, qos, retain: false, packet_id, group: 0, again: false, identifiers }
}

fn refs(holders: &[u64]) -> Vec<u8> {
    let mut refs = Vec::new();
    holders.iter().for_each(|holder| to(*holder, None).encode(&mut refs));
    refs
}

fn session(holder: u64) -> Event<'static> {
    let client_id = ["", "a", "b", "c"][holder as usize];
    let session = SessionEvent {
        account: 0,
        class: 0,
        token: None,
        anonymous: true,
        expiry_secs: 1_000,
        left: None,
        client_id,
    };
    Event::Session { holder, fresh: true, session }
}

fn whole(holder: u64) -> [Event<'static>; 2] {
    // All of these records stand in the first segment.
    [Event::Whole { holder, base: 1 }, session(holder)]
}

#[test]
fn what_is_on_its_way_to_a_session_that_is_told_of_further_on_waits_for_it() {
    let mut records = Records::default();
    // The session's first record has gone with an older segment.
    for number in 1..=4 {
        records.message(number, Encoded::Here(&refs(&[1])));
    }
    records.events(&[Event::Done { holder: 1, number: 2, group: 0 }]);
    records.events(&[Event::Ref { number: 3, to: to(1, Some(7)) }]);
    let [whole, told] = whole(1);
    let in_flight = Event::Ref { number: 3, to: to(1, Some(7)) };
    let waits = Event::Ref { number: 4, to: to(1, None) };
    records.events(&[whole, told, in_flight, waits]);
    assert_eq!(records.waiting(), [(1, vec![4, 1])], "and nothing twice");
}

#[test]
fn what_another_shard_writes_down_before_a_new_session_waits_for_it() {
    let mut records = Records::default();
    records.message(1, Encoded::Here(&refs(&[1])));
    records.message(2, Encoded::Here(&refs(&[1])));
    records.events(&[session(1)]);
    records.events(&[Event::Done { holder: 1, number: 1, group: 0 }]);
    assert_eq!(records.waiting(), [(1, vec![2])]);
}

#[test]
fn what_nobody_ever_tells_of_waits_for_nobody() {
    let mut records = Records::default();
    records.message(1, Encoded::Here(&refs(&[1])));
    records.events(&[Event::End { holder: 1 }]);
    records.message(2, Encoded::Here(&refs(&[1])));
    records.events(&[Event::Compacted { holders: 1, messages: 2, sequence: 0 }]);
    records.events(&whole(1));
    assert_eq!(records.waiting(), [(1, vec![])]);
}

#[test]
fn messages_of_one_list_wait_for_all_who_stand_in_it() {
    let mut records = Records::default();
    records.events(&[session(1), session(2), session(3)]);
    let mut list = Vec::new();
    encode_list(64, &refs(&[3, 1]), &mut list);
    records.0.push(LIST, &list);
    for number in 1..=3 {
        records.message(number, Encoded::Listed(64));
    }
    records.events(&[Event::Done { holder: 1, number: 2, group: 0 }]);
    // One whose list has gone with an older segment: those who wait are told of further on.
    records.message(4, Encoded::Listed(128));
    records.events(&[Event::Ref { number: 4, to: to(2, None) }]);
    assert_eq!(records.waiting(), [(1, vec![1, 3]), (2, vec![4]), (3, vec![1, 2, 3])]);
}

#[test]
fn spans_of_a_page_are_what_waits_but_for_messages_that_are_lost() {
    let mut records = Records::default();
    for number in [1, 2, 3, 5] {
        records.message(number, Encoded::Here(&[]));
    }
    let mut page = Vec::new();
    encode_page(64, 1..=5, &mut page);
    records.0.push(PAGE, &page);
    for (holder, from, len) in [(1, 0, 5), (2, 2, 2)] {
        let [whole, told] = whole(holder);
        records.events(&[whole, told, Event::Refs { page: 64, from, len, to: to(holder, None) }]);
    }
    records.events(&[Event::Done { holder: 1, number: 2, group: 0 }]);
    // Beyond the page: nobody wrote that.
    records.events(&[Event::Refs { page: 64, from: 4, len: 2, to: to(2, None) }]);
    assert_eq!(records.waiting(), [(1, vec![1, 3, 5]), (2, vec![3])]);
}

#[test]
fn what_is_taken_together_is_what_would_be_taken_one_after_another() {
    let pages = Arc::<Pages<Told>>::default();
    let (mut waits, mut plain) = (Waits::default(), Vec::new());
    let mut choices = crate::record::any::bytes_of(3, 90_000).into_iter().map(u64::from);
    let mut longest = 0;
    while let (Some(what), Some(high), Some(low)) = (choices.next(), choices.next(), choices.next())
    {
        let (number, group) = (high << 4 | low >> 4, low % 3);
        if what < 160 {
            let told = Told { entry: Arc::new(Entry::unknown(number)), segment: 0 };
            waits.push(told, Ref { group, ..to(1, None) }, &mut None, &pages);
            plain.push((number, group));
        } else {
            waits.take(number, group);
            let exactly = plain.iter().position(|it| *it == (number, group));
            let place = exactly.or_else(|| plain.iter().position(|it| it.0 == number));
            place.map(|place| plain.remove(place));
        }
        longest = longest.max(plain.len());
        if what == 0 {
            let mut all = Vec::new();
            waits.queue().for_each(|told, to| all.push((told.entry.number, to.group)));
            assert_eq!(all, plain);
        }
    }
    assert!(longest > 4_000, "most must not stand near the front: {longest}");
}

#[test]
fn sessions_of_modules_come_back_on_the_shard_of_modules_and_those_of_clients_on_no_other() {
    let session = |class, number: usize| Session {
        class,
        client_id: format!("client-{number}").into(),
        ..Session::default()
    };
    for number in 0..100 {
        assert_eq!(shard_of(&session(BROKER_CLASS, number), 3, Some(2)), 2);
        assert!(shard_of(&session(1, number), 3, Some(2)) < 2);
        assert_eq!(shard_of(&session(BROKER_CLASS, number), 1, None), 0, "without modules");
    }
    assert!((0..100).any(|number| shard_of(&session(1, number), 3, None) == 2));
}
