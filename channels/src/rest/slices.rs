//! Answers that are read from the disk a slice at a time: nothing is held, and no thread, while a
//! client does not read.

use longshore_broker::rest::{Answer, Code, Fault, Items, Written};
use longshore_storage::TablesError;
use tokio::sync::mpsc;
use tokio::task::{spawn_blocking, spawn_local};

use super::messages::stopping;

/// Slices of an answer that wait until they are sent.
const WAITING: usize = 1;

/// A read between two slices.
pub(super) trait Slices: Send + 'static {
    /// What is read, as an error says it.
    const NAME: &'static str;

    /// The next objects, as JSON with commas between them, and where those behind them begin; none
    /// at the end. May wait for the disk.
    fn next(&mut self) -> Result<Option<Vec<u8>>, TablesError>;

    /// What stands beside the objects, once all are sent.
    fn end(self) -> Option<Written>
    where
        Self: Sized,
    {
        None
    }
}

/// Answers with all slices.
pub(super) fn answer(slices: impl Slices, faults: Vec<Fault>) -> Answer {
    let (to, from) = mpsc::channel(WAITING);
    spawn_local(async move {
        if let Err(fault) = send_all(slices, &to).await {
            // Whoever asked may have gone.
            let _ = to.send(Err(fault)).await;
        }
    });
    Answer::objects(Items::Written(from)).with_faults(faults)
}

async fn send_all<S: Slices>(
    mut slices: S,
    to: &mpsc::Sender<Result<Written, Fault>>,
) -> Result<(), Fault> {
    loop {
        let step = spawn_blocking(move || (slices.next(), slices)).await;
        let (written, after) = step.map_err(|_| stopping())?;
        slices = after;
        let written = written.map_err(|cause| {
            Fault::new(Code::Unavailable, format!("{} cannot be read: {cause}", S::NAME))
        })?;
        let Some(written) = written else { break };
        let is_empty = written.is_empty();
        let objects = Ok(Written::Objects(written.into()));
        // A read that finds little may be long.
        if to.is_closed() || (!is_empty && to.send(objects).await.is_err()) {
            return Ok(());
        }
    }
    if let Some(end) = slices.end() {
        // Whoever asked may have gone.
        let _ = to.send(Ok(end)).await;
    }
    Ok(())
}
