//! What devices are told: commands at once, commands that wait for them, settings (R5.1 to R5.10).
//!
//! One thing that it answers is told a device at a time, because protocols do not number what they
//! tell.

use std::collections::{BTreeMap, HashSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use hashbrown::HashMap;
use longshore_broker::module::{Item, Objects};
use longshore_broker::{Context, Link, LinkError, Message};
use longshore_codec::{QoS, SubscribeOptions};
use longshore_storage::{Changes, TablesError};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::{Notify, oneshot};
use tokio::task::{spawn_blocking, spawn_local};
use tokio::time::{Duration, Instant, sleep, timeout_at};

use crate::command::{Command, State};
use crate::deed::Deed;
use crate::device::Device;
use crate::device_type::CUSTOM;
use crate::intake::PAUSE;
use crate::limits::Limits;
use crate::live::Connection;
use crate::message::MICROS;
use crate::now;
use crate::settings::{READS_MAX, Setting, state_name, value_in};
use crate::shelves::{Shelves, named, two};
use crate::writer::state_of;

/// What channels answer.
const ANSWERS: &str = "flespi/response/gw/channels/+/+";
/// Where they are asked, without channel and connection.
pub(crate) const ASKED: &str = "flespi/command/gw/channels";

/// See the module.
pub(crate) struct Courier {
    pub(crate) context: Context,
    pub(crate) shelves: Arc<Shelves>,
    pub(crate) objects: Arc<Objects<Device>>,
    pub(crate) limits: Limits,
    pub(crate) link: Link,
    /// Who waits for answers, by number of the command.
    waiting: Mutex<HashMap<u64, Waiting>>,
    last_number: AtomicU64,
    /// Commands that wait for each device: the most urgent first, then the oldest.
    queues: Mutex<HashMap<u64, Queue>>,
    /// Devices that there may be something to tell.
    nudged: Mutex<HashMap<u64, Arc<Device>>>,
    is_nudged: Notify,
    /// Devices that are told something now.
    busy: Mutex<HashSet<u64>>,
}

/// Priority, the highest first, and number; until when it waits, in microseconds.
type Queue = BTreeMap<(u8, u64), u64>;

struct Waiting {
    /// Whether a device has to say something.
    is_answered: bool,
    to: oneshot::Sender<Answer>,
}

/// What a channel says of a command.
#[derive(Debug, Deserialize)]
pub(crate) struct Answer {
    id: u64,
    status: Status,
    #[serde(default)]
    pub(crate) response: Value,
    #[serde(default)]
    pub(crate) error: Option<String>,
}

#[derive(Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
enum Status {
    Sent,
    Answered,
    Failed,
}

impl Answer {
    /// Whether the command was carried out, as far as anybody can know.
    pub(crate) fn is_executed(&self) -> bool {
        self.status != Status::Failed
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Under these locks nothing panics but a broken invariant.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Courier {
    /// With the commands that wait from before.
    pub(crate) fn open(
        context: &Context,
        shelves: &Arc<Shelves>,
        objects: &Arc<Objects<Device>>,
        limits: &Limits,
    ) -> Result<Self, TablesError> {
        let mut queues = HashMap::<u64, Queue>::new();
        for row in shelves.commands.range(..) {
            let Ok(command) = serde_json::from_slice::<Command>(&row?.1) else { continue };
            let queue = queues.entry(command.device_id).or_default();
            queue.insert(command.place(), command.expires_micros());
        }
        Ok(Self {
            context: context.clone(),
            shelves: Arc::clone(shelves),
            objects: Arc::clone(objects),
            limits: limits.clone(),
            link: context.link("registry"),
            waiting: Mutex::default(),
            last_number: AtomicU64::new(0),
            queues: Mutex::new(queues),
            nudged: Mutex::default(),
            is_nudged: Notify::new(),
            busy: Mutex::default(),
        })
    }

    /// A number that no command has had: later than those of earlier processes.
    pub(crate) fn number(&self) -> u64 {
        let now = now();
        let last = self.last_number.fetch_max(now, Ordering::Relaxed);
        if last < now { now } else { self.last_number.fetch_add(1, Ordering::Relaxed) + 1 }
    }

    /// Tells a device something, once it has answered what it was told before, and waits for what
    /// it says: so many seconds at most. None if that does not come, and then it is not told later.
    pub(crate) async fn ask(
        &self,
        device: &Device,
        connection: &Connection,
        command: &Command,
        secs: u64,
    ) -> Option<Answer> {
        let (to, answer) = oneshot::channel();
        let of_type = device.device_type.and_then(|it| it.command(&command.name));
        let is_answered = of_type.is_none_or(|it| it.is_answered);
        let Connection { id, channel_id, .. } = connection;
        // One of its own, for what comes of an earlier attempt may come late.
        let number = self.number();
        let until = Instant::now() + Duration::from_secs(secs);
        let json = json!({
            "id": number, "name": command.name, "properties": command.properties,
            "deadline": now() + secs * MICROS,
        });
        let message = Message::new(format!("{ASKED}/{channel_id}/{id}"), json.to_string());
        let message = message.qos(QoS::AtLeastOnce).of_account(device.head().account);
        let asked = async {
            // What is not answered keeps nobody waiting, and waits for no answer.
            let _turn = if is_answered { Some(device.live.turn.lock().await) } else { None };
            lock(&self.waiting).insert(number, Waiting { is_answered, to });
            self.link.publish(message).await.ok()?;
            answer.await.ok()
        };
        let answer = timeout_at(until, asked).await.ok().flatten();
        lock(&self.waiting).remove(&number);
        // That the time is up the channel says, too.
        answer.filter(|_| Instant::now() < until)
    }

    /// Hears what channels answer, and tells devices what there is, for ever.
    pub(crate) async fn run(self: Arc<Self>) {
        loop {
            if let Err(cause) = self.follow().await {
                tracing::warn!(%cause, "answers of devices are not heard, and are asked for again");
            }
            sleep(PAUSE).await;
        }
    }

    async fn follow(self: &Arc<Self>) -> Result<(), LinkError> {
        let options = SubscribeOptions::new(QoS::AtLeastOnce);
        let mut answers = self.link.subscribe(ANSWERS, options).await?;
        let mut expiry = tokio::time::interval(Duration::from_secs(1));
        loop {
            tokio::select! {
                message = answers.recv() => match message {
                    Some(message) => self.hear(&message),
                    None => return Ok(()),
                },
                () = self.is_nudged.notified() => self.go(),
                _ = expiry.tick() => self.expire().await,
            }
        }
    }

    fn hear(&self, message: &Message) {
        let Ok(answer) = serde_json::from_slice::<Answer>(&message.payload) else { return };
        let mut waiting = lock(&self.waiting);
        let is_last = |it: &Waiting| answer.status != Status::Sent || !it.is_answered;
        if waiting.get(&answer.id).is_some_and(is_last)
            && let Some(it) = waiting.remove(&answer.id)
        {
            // Whoever waits may have given up.
            let _ = it.to.send(answer);
        }
    }

    /// There may be something to tell this device now.
    pub(crate) fn nudge(&self, device: &Arc<Device>) {
        lock(&self.nudged).insert(device.head().id, Arc::clone(device));
        self.is_nudged.notify_one();
    }

    /// The same, for one that was heard: conditions may hold now.
    pub(crate) fn nudge_heard(&self, device: &Arc<Device>) {
        if lock(&self.queues).contains_key(&device.head().id) {
            self.nudge(device);
        }
    }

    fn go(self: &Arc<Self>) {
        let (mut nudged, mut busy) = (lock(&self.nudged), lock(&self.busy));
        // One that is busy is looked at again when it is through.
        let free: Vec<_> = nudged.keys().copied().filter(|device| !busy.contains(device)).collect();
        for id in free {
            let Some(device) = nudged.remove(&id) else { continue };
            busy.insert(id);
            let courier = Arc::clone(self);
            spawn_local(async move {
                if let Err(cause) = courier.deliver(&device).await {
                    tracing::error!(%cause, device = id, "commands cannot be kept");
                }
                lock(&courier.busy).remove(&id);
                courier.is_nudged.notify_one();
            });
        }
    }

    /// Tells a device all that waits for it, as long as it is connected.
    async fn deliver(&self, device: &Arc<Device>) -> Result<(), TablesError> {
        let mut settings = self.shelves.settings(device)?;
        for setting in &mut settings {
            let Some(connection) = device.live.connection() else { return Ok(()) };
            if setting.is_pending(now()) {
                self.write_setting(device, &connection, setting).await?;
            } else if setting.is_wanted(device.is_polled()) {
                self.read_setting(device, &connection, setting).await?;
            }
        }
        let mut after = None;
        while let Some(connection) = device.live.connection() {
            let Some(command) = self.next(device, after)? else { return Ok(()) };
            after = Some(command.place());
            self.carry_out(device, &connection, command).await?;
        }
        Ok(())
    }

    fn custom(&self, text: &str) -> Command {
        Command::new(self.number(), CUSTOM, json!({"text": text}), now())
    }

    /// Tells a device a value that waits for it (R5.8).
    async fn write_setting(
        &self,
        device: &Device,
        connection: &Connection,
        setting: &mut Setting,
    ) -> Result<(), TablesError> {
        let Some(text) = setting.write_text() else { return Ok(()) };
        let pending = setting.kept.pending.clone();
        self.tell(device, setting, Deed::Told);
        let answer =
            self.ask(device, connection, &self.custom(&text), self.limits.answer_secs).await;
        // It stays if the device has said nothing, for when it connects again.
        let Some(answer) = answer else { return Ok(()) };
        let fresh = self.fresh(device, &setting.name)?;
        let Some(mut fresh) = fresh.filter(|it| it.kept.pending == pending) else { return Ok(()) };
        fresh.kept.pending = None;
        let told = if answer.is_executed() {
            fresh.kept.current = pending.unwrap_or_default();
            (fresh.kept.updated, fresh.kept.reads) = (now(), 0);
            Deed::Confirmed
        } else {
            Deed::Rejected
        };
        self.keep(device, &fresh, told).await
    }

    /// Asks a device for a value (R5.8, R5.10).
    async fn read_setting(
        &self,
        device: &Device,
        connection: &Connection,
        setting: &Setting,
    ) -> Result<(), TablesError> {
        let Some(of_type) = setting.of_type else { return Ok(()) };
        let command = self.custom(of_type.read);
        let answer = self.ask(device, connection, &command, self.limits.answer_secs).await;
        let answer = answer.filter(Answer::is_executed);
        let value = answer.and_then(|it| value_in(it.response.as_str()?));
        let Some(mut fresh) = self.fresh(device, &setting.name)? else { return Ok(()) };
        let kept = &mut fresh.kept;
        let told = match value {
            Some(value) => {
                (kept.current, kept.updated) = (value, now());
                (kept.is_asked, kept.reads) = (false, 0);
                Some(Deed::Received)
            }
            None => {
                kept.reads += 1;
                kept.is_asked &= kept.reads < READS_MAX;
                (kept.reads == READS_MAX).then_some(Deed::Unreadable)
            }
        };
        match told {
            Some(told) => self.keep(device, &fresh, told).await,
            None => self.commit(self.setting_row(device, &fresh)).await,
        }
    }

    /// The setting as it is now: it may have been changed while the device was asked.
    pub(crate) fn fresh(
        &self,
        device: &Device,
        name: &str,
    ) -> Result<Option<Setting>, TablesError> {
        if self.objects.get(device.head().id).is_none() {
            return Ok(None);
        }
        let settings = self.shelves.settings(device)?;
        Ok(settings.into_iter().find(|it| it.name == name))
    }

    fn setting_row(&self, device: &Device, setting: &Setting) -> Changes {
        let mut changes = Changes::new();
        let key = named(device.head().id, &setting.name);
        match setting.is_gone() {
            true => changes.remove(&self.shelves.settings, &key),
            false => changes.put(&self.shelves.settings, &key, &setting.row()),
        }
        changes
    }

    /// Keeps a setting, says so in the log, and retains what it is (7).
    pub(crate) async fn keep(
        &self,
        device: &Device,
        setting: &Setting,
        deed: Deed,
    ) -> Result<(), TablesError> {
        self.commit(self.setting_row(device, setting)).await?;
        self.tell(device, setting, deed);
        let json = (!setting.is_gone()).then(|| setting.shown(device.head().id).to_string());
        let state = state_of(device, &state_name(&setting.name), json);
        // What fails has no broker.
        let _ = self.context.retain_durably(vec![state]).await;
        Ok(())
    }

    fn tell(&self, device: &Device, setting: &Setting, deed: Deed) {
        self.context.tell(device.head().account, setting.event(device, deed));
    }

    async fn commit(&self, changes: Changes) -> Result<(), TablesError> {
        let tables = self.shelves.tables.clone();
        match spawn_blocking(move || tables.commit(changes)).await {
            Ok(done) => done,
            Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
            Err(_) => Ok(()),
        }
    }

    /// The next command behind a place whose condition holds.
    fn next(
        &self,
        device: &Device,
        after: Option<(u8, u64)>,
    ) -> Result<Option<Command>, TablesError> {
        let id = device.head().id;
        let places: Vec<_> = lock(&self.queues)
            .get(&id)
            .into_iter()
            .flat_map(|queue| queue.keys().copied())
            .filter(|place| after.is_none_or(|after| *place > after))
            .collect();
        for (_, number) in places {
            let Some(row) = self.shelves.commands.get(&two(id, number))? else { continue };
            let Ok(command) = serde_json::from_slice::<Command>(&row) else { continue };
            if command.holds(&self.shelves.state(id)?.telemetry) {
                return Ok(Some(command));
            }
        }
        Ok(None)
    }

    /// Tells a device a command of its queue, and keeps what comes of it (R5.3, R5.4).
    async fn carry_out(
        &self,
        device: &Arc<Device>,
        connection: &Connection,
        mut command: Command,
    ) -> Result<(), TablesError> {
        self.say(device, &command, State::Sent);
        let answer = self.ask(device, connection, &command, self.limits.answer_secs).await;
        command.attempts += 1;
        let is_over = answer.as_ref().is_some_and(Answer::is_executed)
            || command.attempts >= command.max_attempts;
        if is_over {
            command.end(answer.as_ref(), now());
            return self.end(device, command, State::Processed).await;
        }
        let mut changes = Changes::new();
        changes.put(&self.shelves.commands, &command.key(), &command.row());
        // It may have been canceled meanwhile.
        let is_there = lock(&self.queues)
            .get(&command.device_id)
            .is_some_and(|queue| queue.contains_key(&command.place()));
        if is_there { self.commit(changes).await } else { Ok(()) }
    }

    /// Puts a command into the queue of a device, if there is room.
    pub(crate) fn enqueue(
        &self,
        device: &Arc<Device>,
        command: &Command,
    ) -> Result<bool, TablesError> {
        {
            let mut queues = lock(&self.queues);
            let queue = queues.entry(device.head().id).or_default();
            if queue.len() >= self.limits.commands_per_device {
                return Ok(false);
            }
            queue.insert(command.place(), command.expires_micros());
        }
        let mut changes = Changes::new();
        changes.put(&self.shelves.commands, &command.key(), &command.row());
        if let Err(cause) = self.shelves.tables.commit(changes) {
            self.dequeue(command);
            return Err(cause);
        }
        self.say(device, command, State::Queued);
        self.nudge(device);
        Ok(true)
    }

    /// Takes a command out of its queue; whether it was there.
    fn dequeue(&self, command: &Command) -> bool {
        let mut queues = lock(&self.queues);
        let Some(queue) = queues.get_mut(&command.device_id) else { return false };
        let was_there = queue.remove(&command.place()).is_some();
        if queue.is_empty() {
            queues.remove(&command.device_id);
        }
        was_there
    }

    /// A command has come to its end, and what came of it is kept.
    pub(crate) async fn end(
        &self,
        device: &Device,
        command: Command,
        state: State,
    ) -> Result<(), TablesError> {
        if !self.dequeue(&command) {
            return Ok(());
        }
        let mut changes = Changes::new();
        changes.remove(&self.shelves.commands, &command.key());
        if state != State::Canceled {
            changes.put(&self.shelves.results, &command.key(), &command.row());
            let prefix = command.device_id.to_be_bytes();
            let results = self.shelves.results.prefix(&prefix).collect::<Result<Vec<_>, _>>()?;
            let excess = (results.len() + 1).saturating_sub(self.limits.results_per_device);
            results.iter().take(excess).for_each(|(key, _)| {
                changes.remove(&self.shelves.results, key);
            });
        }
        self.commit(changes).await?;
        self.say(device, &command, state);
        Ok(())
    }

    /// Says in the log what has become of a command (R5.6).
    fn say(&self, device: &Device, command: &Command, state: State) {
        let of = format!("commands-queue/{}/", command.name);
        let Value::Object(fields) = command.shown() else { return };
        let event = crate::event(device.head().id, &of, state.deed(), fields);
        self.context.tell(device.head().account, event);
    }

    /// Ends commands whose time is up.
    async fn expire(&self) {
        let now = now();
        let due: Vec<_> = lock(&self.queues)
            .iter()
            .flat_map(|(device, queue)| queue.iter().map(|(place, at)| (*device, place.1, *at)))
            .filter(|(.., at)| *at <= now)
            .collect();
        for (id, number, _) in due {
            let row = self.shelves.commands.get(&two(id, number)).ok().flatten();
            let command = row.and_then(|row| serde_json::from_slice::<Command>(&row).ok());
            let (Some(mut command), Some(device)) = (command, self.objects.get(id)) else {
                continue;
            };
            command.end(None, now);
            if let Err(cause) = self.end(&device, command, State::Expired).await {
                tracing::error!(%cause, device = id, "commands cannot be kept");
            }
        }
    }

    /// A device is gone.
    pub(crate) fn forget(&self, id: u64) {
        lock(&self.queues).remove(&id);
        lock(&self.nudged).remove(&id);
    }
}
