//! The books: every message, what became of it, who was to have it, and who had it.
//!
//! Time is a count of what the test has done and seen. A message is routed between the moment its
//! first PUBLISH was written and the moment its acknowledgement was read; a subscription begins
//! between SUBSCRIBE and SUBACK and ends between UNSUBSCRIBE and UNSUBACK. Where the one lies
//! wholly within the other the message must arrive; where they do not touch it must not.

use longshore::codec::filter::matches;

use super::payload;

/// The time of what has not happened.
const NEVER: u64 = u64::MAX;

/// Faults that are told in words; of more only the number.
const TOLD_MAX: usize = 40;

/// A message: its publisher, and its place among those of that publisher.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Key {
    pub(crate) course: usize,
    pub(crate) number: u32,
}

/// A delivery as its receiver sees it. Of QoS 2 messages only the first of an exchange is one.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Delivery<'a> {
    pub(crate) topic: &'a str,
    pub(crate) qos: u8,
    pub(crate) dup: bool,
    pub(crate) retain: bool,
}

struct Message {
    topic: u8,
    /// How often it was sent: more than once only after the loss of a connection.
    sends: u8,
    sent_at: u64,
    /// When the broker was seen to have it: PUBACK or PUBREC.
    taken_at: u64,
}

/// The messages of one publisher.
struct Course {
    name: String,
    /// Topics with the QoS of what is published there.
    topics: Vec<(String, u8)>,
    messages: Vec<Message>,
}

/// How often a receiver had a message.
#[derive(Clone, Copy, Default)]
struct Got {
    plain: u8,
    /// With DUP.
    again: u8,
}

impl Got {
    fn total(self) -> u8 {
        self.plain.saturating_add(self.again)
    }
}

/// A subscription from its beginning to its end.
struct Span {
    asked_at: u64,
    granted_at: u64,
    given_up_at: u64,
    gone_at: u64,
    /// How far each topic had come by the end. What is behind may have been dropped, for it
    /// waited; what is before must have been delivered.
    through: Vec<Vec<u32>>,
}

struct Want {
    qos: u8,
    /// Whether it matches, by course and topic.
    matches: Vec<Vec<bool>>,
    /// One after another.
    spans: Vec<Span>,
}

/// A receiver.
struct Reader {
    name: String,
    /// The shared group that its subscriptions are of.
    group: Option<usize>,
    wants: Vec<Want>,
    /// By course and number.
    got: Vec<Vec<Got>>,
    /// By course and topic: one above the number of the last message that was new.
    last: Vec<Vec<u32>>,
    /// When its session began, if that was thrown away before.
    since: u64,
}

/// All there is to know.
#[derive(Default)]
pub(crate) struct Books {
    now: u64,
    /// When each round began.
    rounds: Vec<u64>,
    courses: Vec<Course>,
    readers: Vec<Reader>,
    faults: Vec<String>,
    faults_untold: usize,
    deliveries: u64,
    repetitions: u64,
}

/// What the books say in numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Totals {
    pub(crate) messages: usize,
    pub(crate) taken: usize,
    pub(crate) deliveries: u64,
    /// Of those, with DUP.
    pub(crate) repetitions: u64,
    /// Messages that some receiver must have and has not.
    pub(crate) missing: usize,
}

impl Books {
    /// A publisher to `topics`, each with its QoS.
    pub(crate) fn course(&mut self, name: &str, topics: &[(String, u8)]) -> usize {
        assert!(self.readers.is_empty(), "publishers are entered before receivers");
        let (name, topics) = (name.to_owned(), topics.to_vec());
        self.courses.push(Course { name, topics, messages: Vec::new() });
        self.courses.len() - 1
    }

    /// A receiver that will subscribe to `filters`; in a shared group they are without its name.
    pub(crate) fn reader<'a>(
        &mut self,
        name: &str,
        group: Option<usize>,
        filters: impl IntoIterator<Item = (&'a str, u8)>,
    ) -> usize {
        let by_topic = |each: &dyn Fn(&str) -> bool| {
            let topics = self.courses.iter().map(|course| course.topics.iter());
            topics.map(|it| it.map(|(topic, _)| each(topic)).collect()).collect()
        };
        let wants = filters.into_iter().map(|(filter, qos)| Want {
            qos,
            matches: by_topic(&|topic| matches(filter, topic)),
            spans: Vec::new(),
        });
        let reader = Reader {
            name: name.to_owned(),
            group,
            wants: wants.collect(),
            got: self.courses.iter().map(|_| Vec::new()).collect(),
            last: self.courses.iter().map(|course| vec![0; course.topics.len()]).collect(),
            since: 0,
        };
        self.readers.push(reader);
        self.readers.len() - 1
    }

    pub(crate) fn round(&mut self) {
        let now = self.tick();
        self.rounds.push(now);
    }

    fn tick(&mut self) -> u64 {
        self.now += 1;
        self.now
    }

    /// A new message is being sent.
    pub(crate) fn sent(&mut self, course: usize, topic: usize) -> Key {
        let sent_at = self.tick();
        let messages = &mut self.courses[course].messages;
        messages.push(Message { topic: topic as u8, sends: 1, sent_at, taken_at: NEVER });
        Key { course, number: messages.len() as u32 - 1 }
    }

    /// A message is being sent once more.
    pub(crate) fn sent_again(&mut self, key: Key) {
        self.tick();
        let message = &mut self.courses[key.course].messages[key.number as usize];
        message.sends = message.sends.saturating_add(1);
    }

    /// The broker has acknowledged a message.
    pub(crate) fn taken(&mut self, key: Key) {
        let now = self.tick();
        let message = &mut self.courses[key.course].messages[key.number as usize];
        message.taken_at = message.taken_at.min(now);
    }

    pub(crate) fn subscribing(&mut self, reader: usize, want: usize) {
        let asked_at = self.tick();
        let spans = &mut self.readers[reader].wants[want].spans;
        // Else it is asked for once more.
        if spans.last().is_none_or(|span| span.given_up_at != NEVER) {
            let (granted_at, given_up_at, gone_at) = (NEVER, NEVER, NEVER);
            let through = Vec::new();
            spans.push(Span { asked_at, granted_at, given_up_at, gone_at, through });
        }
    }

    pub(crate) fn subscribed(&mut self, reader: usize, want: usize) {
        let now = self.tick();
        let span = self.span(reader, want);
        span.granted_at = span.granted_at.min(now);
    }

    pub(crate) fn unsubscribing(&mut self, reader: usize, want: usize) {
        let now = self.tick();
        let span = self.span(reader, want);
        span.given_up_at = span.given_up_at.min(now);
    }

    pub(crate) fn unsubscribed(&mut self, reader: usize, want: usize) {
        let now = self.tick();
        let through = self.readers[reader].last.clone();
        let span = self.span(reader, want);
        if span.gone_at == NEVER {
            (span.gone_at, span.through) = (now, through);
        }
    }

    fn span(&mut self, reader: usize, want: usize) -> &mut Span {
        self.readers[reader].wants[want].spans.last_mut().expect("it was asked for")
    }

    /// A receiver asks for its session to be thrown away.
    pub(crate) fn forgetting(&mut self, reader: usize) {
        for want in 0..self.readers[reader].wants.len() {
            if !self.readers[reader].wants[want].spans.is_empty() {
                self.unsubscribing(reader, want);
            }
        }
    }

    /// The session was thrown away: nothing of before may come any more.
    pub(crate) fn forgotten(&mut self, reader: usize) {
        for want in 0..self.readers[reader].wants.len() {
            if !self.readers[reader].wants[want].spans.is_empty() {
                self.unsubscribed(reader, want);
            }
        }
        self.readers[reader].since = self.tick();
    }

    /// A receiver has a message.
    pub(crate) fn received(&mut self, reader: usize, key: Key, delivery: Delivery<'_>) {
        self.tick();
        self.deliveries += 1;
        self.repetitions += u64::from(delivery.dup);
        let course = &self.courses[key.course];
        let Some(message) = course.messages.get(key.number as usize) else {
            return self.fault(reader, &format!("got {key:?}, which was never sent"));
        };
        let topic = usize::from(message.topic);
        let (name, qos) = (&course.topics[topic].0, self.due_at(reader, message, key.course));
        let story = || self.story(key);
        let fault = if delivery.topic != name || delivery.retain {
            Some(format!("got {delivery:?}, which is {}", story()))
        } else if qos.is_none() {
            Some(format!("is not subscribed, or was not when it was routed, to {}", story()))
        } else if qos != Some(delivery.qos) {
            Some(format!("got {delivery:?} instead of {qos:?}: {}", story()))
        } else {
            None
        };
        if let Some(fault) = fault {
            return self.fault(reader, &fault);
        }
        self.count(reader, key, topic, delivery);
    }

    /// At which QoS the receiver may have the message, if it may have it.
    fn due_at(&self, reader: usize, message: &Message, course: usize) -> Option<u8> {
        let (topic, reader) = (usize::from(message.topic), &self.readers[reader]);
        let may = |want: &&Want| {
            let spans = want.spans.iter().rev().take_while(|span| span.gone_at >= message.sent_at);
            let mut own = spans.filter(|span| span.asked_at >= reader.since);
            want.matches[course][topic] && own.any(|span| span.asked_at <= message.taken_at)
        };
        let most = reader.wants.iter().filter(may).map(|want| want.qos).max()?;
        Some(most.min(self.courses[course].topics[topic].1))
    }

    /// Counts a delivery that may be: not too often, and not out of turn.
    fn count(&mut self, reader: usize, key: Key, topic: usize, delivery: Delivery<'_>) {
        let number = key.number as usize;
        let account = &mut self.readers[reader];
        let got = &mut account.got[key.course];
        if got.len() <= number {
            got.resize(number + 1, Got::default());
        }
        let got = &mut got[number];
        let is_new = got.total() == 0;
        let count = if delivery.dup { &mut got.again } else { &mut got.plain };
        *count = count.saturating_add(1);
        let (got, group) = (*got, account.group);
        let last = &mut account.last[key.course][topic];
        let was = *last;
        *last = was.max(key.number + 1);
        // What was sent before the subscription and sent again behind it comes in that order.
        let changes = account.wants.iter().any(|want| want.spans.len() > 1) || account.since > 0;
        let sent_again = self.courses[key.course].messages[number].sends > 1;
        // What one member leaves another gets, and what it was in the middle of comes again.
        if group.is_none() && is_new && key.number < was && !(changes && sent_again) {
            let fault = format!("got {} behind number {}", self.story(key), was - 1);
            return self.fault(reader, &fault);
        }
        let course = &self.courses[key.course];
        let sends = course.messages[number].sends;
        let most = if course.topics[topic].1 == 1 { sends } else { 1 };
        let (count, what) = match (delivery.qos, group) {
            (1, Some(_)) => return,
            (1, None) => (got.plain, "without DUP"),
            (_, Some(group)) => (self.total_of(group, key), "in its group"),
            (_, None) => (got.total(), "in all"),
        };
        if count > most {
            let fault = format!("got {} {count} times {what}", self.story(key));
            self.fault(reader, &fault);
        }
    }

    fn total_of(&self, group: usize, key: Key) -> u8 {
        let members = self.readers.iter().filter(|reader| reader.group == Some(group));
        members.map(|reader| reader.got(key).total()).sum()
    }

    /// What some receiver, or its whole group, must have and has not.
    fn lost(&self) -> Vec<(usize, Key)> {
        let mut lost = Vec::new();
        for (reader, account) in self.readers.iter().enumerate() {
            for (course, of) in self.courses.iter().enumerate() {
                for (message, number) in of.messages.iter().zip(0..) {
                    let key = Key { course, number };
                    if account.got(key).total() == 0 && account.must(message, key) {
                        let has_another = |group| self.total_of(group, key) > 0;
                        if !account.group.is_some_and(has_another) {
                            lost.push((reader, key));
                        }
                    }
                }
            }
        }
        lost
    }

    /// How it stands.
    pub(crate) fn totals(&self) -> Totals {
        let messages = || self.courses.iter().flat_map(|course| &course.messages);
        Totals {
            messages: messages().count(),
            taken: messages().filter(|message| message.taken_at != NEVER).count(),
            deliveries: self.deliveries,
            repetitions: self.repetitions,
            missing: self.lost().len(),
        }
    }

    /// Messages of `course` that have not come to `reader` yet, if all do.
    pub(crate) fn behind(&self, reader: usize, course: usize) -> usize {
        let last = self.readers[reader].last[course].iter().max();
        self.courses[course].messages.len() - *last.unwrap_or(&0) as usize
    }

    /// Enters what was lost, once everything that was to come has come.
    pub(crate) fn audit(&mut self) {
        for (reader, key) in self.lost() {
            let fault = format!("lost {}", self.story(key));
            self.fault(reader, &fault);
        }
    }

    pub(crate) fn faults(&self) -> Vec<String> {
        let untold = self.faults_untold;
        let more = (untold > 0).then(|| format!("and {untold} more"));
        self.faults.iter().cloned().chain(more).collect()
    }

    /// Whether there is a fault already.
    pub(crate) fn has_faults(&self) -> bool {
        !self.faults.is_empty()
    }

    fn fault(&mut self, reader: usize, what: &str) {
        let name = self.readers[reader].name.clone();
        self.blame(&name, what);
    }

    /// Enters a fault of what `who` was to see.
    pub(crate) fn blame(&mut self, who: &str, what: &str) {
        if self.faults.len() < TOLD_MAX {
            self.faults.push(format!("round {}: {who} {what}", self.rounds.len()));
        } else {
            self.faults_untold += 1;
        }
    }

    fn story(&self, key: Key) -> String {
        let course = &self.courses[key.course];
        let message = &course.messages[key.number as usize];
        let (topic, qos) = &course.topics[usize::from(message.topic)];
        let round = |at| self.rounds.partition_point(|&began| began <= at);
        let taken = match message.taken_at {
            NEVER => "not acknowledged".to_owned(),
            at => format!("acknowledged in round {}", round(at)),
        };
        format!(
            "{} number {} ({} bytes) on {topic} at QoS {qos}, sent first in round {}, {} times, \
             {taken}",
            course.name,
            key.number,
            payload::length(key),
            round(message.sent_at),
            message.sends
        )
    }
}

impl Reader {
    fn got(&self, key: Key) -> Got {
        self.got[key.course].get(key.number as usize).copied().unwrap_or_default()
    }

    /// Whether the message was routed while there was surely a subscription to it.
    fn must(&self, message: &Message, key: Key) -> bool {
        let topic = usize::from(message.topic);
        message.taken_at != NEVER
            && self.wants.iter().filter(|want| want.matches[key.course][topic]).any(|want| {
                let at = want.spans.partition_point(|span| span.asked_at <= message.sent_at);
                at.checked_sub(1).is_some_and(|at| {
                    let span = &want.spans[at];
                    let through = span.through.get(key.course).map(|topics| topics[topic]);
                    span.granted_at <= message.sent_at
                        && message.taken_at <= span.given_up_at
                        && (span.given_up_at == NEVER
                            || through.is_some_and(|through| key.number < through))
                })
            })
    }
}

#[cfg(test)]
mod tests;
