//! One connection of a client that has many beside it: nothing here waits.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use longshore::codec::{Packet, Version};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::clients::Inbox;

/// Bytes that one read takes at most.
const READ: usize = 1 << 16;

/// A connection, what came in on it, and what is to go out.
pub(crate) struct Line {
    stream: TcpStream,
    inbox: Inbox,
    outbox: Vec<u8>,
    /// The other side has closed, or is gone.
    is_over: bool,
}

impl Line {
    pub(crate) fn open(address: SocketAddr, version: Version) -> Self {
        let stream = TcpStream::connect(address).expect("the broker takes connections");
        stream.set_nodelay(true).expect("an option of TCP");
        stream.set_nonblocking(true).expect("an option of files");
        Self { stream, inbox: Inbox::new(version), outbox: Vec::new(), is_over: false }
    }

    /// Where to append what is to go out.
    pub(crate) fn outbox(&mut self) -> &mut Vec<u8> {
        &mut self.outbox
    }

    /// Writes what the system takes.
    pub(crate) fn flush(&mut self) {
        while !self.outbox.is_empty() && !self.is_over {
            match self.stream.write(&self.outbox) {
                Ok(count) => drop(self.outbox.drain(..count)),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                // What came before the end is still to be read.
                Err(_) => self.outbox.clear(),
            }
        }
    }

    /// Reads what is there, to the end if that is there too.
    pub(crate) fn fill(&mut self, scratch: &mut Vec<u8>) {
        scratch.resize(READ, 0);
        while !self.is_over {
            match self.stream.read(scratch) {
                Ok(0) => self.is_over = true,
                Ok(count) => self.inbox.push(&scratch[..count]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(_) => self.is_over = true,
            }
        }
    }

    /// The next packet that came in whole.
    pub(crate) fn packet(&mut self) -> Option<Packet<'_>> {
        self.inbox.packet()
    }

    pub(crate) fn is_over(&self) -> bool {
        self.is_over
    }
}

/// Waits until there is something to read or to write on one of `lines`, but not for long.
pub(crate) fn wait<'a>(lines: impl Iterator<Item = &'a Line>, most: Duration) {
    let mut files: Vec<PollFd<'_>> = lines
        .filter(|line| !line.is_over)
        .map(|line| {
            let writes = if line.outbox.is_empty() { PollFlags::empty() } else { PollFlags::OUT };
            PollFd::new(&line.stream, PollFlags::IN | writes)
        })
        .collect();
    let most = Timespec::try_from(most).expect("a short time");
    // A signal ends the wait too soon, which is no harm.
    let _ = poll(&mut files, Some(&most));
}
