//! Whether what the broker says is what it owes: each packet is matched with the book.

use longshore_broker::clock::Now;

use crate::sim::network::LineId;

use super::Oracle;
use super::answer::Answer;
use super::book::{Connection, Debt, Flight, Holder, Message, Session, Source, Stage};
use super::heard::{Heard, HeardPublish};

/// What a match may depend on besides the book.
#[derive(Clone, Copy, Debug)]
pub(crate) struct View {
    pub(crate) is_v5: bool,
    /// The connection it was said on has ended by now.
    pub(crate) is_closing: bool,
    pub(crate) now: Now,
    pub(crate) step: u64,
}

impl View {
    fn new(connection: &Connection, now: Now, step: u64) -> Self {
        let is_closing = connection.stage == Stage::Closing;
        Self { is_v5: connection.is_v5(), is_closing, now, step }
    }
}

impl Oracle {
    /// Matches what was heard on all lines, as far as it goes; whether there was any.
    pub(crate) fn explain(&mut self) -> bool {
        let mut explained = false;
        let lines: Vec<LineId> = self.connections.keys().copied().collect();
        for line in lines {
            while let Some(heard) = self.connection(line).heard.pop_front() {
                if !self.explain_packet(line, &heard) {
                    self.connection(line).heard.push_front(heard);
                    break;
                }
                explained = true;
            }
        }
        self.note_shared();
        explained
    }

    fn explain_packet(&mut self, line: LineId, heard: &Heard) -> bool {
        match heard {
            Heard::Answer(answer) => self.explain_answer(line, answer),
            Heard::Publish(publish) => {
                let number = self.connection(line).session;
                let known = self.sessions.remove(&number).map(|session| (session, true));
                let place = self.gone.iter().position(|session| session.number == number);
                let known = known.or_else(|| Some((self.gone.swap_remove(place?), false)));
                let (mut session, lives) = known.expect("a message needs a session");
                let explained = self.explain_publish(line, &mut session, publish);
                match lives {
                    true => drop(self.sessions.insert(number, session)),
                    false => self.gone.push(session),
                }
                explained
            }
        }
    }

    fn explain_answer(&mut self, line: LineId, answer: &Answer) -> bool {
        let connection = self.connection(line);
        skip_unanswerable(connection);
        if connection.answers.front() == Some(answer) {
            connection.answers.pop_front();
            if matches!(answer, Answer::Connack { .. }) {
                self.explain_connack(line);
            }
            return true;
        }
        let Answer::Pubrel(id, _) = *answer else { return false };
        let number = connection.session;
        let Some(session) = self.find_session(number) else { return false };
        // [MQTT-4.4.0-1]: once for each connection.
        match session.flights.get_mut(&id) {
            Some(flight) if flight.is_released && flight.release_line != Some(line) => {
                flight.release_line = Some(line);
                true
            }
            _ => false,
        }
    }

    /// What CONNACK said beside its code is true.
    fn explain_connack(&mut self, line: LineId) {
        let connection = self.connection(line);
        if !connection.is_v5() {
            return;
        }
        let imposed = Some(connection.keep_alive_secs)
            .filter(|secs| *secs != connection.asked_keep_alive_secs);
        assert_eq!(connection.told_keep_alive_secs, imposed, "[MQTT-3.2.2-21] on line {line}");
        let granted = connection.granted_expiry_secs;
        assert_eq!(connection.told_expiry_secs, granted, "MQTT 5.0, 3.2.2.3.2, on line {line}");
        let number = connection.session;
        let assigned = connection.assigned.take();
        assert_eq!(assigned.is_some(), connection.is_nameless, "[MQTT-3.2.2-16] on line {line}");
        if let Some(client_id) = assigned {
            self.name_session(number, &client_id);
        }
    }

    fn explain_publish(
        &mut self,
        line: LineId,
        session: &mut Session,
        heard: &HeardPublish,
    ) -> bool {
        let connection = self.connections.get(&line).expect("it was heard on this line");
        let view = View::new(&self.connections[&line], self.now, self.step);
        let Some(id) = heard.id else {
            return take_fleeting(session, connection, heard, view)
                || take_retained(session, heard, view).is_some()
                || self.take_from_group(session.number, heard, view).is_some();
        };
        if heard.dup {
            return self.explain_again(line, session, heard, id);
        }
        let debt = take_own(session, connection, heard, view)
            .or_else(|| take_retained(session, heard, view))
            .or_else(|| self.take_from_group(session.number, heard, view));
        let Some(debt) = debt else { return false };
        // What the group has given to others needs its place no more.
        if session.flights.get(&id).is_some_and(|flight| flight.is_floating) {
            let lost = session.flights.remove(&id).expect("it was found");
            self.let_go(&lost);
        }
        assert!(!session.flights.contains_key(&id), "[MQTT-2.2.1-4] id {id} is in use");
        let order = session.next_order;
        self.pass_to(line, session, order);
        session.next_order += 1;
        let flight = Flight {
            debt,
            order,
            line,
            is_released: false,
            release_line: None,
            is_floating: false,
        };
        session.flights.insert(id, flight);
        self.note_sent(line, id, order);
        true
    }

    /// A message that was sent on an earlier connection (MQTT 5.0, 4.4).
    fn explain_again(
        &mut self,
        line: LineId,
        session: &mut Session,
        heard: &HeardPublish,
        id: u16,
    ) -> bool {
        let view = View::new(&self.connections[&line], self.now, self.step);
        let Some(flight) = session.flights.get_mut(&id) else {
            panic!("[MQTT-3.3.1-1] DUP on {id}, which was not sent before: {heard:?}");
        };
        assert!(!flight.is_released, "[MQTT-4.3.3-6] {id} is sent again after PUBREC");
        assert_ne!(flight.line, line, "[MQTT-4.4.0-1] {id} is sent twice on one connection");
        let debt = &flight.debt;
        let same = is_content(&debt.message, heard, view) && debt.qos == heard.qos;
        assert!(same, "{id} is sent again as another message: {heard:?} for {debt:?}");
        assert_eq!(debt.retain, heard.retain, "RETAIN of {id}, which is sent again");
        flight.line = line;
        // When the connection is lost again, what has just been said of the flight holds.
        flight.is_floating &= view.is_closing;
        let order = flight.order;
        if !view.is_closing
            && let Source::Group(name, number) = &flight.debt.source
            && let Some(group) = self.groups.get_mut(name)
            && let Some(debt) = group.debts.iter_mut().find(|debt| debt.number == *number)
        {
            debt.holder = Holder::Session(session.number);
        }
        self.pass_to(line, session, order);
        self.note_sent(line, id, order);
        true
    }

    /// What comes before `order` was to be sent again before. What the client does not take was
    /// given up then.
    fn pass_to(&mut self, line: LineId, session: &mut Session, order: u64) {
        let passed =
            |f: &Flight| f.order < order && !f.is_released && !f.is_floating && f.line != line;
        let connection = self.connections.get(&line).expect("it was heard on this line");
        let mut given_up = Vec::new();
        session.flights.retain(|id, flight| {
            if !passed(flight) {
                return true;
            }
            let takes = connection.takes(&flight.debt);
            assert!(!takes, "[MQTT-4.6.0-1] {id} is to be sent first: {flight:?}");
            given_up.push(flight.debt.source.clone());
            false
        });
        for source in given_up {
            if let Source::Group(_, number) = source {
                self.forget_group_debt(number);
            }
        }
    }

    /// The client has one more message to acknowledge.
    fn note_sent(&mut self, line: LineId, id: u16, order: u64) {
        let connection = self.connection(line);
        assert!(
            connection.unacknowledged.insert(id),
            "[MQTT-2.2.1-4] the client has not acknowledged {id} yet"
        );
        let most = usize::from(connection.receive_maximum);
        assert!(
            connection.unacknowledged.len() <= most,
            "[MQTT-3.3.4-9] {} messages in flight to a client that takes {most}",
            connection.unacknowledged.len(),
        );
        assert!(
            connection.last_order < Some(order),
            "[MQTT-4.6.0-1] messages are sent again in their first order"
        );
        connection.last_order = Some(order);
    }
}

/// What the client does not take must not be sent [MQTT-3.1.2-24]; the connection ends by it.
pub(crate) fn skip_unanswerable(connection: &mut Connection) {
    while let Some(answer) = connection.answers.front() {
        if answer.packet_bytes(connection.version) <= connection.packet_max {
            return;
        }
        connection.answers.pop_front();
        connection.is_unanswerable = true;
    }
}

/// Whether the content is that of the message, as far as its receiver's version carries it.
pub(crate) fn is_content(message: &Message, heard: &HeardPublish, view: View) -> bool {
    message.topic == heard.topic
        && message.payload == heard.payload
        && (!view.is_v5
            || message.properties == heard.properties && is_expiry(message, heard, view))
}

/// [MQTT-3.3.2-6]: the interval received, less the time that has passed.
fn is_expiry(message: &Message, heard: &HeardPublish, view: View) -> bool {
    let Some(expiry) = message.expiry else { return heard.expiry_secs.is_none() };
    let left = expiry.ends.0.saturating_sub(view.now.wall.0);
    // However the clock was set, no more than it was given.
    let secs = |micros: u64| {
        u32::try_from(micros / 1_000_000).map_or(expiry.secs, |secs| secs.min(expiry.secs))
    };
    let (down, up) = (secs(left), secs(left.saturating_add(999_999)));
    heard.expiry_secs.is_some_and(|told| (down..=up).contains(&told))
}

fn is_debt(debt: &Debt, heard: &HeardPublish, view: View) -> bool {
    debt.qos == heard.qos
        && debt.retain == heard.retain
        && (!view.is_v5 || debt.identifiers == heard.identifiers)
        && is_content(&debt.message, heard, view)
}

/// Whether the broker may pass the debt over: it is too late, or too large.
pub(crate) fn may_pass(debt: &Debt, connection: &Connection, now: Now) -> bool {
    let is_gone = debt.lapsed || debt.is_optional;
    is_gone || debt.message.is_expired(now) || !connection.takes(debt)
}

fn take_fleeting(
    session: &mut Session,
    connection: &Connection,
    heard: &HeardPublish,
    view: View,
) -> bool {
    let found = session.fleeting.iter().position(|debt| is_debt(debt, heard, view));
    let Some(place) = found else { return false };
    let mut later = session.fleeting.split_off(place);
    let found = later.pop_front().expect("it was found");
    // The order is judged here, whether it was to be sent at all elsewhere.
    session.fleeting.retain(|passed| {
        let dropped = connection.is_slow || may_pass(passed, connection, view.now);
        let overtaken = may_overtake(&found, passed);
        assert!(dropped || overtaken, "[MQTT-4.6.0-6] {heard:?} overtakes {passed:?}");
        overtaken
    });
    session.fleeting.append(&mut later);
    for twin in session.retained.iter_mut().filter(|twin| is_debt(twin, heard, view)) {
        // To a slow client it may have been the twin that was sent.
        twin.is_optional |= connection.is_slow;
    }
    true
}

/// Wills of one step are published in no order but that of a client.
fn may_overtake(debt: &Debt, passed: &Debt) -> bool {
    let (message, passed) = (&debt.message, &passed.message);
    (message.is_will || passed.is_will) && message.topic != passed.topic
}

/// The first of the messages that wait, or one that those before it let pass. What is too late
/// explains nothing [MQTT-3.3.2-5].
fn take_own(
    session: &mut Session,
    connection: &Connection,
    heard: &HeardPublish,
    view: View,
) -> Option<Debt> {
    let in_time =
        |debt: &Debt| debt.message.expiry.is_none_or(|expiry| view.now.wall <= expiry.ends);
    let fits = |debt: &Debt| is_debt(debt, heard, view) && in_time(debt);
    let place = session.debts.iter().position(fits)?;
    let waits = |debt: &Debt| !may_pass(debt, connection, view.now);
    let found = &session.debts[place];
    if session.debts.range(..place).any(|debt| waits(debt) && !may_overtake(found, debt)) {
        return None;
    }
    let mut later = session.debts.split_off(place);
    let found = later.pop_front().expect("it was found");
    session.debts.retain(|debt| waits(debt) || may_overtake(&found, debt));
    session.debts.append(&mut later);
    Some(found)
}

fn take_retained(session: &mut Session, heard: &HeardPublish, view: View) -> Option<Debt> {
    let fits = |debt: &Debt| is_debt(debt, heard, view);
    let is_owed = |debt: &Debt| !debt.lapsed && !debt.is_optional;
    let owed = session.retained.iter().position(|debt| is_owed(debt) && fits(debt));
    let place = owed.or_else(|| session.retained.iter().position(fits))?;
    let debt = session.retained.remove(place);
    for twin in session.retained.iter_mut().filter(|twin| twin.lapsed && fits(twin)) {
        // It may have been the twin that was sent.
        (twin.lapsed, twin.is_optional) = (false, true);
    }
    assert!(!debt.message.is_expired(view.now), "[MQTT-3.3.2-5] too late: {heard:?}");
    Some(debt)
}
