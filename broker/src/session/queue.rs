//! Messages that wait, which those who wait for them share.
//!
//! Whoever publishes to 10,000 absent clients would leave 10,000 references a message. Instead the
//! message stands once on a [`Page`], behind those that waited before it, and each session has
//! spans of pages: a message more for all of them makes the last span of each longer by one. In
//! the worst case, where no two sessions wait for the same, a reference is a span of its own, and
//! has 16 bytes.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;

use super::page::{Page, Pages, Place, Waiting};

/// Bytes that a span is accounted with: its own, and room to grow.
const SPAN_BYTES: usize = 32;

/// Manners that are looked at for one that is the same, the last first.
const MANNERS_COMPARED: usize = 8;
/// Manners that are kept although no message has them any more, beside two for each span.
const MANNERS_UNUSED: usize = 64;

/// Messages of one page that wait for one client, in one manner.
#[derive(Debug)]
pub(crate) struct Span<E> {
    pub(crate) page: Arc<Page<E>>,
    from: u16,
    len: u16,
    manner: u32,
}

const _: () = assert!(size_of::<Span<u64>>() == 16);

impl<E> Span<E> {
    /// Which messages of the page they are.
    pub(crate) fn range(&self) -> Range<u16> {
        self.from..self.from + self.len
    }

    fn places(&self) -> Range<usize> {
        usize::from(self.from)..usize::from(self.from + self.len)
    }
}

/// The messages that wait for one client, oldest first. `M` is the manner in which it gets one:
/// most get all in the same.
#[derive(Debug)]
pub(crate) struct Queue<E, M> {
    spans: VecDeque<Span<E>>,
    manners: Vec<M>,
    len: usize,
    /// Bytes of all these messages.
    size: usize,
    /// The number of the first span, of all there were.
    first: u64,
    /// How often spans have changed in the middle.
    changes: u64,
}

/// How far somebody has come who looks at all spans of a queue, while it goes on.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Progress {
    span: u64,
    changes: u64,
}

impl Progress {
    /// The next span.
    pub(crate) fn pass(&mut self) {
        self.span += 1;
    }
}

impl<E, M> Default for Queue<E, M> {
    fn default() -> Self {
        let (spans, manners) = (VecDeque::new(), Vec::new());
        Self { spans, manners, len: 0, size: 0, first: 0, changes: 0 }
    }
}

impl<E: Waiting, M: Clone + PartialEq> Queue<E, M> {
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Bytes of all these messages.
    pub(crate) fn size(&self) -> usize {
        self.size
    }

    /// Bytes of memory it is accounted with, beside the pages.
    pub(crate) fn memory(&self) -> usize {
        self.spans.len() * SPAN_BYTES + self.manners.len() * size_of::<M>()
    }

    /// Bytes of memory that are free without it: its own, and those of pages that nobody shares.
    pub(crate) fn weight(&self) -> usize {
        let own = self.spans.iter().filter(|span| Arc::strong_count(&span.page) == 1);
        self.memory() + own.map(|span| span.page.lock().memory()).sum::<usize>()
    }

    /// Keeps a message behind the others. `place` is where it stands if another has kept it before,
    /// and else becomes that; a new page is one of `pages`.
    pub(crate) fn push(
        &mut self,
        entry: E,
        manner: M,
        place: &mut Place<E>,
        pages: &Arc<Pages<E>>,
    ) {
        let size = entry.bytes();
        let (page, at) = place.get_or_insert_with(|| self.place(entry, pages)).clone();
        self.extend(page, at..at + 1, size, manner);
    }

    /// The message's place on a page: behind the last that waits here, if that is free.
    fn place(&self, entry: E, pages: &Arc<Pages<E>>) -> (Arc<Page<E>>, u16) {
        if let Some(last) = self.spans.back()
            && last.page.push(last.range().end, &entry)
        {
            return (Arc::clone(&last.page), last.range().end);
        }
        (Page::new(vec![entry], pages), 0)
    }

    /// Keeps messages of a page behind the others.
    pub(crate) fn push_span(&mut self, page: &Arc<Page<E>>, range: Range<u16>, manner: M) {
        let places = usize::from(range.start)..usize::from(range.end);
        let size = page.open().entries()[places].iter().map(Waiting::bytes).sum();
        self.extend(Arc::clone(page), range, size, manner);
    }

    fn extend(&mut self, page: Arc<Page<E>>, range: Range<u16>, size: usize, manner: M) {
        let (from, len) = (range.start, range.end - range.start);
        self.len += usize::from(len);
        self.size += size;
        if let Some(last) = self.spans.back_mut()
            && Arc::ptr_eq(&last.page, &page)
            && last.range().end == from
            && self.manners[last.manner as usize] == manner
        {
            last.len += len;
            return;
        }
        let manner = self.number_of(manner);
        self.spans.push_back(Span { page, from, len, manner });
    }

    fn number_of(&mut self, manner: M) -> u32 {
        let last = self.manners.iter().enumerate().rev().take(MANNERS_COMPARED);
        let known = last.into_iter().find(|(_, known)| **known == manner);
        if let Some((number, _)) = known {
            return number as u32;
        }
        if self.manners.len() > 2 * self.spans.len() + MANNERS_UNUSED {
            self.forget_manners();
        }
        self.manners.push(manner);
        (self.manners.len() - 1) as u32
    }

    /// Forgets what no message has any more.
    fn forget_manners(&mut self) {
        let old = std::mem::take(&mut self.manners);
        for span in &mut self.spans {
            let manner = &old[span.manner as usize];
            if self.manners.last() != Some(manner) {
                self.manners.push(manner.clone());
            }
            span.manner = (self.manners.len() - 1) as u32;
        }
    }

    /// The oldest message.
    pub(crate) fn front(&self) -> Option<E> {
        let first = self.spans.front()?;
        first.page.open().entries().get(usize::from(first.from)).cloned()
    }

    /// Takes the oldest message.
    pub(crate) fn pop(&mut self) -> Option<(E, M)> {
        let first = self.spans.front_mut()?;
        let entry = first.page.open().entries()[usize::from(first.from)].clone();
        let manner = self.manners[first.manner as usize].clone();
        (first.from, first.len) = (first.from + 1, first.len - 1);
        if first.len == 0 {
            self.spans.pop_front();
            self.first += 1;
        }
        self.took(1, entry.bytes());
        Some((entry, manner))
    }

    fn took(&mut self, count: usize, size: usize) {
        self.len -= count;
        self.size -= size;
        if self.len == 0 {
            (self.spans, self.manners) = (VecDeque::new(), Vec::new());
        }
    }

    /// The spans, and the manner of each.
    pub(crate) fn spans(&self) -> impl ExactSizeIterator<Item = (&Span<E>, &M)> {
        self.spans.iter().map(|span| (span, &self.manners[span.manner as usize]))
    }

    /// The next span, from the first again when nobody can know any more which were looked at.
    pub(crate) fn at(&self, progress: &mut Progress) -> Option<&Span<E>> {
        if progress.changes != self.changes {
            *progress = Progress { span: self.first, changes: self.changes };
        }
        progress.span = progress.span.max(self.first);
        self.spans.get((progress.span - self.first) as usize)
    }

    /// Shows every message to `see`, oldest first.
    pub(crate) fn for_each(&self, mut see: impl FnMut(&E, &M)) {
        for (span, manner) in self.spans() {
            span.page.open().entries()[span.places()].iter().for_each(|it| see(it, manner));
        }
    }

    /// Changes the manner of all messages.
    pub(crate) fn change(&mut self, change: impl FnMut(&mut M)) {
        self.manners.iter_mut().for_each(change);
    }

    /// Takes all messages that wait in such a manner, oldest first.
    pub(crate) fn take_all(&mut self, mut is_it: impl FnMut(&M) -> bool) -> Vec<(E, M)> {
        let are: Vec<bool> = self.manners.iter().map(&mut is_it).collect();
        let mut taken = Vec::new();
        if are.contains(&true) {
            let manners = &self.manners;
            self.spans.retain(|span| {
                let is_taken = are[span.manner as usize];
                if is_taken {
                    let (content, manner) = (span.page.open(), &manners[span.manner as usize]);
                    let entries = content.entries()[span.places()].iter();
                    taken.extend(entries.map(|entry| (entry.clone(), manner.clone())));
                }
                !is_taken
            });
            self.changes += u64::from(!taken.is_empty());
            self.took(taken.len(), taken.iter().map(|(entry, _)| entry.bytes()).sum());
        }
        taken
    }

    /// Keeps such messages only.
    pub(crate) fn retain(&mut self, mut keeps: impl FnMut(&E, &M) -> bool) {
        let (mut kept, mut gone, mut size) = (VecDeque::new(), 0, 0);
        for span in &self.spans {
            let (content, manner) = (span.page.open(), &self.manners[span.manner as usize]);
            let mut from = span.from;
            let mut keep = |range: Range<u16>| {
                if !range.is_empty() {
                    let (page, len) = (Arc::clone(&span.page), range.end - range.start);
                    kept.push_back(Span { page, from: range.start, len, manner: span.manner });
                }
            };
            for (at, entry) in span.range().zip(&content.entries()[span.places()]) {
                if !keeps(entry, manner) {
                    keep(from..at);
                    (from, gone, size) = (at + 1, gone + 1, size + entry.bytes());
                }
            }
            keep(from..span.range().end);
        }
        if gone > 0 {
            self.spans = kept;
            self.changes += 1;
            self.took(gone, size);
        }
    }

    /// Takes the oldest such message of the first `near`; whether there was one.
    pub(crate) fn take(&mut self, near: usize, is_it: impl Fn(&E, &M) -> bool) -> bool {
        let (mut left, mut found) = (near, None);
        for (at, span) in self.spans.iter().enumerate() {
            let looked_at = left.min(usize::from(span.len));
            let (content, manner) = (span.page.open(), &self.manners[span.manner as usize]);
            let mut entries = content.entries()[span.places()][..looked_at].iter().enumerate();
            let place = entries.find(|(_, entry)| is_it(entry, manner));
            found = place.map(|(ahead, entry)| (at, ahead as u16, entry.bytes()));
            left -= looked_at;
            if found.is_some() || left == 0 {
                break;
            }
        }
        let Some((at, ahead, size)) = found else { return false };
        self.changes += 1;
        let span = &mut self.spans[at];
        let behind = span.len - ahead - 1;
        if ahead == 0 {
            (span.from, span.len) = (span.from + 1, behind);
        } else {
            let (page, from, manner) = (Arc::clone(&span.page), span.from + ahead + 1, span.manner);
            span.len = ahead;
            self.spans.insert(at + 1, Span { page, from, len: behind, manner });
        }
        let emptied = if ahead == 0 { at } else { at + 1 };
        if behind == 0 {
            self.spans.remove(emptied);
        }
        self.took(1, size);
        true
    }
}

#[cfg(test)]
mod tests;
