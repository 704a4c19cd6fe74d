//! Raw traffic of devices (R4.20). Channels keep it, by ident, and so they are asked for it.

use std::sync::Arc;

use longshore_broker::module::Item;
use longshore_broker::rest::{
    Answer, Call, Code, Fault, Field, Items, Kind, Object, Outcome, Written,
};
use serde_json::{Map, Value};
use tokio::sync::mpsc;
use tokio::task::spawn_local;

use super::WAITING;
use crate::Registry;
use crate::device::{Device, Identity};
use crate::roster::Sought;

/// Who has it.
const OF_CHANNELS: &str = "/gw/channels/{sel}/idents/{idents}/packets";

pub(super) static PACKET: Object = Object {
    name: "DevicePacket",
    fields: &[
        Field::new("timestamp", Kind::Any, "When it went over, in unix seconds"),
        Field::new("type", Kind::Whole, "How, and who said it: even if received, odd if sent"),
        Field::new("conn", Kind::Whole, "Its connection; 0 over UDP and MQTT"),
        Field::new("ident", Kind::Text, "What the device calls itself"),
        Field::new("channel_id", Kind::Whole, "The channel that has it"),
        Field::new("data", Kind::Text, "Its first 65536 bytes, in base64"),
    ],
    is_open: true,
};

pub(super) static READING: Object = Object {
    name: "DevicePacketReading",
    fields: &[
        Field::new("from", Kind::Any, "timestamp of the first one, unix seconds").sent(),
        Field::new("to", Kind::Any, "timestamp of the last one, unix seconds").sent(),
        Field::new("count", Kind::Whole, "Packets of a device at most").sent(),
        Field::new("reverse", Kind::Flag, "The newest first").sent(),
        Field::new("filter", Kind::Text, "An expression, or tests like type=2").sent(),
    ],
    is_open: false,
};

/// Answers with packets, one device after another.
pub(super) async fn read(registry: Arc<Registry>, call: Call) -> Outcome {
    let data = call.data()?;
    let (found, faults) = registry.objects.choose(&call)?;
    if found.is_empty() && !faults.is_empty() {
        return Ok(Answer::partly(Vec::new(), faults));
    }
    let mut identities = found.into_iter().filter_map(move |it| identity(&registry, &it));
    // What is wrong with the call the first answer says.
    let first = match identities.next() {
        Some(identity) => of_device(&call, &identity, &data).await?,
        None => return Ok(Answer::of([]).with_faults(faults)),
    };
    let (to, from) = mpsc::channel(WAITING);
    spawn_local(async move {
        let mut is_taken = pass(first, &to).await;
        while is_taken.is_some()
            && let Some(identity) = identities.next()
        {
            is_taken = match of_device(&call, &identity, &data).await {
                Ok(answer) => pass(answer, &to).await,
                Err(fault) => to.send(Err(fault)).await.ok(),
            };
        }
    });
    Ok(Answer::objects(Items::Written(from)).with_faults(faults))
}

/// What a device is called by, if it is the one that has its ident.
fn identity(registry: &Registry, device: &Device) -> Option<Identity> {
    let identity = device.identity.clone()?;
    let Identity { account, protocol, ident } = &identity;
    let sought = Sought { account: *account, protocol: *protocol, ident };
    let known = registry.roster.find(&sought)?;
    (known.head().id == device.head().id).then_some(identity)
}

/// What channels of its account and protocol have of its ident.
async fn of_device(call: &Call, identity: &Identity, data: &Map<String, Value>) -> Outcome {
    let Identity { account, protocol, ident } = identity;
    let channels = format!("cid={account},protocol_id={protocol}");
    // However it is spelled, it is one ident.
    let ident = format!("={ident}");
    match call.ask(*account, OF_CHANNELS, vec![channels, ident], data.clone()).await {
        // Without channels there is no raw traffic.
        Err(fault) if fault.code == Code::NotFound => Ok(Answer::of([])),
        outcome => outcome,
    }
}

/// Hands an answer on; none where nobody wants more.
async fn pass(answer: Answer, to: &mpsc::Sender<Result<Written, Fault>>) -> Option<()> {
    let (items, faults) = answer.into_parts();
    match items {
        Items::Written(mut from) => {
            while let Some(piece) = from.recv().await {
                to.send(piece).await.ok()?;
            }
        }
        Items::Sent(mut from) => {
            while let Some(item) = from.recv().await {
                to.send(item.map(written)).await.ok()?;
            }
        }
        Items::Made(items) => {
            for item in items {
                to.send(Ok(written(item))).await.ok()?;
            }
        }
    }
    for fault in faults {
        to.send(Err(fault)).await.ok()?;
    }
    Some(())
}

fn written(object: Value) -> Written {
    Written::Objects(object.to_string().into())
}
