//! Where a queue keeps its items: three orders, none of which allocates, drops or runs code of users when an item goes in
//! or out.
//!
//! Memory comes in *rooms*, which are made and dropped outside of the queue's lock. When the last room is full a bigger one is
//! put behind it; nothing that is stored is moved then.

use std::{cmp::Reverse, collections::VecDeque};

/// The order in which a queue gives its items. Sealed.
pub trait QueueOrder<T>: 'static {
    #[doc(hidden)]
    type Store: Store<T>;
    /// The queue in `Debug`.
    #[doc(hidden)]
    const NAME: &'static str;
}

/// First in, first out.
#[derive(Debug)]
pub struct Fifo;

/// Last in, first out.
#[derive(Debug)]
pub struct Lifo;

/// Smallest key first, and first in, first out among equal ones.
#[derive(Debug)]
pub struct Smallest;

impl<T> QueueOrder<T> for Fifo {
    type Store = Line<T>;
    const NAME: &'static str = "Queue";
}

impl<T> QueueOrder<T> for Lifo {
    type Store = Stack<T>;
    const NAME: &'static str = "LifoQueue";
}

impl<K: QueueKey, T> QueueOrder<(K, T)> for Smallest {
    type Store = Heap<K, T>;
    const NAME: &'static str = "PriorityQueue";
}

/// A key of a [`PriorityQueue`](crate::PriorityQueue): the integers, and [`Reverse`] of them for "greatest first". Sealed: no code of
/// users may run while a queue is locked.
pub trait QueueKey: Ord + Copy + Send + private::Sealed + 'static {}

mod private {
    pub trait Sealed {}
}

macro_rules! keys {
    ($($integer:ty)*) => {$(
        impl private::Sealed for $integer {}
        impl QueueKey for $integer {}
        impl private::Sealed for Reverse<$integer> {}
        impl QueueKey for Reverse<$integer> {}
    )*};
}

keys!(i8 i16 i32 i64 i128 isize u8 u16 u32 u64 u128 usize);

#[doc(hidden)]
pub trait Store<T>: Default {
    /// Memory for items.
    type Room;

    fn len(&self) -> usize;

    /// Whether [`push`](Self::push) finds room.
    fn has_room(&self) -> bool;

    /// What to ask [`make_room`](Self::make_room) for next, in a queue that holds at most `limit`.
    fn next_room(&self, limit: usize) -> usize;

    /// Allocates; to be called outside of the lock.
    fn make_room(size: usize) -> Self::Room;

    /// Puts a room in. What comes back is not needed, and to be dropped outside of the lock.
    fn put_room(&mut self, room: Self::Room) -> Option<Self::Room>;

    /// There is room.
    fn push(&mut self, item: T);

    /// The next item, and a room that is not needed any more.
    fn pop(&mut self) -> Option<(T, Option<Self::Room>)>;
}

/// Items in the first room; each later one holds twice as many as the one before.
const FIRST: usize = 32;

/// A buffer in a chain of buffers.
#[doc(hidden)]
#[derive(Debug)]
pub struct Link<B> {
    items: B,
    next: Option<Box<Link<B>>>,
}

impl<B> Link<B> {
    fn new(items: B) -> Box<Self> {
        Box::new(Self { items, next: None })
    }
}

/// First in, first out: pushes go to the newest room, pops come from the oldest. One room serves as a ring, mostly.
#[doc(hidden)]
#[derive(Debug)]
pub struct Line<T> {
    /// The oldest room, where pops come from.
    front: VecDeque<T>,
    /// Between the two, oldest first.
    middle: Option<Box<Link<VecDeque<T>>>>,
    /// The newest room, where pushes go to; `None` if that is the front.
    back: Option<Box<Link<VecDeque<T>>>>,
    len: usize,
}

impl<T> Default for Line<T> {
    fn default() -> Self {
        Self { front: VecDeque::new(), middle: None, back: None, len: 0 }
    }
}

impl<T> Line<T> {
    fn newest(&self) -> &VecDeque<T> {
        self.back.as_ref().map_or(&self.front, |back| &back.items)
    }
}

impl<T> Store<T> for Line<T> {
    type Room = Box<Link<VecDeque<T>>>;

    fn len(&self) -> usize {
        self.len
    }

    #[inline]
    fn has_room(&self) -> bool {
        let newest = self.newest();
        newest.len() < newest.capacity()
    }

    fn next_room(&self, limit: usize) -> usize {
        (self.newest().capacity() * 2).max(FIRST).min(limit)
    }

    fn make_room(size: usize) -> Self::Room {
        Link::new(VecDeque::with_capacity(size))
    }

    fn put_room(&mut self, mut room: Self::Room) -> Option<Self::Room> {
        if self.len == 0 && self.back.is_none() {
            std::mem::swap(&mut self.front, &mut room.items);
            return Some(room);
        }
        if let Some(back) = self.back.replace(room) {
            // As many rooms as there were doublings, and only when another one comes.
            let mut end = &mut self.middle;
            while let Some(link) = end {
                end = &mut link.next;
            }
            *end = Some(back);
        }
        None
    }

    #[inline]
    fn push(&mut self, item: T) {
        debug_assert!(self.has_room(), "no allocation under the lock");
        self.len += 1;
        self.back.as_mut().map_or(&mut self.front, |back| &mut back.items).push_back(item);
    }

    #[inline]
    fn pop(&mut self) -> Option<(T, Option<Self::Room>)> {
        if self.len == 0 {
            return None;
        }
        let mut used = None;
        if self.front.is_empty() {
            let mut next = match self.middle.take() {
                Some(mut next) => {
                    self.middle = next.next.take();
                    next
                }
                None => self.back.take()?,
            };
            std::mem::swap(&mut self.front, &mut next.items);
            used = Some(next);
        }
        self.len -= 1;
        // Rooms behind the front are never empty.
        self.front.pop_front().map(|item| (item, used))
    }
}

/// Last in, first out.
#[doc(hidden)]
#[derive(Debug)]
pub struct Stack<T> {
    /// Where items go in and out.
    top: Vec<T>,
    /// Full rooms, newest first.
    below: Option<Box<Link<Vec<T>>>>,
    /// An empty room for the next time when the top is full, so that a stack at the edge of a room does not allocate each time.
    spare: Option<Box<Link<Vec<T>>>>,
    len: usize,
}

impl<T> Default for Stack<T> {
    fn default() -> Self {
        Self { top: Vec::new(), below: None, spare: None, len: 0 }
    }
}

impl<T> Store<T> for Stack<T> {
    type Room = Box<Link<Vec<T>>>;

    fn len(&self) -> usize {
        self.len
    }

    fn has_room(&self) -> bool {
        self.top.len() < self.top.capacity() || self.spare.is_some()
    }

    fn next_room(&self, limit: usize) -> usize {
        (self.top.capacity() * 2).max(FIRST).min(limit)
    }

    fn make_room(size: usize) -> Self::Room {
        Link::new(Vec::with_capacity(size))
    }

    fn put_room(&mut self, room: Self::Room) -> Option<Self::Room> {
        self.spare.replace(room)
    }

    fn push(&mut self, item: T) {
        if self.top.len() == self.top.capacity() {
            let mut room = self.spare.take().expect("there is room");
            std::mem::swap(&mut self.top, &mut room.items);
            room.next = self.below.take();
            self.below = Some(room);
        }
        self.len += 1;
        self.top.push(item);
    }

    fn pop(&mut self) -> Option<(T, Option<Self::Room>)> {
        let mut used = None;
        if self.top.is_empty() {
            let mut room = self.below.take()?;
            self.below = room.next.take();
            std::mem::swap(&mut self.top, &mut room.items);
            used = self.spare.replace(room);
        }
        let item = self.top.pop()?;
        self.len -= 1;
        Some((item, used))
    }
}

/// Smallest key first: a binary heap in levels, of which each later one doubles the size, so that growing moves nothing.
#[doc(hidden)]
#[derive(Debug)]
pub struct Heap<K, T> {
    levels: Vec<Vec<Entry<K, T>>>,
    len: usize,
    /// Counts pushes: equal keys come out in the order in which they went in.
    pushes: u64,
}

#[doc(hidden)]
#[derive(Debug)]
pub(super) struct Entry<K, T> {
    key: (K, u64),
    item: T,
}

/// Another level, and a longer list of levels.
#[doc(hidden)]
#[derive(Debug)]
pub struct Level<K, T> {
    number: usize,
    items: Vec<Entry<K, T>>,
    levels: Vec<Vec<Entry<K, T>>>,
}

impl<K, T> Default for Heap<K, T> {
    fn default() -> Self {
        Self { levels: Vec::new(), len: 0, pushes: 0 }
    }
}

/// The items in the levels before `level`: 0, 32, 64, 128 and so on.
fn before(level: usize) -> usize {
    if level == 0 { 0 } else { FIRST << (level - 1) }
}

/// Where the item `index` of a heap is.
fn locate(index: usize) -> (usize, usize) {
    if index < FIRST {
        return (0, index);
    }
    let level = (index / FIRST).ilog2() as usize + 1;
    (level, index - before(level))
}

impl<K: QueueKey, T> Heap<K, T> {
    fn key(&self, index: usize) -> (K, u64) {
        let (level, place) = locate(index);
        self.levels[level][place].key
    }

    fn swap(&mut self, low: usize, high: usize) {
        debug_assert!(low < high);
        let (low_level, low) = locate(low);
        let (high_level, high) = locate(high);
        if low_level == high_level {
            return self.levels[low_level].swap(low, high);
        }
        let (first, second) = self.levels.split_at_mut(high_level);
        std::mem::swap(&mut first[low_level][low], &mut second[0][high]);
    }
}

impl<K: QueueKey, T> Store<(K, T)> for Heap<K, T> {
    type Room = Level<K, T>;

    fn len(&self) -> usize {
        self.len
    }

    fn has_room(&self) -> bool {
        self.len < before(self.levels.len())
    }

    fn next_room(&self, _: usize) -> usize {
        self.levels.len()
    }

    fn make_room(number: usize) -> Self::Room {
        let size = before(number + 1) - before(number);
        Level { number, items: Vec::with_capacity(size), levels: Vec::with_capacity(number + 1) }
    }

    fn put_room(&mut self, mut room: Self::Room) -> Option<Self::Room> {
        // Another thread may have put this level in.
        if room.number == self.levels.len() {
            room.levels.append(&mut self.levels);
            room.levels.push(std::mem::take(&mut room.items));
            std::mem::swap(&mut self.levels, &mut room.levels);
        }
        Some(room)
    }

    fn push(&mut self, (key, item): (K, T)) {
        let mut index = self.len;
        self.len += 1;
        self.pushes += 1;
        let entry = Entry { key: (key, self.pushes), item };
        self.levels[locate(index).0].push(entry);
        while index > 0 {
            let parent = (index - 1) / 2;
            if self.key(parent) < self.key(index) {
                break;
            }
            self.swap(parent, index);
            index = parent;
        }
    }

    fn pop(&mut self) -> Option<((K, T), Option<Self::Room>)> {
        let last = self.len.checked_sub(1)?;
        if last > 0 {
            self.swap(0, last);
        }
        let entry = self.levels[locate(last).0].pop()?;
        self.len = last;
        let mut index = 0;
        loop {
            let left = 2 * index + 1;
            if left >= last {
                break;
            }
            let right = left + 1;
            let child = if right < last && self.key(right) < self.key(left) { right } else { left };
            if self.key(index) < self.key(child) {
                break;
            }
            self.swap(index, child);
            index = child;
        }
        Some(((entry.key.0, entry.item), None))
    }
}

#[cfg(all(test, not(selkie_loom)))]
mod tests {
    use std::collections::{BTreeSet, VecDeque};

    use super::*;
    use crate::scheduler::random;

    /// Pushes and pops at random; `model` keeps the same items and pops them its own way.
    fn compare<T: PartialEq + std::fmt::Debug + Copy, S: Store<T>, P>(
        mut model: P,
        make: impl Fn(u64) -> T,
        model_push: impl Fn(&mut P, T),
        model_pop: impl Fn(&mut P) -> Option<T>,
    ) {
        let mut state = 7;
        let mut store = S::default();
        let mut len = 0;
        for step in 0..if cfg!(miri) { 600 } else { 60_000u64 } {
            // Mostly growing, then mostly shrinking, so that rooms come and go.
            let grow = if (step / 10_000) % 2 == 0 { 6 } else { 4 };
            if random(&mut state) % 10 < grow {
                if !store.has_room() {
                    let room = S::make_room(store.next_room(usize::MAX));
                    drop(store.put_room(room));
                    assert!(store.has_room());
                }
                let item = make(random(&mut state) % 1000);
                store.push(item);
                model_push(&mut model, item);
                len += 1;
            } else {
                let popped = store.pop().map(|(item, _)| item);
                len -= usize::from(popped.is_some());
                assert_eq!(popped, model_pop(&mut model));
            }
            assert_eq!(store.len(), len);
        }
    }

    #[test]
    fn a_line_is_a_deque() {
        compare::<_, Line<u64>, _>(VecDeque::new(), |n| n, VecDeque::push_back, VecDeque::pop_front);
    }

    #[test]
    fn a_stack_is_a_vec() {
        compare::<_, Stack<u64>, _>(Vec::new(), |n| n, Vec::push, Vec::pop);
    }

    #[test]
    fn a_heap_is_a_sorted_set_of_keys_and_their_order() {
        let count = std::cell::Cell::new(0u64);
        compare::<(u64, u64), Heap<u64, u64>, _>(
            BTreeSet::new(),
            |n| {
                count.set(count.get() + 1);
                // Many equal keys; the second is the order of the pushes.
                (n % 20, count.get())
            },
            |set, item| assert!(set.insert(item)),
            BTreeSet::pop_first,
        );
    }

    #[test]
    fn levels_of_a_heap_follow_each_other() {
        let mut expected = 0;
        for level in 0..8 {
            for place in 0..before(level + 1) - before(level) {
                assert_eq!(locate(expected), (level, place));
                expected += 1;
            }
        }
    }
}
