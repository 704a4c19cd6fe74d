//! How far long work is, on stderr.

use std::io::{self, IsTerminal, Write};
use std::time::{Duration, Instant};

/// Work that takes less is not spoken of.
const SILENCE: Duration = Duration::from_secs(1);

/// Tells how far a work is: in place on a terminal, elsewhere in a line per ten percent.
#[derive(Debug)]
pub(super) struct Progress {
    doing: &'static str,
    begun: Instant,
    is_terminal: bool,
    /// What was told last.
    told: Option<u64>,
}

impl Progress {
    pub(super) fn new(doing: &'static str) -> Self {
        let is_terminal = io::stderr().is_terminal();
        Self { doing, begun: Instant::now(), is_terminal, told: None }
    }

    /// `done` steps of `of` are done.
    pub(super) fn tell(&mut self, done: u32, of: u32) {
        if let Some(text) = self.text(done, of, self.begun.elapsed()) {
            // Nobody needs it.
            let _ = io::stderr().write_all(text.as_bytes());
        }
    }

    fn text(&mut self, done: u32, of: u32, elapsed: Duration) -> Option<String> {
        let step = if self.is_terminal { 1 } else { 10 };
        let percent = u64::from(done) * 100 / u64::from(of.max(1)) / step * step;
        if elapsed < SILENCE || self.told.is_some_and(|told| told >= percent) {
            return None;
        }
        self.told = Some(percent);
        let doing = self.doing;
        Some(match self.is_terminal {
            true => format!("\r{doing}: {percent} %"),
            false => format!("{doing}: {percent} %\n"),
        })
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if self.is_terminal && self.told.is_some() {
            let _ = io::stderr().write_all(b"\n");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(is_terminal: bool, elapsed: Duration) -> Vec<String> {
        let begun = Instant::now();
        let mut progress = Progress { doing: "counting", begun, is_terminal, told: None };
        let told = (0..=40).filter_map(|done| progress.text(done, 40, elapsed)).collect();
        progress.told = None;
        told
    }

    #[test]
    fn only_long_work_is_spoken_of_and_in_a_file_in_few_lines() {
        assert_eq!(told(false, Duration::from_millis(999)), [""; 0]);
        let lines = told(false, SILENCE);
        assert_eq!((lines.len(), lines[1].as_str()), (11, "counting: 10 %\n"));
        let lines = told(true, SILENCE);
        assert_eq!((lines.len(), lines[40].as_str()), (41, "\rcounting: 100 %"));
    }
}
