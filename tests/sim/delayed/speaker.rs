//! A client, and what it says.

use std::collections::{BTreeMap, VecDeque};

use longshore_codec::{
    Ack, Connect, Disconnect, Packet, PacketId, Properties, Property, Publish, QoS, ReasonCode,
    RetainHandling, Subscribe, SubscribeOptions, Subscriptions, TopicFilters, Unsubscribe, Version,
    encode,
};

use super::FILTERS;
use crate::sim::choices::Choices;

/// A packet on its way to the broker.
#[derive(Clone, Debug)]
pub(crate) struct Said {
    pub(crate) bytes: Vec<u8>,
    pub(crate) meaning: Meaning,
}

/// What it changes once the broker has it.
#[derive(Clone, Debug)]
pub(crate) enum Meaning {
    Connect {
        clean: bool,
        lasting: bool,
        is_wide: bool,
    },
    Publish {
        serial: u64,
        topic: &'static str,
        qos: QoS,
        id: u16,
        retain: bool,
        clears: bool,
    },
    Subscribe {
        filter: &'static str,
        qos: QoS,
        no_local: bool,
    },
    Unsubscribe {
        filter: &'static str,
        id: u16,
    },
    /// PUBACK, or PUBCOMP.
    Done {
        id: u16,
    },
    Received {
        id: u16,
    },
    Released {
        id: u16,
    },
    Disconnect {
        for_good: bool,
    },
}

impl Said {
    fn new(packet: &Packet<'_>, meaning: Meaning) -> Self {
        let mut bytes = Vec::new();
        encode(Version::V5, packet, &mut bytes);
        Self { bytes, meaning }
    }

    /// Whether it is a message that no group gets.
    pub(crate) fn is_plain_publish(&self) -> bool {
        matches!(&self.meaning, Meaning::Publish { topic, .. } if !topic.starts_with('g'))
    }
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Speaker {
    pub(crate) number: usize,
    pub(crate) line: Option<usize>,
    pub(crate) is_connected: bool,
    /// Answers that it keeps for later.
    pub(crate) held: VecDeque<Said>,
    /// Messages of its own that are not acknowledged for good, and the lines they were sent on
    /// last; none once PUBREC came.
    pub(crate) sent: BTreeMap<u16, (usize, Option<Said>)>,
    /// The limits let everything through at once.
    is_wide: bool,
    last_id: u16,
}

impl Speaker {
    pub(crate) fn new(number: usize, is_wide: bool) -> Self {
        Self {
            number,
            line: None,
            is_connected: false,
            held: VecDeque::new(),
            sent: BTreeMap::new(),
            is_wide,
            last_id: 0,
        }
    }

    fn fresh_id(&mut self) -> PacketId {
        loop {
            self.last_id = self.last_id % 5_000 + 1;
            if !self.sent.contains_key(&self.last_id) {
                return PacketId::new(self.last_id).expect("1 was added");
            }
        }
    }

    /// CONNECT, on a new line.
    pub(crate) fn begin(&mut self, line: usize, clean: bool, lasting: bool, maximum: u16) -> Said {
        self.line = Some(line);
        self.is_connected = false;
        self.held.clear();
        // The broker could not tell a QoS 1 message that is sent again from a new one.
        self.sent.retain(|_, (_, sent)| match sent {
            Some(said) => matches!(said.meaning, Meaning::Publish { qos: QoS::ExactlyOnce, .. }),
            None => true,
        });
        let mut block = Vec::new();
        Property::SessionExpiryInterval(if lasting { 100_000 } else { 0 }).append(&mut block);
        if maximum < u16::MAX {
            Property::ReceiveMaximum(maximum).append(&mut block);
        }
        let client_id = format!("c{}", self.number);
        let connect = Connect {
            version: Version::V5,
            clean_start: clean,
            keep_alive: 0,
            client_id: &client_id,
            will: None,
            username: None,
            password: None,
            properties: Properties::from_raw(&block),
        };
        let is_wide = self.is_wide && maximum == u16::MAX;
        Said::new(&Packet::Connect(connect), Meaning::Connect { clean, lasting, is_wide })
    }

    /// The line is gone.
    pub(crate) fn end(&mut self, line: usize) {
        if self.line == Some(line) {
            self.line = None;
            self.is_connected = false;
        }
    }

    pub(crate) fn publish(
        &mut self,
        serial: u64,
        topic: &'static str,
        qos: QoS,
        retain: bool,
        clears: bool,
    ) -> Said {
        let payload = serial.to_be_bytes();
        let packet_id = (qos != QoS::AtMostOnce).then(|| self.fresh_id());
        let publish = Publish {
            dup: false,
            qos,
            retain,
            topic: topic.as_bytes(),
            packet_id,
            properties: Properties::none(),
            payload: if clears { &[] } else { &payload },
        };
        let id = packet_id.map_or(0, Into::into);
        let meaning = Meaning::Publish { serial, topic, qos, id, retain, clears };
        let said = Said::new(&Packet::Publish(publish), meaning);
        if id > 0 {
            self.sent.insert(id, (self.line.unwrap_or(0), Some(said.clone())));
        }
        said
    }

    /// No client is in two groups that get the same messages: nobody could tell them apart.
    fn filter(&self, choices: &mut Choices) -> &'static str {
        match *choices.pick(&FILTERS) {
            "$share/s/g/2" if !self.number.is_multiple_of(2) => "$share/t/g/2",
            "$share/t/g/2" if self.number.is_multiple_of(2) => "$share/s/g/2",
            filter => filter,
        }
    }

    pub(crate) fn subscribe(&mut self, choices: &mut Choices) -> Said {
        let filter = self.filter(choices);
        let shared = filter.starts_with('$');
        let qos = match filter.as_bytes().last() {
            Some(b'0') => QoS::AtMostOnce,
            Some(b'1') if shared => QoS::AtLeastOnce,
            Some(b'2') if shared => QoS::ExactlyOnce,
            _ => *choices.pick(&[QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce]),
        };
        let no_local = !shared && choices.percent(20);
        let retain_handling = RetainHandling::Send;
        let options =
            SubscribeOptions { qos, no_local, retain_as_published: false, retain_handling };
        let mut filters = Vec::new();
        Subscriptions::append(filter, options, &mut filters);
        let subscribe = Subscribe {
            packet_id: self.fresh_id(),
            properties: Properties::none(),
            filters: Subscriptions::decode(Version::V5, &filters).expect("it is legal"),
        };
        Said::new(&Packet::Subscribe(subscribe), Meaning::Subscribe { filter, qos, no_local })
    }

    pub(crate) fn unsubscribe(&mut self, choices: &mut Choices) -> Said {
        let filter = self.filter(choices);
        let mut filters = Vec::new();
        TopicFilters::append(filter, &mut filters);
        let packet_id = self.fresh_id();
        let unsubscribe = Unsubscribe {
            packet_id,
            properties: Properties::none(),
            filters: TopicFilters::decode(&filters).expect("it is legal"),
        };
        Said::new(
            &Packet::Unsubscribe(unsubscribe),
            Meaning::Unsubscribe { filter, id: packet_id.get() },
        )
    }

    pub(crate) fn disconnect(&mut self, for_good: bool) -> Said {
        self.is_connected = false;
        let mut block = Vec::new();
        if for_good {
            Property::SessionExpiryInterval(0).append(&mut block);
        }
        let properties = Properties::from_raw(&block);
        let disconnect = Disconnect { reason: ReasonCode::Success, properties };
        Said::new(&Packet::Disconnect(disconnect), Meaning::Disconnect { for_good })
    }

    /// What was not acknowledged for good on earlier lines is sent again, if the session goes on.
    pub(crate) fn resume(&mut self, line: usize, present: bool) -> Vec<Said> {
        if !present {
            self.sent.retain(|_, (of, _)| *of == line);
        }
        let mut again = Vec::new();
        for (id, (of, sent)) in self.sent.iter_mut().filter(|(_, (of, _))| *of != line) {
            *of = line;
            again.push(match sent {
                Some(said) => {
                    let mut said = said.clone();
                    said.bytes[0] |= 0b1000;
                    said
                }
                None => release(*id),
            });
        }
        again
    }
}

fn ack(id: u16) -> Ack<'static> {
    Ack::success(PacketId::new(id).expect("not zero"))
}

pub(crate) fn release(id: u16) -> Said {
    Said::new(&Packet::Pubrel(ack(id)), Meaning::Released { id })
}

pub(crate) fn puback(id: u16) -> Said {
    Said::new(&Packet::Puback(ack(id)), Meaning::Done { id })
}

pub(crate) fn pubrec(id: u16) -> Said {
    Said::new(&Packet::Pubrec(ack(id)), Meaning::Received { id })
}

pub(crate) fn pubcomp(id: u16) -> Said {
    Said::new(&Packet::Pubcomp(ack(id)), Meaning::Done { id })
}
