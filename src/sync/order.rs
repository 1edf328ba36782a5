//! Who holds which lock, who wants which, and in which orders locks were ever taken: in debug builds only.
//!
//! Whoever asks for a lock while holding others adds an edge from each of those to the wanted one. A circle of edges means that
//! some order of events makes tasks wait for each other, even if it has not come yet: it is reported once, when its last edge
//! is added. A lock that was held at two edges of a circle (a gate) lets one of the two tasks in at a time, and there is no danger.
//!
//! All of it is one state of the process behind a spinning lock, as guards may be dropped in other threads. Unlike the lists of
//! waiters it allocates under that lock, but still runs nothing of users. It is bounded: what a lock has left in it goes when the
//! lock is dropped, and it takes no more than [`MOST_EDGES`]. A release build has the empty twin of this file.

use std::{
    collections::{BTreeMap, BTreeSet, btree_map::Entry},
    fmt,
    panic::Location,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use super::{
    rlock::me,
    waiters::{Guarded, Shared},
};
use crate::scheduler;

/// Edges that are remembered at a time; beyond, orders that were not seen yet are not looked at.
const MOST_EDGES: usize = 10_000;

/// Edges that one search for a circle looks at, each time it comes to them.
const MOST_STEPS: usize = 20_000;

static ORDERS: Guarded<Orders, Shared> = Guarded::shared(Orders::new());

/// Where somebody has asked for a lock.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Site(&'static Location<'static>);

impl Site {
    #[track_caller]
    pub(crate) fn here() -> Self {
        Self(Location::caller())
    }
}

impl fmt::Display for Site {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The number of a lock, in its state.
#[derive(Debug)]
pub(crate) struct Mark(u64);

impl Mark {
    pub(crate) const NEW: Self = Self(0);

    /// Never 0.
    pub(crate) fn number(&mut self) -> u64 {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        if self.0 == 0 {
            self.0 = NEXT.fetch_add(1, Ordering::Relaxed);
        }
        self.0
    }
}

impl Drop for Mark {
    fn drop(&mut self) {
        if self.0 != 0 {
            let gone = ORDERS.look(|orders| orders.forget(self.0));
            drop(gone);
        }
    }
}

/// How a lock is taken.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Hold {
    /// By a guard that stays with its task.
    Scoped,
    /// Somebody else may release it, so what the task takes next says nothing of an order.
    Loose,
}

/// Somebody who asks for a lock: since this was made, until it is dropped or the lock was [taken](Self::taken).
#[derive(Debug)]
pub(crate) struct Wish {
    owner: u64,
    lock: u64,
    name: &'static str,
    site: Site,
    hold: Hold,
}

impl Wish {
    /// Reports if this order of locks and another one that was seen could make tasks wait for each other. A lock that is one's
    /// own already is 0: nobody waits for it, so it says nothing of an order.
    pub(crate) fn new(lock: impl FnOnce() -> u64, name: &'static str, site: Site, hold: Hold) -> Self {
        let this = Self { owner: me(), lock: lock(), name, site, hold };
        if this.lock == 0 {
            return this;
        }
        if ORDERS.look(|orders| orders.wish(&this)) {
            let who = who();
            if let Some(circle) = ORDERS.look(|orders| orders.learn(&this, &who)) {
                report(&circle.to_string());
            }
        }
        this
    }

    pub(crate) fn taken(self) {
        if self.lock == 0 {
            return;
        }
        // The future may have moved to another task since it began to wait.
        let owner = me();
        ORDERS.look(|orders| {
            let holding = Holding { owner, name: self.name, site: self.site, hold: self.hold };
            orders.held.insert(self.lock, holding);
            orders.by_owner.insert((owner, self.lock));
        });
    }
}

impl Drop for Wish {
    fn drop(&mut self) {
        ORDERS.look(|orders| orders.wish_ends(self));
    }
}

/// A lock that was free was taken without waiting: there was nothing to ask for.
pub(crate) fn taken_at_once(lock: impl FnOnce() -> u64, name: &'static str, site: Site) {
    let (owner, lock) = (me(), lock());
    ORDERS.look(|orders| {
        orders.held.insert(lock, Holding { owner, name, site, hold: Hold::Scoped });
        orders.by_owner.insert((owner, lock));
    });
}

/// To be called before the lock is released: whoever has it next says so at once.
pub(crate) fn released(lock: impl FnOnce() -> u64) {
    let lock = lock();
    ORDERS.look(|orders| orders.release(lock));
}

/// What somebody waits for, for the simulator's report of a deadlock.
pub(crate) struct Wanted {
    /// `"name" (asked for at .., taken at ..)`.
    pub(crate) text: String,
    /// As [`me`] numbers them.
    pub(crate) holder: u64,
}

/// The locks that `owner` waits for and others, or itself, hold.
pub(crate) fn wanted_by(owner: u64) -> Vec<Wanted> {
    ORDERS.look(|orders| {
        let wishes = orders.wishes.range((owner, 0)..=(owner, u64::MAX));
        wishes
            .filter_map(|(&(_, lock), wish)| {
                let holding = orders.held.get(&lock)?;
                let text =
                    format!("\"{}\" (asked for at {}, taken at {})", wish.name, wish.site, holding.site);
                Some(Wanted { text, holder: holding.owner })
            })
            .collect()
    })
}

fn who() -> Arc<str> {
    match scheduler::running().filter(|task| task.is_task()) {
        Some(task) => task.name(),
        None => "code outside of tasks".into(),
    }
}

fn report(message: &str) {
    let reported = scheduler::with_current(|scheduler| match scheduler::running() {
        Some(task) => scheduler.report(message, Some(&task)),
        None => scheduler.report(message, None),
    });
    if reported.is_none() {
        crate::os::report(&format!("selkie: {message}"));
    }
}

struct Orders {
    held: BTreeMap<u64, Holding>,
    by_owner: BTreeSet<(u64, u64)>,
    wishes: BTreeMap<(u64, u64), Wanting>,
    nodes: BTreeMap<u64, Node>,
    edges: usize,
}

struct Holding {
    owner: u64,
    name: &'static str,
    site: Site,
    hold: Hold,
}

struct Wanting {
    name: &'static str,
    site: Site,
    /// A task may ask in several futures at once.
    times: usize,
}

/// A lock that was taken while others were held, or the other way round.
struct Node {
    name: &'static str,
    /// By the lock that was wanted while this one was held.
    out: BTreeMap<u64, Edge>,
    into: BTreeSet<u64>,
}

#[derive(Clone)]
struct Edge {
    who: Arc<str>,
    held_since: Site,
    wanted_at: Site,
    /// What else was held each time.
    gates: BTreeSet<u64>,
}

/// Locks in the order in which they lead back to the first, each with the edge to the next.
struct Circle(Vec<(&'static str, Edge)>);

impl Orders {
    const fn new() -> Self {
        Self {
            held: BTreeMap::new(),
            by_owner: BTreeSet::new(),
            wishes: BTreeMap::new(),
            nodes: BTreeMap::new(),
            edges: 0,
        }
    }

    /// The locks whose order before the next one counts.
    fn scoped(&self, owner: u64) -> impl Iterator<Item = (u64, &Holding)> {
        self.by_owner
            .range((owner, 0)..=(owner, u64::MAX))
            .filter_map(|&(_, lock)| Some((lock, self.held.get(&lock)?)))
            .filter(|(_, holding)| holding.hold == Hold::Scoped)
    }

    /// Notes the wish; whether there may be something to [`learn`](Self::learn) from it.
    fn wish(&mut self, wish: &Wish) -> bool {
        let wanting = Wanting { name: wish.name, site: wish.site, times: 0 };
        self.wishes.entry((wish.owner, wish.lock)).or_insert(wanting).times += 1;
        let is_known = self.nodes.get(&wish.lock).is_some_and(|node| !node.into.is_empty());
        // Where there is no room for its edges, whoever holds many locks is not looked through for each.
        (is_known || self.edges < MOST_EDGES)
            && self.scoped(wish.owner).any(|(held, _)| {
                let edge = self.nodes.get(&held).and_then(|node| node.out.get(&wish.lock));
                held != wish.lock && edge.is_none_or(|edge| !edge.gates.is_empty())
            })
    }

    fn wish_ends(&mut self, wish: &Wish) {
        if let Entry::Occupied(mut wanting) = self.wishes.entry((wish.owner, wish.lock)) {
            wanting.get_mut().times -= 1;
            if wanting.get().times == 0 {
                wanting.remove();
            }
        }
    }

    /// Adds the edges to what is wanted; the first circle that they close.
    fn learn(&mut self, wish: &Wish, who: &Arc<str>) -> Option<Circle> {
        let held: Vec<_> = self
            .scoped(wish.owner)
            .filter(|(lock, _)| *lock != wish.lock)
            .map(|(lock, held)| (lock, held.name, held.site))
            .collect();
        let all: BTreeSet<u64> = held.iter().map(|(lock, ..)| *lock).collect();
        let mut behind = None;
        let mut found = None;
        for (from, name, held_since) in held {
            if self.add((from, name, held_since), wish, &all, who) && found.is_none() {
                // Where locks are always taken in one order this is the whole search.
                let behind = behind.get_or_insert_with(|| self.behind(wish.lock));
                if behind.contains(&from) {
                    found = self.circle(from, wish.lock);
                }
            }
        }
        found
    }

    /// The locks that edges lead to from `lock`, whatever was held beside. Edges to `lock` change nothing of it.
    fn behind(&self, lock: u64) -> BTreeSet<u64> {
        let mut behind = BTreeSet::new();
        let mut open = vec![lock];
        while let Some(lock) = open.pop() {
            let next = self.nodes.get(&lock).into_iter().flat_map(|node| node.out.keys());
            open.extend(next.filter(|next| behind.insert(**next)));
        }
        behind
    }

    /// Whether the edge from `held` says something that was not known. `all` is what is held, so the others are its gates: a set
    /// of them is made for new edges only, of which there are not many.
    fn add(
        &mut self,
        (from, name, held_since): (u64, &'static str, Site),
        wish: &Wish,
        all: &BTreeSet<u64>,
        who: &Arc<str>,
    ) -> bool {
        if let Some(known) = self.nodes.get_mut(&from).and_then(|node| node.out.get_mut(&wish.lock)) {
            let before = known.gates.len();
            known.gates.retain(|gate| all.contains(gate));
            return known.gates.len() < before;
        }
        if self.edges >= MOST_EDGES {
            return false;
        }
        self.edges += 1;
        let gates = all.iter().copied().filter(|gate| *gate != from).collect();
        let edge = Edge { who: who.clone(), held_since, wanted_at: wish.site, gates };
        let node = |name| Node { name, out: BTreeMap::new(), into: BTreeSet::new() };
        self.nodes.entry(from).or_insert_with(|| node(name)).out.insert(wish.lock, edge);
        self.nodes.entry(wish.lock).or_insert_with(|| node(wish.name)).into.insert(from);
        true
    }

    /// A way back from `to` to `from` on which nothing keeps the tasks apart, with the edge between the two in front.
    ///
    /// Ways with few gates first: whatever can be reached on one that has more can be reached on one that has a part of them.
    fn circle(&self, from: u64, to: u64) -> Option<Circle> {
        let edge = self.nodes.get(&from)?.out.get(&to)?;
        let mut seen: BTreeMap<u64, Vec<BTreeSet<u64>>> = BTreeMap::new();
        let mut open = BTreeMap::from([((edge.gates.len(), 2, 0), (edge.gates.clone(), vec![from, to]))]);
        let mut steps = 0;
        while let Some((_, (gates, path))) = open.pop_first() {
            let lock = *path.last()?;
            let ways = seen.entry(lock).or_default();
            if ways.iter().any(|way| way.is_subset(&gates)) {
                continue;
            }
            for (&next, edge) in self.nodes.get(&lock).iter().flat_map(|node| &node.out) {
                steps += 1;
                if steps > MOST_STEPS {
                    return None;
                }
                // Two of the tasks cannot be inside at the same time.
                if !gates.is_disjoint(&edge.gates) {
                    continue;
                }
                if next == from {
                    return Some(self.describe(&path));
                }
                let gates = &gates | &edge.gates;
                let path: Vec<_> = path.iter().copied().chain([next]).collect();
                open.insert((gates.len(), path.len(), steps), (gates, path));
            }
            ways.push(gates);
        }
        None
    }

    fn describe(&self, path: &[u64]) -> Circle {
        let next = path.iter().cycle().skip(1);
        let edges = path.iter().zip(next).filter_map(|(lock, next)| {
            let node = self.nodes.get(lock)?;
            Some((node.name, node.out.get(next)?.clone()))
        });
        Circle(edges.collect())
    }

    fn release(&mut self, lock: u64) {
        if let Some(holding) = self.held.remove(&lock) {
            self.by_owner.remove(&(holding.owner, lock));
        }
    }

    /// The lock is no more. What it has left is for the caller to drop.
    fn forget(&mut self, lock: u64) -> Option<Node> {
        // A guard may have been forgotten.
        self.release(lock);
        let node = self.nodes.remove(&lock)?;
        for to in node.out.keys() {
            if let Some(other) = self.nodes.get_mut(to) {
                other.into.remove(&lock);
            }
        }
        self.edges -= node.out.len();
        for from in &node.into {
            if let Some(other) = self.nodes.get_mut(from) {
                self.edges -= usize::from(other.out.remove(&lock).is_some());
            }
        }
        Some(node)
    }
}

impl fmt::Display for Circle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("potential deadlock: locks were asked for in orders that can wait for each other:")?;
        for (index, (name, edge)) in self.0.iter().enumerate() {
            let next = self.0[(index + 1) % self.0.len()].0;
            let Edge { who, held_since, wanted_at, .. } = edge;
            let joint = if index == 0 { ' ' } else { ';' };
            let space = if index == 0 { "" } else { " " };
            write!(
                f,
                "{joint}{space}{who} asked for \"{next}\" at {wanted_at} while it held \"{name}\", taken at {held_since}"
            )?;
        }
        f.write_str(". Take them in one order everywhere, or together by `lock_all`")
    }
}

#[cfg(test)]
mod tests {
    use std::{
        pin::pin,
        task::{Context, Poll, Waker},
    };

    use super::*;
    use crate::{Lock, lock_all};

    fn edges() -> usize {
        ORDERS.look(|orders| orders.edges)
    }

    /// One test, as the graph belongs to the process.
    #[test]
    fn what_a_lock_leaves_goes_with_the_lock() {
        let before = edges();
        let keep = Lock::new(());
        for _ in 0..100 {
            let [a, b] = [Lock::new(()), Lock::new(())];
            let outer = a.lock_blocking(None).unwrap();
            let inner = b.lock_blocking(None).unwrap();
            drop(keep.lock_blocking(None).unwrap());
            assert_eq!(edges(), before + 3);
            drop((inner, outer));
        }
        assert_eq!(edges(), before);
        // A guard that was forgotten holds its lock as long as there is one.
        let lost = Lock::new(());
        std::mem::forget(lost.lock_blocking(None).unwrap());
        let me = me();
        assert_eq!(ORDERS.look(|orders| orders.scoped(me).count()), 1);
        drop(lost);
        assert_eq!(ORDERS.look(|orders| orders.scoped(me).count()), 0);
        // It takes no more than so much, and no more time for each lock than for the first ones.
        let count = if cfg!(miri) { 10 } else { 20_000 };
        let many: Vec<_> = (0..count).map(|_| Lock::new(())).collect();
        let guards = {
            let all = pin!(lock_all(many.iter().collect::<Vec<_>>()));
            let Poll::Ready(guards) = all.poll(&mut Context::from_waker(Waker::noop())) else {
                panic!("all are free");
            };
            guards
        };
        assert_eq!(edges(), MOST_EDGES.min(before + count * (count - 1) / 2));
        drop(guards);
        drop(many);
        assert_eq!(edges(), before);
    }
}
