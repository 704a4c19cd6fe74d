//! What several events have in common, as bytes.

use longshore_acl::ROOT_ACCOUNT;
use longshore_codec::SubscribeOptions;

use super::{
    ACCOUNT_BIT, ANONYMOUS, EXPIRY, FRESH, HAS_LEFT, HAS_TOKEN, RETAIN, SessionEvent, WillEvent,
};

pub(super) fn encode_session(session: &SessionEvent<'_>, fresh: bool, out: &mut Vec<u8>) {
    let SessionEvent { account, class, token, anonymous, expiry_secs, left, client_id } = session;
    let mut flags = if fresh { FRESH } else { 0 };
    flags |= if left.is_some() { HAS_LEFT } else { 0 };
    flags |= if token.is_some() { HAS_TOKEN } else { 0 };
    flags |= if *anonymous { ANONYMOUS } else { 0 };
    out.push(flags);
    out.extend_from_slice(&account.to_le_bytes());
    out.extend_from_slice(&class.to_le_bytes());
    out.extend_from_slice(&token.unwrap_or(0).to_le_bytes());
    out.extend_from_slice(&expiry_secs.to_le_bytes());
    out.extend_from_slice(&left.map_or(0, |at| at.0).to_le_bytes());
    put_text(client_id.as_bytes(), out);
}

pub(super) fn encode_will(will: &WillEvent<'_>, out: &mut Vec<u8>) {
    let mut flags = will.qos as u8;
    flags |= if will.retain { RETAIN } else { 0 };
    flags |= if will.expiry_secs.is_some() { EXPIRY } else { 0 };
    out.push(flags);
    out.extend_from_slice(&will.delay_secs.to_le_bytes());
    out.extend_from_slice(&will.expiry_secs.unwrap_or(0).to_le_bytes());
    put_text(will.parts.topic, out);
    for part in [will.parts.properties, will.parts.payload] {
        out.extend_from_slice(&(part.len() as u32).to_le_bytes());
        out.extend_from_slice(part);
    }
}

/// As in SUBSCRIBE (MQTT 5.0, 3.8.3.1).
pub(super) fn encode_options(options: SubscribeOptions) -> u8 {
    options.qos as u8
        | u8::from(options.no_local) << 2
        | u8::from(options.retain_as_published) << 3
        | (options.retain_handling as u8) << 4
}

/// The number of a change of what is retained, and in which account.
pub(super) fn put_change(sequence: u64, account: u64, out: &mut Vec<u8>) {
    if account == ROOT_ACCOUNT {
        out.extend_from_slice(&sequence.to_le_bytes());
        return;
    }
    out.extend_from_slice(&(sequence | ACCOUNT_BIT).to_le_bytes());
    out.extend_from_slice(&account.to_le_bytes());
}

pub(super) fn put_text(text: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(&(text.len() as u16).to_le_bytes());
    out.extend_from_slice(text);
}
