//! A slab whose keys are never mistaken for those of an earlier tenant, or of another shard.

use std::fmt;
use std::marker::PhantomData;

/// The place of a `T` in its [`Slots`]; outlives the `T`, but then finds nothing.
pub struct Key<T> {
    index: u32,
    /// The shard in the upper bits, and how often the place was given away in the others.
    generation: u32,
    of: PhantomData<fn() -> T>,
}

/// Bits of a generation that count tenants; the others name the shard.
const TENANT_BITS: u32 = 26;

/// Shards that a key can tell apart.
pub(crate) const SHARDS_MAX: usize = 1 << (u32::BITS - TENANT_BITS);

impl<T> Key<T> {
    /// A key that no slab handed out.
    #[cfg(test)]
    pub(crate) const fn for_test(index: u32) -> Self {
        Self { index, generation: 0, of: PhantomData }
    }

    /// A small number, unique among the living.
    #[must_use]
    pub const fn index(self) -> u32 {
        self.index
    }

    /// The number of the shard that handed it out.
    #[must_use]
    pub const fn shard(self) -> usize {
        (self.generation >> TENANT_BITS) as usize
    }
}

// Derived, these would ask the same of `T`.
impl<T> Clone for Key<T> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<T> Copy for Key<T> {}
impl<T> PartialEq for Key<T> {
    fn eq(&self, other: &Self) -> bool {
        (self.index, self.generation) == (other.index, other.generation)
    }
}
impl<T> Eq for Key<T> {}
impl<T> PartialOrd for Key<T> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl<T> Ord for Key<T> {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.index, self.generation).cmp(&(other.index, other.generation))
    }
}
impl<T> std::hash::Hash for Key<T> {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        (self.index, self.generation).hash(state);
    }
}
impl<T> fmt::Debug for Key<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.index, self.generation)
    }
}

#[derive(Debug)]
struct Slot<T> {
    generation: u32,
    value: Option<T>,
}

/// Values under keys that the slab hands out; all operations take constant time.
#[derive(Debug)]
pub(crate) struct Slots<T> {
    slots: Vec<Slot<T>>,
    free: Vec<u32>,
    /// The generation of a place that nobody had yet: it names the shard.
    first: u32,
}

impl<T> Slots<T> {
    /// A slab of the shard with this number, which is below [`SHARDS_MAX`].
    pub(crate) fn of(shard: usize) -> Self {
        assert!(shard < SHARDS_MAX, "no key can name shard {shard}");
        Self { slots: Vec::new(), free: Vec::new(), first: (shard as u32) << TENANT_BITS }
    }

    pub(crate) fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    pub(crate) fn insert(&mut self, value: T) -> Key<T> {
        let index = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot { generation: self.first, value: None });
            u32::try_from(self.slots.len() - 1).expect("fewer than 2^32 values fit in memory")
        });
        let slot = &mut self.slots[index as usize];
        assert!(slot.value.is_none(), "slot {index} was listed free");
        slot.value = Some(value);
        Key { index, generation: slot.generation, of: PhantomData }
    }

    pub(crate) fn remove(&mut self, key: Key<T>) -> Option<T> {
        let slot = self.slots.get_mut(key.index as usize)?;
        if slot.generation != key.generation {
            return None;
        }
        let value = slot.value.take()?;
        let tenants = (slot.generation + 1) & ((1 << TENANT_BITS) - 1);
        slot.generation = self.first | tenants;
        self.free.push(key.index);
        Some(value)
    }

    #[inline]
    pub(crate) fn get(&self, key: Key<T>) -> Option<&T> {
        let slot = self.slots.get(key.index as usize)?;
        if slot.generation == key.generation { slot.value.as_ref() } else { None }
    }

    #[inline]
    pub(crate) fn get_mut(&mut self, key: Key<T>) -> Option<&mut T> {
        let slot = self.slots.get_mut(key.index as usize)?;
        if slot.generation == key.generation { slot.value.as_mut() } else { None }
    }

    /// The key of the first value at `place` or behind it.
    pub(crate) fn key_from(&self, place: u32) -> Option<Key<T>> {
        let mut slots = self.slots.iter().enumerate().skip(place as usize);
        let (index, slot) = slots.find(|(_, slot)| slot.value.is_some())?;
        Some(Key { index: index as u32, generation: slot.generation, of: PhantomData })
    }

    /// The keys of all values, in the order of their places.
    pub(crate) fn keys(&self) -> impl Iterator<Item = Key<T>> + '_ {
        self.slots.iter().enumerate().filter(|(_, slot)| slot.value.is_some()).map(
            |(index, slot)| Key {
                index: index as u32,
                generation: slot.generation,
                of: PhantomData,
            },
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_does_not_find_the_next_tenant_of_its_slot() {
        let mut slots = Slots::of(0);
        let first = slots.insert('a');
        assert_eq!(slots.remove(first), Some('a'));
        let second = slots.insert('b');
        assert_eq!(first.index(), second.index(), "the slot is used again");
        assert_eq!(slots.get(first), None);
        assert_eq!(slots.remove(first), None);
        assert_eq!(slots.get(second), Some(&'b'));
        assert_eq!(slots.len(), 1);
    }

    #[test]
    fn a_key_finds_nothing_in_another_shard() {
        let (mut one, mut other) = (Slots::of(1), Slots::of(SHARDS_MAX - 1));
        let (key, twin) = (one.insert('a'), other.insert('b'));
        assert_eq!((key.index(), key.shard()), (twin.index(), 1));
        assert_eq!((one.get(twin), other.get(key)), (None, None));
        assert_eq!(other.remove(twin), Some('b'));
        assert_eq!(other.insert('c').shard(), SHARDS_MAX - 1, "also the next tenant");
    }

    #[test]
    fn tenants_of_one_place_never_change_its_shard() {
        let mut slots = Slots::of(5);
        slots.insert(());
        slots.slots[0].generation |= (1 << TENANT_BITS) - 1;
        let last = slots.keys().next().expect("there is one");
        slots.remove(last);
        assert_eq!(slots.insert(()).shard(), 5);
    }
}
