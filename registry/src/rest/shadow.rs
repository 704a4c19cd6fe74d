//! Settings of devices (R5.7 to R5.10), and how they are connected (R4.20).

use std::sync::Arc;

use longshore_broker::module::Item;
use longshore_broker::rest::{Answer, Call, Code, Fault, Field, Kind, Object, Outcome};
use serde_json::Value;

use super::{Pieces, blocking, each, unkept, unreadable};
use crate::connections::{BY_USER, closing};
use crate::device::Device;
use crate::reading::Names;
use crate::settings::{Kept, Setting, check_name};
use crate::{Registry, now};

/// The keys of `data`.
pub(super) static DELETING: Object = Object {
    name: "SettingDeletion",
    fields: &[Field::new("pending", Kind::Flag, "Take back what waits for the device").sent()],
    is_open: false,
};

/// The settings of these names.
fn chosen(registry: &Registry, device: &Device, names: &str) -> Result<Vec<Setting>, Fault> {
    let names = Names::parse(names)?;
    let settings = registry.shelves.settings(device).map_err(|cause| unreadable(&cause))?;
    let is_meant = |it: &Setting| names.as_ref().is_none_or(|names| names.takes(&it.name));
    Ok(settings.into_iter().filter(is_meant).collect())
}

pub(super) fn read(
    registry: &Arc<Registry>,
    call: &Call,
    devices: Vec<Arc<Device>>,
) -> Result<Pieces, Fault> {
    let (registry, names) = (Arc::clone(registry), call.parameter(1).to_owned());
    Ok(each(devices, move |device, out| {
        let settings = chosen(&registry, &device, &names)?;
        let shown = settings.iter().map(|it| it.shown(device.head().id).to_string());
        out.push_str(&shown.collect::<Vec<_>>().join(","));
        Ok(())
    }))
}

/// A setting of a device, and what is to be told of it.
type Told = (Arc<Device>, Setting, (&'static str, u64));

/// Keeps settings and answers with them.
async fn keep(registry: &Registry, settings: Vec<Told>, mut faults: Vec<Fault>) -> Outcome {
    let mut done = Vec::new();
    for (device, setting, told) in settings {
        match registry.courier.keep(&device, &setting, told).await {
            Ok(()) => {
                done.push(setting.shown(device.head().id));
                registry.courier.nudge(&device);
            }
            Err(cause) => faults.push(unkept(&cause).about(device.head().id)),
        }
    }
    Ok(Answer::partly(done, faults))
}

/// Sets what is to be set (R5.8).
pub(super) async fn put(registry: Arc<Registry>, call: Call) -> Outcome {
    let begin = {
        let registry = Arc::clone(&registry);
        move || {
            let (body, name) = (call.object()?, call.parameter(1));
            check_name(name)?;
            let (devices, mut faults) = registry.objects.choose(&call)?;
            let mut settings = Vec::new();
            for device in devices {
                let known = chosen(&registry, &device, name)?.pop();
                let mut setting = known.unwrap_or_else(|| Setting::local(name, Kept::default()));
                match setting.put(&body, now()) {
                    Ok(_) => settings.push((device, setting, ("accepted", 311))),
                    Err(fault) => faults.push(fault.about(device.head().id)),
                }
            }
            Ok::<_, Fault>((settings, faults))
        }
    };
    let (settings, faults) = blocking(begin).await??;
    keep(&registry, settings, faults).await
}

/// Takes back what waits, or has a value read anew (R5.8).
pub(super) async fn delete(registry: Arc<Registry>, call: Call) -> Outcome {
    let begin = {
        let registry = Arc::clone(&registry);
        move || {
            let is_pending = call.data()?.get("pending").and_then(Value::as_bool) == Some(true);
            let (devices, faults) = registry.objects.choose(&call)?;
            let mut settings = Vec::new();
            for device in devices {
                for mut setting in chosen(&registry, &device, call.parameter(1))? {
                    let kept = &mut setting.kept;
                    let told = if is_pending {
                        kept.pending = None;
                        ("canceled", 314)
                    } else {
                        (kept.current, kept.reads) = (Value::Null, 0);
                        kept.is_asked = setting.of_type.is_some();
                        ("cleared", 315)
                    };
                    settings.push((Arc::clone(&device), setting, told));
                }
            }
            Ok::<_, Fault>((settings, faults))
        }
    };
    let (settings, faults) = blocking(begin).await??;
    keep(&registry, settings, faults).await
}

/// Has channels end connections: whoever asks is told which, and they go with what channels say.
pub(super) async fn disconnect(registry: Arc<Registry>, call: Call) -> Outcome {
    let begin = {
        let registry = Arc::clone(&registry);
        move || {
            let names = Names::parse(call.parameter(1))?;
            let (devices, faults) = registry.objects.choose(&call)?;
            let all = devices.iter().flat_map(|device| {
                let account = device.head().account;
                device.live.connections().into_iter().map(move |it| (account, it))
            });
            let is_meant = |id: u64| names.as_ref().is_none_or(|it| it.takes(&id.to_string()));
            let all: Vec<_> = all.filter(|(_, it)| is_meant(it.id)).collect();
            Ok::<_, Fault>((all, faults))
        }
    };
    let (all, faults) = blocking(begin).await??;
    let places = all.iter().map(|(account, it)| (*account, it.channel_id, it.id));
    let closings: Vec<_> = places.map(|place| closing(place, BY_USER)).collect();
    if let Err(cause) = registry.courier.link.publish_all(closings).await {
        return Err(Fault::new(Code::Unavailable, cause.to_string()));
    }
    Ok(Answer::partly(all.into_iter().map(|(_, it)| it.shown).collect(), faults))
}

/// How devices are connected.
pub(super) fn connections(
    _: &Arc<Registry>,
    call: &Call,
    devices: Vec<Arc<Device>>,
) -> Result<Pieces, Fault> {
    let names = Names::parse(call.parameter(1))?;
    Ok(each(devices, move |device, out| {
        let all = device.live.connections();
        let is_meant = |id: u64| names.as_ref().is_none_or(|it| it.takes(&id.to_string()));
        let meant = all.iter().filter(|it| is_meant(it.id)).map(|it| it.shown.to_string());
        out.push_str(&meant.collect::<Vec<_>>().join(","));
        Ok(())
    }))
}
