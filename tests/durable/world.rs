//! The broker, its disk and the time: what is durable of what it was told.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use longshore_broker::clock::{Mono, Now, Wall};
use longshore_broker::shard::Config;
use longshore_broker::{ConnectionId, Limits, Peer};
use longshore_storage::{Failure, SimulatedDisk, Ticket};

use crate::shards::Shards;

/// Where the wall clock starts: in 2024, in microseconds.
const WALL_START: u64 = 1_700_000_000_000_000;
/// Where the monotonic clock of every process starts.
const MONO_START: u64 = 77_000_000;

/// The disk takes nothing any more: the process ends.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PowerCut;

/// When the broker was told something, and which shard it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stamp {
    pub(crate) epoch: usize,
    shard: usize,
    step: u64,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct World {
    pub(crate) disk: Arc<SimulatedDisk>,
    shards: Option<Shards>,
    configs: Vec<Config>,
    pub(crate) now: Now,
    /// When this process began.
    pub(crate) began: Wall,
    step: u64,
    /// Up to which step each shard has appended what it was told.
    appended: Vec<u64>,
    /// The same for what is durable, by process and shard.
    durable: Vec<Vec<u64>>,
    /// What the journal has reached and the shards may not know yet.
    reached: Option<Ticket>,
    /// Bytes that have reached clients, by connection.
    pub(crate) written: Vec<(ConnectionId, Vec<u8>, Stamp)>,
    /// Connections that the broker has closed.
    pub(crate) closed: Vec<ConnectionId>,
    /// Connections that got another name.
    pub(crate) renamed: Vec<(ConnectionId, ConnectionId)>,
    /// What was appended is called durable, though it is not: the books must notice.
    pub(crate) is_rash: bool,
}

impl World {
    pub(crate) fn new(shards: usize, seed: u64) -> Self {
        let mut limits = Limits::default();
        limits.connections_per_address = 10_000;
        // References leave memory as soon as there are enough of them.
        limits.queue_memory = 0;
        Self {
            disk: Arc::new(SimulatedDisk::new(seed)),
            shards: None,
            configs: Config::of(shards, limits, crate::doorkeeper::doorkeeper(), 7),
            now: Now { mono: Mono(MONO_START), wall: Wall(WALL_START) },
            began: Wall(WALL_START),
            step: 1,
            appended: vec![0; shards],
            durable: Vec::new(),
            reached: None,
            written: Vec::new(),
            closed: Vec::new(),
            renamed: Vec::new(),
            is_rash: false,
        }
    }

    pub(crate) fn count(&self) -> usize {
        self.appended.len()
    }

    fn shards(&mut self) -> &mut Shards {
        self.shards.as_mut().expect("the broker runs")
    }

    /// Starts the broker, and has what it found written down.
    pub(crate) fn open(&mut self) -> Result<(), PowerCut> {
        let (count, first) = (self.count(), &self.configs[0]);
        let (limits, authenticate) = ((*first.limits).clone(), Arc::clone(&first.authenticate));
        let configs = Config::of(count, limits, authenticate, 7);
        match Shards::open_deferred(configs, &self.disk, self.now) {
            Ok(shards) => self.shards = Some(shards),
            Err(error) => {
                assert!(self.disk.is_cut(), "the journal opens: {error}");
                return Err(PowerCut);
            }
        }
        self.began = self.now.wall;
        self.durable.push(vec![0; count]);
        self.appended = vec![0; count];
        self.reached = None;
        (0..count).try_for_each(|shard| self.end_turn(shard))?;
        self.commit()?;
        self.tell();
        Ok(())
    }

    /// Nothing runs any more.
    pub(crate) fn stop(&mut self) {
        self.shards = None;
    }

    /// The process is gone; `kill` when the machine is not. The next one begins `secs` later.
    pub(crate) fn crash(&mut self, kill: bool, secs: u64) {
        let disk = if kill { self.disk.restart_after_kill() } else { self.disk.restart() };
        self.disk = Arc::new(disk);
        self.now.wall = self.now.wall.plus_secs(secs);
        self.now.mono = Mono(MONO_START + self.now.wall.0 % 1_000_000_000);
        self.written.clear();
        self.closed.clear();
        self.renamed.clear();
    }

    /// How many processes there have been.
    pub(crate) fn epoch(&self) -> usize {
        self.durable.len()
    }

    fn stamp(&self, shard: usize, step: u64) -> Stamp {
        Stamp { epoch: self.epoch(), shard, step }
    }

    /// Whether the journal surely holds what came of this.
    pub(crate) fn is_durable(&self, stamp: Stamp) -> bool {
        let of_epoch = stamp.epoch.checked_sub(1).and_then(|epoch| self.durable.get(epoch));
        of_epoch.is_some_and(|of_epoch| of_epoch[stamp.shard] >= stamp.step)
    }

    fn ended(&self, failure: &Failure) -> PowerCut {
        assert!(self.disk.is_cut(), "the disk works: {failure}");
        PowerCut
    }

    /// Ends the turn of a shard: what it wrote down is appended, then what it says goes out.
    pub(crate) fn end_turn(&mut self, shard: usize) -> Result<(), PowerCut> {
        let mut dirty = Vec::new();
        self.step += 1;
        match self.shards().end_turn(shard, &mut dirty) {
            Ok(Some(ticket)) if self.is_rash => self.reached = Some(ticket),
            Ok(_) => {}
            Err(failure) => return Err(self.ended(&failure)),
        }
        self.appended[shard] = self.step;
        dirty.into_iter().for_each(|id| self.flush(id));
        Ok(())
    }

    fn flush(&mut self, id: ConnectionId) {
        let (now, stamp) = (self.now, self.stamp(id.shard(), self.appended[id.shard()]));
        let shards = self.shards();
        let mut bytes = Vec::new();
        let mut is_empty = true;
        if let Some(output) = shards.output(id) {
            while !output.is_empty() {
                let front = output.front();
                let taken = front.len();
                bytes.extend_from_slice(front);
                output.consume(taken);
            }
            is_empty = output.is_empty();
            shards.wrote(id, bytes.len(), now);
        }
        if is_empty && shards.is_written(id) && shards.is_closing(id) && !shards.is_moving(id) {
            shards.closed(id, now);
            self.closed.push(id);
        }
        if !bytes.is_empty() {
            self.written.push((id, bytes, stamp));
        }
    }

    /// The journal writes what was appended.
    pub(crate) fn awaits_journal(&mut self) -> bool {
        self.shards().awaits_journal()
    }

    pub(crate) fn commit(&mut self) -> Result<(), PowerCut> {
        match self.shards().commit_appended() {
            Ok(ticket) => self.reached = Some(ticket),
            Err(failure) => return Err(self.ended(&failure)),
        }
        *self.durable.last_mut().expect("a process runs") = self.appended.clone();
        Ok(())
    }

    /// A whole round of compaction.
    pub(crate) fn compact(&mut self) -> Result<(), PowerCut> {
        let now = self.now;
        self.step += 1;
        match self.shards().compact(now) {
            Ok(_) => {}
            Err(failure) => return Err(self.ended(&failure)),
        }
        self.appended.fill(self.step);
        *self.durable.last_mut().expect("a process runs") = self.appended.clone();
        Ok(())
    }

    /// The shards hear what is durable.
    pub(crate) fn tell(&mut self) {
        let (count, reached) = (self.count(), self.reached);
        if let Some(reached) = reached {
            (0..count).for_each(|shard| self.shards().tell(shard, reached));
        }
    }

    pub(crate) fn accept(&mut self) -> ConnectionId {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 40_000));
        let (peer, now) = (Peer { address, transport: "tcp" }, self.now);
        self.shards().accept(peer, now).expect("there is room")
    }

    /// Gives bytes to the broker; when it was, unless the connection is on its way.
    pub(crate) fn receive(&mut self, id: ConnectionId, bytes: &[u8]) -> Option<Stamp> {
        let now = self.now;
        let shards = self.shards.as_mut()?;
        if shards.is_moving(id) || !shards.wants_read(id) {
            return None;
        }
        let new = shards.receive(id, bytes, now);
        assert_eq!(new, id, "it moves when it is carried");
        self.step += 1;
        Some(self.stamp(id.shard(), self.step))
    }

    /// The transport is gone.
    pub(crate) fn close(&mut self, id: ConnectionId) -> Stamp {
        let now = self.now;
        if !self.shards().is_moving(id) {
            self.shards().closed(id, now);
        }
        self.step += 1;
        self.stamp(id.shard(), self.step)
    }

    /// How many things are on their way between shards.
    pub(crate) fn on_their_way(&mut self) -> usize {
        self.shards().ways().len()
    }

    /// Lets one of them arrive.
    pub(crate) fn carry(&mut self, place: usize) {
        let now = self.now;
        let way = self.shards().ways()[place];
        self.step += 1;
        if let Some((old, new)) = self.shards().carry(way, now) {
            self.renamed.push((old, new));
        }
    }

    /// Lets time pass, and does what falls due on the way.
    pub(crate) fn pass(&mut self, secs: u64) -> Result<(), PowerCut> {
        let end = self.now.mono.plus_secs(secs);
        for _ in 0..100_000 {
            let now = self.now;
            self.step += 1;
            let due = self.shards().advance(now);
            let at = due.map_or(end, |due| due.min(end)).max(now.mono);
            if at == now.mono && due.is_none_or(|due| due > at) {
                return Ok(());
            }
            if at == now.mono {
                // Something may wait for the turn to end.
                (0..self.count()).try_for_each(|shard| self.end_turn(shard))?;
            }
            self.now.wall.0 += at.0 - now.mono.0;
            self.now.mono = at;
        }
        panic!("the broker is never done with what is due now");
    }
}
