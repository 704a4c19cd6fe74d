//! What is asked of shards from outside: by the API, for as long as whoever asks waits.
//!
//! A question is a task of a shard; the answer comes back through a channel. Whoever asks for much
//! asks a slice at a time, so that nothing is answered before it is wanted.

use tokio::sync::oneshot;

use crate::clock::Now;
use crate::net::mailbox::Mailbox;
use crate::shard::{Shard, Step, durably};

/// Asks a shard; `None` when the broker has stopped.
pub(crate) async fn ask<T: Send + 'static>(
    mailbox: &Mailbox,
    question: impl FnOnce(&mut Shard, Now) -> T + Send + 'static,
) -> Option<T> {
    let (answer, answered) = oneshot::channel();
    let mut question = Some((question, answer));
    mailbox.put_task(Box::new(move |shard, now| {
        if let Some((question, answer)) = question.take() {
            // Whoever asked may have gone.
            let _ = answer.send(question(shard, now));
        }
        Step::Done
    }));
    answered.await.ok()
}

/// Asks a shard to do something, and answers when what it wrote down is durable.
pub(crate) async fn ask_durably<T: Send + 'static>(
    mailbox: &Mailbox,
    question: impl FnOnce(&mut Shard, Now) -> T + Send + 'static,
) -> Option<T> {
    let (answer, answered) = oneshot::channel();
    let mut question = Some(question);
    let work = move |shard: &mut Shard, now| question.take().map(|question| question(shard, now));
    // Whoever asked may have gone.
    let say = move |done| {
        let _ = answer.send(done);
    };
    mailbox.put_task(durably(work, say));
    answered.await.ok()
}
