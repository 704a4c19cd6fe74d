//! The tables of the registry, and how their rows are named.

use longshore_storage::{Table, Tables, TablesError};

use crate::device::Device;
use crate::settings::Setting;
use crate::telemetry::State;

/// All that is kept of devices, beside what their owners say of them.
#[derive(Debug)]
pub(crate) struct Shelves {
    pub(crate) tables: Tables,
    /// Messages: see [`crate::history`].
    pub(crate) history: Table,
    /// A [`State`] by number of the device.
    pub(crate) states: Table,
    /// Commands that wait, and what came of others: JSON by device and number ([`two`]).
    pub(crate) commands: Table,
    pub(crate) results: Table,
    /// Settings: JSON by number of the device and name.
    pub(crate) settings: Table,
}

impl Shelves {
    pub(crate) fn open(tables: &Tables) -> Result<Self, TablesError> {
        let table = |name: &str| tables.table(name);
        Ok(Self {
            tables: tables.clone(),
            history: table("registry-history")?,
            states: table("registry-states")?,
            commands: table("registry-commands")?,
            results: table("registry-results")?,
            settings: table("registry-settings")?,
        })
    }

    /// What is known of the device of this number.
    pub(crate) fn state(&self, device: u64) -> Result<State, TablesError> {
        let row = self.states.get(&device.to_be_bytes())?;
        // What cannot be read is written anew by the next message.
        Ok(row.and_then(|row| State::read(&row)).unwrap_or_default())
    }

    /// Its settings: those that its type has, and others that are kept.
    pub(crate) fn settings(&self, device: &Device) -> Result<Vec<Setting>, TablesError> {
        let mut settings = Setting::of_type(device);
        for row in self.settings.prefix(&device.head.id.to_be_bytes()) {
            let (key, value) = row?;
            let name = String::from_utf8_lossy(key.get(8..).unwrap_or_default());
            let Ok(kept) = serde_json::from_slice(&value) else { continue };
            match settings.iter_mut().find(|it| it.name == name) {
                Some(setting) => setting.fill(kept),
                None => settings.push(Setting::local(&name, kept)),
            }
        }
        Ok(settings)
    }
}

/// The key of what has a number of its own with a device.
pub(crate) fn two(device: u64, number: u64) -> [u8; 16] {
    let mut key = [0; 16];
    key[..8].copy_from_slice(&device.to_be_bytes());
    key[8..].copy_from_slice(&number.to_be_bytes());
    key
}

/// The key of what has a name with a device.
pub(crate) fn named(device: u64, name: &str) -> Vec<u8> {
    [&device.to_be_bytes(), name.as_bytes()].concat()
}
