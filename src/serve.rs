//! `longshore serve`: the broker from start to stop.

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use longshore::Scheme;
use sd_notify::NotifyState;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use tracing::{error, info, warn};

use crate::Outcome;
use crate::cli::ServeOptions;
use crate::config::{Arguments, Config, LogFormat, MASTER_TOKEN_ENV, Place, Problem, Source};
use crate::control::Control;
use crate::data_dir::{DataDir, Master};
use crate::log::Log;
use crate::reload::{Refused, Watch, reread};
use crate::start::{self, Running};

/// How often files are looked at for a change; one takes effect within twice this.
const WATCH_SPAN: Duration = Duration::from_secs(1);

/// Longest wait for the broker to stop, within the 5 seconds that a stop may take in all.
const STOP_MAX: Duration = Duration::from_millis(4_500);

/// What wakes the main thread.
enum Event {
    /// SIGTERM or SIGINT.
    Stop,
    /// SIGHUP.
    Reload,
    /// The broker stopped of itself.
    Ended(Result<(), String>),
}

/// Runs until it is told to stop.
pub(crate) fn serve(options: &ServeOptions) -> Outcome {
    // First of all: whoever signals a process that just begins to start means to be heard too.
    let (events, happened) = channel();
    pass_signals_on(events.clone()).map_err(|error| everywhere(error.to_string()))?;
    let arguments = options.arguments();
    let mut watch = Watch::default();
    watch.set(arguments.config.as_deref().into_iter());
    let config = Config::load(&arguments)?;
    let files = raise_file_limit();
    let log = Log::start(&config.log).map_err(|error| everywhere(error.to_string()))?;
    if let Some(files) = files.filter(|files| *files < config.limits.connections as u64) {
        info!(files, "open files, and with them connections, are limited (ulimit -n)");
    }
    let form = config.log.format;
    let settings = Settings { arguments, config, watch };
    let mut outcome = run(options, settings, &log, (events, happened));
    if let (Err(problems), LogFormat::Json) = (&mut outcome, form) {
        // Whoever reads JSON reads nothing else.
        for problem in problems.drain(..) {
            error!("{problem}");
        }
    }
    log.close();
    outcome
}

/// The configuration in force, and what is needed to take over another.
struct Settings {
    arguments: Arguments,
    config: Config,
    watch: Watch,
}

impl Settings {
    /// Watches the files that the configuration names, before they are read.
    fn watch(&mut self) {
        let config = self.arguments.config.as_deref();
        self.watch.set(self.config.tls.paths().chain(config));
    }
}

fn run(
    options: &ServeOptions,
    mut settings: Settings,
    log: &Log,
    (events, happened): (Sender<Event>, Receiver<Event>),
) -> Outcome {
    settings.watch();
    let config = &settings.config;
    let problems = start::check_listeners(&config.listen);
    if !problems.is_empty() {
        return Err(problems);
    }
    let data = DataDir::at(&options.data_dir);
    data.check_whole().map_err(one)?;
    let master = data.master(std::env::var(MASTER_TOKEN_ENV).ok().as_deref()).map_err(one)?;
    let tls = start::load_tls(&config.tls).map_err(one)?;

    let broker = start::start(config, tls, &data, &master.token).map_err(one)?;
    let broker = Arc::new(broker);
    let addresses = broker.addresses();
    // A start that fails on a listener leaves nothing behind.
    data.keep(&master).map_err(one)?;
    let _control = Control::listen(&data, &broker);
    info!(source = %master.source, "master token");
    if master.is_new {
        // Nobody reading along is no reason to stop: the token is in its file.
        let _ = io::stdout().write_all(welcome(&master, config, &addresses).as_bytes());
    }
    for (scheme, address) in &addresses {
        info!(url = format!("{}://{address}", scheme.name()), "listening");
    }
    if config.auth.anonymous {
        warn!("clients without valid credentials act as the root account, with all rights");
    }
    info!("ready");
    tell_systemd(&[NotifyState::Ready]);

    watch_over(Arc::clone(&broker), events);
    Service { settings, broker, log }.run(&happened)
}

/// The broker at work.
struct Service<'a> {
    settings: Settings,
    broker: Arc<Running>,
    log: &'a Log,
}

impl Service<'_> {
    fn run(mut self, happened: &Receiver<Event>) -> Outcome {
        loop {
            match happened.recv_timeout(WATCH_SPAN) {
                Ok(Event::Stop) => return self.stop(happened),
                Ok(Event::Reload) => self.reload(),
                Ok(Event::Ended(end)) => return end.map_err(everywhere),
                Err(RecvTimeoutError::Timeout) if self.settings.watch.has_changed() => {
                    self.reload()
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return Ok(()),
            }
        }
    }

    /// Lets the broker stop in good order, but not for ever.
    fn stop(self, happened: &Receiver<Event>) -> Outcome {
        info!("stopping");
        tell_systemd(&[NotifyState::Stopping]);
        self.broker.shutdown();
        let deadline = Instant::now() + STOP_MAX;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match happened.recv_timeout(left) {
                Ok(Event::Ended(end)) => {
                    info!("stopped");
                    return end.map_err(everywhere);
                }
                Ok(Event::Stop | Event::Reload) => {}
                Err(_) => {
                    warn!("stopped without waiting any longer");
                    return Ok(());
                }
            }
        }
    }

    /// Takes over what can be; the certificates in force are read again even when a new
    /// configuration is refused, for theirs may be about to expire.
    fn reload(&mut self) {
        self.settings.watch.forget();
        match reread(&self.settings.arguments, &self.settings.config) {
            Ok(config) => {
                self.log.relevel(&config.log);
                self.settings.config = config;
                self.settings.watch();
                info!("configuration reloaded");
            }
            Err(Refused::Wrong(problems)) => {
                for problem in problems {
                    warn!("configuration refused, the old one stays: {problem}");
                }
            }
            Err(Refused::Frozen(changes)) => {
                for change in changes {
                    warn!("configuration refused, the old one stays until a restart: {change}");
                }
            }
        }
        match start::load_tls(&self.settings.config.tls) {
            Ok(Some(tls)) => {
                self.broker.replace_tls(tls);
                info!("certificates reloaded");
            }
            Ok(None) => {}
            Err(problem) => warn!("certificates refused, the old ones stay: {problem}"),
        }
    }
}

/// Sends the signals this process is told by to the main thread.
fn pass_signals_on(events: Sender<Event>) -> io::Result<()> {
    let mut signals = Signals::new([SIGTERM, SIGINT, SIGHUP])?;
    thread::Builder::new().name("signals".to_owned()).spawn(move || {
        let mut stopping = false;
        for signal in signals.forever() {
            let event = if signal == SIGHUP { Event::Reload } else { Event::Stop };
            if matches!(event, Event::Stop) && stopping {
                // Told twice: whoever asks does not want to wait.
                std::process::exit(1);
            }
            stopping |= matches!(event, Event::Stop);
            if events.send(event).is_err() {
                return;
            }
        }
    })?;
    Ok(())
}

/// Tells the main thread when the broker stops of itself.
fn watch_over(broker: Arc<Running>, events: Sender<Event>) {
    let watching = thread::Builder::new().name("watch".to_owned()).spawn(move || {
        // The main thread is gone only when the process ends.
        let _ = events.send(Event::Ended(broker.wait()));
    });
    if let Err(error) = watching {
        warn!("a broker that fails will not be noticed: {error}");
    }
}

/// Files whose place is made at the start: with more connections, it is made when they come.
const FILES_AT_START: u64 = 1 << 17;

/// Every connection is an open file; shells and services begin with few. How many there may be.
fn raise_file_limit() -> Option<u64> {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    if setrlimit(Resource::Nofile, limit).is_err() {
        limit = getrlimit(Resource::Nofile);
    }
    // The system doubles the table of files when it is full, and while several threads share it
    // that stops the one which needs it for 20 ms. A file high up makes room while there is one.
    let highest = limit.current.unwrap_or(u64::MAX).min(FILES_AT_START).saturating_sub(1);
    if let Ok(highest) = i32::try_from(highest) {
        drop(rustix::io::fcntl_dupfd_cloexec(io::stderr(), highest));
    }
    limit.current
}

/// Readiness and stop for systemd; without it nothing happens.
fn tell_systemd(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        warn!("systemd was not told: {error}");
    }
}

/// What the first start prints: the token, once, and what to try.
fn welcome(
    master: &Master,
    config: &Config,
    addresses: &[(Scheme, std::net::SocketAddr)],
) -> String {
    let Source::File(path) = &master.source else { return String::new() };
    let path = path.display();
    let mut text = format!(
        "The first start. This is the master token, which opens everything. It is shown once and\n\
         kept in {path}, readable by its owner alone:\n\n    {}\n",
        master.token.expose()
    );
    let port_of = |wanted| addresses.iter().find(|(scheme, _)| *scheme == wanted);
    if let Some((_, address)) = port_of(Scheme::Mqtt) {
        let user = match config.auth.anonymous {
            true => String::new(),
            false => format!(" -u \"$(cat {path})\""),
        };
        let port = address.port();
        text.push_str(&format!(
            "\nTry it, each in a terminal of its own:\n\n    \
             mosquitto_sub -p {port}{user} -t 'demo/#' -v\n    \
             mosquitto_pub -p {port}{user} -t demo/hello -m 'Hello, world'\n"
        ));
    }
    if let Some((_, address)) = port_of(Scheme::Http) {
        text.push_str(&format!("    curl http://localhost:{}/health\n", address.port()));
    }
    text.push('\n');
    text
}

fn one(problem: Problem) -> Vec<Problem> {
    vec![problem]
}

fn everywhere(what: String) -> Vec<Problem> {
    one(Problem { place: Place::Everywhere, what })
}
