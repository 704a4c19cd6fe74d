//! What is damaged is found, named and repaired; what was torn by a crash is cut without a word.

#![expect(clippy::unwrap_used, reason = "a test may stop where it stands")]

mod rig;

use std::sync::Arc;

use longshore_storage::{
    Damage, Disk, Flaw, Level, OpenError, Position, Repaired, Report, SimulatedDisk, Span, repair,
    verify,
};

use self::rig::{
    Record, SEGMENT_BYTES, append, at_level, commit_each, open, open_with, options, record,
    records, segment,
};

fn check(disk: &SimulatedDisk) -> Report {
    let disk: Arc<dyn Disk> = Arc::new(disk.clone());
    verify(&disk, &mut |_, _| {}).unwrap()
}

fn mend(disk: &SimulatedDisk) -> Repaired {
    let disk: Arc<dyn Disk> = Arc::new(disk.clone());
    repair(&disk, &mut |_, _| {}).unwrap()
}

/// A log of four segments that was closed: records of all sizes, some in two or three segments.
fn closed_log() -> (SimulatedDisk, Vec<Record>, Vec<Span>) {
    let disk = SimulatedDisk::new(5);
    let (mut log, _) = open(&disk);
    let lengths = [0, 1, 200, 484, 500, 900, 3000, 17, 5000, 300, 40, 12, 88, 1000, 60];
    let kept: Vec<_> = lengths.iter().enumerate().map(|(at, it)| record(at, *it)).collect();
    let spans = commit_each(&mut log, &kept);
    log.close().unwrap();
    (disk, kept, spans)
}

/// The disk with one byte of one file changed.
fn with_flipped(disk: &SimulatedDisk, name: &str, at: usize) -> SimulatedDisk {
    let copy = disk.restart_after_kill();
    let mut bytes = copy.contents(name);
    bytes[at] ^= 0x20;
    copy.put(name, bytes);
    copy
}

fn files(disk: &SimulatedDisk) -> Vec<(String, Vec<u8>)> {
    let names = disk.list().unwrap().into_iter().filter(|name| name != "lock");
    names.map(|name| (name.clone(), disk.contents(&name))).collect()
}

#[test]
fn any_changed_byte_of_a_closed_log_is_found_or_does_no_harm() {
    let (disk, kept, spans) = closed_log();
    let last = spans.last().unwrap().end.segment;
    assert!(last >= 3 && spans.iter().any(|span| span.segments().count() > 1));
    let mut found_damage = 0;
    for number in 1..=last {
        let name = segment(number);
        for at in 0..SEGMENT_BYTES as usize {
            let damaged = with_flipped(&disk, &name, at);
            let before = files(&damaged);
            match open_with(&damaged, &options()) {
                Ok((_, found)) => assert_eq!(found, kept, "byte {at} of {name}"),
                Err(OpenError::Damaged(Damage { file, offset, .. })) => {
                    assert_eq!(file, name);
                    assert!(offset as usize <= at, "byte {at} was reported at {offset}");
                    assert_eq!(files(&damaged), before, "an opening that fails changes nothing");
                    found_damage += 1;
                }
                Err(error) => panic!("byte {at} of {name}: {error}"),
            }
            // No byte of a record does no harm.
            let is_in_record = spans.iter().any(|span| {
                let place = Position { segment: number, offset: at as u32 };
                span.start <= place && place < span.end && at >= 512
            });
            assert!(!is_in_record || open_with(&damaged, &options()).is_err(), "byte {at}");
        }
    }
    let bytes: usize = kept.iter().map(|(_, body)| 12 + body.len()).sum();
    assert!(found_damage > bytes);
}

#[test]
fn a_changed_byte_of_the_last_commit_is_a_torn_tail_and_any_other_is_not() {
    let disk = SimulatedDisk::new(5);
    let (mut log, _) = open(&disk);
    let kept = records(4, 400);
    let spans = commit_each(&mut log, &kept);
    drop(log);
    let name = segment(1);
    for (number, span) in spans.iter().enumerate() {
        assert_eq!(span.segments(), 1..=1);
        for at in span.start.offset..span.end.offset {
            let opened = open_with(&with_flipped(&disk, &name, at as usize), &options());
            match (number, opened) {
                (3, Ok((_, found))) => assert_eq!(found, kept[..3]),
                (0..3, Err(OpenError::Damaged(damage))) => {
                    assert_eq!((damage.file, damage.offset), (name.clone(), span.start.offset));
                }
                (_, other) => panic!("record {number}, byte {at}: {:?}", other.map(|it| it.1)),
            }
        }
    }
}

#[test]
fn the_error_names_the_file_the_offset_and_the_command() {
    let (disk, _, spans) = closed_log();
    let offset = spans[1].start.offset;
    let error = open_with(&with_flipped(&disk, &segment(1), offset as usize), &options());
    let text = error.map(|it| it.1).unwrap_err().to_string();
    let expected = format!(
        "0000000001.segment is damaged at byte {offset}: the checksum is wrong; \
         `longshore data repair` keeps all that is sound"
    );
    assert_eq!(text, expected);
}

/// Repairs, and checks that it agrees with what is found afterwards. Gives the records.
fn repaired(disk: &SimulatedDisk, aside: usize) -> Vec<Record> {
    let report = check(disk);
    let done = mend(disk);
    assert_eq!((&done.report.losses, done.report.records), (&report.losses, report.records));
    assert_eq!(done.aside.len(), aside);
    let (log, found) = open(disk);
    drop(log);
    assert_eq!(report.records, found.len() as u64);
    let again = check(disk);
    assert_eq!((again.losses, again.records), (vec![], report.records));
    found
}

#[test]
fn a_repair_loses_only_the_record_that_is_damaged() {
    let (disk, kept, spans) = closed_log();
    let last = spans.last().unwrap().end.segment;
    for number in 1..=last {
        for at in (512..SEGMENT_BYTES).step_by(3) {
            let damaged = with_flipped(&disk, &segment(number), at as usize);
            let report = check(&damaged);
            if report.losses.is_empty() {
                assert_eq!(open(&damaged).1, kept);
                continue;
            }
            let original = damaged.contents(&segment(number));
            let found = repaired(&damaged, 1);
            assert_eq!(damaged.contents(&format!("{number:010}.damaged")), original);
            let loss = &report.losses[0];
            let lost: Vec<_> = (0..kept.len()).filter(|it| !found.contains(&kept[*it])).collect();
            assert!(lost.len() <= 1 && found.len() + lost.len() == kept.len(), "byte {at}");
            for record in lost {
                let Span { start, end } = spans[record];
                let from = Position { segment: number, offset: loss.damage.offset };
                let until = Position { segment: number, offset: loss.until };
                assert!(start < until && from < end, "byte {at}: {loss:?} took {start} to {end}");
            }
        }
    }
}

#[test]
fn a_log_goes_on_after_a_repair() {
    let (disk, kept, spans) = closed_log();
    let damaged = with_flipped(&disk, &segment(1), spans[3].start.offset as usize);
    mend(&damaged);
    let (mut log, mut expected) = open(&damaged);
    assert_eq!(expected.len(), kept.len() - 1);
    let more = records(10, 700);
    commit_each(&mut log, &more);
    drop(log);
    expected.extend(more);
    assert_eq!(open(&damaged).1, expected);
}

#[test]
fn files_that_are_lost_cut_or_mixed_up_are_named_and_repaired() {
    let (disk, kept, spans) = closed_log();
    let sectors = |from: usize, to: usize| {
        move |disk: &SimulatedDisk| {
            let mut bytes = disk.contents(&segment(2));
            bytes[from..to].fill(0xee);
            disk.put(&segment(2), bytes);
        }
    };
    type Harm = Box<dyn Fn(&SimulatedDisk)>;
    let harms: Vec<(&str, Flaw, usize, Harm)> = vec![
        ("missing", Flaw::Missing, 0, Box::new(|disk| disk.take_away(&segment(2)))),
        ("no header", Flaw::Header, 1, Box::new(sectors(0, 512))),
        ("empty", Flaw::Header, 1, Box::new(|disk| disk.put(&segment(2), vec![]))),
        (
            "another segment",
            Flaw::Header,
            1,
            Box::new(|disk| disk.put(&segment(2), disk.contents(&segment(1)))),
        ),
    ];
    for (harm, flaw, aside, harms) in harms {
        let damaged = disk.restart_after_kill();
        harms(&damaged);
        let error = open_with(&damaged, &options()).map(|it| it.1).unwrap_err();
        match error {
            OpenError::Damaged(damage) => {
                assert_eq!((damage.file, damage.flaw), (segment(2), flaw), "{harm}");
            }
            error => panic!("{harm}: {error}"),
        }
        let found = repaired(&damaged, aside);
        let sound = spans.iter().zip(&kept).filter(|(span, _)| !span.segments().contains(&2));
        assert_eq!(found, sound.map(|it| it.1.clone()).collect::<Vec<_>>(), "{harm}");
    }
}

#[test]
fn a_segment_that_is_cut_short_loses_what_is_behind_the_cut() {
    let (disk, kept, spans) = closed_log();
    for length in (512..SEGMENT_BYTES as usize).step_by(37) {
        let damaged = disk.restart_after_kill();
        let mut bytes = damaged.contents(&segment(2));
        bytes.truncate(length);
        damaged.put(&segment(2), bytes);
        let report = check(&damaged);
        if report.losses.is_empty() {
            // Nothing but padding was cut.
            assert_eq!(open(&damaged).1, kept);
            continue;
        }
        assert!(open_with(&damaged, &options()).is_err());
        let found = repaired(&damaged, 1);
        let cut = Position { segment: 2, offset: length as u32 };
        for (span, record) in spans.iter().zip(&kept) {
            let is_before = span.end <= cut;
            let is_behind = span.start.segment > 2;
            assert_eq!(found.contains(record), is_before || is_behind, "{length}: {span:?}");
        }
    }
}

#[test]
fn what_follows_a_retired_segment_is_missed() {
    let disk = SimulatedDisk::new(5);
    let (mut log, _) = open(&disk);
    let spans = commit_each(&mut log, &records(20, 700));
    log.retire(2).unwrap();
    let last = log.segments().last().unwrap().number;
    log.close().unwrap();
    for number in 3..=last {
        disk.take_away(&segment(number));
    }
    let error = open_with(&disk, &options()).map(|it| it.1).unwrap_err();
    assert!(error.to_string().starts_with("0000000003.segment is missing"), "{error}");
    let is_left = |span: &&Span| span.end.segment == 1;
    assert_eq!(repaired(&disk, 0).len(), spans.iter().filter(is_left).count());
}

#[test]
fn a_log_of_a_later_version_is_left_alone() {
    let (disk, ..) = closed_log();
    let mut bytes = disk.contents(&segment(1));
    for at in [0, 256] {
        bytes[at + 8] = 2;
        let checksum =
            crc32c::crc32c_append(crc32c::crc32c(&bytes[at..at + 12]), &bytes[at + 16..at + 32]);
        bytes[at + 12..at + 16].copy_from_slice(&checksum.to_le_bytes());
    }
    disk.put(&segment(1), bytes);
    let before = files(&disk);
    let error = open_with(&disk, &options()).map(|it| it.1).unwrap_err();
    assert!(matches!(error, OpenError::Version { version: 2, .. }), "{error}");
    let shared: Arc<dyn Disk> = Arc::new(disk.clone());
    let refused = repair(&shared, &mut |_, _| {});
    assert!(matches!(refused, Err(OpenError::Version { version: 2, .. })));
    assert_eq!(files(&disk), before);
}

#[test]
fn a_directory_that_cannot_be_written_is_verified_all_the_same() {
    let (disk, kept, _) = closed_log();
    disk.set_read_only(true);
    let report = check(&disk);
    assert_eq!((report.records, report.losses.len()), (kept.len() as u64, 0));
    let bytes: usize = kept.iter().map(|(_, body)| body.len()).sum();
    assert_eq!(report.bytes, bytes as u64);
    assert!(open_with(&disk, &options()).is_err());
}

/// After a torn commit the log goes on where it was torn. The rest of the torn commit still stands
/// behind, and fits to the byte.
#[test]
fn what_a_torn_commit_left_is_never_taken_for_what_came_later() {
    for level in [Level::Power, Level::Process] {
        let disk = SimulatedDisk::new(5);
        let (mut log, _) = open_with(&disk, &at_level(level)).unwrap();
        let start = log.durable().to_u64() as u32;
        // A barrier of 16 bytes and two headers of 12: the second record begins a sector.
        let torn = [record(1, 1024 - 28), record(2, 100)];
        let (_, spans) = append(&mut log, &torn).unwrap();
        assert_eq!(spans[1].start.offset % 512, 0);
        log.commit().unwrap();
        drop(log);
        let mut bytes = disk.contents(&segment(1));
        bytes[start as usize..start as usize + 512].fill(0);
        disk.put(&segment(1), bytes);

        let (mut log, found) = open_with(&disk, &at_level(level)).unwrap();
        assert_eq!(found, []);
        let later = record(3, 512 - 28);
        let (_, spans) = append(&mut log, std::slice::from_ref(&later)).unwrap();
        assert_eq!(spans[0].end.offset, start + 1024);
        log.commit().unwrap();
        drop(log);
        assert_eq!(open_with(&disk, &at_level(level)).unwrap().1, [later]);
    }
}
