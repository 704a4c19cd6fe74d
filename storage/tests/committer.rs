//! The thread around the log, on disks of the system and on such as fail.

#![expect(clippy::unwrap_used, reason = "a test may stop where it stands")]

mod rig;

use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::Duration;

use longshore_storage::{
    Batch, Committer, Disk, Entry, Event, Fault, Level, Log, NotRetired, Operation, Options,
    Refused, SimulatedDisk, SystemDisk, Ticket,
};

use self::rig::{SEGMENT_BYTES, at_level, batch, contents, open_with, options, record, records};

/// Long enough for any machine; nothing waits for it to pass.
const PATIENCE: Duration = Duration::from_secs(60);

/// A committer and what it tells.
fn start(disk: Arc<dyn Disk>, options: &Options) -> (Arc<Committer>, Receiver<Event>) {
    let (log, _) = Log::open(disk, options, &mut |_: Entry<'_>| {}).unwrap();
    let (tell, told) = channel();
    let listener = move |event| drop(tell.send(event));
    (Arc::new(Committer::start(log, listener).unwrap()), told)
}

fn simulated(options: &Options) -> (SimulatedDisk, Arc<Committer>, Receiver<Event>) {
    let disk = SimulatedDisk::new(3);
    let (committer, told) = start(Arc::new(disk.clone()), options);
    (disk, committer, told)
}

/// Appends, waiting while too much waits already.
fn append(committer: &Committer, batch: &mut Batch) -> Result<Ticket, Refused> {
    loop {
        match committer.append(batch) {
            Err(Refused::Busy) => thread::yield_now(),
            done => return done,
        }
    }
}

/// Waits for an event.
fn await_event<T>(told: &Receiver<Event>, matches: impl Fn(Event) -> Option<T>) -> T {
    loop {
        let event = told.recv_timeout(PATIENCE).expect("something is told");
        if let Some(found) = matches(event) {
            return found;
        }
    }
}

fn await_durable(told: &Receiver<Event>, ticket: Ticket) {
    await_event(told, |event| match event {
        Event::Durable(durable) if durable >= ticket => Some(()),
        _ => None,
    });
}

/// The batch that a thread appends as its `number`th: records that say whose they are.
fn batch_of(thread: usize, number: usize) -> Batch {
    let mut batch = Batch::new();
    for place in 0..number % 5 + 1 {
        let mut body = vec![thread as u8, number as u8, (number >> 8) as u8, place as u8];
        body.resize(4 + (thread * 131 + number * 17 + place * 97) % 700, 0xa5);
        batch.push(thread as u8, &body);
    }
    batch
}

/// Whether `found` is the first batches of each of `threads` threads, each batch in one piece;
/// gives how many of each.
fn whole_batches(found: &[rig::Record], threads: usize) -> Vec<usize> {
    let mut counts = vec![0; threads];
    let mut rest = found;
    while let Some((kind, _)) = rest.first() {
        let thread = usize::from(*kind);
        let expected = batch_of(thread, counts[thread]);
        let count = expected.len().min(rest.len());
        for ((kind, body), (found_kind, found_body)) in expected.records().zip(rest) {
            assert_eq!((kind, body), (*found_kind, &found_body[..]), "of thread {thread}");
        }
        // The last batch may be torn.
        counts[thread] += usize::from(count == expected.len());
        rest = &rest[count..];
    }
    counts
}

#[test]
fn batches_of_many_threads_stay_whole_and_in_order() {
    let (threads, batches) = (6, 300);
    let folder = tempfile::tempdir().unwrap();
    let disk = || Arc::new(SystemDisk::open(folder.path()).unwrap());
    let mut options = options();
    options.segment_bytes = 1 << 18;
    options.pending_bytes_max = 1 << 17;
    let (committer, told) = start(disk(), &options);
    let line = Arc::new(Barrier::new(threads));
    let appenders = (0..threads).map(|thread| {
        let (committer, line) = (Arc::clone(&committer), Arc::clone(&line));
        thread::spawn(move || {
            line.wait();
            let tickets = (0..batches).map(|number| {
                let mut batch = batch_of(thread, number);
                let ticket = append(&committer, &mut batch).unwrap();
                let mut body = Vec::new();
                let last = batch.spans().last().unwrap();
                committer.read(last.start, &mut body).unwrap();
                assert_eq!(batch.records().last().unwrap().1, body);
                ticket
            });
            tickets.max().unwrap()
        })
    });
    let appenders: Vec<_> = appenders.collect();
    let last = appenders.into_iter().map(|it| it.join().unwrap()).max().unwrap();
    await_durable(&told, last);
    assert!(committer.durable() >= last);
    committer.stop().unwrap();

    let mut found = Vec::new();
    let mut replay = |entry: Entry<'_>| found.push((entry.kind, entry.body.to_vec()));
    Log::open(disk(), &options, &mut replay).unwrap();
    assert_eq!(whole_batches(&found, threads), vec![batches; threads]);
}

#[test]
fn what_the_thread_called_durable_survives_a_cut_of_the_power() {
    let threads = 3;
    for seed in 0..60 {
        let disk = SimulatedDisk::new(seed);
        let (committer, _told) = start(Arc::new(disk.clone()), &options());
        disk.cut_power_at(disk.operations() + seed * 3);
        let appenders = (0..threads).map(|thread| {
            let committer = Arc::clone(&committer);
            thread::spawn(move || {
                let mut appended = Vec::new();
                while appended.len() < 2000 {
                    match append(&committer, &mut batch_of(thread, appended.len())) {
                        Ok(ticket) => appended.push(ticket),
                        Err(_) => break,
                    }
                }
                appended
            })
        });
        let appenders: Vec<_> = appenders.collect();
        let appended: Vec<_> = appenders.into_iter().map(|it| it.join().unwrap()).collect();
        let _ = committer.stop();
        let durable = committer.durable();

        let (_, found) = open_with(&disk.restart(), &options()).unwrap();
        let counts = whole_batches(&found, threads);
        for (count, tickets) in counts.into_iter().zip(&appended) {
            let promised = tickets.iter().filter(|ticket| **ticket <= durable).count();
            assert!(promised <= count && count <= tickets.len(), "seed {seed}");
        }
    }
}

#[test]
fn a_clean_stop_and_a_drop_write_everything() {
    for level in [Level::Power, Level::Process, Level::None] {
        for is_dropped in [false, true] {
            let (disk, committer, _told) = simulated(&at_level(level));
            let kept = records(20, 300);
            for record in &kept {
                append(&committer, &mut batch(std::slice::from_ref(record))).unwrap();
            }
            if !is_dropped {
                committer.stop().unwrap();
                let refused = committer.append(&mut batch(&kept));
                assert!(matches!(refused, Err(Refused::Failed(_))));
            }
            drop(committer);
            assert_eq!(open_with(&disk.restart(), &options()).unwrap().1, kept, "{level:?}");
        }
    }
}

#[test]
fn a_flush_brings_everything_to_the_medium_at_any_level() {
    for level in [Level::Power, Level::Process, Level::None] {
        let (disk, committer, _told) = simulated(&at_level(level));
        let kept = records(5, 100);
        append(&committer, &mut batch(&kept)).unwrap();
        committer.flush().unwrap();
        assert_eq!(open_with(&disk.restart(), &options()).unwrap().1, kept, "{level:?}");
    }
}

#[test]
fn where_nothing_is_promised_a_ticket_is_durable_at_once() {
    let (_disk, committer, _told) = simulated(&at_level(Level::None));
    let ticket = append(&committer, &mut batch(&records(1, 10))).unwrap();
    assert!(committer.durable() >= ticket);
}

/// A committer whose thread waits in the listener until it is let go.
fn held(options: &Options) -> (Arc<Committer>, Receiver<Event>, Sender<()>) {
    let disk = Arc::new(SimulatedDisk::new(3));
    let (log, _) = Log::open(disk, options, &mut |_: Entry<'_>| {}).unwrap();
    let (tell, told) = channel();
    let (let_go, wait) = channel();
    let listener = move |event| {
        let _ = tell.send(event);
        let _ = wait.recv();
    };
    (Arc::new(Committer::start(log, listener).unwrap()), told, let_go)
}

#[test]
fn an_appender_is_told_when_too_much_waits_and_when_there_is_room() {
    let mut options = options();
    options.pending_bytes_max = 2000;
    options.segment_bytes = 1 << 16;
    let (committer, told, let_go) = held(&options);
    let first = append(&committer, &mut batch(&[record(0, 100)])).unwrap();
    await_durable(&told, first);
    // The thread does not come back now.
    let mut last = first;
    let taken = (1..).take_while(|number| {
        let appended = committer.append(&mut batch(&[record(*number, 100)]));
        assert!(matches!(appended, Ok(_) | Err(Refused::Busy)));
        appended.map(|ticket| last = ticket).is_ok()
    });
    let taken = taken.count();
    assert!((10..20).contains(&taken), "{taken} records of 100 bytes in 2000");
    assert!(committer.pending_bytes() <= 2000);
    drop(let_go);
    await_event(&told, |event| matches!(event, Event::Room).then_some(()));
    committer.append(&mut batch(&[record(9, 100)])).unwrap();
    await_durable(&told, last);
}

#[test]
fn a_batch_is_taken_however_large_when_none_waits() {
    let mut options = options();
    options.pending_bytes_max = 1000;
    let (disk, committer, told) = simulated(&options);
    let large = record(1, 20 * SEGMENT_BYTES as usize);
    let ticket = append(&committer, &mut batch(std::slice::from_ref(&large))).unwrap();
    await_durable(&told, ticket);
    assert_eq!(contents(&disk), [large]);
}

#[test]
fn a_full_disk_refuses_what_is_new_and_recovers_by_itself() {
    let (disk, committer, told) = simulated(&options());
    disk.set_budget(3 * u64::from(SEGMENT_BYTES));
    let mut kept = Vec::new();
    loop {
        let next = record(kept.len(), 500);
        match append(&committer, &mut batch(std::slice::from_ref(&next))) {
            Ok(_) => kept.push(next),
            Err(Refused::Full(_)) => break,
            Err(refused) => panic!("{refused}"),
        }
        committer.flush().unwrap();
    }
    await_event(&told, |event| matches!(event, Event::Full(_)).then_some(()));
    // What makes room is still taken.
    let mut relief = batch(&[record(200, 10)]);
    relief.relieve();
    kept.push(record(200, 10));
    append(&committer, &mut relief).unwrap();
    disk.set_budget(u64::MAX);
    await_event(&told, |event| matches!(event, Event::Room).then_some(()));
    kept.push(record(201, 500));
    append(&committer, &mut batch(&[record(201, 500)])).unwrap();
    committer.stop().unwrap();
    assert_eq!(contents(&disk), kept);
}

#[test]
fn room_that_is_to_be_left_to_others_is_allocated_or_it_is_said_that_the_disk_is_full() {
    let (disk, committer, told) = simulated(&options());
    let segment = u64::from(SEGMENT_BYTES);
    disk.set_budget(4 * segment);
    assert!(!committer.reserve(3 * segment));
    await_event(&told, |event| matches!(event, Event::Room).then_some(()));
    // Those who append meanwhile take nothing of what is asked for.
    append(&committer, &mut batch(&[record(0, 500)])).unwrap();
    assert!(committer.reserve(2 * segment));
    assert!(!committer.reserve(5 * segment));
    await_event(&told, |event| matches!(event, Event::Full(_)).then_some(()));
    let mut relief = batch(&[record(1, 500)]);
    relief.relieve();
    append(&committer, &mut relief).unwrap();
    disk.set_budget(u64::MAX);
    await_event(&told, |event| matches!(event, Event::Room).then_some(()));
    assert!(committer.reserve(5 * segment));
}

#[test]
fn a_retired_segment_makes_room_on_a_full_disk() {
    let (disk, committer, told) = simulated(&options());
    disk.set_budget(3 * u64::from(SEGMENT_BYTES));
    let mut number = 0;
    while !matches!(append(&committer, &mut batch(&[record(number, 500)])), Err(Refused::Full(_))) {
        committer.flush().unwrap();
        number += 1;
    }
    let segments = committer.segments();
    assert_eq!(segments.len(), 3);
    committer.retire(segments[0].number).unwrap();
    await_event(&told, |event| matches!(event, Event::Room).then_some(()));
    append(&committer, &mut batch(&[record(number, 500)])).unwrap();
    let current = committer.current();
    assert!(matches!(committer.retire(current), Err(NotRetired::NotFull)));
    assert!(matches!(committer.retire(segments[0].number), Err(NotRetired::NotFull)));
}

#[test]
fn after_a_failed_sync_nothing_becomes_durable_any_more() {
    for operation in [Operation::Write, Operation::Sync] {
        let (disk, committer, told) = simulated(&options());
        let kept = append(&committer, &mut batch(&[record(0, 100)])).unwrap();
        await_durable(&told, kept);
        let durable = committer.durable();
        disk.fail(Fault { operation, after: 0, for_ever: false });
        let lost = append(&committer, &mut batch(&[record(1, 100)])).unwrap();
        let failure = await_event(&told, |event| match event {
            Event::Failed(failure) => Some(failure),
            Event::Durable(ticket) => panic!("{ticket:?} is not durable"),
            _ => None,
        });
        assert!(failure.file.ends_with(".segment"));
        let refused = committer.append(&mut batch(&[record(2, 100)]));
        assert!(matches!(refused, Err(Refused::Failed(_))));
        assert!(committer.flush().is_err() && committer.stop().is_err());
        assert!(committer.durable() == durable && durable < lost);
        assert_eq!(open_with(&disk.restart(), &options()).unwrap().1[0], record(0, 100));
    }
}

#[test]
fn a_listener_that_panics_leaves_nobody_waiting() {
    let disk = Arc::new(SimulatedDisk::new(3));
    let (log, _) = Log::open(disk, &options(), &mut |_: Entry<'_>| {}).unwrap();
    let committer = Committer::start(log, |_| panic!("the listener's own fault")).unwrap();
    append(&committer, &mut batch(&[record(0, 10)])).unwrap();
    assert!(committer.flush().is_err());
    assert!(committer.append(&mut batch(&[record(0, 10)])).is_err());
}
