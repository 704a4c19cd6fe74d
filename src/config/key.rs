//! The one table of keys: it drives reading, the names of variables, hints and reloading.

use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use longshore::codec::QoS;
use longshore::{Durability, QueueOverflow, WildcardDelete};
use tracing_subscriber::filter::Targets;

use super::value::Value;
use super::{Config, ENV_PREFIX, LogFormat, MASTER_TOKEN_ENV};

/// One key of the configuration, `[[listen]]` apart.
pub(crate) struct Key {
    /// Its section.
    pub(crate) section: &'static str,
    /// Its name there.
    pub(crate) name: &'static str,
    /// Takes a value over; paths of a file are relative to the folder of that file.
    pub(super) set: fn(&mut Config, &Value<'_>, Option<&Path>) -> Result<(), String>,
    /// The value in force as TOML; empty when there is none.
    pub(crate) show: fn(&Config) -> String,
}

/// Keys that a running broker takes over.
pub(crate) const LIVE_KEYS: [&str; 4] = ["tls.cert", "tls.key", "tls.client_ca", "log.level"];

/// Keys of a listener; `[[listen]]` is read apart, its names are known here.
const LISTEN_KEYS: [&str; 2] = ["listen.url", "listen.trusted"];

macro_rules! path {
    ($name:ident) => {
        Key {
            section: "tls",
            name: stringify!($name),
            set: |config, value, folder| {
                config.tls.$name = Some(relative_to(folder, value.text()?));
                Ok(())
            },
            show: |config| {
                let path = config.tls.$name.as_ref();
                path.map_or_else(String::new, |path| format!("{:?}", path.display().to_string()))
            },
        }
    };
}

/// One number under the name it has in the broker; the type is that of its field.
macro_rules! number {
    ($section:ident.$name:ident: $range:expr) => {
        Key {
            section: stringify!($section),
            name: stringify!($name),
            set: |config, value, _| {
                config.$section.$name = value.number(&$range)?;
                Ok(())
            },
            show: |config| config.$section.$name.to_string(),
        }
    };
}

/// One switch that is on or off, under the name it has in the broker.
macro_rules! switch {
    ($section:ident.$name:ident) => {
        Key {
            section: stringify!($section),
            name: stringify!($name),
            set: |config, value, _| {
                config.$section.$name = value.boolean()?;
                Ok(())
            },
            show: |config| config.$section.$name.to_string(),
        }
    };
}

/// What a count or size may be where the broker sets no bound: up to what TOML can write.
const SOME: RangeInclusive<usize> = 1..=i64::MAX as usize;
const ANY: RangeInclusive<usize> = 0..=i64::MAX as usize;
const SECONDS: RangeInclusive<u64> = 1..=i64::MAX as u64;
/// The largest packet that MQTT can frame, its fixed header of 5 bytes included.
const PACKET_BYTES_MAX: usize = 268_435_460;

static KEYS: &[Key] = &[
    path!(cert),
    path!(key),
    path!(client_ca),
    switch!(auth.anonymous),
    switch!(auth.special),
    switch!(auth.show_keys),
    switch!(auth.bind_client_id),
    number!(auth.failures_per_minute: 1..=u32::MAX),
    number!(auth.log_ttl_secs: SECONDS),
    number!(auth.log_events_per_account: 0..=i64::MAX as u64),
    number!(auth.counters_secs: 0..=86_400),
    number!(limits.connections: SOME),
    number!(limits.connections_per_address: SOME),
    number!(limits.handshakes: SOME),
    number!(limits.connect_timeout_secs: SECONDS),
    number!(limits.connect_bytes: 64..=PACKET_BYTES_MAX),
    number!(limits.connect_bytes_total: SOME),
    number!(limits.packet_bytes: 64..=PACKET_BYTES_MAX),
    number!(limits.packet_secs: SECONDS),
    number!(limits.input_bytes: SOME),
    number!(limits.output_bytes: SOME),
    number!(limits.output_bytes_total: SOME),
    number!(limits.output_stall_secs: SECONDS),
    number!(limits.topic_levels: 1..=65_535),
    number!(limits.topic_bytes: 1..=65_535),
    number!(limits.topic_aliases: 0..=u16::MAX),
    number!(limits.topic_alias_bytes: ANY),
    number!(limits.topic_aliases_out: 0..=u16::MAX),
    number!(limits.packet_filters: SOME),
    number!(limits.subscriptions: SOME),
    number!(limits.subscription_bytes: SOME),
    number!(limits.shared_subscriptions: ANY),
    number!(limits.user_properties: ANY),
    number!(limits.receive_maximum: 1..=u16::MAX),
    number!(limits.inflight: 1..=u16::MAX),
    number!(limits.queue_messages: ANY),
    number!(limits.queue_bytes: ANY),
    number!(limits.queue_memory: ANY),
    number!(limits.queue_bytes_total: ANY),
    Key {
        section: "limits",
        name: "queue_overflow",
        set: |config, value, _| {
            config.limits.queue_overflow = match value.text()?.as_str() {
                "end" => QueueOverflow::End,
                "drop_oldest" => QueueOverflow::DropOldest,
                other => return Err(format!("is \"end\" or \"drop_oldest\", not {other:?}")),
            };
            Ok(())
        },
        show: |config| match config.limits.queue_overflow {
            QueueOverflow::DropOldest => "\"drop_oldest\"".to_owned(),
            _ => "\"end\"".to_owned(),
        },
    },
    number!(limits.sessions: SOME),
    number!(limits.will_bytes: ANY),
    number!(limits.session_expiry_secs: 0..=u32::MAX),
    number!(limits.keep_alive_secs: 0..=u16::MAX),
    number!(limits.retained_messages: ANY),
    number!(limits.retained_bytes: ANY),
    number!(limits.route_cache_bytes: SOME),
    number!(limits.request_bytes: SOME),
    number!(limits.request_bytes_total: SOME),
    number!(limits.request_secs: SECONDS),
    Key {
        section: "dialect",
        name: "wildcard_delete",
        set: |config, value, _| {
            config.dialect.wildcard_delete = match value.text()?.as_str() {
                "any" => WildcardDelete::Any,
                "retain" => WildcardDelete::Retain,
                "off" => WildcardDelete::Off,
                other => return Err(format!("is \"any\", \"retain\" or \"off\", not {other:?}")),
            };
            Ok(())
        },
        show: |config| match config.dialect.wildcard_delete {
            WildcardDelete::Retain => "\"retain\"".to_owned(),
            WildcardDelete::Off => "\"off\"".to_owned(),
            _ => "\"any\"".to_owned(),
        },
    },
    switch!(dialect.selectors),
    switch!(dialect.sticky_groups),
    switch!(dialect.filters),
    switch!(dialect.stamp),
    switch!(dialect.describe_session),
    switch!(dialect.session_state),
    switch!(dialect.sys_topics),
    switch!(dialect.rest_over_mqtt),
    Key {
        section: "dialect",
        name: "max_qos",
        set: |config, value, _| {
            config.dialect.max_qos = match value.number(&(0..=2))? {
                0 => QoS::AtMostOnce,
                1 => QoS::AtLeastOnce,
                _ => QoS::ExactlyOnce,
            };
            Ok(())
        },
        show: |config| (config.dialect.max_qos as u8).to_string(),
    },
    Key {
        section: "storage",
        name: "durability",
        set: |config, value, _| {
            config.storage.durability = match value.text()?.as_str() {
                "power" => Durability::Power,
                "process" => Durability::Process,
                "none" => Durability::None,
                other => {
                    return Err(format!("is \"power\", \"process\" or \"none\", not {other:?}"));
                }
            };
            Ok(())
        },
        show: |config| match config.storage.durability {
            Durability::Process => "\"process\"".to_owned(),
            Durability::None => "\"none\"".to_owned(),
            _ => "\"power\"".to_owned(),
        },
    },
    Key {
        section: "storage",
        name: "segment_bytes",
        set: |config, value, _| {
            let bytes = value.number(&(4_096..=1 << 30))?;
            if bytes % 512 != 0 {
                return Err(format!("is a multiple of 512, not {bytes}"));
            }
            config.storage.segment_bytes = bytes;
            Ok(())
        },
        show: |config| config.storage.segment_bytes.to_string(),
    },
    Key {
        section: "storage",
        name: "will_restart_grace_secs",
        set: |config, value, _| {
            config.storage.will_restart_grace_secs = value.number(&(0..=i64::MAX as u64))?;
            Ok(())
        },
        show: |config| config.storage.will_restart_grace_secs.to_string(),
    },
    #[cfg(feature = "registry")]
    number!(registry.devices_per_account: ANY),
    #[cfg(feature = "registry")]
    number!(registry.history_bytes: 1..=i64::MAX as u64),
    #[cfg(feature = "registry")]
    number!(registry.telemetry_cache_bytes: SOME),
    #[cfg(feature = "registry")]
    number!(registry.batch_messages: 1..=65_535),
    #[cfg(feature = "registry")]
    number!(registry.commands_per_device: ANY),
    #[cfg(feature = "registry")]
    number!(registry.results_per_device: SOME),
    #[cfg(feature = "registry")]
    number!(registry.settings_per_device: ANY),
    #[cfg(feature = "registry")]
    number!(registry.sweep_secs: 1..=86_400),
    #[cfg(feature = "registry")]
    number!(registry.answer_secs: 1..=3_600),
    Key {
        section: "threads",
        name: "shards",
        set: |config, value, _| {
            config.shards = value.number(&(0..=63))?;
            Ok(())
        },
        show: |config| config.shards.to_string(),
    },
    #[cfg(feature = "channels")]
    switch!(modules.channels),
    #[cfg(feature = "registry")]
    switch!(modules.registry),
    #[cfg(feature = "streams")]
    switch!(modules.streams),
    #[cfg(feature = "channels")]
    Key {
        section: "channels",
        name: "host",
        set: |config, value, _| {
            config.channels.host = value.text()?;
            Ok(())
        },
        show: |config| format!("{:?}", config.channels.host),
    },
    #[cfg(feature = "channels")]
    Key {
        section: "channels",
        name: "address",
        set: |config, value, _| {
            let text = value.text()?;
            let address = text.parse().map_err(|_| format!("is an IP address, not {text:?}"));
            config.channels.address = address?;
            Ok(())
        },
        show: |config| format!("{:?}", config.channels.address.to_string()),
    },
    #[cfg(feature = "channels")]
    number!(channels.port_min: 1..=u16::MAX),
    #[cfg(feature = "channels")]
    number!(channels.port_max: 1..=u16::MAX),
    #[cfg(feature = "channels")]
    number!(channels.channels_per_account: ANY),
    #[cfg(feature = "channels")]
    number!(channels.connections: SOME),
    #[cfg(feature = "channels")]
    number!(channels.buffer_bytes: SECONDS),
    #[cfg(feature = "channels")]
    number!(channels.packets_bytes: SECONDS),
    #[cfg(feature = "channels")]
    number!(channels.messages_per_minute: 0..=i64::MAX as u64),
    #[cfg(feature = "channels")]
    number!(channels.bytes_per_minute: 0..=i64::MAX as u64),
    #[cfg(feature = "channels")]
    number!(channels.idle_secs: 1..=86_400),
    #[cfg(feature = "channels")]
    number!(channels.pending_bytes: SOME),
    #[cfg(feature = "streams")]
    Key {
        section: "streams",
        name: "allow",
        set: |config, value, _| {
            let allow = value.list()?;
            let targets = longshore::streams::Targets::new(&allow);
            targets.map_err(|error| format!("lists no target: {}", error.text))?;
            config.streams.allow = allow;
            Ok(())
        },
        show: |config| format!("{:?}", config.streams.allow),
    },
    #[cfg(feature = "streams")]
    number!(streams.streams_per_account: ANY),
    #[cfg(feature = "streams")]
    number!(streams.queue_bytes: 1..=i64::MAX as u64),
    #[cfg(feature = "streams")]
    number!(streams.packets_bytes: SECONDS),
    Key {
        section: "log",
        name: "format",
        set: |config, value, _| {
            config.log.format = match value.text()?.as_str() {
                "compact" => LogFormat::Compact,
                "json" => LogFormat::Json,
                other => return Err(format!("is \"compact\" or \"json\", not {other:?}")),
            };
            Ok(())
        },
        show: |config| match config.log.format {
            LogFormat::Compact => "\"compact\"".to_owned(),
            LogFormat::Json => "\"json\"".to_owned(),
        },
    },
    Key {
        section: "log",
        name: "level",
        set: |config, value, _| {
            let level = value.text()?;
            level.parse::<Targets>().map_err(|_| {
                format!(
                    "is error, warn, info, debug, trace or off, or such by module, not {level:?}"
                )
            })?;
            config.log.level = level;
            Ok(())
        },
        show: |config| format!("{:?}", config.log.level),
    },
];

/// Every known name with its section, and the variable that sets it.
static NAMES: LazyLock<Vec<(String, String)>> = LazyLock::new(|| {
    let keys = KEYS.iter().map(Key::full);
    LISTEN_KEYS
        .iter()
        .map(|full| (*full).to_owned())
        .chain(keys)
        .map(|full| {
            let variable = format!("{ENV_PREFIX}{}", full.replace('.', "__").to_uppercase());
            (full, variable)
        })
        .collect()
});

impl Key {
    /// Section and name.
    pub(crate) fn full(&self) -> String {
        format!("{}.{}", self.section, self.name)
    }
}

/// Every key but those of a listener.
pub(crate) fn keys() -> &'static [Key] {
    KEYS
}

pub(super) fn find(full: &str) -> Option<&'static Key> {
    let (section, name) = full.split_once('.')?;
    KEYS.iter().find(|key| key.section == section && key.name == name)
}

pub(super) fn is_section(name: &str) -> bool {
    KEYS.iter().any(|key| key.section == name)
}

/// The key that a variable sets.
pub(super) fn of_variable(name: &str) -> Option<&'static str> {
    NAMES.iter().find(|(_, variable)| variable == name).map(|(full, _)| full.as_str())
}

/// The known key nearest to an unknown one, the right name in a wrong section included.
pub(super) fn nearest(full: &str) -> &'static str {
    let name = |full: &str| full.rsplit('.').next().map_or_else(String::new, str::to_owned);
    let (wanted, unknown) = (name(full), full);
    let distance = |known: &str| {
        let by_name = 1 + strsim::osa_distance(&wanted, &name(known));
        by_name.min(strsim::osa_distance(unknown, known))
    };
    let known = NAMES.iter().map(|(full, _)| full.as_str());
    known.min_by_key(|known| distance(known)).expect("the table has keys")
}

pub(super) fn nearest_section(name: &str) -> &'static str {
    let sections = KEYS.iter().map(|key| key.section).chain(["listen"]);
    sections
        .min_by_key(|section| strsim::osa_distance(name, section))
        .expect("the table has sections")
}

/// The known variable nearest to an unknown one, and how many edits away it is.
pub(super) fn nearest_variable(name: &str) -> (&'static str, usize) {
    NAMES
        .iter()
        .map(|(_, variable)| variable.as_str())
        .chain([MASTER_TOKEN_ENV])
        .map(|known| (known, strsim::osa_distance(name, known)))
        .min_by_key(|(_, distance)| *distance)
        .expect("the table has keys")
}

fn relative_to(folder: Option<&Path>, path: String) -> PathBuf {
    folder.unwrap_or(Path::new("")).join(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The broker's limits are matched by hand; this is what keeps the two from drifting.
    #[test]
    fn every_limit_of_the_broker_is_a_key_in_its_order() {
        let shown = format!("{:#?}", Config::default().limits);
        let fields: Vec<&str> = shown
            .lines()
            .filter_map(|line| line.strip_prefix("    ")?.split_once(": "))
            .map(|(field, _)| field)
            .collect();
        let limits = KEYS.iter().filter(|key| key.section == "limits");
        assert_eq!(limits.map(|key| key.name).collect::<Vec<_>>(), fields);
    }

    /// So are switches.
    #[test]
    fn every_switch_of_the_broker_is_a_key() {
        let config = Config::default();
        for (section, shown) in
            [("dialect", format!("{:#?}", config.dialect)), ("auth", format!("{:#?}", config.auth))]
        {
            let fields = shown.lines().filter_map(|line| line.trim_start().split_once(": "));
            let mut fields: Vec<&str> = fields.map(|(field, _)| field).collect();
            let keys = KEYS.iter().filter(|key| key.section == section);
            let mut keys: Vec<&str> = keys.map(|key| key.name).collect();
            fields.sort_unstable();
            keys.sort_unstable();
            assert_eq!(keys, fields, "{section}");
        }
    }

    #[test]
    fn the_nearest_key_is_the_one_meant() {
        let rows = [
            ("limits.packet_byte", "limits.packet_bytes"),
            ("limits.conections", "limits.connections"),
            ("anonymous", "auth.anonymous"),
            ("limits.anonymous", "auth.anonymous"),
            ("listen.urls", "listen.url"),
            ("tls.certificate", "tls.cert"),
            ("log.fromat", "log.format"),
        ];
        for (unknown, want) in rows {
            assert_eq!(nearest(unknown), want, "{unknown}");
        }
        assert_eq!(nearest_section("limit"), "limits");
        assert_eq!(nearest_section("lisen"), "listen");
    }

    #[test]
    fn live_keys_are_keys() {
        assert!(LIVE_KEYS.iter().all(|full| find(full).is_some()));
    }
}
