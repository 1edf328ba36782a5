//! Deadlines of one loop: a hierarchical wheel of intrusive nodes.
//!
//! Time is counted in ticks of a *grain*, a power of two of nanoseconds. A deadline belongs to the first tick at
//! or after it, so it never fires early and at most one grain late; everything in one tick fires together, in
//! the order of (deadline, insertion). A grain of one nanosecond makes deadlines exact, which the simulator uses.
//!
//! Level `n` has 64 slots of 64^n ticks. A node lies at the level of the highest group of six bits in which its
//! tick differs from `elapsed`, the last tick that was processed. When `elapsed` reaches a slot of a higher level,
//! its nodes move down (they *cascade*) in their order, but for those that are due by then, which go with the rest.
//! All of a tick's nodes that were set earlier are at its lower level before a later one can be put there directly,
//! so lists stay in order of insertion.
//!
//! Each slot remembers a lower bound of its ticks, so that a loop sleeps until the first deadline and is not
//! woken only to cascade.
//!
//! The nodes belong to task cells and `Sleep`s, who take them out before they go. No code of users runs here.

use std::{
    cell::{Cell, OnceCell},
    ptr::NonNull,
};

/// A place in the wheel.
#[derive(Debug, Default)]
#[repr(C)]
pub(crate) struct Node {
    /// First, so that a pointer to it is one to the node.
    link: Link,
    /// Nanoseconds of the loop's clock; the top bit is [`BOXED`].
    deadline: Cell<u64>,
}

/// The neighbours in a list. What they were once a node has left its list means nothing.
#[derive(Debug, Default)]
struct Link {
    next: Cell<Option<NonNull<Link>>>,
    prev: Cell<Option<NonNull<Link>>>,
}

/// In `Node::deadline`: the node is not part of a task cell.
const BOXED: u64 = 1 << 63;

/// Deadlines from here on never fire.
pub(crate) const NEVER: u64 = BOXED - 1;

impl Node {
    pub(crate) fn deadline(&self) -> u64 {
        self.deadline.get() & !BOXED
    }

    pub(crate) fn is_boxed(&self) -> bool {
        self.deadline.get() & BOXED != 0
    }
}

const BITS: u32 = 6;
const SLOTS: usize = 1 << BITS;

struct Level {
    occupied: Cell<u64>,
    slots: [List; SLOTS],
    /// No tick in the slot is lower.
    first: [Cell<u64>; SLOTS],
}

/// A circular list that goes through `ends`, which is before its head and behind its tail: so a node is taken out without
/// knowing of which list. Nobody moves it or borrows it mutably but while it is empty: then nothing points there.
struct List {
    ends: Link,
}

impl List {
    const fn new() -> Self {
        Self { ends: Link { next: Cell::new(None), prev: Cell::new(None) } }
    }

    /// # Safety
    ///
    /// `node` is live, in no list, and leaves this one before it goes.
    unsafe fn push(&self, node: NonNull<Node>) {
        let ends = NonNull::from(&self.ends);
        let link = node.cast::<Link>();
        let tail = self.ends.prev.replace(Some(link)).unwrap_or(ends);
        // SAFETY: nodes in a list are live; `node` is, by the caller's promise.
        unsafe {
            link.as_ref().next.set(Some(ends));
            link.as_ref().prev.set(Some(tail));
            tail.as_ref().next.set(Some(link));
        }
    }

    /// Takes a node out of its list. True if it was the only one there; then the list has to be told ([`emptied`](Self::emptied)).
    ///
    /// # Safety
    ///
    /// `node` is in a list.
    #[must_use]
    unsafe fn unlink(node: NonNull<Node>) -> bool {
        // SAFETY: nodes in a list are live, and have neighbours.
        unsafe {
            let link = node.cast::<Link>().as_ref();
            let next = link.next.get().unwrap_unchecked();
            let prev = link.prev.get().unwrap_unchecked();
            next.as_ref().prev.set(Some(prev));
            prev.as_ref().next.set(Some(next));
            next == prev
        }
    }

    fn emptied(&self) {
        self.ends.next.set(None);
        self.ends.prev.set(None);
    }

    fn pop(&self) -> Option<NonNull<Node>> {
        let head = self.ends.next.get()?.cast();
        // SAFETY: the head is in the list.
        if unsafe { Self::unlink(head) } {
            self.emptied();
        }
        Some(head)
    }

    fn is_empty(&self) -> bool {
        self.ends.next.get().is_none()
    }

    /// Takes out everything, in order, with the deadlines. `each` may link the node into another list. `spare` is empty, and is
    /// so afterwards.
    ///
    /// It goes from both ends at once: nodes are scattered, and of two chains the processor waits for both at a time.
    fn drain(&self, spare: &mut Vec<(u64, NonNull<Node>)>, mut each: impl FnMut(NonNull<Node>, u64)) {
        let (Some(mut front), Some(mut back)) = (self.ends.next.take(), self.ends.prev.take()) else {
            return;
        };
        while front != back {
            let (first, last) = (front.cast::<Node>(), back.cast::<Node>());
            // SAFETY: for this and what follows: nodes in a list are live, and have neighbours.
            let (head, tail) = unsafe { (first.as_ref(), last.as_ref()) };
            // SAFETY: as above.
            let (next, prev) =
                unsafe { (head.link.next.get().unwrap_unchecked(), tail.link.prev.get().unwrap_unchecked()) };
            spare.push((tail.deadline(), last));
            each(first, head.deadline());
            if next == back {
                // They have met, and nobody is left between.
                break;
            }
            (front, back) = (next, prev);
        }
        if front == back {
            let middle = front.cast::<Node>();
            // SAFETY: as above.
            each(middle, unsafe { middle.as_ref() }.deadline());
        }
        while let Some((deadline, node)) = spare.pop() {
            each(node, deadline);
        }
    }
}

pub(crate) struct Timers {
    shift: u32,
    /// The last tick that was processed.
    elapsed: Cell<u64>,
    levels: OnceCell<Vec<Level>>,
    /// Set for a tick that had passed already.
    overdue: List,
    len: Cell<usize>,
    /// What `fire` sorts in, kept so that a timer allocates nothing. Empty between its calls.
    due: Cell<Vec<Numbered>>,
    /// The other half of what is sorted, and what a list is taken out by; kept as well.
    sorted: Cell<Vec<Numbered>>,
    taken: Cell<Vec<(u64, NonNull<Node>)>>,
}

/// Something to be put in order by its number. What lies there is the owner's to know, so that all that is sorted is sorted by
/// the same code.
pub(crate) type Numbered = (u64, NonNull<()>);

/// Those with the same number stay in their order. `spare` is what it needs room in.
///
/// A few are inserted one by one, most of them where they are. Many, as of a burst of timers, go by one byte of the number
/// after the other, as far as the numbers differ: each of these steps keeps the order of the steps before. The sorts of the
/// standard library are a twentieth of a small program for the web, and what says that an index is out of bounds is a thirtieth.
#[inline(never)]
pub(crate) fn sort(list: &mut Vec<Numbered>, spare: &mut Vec<Numbered>) {
    if list.len() <= A_FEW {
        let list = Cell::from_mut(list.as_mut_slice()).as_slice_of_cells();
        for (at, place) in list.iter().enumerate() {
            let entry = place.get();
            let mut free = place;
            for before in list.iter().take(at).rev() {
                if before.get().0 <= entry.0 {
                    break;
                }
                free.set(before.get());
                free = before;
            }
            free.set(entry);
        }
        return;
    }
    let least = list.iter().map(|entry| entry.0).min().unwrap_or(0);
    let greatest = list.iter().map(|entry| entry.0).max().unwrap_or(0);
    spare.clone_from(list);
    let mut shift = 0;
    while shift < u64::BITS && (greatest - least) >> shift != 0 {
        let byte = |entry: &Numbered| ((entry.0 - least) >> shift) as usize & 0xff;
        let mut places = [0; 256];
        list.iter().for_each(|entry| places[byte(entry)] += 1);
        let mut before = 0;
        for place in &mut places {
            before += std::mem::replace(place, before);
        }
        for entry in &*list {
            let place = &mut places[byte(entry)];
            // As long as the list, whose entries have a place each: there is one.
            if let Some(free) = spare.get_mut(*place) {
                *free = *entry;
            }
            *place += 1;
        }
        std::mem::swap(list, spare);
        shift += 8;
    }
    spare.clear();
}

/// Up to so many, comparing them costs less.
const A_FEW: usize = 64;

/// A burst of more timers than this gives its memory back.
pub(crate) const KEPT: usize = 4096;

/// Where a tick is kept.
enum Place<'a> {
    Overdue,
    Slot(&'a Level, usize),
}

impl Timers {
    pub(crate) fn new(grain_ns: u64) -> Self {
        let shift = grain_ns.max(1).next_power_of_two().trailing_zeros();
        Self {
            shift,
            elapsed: Cell::new(0),
            levels: OnceCell::new(),
            overdue: List::new(),
            len: Cell::new(0),
            due: Cell::default(),
            sorted: Cell::default(),
            taken: Cell::default(),
        }
    }

    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.len.get() == 0
    }

    fn levels(&self) -> &[Level] {
        self.levels.get_or_init(|| {
            // One bit more than a rounded down deadline has: ticks are rounded up.
            (0..(64 - self.shift).div_ceil(BITS))
                .map(|_| Level {
                    occupied: Cell::new(0),
                    slots: [const { List::new() }; SLOTS],
                    first: [const { Cell::new(0) }; SLOTS],
                })
                .collect()
        })
    }

    #[inline]
    fn tick(&self, deadline: u64) -> u64 {
        // The deadline is below 2^63 and the grain too.
        (deadline + ((1 << self.shift) - 1)) >> self.shift
    }

    #[inline]
    fn place(&self, tick: u64) -> Place<'_> {
        let elapsed = self.elapsed.get();
        if tick <= elapsed {
            return Place::Overdue;
        }
        let level = (63 - (tick ^ elapsed).leading_zeros()) / BITS;
        let slot = (tick >> (level * BITS)) as usize % SLOTS;
        debug_assert!((level as usize) < self.levels().len());
        // SAFETY: there are levels for all bits of a tick, which is shifted by `shift`.
        Place::Slot(unsafe { self.levels().get_unchecked(level as usize) }, slot)
    }

    /// Puts a node in.
    ///
    /// # Safety
    ///
    /// `node` is live, in no wheel, and is taken out or fires before it goes. `deadline < NEVER`.
    pub(crate) unsafe fn insert(&self, node: NonNull<Node>, deadline: u64, boxed: bool) {
        debug_assert!(deadline < NEVER);
        // SAFETY: live.
        unsafe { node.as_ref() }.deadline.set(deadline | if boxed { BOXED } else { 0 });
        self.len.set(self.len.get() + 1);
        // SAFETY: as the caller promises.
        unsafe { self.link(node, self.tick(deadline)) };
    }

    /// # Safety
    ///
    /// As for [`insert`](Self::insert).
    #[inline]
    unsafe fn link(&self, node: NonNull<Node>, tick: u64) {
        match self.place(tick) {
            // SAFETY: as the caller promises.
            Place::Overdue => unsafe { self.overdue.push(node) },
            Place::Slot(level, slot) => {
                let bit = 1 << slot;
                if level.occupied.get() & bit == 0 {
                    level.occupied.set(level.occupied.get() | bit);
                    level.first[slot].set(tick);
                } else if tick < level.first[slot].get() {
                    level.first[slot].set(tick);
                }
                // SAFETY: as the caller promises.
                unsafe { level.slots[slot].push(node) }
            }
        }
    }

    /// Takes a node out.
    ///
    /// # Safety
    ///
    /// `node` is in this wheel.
    pub(crate) unsafe fn remove(&self, node: NonNull<Node>) {
        self.len.set(self.len.get() - 1);
        // SAFETY: in the wheel, so in one of its lists.
        if unsafe { List::unlink(node) } {
            // SAFETY: in the wheel till now, so live.
            self.emptied(unsafe { node.as_ref() }.deadline());
        }
    }

    /// The list where this deadline is has lost its last node.
    fn emptied(&self, deadline: u64) {
        // The place of a tick does not change until its slot is processed.
        match self.place(self.tick(deadline)) {
            Place::Overdue => self.overdue.emptied(),
            Place::Slot(level, slot) => {
                level.slots[slot].emptied();
                level.occupied.set(level.occupied.get() & !(1 << slot));
            }
        }
    }

    /// The first slot that will be reached: its level and the level's index, its own index, and its first tick.
    fn first_slot(&self) -> Option<(&Level, u32, usize, u64)> {
        let levels = self.levels.get()?;
        let elapsed = self.elapsed.get();
        // Lower levels are reached before higher ones.
        for (index, level) in (0..).zip(levels.iter()) {
            let occupied = level.occupied.get();
            if occupied != 0 {
                // All of a level's nodes lie in front of `elapsed` in the same round: no wrap.
                let slot = occupied.trailing_zeros() as usize;
                debug_assert!(slot as u64 > (elapsed >> (index * BITS)) % SLOTS as u64);
                return Some((level, index, slot, level.first[slot].get()));
            }
        }
        None
    }

    /// When the loop has to come back, if no timer is set or taken out before. Never after the first deadline's tick.
    pub(crate) fn next_deadline(&self) -> Option<u64> {
        if self.is_empty() {
            return None;
        }
        if !self.overdue.is_empty() {
            return Some(self.elapsed.get() << self.shift);
        }
        // Nothing overflows: it is at most a grain above a deadline, which has 63 bits.
        self.first_slot().map(|(_, _, _, tick)| tick << self.shift)
    }

    /// Takes out everything due at `now` and calls `fire` with it, in the order of (deadline, insertion).
    ///
    /// `fire` gets nodes that are in no list; it may not touch the wheel.
    pub(crate) fn fire(&self, now: u64, mut fire: impl FnMut(NonNull<Node>)) {
        let target = now >> self.shift;
        // The nodes are scattered, so they are sorted by a copy of their deadlines.
        let mut due = self.due.take();
        let mut taken = self.taken.take();
        self.overdue.drain(&mut taken, |node, deadline| due.push((deadline, node.cast())));
        while let Some((list, level, slot, first)) = self.first_slot() {
            // The slot's own start, not its first node: once `elapsed` is inside a slot, its nodes must be below.
            let start = first >> (level * BITS) << (level * BITS);
            if start > target {
                break;
            }
            list.occupied.set(list.occupied.get() & !(1 << slot));
            // Everything before the slot has been processed.
            self.elapsed.set(start);
            // As in `place`; here the compiler does not know it.
            list.slots[slot % SLOTS].drain(&mut taken, |node, deadline| {
                let tick = self.tick(deadline);
                // All of a higher level's slot that are due go straight there.
                if tick <= target {
                    due.push((deadline, node.cast()));
                } else {
                    // SAFETY: the node was in the wheel, and stays.
                    unsafe { self.link(node, tick) }
                }
            });
        }
        self.elapsed.set(target.max(self.elapsed.get()));
        let mut sorted = self.sorted.take();
        sort(&mut due, &mut sorted);
        self.len.set(self.len.get() - due.len());
        for &(_, node) in &due {
            fire(node.cast());
        }
        due.clear();
        if due.capacity() <= KEPT {
            self.due.set(due);
        }
        if sorted.capacity() <= KEPT {
            self.sorted.set(sorted);
        }
        if taken.capacity() <= KEPT {
            self.taken.set(taken);
        }
    }

    /// Takes out everything, due or not.
    pub(crate) fn clear(&self, mut gone: impl FnMut(NonNull<Node>)) {
        let levels = self.levels.get().map_or(&[][..], |levels| levels);
        for list in levels.iter().flat_map(|level| &level.slots).chain([&self.overdue]) {
            while let Some(node) = list.pop() {
                gone(node);
            }
        }
        for level in levels {
            level.occupied.set(0);
        }
        self.len.set(0);
    }
}

#[cfg(all(test, not(all(target_family = "wasm", target_os = "unknown"))))]
mod tests {
    use std::{collections::BTreeMap, ptr::NonNull, rc::Rc};

    use proptest::{collection::vec, prelude::*, sample::Index, test_runner::Config};

    use super::{KEPT, NEVER, Node, Timers};

    #[derive(Clone, Debug)]
    enum Step {
        /// At this distance from now, forwards or backwards.
        Insert(i64),
        /// This long before the end of the clock.
        InsertLate(u64),
        Remove(Index),
        /// The time goes on by so much.
        Fire(u64),
        /// The time goes on to what the wheel asked for.
        Sleep,
    }

    /// Lengths of every order of magnitude.
    fn length() -> impl Strategy<Value = u64> {
        (0..44u32, any::<u64>()).prop_map(|(bits, random)| random & ((1 << bits) - 1))
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            8 => (length(), 0..8u8).prop_map(|(length, back)| {
                Step::Insert(if back == 0 { -(length as i64) } else { length as i64 })
            }),
            1 => length().prop_map(Step::InsertLate),
            3 => any::<Index>().prop_map(Step::Remove),
            2 => length().prop_map(Step::Fire),
            3 => Just(Step::Sleep),
        ]
    }

    struct Model {
        /// Apart, as in a loop: the model is borrowed mutably.
        timers: Rc<Timers>,
        grain: u64,
        now: u64,
        /// By deadline and insertion.
        set: BTreeMap<(u64, usize), Owned>,
        inserted: usize,
    }

    /// Not a box, which says wherever it is moved, as a map moves its values, that nobody else points into it.
    #[derive(Debug)]
    struct Owned(NonNull<Node>);

    impl Owned {
        fn new() -> Self {
            Self(NonNull::from(Box::leak(Box::default())))
        }
    }

    impl Drop for Owned {
        fn drop(&mut self) {
            // SAFETY: leaked in `new`, and in no wheel any more.
            drop(unsafe { Box::from_raw(self.0.as_ptr()) });
        }
    }

    impl Model {
        fn insert(&mut self, deadline: u64) {
            let deadline = deadline.min(NEVER - 1);
            let node = Owned::new();
            // SAFETY: it stays in `set` until it was taken out or has fired.
            unsafe { self.timers.insert(node.0, deadline, self.inserted % 2 == 0) };
            self.set.insert((deadline, self.inserted), node);
            self.inserted += 1;
        }

        fn remove(&mut self, index: Index) {
            if self.set.is_empty() {
                return;
            }
            let key = *self.set.keys().nth(index.index(self.set.len())).unwrap();
            let node = self.set.remove(&key).unwrap();
            // SAFETY: whatever is in `set` is in the wheel.
            unsafe { self.timers.remove(node.0) };
        }

        /// The first time that is in the deadline's tick.
        fn due(&self, deadline: u64) -> u64 {
            deadline.div_ceil(self.grain).saturating_mul(self.grain)
        }

        fn fire(&mut self, by: u64) {
            self.now = self.now.saturating_add(by).min(NEVER);
            let mut fired = Vec::new();
            self.timers.fire(self.now, |node| fired.push(node));
            let mut expected = Vec::new();
            while let Some(entry) = self.set.first_entry() {
                let (deadline, number) = *entry.key();
                if deadline.div_ceil(self.grain).saturating_mul(self.grain) > self.now {
                    break;
                }
                let node = entry.remove();
                // SAFETY: it is owned here.
                let about = unsafe { node.0.as_ref() };
                assert_eq!((about.deadline(), about.is_boxed()), (deadline, number % 2 == 0));
                expected.push(node);
            }
            let expected: Vec<_> = expected.iter().map(|node| node.0).collect();
            assert_eq!(fired, expected, "all that is due, by deadline and insertion, and nothing else");
            if let Some(next) = self.timers.next_deadline() {
                assert!(next > self.now, "the loop would spin");
            }
        }

        fn check(&self) {
            assert_eq!(self.timers.len.get(), self.set.len());
            match (self.timers.next_deadline(), self.set.first_key_value()) {
                (None, None) => {}
                (Some(next), Some((&(first, _), _))) => assert!(next <= self.due(first).max(self.now)),
                (next, first) => panic!("{next:?} for {first:?}"),
            }
        }

        fn apply(&mut self, step: Step) {
            match step {
                Step::Insert(distance) => self.insert(self.now.saturating_add_signed(distance)),
                Step::InsertLate(before) => self.insert(NEVER - 1 - before),
                Step::Remove(index) => self.remove(index),
                Step::Fire(by) => self.fire(by),
                Step::Sleep => {
                    if let Some(next) = self.timers.next_deadline() {
                        self.fire(next.saturating_sub(self.now));
                    }
                }
            }
            self.check();
        }
    }

    fn config() -> Config {
        // Miri has no files, and no time for many.
        if cfg!(miri) {
            Config { cases: 6, failure_persistence: None, ..Config::default() }
        } else {
            Config::default()
        }
    }

    proptest! {
        #![proptest_config(config())]

        #[test]
        fn the_wheel_fires_what_an_ordered_map_would(
            shift in prop_oneof![Just(0u32), Just(5), Just(15), Just(20)],
            start in length(),
            steps in vec(step(), 0..if cfg!(miri) { 30 } else { 200 }),
        ) {
            let mut model = Model {
                timers: Rc::new(Timers::new(1 << shift)),
                grain: 1 << shift,
                now: 0,
                set: BTreeMap::new(),
                inserted: 0,
            };
            model.fire(start);
            steps.into_iter().for_each(|step| model.apply(step));
            let left = model.set.len();
            let mut gone = 0;
            model.timers.clear(|_| gone += 1);
            prop_assert_eq!(gone, left);
            prop_assert!(model.timers.is_empty() && model.timers.next_deadline().is_none());
        }
    }

    proptest! {
        #![proptest_config(config())]

        #[test]
        fn many_come_in_the_order_of_deadline_and_place(
            bits in 0..63u32,
            numbers in vec(any::<u64>(), 0..if cfg!(miri) { 100 } else { 1000 }),
            base in any::<u32>(),
        ) {
            let place = |place| NonNull::new(std::ptr::without_provenance_mut(place)).unwrap();
            let entry = |(at, number): (usize, u64)| (u64::from(base) + (number & ((1 << bits) - 1)), place(at));
            let mut list: Vec<super::Numbered> = (1..).zip(numbers).map(entry).collect();
            let mut expected = list.clone();
            expected.sort();
            let mut spare = Vec::new();
            super::sort(&mut list, &mut spare);
            prop_assert_eq!(list, expected);
            prop_assert!(spare.is_empty());
        }

        #[test]
        fn a_list_is_taken_out_in_order(len in 0..40usize) {
            let nodes: Vec<_> = (0..len).map(|_| Node::default()).collect();
            let (from, to) = (super::List::new(), super::List::new());
            // SAFETY: the nodes outlive both lists, and are in one at a time.
            nodes.iter().for_each(|node| unsafe { from.push(NonNull::from(node)) });
            let mut order = Vec::new();
            from.drain(&mut Vec::new(), |node, _| {
                order.push(node);
                // SAFETY: as above.
                unsafe { to.push(node) };
            });
            prop_assert_eq!(order, nodes.iter().map(NonNull::from).collect::<Vec<_>>());
            prop_assert!(from.is_empty());
            let again: Vec<_> = std::iter::from_fn(|| to.pop()).collect();
            prop_assert_eq!(again.len(), len);
        }
    }

    #[test]
    fn a_burst_gives_back_the_memory_that_it_was_sorted_in() {
        let timers = Timers::new(1);
        let kept = || {
            [timers.due.take().capacity(), timers.sorted.take().capacity(), timers.taken.take().capacity()]
        };
        for (size, is_kept) in [(KEPT / 2, true), (4 * KEPT, false)] {
            let nodes: Vec<_> = (0..size).map(|_| Node::default()).collect();
            // SAFETY: they fire below.
            nodes.iter().for_each(|node| unsafe {
                timers.insert(NonNull::from(node), timers.elapsed.get() + 1, false)
            });
            let mut fired = 0;
            timers.fire(timers.elapsed.get() + 1, |_| fired += 1);
            assert_eq!(fired, size);
            assert_eq!(kept().map(|capacity| capacity > 0), [is_kept; 3]);
        }
    }

    #[test]
    fn the_last_deadline_of_the_clock_has_a_place_for_every_grain() {
        for shift in 0..40 {
            let timers = Timers::new(1 << shift);
            let node = Node::default();
            // SAFETY: taken out below.
            unsafe { timers.insert(NonNull::from(&node), NEVER - 1, false) };
            assert!(timers.next_deadline().is_some_and(|next| next >= NEVER - 1));
            timers.fire(NEVER >> 1, |_| panic!("early"));
            // SAFETY: it is in the wheel.
            unsafe { timers.remove(NonNull::from(&node)) };
            assert!(timers.is_empty());
        }
    }
}
