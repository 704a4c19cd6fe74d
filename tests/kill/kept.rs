//! Retained messages: who sets and clears them, and what one who comes fresh must find.

use std::collections::{BTreeMap, VecDeque};

use longshore::codec::{Ack, Packet, PacketId, Properties, Publish, QoS};

use super::member::{Desk, Mood, Part};

/// Topics there are.
const TOPICS: usize = 12;

/// Changes under way at once.
const WINDOW: usize = 6;

/// Of so many changes one clears the topic.
const CLEAR: usize = 4;

/// What `number` of a topic looks like; the other bytes tell whether it is whole.
fn content(number: usize) -> Vec<u8> {
    let text = number.to_string();
    let filler = char::from(b'a' + (number % 26) as u8).to_string();
    format!("{text} {}", filler.repeat(number % 1_500)).into_bytes()
}

/// The number in it, if it is whole.
fn number(payload: &[u8]) -> Option<usize> {
    let text = std::str::from_utf8(payload).ok()?;
    let number = text.split(' ').next()?.parse().ok()?;
    (content(number) == payload).then_some(number)
}

/// What became of one topic. Its changes are numbered from 1; before the first there is nothing.
#[derive(Default)]
struct Topic {
    /// Whether each change set it, or cleared it.
    sets: Vec<bool>,
    /// The last that was acknowledged.
    taken: usize,
}

impl Topic {
    fn is_set_by(&self, number: usize) -> bool {
        number.checked_sub(1).is_some_and(|at| self.sets[at])
    }

    /// Whether one who reads may find `seen` there: the last acknowledged change or a later one.
    fn may_be(&self, seen: Option<usize>) -> bool {
        let mut since = self.taken..=self.sets.len();
        match seen {
            Some(number) => since.contains(&number) && self.is_set_by(number),
            None => since.any(|number| !self.is_set_by(number)),
        }
    }
}

/// All topics.
#[derive(Default)]
pub(crate) struct Kept {
    topics: [Topic; TOPICS],
}

impl Kept {
    fn name(topic: usize) -> String {
        format!("kept/{topic}")
    }

    /// Whether one who reads is still to find something.
    pub(crate) fn wants_more(&self, seen: &BTreeMap<String, Vec<u8>>) -> bool {
        let is_there = |topic: usize| seen.contains_key(&Self::name(topic));
        (0..TOPICS).any(|topic| !is_there(topic) && !self.topics[topic].may_be(None))
    }

    /// What is wrong with what one who came fresh has found.
    pub(crate) fn faults(&self, seen: &BTreeMap<String, Vec<u8>>) -> Vec<String> {
        let mut faults = Vec::new();
        for (at, topic) in self.topics.iter().enumerate() {
            let found = seen.get(&Self::name(at));
            let read = found.map(|payload| number(payload));
            let is_right = match read {
                Some(number) => number.is_some() && topic.may_be(number),
                None => topic.may_be(None),
            };
            if !is_right {
                let (taken, sent) = (topic.taken, topic.sets.len());
                let from = taken.saturating_sub(1);
                faults.push(format!(
                    "finds {read:?} on {}, where {taken} of {sent} changes are acknowledged; \
                     whether they set it, from {taken} on: {:?}",
                    Self::name(at),
                    &topic.sets[from..]
                ));
            }
        }
        let is_known = |name: &&String| (0..TOPICS).any(|topic| Self::name(topic) == **name);
        let unknown = seen.keys().filter(|name| !is_known(name));
        faults.extend(unknown.map(|name| format!("finds {name}, which nobody set")));
        faults
    }

    fn change(&mut self, topic: usize, is_set: bool) -> usize {
        self.topics[topic].sets.push(is_set);
        self.topics[topic].sets.len()
    }

    fn taken(&mut self, topic: usize, number: usize) {
        let taken = &mut self.topics[topic].taken;
        *taken = number.max(*taken);
    }

    /// Changes that were acknowledged.
    pub(crate) fn total(&self) -> usize {
        self.topics.iter().map(|topic| topic.taken).sum()
    }
}

/// Sets and clears them, at QoS 1.
#[derive(Default)]
pub(crate) struct Keeper {
    open: VecDeque<(PacketId, usize, usize)>,
    last_id: u16,
}

impl Keeper {
    fn send(id: PacketId, topic: usize, number: usize, dup: bool, desk: &mut Desk<'_>) {
        let is_set = desk.kept.topics[topic].is_set_by(number);
        let payload = if is_set { content(number) } else { Vec::new() };
        desk.send(&Packet::Publish(Publish {
            dup,
            qos: QoS::AtLeastOnce,
            retain: true,
            topic: Kept::name(topic).as_bytes(),
            packet_id: Some(id),
            properties: Properties::none(),
            payload: &payload,
        }));
    }
}

impl Part for Keeper {
    fn greet(&mut self, _present: bool, desk: &mut Desk<'_>) {
        for &(id, topic, number) in &self.open {
            Self::send(id, topic, number, true, desk);
        }
    }

    fn take(&mut self, packet: &Packet<'_>, desk: &mut Desk<'_>) {
        let front = self.open.front().copied();
        match (packet, front) {
            (Packet::Puback(Ack { packet_id, reason, .. }), Some((id, topic, number)))
                if *packet_id == id && reason.value() < 0x80 =>
            {
                self.open.pop_front();
                desk.kept.taken(topic, number);
            }
            (other, _) => desk.blame(&format!("gets {other:?}")),
        }
    }

    fn act(&mut self, desk: &mut Desk<'_>) {
        while desk.mood == Mood::Load && self.open.len() < WINDOW {
            let topic = desk.dice.below(TOPICS);
            let number = desk.kept.change(topic, !desk.dice.once_in(CLEAR));
            self.last_id = self.last_id % u16::MAX + 1;
            let id = PacketId::new(self.last_id).expect("1 was added");
            self.open.push_back((id, topic, number));
            Self::send(id, topic, number, false, desk);
        }
    }

    fn cut(&mut self) {}

    fn is_idle(&self) -> bool {
        self.open.is_empty()
    }
}

/// What is found of a topic of which two changes are acknowledged, and whether that is right.
#[test]
fn an_old_value_and_a_cleared_one_are_found() {
    let rows: [(&[bool], Option<usize>, bool); 12] = [
        (&[true, true, true], Some(1), false),
        (&[true, true, true], Some(2), true),
        (&[true, true, true], Some(3), true),
        (&[true, true, true], Some(4), false),
        (&[true, true, true], None, false),
        (&[true, true, false], None, true),
        (&[true, false], None, true),
        (&[true, false], Some(1), false),
        (&[true, false, true], Some(3), true),
        (&[true, false, true], None, true),
        (&[true, false, true], Some(1), false),
        (&[true, true, false, true], None, true),
    ];
    for (sets, seen, is_right) in rows {
        let mut kept = Kept::default();
        (0..TOPICS).for_each(|topic| assert!(kept.topics[topic].may_be(None)));
        for &is_set in sets {
            kept.change(3, is_set);
        }
        kept.taken(3, 2);
        let found = seen.map(|number| (Kept::name(3), content(number)));
        let found: BTreeMap<_, _> = found.into_iter().collect();
        let faults = kept.faults(&found);
        assert_eq!(faults.is_empty(), is_right, "{sets:?} {seen:?}: {faults:?}");
    }
}

#[test]
fn what_nobody_set_or_is_not_whole_is_found() {
    let mut kept = Kept::default();
    kept.change(0, true);
    kept.taken(0, 1);
    let mut found = BTreeMap::from([(Kept::name(0), content(1))]);
    assert_eq!(kept.faults(&found), [""; 0]);
    found.insert("kept/unknown".to_owned(), content(1));
    assert_eq!(kept.faults(&found).len(), 1);
    found.insert(Kept::name(0), b"1 ".to_vec());
    assert_eq!(kept.faults(&found).len(), 2);
}
