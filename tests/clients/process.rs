//! A program that runs beside the test, and the lines it writes.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

/// No step of these tests takes as long on a machine that works, however busy it is.
pub(crate) const PATIENCE: Duration = Duration::from_secs(300);

/// What is not there by then does not come.
pub(crate) const LATE: Duration = Duration::from_secs(30);

/// A program that was started; killed at the end if it still runs.
pub(crate) struct Process {
    /// What was started, for those who read that it failed.
    name: String,
    child: Child,
    /// Lines of its two outputs, as they come.
    lines: Receiver<String>,
    /// Lines already taken, for those who read that it failed.
    seen: Vec<String>,
}

impl Process {
    pub(crate) fn start(command: &mut Command) -> Self {
        let name = format!("{command:?}");
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap_or_else(|error| panic!("{name}: {error}"));
        let (sender, lines) = channel();
        pass_on(child.stdout.take().expect("it is piped"), sender.clone());
        pass_on(child.stderr.take().expect("it is piped"), sender);
        Self { name, child, lines, seen: Vec::new() }
    }

    /// The next line, once there is one; none when there will be no more.
    fn line(&mut self, deadline: Instant) -> Option<&str> {
        let left = deadline.saturating_duration_since(Instant::now());
        match self.lines.recv_timeout(left) {
            Ok(line) => {
                self.seen.push(line);
                self.seen.last().map(String::as_str)
            }
            Err(RecvTimeoutError::Disconnected) => None,
            Err(RecvTimeoutError::Timeout) => panic!("waited in vain for {}", self.story()),
        }
    }

    /// Waits for a line with `text` in it, and gives it.
    pub(crate) fn until(&mut self, text: &str) -> String {
        let deadline = Instant::now() + PATIENCE;
        loop {
            match self.line(deadline) {
                Some(line) if line.contains(text) => return line.to_owned(),
                Some(_) => {}
                None => panic!("no line {text:?} from {}", self.story()),
            }
        }
    }

    /// Waits for a line with `text` in it, for as long as one takes that is late; gives it if it
    /// comes.
    pub(crate) fn until_or_end(&mut self, text: &str) -> Option<String> {
        let deadline = Instant::now() + LATE;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let line = self.lines.recv_timeout(left).ok()?;
            let found = line.contains(text).then(|| line.clone());
            self.seen.push(line);
            if found.is_some() {
                return found;
            }
        }
    }

    /// Asks it to end, as whoever runs it does; waits for a good end, and gives all lines.
    pub(crate) fn stop(self) -> Vec<String> {
        kill_process(Pid::from_child(&self.child), Signal::TERM).expect("it runs");
        self.finish()
    }

    /// Its number, for the system.
    pub(crate) fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    /// Waits for its end, which must be a good one, and gives all lines.
    pub(crate) fn finish(mut self) -> Vec<String> {
        let deadline = Instant::now() + PATIENCE;
        while self.line(deadline).is_some() {}
        let status = self.child.wait().expect("it was started");
        assert!(status.success(), "{status} from {}", self.story());
        std::mem::take(&mut self.seen)
    }

    /// Waits for its end, whatever end that is, which must not be late; gives all lines.
    pub(crate) fn end(mut self) -> (ExitStatus, Vec<String>) {
        let deadline = Instant::now() + LATE;
        while self.line(deadline).is_some() {}
        let status = self.child.wait().expect("it was started");
        (status, std::mem::take(&mut self.seen))
    }

    /// Ends it as a power cut would.
    pub(crate) fn kill(mut self) {
        self.child.kill().expect("it runs");
    }

    /// Whether it still runs.
    pub(crate) fn is_running(&mut self) -> bool {
        self.child.try_wait().expect("it was started").is_none()
    }

    /// What it was and what it said.
    pub(crate) fn story(&mut self) -> String {
        self.seen.extend(self.lines.try_iter());
        let from = self.seen.len().saturating_sub(60);
        format!("{}, which wrote\n  {}", self.name, self.seen[from..].join("\n  "))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if thread::panicking() {
            eprintln!("{}", self.story());
        }
    }
}

/// Passes the lines of `output` on, from a thread of its own.
fn pass_on(output: impl Read + Send + 'static, lines: Sender<String>) {
    thread::spawn(move || {
        let mut output = BufReader::new(output);
        let mut line = Vec::new();
        while output.read_until(b'\n', &mut line).is_ok_and(|length| length > 0) {
            let text = String::from_utf8_lossy(&line).trim_end_matches('\n').to_owned();
            if lines.send(text).is_err() {
                // Nobody listens any more; the program is still to be heard out.
                let _ = std::io::copy(&mut output, &mut std::io::sink());
                return;
            }
            line.clear();
        }
    });
}
