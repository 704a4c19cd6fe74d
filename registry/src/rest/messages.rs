//! What devices have said: their histories and telemetry.

use std::sync::Arc;

use longshore_broker::module::Item;
use longshore_broker::rest::{Answer, Call, Code, Fault, Outcome};
use serde_json::{Value, json};

use super::{Pieces, blocking, each, unreadable};
use crate::device::Device;
use crate::message::NAME_BYTES_MAX;
use crate::reading::{Asked, Names, READING, Reading, Removal};
use crate::writer::What;
use crate::{Registry, ask};

/// Parameters of a message that is posted, and the least of its times (R1.12).
const PARAMETERS_MAX: usize = 1_000;
const EARLIEST_SECS: f64 = 1e6;
/// Messages that the writer is given at once.
const POST_MAX: usize = 1_024;

/// Histories one after another (R4.10); all of them together have no more messages than `count`.
pub(super) fn read(
    registry: &Arc<Registry>,
    call: &Call,
    devices: Vec<Arc<Device>>,
) -> Result<Pieces, Fault> {
    let (asked, shelves) = (Arc::new(Asked::of(&call.data()?, &READING)?), &registry.shelves);
    let (shelves, mut devices) = (Arc::clone(shelves), devices.into_iter());
    let (mut reading, mut left): (Option<Reading>, _) = (None, asked.count);
    Ok(Box::new(move || {
        loop {
            if let Some(of_device) = &mut reading {
                match of_device.next_text().map_err(|cause| unreadable(&cause))? {
                    Some(text) => return Ok(Some(text)),
                    None => left = of_device.left(),
                }
            }
            let Some(device) = devices.next().filter(|_| left > 0) else { return Ok(None) };
            reading = Some(Reading::new(&shelves, device.head().id, &asked, left));
        }
    }))
}

/// Messages that a call brings (R4.12).
pub(super) async fn post(registry: Arc<Registry>, call: Call) -> Outcome {
    let begin = {
        let registry = Arc::clone(&registry);
        move || {
            let (devices, faults) = registry.objects.choose(&call)?;
            let objects = call.objects()?;
            let messages = objects.iter().enumerate().map(|(at, message)| {
                check(message).map_err(|fault| fault.at(at))?;
                Ok(message.to_string())
            });
            Ok::<_, Fault>((devices, messages.collect::<Result<Vec<_>, Fault>>()?, faults))
        }
    };
    let (devices, messages, mut faults) = blocking(begin).await??;
    let mut done = Vec::new();
    'devices: for device in devices {
        let id = device.head().id;
        if !device.enabled || device.live.blocked() != 0 {
            let reason = match device.enabled {
                true => "the device is blocked: another one has its ident",
                false => "the device is not enabled",
            };
            faults.push(Fault::new(Code::Forbidden, reason).about(id));
            continue;
        }
        for part in messages.chunks(POST_MAX) {
            let posted = ask(&registry.works, Arc::clone(&device), What::Post(part.to_vec())).await;
            if let Err(fault) = posted {
                faults.push(fault.about(id));
                continue 'devices;
            }
        }
        done.push(json!({"device.id": id, "messages": messages.len()}));
    }
    Ok(Answer::partly(done, faults))
}

fn check(message: &Value) -> Result<(), Fault> {
    let wrong = |what: String| Err(Fault::new(Code::Format, what));
    let Value::Object(parameters) = message else {
        return wrong("a message is an object".to_owned());
    };
    if parameters.len() > PARAMETERS_MAX {
        return wrong(format!("a message has up to {PARAMETERS_MAX} parameters"));
    }
    if parameters.keys().any(|name| name.is_empty() || name.len() > NAME_BYTES_MAX) {
        return wrong(format!("the name of a parameter has 1 to {NAME_BYTES_MAX} bytes"));
    }
    match parameters.get("timestamp") {
        None => Ok(()),
        Some(time) if time.as_f64().is_some_and(|secs| (EARLIEST_SECS..8e9).contains(&secs)) => {
            Ok(())
        }
        Some(_) => wrong("timestamp is a time in unix seconds, from 1000000 on".to_owned()),
    }
}

/// Takes messages away (R4.13).
pub(super) async fn remove(registry: Arc<Registry>, call: Call) -> Outcome {
    let begin = {
        let registry = Arc::clone(&registry);
        move || {
            let data = call.data()?;
            let known = ["from", "to", "filter"];
            if let Some(name) = data.keys().find(|name| !known.contains(&name.as_str())) {
                let reason = format!("no key {name:?} in data: from, to, filter");
                return Err(Fault::new(Code::Format, reason).field(name));
            }
            let (devices, faults) = registry.objects.choose(&call)?;
            let removals = devices.into_iter().map(|device| {
                let asked = Asked::of(&data, &READING)?;
                let removal = Removal::new(&registry.shelves, device.head().id, asked);
                Ok((device, removal))
            });
            Ok((removals.collect::<Result<Vec<_>, Fault>>()?, faults))
        }
    };
    let (removals, mut faults) = blocking(begin).await??;
    let mut done = Vec::new();
    for (device, mut removal) in removals {
        let id = device.head().id;
        loop {
            let slice;
            (slice, removal) = blocking(move || (removal.next_slice(), removal)).await?;
            match slice {
                Ok(None) => {
                    done.push(id.into());
                    break;
                }
                Ok(Some(rows)) if rows.is_empty() => {}
                Ok(Some(rows)) => {
                    let removed = ask(&registry.works, Arc::clone(&device), What::Remove(rows));
                    if let Err(fault) = removed.await {
                        faults.push(fault.about(id));
                        break;
                    }
                }
                Err(cause) => {
                    faults.push(unreadable(&cause).about(id));
                    break;
                }
            }
        }
    }
    Ok(Answer::partly(done, faults))
}

/// The latest of each parameter that is asked for (R4.15).
pub(super) fn telemetry(
    registry: &Arc<Registry>,
    call: &Call,
    devices: Vec<Arc<Device>>,
) -> Result<Pieces, Fault> {
    let names = Names::parse(call.parameter(1))?;
    let shelves = Arc::clone(&registry.shelves);
    Ok(each(devices, move |device, out| {
        let id = device.head().id;
        let state = shelves.state(id).map_err(|cause| unreadable(&cause))?;
        out.push_str(&format!("{{\"id\":{id},\"telemetry\":"));
        state.telemetry.write(|name| names.as_ref().is_none_or(|it| it.takes(name)), out);
        out.push('}');
        Ok(())
    }))
}

/// Forgets parameters (R4.19).
pub(super) async fn forget(registry: Arc<Registry>, call: Call) -> Outcome {
    let begin = {
        let registry = Arc::clone(&registry);
        move || {
            let names = call.parameter(1).to_owned();
            Names::parse(&names)?;
            registry.objects.choose(&call).map(|(devices, faults)| (devices, faults, names))
        }
    };
    let (devices, mut faults, names) = blocking(begin).await??;
    let mut done = Vec::new();
    for device in devices {
        let id = device.head().id;
        match ask(&registry.works, device, What::Forget(Names::parse(&names)?)).await {
            Ok(_) => done.push(id.into()),
            Err(fault) => faults.push(fault.about(id)),
        }
    }
    Ok(Answer::partly(done, faults))
}
