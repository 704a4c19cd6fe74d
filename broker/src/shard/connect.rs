//! CONNECT: who is it, does a session go on, who had it before.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use dashmap::Entry;
use longshore_acl::{Action, Credentials, Principal, Refusal};
use longshore_codec::wire::varint_len;
use longshore_codec::{
    Connack, Connect, Disconnect, Error, Packet, PacketType, Properties, Property, QoS, ReasonCode,
    Version, decode,
};
use tracing::info;

use super::quota::SESSIONS;
use super::{Fault, Shard, Unsettled, close_code};
use crate::clock::Now;
use crate::connection::{AliasesOut, Connection, ConnectionId, Peer, Stage};
use crate::message::{Message, Parts, forwardable};
use crate::parties::Party;
use crate::session::{NEVER, Session, SessionId, Will};
use crate::stamp::Stamp;
use crate::tally::Measure;

/// Receive Maximum of a client that names none, and of every MQTT 3 client.
const RECEIVE_MAXIMUM: u16 = u16::MAX;

/// How many times as much as a client may have in flight a module may.
const MODULE_WINDOWS: u16 = 4;

/// Where a client's session is.
enum Claim {
    Here { session: SessionId, resumed: bool },
    There(SessionId),
    Refused,
}

impl Shard {
    pub(super) fn handle_connect(
        &mut self,
        id: ConnectionId,
        first: u8,
        body: &[u8],
        now: Now,
    ) -> Result<(), Fault> {
        if first != 0x10 {
            // [MQTT-3.1.0-1]: closed without a word, since no version is known.
            return Err(Fault::new(ReasonCode::ProtocolError, "the first packet is not CONNECT"));
        }
        let connect = match decode(Version::V5, first, body) {
            Ok(Packet::Connect(connect)) => connect,
            Ok(_) => unreachable!("the packet type is CONNECT"),
            Err(error) => {
                self.answer_malformed(id, body, error);
                return Err(error.into());
            }
        };
        if let Some(connection) = self.connections.get_mut(id) {
            connection.version = connect.version;
            connection.problem_information =
                connect.properties.request_problem_information().unwrap_or(true);
            connection.packet_max = connect.properties.maximum_packet_size().unwrap_or(u32::MAX);
        }
        match self.admit(id, &connect) {
            Ok(principal) => self.begin(id, &connect, principal, now),
            Err(fault) => Err(self.refuse_connect(id, &connect, fault, now)),
        }
    }

    /// Tells a client why it does not come in.
    fn refuse_connect(
        &mut self,
        id: ConnectionId,
        connect: &Connect<'_>,
        fault: Fault,
        now: Now,
    ) -> Fault {
        let reason = fault.reason;
        let connack = Connack { session_present: false, reason, properties: Properties::none() };
        self.send(id, &Packet::Connack(connack));
        self.note_refused(id, connect, reason, now);
        fault
    }

    /// Tells a client whose CONNECT is too large why, if enough of it has come to know the version.
    pub(super) fn answer_unframed(&mut self, id: ConnectionId, packet: &[u8], error: Error) {
        let length = packet.iter().skip(1).position(|byte| byte & 0x80 == 0);
        if let (Some(0x10), Some(last)) = (packet.first(), length) {
            self.answer_malformed(id, &packet[last + 2..], error);
        }
    }

    /// Tells a client that could not be understood why, in the only words its version has.
    fn answer_malformed(&mut self, id: ConnectionId, body: &[u8], error: Error) {
        let says_v5 = body.starts_with(b"\0\x04MQTT\x05");
        let version = match error {
            Error::UnsupportedVersion { level, .. } if level < Version::V5 as u8 => Version::V3_1_1,
            Error::UnsupportedVersion { .. } => Version::V5,
            _ if says_v5 => Version::V5,
            _ => return,
        };
        if let Some(connection) = self.connections.get_mut(id) {
            connection.version = version;
        }
        let properties = Properties::none();
        let reason = match error.reason().belongs_in(PacketType::Connack) {
            true => error.reason(),
            false => ReasonCode::MalformedPacket,
        };
        let connack = Connack { session_present: false, reason, properties };
        self.send(id, &Packet::Connack(connack));
    }

    /// Whether this client may come in, and as whom.
    fn admit(&self, id: ConnectionId, connect: &Connect<'_>) -> Result<Principal, Fault> {
        use ReasonCode as Code;
        if connect.properties.authentication_method().is_some() {
            return Err(Fault::new(
                Code::BadAuthenticationMethod,
                "no authentication method is offered",
            ));
        }
        if connect.client_id.is_empty() && connect.version != Version::V5 {
            // [MQTT-3.1.3-8] of 3.1.1; 3.1 has no empty client identifiers at all.
            if connect.version == Version::V3_1 || !connect.clean_start {
                return Err(Fault::new(
                    Code::ClientIdentifierNotValid,
                    "an empty client identifier with a session that is to last",
                ));
            }
        }
        let Some(connection) = self.connections.get(id) else {
            return Err(Fault::new(Code::UnspecifiedError, "the connection is gone"));
        };
        let principal = match &connection.known {
            Some(known) => **known,
            None => self.authenticate(connection, connect)?,
        };
        let roster = &self.commons.roster;
        let known = roster.contains_key(&(principal.account, connect.client_id.into()));
        let is_new = !known && !principal.is_broker();
        let sessions = self.commons.sessions.load(Ordering::Relaxed);
        if is_new && sessions >= self.limits.sessions {
            return Err(Fault::new(Code::QuotaExceeded, "too many sessions (limits.sessions)"));
        }
        if is_new && !self.commons.tallies.has_room(principal.account, Measure::Sessions) {
            return Err(Fault::new(Code::QuotaExceeded, SESSIONS));
        }
        if expiry_asked(connect).min(self.limits.session_expiry_secs) > 0 {
            self.check_storage(known && !connect.clean_start)?;
        }
        if let Some(will) = &connect.will {
            self.check_topic(will.topic.as_bytes())
                .map_err(|cause| Fault::new(Code::TopicNameInvalid, cause))?;
            self.check_user_properties(will.properties)?;
            if !self.may(principal.class, Action::Publish, will.topic.as_bytes()) {
                let cause = "the token may not publish to the topic of the will";
                return Err(Fault::new(Code::NotAuthorized, cause));
            }
        }
        self.check_user_properties(connect.properties)?;
        self.check_will_bytes(&principal, connect)?;
        Ok(principal)
    }

    fn authenticate(
        &self,
        connection: &Connection,
        connect: &Connect<'_>,
    ) -> Result<Principal, Fault> {
        let credentials = Credentials { username: connect.username, password: connect.password };
        let address = connection.peer.address.ip();
        // Clients of the original that speak an older version are told 5 of a bad token, not 4
        // (broker specification, 3.7).
        let bad = match connect.version {
            Version::V5 => ReasonCode::BadUserNameOrPassword,
            _ => ReasonCode::NotAuthorized,
        };
        self.authenticate.authenticate(&credentials, address).map_err(|refusal| {
            use ReasonCode as Code;
            let (reason, cause) = match refusal {
                Refusal::NoCredentials => {
                    (bad, "no credentials: send the token as user name or password")
                }
                Refusal::Expired => (bad, "the token has expired"),
                Refusal::Disabled => (bad, "the token is disabled"),
                Refusal::AddressNotAllowed => {
                    (Code::NotAuthorized, "the token does not allow this address")
                }
                Refusal::AccountBlocked => (Code::NotAuthorized, "the account is blocked"),
                Refusal::TooManyFailures => {
                    (Code::ConnectionRateExceeded, "too many failed attempts from this address")
                }
                _ => (bad, "unknown user name or password"),
            };
            Fault::new(reason, cause)
        })
    }

    /// Whether there is room for the client's will, in place of the one it may have left.
    fn check_will_bytes(&self, principal: &Principal, connect: &Connect<'_>) -> Result<(), Fault> {
        let Some(will) = &connect.will else { return Ok(()) };
        let new = will.topic.len() + will.properties.raw().len() + will.payload.len();
        let owner = (principal.account, connect.client_id.into());
        let known = self.commons.roster.get(&owner).and_then(|known| self.sessions.get(*known));
        let old = known.and_then(Session::will).map_or(0, |will| will.message.size());
        if self.will_bytes - old + new > self.limits.will_bytes {
            let cause = "wills take too much memory (limits.will_bytes)";
            return Err(Fault::new(ReasonCode::QuotaExceeded, cause));
        }
        Ok(())
    }

    pub(super) fn check_user_properties(&self, properties: Properties<'_>) -> Result<(), Fault> {
        if properties.user_properties().count() > self.limits.user_properties {
            let cause = "too many user properties (limits.user_properties)";
            return Err(Fault::new(ReasonCode::QuotaExceeded, cause));
        }
        Ok(())
    }

    /// The limits on a client's topic name beyond its syntax.
    pub(super) fn check_topic(&self, name: &[u8]) -> Result<(), &'static str> {
        if name.len() > self.limits.topic_bytes {
            return Err("the topic name is too long (limits.topic_bytes)");
        }
        if memchr::memchr_iter(b'/', name).count() >= self.limits.topic_levels {
            return Err("the topic name has too many levels (limits.topic_levels)");
        }
        Ok(())
    }

    /// Lets the client in, unless it does not take as much as has to be said to it.
    fn begin(
        &mut self,
        id: ConnectionId,
        connect: &Connect<'_>,
        principal: Principal,
        now: Now,
    ) -> Result<(), Fault> {
        if let Some(session) = self.elsewhere(principal.account, connect.client_id) {
            self.move_to(id, session, principal);
            return Ok(());
        }
        let client_id: Arc<str> = match connect.client_id {
            "" => self.assign_client_id(principal.account),
            given => given.into(),
        };
        let granted = expiry_asked(connect).min(self.limits.session_expiry_secs);
        let keep_alive = self.keep_alive(connect.keep_alive);
        let mut block = Vec::new();
        if connect.version == Version::V5 {
            self.connack_properties(connect, &client_id, granted, keep_alive, &mut block)?;
        }
        let (session_id, present) =
            match self.claim(&client_id, connect.clean_start, principal, granted, now) {
                Claim::Here { session, resumed } => (session, resumed),
                Claim::There(session) => {
                    self.move_to(id, session, principal);
                    return Ok(());
                }
                Claim::Refused => {
                    let cause = "the client identifier is another's (auth.bind_client_id)";
                    let fault = Fault::new(ReasonCode::NotAuthorized, cause);
                    return Err(self.refuse_connect(id, connect, fault, now));
                }
            };
        if let Some(session) = self.sessions.get_mut(session_id) {
            let before = std::mem::replace(&mut session.principal, principal);
            if before.class != principal.class {
                self.reclassify(session_id);
            }
        }
        self.attach(session_id, id, connect, granted, !present);
        if connect.version == Version::V5 {
            self.describe_session(connect, session_id, &mut block);
        }
        if self.holder_of(session_id) != 0 || self.has_ended() {
            // Also where a session that was to last has just been cleared.
            self.hold(id);
        }
        let Some(peer) = self.go_online(id, session_id, &principal, connect) else {
            return Ok(());
        };
        if !principal.is_broker() {
            info!(peer = %peer.address, transport = peer.transport, client = &*client_id,
                version = %connect.version, resumed = present, "connected");
        }
        self.note_accepted(id, session_id, present, now);

        let connack = Connack {
            session_present: present,
            reason: ReasonCode::Success,
            properties: Properties::from_raw(&block),
        };
        self.send(id, &Packet::Connack(connack));
        self.schedule(id, now);
        self.pump(session_id, now);
        Ok(())
    }

    /// What the connection is from now on; where its client is.
    fn go_online(
        &mut self,
        id: ConnectionId,
        session_id: SessionId,
        principal: &Principal,
        connect: &Connect<'_>,
    ) -> Option<Peer> {
        let keep_alive_secs = self.keep_alive(connect.keep_alive);
        let connection = self.connections.get_mut(id)?;
        connection.stage = Stage::Online(session_id);
        connection.party = Party::from(principal);
        self.commons.arrive(principal.class);
        let stamp = Stamp::new(principal).filter(|_| self.dialect.stamp);
        connection.stamp = stamp.map(Box::new);
        connection.keep_alive_secs = keep_alive_secs;
        let aliases = connect.properties.topic_alias_maximum().unwrap_or(0);
        let aliases = aliases.min(self.limits.topic_aliases_out);
        let names = self.limits.topic_alias_bytes;
        connection.aliases_out = (aliases > 0).then(|| Box::new(AliasesOut::new(aliases, names)));
        Some(connection.peer)
    }

    /// The session's client is there: on this connection, with this will, and with an expiry of so
    /// many seconds.
    fn attach(
        &mut self,
        session_id: SessionId,
        id: ConnectionId,
        connect: &Connect<'_>,
        expiry_secs: u32,
        fresh: bool,
    ) {
        let quota = connect.properties.receive_maximum().unwrap_or(RECEIVE_MAXIMUM);
        // [MQTT-3.1.3-9]: its delay has not passed, so the old will is never published.
        self.drop_will(session_id);
        let Some(session) = self.sessions.get_mut(session_id) else { return };
        session.connection = Some(id);
        session.expiry_secs = expiry_secs;
        session.left = None;
        session.ends = None;
        let inflight = match session.principal.is_broker() {
            // It does much with one commit, and the next while that is published.
            true => self.limits.inflight.saturating_mul(MODULE_WINDOWS),
            false => self.limits.inflight,
        };
        session.outbound.connect(quota.min(inflight).max(1));
        session.receive_anew();
        if let Some(rare) = &session.rare {
            rare.presence.set_online(true);
        }
        self.note_session(session_id, fresh);
        if let Some(will) = &connect.will {
            let will = stored_will(will);
            self.will_bytes += will.message.size();
            self.unsettled.push_back(Unsettled::NewWill(session_id));
            let Some(session) = self.sessions.get_mut(session_id) else { return };
            session.rare().will = Some(will);
        }
        let Some(session) = self.sessions.get_mut(session_id) else { return };
        session.shrink();
        self.session_timers.set(session_id, &mut session.deadline, None);
    }

    /// The client's session, if it lives on another shard.
    fn elsewhere(&self, account: u64, client_id: &str) -> Option<SessionId> {
        if self.shards == 1 {
            return None;
        }
        let session = *self.commons.roster.get(&(account, client_id.into()))?;
        (session.shard() != self.number).then_some(session)
    }

    /// Whether whoever comes may have a session. What is the program's own nobody else may.
    fn may_take_over(&self, known: SessionId, by: &Principal) -> bool {
        let Some(session) = self.sessions.get(known) else { return true };
        let of = &session.principal;
        by.is_broker() || !of.is_broker() && self.authenticate.may_take_over(of, by)
    }

    /// The client's session, taken from the connection that has it.
    fn claim(
        &mut self,
        client_id: &Arc<str>,
        clean_start: bool,
        principal: Principal,
        expiry_secs: u32,
        now: Now,
    ) -> Claim {
        let owner = (principal.account, Arc::clone(client_id));
        let mine = |shard: &Self| {
            let known = shard.commons.roster.get(&owner).map(|session| *session);
            known.filter(|session| session.shard() == shard.number)
        };
        if let Some(known) = mine(self) {
            if !self.may_take_over(known, &principal) {
                return Claim::Refused;
            }
            self.catch_up(known, now);
            self.take_over(known, now);
        }
        // Either may have ended the session.
        if let Some(session) = mine(self) {
            if !clean_start && self.is_of_module(session) == principal.is_broker() {
                return Claim::Here { session, resumed: true };
            }
            let cause = if clean_start { "a clean start" } else { "its name is that of a module" };
            self.end_session(session, cause, now);
        }
        let commons = Arc::clone(&self.commons);
        match commons.roster.entry(owner) {
            // Another shard was faster.
            Entry::Occupied(known) => Claim::There(*known.get()),
            Entry::Vacant(place) => {
                let holder = self.new_holder(expiry_secs);
                let new = Session::new(Arc::clone(client_id), principal, holder);
                let session = *place.insert(self.add_session(new));
                Claim::Here { session, resumed: false }
            }
        }
    }

    /// What CONNACK says beside its code. Fails when that is more than the client takes.
    fn connack_properties(
        &self,
        connect: &Connect<'_>,
        client_id: &str,
        granted: u32,
        keep_alive: u16,
        block: &mut Vec<u8>,
    ) -> Result<(), Fault> {
        let limits = &self.limits;
        if granted != expiry_asked(connect) {
            Property::SessionExpiryInterval(granted).append(block);
        }
        if limits.receive_maximum < u16::MAX {
            Property::ReceiveMaximum(limits.receive_maximum).append(block);
        }
        if self.dialect.max_qos < QoS::ExactlyOnce {
            Property::MaximumQoS(self.dialect.max_qos).append(block);
        }
        let packet_max = u32::try_from(limits.packet_bytes).unwrap_or(u32::MAX);
        Property::MaximumPacketSize(packet_max).append(block);
        if connect.client_id.is_empty() {
            Property::AssignedClientIdentifier(client_id).append(block);
        }
        if limits.topic_aliases > 0 {
            Property::TopicAliasMaximum(limits.topic_aliases).append(block);
        }
        if keep_alive != connect.keep_alive {
            Property::ServerKeepAlive(keep_alive).append(block);
        }
        let packet_max = connect.properties.maximum_packet_size().unwrap_or(u32::MAX) as usize;
        if connack_len(block) > packet_max {
            // [MQTT-3.1.2-24]; and nothing goes before a CONNACK [MQTT-3.2.0-1].
            let cause = "CONNACK is larger than the client's Maximum Packet Size";
            return Err(Fault::new(ReasonCode::PacketTooLarge, cause));
        }
        if connect.properties.request_response_information() == Some(true) {
            // A client identifier may hold anything; a topic level may not.
            let level: String = client_id
                .chars()
                .map(|c| if matches!(c, '/' | '+' | '#') { '_' } else { c })
                .collect();
            let start = block.len();
            Property::ResponseInformation(&format!("response/{level}")).append(block);
            // It is a courtesy, and no reason for a CONNACK too large to send.
            if connack_len(block) > packet_max {
                block.truncate(start);
            }
        }
        Ok(())
    }

    /// Seconds of keep alive, given what the client asks for.
    fn keep_alive(&self, asked: u16) -> u16 {
        match self.limits.keep_alive_secs {
            0 => asked,
            imposed if asked == 0 => imposed,
            imposed => asked.min(imposed),
        }
    }

    /// A client id that nobody has [MQTT-3.2.2-16] and nobody guesses.
    fn assign_client_id(&mut self, account: u64) -> Arc<str> {
        loop {
            self.assigned += 1;
            // SipHash does not tell its input, so one such id does not lead to the next.
            let half = |half: u8| {
                let mut hasher = DefaultHasher::new();
                (self.seed, self.number, self.assigned, half).hash(&mut hasher);
                hasher.finish()
            };
            let id: Arc<str> = format!("auto-{:016x}{:016x}", half(0), half(1)).into();
            if !self.commons.roster.contains_key(&(account, Arc::clone(&id))) {
                return id;
            }
        }
    }

    /// A new connection wants this client's session: the old one ends [MQTT-3.1.4-3].
    fn take_over(&mut self, known: SessionId, now: Now) {
        let Some(old) = self.sessions.get(known).and_then(|session| session.connection) else {
            return;
        };
        let code = close_code(ReasonCode::SessionTakenOver);
        self.log_end(old, known, (code, &"another connection took the client id over"), now);
        if let Some(connection) = self.connections.get(old)
            && connection.version == Version::V5
        {
            let cause = "another connection uses this client identifier";
            self.send_disconnect(old, Fault::new(ReasonCode::SessionTakenOver, cause));
        }
        self.close(old, false, now);
    }

    /// Appends a DISCONNECT that says why, with words where the client wants and takes them.
    pub(super) fn send_disconnect(&mut self, id: ConnectionId, fault: Fault) {
        let Some(connection) = self.connections.get(id) else { return };
        let mut block = Vec::new();
        if connection.problem_information {
            Property::ReasonString(&fault.cause.to_string()).append(&mut block);
        }
        // [MQTT-3.14.2-3]: fixed header and reason code take 5 bytes at most.
        if block.len() + 8 > connection.packet_max as usize {
            block.clear();
        }
        let properties = Properties::from_raw(&block);
        let reason = match fault.reason.belongs_in(PacketType::Disconnect) {
            true => fault.reason,
            false => ReasonCode::ProtocolError,
        };
        let disconnect = Disconnect { reason, properties };
        if connection.packet_max >= 4 {
            self.send(id, &Packet::Disconnect(disconnect));
        }
    }

    pub(super) fn handle_disconnect(
        &mut self,
        id: ConnectionId,
        session_id: SessionId,
        disconnect: &Disconnect<'_>,
        now: Now,
    ) -> Result<(), Fault> {
        self.check_user_properties(disconnect.properties)?;
        let Some(session) = self.sessions.get_mut(session_id) else { return Ok(()) };
        if let Some(secs) = disconnect.properties.session_expiry_interval() {
            if session.expiry_secs == 0 && secs != 0 {
                return Err(Fault::new(
                    ReasonCode::ProtocolError,
                    "DISCONNECT prolongs a session that CONNECT gave no expiry interval",
                ));
            }
            session.expiry_secs = secs.min(self.limits.session_expiry_secs);
        }
        let graceful = disconnect.reason == ReasonCode::Success;
        if graceful {
            // [MQTT-3.14.4-3].
            self.drop_will(session_id);
        }
        let cause = format_args!("the client said DISCONNECT: {}", disconnect.reason);
        self.log_end(id, session_id, (close_code(disconnect.reason), &cause), now);
        self.close(id, graceful, now);
        Ok(())
    }
}

/// Bytes of a CONNACK of MQTT 5 with these properties.
pub(super) fn connack_len(block: &[u8]) -> usize {
    let remaining = 2 + varint_len(block.len() as u32) + block.len();
    1 + varint_len(remaining as u32) + remaining
}

/// Session Expiry Interval in seconds; for MQTT 3 what its Clean Session means.
fn expiry_asked(connect: &Connect<'_>) -> u32 {
    match connect.version {
        Version::V5 => connect.properties.session_expiry_interval().unwrap_or(0),
        _ if connect.clean_start => 0,
        _ => NEVER,
    }
}

fn stored_will(will: &longshore_codec::Will<'_>) -> Will {
    let mut properties = Vec::new();
    forwardable(will.properties, |_| false, &mut properties);
    let parts = Parts {
        topic: will.topic.as_bytes(),
        properties: &properties,
        payload: will.payload,
        shared: None,
    };
    Will {
        message: Arc::new(Message::new(parts, will.qos, will.retain, None)),
        delay_secs: will.properties.will_delay_interval().unwrap_or(0),
        expiry_secs: will.properties.message_expiry_interval(),
    }
}
