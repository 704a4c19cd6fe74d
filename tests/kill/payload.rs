//! What is in a message: who it is, and so much behind it that it can be seen to be whole.

use super::books::Key;

/// Bytes that say which message it is.
const HEAD: usize = 8;

/// The content of a message, always the same.
pub(crate) fn make(key: Key) -> Vec<u8> {
    let mut payload = (key.course as u32).to_be_bytes().to_vec();
    payload.extend(key.number.to_be_bytes());
    payload.extend((HEAD..length(key)).map(|at| byte(key, at)));
    payload
}

/// Which message it is, if it is one, and whole.
pub(crate) fn read(payload: &[u8]) -> Option<Key> {
    let head: &[u8; HEAD] = payload.first_chunk()?;
    let [a, b, c, d, e, f, g, h] = *head;
    let course = u32::from_be_bytes([a, b, c, d]) as usize;
    let key = Key { course, number: u32::from_be_bytes([e, f, g, h]) };
    let mut rest = payload.iter().enumerate().skip(HEAD);
    let is_whole = payload.len() == length(key) && rest.all(|(at, &it)| it == byte(key, at));
    is_whole.then_some(key)
}

/// Bytes of it: mostly few, at times more than the broker copies, seldom more than one segment of
/// its journal has room for.
pub(crate) fn length(key: Key) -> usize {
    let mixed = (key.number as usize + 7_919 * key.course).wrapping_mul(0x9e37_79b9) >> 7;
    HEAD + match mixed % 1_000 {
        0 => 20_000 + mixed % 60_000,
        1..=20 => 1_000 + mixed % 8_000,
        _ => mixed % 200,
    }
}

fn byte(key: Key, at: usize) -> u8 {
    (key.number as usize + at) as u8
}

#[test]
fn a_payload_is_read_only_if_it_is_whole() {
    for number in 0..3_000 {
        let key = Key { course: 3, number };
        let mut payload = make(key);
        assert_eq!(read(&payload), Some(key));
        payload.push(0);
        assert_eq!(read(&payload), None);
        payload.truncate(payload.len() - 2);
        assert_eq!(read(&payload), None);
    }
    assert_eq!(read(b""), None);
}
