//! The remote word of a task cell: what threads other than the owner do to it. Protocol: [`state`](super::state).

use super::state::{INBOX, ONE, ORPHAN, SETTLED, WAKE, count};
use crate::sync::{AtomicU32, Ordering};

/// What the caller has to do after a step on the remote word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum After {
    Nothing,
    /// Push the cell into the inbox; on failure call [`Remote::push_failed`].
    Push,
    /// Free the cell; nothing refers to it and its loop has closed.
    Free,
}

#[derive(Debug)]
pub(super) struct Remote(AtomicU32);

impl Remote {
    #[cfg(selkie_loom)]
    pub(super) fn new() -> Self {
        Self(AtomicU32::new(0))
    }

    /// Whether no other thread has anything to do with the cell. Owner only.
    #[inline]
    pub(super) fn is_quiet(&self) -> bool {
        // Acquire: what other threads did before they dropped their references happened before the cell is freed.
        self.0.load(Ordering::Acquire) == 0
    }

    /// Makes the word of a recycled cell ready. Owner only.
    #[inline]
    pub(super) fn reset(&self) {
        self.0.store(0, Ordering::Relaxed);
    }

    /// Adds a reference. Any thread.
    pub(super) fn clone_ref(&self) {
        let old = self.0.fetch_add(ONE, Ordering::Relaxed);
        if count(old) > 1 << 26 {
            // As `Arc` does: a program that leaks so many wakers must not wrap the count.
            std::process::abort();
        }
    }

    fn step(&self, mut next: impl FnMut(u32) -> (u32, After)) -> After {
        let mut old = self.0.load(Ordering::Relaxed);
        loop {
            let (new, after) = next(old);
            match self.0.compare_exchange_weak(old, new, Ordering::AcqRel, Ordering::Relaxed) {
                Ok(_) => return after,
                Err(now) => old = now,
            }
        }
    }

    fn lowered(old: u32) -> (u32, After) {
        let new = old.wrapping_sub(ONE);
        let left = count(new);
        if old & ORPHAN != 0 {
            let last = left == 0 && new & INBOX == 0;
            (new, if last { After::Free } else { After::Nothing })
        } else if (left < 0 || (left == 0 && old & SETTLED != 0)) && old & INBOX == 0 {
            (new | INBOX, After::Push)
        } else {
            (new, After::Nothing)
        }
    }

    /// Drops a reference. Any thread but the owner during its turn.
    pub(super) fn drop_ref(&self) -> After {
        self.step(Self::lowered)
    }

    /// Asks for a poll. Any thread but the owner during its turn.
    pub(super) fn wake(&self) -> After {
        self.step(|old| {
            if old & ORPHAN != 0 {
                return (old, After::Nothing);
            }
            (old | INBOX | WAKE, if old & INBOX == 0 { After::Push } else { After::Nothing })
        })
    }

    /// [`wake`](Self::wake) and [`drop_ref`](Self::drop_ref) in one step.
    pub(super) fn wake_and_drop(&self) -> After {
        self.step(|old| {
            if old & ORPHAN != 0 {
                return Self::lowered(old);
            }
            let new = old.wrapping_sub(ONE) | INBOX | WAKE;
            (new, if old & INBOX == 0 { After::Push } else { After::Nothing })
        })
    }

    /// The push that [`After::Push`] asked for found the loop closed.
    pub(super) fn push_failed(&self) -> After {
        let old = self.0.fetch_and(!(INBOX | WAKE), Ordering::AcqRel);
        if old & ORPHAN != 0 && count(old) == 0 { After::Free } else { After::Nothing }
    }

    /// The cell was unlinked from the inbox: whether to wake it, and the references to add to the local count.
    /// Owner only.
    pub(super) fn taken(&self) -> (bool, i32) {
        let mut result = (false, 0);
        self.step(|old| {
            let below = count(old).min(0);
            result = (old & WAKE != 0, below);
            (old.wrapping_sub((below as u32).wrapping_mul(ONE)) & !(INBOX | WAKE), After::Nothing)
        });
        result
    }

    /// The local count reached `local <= 0`. On [`After::Nothing`] it has been moved here. Owner only.
    pub(super) fn settle(&self, local: i32) -> After {
        self.step(|old| {
            if local + count(old) == 0 && old & INBOX == 0 {
                return (old, After::Free);
            }
            (old.wrapping_add((local as u32).wrapping_mul(ONE)) | SETTLED, After::Nothing)
        })
    }

    /// The loop has closed: moves the whole local count here. On [`After::Free`] nobody refers to the cell. Owner only.
    pub(super) fn orphan(&self, local: i32) -> After {
        self.step(|old| {
            let new = old.wrapping_add((local as u32).wrapping_mul(ONE)) | ORPHAN;
            let free = count(new) == 0 && old & INBOX == 0;
            (new, if free { After::Free } else { After::Nothing })
        })
    }
}

/// Run by `RUSTFLAGS="--cfg selkie_loom" cargo test -p selkie --lib --release loom`.
///
/// The owner's half of the protocol is spread over `cell`; here it is in one small piece, without the loop.
#[cfg(all(selkie_loom, test))]
mod loom_models {
    use std::{
        ptr::NonNull,
        sync::{
            Arc,
            atomic::{AtomicU32 as Plain, Ordering::Relaxed},
        },
    };

    use ::loom::{cell::UnsafeCell, sync::atomic::AtomicUsize, thread};

    use super::{After, Remote};
    use crate::inbox::{Inbox, Kind, Link, Taken};

    /// A cell and its loop's inbox.
    struct Cell {
        link: Link,
        remote: Remote,
        /// Read by whoever has a reference, written when the cell is freed: loom sees a free too early.
        contents: UnsafeCell<()>,
        freed: Plain,
        inbox: Inbox,
        /// What wakers tell the task, so relaxed that only the protocol makes it visible.
        news: AtomicUsize,
    }

    // SAFETY: loom checks the accesses to `contents`.
    unsafe impl Sync for Cell {}
    // SAFETY: as above.
    unsafe impl Send for Cell {}

    impl Cell {
        fn new() -> Arc<Self> {
            Arc::new(Self {
                link: Link::new(),
                remote: Remote::new(),
                contents: UnsafeCell::new(()),
                freed: Plain::new(0),
                inbox: Inbox::new(),
                news: AtomicUsize::new(0),
            })
        }

        fn touch(&self) {
            assert_eq!(self.freed.load(Relaxed), 0, "used after it was freed");
            self.contents.with(|_| ());
        }

        fn free(&self) {
            self.contents.with_mut(|_| ());
            assert_eq!(self.freed.fetch_add(1, Relaxed), 0, "freed twice");
        }

        fn after(&self, after: After) {
            match after {
                After::Nothing => {}
                After::Push => {
                    self.touch();
                    // SAFETY: the cell outlives the model, and whoever is told to push is the only one.
                    if unsafe { self.inbox.push(NonNull::from(&self.link), Kind::Cell) }.is_err() {
                        self.after(self.remote.push_failed());
                    }
                }
                After::Free => self.free(),
            }
        }

        fn wake(&self) {
            self.touch();
            self.news.fetch_add(1, Relaxed);
            self.after(self.remote.wake());
        }

        fn wake_and_drop(&self) {
            self.touch();
            self.news.fetch_add(1, Relaxed);
            self.after(self.remote.wake_and_drop());
        }

        fn clone_ref(&self) {
            self.touch();
            self.remote.clone_ref();
        }

        fn drop_ref(&self) {
            self.touch();
            self.after(self.remote.drop_ref());
        }
    }

    /// The loop's thread: the local count and what the task has seen.
    struct Owner {
        cell: Arc<Cell>,
        local: i32,
        seen: usize,
    }

    impl Owner {
        fn drop_ref(&mut self) {
            self.local -= 1;
            if self.local > 0 {
                return;
            }
            if self.local < 0 || !self.cell.remote.is_quiet() {
                if self.cell.remote.settle(self.local) != After::Free {
                    self.local = 0;
                    return;
                }
            }
            self.cell.free();
        }

        fn taken(&mut self, entries: Taken) {
            for (link, kind) in entries {
                assert_eq!((link, kind), (NonNull::from(&self.cell.link), Kind::Cell));
                self.cell.touch();
                let (woken, moved) = self.cell.remote.taken();
                self.local += moved;
                if woken {
                    self.seen = self.cell.news.load(Relaxed);
                }
                if self.local <= 0 {
                    self.local += 1;
                    self.drop_ref();
                }
            }
        }

        fn turn(&mut self) {
            let entries = self.cell.inbox.take();
            self.taken(entries);
        }

        fn close(&mut self) {
            let entries = self.cell.inbox.close();
            self.taken(entries);
            if self.cell.freed.load(Relaxed) == 0 {
                let local = std::mem::take(&mut self.local);
                self.cell.after(self.cell.remote.orphan(local));
            }
        }
    }

    /// Runs `threads`, each with a reference that the owner counted, beside `owner`, who also has the loop's; then
    /// `end` when the threads are over.
    fn model(
        threads: &'static [fn(&Cell)],
        owner: fn(&mut Owner),
        end: impl Fn(&mut Owner) + Send + Sync + 'static,
    ) {
        let mut builder = ::loom::model::Builder::new();
        if threads.len() > 1 {
            // Three threads without a bound take minutes each.
            builder.preemption_bound = Some(3);
        }
        builder.check(move || {
            let cell = Cell::new();
            let threads: Vec<_> = threads
                .iter()
                .map(|run| {
                    let cell = cell.clone();
                    thread::spawn(move || run(&cell))
                })
                .collect();
            let mut me = Owner { cell: cell.clone(), local: 1 + threads.len() as i32, seen: 0 };
            owner(&mut me);
            for thread in threads {
                thread.join().unwrap();
            }
            end(&mut me);
            assert_eq!(cell.freed.load(Relaxed), 1, "never freed");
        });
    }

    fn saw_all(news: usize) -> impl Fn(&mut Owner) + Send + Sync {
        move |owner| {
            owner.turn();
            assert_eq!(owner.seen, news, "a wake was lost");
            owner.drop_ref();
            owner.turn();
        }
    }

    #[test]
    fn a_foreign_wake_beside_a_turn_is_not_lost() {
        fn waker(cell: &Cell) {
            cell.wake();
            cell.wake_and_drop();
        }
        model(&[waker], Owner::turn, saw_all(2));
    }

    #[test]
    fn two_foreign_wakes_beside_a_turn_are_not_lost() {
        model(&[Cell::wake_and_drop, Cell::wake_and_drop], Owner::turn, saw_all(2));
    }

    #[test]
    fn a_foreign_drop_beside_the_owners_last_drop_frees_once() {
        fn last(owner: &mut Owner) {
            owner.drop_ref();
            owner.turn();
        }
        model(&[Cell::drop_ref], last, Owner::turn);
        model(&[Cell::drop_ref, Cell::drop_ref], Owner::drop_ref, Owner::turn);
    }

    #[test]
    fn clones_in_other_threads_are_counted_wherever_they_are_dropped() {
        fn clones(cell: &Cell) {
            cell.clone_ref();
            cell.drop_ref();
            cell.drop_ref();
        }
        fn wakes_a_clone(cell: &Cell) {
            cell.clone_ref();
            cell.wake_and_drop();
            cell.drop_ref();
        }
        model(&[clones], Owner::drop_ref, Owner::turn);
        model(&[wakes_a_clone], Owner::drop_ref, Owner::turn);
        model(&[clones, Cell::drop_ref], Owner::drop_ref, Owner::turn);
    }

    #[test]
    fn a_clone_that_comes_home_is_dropped_by_the_owner() {
        /// Leaves one more reference to the owner.
        fn leaves_one(cell: &Cell) {
            cell.clone_ref();
            cell.drop_ref();
        }
        model(&[leaves_one], Owner::drop_ref, |owner| {
            owner.turn();
            owner.drop_ref();
            owner.turn();
        });
    }

    #[test]
    fn a_push_beside_the_close_frees_once() {
        fn close(owner: &mut Owner) {
            owner.drop_ref();
            owner.close();
        }
        model(&[Cell::wake_and_drop], close, |_| ());
        model(&[Cell::wake_and_drop, Cell::drop_ref], close, |_| ());
    }

    #[test]
    fn drops_beside_the_close_free_once() {
        fn close(owner: &mut Owner) {
            owner.drop_ref();
            owner.close();
        }
        fn wakes(cell: &Cell) {
            cell.wake();
            cell.drop_ref();
        }
        model(&[Cell::drop_ref], close, |_| ());
        model(&[wakes], close, |_| ());
        model(&[Cell::drop_ref, Cell::drop_ref], close, |_| ());
    }

    #[test]
    fn a_handle_that_outlives_the_close_frees_once() {
        model(&[Cell::wake_and_drop, Cell::drop_ref], Owner::close, |owner| owner.cell.drop_ref());
    }
}
