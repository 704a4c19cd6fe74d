//! What the registry holds at most.

/// Every bound that an operator may want to move. Take [`Limits::default`] and change what you
/// need.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Limits {
    /// Devices of one account. Default 1,000,000.
    pub devices_per_account: usize,
    /// Bytes of the history of one device; beyond that its oldest messages go. Default 10 GB.
    pub history_bytes: u64,
    /// Bytes of telemetry that is kept in memory for the next message. Default 64 MiB.
    pub telemetry_cache_bytes: usize,
    /// Messages that are written with one commit. Default 2,048.
    pub batch_messages: usize,
    /// Commands of one device that wait for it. Default 1,000.
    pub commands_per_device: usize,
    /// What came of commands, kept for one device; beyond that the oldest go. Default 1,000.
    pub results_per_device: usize,
    /// Settings that the registry alone keeps for one device. Default 1,000.
    pub settings_per_device: usize,
    /// Seconds between two rounds in which all is removed that is too old, at most a day. Default
    /// 3,600.
    pub sweep_secs: u64,
    /// Seconds that a device has to answer a command that was queued for it. Default 60.
    pub answer_secs: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            devices_per_account: 1_000_000,
            history_bytes: 10_000_000_000,
            telemetry_cache_bytes: 64 << 20,
            batch_messages: 2_048,
            commands_per_device: 1_000,
            results_per_device: 1_000,
            settings_per_device: 1_000,
            sweep_secs: 3_600,
            answer_secs: 60,
        }
    }
}
