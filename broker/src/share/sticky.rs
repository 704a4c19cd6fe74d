//! Sticky groups: the topic says which member gets a message.
//!
//! Every member draws a number by what counts of the topic, and of those that are there the one
//! with the highest has it. Nothing is kept: it is the same on every shard and after a restart, and
//! whoever comes or goes moves only what it draws the highest number for.

use std::cell::Cell;

use super::{Member, Seat, Turns};
use crate::session::Owner;

/// What a topic says about the member of a group that gets its messages.
#[derive(Debug, Default)]
pub(crate) struct Stick {
    fingerprint: u64,
    /// Who has it when all are there: a place among the members after so many changes of them.
    favourite: Cell<Option<(u64, usize)>>,
}

impl Stick {
    /// By the levels that count of a topic.
    pub(super) fn new(levels: &[u8]) -> Self {
        Self { fingerprint: hash(levels), favourite: Cell::new(None) }
    }

    fn draw(&self, lot: u64) -> u64 {
        mix(self.fingerprint ^ lot)
    }
}

/// By what a member draws, as long as it has its client id.
pub(crate) fn lot((account, client_id): &Owner) -> u64 {
    mix(hash(client_id.as_bytes()) ^ mix(*account))
}

/// FNV-1a: it has to be the same in every version.
fn hash(bytes: &[u8]) -> u64 {
    let take = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    mix(bytes.iter().fold(0xcbf2_9ce4_8422_2325, take))
}

/// The end of SplitMix64: each bit of the input changes half of the output.
fn mix(bits: u64) -> u64 {
    let bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}

impl Turns {
    /// The member that is there, may take it and has what the topic says, if one is there at all,
    /// and how many were asked.
    pub(crate) fn stick(
        &self,
        stick: &Stick,
        may_take: impl Fn(&Seat) -> bool,
    ) -> (Option<Seat>, usize) {
        let known = stick.favourite.get().filter(|(changes, _)| *changes == self.changes);
        let mut asked = 1;
        let favourite = known.map(|(_, place)| place).or_else(|| {
            asked += self.members.len();
            let places = 0..self.members.len();
            let place = places.max_by_key(|place| stick.draw(self.members[*place].lot))?;
            stick.favourite.set(Some((self.changes, place)));
            Some(place)
        });
        let favourite = favourite.and_then(|place| self.members.get(place));
        let is_there = |member: &&Member| member.presence.is_online() && may_take(&member.seat);
        let member = favourite.filter(is_there).or_else(|| {
            asked += self.members.len();
            self.members.iter().filter(is_there).max_by_key(|member| stick.draw(member.lot))
        });
        (member.map(|member| member.seat), asked)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::sync::Arc;

    use longshore_codec::QoS;

    use super::super::Presence;
    use super::*;
    use crate::session::SessionId;
    use crate::slots::Key;

    const MEMBERS: u32 = 10;
    const FINGERPRINTS: u32 = 100_000;

    fn member(number: u32) -> Member {
        let seat = Seat {
            class: 1,
            only: 0,
            session: Key::for_test(number),
            holder: 0,
            qos: QoS::AtLeastOnce,
            retain_as_published: false,
            identifier: None,
        };
        let presence = Arc::<Presence>::default();
        presence.set_online(true);
        Member { seat, presence, lot: lot(&(1, format!("worker-{number}").into())) }
    }

    fn group(members: impl Iterator<Item = u32>) -> Turns {
        let mut turns = Turns::default();
        members.for_each(|number| turns.join(member(number)));
        turns
    }

    fn sticks() -> Vec<Stick> {
        (0..FINGERPRINTS).map(|number| Stick::new(format!("fleet/{number}").as_bytes())).collect()
    }

    fn seats(turns: &Turns, sticks: &[Stick]) -> Vec<SessionId> {
        let number = |stick| turns.stick(stick, |_| true).0.map(|seat| seat.session);
        sticks.iter().map(|stick| number(stick).expect("somebody is there")).collect()
    }

    /// 13.6
    #[test]
    fn members_have_even_shares() {
        let sticks = sticks();
        let mut shares: HashMap<SessionId, u32> = HashMap::new();
        for seat in seats(&group(0..MEMBERS), &sticks) {
            *shares.entry(seat).or_default() += 1;
        }
        let even = FINGERPRINTS / MEMBERS;
        assert_eq!(shares.len(), MEMBERS as usize);
        for share in shares.values() {
            assert!(share.abs_diff(even) * 20 <= even, "{share} of {FINGERPRINTS}");
        }
    }

    /// 13.7
    #[test]
    fn only_what_was_somebodys_who_leaves_moves_and_only_to_who_comes() {
        let sticks = sticks();
        let mut turns = group(0..MEMBERS);
        let before = seats(&turns, &sticks);
        let gone = turns.members()[3].seat.session;
        turns.members()[3].presence.set_online(false);
        let offline = seats(&turns, &sticks);
        let moved = before.iter().zip(&offline).filter(|(before, after)| before != after);
        assert!(moved.clone().all(|(before, _)| *before == gone));
        let count = moved.count() as u32;
        assert!(count.abs_diff(FINGERPRINTS / MEMBERS) * 20 <= FINGERPRINTS / MEMBERS, "{count}");
        turns.leave(gone);
        assert!(seats(&turns, &sticks) == offline, "whether it is away or has left");
        turns.join(member(MEMBERS));
        let joined = seats(&turns, &sticks);
        let new = turns.members().last().expect("there are some").seat.session;
        let moved = offline.iter().zip(&joined).filter(|(before, after)| before != after);
        assert!(moved.clone().all(|(_, after)| *after == new));
        let count = moved.count() as u32;
        assert!(count.abs_diff(FINGERPRINTS / MEMBERS) * 20 <= FINGERPRINTS / MEMBERS, "{count}");
    }

    #[test]
    fn the_order_in_which_members_came_changes_nothing() {
        let here = seats(&group(0..MEMBERS), &sticks());
        assert!(here == seats(&group((0..MEMBERS).rev()), &sticks()));
    }

    #[test]
    fn a_draw_is_the_same_in_every_version() {
        let lot = lot(&(7, "worker".into()));
        let stick = Stick::new(b"fleet/7");
        assert_eq!((lot, stick.draw(lot)), (LOT, DRAW));
    }

    const LOT: u64 = 8_766_687_025_166_466_282;
    const DRAW: u64 = 2_193_281_405_534_012_203;
}
