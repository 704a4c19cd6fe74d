//! What clients are told, and what they answer.

use longshore_codec::{Packet, ReasonCode, Version, decode, frame};

use super::ledger::Ledger;
use super::speaker::{Said, Speaker, puback, pubcomp, pubrec, release};

/// The client reads from its line; what it answers. A line that it has left it does not read.
pub(crate) fn hear(
    speaker: &mut Speaker,
    ledger: &mut Ledger,
    line: usize,
    mut bytes: &[u8],
) -> Vec<Said> {
    let mut answers = Vec::new();
    if speaker.line != Some(line) {
        return answers;
    }
    while !bytes.is_empty() {
        let found = frame(bytes, usize::MAX).expect("the broker writes legal packets");
        let found = found.expect("the broker writes whole packets");
        let (packet, rest) = bytes.split_at(found.total());
        bytes = rest;
        let packet = decode(Version::V5, found.first, &packet[found.header..]);
        let packet = packet.expect("the broker writes legal packets");
        answers.extend(hear_packet(speaker, ledger, line, &packet));
    }
    answers
}

fn hear_packet(
    speaker: &mut Speaker,
    ledger: &mut Ledger,
    line: usize,
    packet: &Packet<'_>,
) -> Vec<Said> {
    match packet {
        Packet::Connack(connack) => {
            assert_eq!(connack.reason, ReasonCode::Success, "everybody is let in");
            ledger.hear_connack(line, connack.session_present);
            speaker.is_connected = true;
            speaker.resume(line, connack.session_present)
        }
        Packet::Publish(publish) => {
            ledger.hear_publish(speaker.number, line, publish);
            let Some(id) = publish.packet_id else { return Vec::new() };
            match publish.qos as u8 {
                1 => vec![puback(id.get())],
                _ => vec![pubrec(id.get())],
            }
        }
        Packet::Pubrel(ack) => {
            vec![pubcomp(ack.packet_id.get())]
        }
        Packet::Puback(ack) | Packet::Pubcomp(ack) => {
            speaker.sent.remove(&ack.packet_id.get());
            Vec::new()
        }
        Packet::Pubrec(ack) => {
            assert!(!ack.reason.is_error(), "nothing is refused");
            let id = ack.packet_id.get();
            speaker.sent.insert(id, (line, None));
            vec![release(id)]
        }
        Packet::Unsuback(unsuback) => {
            ledger.hear_unsuback(speaker.number, line, unsuback.packet_id.get());
            Vec::new()
        }
        Packet::Suback(suback) => {
            assert!(suback.codes.iter().all(|code| *code < 3), "nothing is refused");
            Vec::new()
        }
        Packet::Disconnect(disconnect) => {
            assert_eq!(disconnect.reason, ReasonCode::SessionTakenOver, "nobody is at fault");
            Vec::new()
        }
        _ => Vec::new(),
    }
}
