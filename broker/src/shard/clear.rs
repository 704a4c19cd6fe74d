//! Deletion of retained messages by topic filter: an empty message to a topic with wildcards.
//!
//! It is done for everybody at once, by its number: nobody finds any more what it covers. To take
//! that out of memory may be long, and goes on in slices.

use std::sync::Arc;

use longshore_acl::{Action, Coverage};
use longshore_codec::{Publish, QoS, ReasonCode, filter};

use super::subscribe::BYTES_PER_WORK;
use super::{Fault, Shard};
use crate::clock::Now;
use crate::connection::ConnectionId;
use crate::parties::{Party, is_reserved};
use crate::record::Event;
use crate::retained::{Cursor, Extent, Retained};
use crate::session::{SessionId, filter_bytes};

/// Names that a deletion visits before others have their turn.
const SLICE_VISITS: usize = 256;
/// Names all deletions together visit in one call of `advance`.
const TURN_VISITS: usize = 2_048;
/// What a visit costs, with what is deleted there, in steps of work.
const WORK_PER_VISIT: usize = 8;

/// A deletion that is under way.
#[derive(Debug)]
pub(super) struct Clearing {
    retained: Arc<Retained>,
    cursor: Cursor,
}

impl Shard {
    /// The topic filter by which a message deletes, if it is one that does.
    pub(super) fn deletion<'a>(&self, publish: &Publish<'_>, name: &'a [u8]) -> Option<&'a str> {
        if !publish.payload.is_empty() || !self.dialect.wildcard_delete.is_meant(publish.retain) {
            return None;
        }
        memchr::memchr2(b'+', b'#', name)?;
        let parsed = filter::parse(std::str::from_utf8(name).ok()?).ok()?;
        // Nothing is retained for a group.
        parsed.share.is_none().then_some(parsed.inner)
    }

    /// What a publisher of this class may delete of what the filter matches; `None` when that is
    /// nothing.
    fn deletable(&self, class: u32, filter: &str) -> Option<Extent> {
        let everywhere = || (!is_reserved(filter)).then_some(Extent::Users);
        let Some(rights) = self.commons.classes.of(class) else { return everywhere() };
        match (rights.coverage(Action::Publish, filter), rights.published()) {
            (Coverage::None, _) => None,
            (_, None) => everywhere(),
            (Coverage::All, Some(_)) => Some(Extent::Users),
            (Coverage::Some, Some(filters)) => {
                let within = filters.overlapping(filter);
                (within.bytes() > 0).then(|| Extent::Listed(Arc::new(within)))
            }
        }
    }

    /// Deletes the retained messages that match the filter and that the publisher may publish.
    /// Nobody is told but the publisher.
    pub(super) fn delete_matching(
        &mut self,
        id: ConnectionId,
        session: SessionId,
        publish: &Publish<'_>,
        (from, filter): (Party, &str),
        now: Now,
    ) -> Result<(), Fault> {
        self.check_topic(filter.as_bytes())
            .map_err(|cause| Fault::new(ReasonCode::TopicNameInvalid, cause))?;
        let Some(extent) = self.deletable(from.class, filter) else {
            self.reject(id, session, publish);
            return Ok(());
        };
        let meter = self.commons.tallies.meter(from.account);
        if let Some(cause) = meter.and_then(|meter| self.over_rate(session, &meter, now)) {
            return self.refuse_for_quota(id, session, publish, cause);
        }
        if let Some(cause) = self.refused_work() {
            // QoS 0 promises nothing: nothing is cleared while nothing can be promised.
            return match publish.qos {
                QoS::AtMostOnce => Ok(()),
                _ => self.refuse(id, session, publish, cause),
            };
        }
        let account = from.account;
        let selectors = self.dialect.selectors && filter.contains(',');
        self.work += (filter_bytes(filter) + extent.bytes()) / BYTES_PER_WORK;
        let retained = self.commons.retained.of(account);
        let Some((cursor, sequence)) = retained.begin_clear(filter, selectors, extent.clone())
        else {
            let cause = "too many deletions by topic filter are under way";
            return self.refuse(id, session, publish, cause);
        };
        let holder = self.holder_of(session);
        let is_durable = self.journal.is_some();
        if let Some(journal) = self.journal.as_deref_mut() {
            let within = extent.within();
            journal.note(&Event::ClearMatching { account, sequence, filter, selectors, within });
        }
        if let (QoS::ExactlyOnce, Some(packet_id)) = (publish.qos, publish.packet_id) {
            // In one record with the deletion: it is not done again when this is sent again.
            self.note(holder, &Event::Inbound { holder, packet_id });
            if let Some(session) = self.sessions.get_mut(session) {
                session.receive_exactly_once(packet_id);
            }
        }
        self.acknowledge(id, publish, ReasonCode::Success, is_durable);
        if is_durable {
            // At QoS 0, too, where nothing waits to be acknowledged.
            self.hold_if_behind(id);
        }
        let mut clear = Clearing { retained, cursor };
        if !self.clear_slice(&mut clear) {
            self.clears.push_back(clear);
            // There is something to be done, though perhaps nothing to be written.
            self.mark(id);
        }
        Ok(())
    }

    /// Goes on with deletions, each in its turn.
    pub(super) fn clear_turn(&mut self) {
        for _ in 0..TURN_VISITS / SLICE_VISITS {
            let Some(mut clear) = self.clears.pop_front() else { return };
            if !self.clear_slice(&mut clear) {
                self.clears.push_back(clear);
            }
        }
    }

    /// Goes on with one; whether it is through.
    fn clear_slice(&mut self, clear: &mut Clearing) -> bool {
        let mut visits = SLICE_VISITS;
        let is_through = clear.retained.clear_matching(&mut clear.cursor, &mut visits);
        self.work += 1 + (SLICE_VISITS - visits) * WORK_PER_VISIT;
        is_through
    }
}
