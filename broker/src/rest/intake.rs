//! Bodies of requests: read when it is known who sends them, and no more than there is room for.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use hyper::body::{Body, Incoming};

use super::fault::{Code, Fault};
use crate::limits::Limits;

/// Room for the bodies of all requests.
pub(crate) struct Intake {
    limits: Arc<Limits>,
    held: Arc<AtomicUsize>,
}

/// A body, which takes its room until it is dropped.
pub(crate) struct Received {
    pub(crate) bytes: Bytes,
    _room: Room,
}

struct Room {
    held: Arc<AtomicUsize>,
    bytes: usize,
}

impl Room {
    fn grow(&mut self, bytes: usize, most: usize) -> Result<(), Fault> {
        let before = self.held.fetch_add(bytes, Ordering::Relaxed);
        self.bytes += bytes;
        // The first finds room whatever the limit is.
        if before > self.bytes - bytes && before + bytes > most {
            let reason = "too many bodies at once (limits.request_bytes_total)";
            return Err(Fault::new(Code::Unavailable, reason));
        }
        Ok(())
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        self.held.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

impl Intake {
    pub(crate) fn new(limits: Arc<Limits>) -> Self {
        Self { limits, held: Arc::default() }
    }

    /// The body of who is not asked for one.
    pub(crate) fn nothing(&self) -> Received {
        let room = Room { held: Arc::clone(&self.held), bytes: 0 };
        Received { bytes: Bytes::new(), _room: room }
    }

    /// A body that is here already.
    pub(crate) fn hold(&self, bytes: Bytes) -> Result<Received, Fault> {
        let most = self.limits.request_bytes;
        if bytes.len() > most {
            return Err(too_large(most));
        }
        let mut room = Room { held: Arc::clone(&self.held), bytes: 0 };
        room.grow(bytes.len(), self.limits.request_bytes_total)?;
        Ok(Received { bytes, _room: room })
    }

    /// The whole body.
    pub(crate) async fn read(&self, body: Incoming) -> Result<Received, Fault> {
        let most = self.limits.request_bytes;
        if body.size_hint().lower() > most as u64 {
            return Err(too_large(most));
        }
        let time = Duration::from_secs(self.limits.request_secs);
        let received = tokio::time::timeout(time, self.collect(body, most)).await;
        received.unwrap_or_else(|_| {
            Err(Fault::new(Code::Late, "the body did not come in time (limits.request_secs)"))
        })
    }

    async fn collect(&self, mut body: Incoming, most: usize) -> Result<Received, Fault> {
        let mut room = Room { held: Arc::clone(&self.held), bytes: 0 };
        let mut bytes = BytesMut::new();
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|_| Fault::bad_request("the body is cut off or broken"))?;
            let Ok(data) = frame.into_data() else { continue };
            if bytes.len() + data.len() > most {
                return Err(too_large(most));
            }
            room.grow(data.len(), self.limits.request_bytes_total)?;
            bytes.extend_from_slice(&data);
        }
        Ok(Received { bytes: bytes.freeze(), _room: room })
    }
}

fn too_large(most: usize) -> Fault {
    let reason = format!("the body has more than {most} bytes (limits.request_bytes)");
    Fault::new(Code::TooLarge, reason)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_bodies_share_one_room_and_the_first_always_finds_some() {
        let held = Arc::<AtomicUsize>::default();
        let room = || Room { held: Arc::clone(&held), bytes: 0 };
        let (mut one, mut two) = (room(), room());
        assert!(one.grow(70, 100).is_ok());
        assert!(two.grow(30, 100).is_ok());
        assert!(two.grow(1, 100).is_err());
        drop(two);
        assert!(one.grow(200, 100).is_ok(), "nobody else has any");
        drop(one);
        assert_eq!(held.load(Ordering::Relaxed), 0);
    }
}
