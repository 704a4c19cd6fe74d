//! What devices are told (R5.1 to R5.6).

use std::sync::Arc;

use longshore_broker::module::Item;
use longshore_broker::rest::{Answer, Call, Code, Fault, Outcome};
use longshore_expression::Filter;
use serde_json::Value;
use tokio::task::JoinSet;

use super::{Pieces, blocking, each, unkept, unreadable};
use crate::command::{Command, State, timeout_secs};
use crate::device::Device;
use crate::message::{Message, micros};
use crate::reading::takes;
use crate::shelves::two;
use crate::{Registry, now};

/// Commands that one call gives to all devices together.
const COMMANDS_MAX: usize = 1_000;

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
        move || orders(&registry, &call)
    };
    let (orders, mut faults) = blocking(begin).await??;
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
            Ok(shown) => done.push(shown),
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
        let (orders, mut faults) = orders(&registry, &call)?;
        let mut done = Vec::new();
        for (device, position, command, _) in orders {
            let about = |fault: Fault| fault.about(device.head().id).at(position - 1);
            match registry.courier.enqueue(&device, &command) {
                Ok(true) => done.push(command.shown()),
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

/// The numbers that a selector lists; none stands for all.
fn numbers(text: &str) -> Result<Option<Vec<u64>>, Fault> {
    if text.is_empty() || text == "all" {
        return Ok(None);
    }
    let numbers = text.split(',').map(|it| it.trim().parse().ok()).collect::<Option<Vec<u64>>>();
    let wrong = || Fault::bad_request("commands are chosen by all, or by their numbers");
    numbers.ok_or_else(wrong).map(Some)
}

/// Commands that wait for devices (R5.4).
pub(super) fn queue(
    registry: &Arc<Registry>,
    call: &Call,
    devices: Vec<Arc<Device>>,
) -> Result<Pieces, Fault> {
    let (numbers, shelves) = (numbers(call.parameter(1))?, Arc::clone(&registry.shelves));
    Ok(each(devices, move |device, out| {
        let commands = commands(&shelves.commands, &device, numbers.as_deref())?;
        write(commands.iter().map(Command::shown), out);
        Ok(())
    }))
}

fn commands(
    table: &longshore_storage::Table,
    device: &Device,
    numbers: Option<&[u64]>,
) -> Result<Vec<Command>, Fault> {
    let id = device.head().id;
    let mut commands = Vec::new();
    for row in table.range(&two(id, 0)[..]..&two(id + 1, 0)[..]) {
        let (_, row) = row.map_err(|cause| unreadable(&cause))?;
        let Ok(command) = serde_json::from_slice::<Command>(&row) else { continue };
        if numbers.is_none_or(|numbers| numbers.contains(&command.id)) {
            commands.push(command);
        }
    }
    Ok(commands)
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
) -> Result<Pieces, Fault> {
    let numbers = numbers(call.parameter(1))?;
    let (data, shelves) = (call.data()?, Arc::clone(&registry.shelves));
    let known = ["from", "to", "count", "reverse", "filter"];
    if let Some(name) = data.keys().find(|name| !known.contains(&name.as_str())) {
        let reason = format!("no key {name:?} in data: {}", known.join(", "));
        return Err(Fault::new(Code::Format, reason).field(name));
    }
    let filter = data.get("filter").and_then(Value::as_str).filter(|text| !text.is_empty());
    let filter = filter.map(Filter::parse).transpose().map_err(|error| {
        let reason = format!("filter is no expression: {error}");
        Fault::new(Code::Format, reason).field("filter")
    })?;
    let time = |name: &str| data.get(name).and_then(Value::as_f64).and_then(micros);
    let (from, to) = (time("from").unwrap_or(0), time("to").filter(|to| *to > 0));
    let count = data.get("count").and_then(Value::as_u64).unwrap_or(u64::MAX);
    let reverse = data.get("reverse").and_then(Value::as_bool).unwrap_or(false);
    Ok(each(devices, move |device, out| {
        let mut found = commands(&shelves.results, &device, numbers.as_deref())?;
        if reverse {
            found.reverse();
        }
        let shown = found.iter().map(Command::shown).filter(|shown| {
            let at = shown["timestamp"].as_f64().and_then(micros).unwrap_or(0);
            let text = shown.to_string();
            let is_meant =
                |filter: &Filter| Message::parse(&text).is_ok_and(|it| takes(filter, &it));
            at >= from && to.is_none_or(|to| at <= to) && filter.as_ref().is_none_or(is_meant)
        });
        write(shown.take(usize::try_from(count).unwrap_or(usize::MAX)), out);
        Ok(())
    }))
}

/// Cancels commands that wait (R5.4).
pub(super) async fn cancel(registry: Arc<Registry>, call: Call) -> Outcome {
    let begin = {
        let registry = Arc::clone(&registry);
        move || {
            let numbers = numbers(call.parameter(1))?;
            let (devices, faults) = registry.objects.choose(&call)?;
            let mut waiting = Vec::new();
            for device in devices {
                let found = commands(&registry.shelves.commands, &device, numbers.as_deref())?;
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
            Ok(()) => done.push(serde_json::json!({"id": id})),
            Err(cause) => faults.push(unkept(&cause).about(id)),
        }
    }
    Ok(Answer::partly(done, faults))
}
