//! Packets on real disks.

use std::sync::atomic::AtomicU64;

use tempfile::TempDir;

use super::*;

static TIME: AtomicU64 = AtomicU64::new(0);

fn opened(folder: &TempDir, bytes_max: u64) -> Packets {
    let tables = Tables::open(&folder.path().join("tables")).unwrap();
    // Tests run at once, and none needs the time to stand still.
    Packets::open(&tables, bytes_max, || TIME.fetch_add(1_000, Ordering::Relaxed)).unwrap()
}

fn all(packets: &Packets, streams: &[u64], is_reverse: bool) -> Vec<(u64, Vec<u8>)> {
    let (mut streams, mut range, mut all) = (streams.to_vec(), 0..u64::MAX, Vec::new());
    loop {
        let found = packets.read(&mut streams, &range, is_reverse).unwrap();
        let Some((_, last, _)) = found.last() else { return all };
        match is_reverse {
            true => range.end = *last,
            false => range.start = last + 1,
        }
        all.extend(found.into_iter().map(|(stream, _, value)| (stream, value)));
    }
}

/// R6.16.
#[test]
fn packets_of_several_streams_are_read_in_the_order_of_time_over_slices_and_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let packets = opened(&folder, u64::MAX);
    let mut want = Vec::new();
    for n in 0..READ_ROWS as u64 * 3 {
        let row = (n * n % 3, n.to_be_bytes().to_vec());
        packets.note(row.0, row.1.clone());
        want.push(row);
    }
    assert!(all(&packets, &[0, 1, 2], false).is_empty(), "none is there before it is written");
    packets.keep(|_| 60);
    drop(packets);
    let packets = opened(&folder, u64::MAX);
    assert_eq!(all(&packets, &[0, 1, 2], false), want);
    let one = want.iter().filter(|it| it.0 == 1).cloned().collect::<Vec<_>>();
    assert_eq!(all(&packets, &[1], false), one);
    packets.note(1, vec![9]);
    packets.keep(|_| 60);
    want.push((1, vec![9]));
    want.reverse();
    assert_eq!(all(&packets, &[0, 1, 2], true), want, "keys go on where they were");
}

#[test]
fn the_oldest_packets_of_a_full_stream_make_room_and_others_keep_theirs() {
    let folder = tempfile::tempdir().unwrap();
    let packets = opened(&folder, 100_000);
    packets.note(2, vec![0; 10]);
    for n in 0..2_000_u64 {
        packets.note(1, [&n.to_be_bytes()[..], &[0; 92]].concat());
    }
    packets.keep(|_| 3_600);
    let kept = all(&packets, &[1], false);
    let first = u64::from_be_bytes(kept[0].1[..8].try_into().unwrap());
    assert_eq!(first + kept.len() as u64, 2_000, "the newest ones are there");
    assert!((85_000..=90_000).contains(&(kept.len() * 132)), "{}", kept.len());
    assert_eq!(all(&packets, &[2], false).len(), 1);
    let head = lock(&packets.known)[&1];
    assert_eq!(head.size, kept.len() as u64 * 132);
}

#[test]
fn what_is_too_old_or_of_a_stream_that_is_gone_leaves_no_row() {
    let folder = tempfile::tempdir().unwrap();
    let packets = opened(&folder, u64::MAX);
    for stream in [1, 2] {
        (0..SWEPT_ROWS + 10).for_each(|_| packets.note(stream, vec![1]));
    }
    packets.note(3, vec![1]);
    packets.keep(|stream| if stream == 3 { 0 } else { 3_600 });
    assert!(all(&packets, &[3], false).is_empty(), "it keeps none");
    packets.keep(|stream| if stream == 1 { 0 } else { 3_600 });
    assert_eq!(all(&packets, &[1, 2], false).len(), SWEPT_ROWS + 10);
    assert!(!packets.is_empty());
    TIME.fetch_add(3_600_000_000, Ordering::Relaxed);
    packets.keep(|_| 3_600);
    assert!(packets.is_empty());
    assert_eq!((packets.rows.range(..).count(), packets.heads.range(..).count()), (0, 0));
}

#[test]
fn what_waits_for_a_disk_that_is_too_slow_is_bounded_and_the_rest_left_out() {
    let folder = tempfile::tempdir().unwrap();
    let packets = opened(&folder, u64::MAX);
    let most = WAITING_BYTES / DATA_BYTES_MAX;
    for _ in 0..2 {
        (0..most + 5).for_each(|_| packets.note(1, vec![0; DATA_BYTES_MAX]));
        assert_eq!(lock(&packets.waiting).rows.len(), most);
        packets.keep(|_| 3_600);
        assert!(lock(&packets.waiting).rows.is_empty(), "there is room again");
    }
}
