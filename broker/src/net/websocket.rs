//! WebSocket as MQTT uses it: frames in, bytes out, and the other way round, without a socket.
//!
//! Messages are not put together. MQTT packets may be split and merged over frames in any way, so
//! the border of a message says nothing, and bytes go on to the shard as they come, unmasked where
//! they lie. That is why tungstenite's own connection is not used, only its handshake and frame
//! headers: it reserves the length that a frame announces, and holds a whole message before it
//! gives a byte of it out. Here an idle connection owns no buffer, and no message is too long: the
//! shard bounds the packets in it.

use std::io::{Cursor, IoSlice};

use tokio_tungstenite::tungstenite::protocol::frame::FrameHeader;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{CloseCode, Control, Data, OpCode};

use crate::output::Output;

/// The longest header: two bytes, eight of length, four of mask.
const HEADER_MAX: usize = 14;
/// What a ping, pong or close may carry.
const CONTROL_MAX: u64 = 125;

/// The longest frame sent. Clients bound what they take, some at 1 MiB, and a frame costs little.
const FRAME_MAX: usize = 64 << 10;

/// One client's WebSocket, server side.
#[derive(Debug, Default)]
pub(crate) struct WebSocket {
    /// A header that is not complete.
    header: [u8; HEADER_MAX],
    header_len: u8,
    /// What the frame at hand still lacks, its mask turned to the next byte.
    frame: Frame,
    /// A binary message has begun whose last frame has not.
    is_in_message: bool,
    /// Payload of the control frame at hand.
    control: Vec<u8>,
    sending: Sending,
}

#[derive(Debug, Default)]
struct Frame {
    opcode: Option<OpCode>,
    missing: u64,
    mask: u32,
}

/// The way out.
#[derive(Debug, Default)]
struct Sending {
    /// Control frames and the header of a data frame, not yet written from `head_at` on.
    head: Vec<u8>,
    head_at: usize,
    /// Bytes of the output that belong to the data frame at hand.
    frame: usize,
    /// Payload of the last ping that is not answered.
    pong: Option<Box<[u8]>>,
    close: Option<CloseCode>,
    is_closed: bool,
}

/// Why a WebSocket ends before its client closes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Violation {
    pub(crate) code: CloseCode,
    pub(crate) cause: &'static str,
}

impl Violation {
    const fn protocol(cause: &'static str) -> Self {
        Self { code: CloseCode::Protocol, cause }
    }
}

/// Whether the client goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flow {
    Open,
    /// It sent a close frame; what comes after is none of ours.
    Closed,
}

impl WebSocket {
    /// Takes bytes as they come and gives their payload to `take`, unmasked in place.
    pub(crate) fn receive(
        &mut self,
        mut bytes: &mut [u8],
        take: &mut impl FnMut(&[u8]),
    ) -> Result<Flow, Violation> {
        loop {
            if self.frame.opcode.is_none() {
                let Some(used) = self.begin_frame(bytes)? else { return Ok(Flow::Open) };
                bytes = &mut bytes[used..];
            }
            let Some(opcode) = self.frame.opcode else { continue };
            let here = usize::try_from(self.frame.missing).unwrap_or(usize::MAX).min(bytes.len());
            let (payload, rest) = bytes.split_at_mut(here);
            bytes = rest;
            unmask(payload, &mut self.frame.mask);
            self.frame.missing -= here as u64;
            match opcode {
                OpCode::Data(_) if here > 0 => take(payload),
                OpCode::Data(_) => {}
                OpCode::Control(_) => self.control.extend_from_slice(payload),
            }
            if self.frame.missing > 0 {
                return Ok(Flow::Open);
            }
            self.frame.opcode = None;
            if let OpCode::Control(control) = opcode
                && self.end_control(control)? == Flow::Closed
            {
                return Ok(Flow::Closed);
            }
        }
    }

    /// Reads the next frame's header; how many of `bytes` belonged to it, none when it is not
    /// complete and all of them are kept.
    fn begin_frame(&mut self, bytes: &[u8]) -> Result<Option<usize>, Violation> {
        let kept = usize::from(self.header_len);
        let added = bytes.len().min(HEADER_MAX - kept);
        self.header[kept..kept + added].copy_from_slice(&bytes[..added]);
        let mut cursor = Cursor::new(&self.header[..kept + added]);
        let parsed = FrameHeader::parse(&mut cursor)
            .map_err(|_| Violation::protocol("a frame with a reserved opcode"))?;
        let Some((header, length)) = parsed else {
            debug_assert!(kept + added < HEADER_MAX, "the longest header is complete");
            self.header_len = (kept + added) as u8;
            return Ok(None);
        };
        let used = cursor.position() as usize - kept;
        self.header_len = 0;
        self.check(&header, length)?;
        if let OpCode::Data(_) = header.opcode {
            self.is_in_message = !header.is_final;
        }
        let mask = header.mask.map_or(0, u32::from_ne_bytes);
        self.frame = Frame { opcode: Some(header.opcode), missing: length, mask };
        Ok(Some(used))
    }

    fn check(&self, header: &FrameHeader, length: u64) -> Result<(), Violation> {
        if header.rsv1 || header.rsv2 || header.rsv3 {
            return Err(Violation::protocol("a frame with a reserved bit"));
        }
        if header.mask.is_none() {
            return Err(Violation::protocol("a frame without a mask"));
        }
        if length > i64::MAX as u64 {
            return Err(Violation::protocol("a frame with an impossible length"));
        }
        match header.opcode {
            OpCode::Control(_) if !header.is_final || length > CONTROL_MAX => {
                Err(Violation::protocol("a control frame that is split or too long"))
            }
            OpCode::Data(Data::Text) => {
                // [MQTT-6.0.0-1]: any other type of data frame ends the connection.
                Err(Violation { code: CloseCode::Unsupported, cause: "a text frame" })
            }
            OpCode::Data(Data::Continue) if !self.is_in_message => {
                Err(Violation::protocol("a continuation of nothing"))
            }
            OpCode::Data(Data::Binary) if self.is_in_message => {
                Err(Violation::protocol("a message within a message"))
            }
            _ => Ok(()),
        }
    }

    fn end_control(&mut self, control: Control) -> Result<Flow, Violation> {
        let payload = std::mem::take(&mut self.control);
        match control {
            Control::Ping => {
                // Of several unanswered ones the last is enough (RFC 6455, 5.5.3).
                self.sending.pong = Some(payload.into_boxed_slice());
                Ok(Flow::Open)
            }
            Control::Close => {
                let code = match payload[..] {
                    [] => CloseCode::Normal,
                    [high, low, ..] => CloseCode::from(u16::from_be_bytes([high, low])),
                    [_] => return Err(Violation::protocol("a close frame with half a code")),
                };
                self.close(if code.is_allowed() { code } else { CloseCode::Protocol });
                Ok(Flow::Closed)
            }
            Control::Pong | Control::Reserved(_) => Ok(Flow::Open),
        }
    }

    /// Has a close frame written behind the data frame at hand; nothing follows it.
    pub(crate) fn close(&mut self, code: CloseCode) {
        if !self.sending.is_closed {
            self.sending.close.get_or_insert(code);
        }
    }

    /// Whether something other than output is to be written.
    pub(crate) fn wants_write(&self) -> bool {
        let sending = &self.sending;
        sending.head_at < sending.head.len() || sending.pong.is_some() || sending.close.is_some()
    }

    /// Fills `slices` with what is to be written next: control frames, and what waits in `output`
    /// as one frame, unless that is very much. How many it filled.
    pub(crate) fn slices<'a>(
        &'a mut self,
        output: &'a Output,
        slices: &mut [IoSlice<'a>],
    ) -> usize {
        let sending = &mut self.sending;
        sending.begin_frame(output.len());
        let mut filled = 0;
        if sending.head_at < sending.head.len() {
            slices[0] = IoSlice::new(&sending.head[sending.head_at..]);
            filled = 1;
        }
        filled + output.first_slices(sending.frame, &mut slices[filled..])
    }

    /// The first `count` bytes of the slices are written; how many of them were of the output.
    pub(crate) fn wrote(&mut self, count: usize) -> usize {
        let sending = &mut self.sending;
        let of_head = count.min(sending.head.len() - sending.head_at);
        sending.head_at += of_head;
        if sending.head_at == sending.head.len() {
            sending.head.clear();
            sending.head.shrink_to(HEADER_MAX);
            sending.head_at = 0;
        }
        let of_output = count - of_head;
        debug_assert!(of_output <= sending.frame, "no frame grows");
        sending.frame -= of_output;
        of_output
    }
}

impl Sending {
    /// Begins the next frames unless one is at hand.
    fn begin_frame(&mut self, waiting: usize) {
        if self.frame > 0 || self.head_at < self.head.len() || self.is_closed {
            return;
        }
        if let Some(payload) = self.pong.take() {
            self.push(OpCode::Control(Control::Pong), payload.len());
            self.head.extend_from_slice(&payload);
        }
        if let Some(code) = self.close.take() {
            self.push(OpCode::Control(Control::Close), 2);
            self.head.extend_from_slice(&u16::from(code).to_be_bytes());
            self.is_closed = true;
        } else if waiting > 0 {
            self.frame = waiting.min(FRAME_MAX);
            self.push(OpCode::Data(Data::Binary), self.frame);
        }
    }

    fn push(&mut self, opcode: OpCode, length: usize) {
        let header = FrameHeader { opcode, ..FrameHeader::default() };
        let written = header.format(length as u64, &mut self.head);
        debug_assert!(written.is_ok(), "a vector takes all");
    }
}

/// Unmasks in place, and turns the mask so that it fits the next byte.
fn unmask(payload: &mut [u8], mask: &mut u32) {
    let wide = (u64::from(*mask) << 32) | u64::from(*mask);
    let mut words = payload.chunks_exact_mut(8);
    for word in &mut words {
        let mut eight = [0; 8];
        eight.copy_from_slice(word);
        word.copy_from_slice(&(u64::from_ne_bytes(eight) ^ wide).to_ne_bytes());
    }
    let mut bytes = mask.to_ne_bytes();
    for byte in words.into_remainder() {
        *byte ^= bytes[0];
        bytes.rotate_left(1);
    }
    *mask = u32::from_ne_bytes(bytes);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::Spare;

    const MASK: [u8; 4] = [0x11, 0x22, 0x33, 0x44];

    fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
        let mut frame = vec![first];
        match payload.len() {
            short @ ..126 => frame.push(0x80 | short as u8),
            long => {
                frame.push(0x80 | 126);
                frame.extend_from_slice(&(long as u16).to_be_bytes());
            }
        }
        frame.extend_from_slice(&MASK);
        frame.extend(payload.iter().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask));
        frame
    }

    fn written(websocket: &mut WebSocket, output: &mut Output, step: usize) -> Vec<u8> {
        let mut all = Vec::new();
        loop {
            let mut slices = [IoSlice::new(&[]); 8];
            let filled = websocket.slices(output, &mut slices);
            let bytes: Vec<u8> = slices[..filled].iter().flat_map(|it| it.to_vec()).collect();
            if bytes.is_empty() {
                return all;
            }
            let count = step.min(bytes.len());
            all.extend_from_slice(&bytes[..count]);
            output.consume(websocket.wrote(count));
        }
    }

    #[test]
    fn payload_is_the_same_however_reads_split_the_frames() {
        let long: Vec<u8> = (0..300_u16).map(|at| at as u8).collect();
        let bytes = [
            frame(0x82, b"one"),
            frame(0x02, b""),
            frame(0x89, b"ping"),
            frame(0x00, &long),
            frame(0x8a, b"pong"),
            frame(0x80, b"end"),
            frame(0x82, &long),
        ]
        .concat();
        let want = [b"one", &long[..], b"end", &long].concat();
        for step in 1..=bytes.len() {
            let (mut websocket, mut got) = (WebSocket::default(), Vec::new());
            for piece in bytes.chunks(step) {
                let mut piece = piece.to_vec();
                let flow = websocket.receive(&mut piece, &mut |it| got.extend_from_slice(it));
                assert_eq!(flow, Ok(Flow::Open), "{step}");
            }
            assert_eq!(got, want, "{step}");
            assert!(websocket.wants_write());
            let out = written(&mut websocket, &mut Output::default(), 1);
            assert_eq!(out, b"\x8a\x04ping", "{step}");
            assert!(!websocket.wants_write());
        }
    }

    #[test]
    fn output_is_framed_and_control_frames_stand_between_frames_however_writes_split_them() {
        for step in 1..40 {
            let (mut websocket, mut output) = (WebSocket::default(), Output::default());
            let mut spare = Spare::default();
            output.tail(&mut spare).extend_from_slice(b"abc");
            output.share(b"DEF".to_vec().into());
            let mut slices = [IoSlice::new(&[]); 8];
            let filled = websocket.slices(&output, &mut slices);
            assert_eq!(filled, 3, "header, copied, shared");
            // One byte is out when more comes, a ping among it.
            let of_output = websocket.wrote(1);
            output.consume(of_output);
            output.tail(&mut spare).extend_from_slice(b"gh");
            let received = websocket.receive(&mut frame(0x89, b"?"), &mut |_| {});
            assert_eq!(received, Ok(Flow::Open));
            let out = written(&mut websocket, &mut output, step);
            assert_eq!(out, b"\x06abcDEF\x8a\x01?\x82\x02gh", "{step}");
            websocket.close(CloseCode::Away);
            output.tail(&mut spare).extend_from_slice(b"late");
            let out = written(&mut websocket, &mut output, step);
            assert_eq!(out, b"\x88\x02\x03\xe9", "nothing follows a close frame");
            assert_eq!(output.len(), 4);
        }
    }

    #[test]
    fn a_large_output_makes_several_frames() {
        let (mut websocket, mut output) = (WebSocket::default(), Output::default());
        output.share(vec![7; FRAME_MAX + 5].into());
        let out = written(&mut websocket, &mut output, 10_000);
        assert_eq!(out[..10], [0x82, 127, 0, 0, 0, 0, 0, 1, 0, 0]);
        assert_eq!(out[10 + FRAME_MAX..], [0x82, 5, 7, 7, 7, 7, 7]);
    }

    /// Whatever comes is payload or a violation.
    #[test]
    fn no_bytes_make_it_panic() {
        let mut state = 1_u64;
        let mut random = || {
            // Knuth's MMIX generator; its high bits are good.
            state =
                state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963);
            (state >> 56) as u8
        };
        for _ in 0..20_000 {
            let mut websocket = WebSocket::default();
            let mut output = Output::default();
            for _ in 0..8 {
                let mut bytes: Vec<u8> = (0..random() % 24).map(|_| random()).collect();
                if let Some(first) = bytes.first_mut() {
                    // Opcodes that exist, most of the time.
                    *first &= 0x8f;
                }
                if !matches!(websocket.receive(&mut bytes, &mut |_| {}), Ok(Flow::Open)) {
                    break;
                }
                output.tail(&mut Spare::default()).push(0);
                let step = 1 + usize::from(random());
                written(&mut websocket, &mut output, step);
            }
        }
    }
}
