//! What clients say: packets of random content, most of them legal.

use longshore_codec::{
    Ack, Connect, Disconnect, Packet, PacketId, Properties, Property, Publish, QoS, ReasonCode,
    RetainHandling, Subscribe, SubscribeOptions, Subscriptions, TopicFilters, Unsubscribe, Version,
    Will, encode,
};

use super::choices::Choices;
use super::client::{Client, Repetition, Sent};
use super::setup::Setup;

/// A client about to say something, and what it chooses by.
pub(crate) struct Speaker<'a> {
    pub(crate) client: &'a mut Client,
    pub(crate) choices: &'a mut Choices,
    pub(crate) setup: &'a Setup,
    /// Numbers all messages of the run, so that no two are the same.
    pub(crate) serial: &'a mut u64,
}

pub(crate) const QOS: [QoS; 3] = [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce];
const LEVELS: [&str; 4] = ["a", "b", "c", ""];

impl Speaker<'_> {
    fn is_v5(&self) -> bool {
        self.client.version == Version::V5
    }

    fn encode(&self, packet: &Packet<'_>) -> Vec<u8> {
        let mut bytes = Vec::new();
        encode(self.client.version, packet, &mut bytes);
        bytes
    }

    /// A topic name; those below `w` are what wills are published to, too.
    fn topic(&mut self) -> String {
        if self.choices.percent(5) {
            return format!("w/{}", self.choices.pick(&self.setup.client_ids));
        }
        let mut levels = vec![*self.choices.pick(&["a", "b", "$s"])];
        for _ in 0..self.choices.below(self.setup.levels) {
            levels.push(LEVELS[self.choices.weighted(&[8, 8, 3, 1])]);
        }
        levels.join("/")
    }

    fn plain_filter(&mut self) -> String {
        let mut filter = self.topic();
        if self.choices.percent(10) {
            return "#".to_owned();
        }
        if self.choices.percent(50) {
            let levels: Vec<&str> = filter.split('/').collect();
            let wild = self.choices.place(levels.len());
            let plus = |(at, level)| if at == wild { "+" } else { level };
            filter = levels.iter().copied().enumerate().map(plus).collect::<Vec<_>>().join("/");
        }
        if self.choices.percent(10) {
            let levels: Vec<&str> = filter.split('/').collect();
            let at = self.choices.place(levels.len());
            let other = *self.choices.pick(&LEVELS);
            let list = |(place, level): (usize, &&str)| match place == at && *level != "+" {
                true => format!("{other},{level}"),
                false => (*level).to_owned(),
            };
            filter = levels.iter().enumerate().map(list).collect::<Vec<_>>().join("/");
        }
        match self.choices.percent(25) {
            true => filter + "/#",
            false => filter,
        }
    }

    fn filter(&mut self) -> String {
        if self.choices.percent(self.setup.rude_percent) {
            return (*self.choices.pick(&["a#", "$share//a", "", "$share/g", "+a"])).to_owned();
        }
        match self.choices.percent(self.setup.shared_percent) {
            true => self.shared_filter(),
            false => self.plain_filter(),
        }
    }

    /// A client is in groups of one name whose filters are apart. Or else it might get a message
    /// from two groups, and when it goes away nobody could tell which copy is whose.
    fn shared_filter(&mut self) -> String {
        // What the broker calls a client is not known from the start.
        let own = self.client.client_id.strip_prefix('c').and_then(|own| own.bytes().last());
        let odd = own.is_some_and(|digit| digit % 2 == 1);
        let name = if odd && self.setup.groups > 1 { "h" } else { "g" };
        format!("$share/{name}/{}", self.choices.pick(&["a", "a/+", "a/+/+", "$s/#"]))
    }

    /// Most payloads are told apart. Those that are not go where there are no groups.
    fn payload(&mut self, topic: &str) -> Vec<u8> {
        if !topic.starts_with(['a', '$']) && self.choices.percent(20) {
            return Vec::new();
        }
        *self.serial += 1;
        let len = match self.choices.weighted(&[70, 10, 8, 8, 4]) {
            0 => 8,
            1 => 100,
            2 => self.choices.within(1_020, 1_030) as usize,
            3 => 2_000,
            _ => 20_000,
        };
        let mut payload = self.serial.to_be_bytes().to_vec();
        payload.resize(len, *self.serial as u8);
        payload
    }

    pub(crate) fn connect(&mut self) -> Vec<u8> {
        let mut block = Vec::new();
        if self.is_v5() {
            self.connect_properties(&mut block);
        }
        let topic = format!("w/{}", self.client.client_id.replace(['+', '#'], ""));
        let (mut will_block, payload) = (Vec::new(), self.payload(&topic));
        let will = self.choices.percent(40);
        if will && self.is_v5() {
            self.will_properties(&mut will_block);
        }
        let will = will.then(|| Will {
            qos: *self.choices.pick(&QOS),
            retain: self.choices.percent(30) && self.setup.retained_wills,
            topic: &topic,
            payload: &payload,
            properties: Properties::from_raw(&will_block),
        });
        let client_id = self.client.client_id.clone();
        // Only with a clean session may MQTT 3.1.1 leave the identifier out.
        let must_be_clean = client_id.is_empty() && self.client.version < Version::V5;
        let clean_start = must_be_clean || self.choices.percent(25);
        let connect = Connect {
            version: self.client.version,
            clean_start,
            keep_alive: *self.choices.pick(&[0, 0, 5, 30]),
            client_id: &client_id,
            will,
            username: None,
            password: None,
            properties: Properties::from_raw(&block),
        };
        self.encode(&Packet::Connect(connect))
    }

    fn connect_properties(&mut self, block: &mut Vec<u8>) {
        if self.choices.percent(75) {
            let secs = *self.choices.pick(&[100_000, u32::MAX, 1, 20, 0]);
            Property::SessionExpiryInterval(secs).append(block);
        }
        if self.choices.percent(40) {
            let maximum = *self.choices.pick(&[3, 1, 2, 10, u16::MAX]);
            Property::ReceiveMaximum(maximum).append(block);
        }
        if self.choices.percent(25) {
            let bytes = *self.choices.pick(&[1_000, 100, 60, 1_080, 5_000, 20, 6]);
            Property::MaximumPacketSize(bytes).append(block);
        }
        if self.choices.percent(40) {
            let maximum = *self.choices.pick(&[2, 0, 1, u16::MAX]);
            Property::TopicAliasMaximum(maximum).append(block);
        }
        if self.choices.percent(10) {
            Property::RequestProblemInformation(false).append(block);
        }
        if self.choices.percent(10) {
            Property::RequestResponseInformation(true).append(block);
        }
    }

    fn will_properties(&mut self, block: &mut Vec<u8>) {
        if self.choices.percent(60) {
            let secs = *self.choices.pick(&[5, 0, 1, 60]);
            Property::WillDelayInterval(secs).append(block);
        }
        self.message_properties(block);
    }

    fn message_properties(&mut self, block: &mut Vec<u8>) {
        if self.choices.percent(25) {
            let secs = *self.choices.pick(&[3, 0, 1, 60, u32::MAX]);
            Property::MessageExpiryInterval(secs).append(block);
        }
        if self.choices.percent(10) {
            Property::ContentType("text").append(block);
        }
        for _ in 0..self.choices.weighted(&[80, 15, 5]) {
            Property::UserProperty("key", "value").append(block);
        }
    }

    /// A PUBLISH of any kind that the broker can take.
    pub(crate) fn publish(&mut self) -> Vec<u8> {
        let in_flight = self.client.unacknowledged.len();
        let rude = self.choices.percent(self.setup.rude_percent);
        let has_room = in_flight < usize::from(self.client.receive_maximum) && in_flight < 150;
        let qos = if has_room || rude { *self.choices.pick(&QOS) } else { QoS::AtMostOnce };
        let filter = self.choices.percent(3).then(|| self.plain_filter());
        let filter = filter.filter(|filter| filter.contains(['+', '#']));
        let (topic, payload) = match filter {
            // It deletes what is retained there.
            Some(filter) => (filter, Vec::new()),
            None => {
                let topic = self.topic();
                let payload = self.payload(&topic);
                (topic, payload)
            }
        };
        let retain = self.choices.percent(self.setup.retain_percent);
        let mut block = Vec::new();
        if self.is_v5() {
            self.message_properties(&mut block);
        }
        let packet_id = (qos != QoS::AtMostOnce).then(|| self.client.fresh_id());
        let publish = Publish {
            dup: false,
            qos,
            retain,
            topic: topic.as_bytes(),
            packet_id,
            properties: Properties::from_raw(&block),
            payload: &payload,
        };
        let plain = self.encode(&Packet::Publish(publish));
        if let Some(id) = packet_id {
            let repetition = match qos {
                _ if !topic.starts_with(['a', '$']) => Repetition::Always,
                QoS::ExactlyOnce => Repetition::Known,
                _ => Repetition::Never,
            };
            self.client.unacknowledged.insert(id, Sent::Publish(plain.clone(), repetition));
        }
        let Some((name, alias)) = self.alias(&topic) else { return plain };
        let mut aliased = block.clone();
        Property::TopicAlias(alias).append(&mut aliased);
        let properties = Properties::from_raw(&aliased);
        self.encode(&Packet::Publish(Publish { topic: name.as_bytes(), properties, ..publish }))
    }

    /// How the topic is named if by an alias.
    fn alias(&mut self, topic: &str) -> Option<(String, u16)> {
        if topic.contains(['+', '#']) {
            return None;
        }
        let maximum = self.client.topic_alias_maximum;
        if !self.is_v5() || !self.choices.percent(30) {
            return None;
        }
        if self.choices.percent(self.setup.rude_percent) {
            let topic = if self.choices.percent(50) { "" } else { topic };
            return Some((topic.to_owned(), maximum.saturating_add(1)));
        }
        let alias = 1 + u16::try_from(self.choices.below(u64::from(maximum.clamp(1, 8)))).ok()?;
        if alias > maximum {
            return None;
        }
        if self.client.aliases.get(&alias).is_some_and(|known| known == topic) {
            return Some((String::new(), alias));
        }
        self.client.aliases.insert(alias, topic.to_owned());
        Some((topic.to_owned(), alias))
    }

    /// A PUBLISH or PUBREL once more, with DUP, on the same connection.
    pub(crate) fn repeat(&mut self) -> Option<Vec<u8>> {
        let place = self.choices.place(self.client.unacknowledged.len().max(1));
        let (id, sent) = self.client.unacknowledged.iter().nth(place)?;
        Some(match sent {
            Sent::Publish(_, Repetition::Never) => return None,
            Sent::Publish(packet, _) => {
                let mut packet = packet.clone();
                packet[0] |= 0b1000;
                packet
            }
            Sent::Release => self.encode(&Packet::Pubrel(Ack::success(*id))),
        })
    }

    pub(crate) fn subscribe(&mut self) -> Vec<u8> {
        let count = 1 + self.choices.weighted(&[70, 20, 10]);
        let names: Vec<String> = (0..count).map(|_| self.filter()).collect();
        // A group's message with RETAIN is told from a retained one by its identifier.
        let marked = count == 1 && names[0].starts_with("$share/") && self.choices.percent(50);
        let mut filters = Vec::new();
        for filter in &names {
            let shared = filter.starts_with("$share/");
            let rude = self.choices.percent(self.setup.rude_percent);
            let options = SubscribeOptions {
                qos: *self.choices.pick(&QOS),
                no_local: self.is_v5() && (!shared || rude) && self.choices.percent(20),
                retain_as_published: self.is_v5()
                    && (!shared || marked)
                    && self.choices.percent(30),
                retain_handling: match self.choices.below(3) {
                    1 if self.is_v5() => RetainHandling::SendIfNew,
                    2 if self.is_v5() => RetainHandling::DoNotSend,
                    _ => RetainHandling::Send,
                },
            };
            Subscriptions::append(filter, options, &mut filters);
        }
        let mut block = Vec::new();
        if self.is_v5() && marked {
            Property::SubscriptionIdentifier(3).append(&mut block);
        } else if self.is_v5() && self.choices.percent(40) {
            let identifier = *self.choices.pick(&[1, 2, 200, 20_000]);
            Property::SubscriptionIdentifier(identifier).append(&mut block);
        }
        let subscribe = Subscribe {
            packet_id: self.client.fresh_id(),
            properties: Properties::from_raw(&block),
            filters: Subscriptions::decode(Version::V5, &filters).expect("it is legal"),
        };
        self.encode(&Packet::Subscribe(subscribe))
    }

    /// An UNSUBSCRIBE, of `known` filters mostly.
    pub(crate) fn unsubscribe(&mut self, known: &[String]) -> Vec<u8> {
        let mut filters = Vec::new();
        for _ in 0..1 + self.choices.weighted(&[80, 20]) {
            let filter = match known.is_empty() || self.choices.percent(15) {
                true => self.filter(),
                false => self.choices.pick(known).clone(),
            };
            TopicFilters::append(&filter, &mut filters);
        }
        let unsubscribe = Unsubscribe {
            packet_id: self.client.fresh_id(),
            properties: Properties::none(),
            filters: TopicFilters::decode(&filters).expect("it is legal"),
        };
        self.encode(&Packet::Unsubscribe(unsubscribe))
    }

    pub(crate) fn disconnect(&mut self) -> Vec<u8> {
        let mut block = Vec::new();
        let reason = match self.choices.percent(30) {
            true => ReasonCode::DisconnectWithWill,
            false => ReasonCode::Success,
        };
        if self.is_v5() && self.choices.percent(30) {
            let secs = *self.choices.pick(&[0, 10, 100_000]);
            Property::SessionExpiryInterval(secs).append(&mut block);
        }
        let properties = Properties::from_raw(&block);
        self.encode(&Packet::Disconnect(Disconnect { reason, properties }))
    }

    pub(crate) fn ping(&self) -> Vec<u8> {
        self.encode(&Packet::Pingreq)
    }

    /// An acknowledgement that comes again, early, or for nothing. Not for what will be sent next:
    /// no client knows that.
    pub(crate) fn stray_ack(&mut self) -> Vec<u8> {
        let strange = PacketId::new(60_000).expect("not zero");
        let heard = &self.client.heard;
        let id = match heard.is_empty() || self.choices.percent(20) {
            true => strange,
            false => *self.choices.pick(heard),
        };
        let mut ack = Ack::success(id);
        let packets: [fn(Ack<'_>) -> Packet<'_>; 4] = [
            |ack| Packet::Puback(ack),
            |ack| Packet::Pubrec(ack),
            |ack| Packet::Pubrel(ack),
            |ack| Packet::Pubcomp(ack),
        ];
        let place = self.choices.place(packets.len());
        if self.is_v5() && place < 2 && self.choices.percent(30) {
            ack.reason = ReasonCode::UnspecifiedError;
        }
        self.encode(&packets[place](ack))
    }

    /// Bytes that are no packet, or none that a client may send.
    pub(crate) fn nonsense(&mut self) -> Vec<u8> {
        let bytes: &[u8] = match self.choices.below(8) {
            0 => b"\x00\x00",
            1 => b"\xf0\x00",
            2 => b"\x10\x0d\0\x04MQTT\x04\x02\0\x3c\0\x01c",
            3 => b"\x20\x02\0\0",
            4 => b"\x30\xff\xff\xff\x7f",
            5 => b"\x30\x06\0\x03a/+x",
            6 => b"\x82\x02\0\x01",
            _ => b"\x36\x03\0\x01a",
        };
        bytes.to_vec()
    }
}
