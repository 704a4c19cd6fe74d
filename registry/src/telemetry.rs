//! The latest value of each parameter of a device (R4.15 to R4.18), and how a row holds it.

use longshore_expression::{Parameters, Value};

use crate::message::{MICROS, Message, Secs, value, write_object, write_text};

/// Parameters of one device; beyond that those go that were updated longest ago (R4.18).
pub(crate) const PARAMETERS_MAX: usize = 1_024;
/// How long a value is kept that nothing updates, in microseconds: 370 days (R4.18).
pub(crate) const KEPT_MICROS: u64 = 370 * 86_400 * MICROS;

/// What the parameters `position.x` are together (R4.17).
const POSITION: &str = "position";
const OF_POSITION: &str = "position.";

/// The form of a row.
const FORM: u8 = 1;
/// Bytes that a device takes in memory without any.
const STATE_BYTES: usize = 128;
/// Bytes that a parameter takes in memory beside its name and value.
const PARAMETER_BYTES: usize = 96;

/// What is known of a device beside its configuration: one row, so that a batch changes one row of
/// each device that it has messages of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct State {
    /// The account that owns the device.
    pub(crate) account: u64,
    /// Bytes of its history.
    pub(crate) history_bytes: u64,
    /// When its last message came, in microseconds; 0 if none ever did.
    pub(crate) last_active: u64,
    pub(crate) telemetry: Telemetry,
}

/// Parameters in ascending order of their names, as messages have theirs: what one says is mostly
/// found right behind what it said before.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Telemetry {
    parameters: Vec<(Box<str>, Parameter)>,
    bytes: usize,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Parameter {
    /// The time of the message that said so, in microseconds.
    pub(crate) at: u64,
    /// When that came in, in microseconds.
    updated: u64,
    /// JSON.
    pub(crate) value: Box<str>,
}

/// What a message has changed, in order.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Updated<'a> {
    /// Names and JSON.
    pub(crate) set: Vec<(&'a str, String)>,
    /// Names of those that had no room any more.
    pub(crate) gone: Vec<Box<str>>,
}

impl Telemetry {
    /// Takes over what a message says, whose time is `at`, unless something newer is known (R4.16).
    pub(crate) fn update<'a>(
        &mut self,
        message: &'a Message<'_>,
        at: u64,
        now: u64,
    ) -> Updated<'a> {
        let mut updated = Updated::default();
        updated.set.reserve(message.len() + 1);
        let (mut has_position, mut place) = (false, 0);
        for (name, json) in message.iter() {
            if name != POSITION && self.set(&mut place, name, json, at, now) {
                has_position |= name.starts_with(OF_POSITION);
                updated.set.push((name, json.to_owned()));
            }
        }
        if has_position {
            let position = self.position(message);
            if self.set(&mut place, POSITION, &position, at, now) {
                updated.set.push((POSITION, position));
            }
        }
        if self.parameters.len() > PARAMETERS_MAX {
            let mut all: Vec<_> = self.parameters.iter().collect();
            all.sort_by_key(|(_, it)| (it.updated, it.at));
            all.truncate(self.parameters.len() - PARAMETERS_MAX);
            updated.gone = all.into_iter().map(|(name, _)| name.clone()).collect();
            updated.gone.iter().for_each(|name| self.remove(name));
            updated.set.retain(|(name, _)| self.place(name).is_ok());
        }
        updated
    }

    fn place(&self, name: &str) -> Result<usize, usize> {
        self.parameters.binary_search_by(|(known, _)| (**known).cmp(name))
    }

    /// Takes over a value unless something newer is known. It is looked for at `place` first, which
    /// is the next one then.
    fn set(&mut self, place: &mut usize, name: &str, json: &str, at: u64, updated: u64) -> bool {
        let is_there = self.parameters.get(*place).is_some_and(|(known, _)| **known == *name);
        let found = if is_there { Ok(*place) } else { self.place(name) };
        let (Ok(at_place) | Err(at_place)) = found;
        *place = at_place + 1;
        if found.is_err() {
            self.bytes += PARAMETER_BYTES + name.len() + json.len();
            let parameter = Parameter { at, updated, value: json.into() };
            self.parameters.insert(at_place, (name.into(), parameter));
            return true;
        }
        let known = &mut self.parameters[at_place].1;
        if known.at > at {
            return false;
        }
        self.bytes = self.bytes - known.value.len() + json.len();
        (known.at, known.updated) = (at, updated);
        if *known.value != *json {
            known.value = json.into();
        }
        true
    }

    /// The object of all that the message says of a position. One that does not say where it is
    /// adds to what is known.
    fn position(&self, message: &Message<'_>) -> String {
        let is_whole = ["position.latitude", "position.longitude"];
        let is_whole = is_whole.iter().all(|name| message.get(name).is_some());
        let mut out = String::new();
        let of = |name: &'_ str| name.starts_with(OF_POSITION);
        if is_whole {
            let pairs = message.iter().filter(|(name, _)| of(name));
            write_object(pairs.map(|(name, json)| (&name[OF_POSITION.len()..], json)), &mut out);
        } else {
            let pairs = self.parameters.iter().filter(|(name, _)| of(name));
            let pairs = pairs.map(|(name, it)| (&name[OF_POSITION.len()..], &*it.value));
            write_object(pairs, &mut out);
        }
        out
    }

    fn remove(&mut self, name: &str) {
        if let Ok(place) = self.place(name) {
            let (_, gone) = self.parameters.remove(place);
            self.bytes -= PARAMETER_BYTES + name.len() + gone.value.len();
        }
    }

    /// Forgets what is chosen; the names of it.
    pub(crate) fn forget(
        &mut self,
        mut is_chosen: impl FnMut(&str, &Parameter) -> bool,
    ) -> Vec<Box<str>> {
        let mut names = Vec::new();
        self.parameters.retain(|(name, it)| {
            let is_kept = !is_chosen(name, it);
            if !is_kept {
                self.bytes -= PARAMETER_BYTES + name.len() + it.value.len();
                names.push(name.clone());
            }
            is_kept
        });
        names
    }

    /// Forgets what nothing has updated for long (R4.18).
    pub(crate) fn forget_old(&mut self, now: u64) -> Vec<Box<str>> {
        self.forget(|_, it| it.updated.saturating_add(KEPT_MICROS) < now)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, &Parameter)> {
        self.parameters.iter().map(|(name, it)| (&**name, it))
    }

    /// Bytes that it takes in memory, with what is known beside it.
    pub(crate) fn bytes(&self) -> usize {
        STATE_BYTES + self.bytes
    }

    /// The object `{"name":{"ts":...,"value":...}}` of those that are wanted (R4.15).
    pub(crate) fn write(&self, is_wanted: impl Fn(&str) -> bool, out: &mut String) {
        out.push('{');
        let mut is_first = true;
        for (name, it) in self.iter().filter(|(name, _)| is_wanted(name)) {
            if !std::mem::take(&mut is_first) {
                out.push(',');
            }
            write_text(name, out);
            out.push_str(&format!(":{{\"ts\":{},\"value\":{}}}", Secs(it.at), it.value));
        }
        out.push('}');
    }
}

/// Asked for by the conditions of commands.
impl Parameters for Telemetry {
    fn get(&self, name: &str) -> Option<Value<'_>> {
        value(&self.parameters[self.place(name).ok()?].1.value)
    }
}

impl State {
    /// The row of it.
    pub(crate) fn to_row(&self) -> Vec<u8> {
        let mut row = Vec::with_capacity(32 + self.telemetry.bytes);
        row.push(FORM);
        row.extend_from_slice(&self.account.to_be_bytes());
        row.extend_from_slice(&self.history_bytes.to_be_bytes());
        row.extend_from_slice(&self.last_active.to_be_bytes());
        for (name, it) in self.telemetry.iter() {
            // Names have 255 bytes, and a message is no larger than a packet of MQTT.
            row.push(name.len() as u8);
            row.extend_from_slice(name.as_bytes());
            row.extend_from_slice(&it.at.to_be_bytes());
            row.extend_from_slice(&it.updated.to_be_bytes());
            row.extend_from_slice(&(it.value.len() as u32).to_be_bytes());
            row.extend_from_slice(it.value.as_bytes());
        }
        row
    }

    /// Reads it back; none if it is no such row.
    pub(crate) fn read(row: &[u8]) -> Option<Self> {
        let mut rest = row;
        let [form] = take(&mut rest)?;
        if form != FORM {
            return None;
        }
        let mut number = || take(&mut rest).map(u64::from_be_bytes);
        let (account, history_bytes, last_active) = (number()?, number()?, number()?);
        let (mut telemetry, mut place) = (Telemetry::default(), 0);
        while !rest.is_empty() {
            let [length] = take(&mut rest)?;
            let name = std::str::from_utf8(rest.split_off(..usize::from(length))?).ok()?;
            let at = u64::from_be_bytes(take(&mut rest)?);
            let updated = u64::from_be_bytes(take(&mut rest)?);
            let length = u32::from_be_bytes(take(&mut rest)?);
            let value = std::str::from_utf8(rest.split_off(..length as usize)?).ok()?;
            telemetry.set(&mut place, name, value, at, updated);
        }
        Some(Self { account, history_bytes, last_active, telemetry })
    }

    /// The same without telemetry, which is not looked at.
    pub(crate) fn read_head(row: &[u8]) -> Option<Self> {
        Self::read(row.get(..25)?)
    }
}

fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (taken, behind) = rest.split_first_chunk::<N>()?;
    *rest = behind;
    Some(*taken)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(telemetry: &mut Telemetry, at: u64, text: &str) -> Vec<String> {
        let message = Message::parse(text).unwrap();
        let updated = telemetry.update(&message, at, at);
        updated.set.into_iter().map(|(name, json)| format!("{name}={json}")).collect()
    }

    /// R4.16.
    #[test]
    fn what_is_older_does_not_overwrite() {
        let mut telemetry = Telemetry::default();
        assert_eq!(said(&mut telemetry, 20, r#"{"a":1,"b":2}"#), ["a=1", "b=2"]);
        assert_eq!(said(&mut telemetry, 10, r#"{"a":0,"c":3}"#), ["c=3"], "black box");
        assert_eq!(said(&mut telemetry, 20, r#"{"a":5}"#), ["a=5"], "the same time counts");
        let mut out = String::new();
        telemetry.write(|name| name != "b", &mut out);
        assert_eq!(out, r#"{"a":{"ts":0.00002,"value":5},"c":{"ts":0.00001,"value":3}}"#);
    }

    /// R4.17.
    #[test]
    fn position_is_the_object_of_all_that_is_said_of_it() {
        let mut telemetry = Telemetry::default();
        let whole = r#"{"position.latitude":1.5,"position.longitude":2,"position.speed":9}"#;
        let position = r#"position={"latitude":1.5,"longitude":2,"speed":9}"#;
        assert_eq!(said(&mut telemetry, 1, whole).last().unwrap(), position);
        let part = said(&mut telemetry, 2, r#"{"position.satellites":7,"din":1}"#);
        let position = r#"position={"latitude":1.5,"longitude":2,"satellites":7,"speed":9}"#;
        assert_eq!(part, ["din=1", "position.satellites=7", position]);
        let next = said(&mut telemetry, 3, r#"{"position.latitude":3,"position.longitude":4}"#);
        assert_eq!(next.last().unwrap(), r#"position={"latitude":3,"longitude":4}"#);
        assert_eq!(said(&mut telemetry, 4, r#"{"din":2}"#), ["din=2"]);
    }

    /// R4.18.
    #[test]
    fn no_more_than_1024_parameters_are_kept_and_none_for_longer_than_370_days() {
        let mut telemetry = Telemetry::default();
        for at in 0..3_u64 {
            let pairs: Vec<_> = (0..500).map(|n| format!("\"p{at}.{n}\":{n}")).collect();
            let text = format!("{{{}}}", pairs.join(","));
            let message = Message::parse(&text).unwrap();
            let updated = telemetry.update(&message, 9 - at, at);
            assert_eq!(updated.gone.len(), if at == 2 { 1_500 - PARAMETERS_MAX } else { 0 });
            assert!(updated.gone.iter().all(|name| name.starts_with("p0.")));
        }
        assert_eq!(telemetry.iter().count(), PARAMETERS_MAX);
        assert_eq!(telemetry.forget_old(KEPT_MICROS + 1).len(), PARAMETERS_MAX - 1_000);
        assert_eq!(telemetry.forget_old(u64::MAX).len(), 1_000);
        assert_eq!(telemetry, Telemetry::default(), "and the bytes are counted right");
    }

    #[test]
    fn a_row_holds_all_of_it() {
        let mut state = State { account: 3, history_bytes: 7, last_active: 9, ..State::default() };
        said(&mut state.telemetry, 5, r#"{"a":1,"position.speed":{"x":[1]},"t":"\u20ac"}"#);
        let row = state.to_row();
        assert_eq!(State::read(&row).as_ref(), Some(&state));
        state.telemetry = Telemetry::default();
        assert_eq!(State::read_head(&row), Some(state));
        for end in 1..row.len() {
            // Cut between two parameters it is a row of fewer.
            assert!(State::read(&row[..end]).is_none_or(|it| it.telemetry.iter().count() < 4));
        }
    }
}
