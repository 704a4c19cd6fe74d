//! What the system says of processes: open files of this one, CPU and memory of the broker.

use std::fs;
use std::time::Duration;

use rustix::process::{Resource, getrlimit, setrlimit};

use super::everywhere;
use crate::config::Problem;

/// Ticks of a second, as the system tells programs: the same on all it runs on.
const TICKS: u64 = 100;

/// Open files beside those of trackers.
const OTHERS: u64 = 64;

/// Sees to it that so many connections can be open at once.
pub(super) fn allow_connections(trackers: u32) -> Result<(), Problem> {
    let needed = u64::from(trackers) + OTHERS;
    let mut limit = getrlimit(Resource::Nofile);
    if limit.current.is_none_or(|current| current >= needed) {
        return Ok(());
    }
    let hard = limit.maximum.unwrap_or(u64::MAX);
    limit.current = Some(needed.min(hard));
    if hard >= needed && setrlimit(Resource::Nofile, limit).is_ok() {
        return Ok(());
    }
    Err(everywhere(format!(
        "{trackers} trackers need {needed} open files and may have {hard}: allow more with \
         `ulimit -n {needed}`, or take fewer --trackers"
    )))
}

/// The process of the broker.
#[derive(Debug, Clone, Copy)]
pub(super) struct Process(u32);

impl Process {
    /// A process that is there.
    pub(super) fn find(pid: u32) -> Result<Self, Problem> {
        let process = Self(pid);
        let found = process.cpu().and(process.memory());
        let what = || everywhere(format!("--broker-pid {pid} is no process of this machine"));
        found.map(|_| process).ok_or_else(what)
    }

    /// CPU time that it has taken.
    pub(super) fn cpu(self) -> Option<Duration> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.0)).ok()?;
        // Behind the name, which may be anything in parentheses, `utime` is field 12, `stime` 13.
        let (_, fields) = stat.rsplit_once(')')?;
        let ticks = fields.split_whitespace().skip(11).take(2);
        let ticks = ticks.map(str::parse::<u64>).sum::<Result<u64, _>>().ok()?;
        Some(Duration::from_millis(ticks * 1_000 / TICKS))
    }

    /// Bytes of memory that it holds.
    pub(super) fn memory(self) -> Option<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.0)).ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
        let kb: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
        Some(kb << 10)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_is_found_with_what_it_needs_and_one_that_is_not_there_is_named() {
        let own = Process::find(std::process::id()).unwrap();
        assert!(own.memory().unwrap() > 100 << 10);
        assert!(own.cpu().unwrap() < Duration::from_secs(3_600));
        let problem = Process::find(u32::MAX).unwrap_err().to_string();
        assert!(problem.contains("--broker-pid 4294967295"), "{problem}");
    }

    #[test]
    fn more_connections_than_files_say_what_to_do() {
        let problem = allow_connections(u32::MAX).map_err(|problem| problem.to_string());
        if getrlimit(Resource::Nofile).maximum.is_some_and(|it| it < 1 << 32) {
            assert!(problem.unwrap_err().contains("ulimit -n 4294967359"));
        }
    }
}
