//! What is settled before the first step of a run: who takes part, and how narrow the limits are.

use longshore_broker::Limits;

use super::choices::Choices;

/// The world that a seed, or the first bytes of a fuzzer, make.
#[derive(Clone, Debug)]
pub(crate) struct Setup {
    pub(crate) shards: usize,
    pub(crate) clients: usize,
    /// Client identifiers to choose from; fewer than clients, so that some are taken over.
    pub(crate) client_ids: Vec<String>,
    pub(crate) steps: usize,
    /// Levels of the longest topic name.
    pub(crate) levels: u64,
    /// Names of shared groups.
    pub(crate) groups: usize,
    /// Of a hundred filters, those of shared groups.
    pub(crate) shared_percent: u64,
    /// Of a hundred messages, those to be retained.
    pub(crate) retain_percent: u64,
    /// Whether wills are retained. Where several sessions may end at once, and not all their wills
    /// find room, nobody says which do.
    pub(crate) retained_wills: bool,
    /// Of a hundred steps, those that make a client do what the standard forbids.
    pub(crate) rude_percent: u64,
    /// How often bytes move, clients act, and time passes.
    pub(crate) weights: [u64; 3],
    pub(crate) limits: Limits,
}

impl Setup {
    pub(crate) fn new(choices: &mut Choices) -> Self {
        let clients = 2 + choices.place(9);
        let ids = clients - *choices.pick(&[0, 1, 1, clients / 2]);
        let mut setup = Self {
            shards: 1 + clients % 3,
            clients,
            client_ids: (0..ids).map(|n| format!("c{n}")).collect(),
            steps: 1_000 + choices.place(2_000),
            levels: 1 + choices.below(3),
            groups: 1 + choices.place(2),
            shared_percent: *choices.pick(&[15, 0, 50]),
            retain_percent: *choices.pick(&[15, 0, 60]),
            retained_wills: true,
            rude_percent: *choices.pick(&[0, 1, 5]),
            weights: *choices.pick(&[[60, 30, 2], [50, 45, 1], [80, 18, 2], [40, 40, 10]]),
            limits: limits(choices),
        };
        let (limits, usual) = (&setup.limits, Limits::default());
        setup.retained_wills = limits.queue_messages == usual.queue_messages
            && limits.queue_bytes == usual.queue_bytes
            || limits.retained_messages == usual.retained_messages
                && limits.retained_bytes == usual.retained_bytes;
        setup
    }
}

/// Mostly the defaults; each limit that delivery depends on is small in some worlds.
fn limits(choices: &mut Choices) -> Limits {
    let mut limits = Limits::default();
    if choices.percent(30) {
        return limits;
    }
    let small = |choices: &mut Choices| choices.percent(18);
    if small(choices) {
        limits.inflight = *choices.pick(&[1, 2, 3, 10]);
    }
    if small(choices) {
        limits.receive_maximum = *choices.pick(&[1, 2, 10]);
    }
    if small(choices) {
        limits.queue_messages = *choices.pick(&[0, 1, 3, 10]);
    }
    if small(choices) {
        limits.queue_bytes = *choices.pick(&[0, 100, 3_000]);
    }
    if small(choices) {
        limits.output_bytes = *choices.pick(&[0, 300, 4_000, 60_000]);
    }
    if small(choices) {
        limits.topic_aliases = *choices.pick(&[0, 1, 4]);
    }
    if small(choices) {
        limits.topic_aliases_out = *choices.pick(&[0, 1, 4]);
    }
    if small(choices) {
        limits.subscriptions = *choices.pick(&[0, 1, 4]);
    }
    if small(choices) {
        limits.retained_messages = *choices.pick(&[0, 1, 3]);
    }
    if small(choices) {
        limits.retained_bytes = *choices.pick(&[0, 100, 2_000]);
    }
    if small(choices) {
        limits.packet_bytes = *choices.pick(&[200, 1_100, 3_000]);
    }
    if small(choices) {
        limits.connect_bytes = *choices.pick(&[60, 200]);
    }
    if small(choices) {
        limits.keep_alive_secs = *choices.pick(&[5, 100]);
    }
    if small(choices) {
        limits.session_expiry_secs = *choices.pick(&[0, 3, 60]);
    }
    if small(choices) {
        limits.sessions = *choices.pick(&[1, 3]);
    }
    if small(choices) {
        limits.connections = *choices.pick(&[1, 3]);
    }
    if small(choices) {
        limits.route_cache_bytes = *choices.pick(&[0, 300]);
    }
    limits
}
