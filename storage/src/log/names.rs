//! What the files of a log are called.

use std::collections::BTreeSet;
use std::io;

use crate::disk::Disk;

/// A segment that is being made.
pub(crate) const DRAFT: &str = "draft";

const SEGMENT: &str = ".segment";
const SPARE: &str = ".spare";
const RETIRED: &str = ".retired";
const DAMAGED: &str = ".damaged";

const DIGITS: usize = 10;

/// The largest number that is taken for one of ours: a few exbibytes of log.
const NUMBER_MAX: u32 = u32::MAX / 2;

/// Missing segments that are named, at most. More are missing only where a number is no number.
const MISSING_MAX: usize = 10_000;

pub(crate) fn segment(number: u32) -> String {
    name(number, SEGMENT)
}

/// A segment that is retired, kept to be used again.
pub(crate) fn spare(number: u32) -> String {
    name(number, SPARE)
}

/// An empty file that says that a segment is retired, where it might be missed otherwise.
pub(crate) fn retired(number: u32) -> String {
    name(number, RETIRED)
}

/// A segment as the `attempt`th repair found it, counted from 1.
pub(crate) fn damaged(number: u32, attempt: u32) -> String {
    let name = name(number, DAMAGED);
    if attempt == 1 { name } else { format!("{name}.{attempt}") }
}

fn name(number: u32, suffix: &str) -> String {
    format!("{number:0DIGITS$}{suffix}")
}

fn number(name: &str, suffix: &str) -> Option<u32> {
    let digits = name.strip_suffix(suffix)?;
    let is_ours = digits.len() == DIGITS && digits.bytes().all(|it| it.is_ascii_digit());
    digits.parse().ok().filter(|number| is_ours && (1..=NUMBER_MAX).contains(number))
}

/// The files of a directory. Those of other names are not the log's.
#[derive(Debug, Default)]
pub(crate) struct Listing {
    /// Segments that are not retired.
    pub(crate) segments: BTreeSet<u32>,
    pub(crate) retired: BTreeSet<u32>,
    /// Names of what can go: spares, a draft, and segments that are retired and still there.
    pub(crate) leftovers: Vec<String>,
    /// The largest number that a segment has, retired or not; 0 when there is none.
    pub(crate) largest: u32,
}

impl Listing {
    pub(crate) fn read(disk: &dyn Disk) -> io::Result<Self> {
        let mut listing = Self::default();
        for name in disk.list()? {
            if let Some(number) = number(&name, SEGMENT) {
                listing.segments.insert(number);
            } else if let Some(number) = number(&name, RETIRED) {
                listing.retired.insert(number);
            } else if name == DRAFT || number(&name, SPARE).is_some() {
                listing.leftovers.push(name);
            }
        }
        // The stub is durable before the segment goes: it is retired whichever files are left.
        let (segments, retired) = (&mut listing.segments, &listing.retired);
        for number in retired.iter().filter(|number| segments.remove(number)) {
            listing.leftovers.push(segment(*number));
        }
        let largest = [&listing.segments, &listing.retired].map(|it| it.last().copied());
        listing.largest = largest.into_iter().flatten().max().unwrap_or(0);
        Ok(listing)
    }

    /// Numbers of segments that must be there and are not: between those that are, and after one
    /// that is retired, for only a full one ever is.
    pub(crate) fn missing(&self) -> impl Iterator<Item = u32> {
        let pairs = self.segments.iter().zip(self.segments.iter().skip(1));
        let between = pairs.flat_map(|(before, after)| before + 1..*after);
        let last = self.segments.last().copied().unwrap_or(0);
        let after = self.retired.last().filter(|retired| **retired > last);
        let after = after.map(|retired| retired + 1);
        let missing = between.filter(|number| !self.retired.contains(number)).chain(after);
        missing.take(MISSING_MAX)
    }
}
