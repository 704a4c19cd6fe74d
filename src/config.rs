//! What the binary is told: one TOML file, the environment over it, the command line over both.
//!
//! Everything wrong is collected and reported at once, each with its place. Nothing here touches
//! the network, and files other than the configuration itself are only named.

mod key;
mod place;
mod value;

use std::fs;
use std::path::{Path, PathBuf};

use longshore::accounts::Options;
use longshore::{Dialect, Durability, InvalidListen, Limits, Listen};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

pub(crate) use self::key::{LIVE_KEYS, keys};
pub(crate) use self::place::{Place, Problem, Source};
use self::value::Value;

/// Every variable of ours begins with this.
const ENV_PREFIX: &str = "LONGSHORE_";
/// The variable that is no key of the file: the master token.
pub(crate) const MASTER_TOKEN_ENV: &str = "LONGSHORE_MASTER_TOKEN";

/// A complete configuration, valid in itself.
#[derive(Debug, Clone)]
pub(crate) struct Config {
    /// Where clients come in.
    pub(crate) listen: Vec<Listener>,
    /// Files of the TLS listeners.
    pub(crate) tls: TlsFiles,
    /// Who is let in.
    pub(crate) auth: Options,
    /// The bounds of the broker.
    pub(crate) limits: Limits,
    /// Where it does more than the standard asks for.
    pub(crate) dialect: Dialect,
    /// Threads that serve clients; 0 leaves the number to the broker.
    pub(crate) shards: usize,
    /// What is remembered, and how well.
    pub(crate) storage: StorageSettings,
    /// Which modules run.
    #[cfg(any(feature = "channels", feature = "registry", feature = "streams"))]
    pub(crate) modules: Modules,
    /// Where channels listen, and their bounds.
    #[cfg(feature = "channels")]
    pub(crate) channels: longshore::channels::Options,
    /// What streams may reach, and their bounds.
    #[cfg(feature = "streams")]
    pub(crate) streams: longshore::streams::Options,
    /// The bounds of devices.
    #[cfg(feature = "registry")]
    pub(crate) registry: longshore_registry::Limits,
    /// What is logged, and in which form.
    pub(crate) log: LogSettings,
}

/// The `[storage]` section.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct StorageSettings {
    /// What an acknowledgement promises.
    pub(crate) durability: Durability,
    /// Bytes of a file of the journal.
    pub(crate) segment_bytes: u32,
    /// Seconds that wills wait at least after a start.
    pub(crate) will_restart_grace_secs: u64,
}

/// A listener and where it is named.
#[derive(Debug, Clone)]
pub(crate) struct Listener {
    /// What is listened on.
    pub(crate) listen: Listen,
    /// Where that was said.
    pub(crate) place: Place,
}

impl Listener {
    /// What is wrong with it in itself.
    fn check(&self) -> Option<String> {
        let listen = &self.listen;
        if listen.proxy && listen.trusted.is_empty() {
            return Some(format!(
                "{listen} believes no proxy: name yours, in a file as trusted = [\"10.0.0.0/8\"], \
                 in a url as ?proxy=v2&trusted=10.0.0.0/8"
            ));
        }
        if !listen.proxy && !listen.trusted.is_empty() {
            let remedy = "add ?proxy=v2 to the url";
            return Some(format!("{listen} trusts a proxy but expects none: {remedy}"));
        }
        None
    }
}

/// The PEM files behind `mqtts`, `wss` and `https`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct TlsFiles {
    /// Certificate chain, leaf first.
    pub(crate) cert: Option<PathBuf>,
    /// Private key of the leaf.
    pub(crate) key: Option<PathBuf>,
    /// Certificates that sign those of clients.
    pub(crate) client_ca: Option<PathBuf>,
}

impl TlsFiles {
    /// The files there are.
    pub(crate) fn paths(&self) -> impl Iterator<Item = &Path> {
        [&self.cert, &self.key, &self.client_ca].into_iter().flatten().map(PathBuf::as_path)
    }
}

/// The `[log]` section.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LogSettings {
    /// One line of text or one JSON object an event.
    pub(crate) format: LogFormat,
    /// A level, or levels by module: `info,longshore_broker=debug`.
    pub(crate) level: String,
}

/// How an event is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LogFormat {
    /// `time LEVEL message key=value ...`
    Compact,
    /// One JSON object a line.
    Json,
}

/// Which modules run.
#[cfg(any(feature = "channels", feature = "registry", feature = "streams"))]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Modules {
    #[cfg(feature = "channels")]
    pub(crate) channels: bool,
    #[cfg(feature = "registry")]
    pub(crate) registry: bool,
    #[cfg(feature = "streams")]
    pub(crate) streams: bool,
}

impl Default for Config {
    fn default() -> Self {
        let open = |url: &str| Listener {
            listen: url.parse().expect("the default URLs are valid"),
            place: Place::Everywhere,
        };
        Self {
            listen: vec![open("mqtt://0.0.0.0:1883"), open("http://0.0.0.0:8080")],
            tls: TlsFiles::default(),
            auth: Options::default(),
            limits: Limits::default(),
            dialect: Dialect::default(),
            shards: 0,
            storage: StorageSettings {
                durability: Durability::Power,
                segment_bytes: 64 << 20,
                will_restart_grace_secs: 30,
            },
            #[cfg(any(feature = "channels", feature = "registry", feature = "streams"))]
            modules: Modules {
                #[cfg(feature = "channels")]
                channels: true,
                #[cfg(feature = "registry")]
                registry: true,
                #[cfg(feature = "streams")]
                streams: true,
            },
            #[cfg(feature = "channels")]
            channels: longshore::channels::Options::default(),
            #[cfg(feature = "streams")]
            streams: longshore::streams::Options::default(),
            #[cfg(feature = "registry")]
            registry: longshore_registry::Limits::default(),
            log: LogSettings { format: LogFormat::Compact, level: "info".to_owned() },
        }
    }
}

/// The command line's part of the configuration.
#[derive(Debug, Clone, Default)]
pub(crate) struct Arguments {
    /// The configuration file.
    pub(crate) config: Option<PathBuf>,
    /// `--listen`, in order; any replaces all configured ones.
    pub(crate) listen: Vec<String>,
    /// `--anonymous`.
    pub(crate) anonymous: bool,
}

impl Config {
    /// Reads the file, if one is named, and the environment of this process.
    pub(crate) fn load(arguments: &Arguments) -> Result<Self, Vec<Problem>> {
        let file = match &arguments.config {
            Some(path) => Some((path.as_path(), read(path).map_err(|problem| vec![problem])?)),
            None => None,
        };
        let file = file.as_ref().map(|(path, text)| (*path, text.as_str()));
        let environment = std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value)))
            .filter(|(name, _)| name.starts_with(ENV_PREFIX))
            .map(|(name, value)| (name, value.to_string_lossy().into_owned()));
        Self::parse(file, environment, arguments)
    }

    /// Reads `file` (its path and text), then lays `environment` and `arguments` over it.
    pub(crate) fn parse(
        file: Option<(&Path, &str)>,
        environment: impl IntoIterator<Item = (String, String)>,
        arguments: &Arguments,
    ) -> Result<Self, Vec<Problem>> {
        let mut reader = Reader::default();
        if let Some((path, text)) = file {
            reader.file(path, text);
        }
        let mut environment: Vec<_> = environment.into_iter().collect();
        environment.sort();
        for (name, value) in &environment {
            reader.variable(name, value);
        }
        reader.trust();
        reader.arguments(arguments);
        reader.finish()
    }
}

fn read(path: &Path) -> Result<String, Problem> {
    fs::read_to_string(path).map_err(|error| Problem {
        place: Place::Source(Source::File(path.to_owned())),
        what: format!("cannot be read: {error}"),
    })
}

/// Gathers a configuration and all that is wrong with it.
#[derive(Default)]
struct Reader {
    config: Config,
    problems: Vec<Problem>,
    /// Where `tls.cert` or another file of TLS was given last.
    tls_place: Option<Place>,
    /// `LONGSHORE_LISTEN__TRUSTED`, for listeners that name nobody.
    trusted: Option<(Place, String)>,
}

impl Reader {
    fn file(&mut self, path: &Path, text: &str) {
        let place = |at: usize| Place::at(path, text, at);
        let (root, errors) = DeTable::parse_recoverable(text);
        for error in &errors {
            let at = error.span().map_or(0, |span| span.start);
            self.reject(place(at), error.message().to_owned());
        }
        if !errors.is_empty() {
            // What follows a syntax error would be reported for what it is not.
            return;
        }
        for (section, value) in root.get_ref() {
            let name = section.get_ref().as_ref();
            let at = place(section.span().start);
            match (name, value.get_ref()) {
                ("listen", DeValue::Array(items)) => self.listeners(path, text, items),
                ("listen", _) => {
                    self.reject(at, "listeners are a list: write [[listen]] above each".to_owned());
                }
                (_, DeValue::Table(table)) if key::is_section(name) => {
                    for (key, value) in table {
                        let full = format!("{name}.{}", key.get_ref());
                        let at = place(key.span().start);
                        self.set(&full, &Value::Toml(value.get_ref()), at, path.parent());
                    }
                }
                _ if key::is_section(name) => {
                    self.reject(at, format!("{name} is a section: write [{name}] above its keys"));
                }
                (_, DeValue::Table(_)) => {
                    let nearest = key::nearest_section(name);
                    let what = format!("unknown section [{name}]; the nearest is [{nearest}]");
                    self.reject(at, what);
                }
                _ => self.reject(at, unknown(name)),
            }
        }
    }

    fn listeners(&mut self, path: &Path, text: &str, items: &[Spanned<DeValue<'_>>]) {
        self.config.listen.clear();
        for item in items {
            let at = Place::at(path, text, item.span().start);
            let DeValue::Table(table) = item.get_ref() else {
                self.reject(at, "a listener is a table: write [[listen]] above it".to_owned());
                continue;
            };
            self.listener(path, text, at, table);
        }
    }

    fn listener(&mut self, path: &Path, text: &str, at: Place, table: &DeTable<'_>) {
        let mut trusted = Vec::new();
        let mut url = None;
        for (key, value) in table {
            let key_at = Place::at(path, text, key.span().start);
            let value_at = Place::at(path, text, value.span().start);
            let value = Value::Toml(value.get_ref());
            match key.get_ref().as_ref() {
                "url" => url = Some((value_at, value.text())),
                "trusted" => match value.list() {
                    Ok(names) => {
                        trusted.extend(names.into_iter().map(|name| (name, key_at.clone())))
                    }
                    Err(what) => self.reject(value_at, format!("listen.trusted {what}")),
                },
                other => self.reject(key_at, unknown(&format!("listen.{other}"))),
            }
        }
        let (url_at, url) = match url {
            Some((at, Ok(url))) => (at, url),
            Some((at, Err(what))) => return self.reject(at, format!("listen.url {what}")),
            None => return self.reject(at, "a listener needs its url".to_owned()),
        };
        if let Some(mut listener) = self.open(&url, url_at) {
            for (name, place) in trusted {
                match name.parse() {
                    Ok(network) => listener.listen.trusted.push(network),
                    Err(what) => self.reject(place, format!("listen.trusted {what}")),
                }
            }
            self.config.listen.push(listener);
        }
    }

    fn variable(&mut self, name: &str, value: &str) {
        let place = || Place::Source(Source::Environment(name.to_owned()));
        if name == MASTER_TOKEN_ENV {
            return;
        }
        match key::of_variable(name) {
            Some("listen.url") => self.replace_listeners(value.split_whitespace(), &place()),
            Some("listen.trusted") => self.trusted = Some((place(), value.to_owned())),
            Some(full) => self.set(full, &Value::Text(value), place(), None),
            None => {
                // Names without `__` are not keys and may be anybody's: Kubernetes gives every pod
                // LONGSHORE_PORT and more beside a service of that name.
                let (nearest, distance) = key::nearest_variable(name);
                if name.contains("__") || distance <= 2 {
                    self.reject(place(), format!("unknown variable; the nearest is {nearest}"));
                }
            }
        }
    }

    /// Gives `LONGSHORE_LISTEN__TRUSTED` to the listeners that expect a proxy and name none.
    fn trust(&mut self) {
        let Some((place, names)) = self.trusted.take() else { return };
        let mut networks = Vec::new();
        for name in value::split_list(&names) {
            match name.parse() {
                Ok(network) => networks.push(network),
                Err(error) => self.reject(place.clone(), InvalidListen::to_string(&error)),
            }
        }
        for Listener { listen, .. } in &mut self.config.listen {
            if listen.proxy && listen.trusted.is_empty() {
                listen.trusted.clone_from(&networks);
            }
        }
    }

    fn arguments(&mut self, arguments: &Arguments) {
        if !arguments.listen.is_empty() {
            let place = Place::Source(Source::Argument("--listen"));
            self.replace_listeners(arguments.listen.iter().map(String::as_str), &place);
        }
        self.config.auth.anonymous |= arguments.anonymous;
    }

    fn replace_listeners<'a>(&mut self, urls: impl Iterator<Item = &'a str>, place: &Place) {
        self.config.listen.clear();
        for url in urls {
            let opened = self.open(url, place.clone());
            self.config.listen.extend(opened);
        }
    }

    fn open(&mut self, url: &str, place: Place) -> Option<Listener> {
        match url.parse() {
            Ok(listen) => Some(Listener { listen, place }),
            Err(error) => {
                self.reject(place, InvalidListen::to_string(&error));
                None
            }
        }
    }

    fn set(&mut self, full: &str, value: &Value<'_>, place: Place, folder: Option<&Path>) {
        let Some(key) = key::find(full) else {
            return self.reject(place, unknown(full));
        };
        if let Err(what) = (key.set)(&mut self.config, value, folder) {
            return self.reject(place, format!("{full} {what}"));
        }
        if key.section == "tls" {
            self.tls_place = Some(place);
        }
    }

    fn reject(&mut self, place: Place, what: String) {
        self.problems.push(Problem { place, what });
    }

    /// Checks what no key alone can show.
    fn finish(mut self) -> Result<Config, Vec<Problem>> {
        let tls = &self.config.tls;
        let complete = tls.cert.is_some() && tls.key.is_some();
        if !complete && let Some(place) = self.tls_place.take() {
            let missing = if tls.cert.is_none() { "tls.cert" } else { "tls.key" };
            let what = format!("TLS needs certificate and key: {missing} is missing");
            self.problems.push(Problem { place, what });
        } else if !complete
            && let Some(listen) = self.config.listen.iter().find(|it| it.listen.scheme.is_secure())
        {
            let what = format!("{} needs tls.cert and tls.key", listen.listen);
            self.problems.push(Problem { place: listen.place.clone(), what });
        }
        for listen in &self.config.listen {
            let problem = listen.check();
            self.problems.extend(problem.map(|what| Problem { place: listen.place.clone(), what }));
        }
        if self.config.listen.is_empty() && self.problems.is_empty() {
            let what = "nothing to listen on: name at least one listener, as in \
                        --listen mqtt://0.0.0.0:1883"
                .to_owned();
            self.problems.push(Problem { place: Place::Everywhere, what });
        }
        if self.problems.is_empty() { Ok(self.config) } else { Err(self.problems) }
    }
}

fn unknown(full: &str) -> String {
    format!("unknown key {full}; the nearest is {}", key::nearest(full))
}

#[cfg(test)]
mod tests;
