//! The driver's side of the journal: each turn's records go in before its mail and output go out,
//! and what is durable lets wait no longer.

use longshore_storage::Refused;

use super::{Driver, Finishing};
use crate::journal::Taking;
use crate::net::mailbox::Mailbox;
use crate::store::RoundEnd;

/// Bytes that the journal does not take yet, beyond which clients whose packets have to be durable
/// are not read.
const UNAPPENDED_MAX: usize = 8 << 20;
/// Bytes that the journal has yet to write, beyond which compaction waits.
const COMPACT_PENDING_MAX: usize = 2 << 20;

impl Driver {
    /// Takes back what the shard had before this process.
    pub(crate) fn restore(&self) {
        self.shard.borrow_mut().restore(self.now());
        self.commit();
        self.turn.set(None);
    }

    /// Appends what was written down to the journal, and lets go out what is durable. Whether
    /// everything was appended: mail may not overtake it.
    pub(super) fn commit(&self) -> bool {
        let Some(store) = &self.store else { return true };
        let mut shard = self.shard.borrow_mut();
        let taking = store.status().taking();
        if self.taking.replace(taking) != taking {
            shard.set_taking(taking, self.now());
        }
        let appended = match shard.batch().map(|batch| store.append(batch)) {
            None => true,
            Some(Ok(ticket)) => {
                shard.appended(ticket);
                true
            }
            // It has failed: the committing thread says so, too.
            Some(Err(Refused::Failed(_))) => {
                shard.set_taking(Taking::Nothing, self.now());
                false
            }
            // It is tried again when there is room, of which the committing thread tells.
            Some(Err(_)) => false,
        };
        let behind = !appended && shard.unappended() > UNAPPENDED_MAX;
        shard.set_behind(behind, self.now());
        let waits = shard.awaits_journal()
            || shard.is_compacting()
            || self.finishing.get() != Finishing::Nothing
            || (self.number == 0 && store.is_retiring());
        shard.durable(store.durable(self.number, waits));
        appended
    }

    /// Goes on with compaction; whether more of it can be done at once.
    pub(super) fn compact(&self) -> bool {
        let Some(store) = &self.store else { return false };
        if store.wants_live(self.number, self.now().mono) {
            let live = self.shard.borrow().live_bytes();
            store.report_live(self.number, live, self.now().mono);
        }
        if self.number == 0 && store.look(self.now().mono) {
            self.mailboxes.iter().for_each(Mailbox::wake);
        }
        let rounds = store.rounds();
        let mut shard = self.shard.borrow_mut();
        if self.rounds.replace(rounds) != rounds {
            shard.compact(store.base());
            // Others wait for the mail that says so.
            return true;
        }
        if shard.awaits_mail() {
            return false;
        }
        let is_idle = self.finishing.get() == Finishing::Nothing;
        if is_idle && !shard.is_compacting() {
            return false;
        }
        if shard.unappended() > 0 || store.pending_bytes() > COMPACT_PENDING_MAX {
            // The committing thread wakes this one when it has got on.
            return false;
        }
        match self.finishing.take() {
            Finishing::Nothing => {}
            Finishing::Shard => {
                let end = store.finish_round(shard.last_message());
                if let Some(RoundEnd { sequence, messages }) = end {
                    shard.note_compacted(sequence, messages);
                    self.finishing.set(Finishing::All);
                }
                return end.is_some();
            }
            Finishing::All => {
                shard.last_ticket().into_iter().for_each(|ticket| store.end_round_at(ticket));
                // The first shard retires, and may be the last that anything else wakes.
                self.mailboxes[0].wake();
                return true;
            }
        }
        let may_copy = match store.status().taking() {
            // What does not fit would hold up all that comes behind it.
            Taking::Relief => store.fits(),
            _ => store.has_spare(),
        };
        if !may_copy {
            return false;
        }
        let is_through = shard.compact_slice(&mut |batch| store.append(batch).ok());
        if is_through {
            self.finishing.set(Finishing::Shard);
        }
        true
    }
}
