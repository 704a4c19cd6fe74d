//! Trackers that speak Wialon IPS 1.1 (spec 11): each message has a number, and is sent until it is
//! acknowledged.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpStream};
use std::thread::sleep;
use std::time::Duration;

use super::clients::{Dice, LATE};

/// Packets that are sent without waiting for answers, and records of a black box.
const BURST: usize = 6;

/// How long a tracker rests between two bursts, in microseconds.
const REST_MICROS: usize = 8_000;

/// A device, over all its connections.
pub(crate) struct Tracker {
    pub(crate) ident: String,
    /// The number of the next message.
    next: u32,
    /// Messages that were made and not acknowledged yet.
    waiting: VecDeque<u32>,
    /// Messages that were acknowledged.
    pub(crate) acknowledged: Vec<u32>,
    dice: Dice,
}

impl Tracker {
    pub(crate) fn new(ident: String, seed: u64) -> Self {
        let dice = Dice::new(seed);
        Self { ident, next: 0, waiting: VecDeque::new(), acknowledged: Vec::new(), dice }
    }

    /// Sends what it has to say, over one connection after another, until it is told to stop or
    /// nobody lets it in any more.
    pub(crate) fn work(&mut self, channel: SocketAddr, mut is_over: impl FnMut(&Self) -> bool) {
        while !is_over(self) {
            // Whatever ends a connection, what was not acknowledged is sent over the next one.
            let _ = self.connect(channel, &mut is_over);
            sleep(Duration::from_millis(2));
        }
    }

    fn connect(
        &mut self,
        channel: SocketAddr,
        is_over: &mut impl FnMut(&Self) -> bool,
    ) -> std::io::Result<()> {
        let mut socket = TcpStream::connect(channel)?;
        socket.set_nodelay(true)?;
        socket.set_read_timeout(Some(LATE))?;
        let mut answers = BufReader::new(socket.try_clone()?);
        write!(socket, "#L#{};NA\r\n", self.ident)?;
        if line(&mut answers)? != "#AL#1" {
            return Ok(());
        }
        while !is_over(self) {
            let count = 1 + self.dice.below(BURST);
            while self.waiting.len() < count {
                self.waiting.push_back(self.next);
                self.next += 1;
            }
            let done = match self.dice.once_in(4) {
                true => self.send_box(&mut socket, &mut answers)?,
                false => self.send_each(&mut socket, &mut answers)?,
            };
            if !done {
                return Ok(());
            }
            sleep(Duration::from_micros(self.dice.below(REST_MICROS) as u64));
        }
        Ok(())
    }

    /// Sends all that waits, a packet each; whether all were acknowledged.
    fn send_each(
        &mut self,
        socket: &mut TcpStream,
        answers: &mut impl BufRead,
    ) -> std::io::Result<bool> {
        let packets = self.waiting.iter().map(|number| format!("#D#{}\r\n", record(*number)));
        socket.write_all(packets.collect::<String>().as_bytes())?;
        for _ in 0..self.waiting.len() {
            if line(answers)? != "#AD#1" {
                return Ok(false);
            }
            self.acknowledged.extend(self.waiting.pop_front());
        }
        Ok(true)
    }

    /// Sends all that waits as one black box; whether all was acknowledged.
    fn send_box(
        &mut self,
        socket: &mut TcpStream,
        answers: &mut impl BufRead,
    ) -> std::io::Result<bool> {
        let records: Vec<_> = self.waiting.iter().map(|number| record(*number)).collect();
        write!(socket, "#B#{}\r\n", records.join("|"))?;
        if line(answers)? != format!("#AB#{}", records.len()) {
            return Ok(false);
        }
        self.acknowledged.extend(self.waiting.drain(..));
        Ok(true)
    }
}

/// The body of a message with this number; its time is that of its arrival.
fn record(number: u32) -> String {
    format!("NA;NA;5544.6025;N;03739.6834;E;1;2;3;4;0.0;0;0;14.77;NA;n:1:{number}")
}

fn line(answers: &mut impl BufRead) -> std::io::Result<String> {
    let mut line = String::new();
    match answers.read_line(&mut line)? {
        0 => Err(std::io::ErrorKind::UnexpectedEof.into()),
        _ => Ok(line.trim_end().to_owned()),
    }
}
