//! CONNECT and DISCONNECT: which sessions there are, and whose will is published.

use std::rc::Rc;

use longshore_codec::{
    Connect, Disconnect, Error, Packet, Properties, Property, ReasonCode, Version, decode,
};

use crate::sim::network::LineId;

use super::Oracle;
use super::answer::Answer;
use super::book::{Expiry, Flight, Holder, Message, Session, SessionNumber, Source, Stage, Will};
use super::receive::Fault;

/// Bytes of a client identifier that the broker assigns.
const ASSIGNED_BYTES: usize = 37;

impl Oracle {
    pub(crate) fn take_connect(
        &mut self,
        line: LineId,
        first: u8,
        body: &[u8],
    ) -> Result<(), Fault> {
        if first != 0x10 {
            return Err(ReasonCode::ProtocolError);
        }
        let connect = match decode(Version::V5, first, body) {
            Ok(Packet::Connect(connect)) => connect,
            Ok(_) => unreachable!("the packet type is CONNECT"),
            Err(error) => {
                self.refuse_malformed(line, body, error);
                return Err(error.reason());
            }
        };
        let connection = self.connection(line);
        connection.version = connect.version;
        connection.packet_max =
            connect.properties.maximum_packet_size().unwrap_or(u32::MAX) as usize;
        if let Some(reason) = self.refusal(&connect) {
            self.owe_answer(line, Answer::Connack { session_present: false, reason });
            return Err(reason);
        }
        if connect.version == Version::V5
            && self.connack_bytes(&connect) > self.connection(line).packet_max
        {
            // No word fits, so there is none.
            return Err(ReasonCode::PacketTooLarge);
        }
        self.let_in(line, &connect);
        Ok(())
    }

    /// What is said to a CONNECT that is too large, as far as what has come tells its version.
    pub(crate) fn refuse_unframed(&mut self, line: LineId, error: Error) {
        let packet = self.connection(line).partial.clone();
        let length = packet.iter().skip(1).position(|byte| byte & 0x80 == 0);
        if let (Some(0x10), Some(last)) = (packet.first(), length) {
            self.refuse_malformed(line, &packet[last + 2..], error);
        }
    }

    /// What is said to a CONNECT that cannot be understood, as far as it tells its version.
    fn refuse_malformed(&mut self, line: LineId, body: &[u8], error: Error) {
        let version = match error {
            Error::UnsupportedVersion { level, .. } if level < 5 => Version::V3_1_1,
            Error::UnsupportedVersion { .. } => Version::V5,
            _ if body.starts_with(b"\0\x04MQTT\x05") => Version::V5,
            _ => return,
        };
        self.connection(line).version = version;
        let reason = error.reason();
        self.owe_answer(line, Answer::Connack { session_present: false, reason });
    }

    fn refusal(&self, connect: &Connect<'_>) -> Option<ReasonCode> {
        let is_v5 = connect.version == Version::V5;
        if connect.client_id.is_empty()
            && !is_v5
            && (connect.version == Version::V3_1 || !connect.clean_start)
        {
            return Some(ReasonCode::ClientIdentifierNotValid);
        }
        let is_known = self.roster.contains_key(connect.client_id);
        if !is_known && self.sessions.len() >= self.limits.sessions {
            return Some(ReasonCode::QuotaExceeded);
        }
        None
    }

    /// Bytes of the smallest CONNACK that lets the client in.
    fn connack_bytes(&self, connect: &Connect<'_>) -> usize {
        let limits = &self.limits;
        let asked = connect.properties.session_expiry_interval().unwrap_or(0);
        let parts = [
            (asked > limits.session_expiry_secs, 5),
            (limits.receive_maximum < u16::MAX, 3),
            // Maximum Packet Size.
            (true, 5),
            (connect.client_id.is_empty(), 3 + ASSIGNED_BYTES),
            (limits.topic_aliases > 0, 3),
            (self.keep_alive(connect.keep_alive) != connect.keep_alive, 3),
        ];
        let properties: usize = parts.iter().filter(|part| part.0).map(|part| part.1).sum();
        5 + properties
    }

    fn keep_alive(&self, asked: u16) -> u16 {
        match self.limits.keep_alive_secs {
            0 => asked,
            imposed if asked == 0 => imposed,
            imposed => asked.min(imposed),
        }
    }

    fn let_in(&mut self, line: LineId, connect: &Connect<'_>) {
        let client_id = match connect.client_id {
            // Until CONNACK says the name.
            "" => format!("nameless on line {line}"),
            given => given.to_owned(),
        };
        self.take_over(&client_id);
        let mut present = self.roster.get(&client_id).copied();
        if let Some(old) = present
            && connect.clean_start
        {
            self.end_session(old);
            present = None;
        }
        let number = present.unwrap_or_else(|| self.make_session(&client_id));

        let properties = connect.properties;
        let asked = match connect.version {
            Version::V5 => properties.session_expiry_interval().unwrap_or(0),
            _ if connect.clean_start => 0,
            _ => u32::MAX,
        };
        let granted = asked.min(self.limits.session_expiry_secs);
        let session = self.session(number);
        session.line = Some(line);
        session.expiry_secs = granted;
        session.ends = None;
        session.will_due = None;
        session.will = connect.will.as_ref().map(|will| stored_will(will, &client_id));

        let keep_alive = self.keep_alive(connect.keep_alive);
        let inflight = self.limits.inflight;
        let connection = self.connection(line);
        connection.stage = Stage::Online(number);
        connection.session = number;
        connection.keep_alive_secs = keep_alive;
        connection.receive_maximum = properties.receive_maximum().unwrap_or(u16::MAX).min(inflight);
        connection.alias_max = properties.topic_alias_maximum().unwrap_or(0);
        connection.is_nameless = connect.client_id.is_empty();
        connection.asked_keep_alive_secs = connect.keep_alive;
        connection.granted_expiry_secs = (granted != asked).then_some(granted);
        let (messages, bytes) = (connection.receive_maximum, connection.packet_max);
        self.trace.note(format_args!(
            "  session {number} on line {line}, {messages} messages of {bytes} bytes at once"
        ));
        let answer =
            Answer::Connack { session_present: present.is_some(), reason: ReasonCode::Success };
        self.owe_answer(line, answer);
    }

    fn make_session(&mut self, client_id: &str) -> SessionNumber {
        self.next_session += 1;
        let number = self.next_session;
        self.sessions.insert(number, Session::new(number, client_id.to_owned()));
        self.roster.insert(client_id.to_owned(), number);
        number
    }

    /// Another connection has this client identifier: it ends [MQTT-3.1.4-3].
    fn take_over(&mut self, client_id: &str) {
        let known = self.roster.get(client_id).copied();
        let old = known.and_then(|number| self.sessions.get(&number)).and_then(|s| s.line);
        if let Some(old) = old {
            self.fail(old, ReasonCode::SessionTakenOver);
        }
    }

    /// CONNACK told the name of a client that had none.
    pub(crate) fn name_session(&mut self, number: SessionNumber, client_id: &str) {
        assert!(!self.roster.contains_key(client_id), "[MQTT-3.2.2-16] {client_id} is in use");
        let Some(session) = self.sessions.get_mut(&number) else { return };
        let nameless = std::mem::replace(&mut session.client_id, client_id.to_owned());
        if let Some(will) = &mut session.will {
            will.client_id = client_id.to_owned();
        }
        self.roster.remove(&nameless);
        self.roster.insert(client_id.to_owned(), number);
    }

    pub(crate) fn take_disconnect(
        &mut self,
        line: LineId,
        number: SessionNumber,
        disconnect: &Disconnect<'_>,
    ) -> Result<(), Fault> {
        let longest = self.limits.session_expiry_secs;
        let session = self.session(number);
        if let Some(secs) = disconnect.properties.session_expiry_interval() {
            if session.expiry_secs == 0 && secs != 0 {
                return Err(ReasonCode::ProtocolError);
            }
            session.expiry_secs = secs.min(longest);
        }
        if disconnect.reason == ReasonCode::Success {
            // [MQTT-3.14.4-3].
            session.will = None;
        }
        self.close(line);
        Ok(())
    }

    /// The session has lost its connection.
    pub(crate) fn detach(&mut self, number: SessionNumber) {
        let (now, step) = (self.now, self.step);
        let session = self.sessions.get_mut(&number).expect("it is connected");
        if let Some(line) = session.line
            && let Some(connection) = self.connections.get(&line)
        {
            session.give_up_for(connection, now);
            session.give_up_flights_for(line, connection, &mut self.groups);
        }
        session.line = None;
        session.left_in = step;
        for debt in &mut session.fleeting {
            debt.lapsed = true;
        }
        if session.expiry_secs == 0 {
            self.end_session(number);
            return;
        }
        if session.expiry_secs != u32::MAX {
            session.ends = Some(now.mono.plus_secs(u64::from(session.expiry_secs)));
        }
        match session.will.as_ref().map(|will| will.delay_secs) {
            Some(0) => {
                let will = session.will.take();
                self.wills.extend(will);
            }
            Some(secs) => session.will_due = Some(now.mono.plus_secs(u64::from(secs))),
            None => {}
        }
        self.let_float(number);
    }

    /// Messages of QoS 1 that the session got through its groups may go to other members now.
    fn let_float(&mut self, number: SessionNumber) {
        let session = self.sessions.get_mut(&number).expect("it has just lost its connection");
        for flight in session.flights.values_mut() {
            let Some((group, debt)) = shared(flight) else { continue };
            let group = self.groups.get_mut(group).filter(|group| group.members.len() > 1);
            let Some(group) = group.filter(|group| group.members.contains_key(&number)) else {
                continue;
            };
            if let Some(debt) = group.debts.iter_mut().find(|known| known.number == debt) {
                self.trace.note(format_args!("    {} floats from {number}", debt.number));
                debt.holder = Holder::Floating(number);
                flight.is_floating = true;
            }
        }
    }

    /// The session is no more (MQTT 5.0, 4.1).
    pub(crate) fn end_session(&mut self, number: SessionNumber) {
        let mut session = self.sessions.remove(&number).expect("only what is ends");
        assert_eq!(session.line, None, "it has lost its connection before");
        self.trace.note(format_args!("  session {number} of {} ends", session.client_id));
        self.roster.remove(&session.client_id);
        for filter in session.subscriptions.keys() {
            self.leave_group(filter, number);
        }
        for flight in session.flights.values() {
            self.give_up(flight, number);
        }
        session.lapse_all();
        self.wills.extend(session.will.take());
        self.gone.push(session);
    }

    /// A flight ends with its session: one of QoS 1 goes back to its group [MQTT-4.8.2-5].
    fn give_up(&mut self, flight: &Flight, number: SessionNumber) {
        let Source::Group(name, debt) = &flight.debt.source else { return };
        let Some(group) = self.groups.get_mut(name) else { return };
        let Some(place) = group.debts.iter().position(|known| known.number == *debt) else {
            return;
        };
        let holder = &mut group.debts[place].holder;
        if *holder != Holder::Session(number) && *holder != Holder::Floating(number) {
            return;
        }
        self.trace.note(format_args!("    {debt} of {name} is given up by {number}"));
        match shared(flight) {
            Some(_) => *holder = Holder::Nobody,
            None => drop(group.debts.remove(place)),
        }
    }

    /// The wills of this step are published at its end.
    pub(crate) fn publish_wills(&mut self) {
        while let Some(will) = self.wills.pop_front() {
            let expiry = will.expiry_secs.map(|secs| Expiry::begin(secs, self.now));
            let Message { topic, payload, properties, qos, retain, .. } = &*will.message;
            let message = Rc::new(Message {
                topic: topic.clone(),
                payload: payload.clone(),
                properties: properties.clone(),
                qos: *qos,
                retain: *retain,
                expiry,
                is_will: true,
            });
            self.trace.note(format_args!("  the will to {topic} is published"));
            if message.retain {
                // Not retained for want of room, it is delivered all the same.
                let _ = self.retain(&message);
            }
            self.route(&message, Some(&will.client_id));
        }
    }
}

/// The group and the debt of a message of QoS 1 that a group may give to another member.
fn shared(flight: &Flight) -> Option<(&String, u64)> {
    match &flight.debt.source {
        Source::Group(group, debt) if flight.debt.qos as u8 == 1 => Some((group, *debt)),
        _ => None,
    }
}

fn stored_will(will: &longshore_codec::Will<'_>, client_id: &str) -> Will {
    Will {
        message: Rc::new(Message {
            topic: will.topic.to_owned(),
            payload: will.payload.to_vec(),
            properties: forwarded(will.properties),
            qos: will.qos,
            retain: will.retain,
            expiry: None,
            is_will: true,
        }),
        delay_secs: will.properties.will_delay_interval().unwrap_or(0),
        expiry_secs: will.properties.message_expiry_interval(),
        client_id: client_id.to_owned(),
    }
}

/// The properties that belong to the message and not to one hop.
pub(crate) fn forwarded(properties: Properties<'_>) -> Vec<u8> {
    let mut block = Vec::new();
    for property in properties.iter().map_while(Result::ok) {
        match property {
            Property::PayloadFormatIndicator(_)
            | Property::ContentType(_)
            | Property::ResponseTopic(_)
            | Property::CorrelationData(_)
            | Property::UserProperty(..) => property.append(&mut block),
            _ => {}
        }
    }
    block
}
