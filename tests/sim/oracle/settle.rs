//! The end of a step and of a turn: all that was said is explained, and all that was due was said.

use std::collections::BTreeMap;

use longshore_codec::{QoS, ReasonCode};

use crate::sim::network::LineId;

use super::Oracle;
use super::book::{
    Connection, Group, Holder, Member, Message, Overflow, Session, SessionNumber, Source, Stage,
};
use super::explain::{may_pass, skip_unanswerable};

/// What the broker shows of itself beside packets.
#[derive(Clone, Debug, Default)]
pub(crate) struct Facts {
    pub(crate) lines: BTreeMap<LineId, LineFacts>,
    pub(crate) connections: u64,
    pub(crate) sessions: u64,
    pub(crate) subscriptions: u64,
    pub(crate) retained: u64,
    pub(crate) retained_bytes: u64,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct LineFacts {
    pub(crate) is_closing: bool,
    pub(crate) is_read: bool,
    pub(crate) output_len: usize,
}

/// Output beyond which reads of retained messages wait, whatever the limits.
const READ_OUTPUT_BYTES: usize = 256 << 10;

impl Oracle {
    /// The broker has done one step: nothing may be left to explain.
    pub(crate) fn settle(&mut self, facts: &Facts) {
        self.note_outputs(facts);
        for session in self.sessions.values_mut() {
            if let Some(connection) = session.line.and_then(|line| self.connections.get(&line)) {
                session.give_up_for(connection, self.now);
            }
        }
        for group in self.groups.values_mut() {
            crowd(group, self.limits.queue_messages, self.limits.queue_bytes);
        }
        loop {
            let explained = self.explain();
            if !self.settle_unanswerable() && !self.settle_overflows(facts) && !explained {
                break;
            }
        }
        for (line, connection) in &self.connections {
            let heard = connection.heard.front();
            assert!(
                heard.is_none(),
                "nothing explains {heard:?} on line {line}; owed: {:?}\n{:#?}",
                connection.answers,
                self.sessions.get(&connection.session),
            );
            let answers = &connection.answers;
            assert!(answers.is_empty(), "unanswered on line {line}: {answers:?}");
            let is_closing = connection.stage == Stage::Closing;
            let told = facts.lines.get(line).expect("the broker knows the line");
            assert_eq!(told.is_closing, is_closing, "whether line {line} is to close");
            assert_eq!(told.is_read, !connection.is_paused, "whether line {line} is read");
        }
        self.check_fleeting();
        self.forget_step();
        self.check_counts(facts);
    }

    fn note_outputs(&mut self, facts: &Facts) {
        for (line, told) in &facts.lines {
            let Some(connection) = self.connections.get_mut(line) else { continue };
            connection.output_len = told.output_len;
            connection.is_slow = told.output_len > self.limits.output_bytes;
        }
    }

    /// Connections end whose clients take no answer of the size it has; whether there were any.
    fn settle_unanswerable(&mut self) -> bool {
        let lines: Vec<LineId> = self.connections.keys().copied().collect();
        let mut ended = false;
        for line in lines {
            let connection = self.connection(line);
            skip_unanswerable(connection);
            if connection.is_unanswerable && connection.stage != Stage::Closing {
                self.trace.note(format_args!("  line {line} cannot be answered"));
                self.close(line);
                self.publish_wills();
                ended = true;
            }
        }
        ended
    }

    /// One session with too much waiting ends (`limits.queue_messages`), the most certain one
    /// first, for its will may explain what others are told; whether there was any.
    fn settle_overflows(&mut self, facts: &Facts) -> bool {
        let most = self.limits.queue_messages.max(1);
        let fewer = self.has_too_many(facts);
        let closes = |line: &LineId| facts.lines.get(line).is_some_and(|told| told.is_closing);
        let doubts = |session: &Session| {
            let waiting = session.waiting().0;
            match (session.overflow, &session.line) {
                (Overflow::Yes, _) => Some(0),
                (Overflow::Perhaps, Some(line)) if closes(line) => Some(1),
                (Overflow::Perhaps, _) if waiting > most => Some(2),
                // The count of sessions tells.
                (Overflow::Perhaps, None) if fewer => Some(3),
                (Overflow::Perhaps, _) => None,
                (Overflow::No, _) => {
                    let number = session.number;
                    assert!(waiting <= most, "{waiting} messages wait for session {number}");
                    None
                }
            }
        };
        let found = self.sessions.values().filter_map(|it| Some((doubts(it)?, it.number))).min();
        if let Some((_, number)) = found {
            self.overflow(number);
        }
        found.is_some()
    }

    fn has_too_many(&self, facts: &Facts) -> bool {
        facts.sessions < self.sessions.len() as u64
    }

    fn overflow(&mut self, number: SessionNumber) {
        self.trace.note(format_args!("  session {number} overflows"));
        let session = self.session(number);
        session.expiry_secs = 0;
        match session.line {
            Some(line) => self.fail(line, ReasonCode::QuotaExceeded),
            None => self.end_session(number),
        }
        self.publish_wills();
    }

    /// QoS 0 reaches who is there, at once, unless it reads too slowly or cannot take it.
    fn check_fleeting(&mut self) {
        let now = self.now;
        for session in self.sessions.values_mut() {
            let connection = session.line.and_then(|line| self.connections.get(&line));
            for debt in session.fleeting.drain(..) {
                let passed = connection.is_none_or(|c| c.is_slow || !c.takes(&debt));
                assert!(
                    passed || debt.lapsed,
                    "[MQTT-4.3.1-1] session {} did not get {debt:?} at {now:?}",
                    session.number,
                );
            }
        }
        self.check_fleeting_groups();
    }

    /// A group's message of QoS 0 reaches a member that is there, if there is one. One that some
    /// member could not take may be lost, for that member may have been chosen.
    fn check_fleeting_groups(&mut self) {
        let (sessions, connections) = (&self.sessions, &self.connections);
        let (now, step) = (self.now, self.step);
        for (name, group) in &mut self.groups {
            let (members, former) = (&group.members, &group.former);
            let all: Vec<_> = members
                .iter()
                .map(|(number, member)| (*number, member, u64::MAX))
                .chain(former.iter().map(|(number, member, end)| (*number, member, *end)))
                .collect();
            group.debts.retain_mut(|debt| {
                if matches!(debt.holder, Holder::Session(_)) {
                    return true;
                }
                let message = &debt.message;
                let at = |member: &Member| member.qos.min(message.qos);
                let there = all.iter().filter_map(|(number, member, end)| {
                    Some((*member, *end, connections.get(&sessions.get(number)?.line?)?))
                });
                debt.optional |= message.is_expired(now);
                // Also by one that was there only until it got the message.
                debt.optional |= connections.values().filter(|it| it.was_there(step)).any(|it| {
                    let mut terms = all.iter().filter(|(number, ..)| *number == it.session);
                    terms.any(|(_, member, _)| !takes_from_group(it, member, message))
                });
                let wants = |member: &Member| at(member) != QoS::AtMostOnce;
                if debt.holder != Holder::Nobody || debt.made_in != step {
                    // What a member has given back waits for any other, but nothing waits for those
                    // who asked for QoS 0.
                    debt.optional |= !members.values().any(wants);
                    return true;
                }
                let was_member =
                    |member: &Member, end| member.since <= debt.number && debt.number < end;
                let missed = there.clone().any(|(member, end, it)| {
                    was_member(member, end) && at(member) == QoS::AtMostOnce && !it.is_slow
                });
                assert!(!missed || debt.optional, "nobody of {name} got {message:?}");
                // Who has joined or changed its terms in this step may have come too late.
                let before = |(_, member, end): &&(_, &Member, u64)| was_member(member, *end);
                debt.optional |= !all.iter().filter(before).any(|(_, member, _)| wants(member));
                all.iter().any(|(_, member, _)| wants(member))
            });
        }
    }

    /// What was kept only to explain this step.
    fn forget_step(&mut self) {
        self.gone.clear();
        self.gone_groups.clear();
        for group in self.groups.values_mut() {
            group.former.clear();
        }
        for session in self.sessions.values_mut() {
            session.retained.retain(|debt| !debt.lapsed);
            session.overflow = Overflow::No;
        }
    }

    fn check_counts(&self, facts: &Facts) {
        let count = |sum: usize| sum as u64;
        assert_eq!(facts.connections, count(self.connections.len()), "connections");
        assert_eq!(facts.sessions, count(self.sessions.len()), "sessions");
        let subscriptions = self.sessions.values().map(|session| session.subscriptions.len());
        assert_eq!(facts.subscriptions, count(subscriptions.sum()), "subscriptions");
        assert_eq!(facts.retained, count(self.retained.len()), "retained messages");
        assert_eq!(facts.retained_bytes, count(self.retained_bytes()), "retained bytes");
    }

    /// The broker has nothing more to do now: whatever could be sent, was.
    pub(crate) fn check_turn(&mut self) {
        let now = self.now;
        let half = self.limits.output_bytes / 2;
        for session in self.sessions.values_mut() {
            let Some(connection) = session.line.and_then(|line| self.connections.get(&line)) else {
                continue;
            };
            if connection.output_len > half {
                continue;
            }
            resend_all(session, connection, &mut self.groups);
            if !has_room(connection) {
                continue;
            }
            // What may be passed over, was: the window has room.
            session.debts.retain(|debt| !may_pass(debt, connection, now));
            let waiting = session.debts.front();
            assert!(waiting.is_none(), "session {} waits for {waiting:?}", session.number);
            if connection.output_len <= READ_OUTPUT_BYTES {
                session.retained.retain(|debt| !may_pass(debt, connection, now));
                let waiting = session.retained.first();
                assert!(waiting.is_none(), "[MQTT-3.3.1-9] not sent: {waiting:?}");
            }
        }
        self.check_groups();
    }

    fn check_groups(&mut self) {
        let now = self.now;
        let (sessions, connections) = (&self.sessions, &self.connections);
        let half = self.limits.output_bytes / 2;
        let able = |number: &SessionNumber| {
            let connection = connections.get(&sessions.get(number)?.line?)?;
            (connection.output_len <= half && has_room(connection)).then_some(connection)
        };
        for (name, group) in &mut self.groups {
            for debt in &mut group.debts {
                // However the clock is set later, it may be gone by now.
                debt.optional |= debt.message.is_expired(now);
            }
            let there = group.members.keys().any(|number| able(number).is_some());
            if !there {
                continue;
            }
            for debt in &group.debts {
                let waits = match debt.holder {
                    Holder::Nobody => true,
                    // Who had it is back, and would have it again by now.
                    Holder::Floating(number) => able(&number).is_some(),
                    Holder::Session(_) => false,
                };
                let owed = waits && !debt.optional;
                assert!(!owed, "{name} keeps {debt:?} though a member has room");
            }
        }
    }
}

/// Messages of a group beyond the limits may be dropped, the oldest first.
fn crowd(group: &mut Group, messages_max: usize, bytes_max: usize) {
    let waiting = group.debts.iter().filter(|debt| !matches!(debt.holder, Holder::Session(_)));
    let (mut count, mut bytes) = (0, 0);
    for debt in waiting {
        count += 1;
        bytes += debt.message.size();
    }
    if count > messages_max || bytes > bytes_max {
        for debt in &mut group.debts {
            debt.optional = true;
        }
    }
}

/// Whether the client could take this message through the group.
fn takes_from_group(connection: &Connection, member: &Member, message: &Message) -> bool {
    let with_id = member.qos.min(message.qos) != QoS::AtMostOnce;
    let identifiers: Vec<u32> = member.identifier.into_iter().collect();
    message.packet_bytes(connection.is_v5(), with_id, &identifiers) <= connection.packet_max
}

/// Whether the client takes one more message of QoS 1 or 2.
fn has_room(connection: &Connection) -> bool {
    connection.unacknowledged.len() < usize::from(connection.receive_maximum)
}

/// What was in flight is sent again on a new connection [MQTT-4.4.0-1].
fn resend_all(
    session: &mut Session,
    connection: &Connection,
    groups: &mut BTreeMap<String, Group>,
) {
    let Some(line) = session.line else { return };
    let room = has_room(connection);
    session.flights.retain(|_, flight| {
        let is_due = flight.line != line && !flight.is_released;
        // Too large for this client, it is given up.
        let is_lost = room && is_due && !connection.takes(&flight.debt);
        if let Source::Group(name, number) = &flight.debt.source
            && let Some(group) = groups.get_mut(name)
            && is_lost
        {
            match flight.is_floating {
                // It may have been given to others before.
                true => group.make_optional(*number),
                false => group.debts.retain(|debt| debt.number != *number),
            }
        }
        !is_lost
    });
    for (id, flight) in &session.flights {
        if flight.is_released {
            let done = flight.line == line || flight.release_line == Some(line);
            assert!(done, "[MQTT-3.3.4-10] [MQTT-4.4.0-1] PUBREL of {id} is not sent again");
        } else {
            let done = flight.line == line || flight.is_floating;
            assert!(done || !room, "[MQTT-4.4.0-1] {id} is not sent again: {flight:?}");
        }
    }
}
