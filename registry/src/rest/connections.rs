//! How devices are connected (R4.20).

use std::sync::Arc;

use hashbrown::HashSet;
use longshore_broker::module::Item;
use longshore_broker::rest::{Answer, Call, Code, Fault, Field, Kind, Object, Outcome, Selector};

use super::{Begun, blocking, each, with_fields};
use crate::Registry;
use crate::connections::{BY_USER, closing};
use crate::device::Device;
use crate::live::Connection;

pub(super) static CONNECTION: Object = Object {
    name: "DeviceConnection",
    fields: &[
        Field::new("id", Kind::Whole, "Its number"),
        Field::new("channel_id", Kind::Whole, "The channel that has it"),
        Field::new("device_id", Kind::Whole, "The device"),
        Field::new("ident", Kind::Text, "What the device calls itself"),
        Field::new("source", Kind::Text, "Where it is, as ip:port"),
        Field::new("transport", Kind::Text, "tcp, udp or http"),
        Field::new("established", Kind::Any, "Since when, in unix seconds"),
        Field::new("secondary", Kind::Flag, "Whether another one is the first"),
        Field::new("meta", Kind::Any, "null"),
    ],
    is_open: false,
};

/// Connections of devices that a selector means, one device after another.
struct Chosen {
    selector: Selector,
    /// Those that it lists.
    ids: HashSet<u64>,
    /// Numbers that no connection of these devices has.
    missing: Vec<Fault>,
    is_none: bool,
}

impl Chosen {
    fn of(call: &Call, devices: &[Arc<Device>]) -> Result<Self, Fault> {
        let selector = Selector::parse(call.parameter(1), &CONNECTION)?;
        let Selector::Ids(listed) = &selector else {
            return Ok(Self { selector, ids: HashSet::new(), missing: Vec::new(), is_none: false });
        };
        let ids: HashSet<u64> = listed.iter().copied().collect();
        let all = devices.iter().flat_map(|device| device.live.connections());
        let found: HashSet<u64> = all.map(|it| it.id).filter(|id| ids.contains(id)).collect();
        let missing = listed.iter().filter(|id| !found.contains(*id));
        let missing = missing.map(|id| Fault::not_found(*id)).collect();
        Ok(Self { selector, ids, missing, is_none: found.is_empty() })
    }

    fn of_device(&mut self, device: &Device) -> Result<Vec<Connection>, Fault> {
        let mut chosen = Vec::new();
        for connection in device.live.connections() {
            let is_meant = match &mut self.selector {
                Selector::All => true,
                Selector::Ids(_) => self.ids.contains(&connection.id),
                Selector::Where(sieve) => sieve.takes(&connection.shown)?,
            };
            chosen.extend(is_meant.then_some(connection));
        }
        Ok(chosen)
    }
}

pub(super) fn read(
    _: &Arc<Registry>,
    call: &Call,
    devices: Vec<Arc<Device>>,
) -> Result<Begun, Fault> {
    let (fields, mut chosen) = (call.fields()?, Chosen::of(call, &devices)?);
    let (missing, is_none) = (std::mem::take(&mut chosen.missing), chosen.is_none);
    let pieces = each(devices, move |device, out| {
        let meant = chosen.of_device(&device)?.into_iter();
        let shown = meant.map(|it| with_fields(&fields, it.shown).to_string());
        out.push_str(&shown.collect::<Vec<_>>().join(","));
        Ok(())
    });
    Ok(Begun { pieces, missing, is_none })
}

/// Has channels end connections: whoever asks is told which, and they go with what channels say.
pub(super) async fn end(registry: Arc<Registry>, call: Call) -> Outcome {
    let begin = {
        let registry = Arc::clone(&registry);
        move || {
            let (devices, mut faults) = registry.objects.choose(&call)?;
            let mut chosen = Chosen::of(&call, &devices)?;
            faults.append(&mut chosen.missing);
            let mut all = Vec::new();
            for device in devices {
                let account = device.head().account;
                all.extend(chosen.of_device(&device)?.into_iter().map(|it| (account, it)));
            }
            Ok::<_, Fault>((all, faults))
        }
    };
    let (all, faults) = blocking(begin).await??;
    let places = all.iter().map(|(account, it)| (*account, it.channel_id, it.id));
    let closings: Vec<_> = places.map(|place| closing(place, BY_USER)).collect();
    if let Err(cause) = registry.courier.link.publish_all(closings).await {
        return Err(Fault::new(Code::Unavailable, cause.to_string()));
    }
    Ok(Answer::partly(all.into_iter().map(|(_, it)| it.id.into()).collect(), faults))
}
