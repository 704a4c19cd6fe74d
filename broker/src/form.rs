//! PUBLISH as it goes to receivers: encoded at most once for all that get the same bytes.

use std::num::NonZeroU32;

use bytes::Bytes;
use longshore_codec::wire::{put_str, put_u16, put_u32, put_varint, varint_len};
use longshore_codec::{PacketId, Property, QoS, Version};

use crate::clock::Wall;
use crate::connection::{Connection, Naming};
use crate::message::{Expiry, Identifiers, Parts};
use crate::output::Spare;

/// What distinguishes one delivery of a message from the next.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Delivery<'a> {
    pub(crate) id: Option<PacketId>,
    pub(crate) qos: QoS,
    pub(crate) retain: bool,
    pub(crate) duplicate: bool,
    pub(crate) identifiers: &'a Identifiers,
}

impl Delivery<'_> {
    fn first_byte(&self) -> u8 {
        0x30 | u8::from(self.duplicate) << 3 | (self.qos as u8) << 1 | u8::from(self.retain)
    }
}

/// The packet is larger than its receiver takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TooLarge;

/// A message on its way through one turn, and its encoded forms.
///
/// Receivers differ in protocol version and in whether the packet has an id: four forms. RETAIN,
/// QoS and the id itself are patched after copying.
#[derive(Debug, Default)]
pub(crate) struct Forms {
    scratch: Vec<u8>,
    made: [Option<Form>; 4],
}

#[derive(Clone, Copy, Debug)]
struct Form {
    start: usize,
    /// Bytes to copy: the packet, less a shared payload.
    len: usize,
    /// Bytes of the packet.
    total: usize,
    id_at: usize,
}

/// A message to be encoded.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Source<'a> {
    pub(crate) parts: Parts<'a>,
    pub(crate) expiry: Option<Expiry>,
    /// The publisher's own packet, when receivers of the same kind can have it as it is.
    pub(crate) packet: Option<Packet<'a>>,
}

/// A PUBLISH as it came in.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Packet<'a> {
    pub(crate) bytes: &'a [u8],
    pub(crate) v5: bool,
    pub(crate) with_id: bool,
    pub(crate) header_len: usize,
}

impl Forms {
    /// Forgets the last message.
    #[inline]
    pub(crate) fn clear(&mut self) {
        self.made = [None; 4];
        self.scratch.clear();
    }

    /// Appends the message to the connection's output; the bytes of the packet.
    #[inline]
    pub(crate) fn append(
        &mut self,
        source: &Source<'_>,
        delivery: &Delivery<'_>,
        connection: &mut Connection,
        spare: &mut Spare,
        wall: Wall,
    ) -> Result<usize, TooLarge> {
        let v5 = connection.version == Version::V5;
        if v5 && (!delivery.identifiers.is_empty() || connection.aliases_out.is_some()) {
            return append_single(source, delivery, connection, spare, wall);
        }
        let kind = usize::from(v5) << 1 | usize::from(delivery.id.is_some());
        let reuse = source
            .packet
            .filter(|packet| packet.v5 == v5 && packet.with_id == delivery.id.is_some());
        let (bytes, total, id_at) = if let Some(packet) = reuse {
            let shared = source.parts.shared.map_or(0, Bytes::len);
            let copied = &packet.bytes[..packet.bytes.len() - shared];
            (copied, packet.bytes.len(), packet.header_len + 2 + source.parts.topic.len())
        } else {
            let form = match self.made[kind] {
                Some(form) => form,
                None => {
                    let form = self.encode(source, v5, delivery.id.is_some(), wall);
                    self.made[kind] = Some(form);
                    form
                }
            };
            (&self.scratch[form.start..form.start + form.len], form.total, form.id_at)
        };
        if total > connection.packet_max as usize {
            return Err(TooLarge);
        }
        let out = connection.output.tail(spare);
        let start = out.len();
        out.extend_from_slice(bytes);
        out[start] = delivery.first_byte();
        if let Some(id) = delivery.id {
            out[start + id_at..start + id_at + 2].copy_from_slice(&id.get().to_be_bytes());
        }
        if let Some(payload) = source.parts.shared {
            connection.output.share(payload.clone());
        }
        Ok(total)
    }

    fn encode(&mut self, source: &Source<'_>, v5: bool, with_id: bool, wall: Wall) -> Form {
        let start = self.scratch.len();
        let layout = Layout::of(source, v5, with_id, &[], Naming::Plain, wall);
        let id = if with_id { Some(PacketId::MIN) } else { None };
        let id_at = layout.write(source, 0, id, &mut self.scratch);
        if source.parts.shared.is_none() {
            self.scratch.extend_from_slice(source.parts.payload);
        }
        Form { start, len: self.scratch.len() - start, total: layout.total(), id_at }
    }
}

/// Appends a delivery that no other receiver shares: with identifiers or an alias; its bytes.
pub(crate) fn append_single(
    source: &Source<'_>,
    delivery: &Delivery<'_>,
    connection: &mut Connection,
    spare: &mut Spare,
    wall: Wall,
) -> Result<usize, TooLarge> {
    let topic = source.parts.topic;
    let mut naming = connection.aliases_out.as_ref().map_or(Naming::Plain, |out| out.name(topic));
    let identifiers = delivery.identifiers.as_slice();
    let with_id = delivery.id.is_some();
    let mut layout = Layout::of(source, true, with_id, identifiers, naming, wall);
    if layout.total() > connection.packet_max as usize && matches!(naming, Naming::Introduced(_)) {
        // Without the 3 bytes of a new alias it may fit.
        naming = Naming::Plain;
        layout = Layout::of(source, true, with_id, identifiers, naming, wall);
    }
    if layout.total() > connection.packet_max as usize {
        return Err(TooLarge);
    }
    if let (Naming::Introduced(alias), Some(out)) = (naming, &mut connection.aliases_out) {
        out.introduce(topic, alias);
    }
    let out = connection.output.tail(spare);
    layout.write(source, delivery.first_byte(), delivery.id, out);
    match source.parts.shared {
        Some(payload) => connection.output.share(payload.clone()),
        None => out.extend_from_slice(source.parts.payload),
    }
    Ok(layout.total())
}

/// The sizes of one PUBLISH.
struct Layout<'a> {
    v5: bool,
    topic: &'a [u8],
    alias: Option<u16>,
    expiry: Option<u32>,
    identifiers: &'a [NonZeroU32],
    properties_len: usize,
    remaining: usize,
}

impl<'a> Layout<'a> {
    fn of(
        source: &Source<'a>,
        v5: bool,
        with_id: bool,
        identifiers: &'a [NonZeroU32],
        naming: Naming,
        wall: Wall,
    ) -> Self {
        let (topic, alias) = match naming {
            Naming::Plain => (source.parts.topic, None),
            Naming::Introduced(alias) => (source.parts.topic, Some(alias)),
            Naming::Alias(alias) => (&[][..], Some(alias)),
        };
        let expiry = source.expiry.map(|expiry| expiry.secs_left(wall));
        let mut remaining = 2 + topic.len() + 2 * usize::from(with_id) + source.parts.payload.len();
        let mut properties_len = 0;
        if v5 {
            properties_len = source.parts.properties.len()
                + 3 * usize::from(alias.is_some())
                + 5 * usize::from(expiry.is_some())
                + identifiers.iter().map(|id| 1 + varint_len(id.get())).sum::<usize>();
            remaining += varint_len(properties_len as u32) + properties_len;
        }
        Self { v5, topic, alias, expiry, identifiers, properties_len, remaining }
    }

    fn total(&self) -> usize {
        1 + varint_len(self.remaining as u32) + self.remaining
    }

    /// Writes everything but the payload; where the packet id stands.
    fn write(
        &self,
        source: &Source<'_>,
        first: u8,
        id: Option<PacketId>,
        out: &mut Vec<u8>,
    ) -> usize {
        let start = out.len();
        out.push(first);
        put_varint(out, self.remaining as u32);
        put_str(out, self.topic);
        let id_at = out.len() - start;
        if let Some(id) = id {
            put_u16(out, id.get());
        }
        if self.v5 {
            put_varint(out, self.properties_len as u32);
            if let Some(alias) = self.alias {
                Property::TopicAlias(alias).append(out);
            }
            if let Some(secs) = self.expiry {
                out.push(0x02);
                put_u32(out, secs);
            }
            for id in self.identifiers {
                Property::SubscriptionIdentifier(id.get()).append(out);
            }
            out.extend_from_slice(source.parts.properties);
        }
        id_at
    }
}
