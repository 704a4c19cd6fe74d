//! What devices are told (R5.1 to R5.6).

use std::sync::Arc;

use hashbrown::HashMap;
use longshore_broker::module::Item;
use longshore_broker::rest::{Answer, Call, Code, Fault, Field, Kind, Object, Outcome, Selector};
use longshore_expression::Filter;
use longshore_storage::Table;
use serde_json::Value;
use tokio::task::JoinSet;

use super::{Begun, blocking, each, unkept, unreadable, with_fields};
use crate::command::{Command, OBJECT, State, timeout_secs};
use crate::device::Device;
use crate::message::{Message, micros};
use crate::reading::{Asked, takes};
use crate::shelves::two;
use crate::{Registry, now};

/// Commands that one call gives to all devices together.
const COMMANDS_MAX: usize = 1_000;
/// Numbers of commands that one call looks up, for all devices together.
const LOOKUPS_MAX: usize = 100_000;

/// The keys of `data`.
pub(super) static RESULT_READING: Object = Object {
    name: "DeviceCommandReading",
    fields: &[
        Field::new("from", Kind::Any, "Ended not before then, in unix seconds").sent(),
        Field::new("to", Kind::Any, "Not after then, in unix seconds; 0: to the last").sent(),
        Field::new("count", Kind::Whole, "Commands of a device at most").sent(),
        Field::new("reverse", Kind::Flag, "The newest first").sent(),
        Field::new("filter", Kind::Text, "An expression, or tests like name=custom").sent(),
    ],
    is_open: false,
};

/// A command for a device, its place in what was sent, and how long it is waited for.
type Order = (Arc<Device>, usize, Command, u64);

/// Commands for all devices that the call means, and what is wrong with others.
fn orders(registry: &Registry, call: &Call) -> Result<(Vec<Order>, Vec<Fault>), Fault> {
    let (devices, mut faults) = registry.objects.choose(call)?;
    let sent = call.objects()?;
    if devices.len().saturating_mul(sent.len()) > COMMANDS_MAX {
        let reason = format!("one call gives up to {COMMANDS_MAX} commands to all devices");
        return Err(Fault::new(Code::TooLarge, reason));
    }
    let mut orders = Vec::new();
    for device in devices {
        for (at, sent) in sent.iter().enumerate() {
            let command = Command::read(registry.courier.number(), &device, sent, now());
            match command.and_then(|command| Ok((command, timeout_secs(sent)?))) {
                Ok((command, secs)) => orders.push((Arc::clone(&device), at + 1, command, secs)),
                Err(fault) => faults.push(fault.about(device.head().id).at(at)),
            }
        }
    }
    Ok((orders, faults))
}

/// Tells devices something and waits for what they say: all devices at a time, and each of them
/// one thing after another (R5.1, R5.2).
pub(super) async fn ask(registry: Arc<Registry>, call: Call) -> Outcome {
    let begin = {
        let registry = Arc::clone(&registry);
        move || Ok::<_, Fault>((call.fields()?, orders(&registry, &call)?))
    };
    let (fields, (orders, mut faults)) = blocking(begin).await??;
    let mut devices: Vec<Vec<Order>> = Vec::new();
    for order in orders {
        let id = order.0.head().id;
        match devices.last_mut().filter(|of| of[0].0.head().id == id) {
            Some(of_device) => of_device.push(order),
            None => devices.push(vec![order]),
        }
    }
    let mut asked = JoinSet::new();
    for (at, of_device) in devices.into_iter().enumerate() {
        let registry = Arc::clone(&registry);
        asked.spawn_local(async move {
            let mut answers = Vec::new();
            for (device, position, command, secs) in of_device {
                answers.push(ask_one(&registry, &device, position, command, secs).await);
            }
            (at, answers)
        });
    }
    let mut answers = asked.join_all().await;
    answers.sort_by_key(|(at, _)| *at);
    let mut done = Vec::new();
    for answer in answers.into_iter().flat_map(|(_, of_device)| of_device) {
        match answer {
            Ok(shown) => done.push(with_fields(&fields, shown)),
            Err(fault) => faults.push(fault),
        }
    }
    Ok(Answer::partly(done, faults))
}

async fn ask_one(
    registry: &Registry,
    device: &Device,
    position: usize,
    mut command: Command,
    secs: u64,
) -> Result<Value, Fault> {
    let Some(connection) = device.live.connection() else {
        let reason = "the device is not connected: commands-queue holds commands until it is";
        return Err(Fault::bad_request(reason).about(device.head().id).at(position - 1));
    };
    let answer = registry.courier.ask(device, &connection, &command, secs).await;
    command.end(answer.as_ref(), now());
    Ok(command.shown_at(position))
}

/// Puts commands into queues (R5.3).
pub(super) async fn enqueue(registry: Arc<Registry>, call: Call) -> Outcome {
    let work = move || {
        let (fields, (orders, mut faults)) = (call.fields()?, orders(&registry, &call)?);
        let mut done = Vec::new();
        for (device, position, command, _) in orders {
            let about = |fault: Fault| fault.about(device.head().id).at(position - 1);
            match registry.courier.enqueue(&device, &command) {
                Ok(true) => done.push(with_fields(&fields, command.shown())),
                Ok(false) => {
                    let most = registry.limits.commands_per_device;
                    let reason = format!("{most} commands wait for a device at most");
                    faults.push(about(Fault::new(Code::Quota, reason)));
                }
                Err(cause) => faults.push(about(unkept(&cause))),
            }
        }
        Ok::<_, Fault>(Answer::partly(done, faults))
    };
    blocking(work).await?
}

/// Commands of devices that a selector means, one device after another.
struct Chosen {
    table: Table,
    selector: Selector,
    /// Those that it lists and that are there, by device.
    listed: HashMap<u64, Vec<u64>>,
    /// Numbers that no command of these devices has.
    missing: Vec<Fault>,
    is_none: bool,
}

impl Chosen {
    fn of(call: &Call, table: &Table, devices: &[Arc<Device>]) -> Result<Self, Fault> {
        let selector = match call.parameter(1) {
            "" => Selector::All,
            text => Selector::parse(text, &OBJECT)?,
        };
        let (mut listed, mut missing) = (HashMap::<u64, Vec<u64>>::new(), Vec::new());
        let mut is_none = false;
        if let Selector::Ids(ids) = &selector {
            if ids.len().saturating_mul(devices.len()) > LOOKUPS_MAX {
                let reason = format!("up to {LOOKUPS_MAX} numbers are looked up with all devices");
                return Err(Fault::new(Code::TooLarge, reason));
            }
            for id in ids {
                let mut is_there = false;
                for device in devices.iter().map(|device| device.head().id) {
                    let row = table.get(&two(device, *id)).map_err(|cause| unreadable(&cause))?;
                    if row.is_some() {
                        listed.entry(device).or_default().push(*id);
                        is_there = true;
                        break;
                    }
                }
                if !is_there {
                    missing.push(Fault::not_found(*id));
                }
            }
            is_none = listed.is_empty();
        }
        Ok(Self { table: table.clone(), selector, listed, missing, is_none })
    }

    fn of_device(&mut self, device: &Device) -> Result<Vec<Command>, Fault> {
        let id = device.head().id;
        let mut commands = Vec::new();
        if let Selector::Ids(_) = &self.selector {
            for number in self.listed.remove(&id).unwrap_or_default() {
                let row = self.table.get(&two(id, number)).map_err(|cause| unreadable(&cause))?;
                commands.extend(row.and_then(|row| serde_json::from_slice::<Command>(&row).ok()));
            }
            return Ok(commands);
        }
        for row in self.table.range(&two(id, 0)[..]..&two(id + 1, 0)[..]) {
            let (_, row) = row.map_err(|cause| unreadable(&cause))?;
            let Ok(command) = serde_json::from_slice::<Command>(&row) else { continue };
            let is_meant = match &mut self.selector {
                Selector::Where(sieve) => sieve.takes(&command.shown())?,
                _ => true,
            };
            commands.extend(is_meant.then_some(command));
        }
        Ok(commands)
    }

    /// What is to be read of these devices: what `write` writes of the commands of each.
    fn read(
        mut self,
        devices: Vec<Arc<Device>>,
        mut write: impl FnMut(Vec<Command>, &mut String) + Send + 'static,
    ) -> Begun {
        let (missing, is_none) = (std::mem::take(&mut self.missing), self.is_none);
        let pieces = each(devices, move |device, out| {
            write(self.of_device(&device)?, out);
            Ok(())
        });
        Begun { pieces, missing, is_none }
    }
}

/// Commands that wait for devices (R5.4).
pub(super) fn queue(
    registry: &Arc<Registry>,
    call: &Call,
    devices: Vec<Arc<Device>>,
) -> Result<Begun, Fault> {
    let fields = call.fields()?;
    let chosen = Chosen::of(call, &registry.shelves.commands, &devices)?;
    Ok(chosen.read(devices, move |commands, out| {
        write(commands.iter().map(|it| with_fields(&fields, it.shown())), out);
    }))
}

fn write(values: impl Iterator<Item = Value>, out: &mut String) {
    let values: Vec<_> = values.map(|value| value.to_string()).collect();
    out.push_str(&values.join(","));
}

/// What came of commands (R5.4): `data` chooses by the time they ended, and by a filter.
pub(super) fn results(
    registry: &Arc<Registry>,
    call: &Call,
    devices: Vec<Arc<Device>>,
) -> Result<Begun, Fault> {
    let (fields, asked) = (call.fields()?, Asked::of(&call.data()?, &RESULT_READING)?);
    let chosen = Chosen::of(call, &registry.shelves.results, &devices)?;
    Ok(chosen.read(devices, move |mut commands, out| {
        if asked.reverse {
            commands.reverse();
        }
        let shown = commands.iter().map(Command::shown).filter(|shown| {
            let at = shown["timestamp"].as_f64().and_then(micros).unwrap_or(0);
            let text = shown.to_string();
            let is_meant = |it: &Filter| Message::parse(&text).is_ok_and(|shown| takes(it, &shown));
            (asked.from..=asked.to).contains(&at) && asked.filter.as_ref().is_none_or(is_meant)
        });
        let shown = shown.map(|it| with_fields(&fields, it));
        write(shown.take(usize::try_from(asked.count).unwrap_or(usize::MAX)), out);
    }))
}

/// Cancels commands that wait (R5.4).
pub(super) async fn cancel(registry: Arc<Registry>, call: Call) -> Outcome {
    let begin = {
        let registry = Arc::clone(&registry);
        move || {
            let (devices, mut faults) = registry.objects.choose(&call)?;
            let mut chosen = Chosen::of(&call, &registry.shelves.commands, &devices)?;
            faults.append(&mut chosen.missing);
            let mut waiting = Vec::new();
            for device in devices {
                let found = chosen.of_device(&device)?;
                waiting.extend(found.into_iter().map(|command| (Arc::clone(&device), command)));
            }
            Ok::<_, Fault>((waiting, faults))
        }
    };
    let (waiting, mut faults) = blocking(begin).await??;
    let mut done = Vec::new();
    for (device, command) in waiting {
        let id = command.id;
        match registry.courier.end(&device, command, State::Canceled).await {
            Ok(()) => done.push(id.into()),
            Err(cause) => faults.push(unkept(&cause).about(id)),
        }
    }
    Ok(Answer::partly(done, faults))
}
