//! What a device said: its ident, when, and parameters by name.

mod ident;
mod parameters;
mod timestamp;

pub use ident::{Ident, IdentError};
pub use parameters::{Parameters, TooMany};
pub use timestamp::Timestamp;

/// A message as a protocol finds it: all that the device itself said.
///
/// What the hub knows about it comes with [`complete`](Self::complete).
#[derive(Debug, Clone, PartialEq)]
pub struct Message {
    /// Who says it.
    pub ident: Ident,
    /// When it was so by the clock of the device; none if the device gave no time that counts.
    pub timestamp: Option<Timestamp>,
    /// What it says.
    pub parameters: Parameters,
}

/// How a message came in: the part of it that the hub adds.
#[derive(Debug, Clone, Copy)]
pub struct Reception<'a> {
    /// When it came in.
    pub at: Timestamp,
    /// The channel that took it.
    pub channel_id: u32,
    /// The protocol of that channel.
    pub protocol_id: u16,
    /// The sender, as `ip:port`.
    pub peer: &'a str,
}

impl Message {
    /// A message of this device that says nothing yet.
    pub const fn new(ident: Ident) -> Self {
        Self { ident, timestamp: None, parameters: Parameters::new() }
    }

    /// The flat object that is stored and published, with the six parameters that every message of
    /// a channel has. A message without a time has that of its reception.
    pub fn complete(self, reception: &Reception<'_>) -> Parameters {
        let mut parameters = self.parameters;
        parameters.set("ident", self.ident.as_str());
        parameters.set("timestamp", self.timestamp.unwrap_or(reception.at));
        parameters.set("server.timestamp", reception.at);
        parameters.set("channel.id", reception.channel_id);
        parameters.set("protocol.id", reception.protocol_id);
        parameters.set("peer", reception.peer);
        parameters
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// R1.2, R1.4, R1.5, R1.6.
    #[test]
    fn a_message_is_a_flat_object_with_its_keys_in_order() {
        let mut message = Message::new(Ident::new("352").unwrap());
        message.parameters.set("position.speed", 54.0);
        message.parameters.set("position.hdop", 0.97);
        let at = Timestamp::from_micros(1_706_905_170_172_580).unwrap();
        let reception = Reception { at, channel_id: 7, protocol_id: 14, peer: "1.2.3.4:5" };
        let json = |message: Message| serde_json::to_string(&message.complete(&reception)).unwrap();
        assert_eq!(
            json(message.clone()),
            r#"{"channel.id":7,"ident":"352","peer":"1.2.3.4:5","position.hdop":0.97,"#.to_owned()
                + r#""position.speed":54,"protocol.id":14,"server.timestamp":1706905170.17258,"#
                + r#""timestamp":1706905170.17258}"#
        );
        message.timestamp = Timestamp::from_seconds(1_706_760_559.0);
        assert!(json(message).ends_with(r#""timestamp":1706760559}"#));
    }
}
