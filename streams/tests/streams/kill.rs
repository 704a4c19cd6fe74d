//! A process with a full queue that is killed at any moment.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use longshore_storage::Tables;
use longshore_streams::{
    Message, Outcome, Queue, QueueOptions, Queues, Rules, Runner, RunnerOptions, Sink,
};
use serde_json::{Value, json};

/// Where the child finds its tables. Set, it is what makes a child of a test.
const FOLDER: &str = "LONGSHORE_STREAMS_KILL_FOLDER";
/// The first message that the child is to append.
const FIRST: &str = "LONGSHORE_STREAMS_KILL_FIRST";

/// Says what it was given before it accepts it.
struct Spoken;

impl Sink for Spoken {
    async fn send(&mut self, batch: &[Message]) -> Outcome {
        say("given", batch.iter().map(|it| number(it.json().as_bytes())));
        Outcome::accepted(batch.len())
    }
}

fn say(word: &str, numbers: impl Iterator<Item = u64>) {
    let numbers: Vec<_> = numbers.map(|it| it.to_string()).collect();
    let mut out = std::io::stdout().lock();
    // Whoever killed this one reads no more.
    let _ = writeln!(out, "{word} {}", numbers.join(" "));
    let _ = out.flush();
}

fn open(folder: &Path) -> (Queues, Queue) {
    let queues = Queues::open(&Tables::open(folder).unwrap()).unwrap();
    let queue = queues.queue(1, QueueOptions::default()).unwrap();
    (queues, queue)
}

/// The child: appends without end, ten messages a commit, while its runner sends and acknowledges.
/// As a test of its own it does nothing.
#[tokio::test]
async fn child() {
    let Some(folder) = std::env::var_os(FOLDER) else { return };
    let mut next: u64 = std::env::var(FIRST).unwrap().parse().unwrap();
    // The test harness has begun this line.
    say("", std::iter::empty());
    let (queues, queue) = open(&PathBuf::from(folder));
    let mut options = RunnerOptions::new(|| 0);
    options.batch_messages = 7;
    let runner = Runner::new(queue.clone(), Rules::default(), Spoken, options);
    tokio::spawn(runner.run(std::future::pending(), |report| {
        say("acknowledged", std::iter::once(report.accepted as u64));
    }));
    loop {
        let texts: Vec<_> =
            (next..next + 10).map(|n| json!({"n": n}).to_string().into_bytes()).collect();
        let messages: Vec<_> = texts.iter().map(Vec::as_slice).collect();
        let appended = queues.append(&[(&queue, &messages)], 0).await.unwrap();
        assert_eq!(appended[0].taken, 10);
        say("appended", next..next + 10);
        next += 10;
    }
}

/// What the child said before it was killed, which it is after so many lines, an acknowledgement
/// among them.
#[derive(Default)]
struct Said {
    appended: BTreeSet<u64>,
    given: Vec<u64>,
    acknowledged: usize,
}

fn run_and_kill(folder: &Path, first: u64, lines: usize) -> Said {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "kill::child", "--nocapture", "--test-threads=1"])
        .env(FOLDER, folder)
        .env(FIRST, first.to_string())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = Said::default();
    let mut out = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut is_alive = true;
    for line in 0.. {
        if is_alive && line >= lines && said.acknowledged > 0 {
            // SIGKILL. What it has said until then is still read.
            child.kill().unwrap();
            is_alive = false;
        }
        assert!(line < 100_000, "it acknowledges nothing");
        let Some(Ok(text)) = out.next() else { break };
        let mut words = text.split(' ');
        let word = words.next().unwrap_or_default().to_owned();
        let numbers = words.filter_map(|it| it.parse::<u64>().ok());
        match word.as_str() {
            "appended" => said.appended.extend(numbers),
            "given" => said.given.extend(numbers),
            "acknowledged" => said.acknowledged += numbers.sum::<u64>() as usize,
            _ => {}
        }
    }
    child.wait().unwrap();
    said
}

/// R6.9, R6.11: survives kill -9 without loss, and gives nothing twice that it has acknowledged.
#[tokio::test]
async fn a_killed_stream_loses_nothing_and_repeats_nothing_that_it_acknowledged() {
    let folder = tempfile::tempdir().unwrap();
    let tables = folder.path().join("tables");
    // Places in the queue of what is expected to be there, and the next number to append.
    let (mut waiting, mut next) = (BTreeSet::new(), 0);
    for lines in [60, 90, 200, 61, 62, 150] {
        let said = run_and_kill(&tables, next, lines);
        assert!(!said.appended.is_empty() && said.acknowledged > 0, "the child did its work");
        let done: BTreeSet<_> = said.given[..said.acknowledged].iter().copied().collect();
        assert_eq!(done.len(), said.acknowledged, "nothing was given twice");
        waiting.extend(&said.appended);
        let (_queues, queue) = open(&tables);
        let there = all(&queue).await;
        let set: BTreeSet<_> = there.iter().copied().collect();
        assert_eq!(set.len(), there.len(), "nothing is there twice");
        assert!(there.is_sorted());
        assert!(set.is_disjoint(&done), "what was acknowledged came back");
        let given: BTreeSet<_> = said.given.iter().copied().collect();
        let is_lost = |it: &&u64| !set.contains(it) && !given.contains(it);
        assert_eq!(waiting.iter().find(is_lost), None, "lost");
        // A commit may have been on the medium that the child could not tell of any more.
        next = said.appended.last().unwrap().max(there.last().unwrap_or(&0)) + 1;
        waiting = set;
    }
}

async fn all(queue: &Queue) -> Vec<u64> {
    let batch = queue.read(usize::MAX, usize::MAX, u64::MAX, 0).await.unwrap();
    batch.messages.iter().map(|(_, json)| number(json)).collect()
}

fn number(json: &[u8]) -> u64 {
    serde_json::from_slice::<Value>(json).unwrap()["n"].as_u64().unwrap()
}
