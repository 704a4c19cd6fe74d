//! What has become of devices, for those who have to do something about it.

use std::sync::{Arc, Mutex, PoisonError};

use longshore_broker::Context;
use longshore_broker::module::{Change, Head, Item};
use serde_json::Map;
use tokio::sync::Notify;

use crate::deed::Deed;
use crate::device::{Device, Identity};
use crate::roster::Roster;
use crate::shelves::Shelves;
use crate::writer::state_of;

/// See the module. It has as much as was changed since somebody took it.
#[derive(Debug, Default)]
pub(crate) struct Noted {
    all: Mutex<All>,
    is_new: Notify,
}

/// What was noted.
#[derive(Debug, Default)]
pub(crate) struct All {
    /// Devices that are gone.
    pub(crate) gone: Vec<Arc<Device>>,
    /// Idents that may be those of others now.
    pub(crate) identities: Vec<Identity>,
    /// Devices that keep no messages any more, or fewer.
    pub(crate) shortened: Vec<Arc<Device>>,
}

impl Noted {
    pub(crate) fn add(&self, note: impl FnOnce(&mut All)) {
        note(&mut self.all.lock().unwrap_or_else(PoisonError::into_inner));
        self.is_new.notify_one();
    }

    /// All there is, once there is any.
    pub(crate) async fn take(&self) -> All {
        loop {
            let all = std::mem::take(&mut *self.all.lock().unwrap_or_else(PoisonError::into_inner));
            if !all.gone.is_empty() || !all.identities.is_empty() || !all.shortened.is_empty() {
                return all;
            }
            self.is_new.notified().await;
        }
    }
}

/// Says whether a device is blocked, in its log and in what is retained.
pub(crate) fn tell_blocked(context: &Context, device: &Device) {
    let code = device.live.blocked();
    let deed = if code == 0 { Deed::Unblocked } else { Deed::Blocked };
    let mut fields = Map::new();
    fields.insert("block_code".to_owned(), code.into());
    let Head { id, account } = device.head();
    context.tell(account, crate::event(id, "", deed, fields));
    context.retain(vec![state_of(device, "blocked", Some(code.to_string()))]);
}

/// Follows changes of devices.
pub(crate) struct Follower {
    pub(crate) context: Context,
    pub(crate) roster: Arc<Roster>,
    pub(crate) shelves: Arc<Shelves>,
    pub(crate) noted: Arc<Noted>,
}

impl Follower {
    /// A device was made, changed or removed, or is there at the start: then nobody is told.
    pub(crate) fn change(&self, change: &Change<'_, Device>, is_told: bool) {
        let Change { before, after } = *change;
        if let Some(after) = after {
            after.live.attach(&self.shelves);
        }
        if is_told && let (None, Some(after)) = (before, after) {
            // It has not been heard yet; the rest comes of what becomes of it, and after this:
            // nobody finds it before it is in the roster.
            let states = ["blocked", "last_active", "messages_size"].map(|it| (it, "0"));
            let states = states.into_iter().chain([("connected", "false")]);
            let states = states.map(|(name, it)| state_of(after, name, Some(it.to_owned())));
            self.context.retain(states.collect());
        }
        let blocked = self.roster.change(before, after);
        if !is_told {
            return;
        }
        blocked.iter().for_each(|device| tell_blocked(&self.context, device));
        let of = |it: Option<&Arc<Device>>| it.and_then(|it| it.identity.clone());
        self.noted.add(|all| {
            let (old, new) = (of(before), of(after));
            all.identities.extend(old.filter(|old| new.as_ref() != Some(old)));
            all.identities.extend(new);
            match (before, after) {
                (Some(before), None) => all.gone.push(Arc::clone(before)),
                (Some(before), Some(after)) if is_shortened(before, after) => {
                    all.shortened.push(Arc::clone(after));
                }
                _ => {}
            }
        });
    }
}

/// Whether a device may keep less than before.
fn is_shortened(before: &Device, after: &Device) -> bool {
    let bytes = |it: &Device| Some(it.messages_rotate).filter(|bytes| *bytes > 0);
    after.messages_ttl < before.messages_ttl
        || bytes(after).unwrap_or(u64::MAX) < bytes(before).unwrap_or(u64::MAX)
}
