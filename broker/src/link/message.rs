//! A message as programs see it.

use longshore_codec::{Carrier, Properties, Property, Publish, QoS, topic};

use crate::stamp::{CID, cid_of};

use super::LinkError;

/// A message to publish, or one received.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Message {
    /// Topic name.
    pub topic: String,
    /// Payload, any bytes.
    pub payload: Vec<u8>,
    /// Quality of Service.
    pub qos: QoS,
    /// RETAIN: to be retained; on a received message, that it was.
    pub retain: bool,
    properties: Vec<u8>,
}

impl Message {
    /// A message at QoS 0 that is not retained.
    #[must_use]
    pub fn new(topic: impl Into<String>, payload: impl Into<Vec<u8>>) -> Self {
        Self {
            topic: topic.into(),
            payload: payload.into(),
            qos: QoS::AtMostOnce,
            retain: false,
            properties: Vec::new(),
        }
    }

    /// The same message at another QoS.
    #[must_use]
    pub fn qos(mut self, qos: QoS) -> Self {
        self.qos = qos;
        self
    }

    /// The same message, to be retained.
    #[must_use]
    pub fn retain(mut self) -> Self {
        self.retain = true;
        self
    }

    /// The same message with one more MQTT 5 property.
    #[must_use]
    pub fn property(mut self, property: Property<'_>) -> Self {
        property.append(&mut self.properties);
        self
    }

    /// The same message of this account, in whose topics it is published where the link is that of
    /// a module; other links publish in the root account, whatever they say.
    #[must_use]
    pub fn of_account(self, account: u64) -> Self {
        self.property(Property::UserProperty(CID, &account.to_string()))
    }

    /// The account in whose topics it was published, as far as it says so; else the root account.
    #[must_use]
    pub fn account(&self) -> u64 {
        cid_of(self.properties())
    }

    /// Its MQTT 5 properties.
    #[must_use]
    pub fn properties(&self) -> Properties<'_> {
        Properties::from_raw(&self.properties)
    }

    pub(super) fn check(&self) -> Result<(), LinkError> {
        const PACKET_MAX: usize = 268_435_455 - 16;
        let size = self.topic.len() + self.properties.len() + self.payload.len();
        let valid = size <= PACKET_MAX
            && topic::is_valid(&self.topic)
            && self.properties().validate(Carrier::Publish).is_ok()
            && self.properties().topic_alias().is_none()
            && self.properties().subscription_identifier().is_none();
        if valid { Ok(()) } else { Err(LinkError::Invalid) }
    }

    pub(super) fn received(publish: &Publish<'_>) -> Self {
        Self {
            topic: String::from_utf8_lossy(publish.topic).into_owned(),
            payload: publish.payload.to_vec(),
            qos: publish.qos,
            retain: publish.retain,
            properties: publish.properties.raw().to_vec(),
        }
    }
}
