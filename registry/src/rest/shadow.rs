//! Settings of devices (R5.7 to R5.10).

use std::sync::Arc;

use longshore_broker::module::Item;
use longshore_broker::rest::{Answer, Call, Code, Fault, Field, Fields, Kind, Object, Outcome};
use serde_json::Value;

use super::{Pieces, blocking, each, unkept, unreadable, with_fields};
use crate::deed::Deed;
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
    let fields = call.fields()?;
    Ok(each(devices, move |device, out| {
        let settings = chosen(&registry, &device, &names)?;
        let shown = settings.iter().map(|it| it.shown(device.head().id));
        let shown = shown.map(|it| with_fields(&fields, it).to_string());
        out.push_str(&shown.collect::<Vec<_>>().join(","));
        Ok(())
    }))
}

/// A setting of a device, and what is to be told of it.
type Told = (Arc<Device>, Setting, Deed);

/// Keeps settings and answers with them.
async fn keep(
    registry: &Registry,
    settings: Vec<Told>,
    fields: &Fields,
    mut faults: Vec<Fault>,
) -> Outcome {
    let mut done = Vec::new();
    for (device, setting, told) in settings {
        match registry.courier.keep(&device, &setting, told).await {
            Ok(()) => {
                done.push(with_fields(fields, setting.shown(device.head().id)));
                registry.courier.nudge(&device);
            }
            Err(cause) => faults.push(unkept(&cause).about(device.head().id)),
        }
    }
    Ok(Answer::partly(done, faults))
}

/// Sets one setting of each device (R5.8).
pub(super) async fn put(registry: Arc<Registry>, call: Call) -> Outcome {
    let begin = {
        let registry = Arc::clone(&registry);
        move || {
            let (body, name) = (call.object()?, call.parameter(1));
            check_name(name)?;
            let (devices, mut faults) = registry.objects.choose(&call)?;
            let most = registry.limits.settings_per_device;
            let mut settings = Vec::new();
            for device in devices {
                let mut known = chosen(&registry, &device, "all")?;
                let count = known.iter().filter(|it| it.of_type.is_none()).count();
                let setting = match known.iter().position(|it| it.name == name) {
                    Some(at) => Ok(known.swap_remove(at)),
                    None if count < most => Ok(Setting::local(name, Kept::default())),
                    None => {
                        let reason = format!("a device has up to {most} settings of its own");
                        Err(Fault::new(Code::Quota, reason))
                    }
                };
                let set = setting.and_then(|mut setting| {
                    setting.put(&body, now())?;
                    Ok(setting)
                });
                match set {
                    Ok(setting) => settings.push((device, setting, Deed::Accepted)),
                    Err(fault) => faults.push(fault.about(device.head().id)),
                }
            }
            Ok::<_, Fault>((settings, call.fields()?, faults))
        }
    };
    let (settings, fields, faults) = blocking(begin).await??;
    keep(&registry, settings, &fields, faults).await
}

/// Whether `data` asks to take back what waits for the device.
fn is_of_pending(call: &Call) -> Result<bool, Fault> {
    let mut is_pending = false;
    for (name, value) in call.data()? {
        let wrong = |reason: String| Fault::new(Code::Format, reason).field(&name);
        if name != "pending" {
            return Err(wrong(format!("no key {name:?} in data: pending")));
        }
        is_pending = value.as_bool().ok_or_else(|| wrong("pending is true or false".to_owned()))?;
    }
    Ok(is_pending)
}

/// Takes back what waits, or has a value read anew; one that is kept here alone goes (R5.8).
pub(super) async fn delete(registry: Arc<Registry>, call: Call) -> Outcome {
    let begin = {
        let registry = Arc::clone(&registry);
        move || {
            let is_pending = is_of_pending(&call)?;
            let (devices, faults) = registry.objects.choose(&call)?;
            let mut settings = Vec::new();
            for device in devices {
                for mut setting in chosen(&registry, &device, call.parameter(1))? {
                    let kept = &mut setting.kept;
                    let told = if is_pending {
                        kept.pending = None;
                        Deed::Withdrawn
                    } else {
                        (kept.current, kept.reads) = (Value::Null, 0);
                        kept.is_asked = setting.of_type.is_some();
                        Deed::Cleared
                    };
                    settings.push((Arc::clone(&device), setting, told));
                }
            }
            Ok::<_, Fault>((settings, call.fields()?, faults))
        }
    };
    let (settings, fields, faults) = blocking(begin).await??;
    keep(&registry, settings, &fields, faults).await
}
