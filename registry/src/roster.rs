//! Which device has which ident (R4.3, R4.4): who was first has it, others are blocked until it is
//! free.

use std::sync::{Arc, PoisonError, RwLock};

use hashbrown::{Equivalent, HashMap};
use longshore_broker::module::Item;

use crate::device::{Device, Identity};
use crate::live::BLOCKED;

/// Devices by account, protocol and ident. A look-up allocates nothing, and takes the same time
/// however many there are.
#[derive(Debug, Default)]
pub(crate) struct Roster {
    devices: RwLock<HashMap<Identity, Vec<Arc<Device>>>>,
}

/// An [`Identity`] that is looked for.
#[derive(Clone, Copy, Debug, Hash)]
pub(crate) struct Sought<'a> {
    pub(crate) account: u64,
    pub(crate) protocol: u64,
    pub(crate) ident: &'a str,
}

impl Equivalent<Identity> for Sought<'_> {
    fn equivalent(&self, known: &Identity) -> bool {
        (self.account, self.protocol) == (known.account, known.protocol)
            && *self.ident == *known.ident
    }
}

impl Roster {
    /// The device of this ident, whether it is enabled or not.
    pub(crate) fn find(&self, sought: &Sought<'_>) -> Option<Arc<Device>> {
        let devices = self.devices.read().unwrap_or_else(PoisonError::into_inner);
        devices.get(sought).and_then(|all| all.first()).cloned()
    }

    /// A device was made, changed or removed. Those that are blocked now, or no longer.
    pub(crate) fn change(
        &self,
        before: Option<&Arc<Device>>,
        after: Option<&Arc<Device>>,
    ) -> Vec<Arc<Device>> {
        let mut devices = self.devices.write().unwrap_or_else(PoisonError::into_inner);
        let mut changed = Vec::new();
        if let Some(identity) = before.and_then(|it| it.identity.as_ref())
            && let Some(all) = devices.get_mut(identity)
        {
            let id = before.map(|it| it.head().id);
            all.retain(|it| Some(it.head().id) != id);
            if all.is_empty() {
                devices.remove(identity);
            } else if after.is_none_or(|it| it.identity.as_ref() != Some(identity)) {
                changed.extend(settle(all));
            }
        }
        match after.map(|it| (it, it.identity.as_ref())) {
            Some((after, Some(identity))) => {
                let all = devices.entry_ref(identity).or_default();
                let place = |it: &Arc<Device>| (it.claimed, it.head().id);
                let at = all.partition_point(|it| place(it) < place(after));
                all.insert(at, Arc::clone(after));
                changed.extend(settle(all));
            }
            // Nobody has the ident that it does not have.
            Some((after, None)) => {
                let code = if after.is_invalid { BLOCKED } else { 0 };
                if after.live.set_blocked(code) {
                    changed.push(Arc::clone(after));
                }
            }
            None => {}
        }
        changed
    }
}

/// The first has it.
fn settle(all: &[Arc<Device>]) -> Vec<Arc<Device>> {
    let codes = all.iter().enumerate().map(|(at, it)| (it, if at == 0 { 0 } else { BLOCKED }));
    codes.filter(|(it, code)| it.live.set_blocked(*code)).map(|(it, _)| Arc::clone(it)).collect()
}

impl From<&Identity> for Identity {
    fn from(identity: &Identity) -> Self {
        identity.clone()
    }
}

#[cfg(test)]
mod tests {
    use longshore_broker::module::Head;
    use serde_json::json;

    use super::*;

    fn device(id: u64, ident: &str, claimed: u64, before: Option<&Arc<Device>>) -> Arc<Device> {
        let fields = json!({"ident": ident, "device_type_id": 14, "claimed": claimed});
        let fields = fields.as_object().unwrap().clone();
        let before = before.map(|it| &**it);
        Arc::new(Device::read(Head { id, account: 1 }, fields, before).unwrap())
    }

    fn ids(all: &[Arc<Device>]) -> Vec<u64> {
        all.iter().map(|it| it.head().id).collect()
    }

    /// R4.3, R4.4.
    #[test]
    fn who_was_first_has_an_ident_and_others_wait_for_it() {
        let roster = Roster::default();
        let has = |ident, protocol| {
            let sought = Sought { account: 1, protocol, ident };
            roster.find(&sought).map(|it| it.head().id)
        };
        let [one, two, three] =
            [(1, 10), (2, 30), (3, 20)].map(|(id, at)| device(id, "a", at, None));
        assert_eq!(ids(&roster.change(None, Some(&two))), [0; 0]);
        assert_eq!(ids(&roster.change(None, Some(&three))), [2], "as rows are read: by number");
        assert_eq!(ids(&roster.change(None, Some(&one))), [3]);
        assert_eq!((has("a", 14), has("a", 4), has("b", 14)), (Some(1), None, None));
        let blocked = || [&one, &two, &three].map(|it| it.live.blocked());
        assert_eq!(blocked(), [0, BLOCKED, BLOCKED]);
        // The first takes another ident, then comes back: now it is the last.
        let other = device(1, "b", 0, Some(&one));
        assert_eq!(ids(&roster.change(Some(&one), Some(&other))), [3]);
        assert_eq!((has("a", 14), has("b", 14)), (Some(3), Some(1)));
        let back = device(1, "a", 0, Some(&other));
        assert_eq!(ids(&roster.change(Some(&other), Some(&back))), [1]);
        assert_eq!(ids(&roster.change(Some(&three), None)), [2]);
        assert_eq!(ids(&roster.change(Some(&two), None)), [1]);
        assert_eq!((has("a", 14), back.live.blocked()), (Some(1), 0));
        roster.change(Some(&back), None);
        assert_eq!((has("a", 14), roster.devices.read().unwrap().len()), (None, 0));
    }
}
