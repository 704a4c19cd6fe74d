//! The queue: first in, first out, on the disk (R6.9, R6.12).

use std::fs::File;
use std::path::Path;

use futures_util::FutureExt;
use longshore_storage::Tables;
use longshore_streams::{ENTRY_BYTES_MAX, Queue, QueueError, QueueOptions, Queues};
use tempfile::tempdir;

/// A second, in the unit of the queue.
const SECOND: u64 = 1_000_000;

fn open(path: &Path) -> Queues {
    Queues::open(&Tables::open(&path.join("tables")).unwrap()).unwrap()
}

fn options(ttl_secs: u64, bytes_max: u64) -> QueueOptions {
    let mut options = QueueOptions::default();
    (options.ttl_secs, options.bytes_max) = (ttl_secs, bytes_max);
    options
}

async fn append(queues: &Queues, queue: &Queue, texts: &[&str], now: u64) -> (u64, u64, bool) {
    let messages: Vec<_> = texts.iter().map(|it| it.as_bytes()).collect();
    let appended = queues.append(&[(queue, &messages)], now).await.unwrap()[0];
    (appended.taken, appended.refused, appended.has_blocked)
}

async fn texts(queue: &Queue, now: u64) -> Vec<String> {
    let batch = queue.read(100, 1 << 20, u64::MAX, now).await.unwrap();
    batch.messages.into_iter().map(|(_, it)| String::from_utf8(it).unwrap()).collect()
}

/// Who lets go of queues may open their tables again at once, whatever was being written.
#[tokio::test]
async fn queues_that_nobody_has_any_more_have_written_all_and_left_their_tables() {
    let folder = tempdir().unwrap();
    for n in 0..8 {
        let queues = open(folder.path());
        let queue = queues.queue(1, QueueOptions::default()).unwrap();
        assert_eq!(queue.status().messages, n * 500);
        let (message, is_closed) = (vec![b'1'; 10_000], n % 2 == 0);
        let under_way: Vec<_> = (0..500).map(|_| append_later(&queues, &queue, &message)).collect();
        assert_eq!(under_way.len(), 500);
        if is_closed {
            queues.close().await;
            let refused = queues.append(&[(&queue, &[b"2"])], 0).await;
            assert!(matches!(refused, Err(QueueError::Stopped)), "{refused:?}");
        }
        drop((queues, queue));
        File::open(folder.path().join("tables/lock")).unwrap().try_lock().unwrap();
    }
}

/// Appends a message, and does not wait for it.
fn append_later(queues: &Queues, queue: &Queue, message: &[u8]) -> Option<()> {
    queues.append(&[(queue, &[message])], 0).now_or_never().map(drop)
}

/// R6.9, R6.10: over a restart too, and nothing comes back that was acknowledged.
#[tokio::test]
async fn messages_are_in_order_until_they_are_acknowledged() {
    let folder = tempdir().unwrap();
    {
        let queues = open(folder.path());
        let (a, b) = (
            queues.queue(1, QueueOptions::default()).unwrap(),
            queues.queue(2, QueueOptions::default()).unwrap(),
        );
        let both: [(&Queue, &[&[u8]]); 2] = [(&a, &[b"1", b"2", b"3"]), (&b, &[b"other"])];
        assert_eq!(queues.append(&both, 0).await.unwrap().len(), 2);
        let first = a.read(2, 1_000, u64::MAX, 0).await.unwrap();
        assert_eq!(first.messages.len(), 2);
        assert_eq!(texts(&a, 0).await, ["1", "2", "3"], "reading takes nothing away");
        a.acknowledge(first.end).await.unwrap();
        assert_eq!(texts(&a, 0).await, ["3"]);
        append(&queues, &a, &["4"], 0).await;
    }
    let queues = open(folder.path());
    let (a, b) = (
        queues.queue(1, QueueOptions::default()).unwrap(),
        queues.queue(2, QueueOptions::default()).unwrap(),
    );
    assert_eq!(texts(&a, 0).await, ["3", "4"]);
    assert_eq!(texts(&b, 0).await, ["other"]);
    append(&queues, &a, &["5"], 0).await;
    assert_eq!(texts(&a, 0).await, ["3", "4", "5"]);
    assert_eq!(queues.streams().unwrap(), [1, 2]);
    queues.remove(1).await.unwrap();
    assert_eq!(queues.streams().unwrap(), [2]);
    let again = queues.queue(1, QueueOptions::default()).unwrap();
    assert!(texts(&again, 0).await.is_empty());
    assert_eq!(texts(&b, 0).await, ["other"]);
}

/// R6.9.
#[tokio::test]
async fn a_message_that_waited_too_long_is_dropped() {
    let folder = tempdir().unwrap();
    let queues = open(folder.path());
    let queue = queues.queue(1, options(10, 1 << 20)).unwrap();
    append(&queues, &queue, &["old", "old too"], 0).await;
    append(&queues, &queue, &["young"], 5 * SECOND).await;
    assert_eq!(texts(&queue, 10 * SECOND - 1).await.len(), 3);
    assert_eq!(texts(&queue, 10 * SECOND).await, ["young"]);
    let status = queue.status();
    assert_eq!((status.messages, status.expired, status.acknowledged), (1, 2, 0));
    assert!(texts(&queue, 60 * SECOND).await.is_empty());
    assert_eq!((queue.status().messages, queue.status().bytes), (0, 0));
}

/// R6.1: 0 stops the stream.
#[tokio::test]
async fn a_time_to_wait_of_0_takes_nothing() {
    let folder = tempdir().unwrap();
    let queues = open(folder.path());
    let queue = queues.queue(1, options(0, 1 << 20)).unwrap();
    assert_eq!(append(&queues, &queue, &["1"], 0).await, (0, 1, false));
    assert!(!queue.status().blocked);
}

/// R6.12.
#[tokio::test]
async fn a_full_queue_is_blocked_until_it_is_drained_to_three_quarters() {
    let folder = tempdir().unwrap();
    let queues = open(folder.path());
    // Room for ten messages of 68 bytes, with the 32 that a row has.
    let queue = queues.queue(1, options(60, 1_000)).unwrap();
    let text = "x".repeat(68);
    let twelve = vec![text.as_str(); 12];
    assert_eq!(append(&queues, &queue, &twelve, 0).await, (10, 2, true));
    assert_eq!(append(&queues, &queue, &["small"], 0).await, (0, 1, false));
    assert_eq!((queue.status().bytes, queue.status().refused), (1_000, 3));
    assert!(!queue.acknowledge(2).await.unwrap(), "800 of 1,000 bytes are left");
    assert_eq!(append(&queues, &queue, &["small"], 0).await, (0, 1, false));
    assert!(queue.acknowledge(3).await.unwrap());
    assert!(!queue.status().blocked);
    assert_eq!(append(&queues, &queue, &["small"], 0).await, (1, 0, false));
    queue.clear().await.unwrap();
    assert_eq!((queue.status().messages, queue.status().bytes), (0, 0));

    let tiny = queues.queue(2, options(60, 1)).unwrap();
    assert_eq!(append(&queues, &tiny, &[&text, &text], 0).await, (1, 1, true), "one goes in empty");
    let large = "x".repeat(ENTRY_BYTES_MAX + 1);
    assert_eq!(append(&queues, &queue, &[&large, "1"], 0).await, (1, 1, false));
}

/// Time makes room too, and says so.
#[tokio::test]
async fn what_waited_too_long_unblocks_the_queue() {
    let folder = tempdir().unwrap();
    let queues = open(folder.path());
    let queue = queues.queue(1, options(10, 1)).unwrap();
    assert_eq!(append(&queues, &queue, &["1", "2"], 0).await, (1, 1, true));
    let batch = queue.read(1, 1, u64::MAX, 10 * SECOND).await.unwrap();
    assert!(batch.messages.is_empty() && batch.has_unblocked);
    assert!(!queue.status().blocked);
}

/// R6.16.
#[tokio::test]
async fn clearing_takes_all_away_that_is_there_then() {
    let folder = tempdir().unwrap();
    let queues = open(folder.path());
    let queue = queues.queue(1, options(60, 1 << 30)).unwrap();
    for _ in 0..3 {
        append(&queues, &queue, &vec!["x"; 9_000], 0).await;
    }
    queue.clear().await.unwrap();
    assert_eq!((queue.status().messages, queue.status().cleared), (0, 27_000));
    append(&queues, &queue, &["after"], 0).await;
    assert_eq!(texts(&queue, 0).await, ["after"]);
}

/// What a stream has in memory is a batch, however long its queue.
#[tokio::test]
async fn a_batch_is_bounded_by_messages_and_bytes_and_has_one_in_any_case() {
    let folder = tempdir().unwrap();
    let queues = open(folder.path());
    let queue = queues.queue(1, options(60, 1 << 30)).unwrap();
    let text = "x".repeat(100);
    append(&queues, &queue, &vec![text.as_str(); 5_000], 0).await;
    for (messages, bytes, want) in [(10, 1_000_000, 10), (5_000, 250, 2), (5_000, 1, 1)] {
        let batch = queue.read(messages, bytes, u64::MAX, 0).await.unwrap();
        assert_eq!(batch.messages.len(), want, "{messages} messages, {bytes} bytes");
    }
    assert_eq!(queue.read(100, 1 << 20, 7, 0).await.unwrap().messages.len(), 7);
}

/// Places are given in the order in which they are written, so no reader passes one over.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn whoever_appends_at_the_same_time_loses_nothing() {
    let folder = tempdir().unwrap();
    let queues = open(folder.path());
    let queue = queues.queue(1, QueueOptions::default()).unwrap();
    let writers: Vec<_> = (0..8)
        .map(|writer| {
            let (queues, queue) = (queues.clone(), queue.clone());
            tokio::spawn(async move {
                for n in 0..50 {
                    append(&queues, &queue, &[&format!("{writer} {n}")], 0).await;
                }
            })
        })
        .collect();
    let mut read: Vec<String> = Vec::new();
    while read.len() < 400 {
        let batch = queue.read(7, 1_000, u64::MAX, 0).await.unwrap();
        read.extend(batch.messages.iter().map(|(_, it)| String::from_utf8(it.clone()).unwrap()));
        queue.acknowledge(batch.end).await.unwrap();
    }
    for writer in writers {
        writer.await.unwrap();
    }
    for writer in 0..8 {
        let own: Vec<_> = read.iter().filter(|it| it.starts_with(&format!("{writer} "))).collect();
        let want: Vec<_> = (0..50).map(|n| format!("{writer} {n}")).collect();
        assert_eq!(own, want.iter().collect::<Vec<_>>());
    }
}
