//! Queues that share pages beside queues that share nothing.

use longshore_storage::{Disk, SimulatedDisk};

use super::*;
use crate::session::page::{ENTRY_BYTES, PAGE_BYTES, PAGE_LEN, ROW_BYTES};

impl Waiting for u32 {
    fn bytes(&self) -> usize {
        *self as usize % 7
    }

    fn row(&self) -> Option<[u8; ROW_BYTES]> {
        // Some are not written down yet.
        let mut row = [0; ROW_BYTES];
        row[..4].copy_from_slice(&self.to_le_bytes());
        (!self.is_multiple_of(50)).then_some(row)
    }

    fn of_row(row: &[u8; ROW_BYTES]) -> Self {
        u32::from_le_bytes([row[0], row[1], row[2], row[3]])
    }
}

fn all(queue: &Queue<u32, char>) -> Vec<(u32, char)> {
    let mut all = Vec::new();
    queue.for_each(|entry, manner| all.push((*entry, *manner)));
    assert_eq!(all.len(), queue.len());
    all
}

#[test]
fn what_waits_for_many_stands_once() {
    let pages: Arc<Pages<u32>> = Arc::default();
    let mut queues: Vec<Queue<u32, char>> = (0..100).map(|_| Queue::default()).collect();
    for message in 0..3 * PAGE_LEN as u32 {
        let mut place = None;
        for queue in &mut queues {
            queue.push(message, 'a', &mut place, &pages);
        }
    }
    let of_page = PAGE_BYTES + PAGE_LEN * ENTRY_BYTES;
    assert_eq!(pages.bytes(), 3 * of_page);
    for queue in &mut queues {
        assert_eq!(queue.spans().len(), 3);
        for message in 0..3 * PAGE_LEN as u32 {
            assert_eq!(queue.pop(), Some((message, 'a')));
        }
        assert!(queue.len() == 0 && queue.pop().is_none() && queue.memory() == 0);
    }
    assert_eq!(pages.bytes(), 0, "the last who waited takes the page along");
}

fn file() -> Arc<dyn longshore_storage::DiskFile> {
    SimulatedDisk::new(1).create("pages", 1).expect("the disk works")
}

#[test]
fn queues_that_share_pages_do_as_queues_that_share_nothing() {
    for limit in [usize::MAX, 8_000, 0] {
        act(limit);
    }
}

/// What queues do with so many bytes of memory for their pages.
fn act(limit: usize) {
    let pages = Arc::new(Pages::new(Some(file()), limit));
    let mut queues: Vec<Queue<u32, char>> = (0..4).map(|_| Queue::default()).collect();
    let mut plain: Vec<VecDeque<(u32, char)>> = vec![VecDeque::new(); 4];
    let mut choices = crate::record::any::bytes_of(7, 40_000).into_iter().map(u32::from);
    let (mut message, mut longest) = (0, 0);
    while let (Some(what), Some(of)) = (choices.next(), choices.next()) {
        let (who, of) = (of >> 4, of as usize % 4);
        match what % 8 {
            0..=3 => {
                let mut place = None;
                message += 1;
                for at in (0..4).filter(|at| who >> at & 1 == 1) {
                    let manner = if of == at { 'b' } else { 'a' };
                    queues[at].push(message, manner, &mut place, &pages);
                    plain[at].push_back((message, manner));
                }
            }
            4 | 5 => {
                assert_eq!(queues[of].front(), plain[of].front().map(|it| it.0));
                assert_eq!(queues[of].pop(), plain[of].pop_front());
            }
            6 if what > 250 => {
                let (taken, rest) = plain[of].drain(..).partition(|it| it.1 == 'b');
                plain[of] = rest;
                let taken: VecDeque<_> = taken;
                assert_eq!(queues[of].take_all(|manner| *manner == 'b'), Vec::from(taken));
            }
            6 if what > 240 => {
                let gone = message.saturating_sub(what)..message.saturating_sub(what) + 9;
                plain[of].retain(|it| !gone.contains(&it.0));
                queues[of].retain(|entry, _| !gone.contains(entry));
            }
            _ => {
                let any = message.saturating_sub(what);
                let place = plain[of].iter().position(|it| it.0 == any);
                let is_there = place.and_then(|place| plain[of].remove(place)).is_some();
                assert_eq!(queues[of].take(usize::MAX, |entry, _| *entry == any), is_there);
            }
        }
        assert_eq!(queues[of].len(), plain[of].len());
        let size: usize = plain[of].iter().map(|it| it.0.bytes()).sum();
        assert_eq!(queues[of].size(), size);
        if what == 255 {
            assert_eq!(all(&queues[of]), Vec::from(plain[of].clone()));
        }
        longest = longest.max(plain[of].len());
        if what % 16 == 0 {
            pages.relieve(16).expect("the disk works");
        }
    }
    assert!(message > 1_000 && longest > 100, "it has to grow");
    drop(queues);
    assert_eq!(pages.bytes(), 0);
}

#[test]
fn manners_that_nobody_has_any_more_are_forgotten() {
    let pages: Arc<Pages<u32>> = Arc::default();
    let mut queue: Queue<u32, u32> = Queue::default();
    for message in 0..10_000 {
        queue.push(message, message, &mut None, &pages);
        if queue.len() > 10 {
            assert_eq!(queue.pop(), Some((message - 10, message - 10)));
        }
        assert!(queue.manners.len() <= 24 + MANNERS_UNUSED);
    }
}
