//! Commands for devices: they come over topics, and so do the answers. That a connection is to end
//! comes in the same way, with the code of that; what it says to it is that it is gone.
//!
//! | topic | payload |
//! | --- | --- |
//! | `flespi/command/gw/channels/{channel}/{connection}` | `{"id","name","properties"}` |
//! | the same | `{"close":10}` by a user, `{"close":23}` for a device that is disabled |
//! | `flespi/response/gw/channels/{channel}/{connection}` | `{"id","status","response","error"}` |
//!
//! A command may have a `deadline` beside that, in microseconds of unix time, and has a minute
//! otherwise. After that it is not sent any more and its answer is not waited for: whoever sent it
//! has given it up.

use std::time::Duration;

use longshore_broker::module::Item;
use longshore_broker::{LinkError, Message};
use longshore_codec::{QoS, SubscribeOptions};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};
use tracing::warn;

use crate::channel::Channel;
use crate::channels::Channels;
use crate::connections::Order;
use crate::protocol::CloseCode;
use crate::serve::Open;

/// How long it takes until they are asked for again, once the broker has ended that.
const RETRY: Duration = Duration::from_secs(1);
/// How long a command without a deadline has.
const DEADLINE: Duration = Duration::from_secs(60);
/// What a deadline is away at most.
const DEADLINE_MAX: Duration = Duration::from_secs(86_400);
const FILTER: &str = "flespi/command/gw/channels/+/+";

/// What became of a command.
#[derive(Debug)]
pub(crate) enum Fate {
    /// The device has it, and says nothing to it.
    Sent,
    /// The device has done it, and says this.
    Answered(String),
    /// It is not done, for this reason.
    Failed(String),
}

impl Fate {
    fn to_json(&self, id: &Value) -> Value {
        let (status, response, error) = match self {
            Self::Sent => ("sent", None, None),
            Self::Answered(text) => ("answered", Some(text), None),
            Self::Failed(text) => ("failed", None, Some(text)),
        };
        json!({"id": id, "status": status, "response": response, "error": error})
    }
}

/// Says what became of a command.
pub(crate) async fn respond(open: &Open, connection: u64, id: &Value, fate: Fate) {
    let channel = &open.channel;
    open.hub.publish(response(channel.head().account, channel.id(), connection, id, &fate)).await;
}

fn response(account: u64, channel: u64, connection: u64, id: &Value, fate: &Fate) -> Message {
    let topic = format!("flespi/response/gw/channels/{channel}/{connection}");
    let payload = fate.to_json(id).to_string();
    Message::new(topic, payload).qos(QoS::AtLeastOnce).of_account(account)
}

/// Passes commands on to connections. It never ends.
pub(crate) async fn receive(channels: &Channels) {
    loop {
        if let Err(cause) = receive_while_linked(channels).await {
            warn!(%cause, "commands for devices cannot be received");
        }
        sleep(RETRY).await;
    }
}

async fn receive_while_linked(channels: &Channels) -> Result<(), LinkError> {
    let options = SubscribeOptions::new(QoS::AtLeastOnce);
    let mut commands = channels.hub.link.subscribe(FILTER, options).await?;
    while let Some(message) = commands.recv().await {
        let mut levels = message.topic.rsplit('/').map(str::parse::<u64>);
        let (Some(Ok(connection)), Some(Ok(id))) = (levels.next(), levels.next()) else { continue };
        let told: Value = serde_json::from_slice(&message.payload).unwrap_or_default();
        let channel = channels.objects.get(id).filter(|it| it.account() == message.account());
        let passed = match channel {
            None => Err("there is no such channel".to_owned()),
            Some(channel) => match told.get("close") {
                Some(code) => close(&channel, connection, code),
                None => pass(&channel, connection, &told, channels.hub.micros()),
            },
        };
        if let Err(text) = passed {
            let fate = Fate::Failed(text);
            let response = response(message.account(), id, connection, &told["id"], &fate);
            channels.hub.publish(response).await;
        }
    }
    Ok(())
}

/// Ends a connection. One that is gone already needs no end.
fn close(channel: &Channel, connection: u64, code: &Value) -> Result<(), String> {
    let codes = [CloseCode::ByUser, CloseCode::DeviceDisabled];
    let code = codes.into_iter().find(|it| code.as_u64() == Some(it.value().into()));
    let code = code.ok_or_else(|| "close is 10 or 23".to_owned())?;
    if let Some(peer) = channel.live.connections().get(connection) {
        peer.close(code);
    }
    Ok(())
}

fn pass(channel: &Channel, connection: u64, told: &Value, now: u64) -> Result<(), String> {
    let name = told["name"].as_str().unwrap_or_default();
    let properties = match &told["properties"] {
        Value::Null => json!({}),
        properties => properties.clone(),
    };
    let command = channel.protocol.command(name, &properties).map_err(|error| error.to_string())?;
    let peer = channel.live.connections().get(connection).cloned();
    let peer = peer.ok_or_else(|| "there is no such connection".to_owned())?;
    let left = told["deadline"].as_u64().map_or(DEADLINE, |deadline| {
        Duration::from_micros(deadline.saturating_sub(now)).min(DEADLINE_MAX)
    });
    let order = Order { id: told["id"].clone(), command, deadline: Instant::now() + left };
    peer.order(order).map_err(str::to_owned)
}
