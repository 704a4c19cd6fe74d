//! What runs on the thread of a shard.

use std::rc::Rc;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender};
use std::time::Duration;

use tokio::runtime::Runtime;
use tokio::sync::{mpsc, watch};
use tokio::task::{JoinSet, LocalSet, spawn_local};

use super::{Door, STOP_SECS};
use crate::limits::Limits;
use crate::net::acceptor::Arrival;
use crate::net::driver::{Around, Driver, Writer};
use crate::net::pipe::Pipe;
use crate::shard::Config;
use crate::store::Store;

/// How clients come to a shard.
pub(super) struct Ways {
    /// Whether they may.
    pub(super) opened: watch::Receiver<bool>,
    pub(super) limits: Arc<Limits>,
    pub(super) plain: Vec<Door>,
    pub(super) arrivals: Arc<[mpsc::Sender<Arrival>]>,
    pub(super) arriving: mpsc::Receiver<Arrival>,
    pub(super) pipes: mpsc::UnboundedReceiver<Pipe>,
}

impl Ways {
    /// Lets clients in once they may come, for ever.
    async fn open(mut self, driver: Rc<Driver>) {
        if self.opened.wait_for(|opened| *opened).await.is_err() {
            return;
        }
        let mut open = JoinSet::new();
        open.spawn_local(Rc::clone(&driver).welcome(self.arriving));
        open.spawn_local(Rc::clone(&driver).take_links(self.pipes));
        for (_, listener) in self.plain {
            let listener = tokio::net::TcpListener::from_std(listener)
                .expect("the event queue takes a listener");
            let (limits, arrivals) = (Arc::clone(&self.limits), Arc::clone(&self.arrivals));
            open.spawn_local(Rc::clone(&driver).accept(listener, limits, arrivals));
        }
        open.join_all().await;
    }
}

/// What a shard's thread is made with.
pub(super) struct Inside {
    pub(super) store: Option<Arc<Store>>,
    /// Where to say that everything is restored, and where to hear that it is everywhere.
    pub(super) begin: (Sender<()>, Receiver<()>),
    pub(super) ways: Ways,
    pub(super) config: Config,
    pub(super) number: usize,
    pub(super) around: Around,
}

impl Inside {
    pub(super) fn run(self, runtime: &Runtime, mut stopped: watch::Receiver<bool>) {
        let driver = Driver::new(self.config, self.number, self.store, &self.around);
        driver.restore();
        let (restored, begin) = self.begin;
        // Whoever starts the broker may have given up.
        if restored.send(()).is_err() || begin.recv().is_err() {
            return;
        }
        LocalSet::new().block_on(runtime, async {
            let mut ways = spawn_local(self.ways.open(Rc::clone(&driver)));
            let mail = spawn_local(Rc::clone(&driver).take_mail());
            let mut writer = spawn_local(Writer::new(Rc::clone(&driver)));
            tokio::select! {
                _ = stopped.wait_for(|stop| *stop) => {}
                ended = &mut writer => return ended.expect("the shard failed"),
                ended = mail => return ended.expect("the shard failed"),
                ended = &mut ways => ended.expect("the shard failed"),
            }
            ways.abort();
            driver.shut_down();
            let patience = Duration::from_secs(STOP_SECS);
            if let Ok(ended) = tokio::time::timeout(patience, writer).await {
                ended.expect("the shard failed");
            }
        });
    }
}
