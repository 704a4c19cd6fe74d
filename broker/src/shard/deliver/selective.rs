//! From a route to what few routes have: shared groups, and sessions that ask more of a message
//! than its topic.

use std::sync::Arc;

use super::{Outgoing, Shard};
use crate::cache::{Route, merge};
use crate::clock::Now;
use crate::condition::View;
use crate::index::Subscriber;

impl Shard {
    /// Gives the message to the groups of a route and to its sessions with conditions, and answers
    /// how many took it.
    pub(super) fn distribute_selectively(
        &mut self,
        route: &Route,
        outgoing: &mut Outgoing<'_>,
        now: Now,
    ) -> usize {
        let (mut reached, parts) = (0, outgoing.source.parts);
        let view = View::new(parts, outgoing.account, now.wall);
        for of_one in &route.conditional {
            let meets = |subscriber: &&Subscriber| {
                subscriber.condition.as_ref().is_none_or(|condition| view.meets(condition))
            };
            let passing: Vec<Subscriber> = of_one.iter().filter(meets).cloned().collect();
            for target in merge(&passing) {
                reached += match target.session.shard() {
                    here if here == self.number => {
                        usize::from(self.deliver_to_target(&target, outgoing, now))
                    }
                    there => {
                        self.post(there, &Arc::from([target]), outgoing);
                        1
                    }
                };
            }
        }
        for (group, stick) in &route.groups {
            let condition = group.charter.condition.as_ref();
            if condition
                .is_some_and(|it| it.only != 0 && it.only != outgoing.account || !view.meets(it))
            {
                continue;
            }
            reached += 1;
            self.deliver_to_group(group, stick.as_ref(), outgoing, now);
        }
        self.work += view.work();
        reached
    }
}
