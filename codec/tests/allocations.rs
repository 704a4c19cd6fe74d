//! Decoding allocates nothing, whatever comes; encoding a PUBLISH allocates its one reservation.

#![expect(unsafe_code, reason = "counting allocations takes an allocator, whose trait is unsafe")]

#[expect(dead_code, reason = "only the source of packets is of use here")]
mod bodies;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::hint::black_box;

use bodies::source::{Source, with_packet};
use longshore_codec::{
    Carrier, Packet, Publish, Version, decode, decode_publish, encode, encode_publish, frame, topic,
};

struct Counting;

thread_local! {
    /// Allocations of this thread: tests run beside each other.
    static COUNT: Cell<usize> = const { Cell::new(0) };
}

// SAFETY: every call goes on to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        COUNT.with(|count| count.set(count.get() + 1));
        // SAFETY: the caller's promise is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise is passed on.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// What `work` returns, and how often it allocated.
fn counted<T>(work: impl FnOnce() -> T) -> (usize, T) {
    let before = COUNT.with(Cell::get);
    let result = work();
    (COUNT.with(Cell::get) - before, result)
}

#[test]
fn decoding_does_not_allocate() {
    for seed in 0..4_000_u32 {
        let data: Vec<u8> =
            (0..120).map(|n| (seed.wrapping_mul(2_654_435_761) >> (n % 24)) as u8 ^ n).collect();
        for version in Version::ALL {
            let mut bytes = Vec::new();
            with_packet(version, &mut Source::new(&data), &mut |packet| {
                encode(version, packet, &mut bytes);
            });
            // Every other packet is damaged, so that errors are counted too.
            if seed % 2 == 1 {
                let at = 2 + seed as usize % bytes.len().saturating_sub(2).max(1);
                if let Some(byte) = bytes.get_mut(at) {
                    *byte ^= 0x80;
                }
            }
            let (count, _) = counted(|| look(version, &bytes));
            assert_eq!(count, 0, "{version}: {}", bytes.escape_ascii());
        }
    }
}

fn look(version: Version, bytes: &[u8]) -> Option<()> {
    let found = frame(bytes, 1 << 20).ok()??;
    let packet = decode(version, found.first, bytes.get(found.header..found.total())?).ok()?;
    match packet {
        Packet::Publish(publish) => {
            black_box(topic::validate(publish.topic).ok());
            black_box(publish.properties.validate(Carrier::Publish).ok());
            black_box(publish.properties.iter().count());
        }
        Packet::Subscribe(subscribe) => drop(black_box(subscribe.filters.iter().count())),
        Packet::Unsubscribe(unsubscribe) => drop(black_box(unsubscribe.filters.iter().count())),
        _ => {}
    }
    Some(())
}

#[test]
fn encoding_a_publish_allocates_once_and_never_when_there_is_room() {
    let body = [&b"\0\x03a/b\0"[..], &[7; 5_000]].concat();
    let publish: Publish<'_> = decode_publish(Version::V5, 0x30, &body).unwrap();
    let mut out = Vec::new();
    let (count, ()) = counted(|| encode_publish(Version::V5, &publish, &mut out));
    assert_eq!(count, 1);
    out.clear();
    let (count, ()) = counted(|| encode_publish(Version::V5, &publish, &mut out));
    assert_eq!(count, 0);
}
