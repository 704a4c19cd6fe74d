//! What a long queue costs in memory, which is nothing.

use std::path::PathBuf;
use std::process::Command;

use longshore_storage::Tables;
use longshore_streams::{QueueOptions, Queues};

/// Where the child finds its tables. Set, it is what makes a child of a test.
const FOLDER: &str = "LONGSHORE_STREAMS_MEMORY_FOLDER";
/// How many messages it appends.
const COUNT: &str = "LONGSHORE_STREAMS_MEMORY_COUNT";

/// Bytes that the store may take for itself over the shorter queue: its cache and what it has not
/// sorted yet.
const SLACK_KB: u64 = 40 << 10;

/// The child: appends, opens again, reads a batch, and says what memory it had at most. As a test
/// of its own it does nothing.
#[tokio::test]
async fn child() {
    let Some(folder) = std::env::var_os(FOLDER).map(PathBuf::from) else { return };
    let count: usize = std::env::var(COUNT).unwrap().parse().unwrap();
    let mut options = QueueOptions::default();
    options.bytes_max = 1 << 40;
    let text = vec![b'x'; 500];
    for _ in 0..2 {
        let queues = Queues::open(&Tables::open(&folder).unwrap()).unwrap();
        let queue = queues.queue(1, options).unwrap();
        for _ in 0..count / 1_000 {
            queues.append(&[(&queue, &vec![&text[..]; 500])], 0).await.unwrap();
        }
        assert_eq!(queue.read(1_000, 4 << 20, u64::MAX, 0).await.unwrap().messages.len(), 1_000);
    }
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|it| it.starts_with("VmHWM:")).unwrap();
    println!("\n{}", line.split_whitespace().nth(1).unwrap());
}

fn peak_kb(count: usize) -> u64 {
    let folder = tempfile::tempdir().unwrap();
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "memory::child", "--nocapture", "--test-threads=1"])
        .env(FOLDER, folder.path().join("tables"))
        .env(COUNT, count.to_string())
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().find_map(|it| it.parse().ok()).expect(&text)
}

/// R6.9: a dead endpoint costs nothing but disk.
#[cfg(target_os = "linux")]
#[test]
fn a_long_queue_is_on_the_disk_alone() {
    let (short, long) = (peak_kb(10_000), peak_kb(300_000));
    assert!(long < short + SLACK_KB, "{short} KB for 5 MB of messages, {long} KB for 150 MB");
}
