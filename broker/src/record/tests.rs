//! What is written down is read back, and nothing else is.

use super::any::{Source, bytes_of};
use super::*;
use crate::session::PAGE_LEN;

fn encoded(event: &Event<'_>) -> Vec<u8> {
    let mut body = Vec::new();
    event.encode(&mut body);
    body
}

/// All events of a record, written down again one by one; `None` when one cannot be read.
fn again(body: &[u8]) -> Option<Vec<Vec<u8>>> {
    let mut events = Event::decode_all(body);
    let mut all = Vec::new();
    while let Some(event) = events.next() {
        all.push(encoded(&event.ok()?));
    }
    Some(all)
}

#[test]
fn every_event_is_read_as_it_was_written() {
    for seed in 0..3_000 {
        let data = bytes_of(seed, 128);
        let mut source = Source::new(&data);
        let event = source.event_of(seed as usize % Source::EVENTS);
        let body = encoded(&event);
        let mut events = Event::decode_all(&body);
        let read = events.next().expect("an event").expect("a sound one");
        assert_eq!(format!("{read:?}"), format!("{event:?}"));
        assert!(events.next().is_none(), "nothing is left of {event:?}");
        assert_eq!(encoded(&read), body);
    }
}

#[test]
fn an_event_with_a_byte_too_few_or_too_many_is_refused() {
    for seed in 0..3_000 {
        let data = bytes_of(seed, 128);
        let mut source = Source::new(&data);
        let (first, second) = (
            encoded(&source.event_of(seed as usize % Source::EVENTS)),
            encoded(&source.event_of(seed as usize / Source::EVENTS % Source::EVENTS)),
        );
        let body = [&first[..], &second].concat();
        assert_eq!(again(&body), Some(vec![first.clone(), second]));
        for end in 1..body.len() {
            // Where a whole event ends, nobody can tell that there was one more.
            assert_eq!(again(&body[..end]).is_some(), end == first.len(), "{end} of {body:?}");
        }
        for more in [0, u8::MAX] {
            assert_eq!(again(&[&body[..], &[more]].concat()), None);
        }
    }
}

#[test]
fn every_message_is_read_as_it_was_written() {
    for seed in 0..3_000 {
        let data = bytes_of(seed, 256);
        let mut source = Source::new(&data);
        let (head, refs) = (source.head(), [source.to(), source.to()]);
        let mut encoded = Vec::new();
        refs.iter().for_each(|to| to.encode(&mut encoded));
        let parts = Parts { topic: b"t/x", properties: b"\x01\x01", payload: b"xyz", shared: None };
        let mut body = Vec::new();
        head.encode(&parts, Encoded::Here(&encoded), &mut body);
        body.extend_from_slice(parts.payload);
        let (read, its_parts, its_refs) = Head::decode(&body).expect("a sound record");
        let Refs::Here(mut its_refs) = its_refs else { panic!("there is no list") };
        assert_eq!(read, head);
        assert_eq!(format!("{its_parts:?}"), format!("{parts:?}"));
        for to in refs {
            assert_eq!(its_refs.next(), Some(Ok(to)));
        }
        assert!(its_refs.next().is_none());
        for end in 0..body.len() {
            assert!(Head::decode(&body[..end]).is_none(), "{end} of {body:?}");
        }
        assert!(Head::decode(&[&body[..], b"z"].concat()).is_none());
        let mut listed = Vec::new();
        head.encode(&parts, Encoded::Listed(seed), &mut listed);
        listed.extend_from_slice(parts.payload);
        let (read, its_parts, its_refs) = Head::decode(&listed).expect("a sound record");
        assert!(matches!(its_refs, Refs::Listed(list) if list == seed));
        assert_eq!((read, its_parts.payload), (head, parts.payload));
    }
}

#[test]
fn pages_and_lists_are_read_as_they_were_written() {
    let (mut page, mut list) = (Vec::new(), Vec::new());
    encode_page(7, [3, 1, 2].into_iter(), &mut page);
    let (number, numbers) = decode_page(&page).expect("a sound page");
    assert_eq!((number, numbers.collect::<Vec<_>>()), (7, vec![3, 1, 2]));
    for end in (0..page.len()).filter(|end| *end < 16 || end % 8 != 0) {
        assert!(decode_page(&page[..end]).is_none(), "{end}");
    }
    let mut full = Vec::new();
    encode_page(7, 0..PAGE_LEN as u64, &mut full);
    assert!(decode_page(&full).is_some());
    full.extend_from_slice(&[0; 8]);
    assert!(decode_page(&full).is_none(), "a page has an end");

    let data = bytes_of(1, 256);
    let mut source = Source::new(&data);
    let (refs, mut encoded) = ([source.to(), source.to()], Vec::new());
    refs.iter().for_each(|to| to.encode(&mut encoded));
    encode_list(9, &encoded, &mut list);
    let (number, mut read) = decode_list(&list).expect("a sound list");
    assert_eq!(number, 9);
    for to in refs {
        assert_eq!(read.next(), Some(Ok(to)));
    }
    assert!(read.next().is_none());
}

#[test]
fn what_a_later_version_may_mean_is_refused() {
    let rows: [(Vec<u8>, &str); 5] = [
        ([&[22][..], &[1; 8]].concat(), "a tag"),
        ([&[tag::END][..], &[0xff; 8]].concat(), "a number that nobody gave"),
        ([&[tag::END][..], &(GROUP_BIT | 1).to_le_bytes()].concat(), "a group that ends"),
        ([&[tag::SESSION][..], &[0; 8], &[0x10], &[0; 34]].concat(), "a flag of a session"),
        ([&[tag::WILL][..], &[0; 8], &[0x10], &[0; 18]].concat(), "a flag of a will"),
    ];
    for (body, what) in rows {
        assert_eq!(again(&body), None, "{what}");
    }
}
