//! A channel that is a client of a broker: of this one by a session that lasts, of another one over
//! the network. A publication is acknowledged there once its messages are kept here.

use std::rc::Rc;
use std::time::Duration;

use longshore_codec::{QoS, SubscribeOptions};
use serde_json::{Map, Value};
use tokio::time::sleep;
use tracing::{debug, warn};

use super::Open;
use crate::buffer::NotKept;
use crate::deed::Deed;
use crate::hub::Origin;
use crate::packets::{Transport, Way};
use crate::protocol::mqtt::{self, Publications, Source};
use crate::protocol::{CloseCode, Intake};

mod custom;

/// Publications that are taken together.
const TOGETHER: usize = 256;
/// How long it takes until a broker is tried again, at first and at most.
const RETRY: Duration = Duration::from_secs(1);
const RETRY_MAX: Duration = Duration::from_secs(60);

/// What a publication of another channel begins with.
const OWN_TOPICS: &str = "flespi/message/gw/";

/// Takes what the broker publishes until the channel closes.
pub(crate) async fn run(open: Rc<Open>) {
    let Some(Intake::Publications(publications)) = &open.channel.intake else { return };
    let mut retry = RETRY;
    loop {
        let began = tokio::time::Instant::now();
        let serving = async {
            match &publications.source {
                Source::Own { token } => own(&open, publications, token).await,
                custom => Box::pin(custom::serve(&open, publications, custom)).await,
            }
        };
        let text = tokio::select! {
            code = open.closed() => {
                if code == CloseCode::ChannelChanged {
                    forget(&open, publications).await;
                }
                return;
            }
            text = serving => text,
        };
        debug!(channel = open.channel.id(), %text, "a channel has lost its broker");
        let mut fields = Map::new();
        fields.insert("close_code".to_owned(), CloseCode::OutgoingFailed.value().into());
        fields.insert("error_text".to_owned(), text.into());
        fields.insert("transport".to_owned(), "mqtt".into());
        let address = match &publications.source {
            Source::Custom { uri, .. } => uri.clone(),
            Source::Own { .. } => "broker".to_owned(),
        };
        fields.insert("source".to_owned(), address.as_str().into());
        open.hub.tell(&open.channel, Some(&address), Deed::Closed, fields);
        if began.elapsed() > RETRY_MAX {
            retry = RETRY;
        }
        tokio::select! {
            _ = open.closed() => return,
            () = sleep(retry) => retry = (retry * 2).min(RETRY_MAX),
        }
    }
}

fn client_id(open: &Open) -> String {
    format!("longshore-channel-{}", open.channel.id())
}

/// Subscribes in this broker; ends with the reason why that is over.
async fn own(open: &Open, publications: &Publications, token: &str) -> String {
    let link = match open.hub.context.link_of(token, &client_id(open)) {
        Ok(link) => link,
        Err(refusal) => return refusal.to_string(),
    };
    let mut inbox = link.inbox("in");
    for topic in &publications.topics {
        let options = SubscribeOptions::new(QoS::AtLeastOnce);
        if let Err(error) = inbox.subscribe(topic, options).await {
            return format!("{topic}: {error}");
        }
    }
    while let Some(batch) = inbox.recv(TOGETHER).await {
        let said = batch.messages.iter().map(|it| (it.topic.as_str(), &it.payload[..]));
        let said = said.filter(|(topic, payload)| !goes_round(topic, payload));
        take(open, publications, "broker", said).await;
        inbox.done(&batch);
    }
    "the broker has ended the session".to_owned()
}

/// Gives up what the session that lasts has asked for: the channel is another one now.
async fn forget(open: &Open, publications: &Publications) {
    let Source::Own { token } = &publications.source else { return };
    let Ok(link) = open.hub.context.link_of(token, &client_id(open)) else { return };
    let mut inbox = link.inbox("in");
    for topic in &publications.topics {
        if inbox.unsubscribe(topic).await.is_err() {
            return;
        }
    }
}

/// Whether a message may go round for ever: a channel may subscribe to what channels and devices
/// publish (R10.7), but what came in by a channel of this kind is not taken by another one.
fn goes_round(topic: &str, payload: &[u8]) -> bool {
    topic.starts_with(OWN_TOPICS) && {
        let message: Value = serde_json::from_slice(payload).unwrap_or_default();
        message["protocol.id"].as_u64() == Some(u64::from(mqtt::PROTOCOL.id))
    }
}

/// Takes what publications say. What cannot be read is left out; what cannot be kept now is tried
/// again, and the broker keeps what comes meanwhile.
async fn take<'a>(
    open: &Open,
    publications: &Publications,
    peer: &str,
    said: impl Iterator<Item = (&'a str, &'a [u8])>,
) {
    let mut messages = Vec::new();
    let way = Way { transport: Transport::Mqtt, connection: 0, peer };
    for (topic, payload) in said {
        open.hub.count(&open.channel, 0, payload.len());
        match publications.publication(topic, payload) {
            Ok(step) => {
                open.note_step(way, &step, &[payload]);
                messages.extend(step.messages);
            }
            Err(error) => {
                debug!(channel = open.channel.id(), topic, %error, "it is left out");
            }
        }
    }
    let origin = Origin { channel: &open.channel, peer };
    loop {
        match open.hub.accept(origin, messages.clone(), Vec::new()).await {
            Ok(()) => return,
            Err(NotKept::TooLarge) => {
                warn!(channel = open.channel.id(), "messages are left out: one is too large");
                return;
            }
            Err(_) => sleep(RETRY).await,
        }
    }
}
