//! Who is connected to channels, and how to end that (R3.16).

use std::sync::Arc;

use longshore_broker::rest::{Answer, Call, Fault, Field, Kind, Object, Outcome, Selector};
use serde_json::{Map, Value};

use crate::channels::Channels;
use crate::connections::Peer;
use crate::protocol::CloseCode;

pub(super) static CONNECTION: Object = Object {
    name: "Connection",
    fields: &[
        Field::new("id", Kind::Whole, "Its number"),
        Field::new("channel_id", Kind::Whole, "Its channel"),
        Field::new("device_id", Kind::Whole, "Null: a channel knows no devices"),
        Field::new("ident", Kind::Text, "Who it is, once it has said so"),
        Field::new("ip", Kind::Text, "Its address"),
        Field::new("source", Kind::Text, "Its address and port"),
        Field::new("transport", Kind::Text, "How it is connected"),
        Field::new("established", Kind::Any, "Since when, in unix seconds"),
        Field::new("secondary", Kind::Flag, "Always false"),
        Field::new("meta", Kind::Any, "Always null"),
    ],
    is_open: false,
};

/// A connection as it is shown.
type Found = (Arc<Peer>, Map<String, Value>);

/// The connections that a call means, and what of it is not there.
fn choose(channels: &Channels, call: &Call) -> Result<(Vec<Found>, Vec<Fault>), Fault> {
    let mut selector = Selector::parse(call.parameter(1), &CONNECTION)?;
    let (found, mut faults) = channels.objects.choose(call)?;
    let mut chosen: Vec<Found> = Vec::new();
    for channel in found {
        let peers: Vec<Arc<Peer>> = match &selector {
            Selector::Ids(ids) => {
                let connections = channel.live.connections();
                ids.iter().filter_map(|id| connections.get(*id).cloned()).collect()
            }
            _ => channel.live.connections().all().cloned().collect(),
        };
        for peer in peers {
            let shown = peer.describe(channel.id());
            let is_meant = match &mut selector {
                Selector::Where(sieve) => sieve.takes(&Value::Object(shown.clone()))?,
                _ => true,
            };
            chosen.extend(is_meant.then_some((peer, shown)));
        }
    }
    if let Selector::Ids(ids) = &selector {
        let is_missing = |id: &&u64| chosen.iter().all(|(peer, _)| peer.id != **id);
        faults.extend(ids.iter().filter(is_missing).map(|id| Fault::not_found(*id)));
    }
    chosen.sort_unstable_by_key(|(peer, _)| peer.id);
    Ok((chosen, faults))
}

pub(super) fn list(channels: &Channels, call: &Call) -> Outcome {
    let fields = call.fields()?;
    let (chosen, faults) = choose(channels, call)?;
    let shown = chosen.into_iter().map(|(_, shown)| fields.of(shown)).collect();
    Ok(Answer::partly(shown, faults))
}

/// They are told to end, and do so once they have answered what they have taken.
pub(super) fn close(channels: &Channels, call: &Call) -> Outcome {
    let (chosen, faults) = choose(channels, call)?;
    let closed = chosen.into_iter().map(|(peer, _)| {
        peer.close(CloseCode::ByUser);
        Value::from(peer.id)
    });
    Ok(Answer::partly(closed.collect(), faults))
}
