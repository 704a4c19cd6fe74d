//! What all sinks have in common that publish to a broker.

use std::fmt;

use crate::failure::Failure;
use crate::packets::Tape;
use crate::sink::Outcome;
use crate::sink::session::{Credentials, Publication, Session};
use crate::tls::Dialler;

/// Unacknowledged publications, at most: 2,000 a second to a broker that is 50 ms away.
pub(super) const WINDOW: usize = 100;

/// Bytes of a topic, at most (MQTT 3.1.1, 4.7.3).
const TOPIC_MAX: usize = 65_535;

/// Publications for a batch, and the places of the messages that there is none for.
#[derive(Default)]
pub(super) struct Plan {
    pub(super) publications: Vec<Publication>,
    pub(super) skipped: Vec<usize>,
}

/// A client of a broker that connects when it has something to publish.
pub(super) struct Publisher {
    pub(super) dialler: Dialler,
    pub(super) client_id: String,
    pub(super) credentials: Option<Credentials>,
    pub(super) window: usize,
    pub(super) session: Option<Session>,
    pub(super) tape: Tape,
}

impl Publisher {
    /// Sees to it that there is a session. Says whether it is a new one.
    pub(super) async fn open(&mut self) -> Result<bool, Failure> {
        if self.session.is_some() {
            return Ok(false);
        }
        let stream = self.dialler.dial().await?;
        let session = Session::open(stream, &self.client_id, self.credentials.as_ref()).await?;
        self.session = Some(session);
        self.tape.begin();
        Ok(true)
    }

    /// Publishes what is planned for a batch of so many messages.
    pub(super) async fn send(&mut self, messages: usize, plan: &Plan) -> Outcome {
        let sent = self.publish(&plan.publications).await;
        let failure = sent.err().map(|(done, failure)| {
            let stopped = plan.publications.get(done).map_or(messages, |it| it.place);
            (stopped, failure)
        });
        Outcome::of(messages, &plan.skipped, failure)
    }

    async fn publish(&mut self, publications: &[Publication]) -> Result<(), (usize, Failure)> {
        if publications.is_empty() {
            return Ok(());
        }
        self.open().await.map_err(|it| (0, it))?;
        match &mut self.session {
            Some(session) => session.publish(publications, self.window, &self.tape).await,
            None => Ok(()),
        }
    }

    pub(super) async fn idle(&mut self) {
        match &mut self.session {
            Some(session) => session.idle().await,
            None => std::future::pending().await,
        }
        self.session = None;
    }
}

impl fmt::Debug for Publisher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("Publisher");
        shown.field("dialler", &self.dialler).field("client_id", &self.client_id);
        shown.finish_non_exhaustive()
    }
}

/// Whether one may publish to this: a message could fill a mask with anything.
pub(super) fn is_topic(topic: &str) -> bool {
    !topic.is_empty() && topic.len() <= TOPIC_MAX && !topic.contains(['+', '#', '\0'])
}
