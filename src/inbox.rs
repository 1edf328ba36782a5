//! What other threads hand to a loop: a lock-free stack of links, taken whole.
//!
//! A push is one compare-and-swap, without allocation. The owner takes everything in one swap and reverses
//! it, so entries of one thread come out in the order of their pushes. The push that finds the inbox empty
//! reports so, and its caller asks the platform for a turn: later pushes need not, because the owner takes
//! the inbox after it has cleared the platform's request and before it waits.
//!
//! *Closing* swaps a mark in, in the same word, so no push can come after the close and be lost: it fails.

use std::ptr::{self, NonNull};

use crate::sync::{AtomicPtr, Ordering};

/// One entry's link. Embedded in task cells and remote calls, which the tag of the entry tells apart.
#[derive(Debug)]
pub(crate) struct Link {
    next: AtomicPtr<Link>,
}

impl Link {
    pub(crate) fn new() -> Self {
        Self { next: AtomicPtr::new(ptr::null_mut()) }
    }
}

/// What a link is embedded in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Cell = 0,
    Call = 1,
}

/// The loop has closed.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Closed;

const CLOSED: *mut Link = ptr::without_provenance_mut(2);

#[derive(Debug)]
pub(crate) struct Inbox {
    head: AtomicPtr<Link>,
}

impl Inbox {
    pub(crate) fn new() -> Self {
        Self { head: AtomicPtr::new(ptr::null_mut()) }
    }

    /// Whether there is something to take. Owner only; a push meanwhile asks for a turn anyway.
    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        let head = self.head.load(Ordering::Relaxed);
        head.is_null() || head == CLOSED
    }

    /// Hands `link` over; says whether the inbox was empty.
    ///
    /// # Safety
    ///
    /// `link` is in no inbox, stays where it is until it is taken, and is aligned to at least 2 bytes.
    pub(crate) unsafe fn push(&self, link: NonNull<Link>, kind: Kind) -> Result<bool, Closed> {
        let entry = link.as_ptr().map_addr(|address| address | kind as usize);
        let mut head = self.head.load(Ordering::Relaxed);
        loop {
            if head == CLOSED {
                // Acquire: whoever is refused sees what was done before the close. It finds the mark again, as nothing follows it.
                self.head.load(Ordering::Acquire);
                return Err(Closed);
            }
            // SAFETY: the caller owns the link until the exchange succeeds.
            unsafe { link.as_ref() }.next.store(head, Ordering::Relaxed);
            // Release: the owner sees the entry's contents. Acquire is not needed: nothing of the old head is read.
            match self.head.compare_exchange_weak(head, entry, Ordering::Release, Ordering::Relaxed) {
                Ok(_) => return Ok(head.is_null()),
                Err(now) => head = now,
            }
        }
    }

    /// Everything pushed so far, oldest first. Owner only.
    pub(crate) fn take(&self) -> Taken {
        if self.is_empty() {
            return Taken { next: ptr::null_mut() };
        }
        Taken::reversed(self.head.swap(ptr::null_mut(), Ordering::Acquire))
    }

    /// Refuses every push from now on; returns what was there. Owner only, idempotent.
    pub(crate) fn close(&self) -> Taken {
        let head = self.head.swap(CLOSED, Ordering::AcqRel);
        Taken::reversed(if head == CLOSED { ptr::null_mut() } else { head })
    }
}

/// Entries taken out of an inbox. The next link is read before an entry is handed out.
#[derive(Debug)]
pub(crate) struct Taken {
    next: *mut Link,
}

fn split(entry: *mut Link) -> Option<(NonNull<Link>, Kind)> {
    let kind = if entry.addr() & 1 == 0 { Kind::Cell } else { Kind::Call };
    NonNull::new(entry.map_addr(|address| address & !1)).map(|link| (link, kind))
}

impl Default for Taken {
    fn default() -> Self {
        Self { next: ptr::null_mut() }
    }
}

impl Taken {
    fn reversed(mut entry: *mut Link) -> Self {
        let mut reversed = ptr::null_mut();
        while let Some((link, _)) = split(entry) {
            // SAFETY: entries of a taken list are ours until they are handed out.
            let next = unsafe { &link.as_ref().next };
            let following = next.load(Ordering::Relaxed);
            next.store(reversed, Ordering::Relaxed);
            reversed = entry;
            entry = following;
        }
        Self { next: reversed }
    }
}

impl Iterator for Taken {
    type Item = (NonNull<Link>, Kind);

    fn next(&mut self) -> Option<Self::Item> {
        let (link, kind) = split(self.next)?;
        // SAFETY: not yet handed out.
        self.next = unsafe { link.as_ref() }.next.load(Ordering::Relaxed);
        Some((link, kind))
    }
}

/// Run by `RUSTFLAGS="--cfg selkie_loom" cargo test -p selkie --lib --release loom`.
#[cfg(all(selkie_loom, test))]
mod loom_models {
    use std::{ptr::NonNull, sync::Arc};

    use ::loom::{
        sync::atomic::{AtomicBool, Ordering},
        thread,
    };

    use super::{Inbox, Kind, Link, Taken};

    struct Shared {
        inbox: Inbox,
        links: [Link; 3],
        /// What the platform is asked for on the edge.
        pended: AtomicBool,
    }

    impl Shared {
        fn new() -> Arc<Self> {
            Arc::new(Self {
                inbox: Inbox::new(),
                links: [Link::new(), Link::new(), Link::new()],
                pended: AtomicBool::new(false),
            })
        }

        /// Whether the push went in.
        fn push(&self, index: usize) -> bool {
            let kind = if index == 1 { Kind::Call } else { Kind::Cell };
            // SAFETY: the link outlives the model and is pushed once.
            match unsafe { self.inbox.push(NonNull::from(&self.links[index]), kind) } {
                Ok(was_empty) => {
                    if was_empty {
                        self.pended.swap(true, Ordering::AcqRel);
                    }
                    true
                }
                Err(_) => false,
            }
        }

        fn indices(&self, taken: Taken, into: &mut Vec<usize>) {
            into.extend(taken.map(|(link, kind)| {
                let index = self.links.iter().position(|l| NonNull::from(l) == link).expect("one of ours");
                assert_eq!(kind, if index == 1 { Kind::Call } else { Kind::Cell });
                index
            }));
        }
    }

    #[test]
    fn pushes_of_two_threads_come_once_in_order_and_with_a_turn() {
        ::loom::model(|| {
            let shared = Shared::new();
            let threads = [&[0, 1][..], &[2]].map(|indices| {
                let shared = shared.clone();
                thread::spawn(move || indices.iter().all(|&index| shared.push(index)))
            });
            let mut seen = Vec::new();
            if shared.pended.swap(false, Ordering::AcqRel) {
                shared.indices(shared.inbox.take(), &mut seen);
            }
            for thread in threads {
                assert!(thread.join().unwrap());
            }
            // What is still there has asked for a turn that has not begun.
            assert!(shared.inbox.is_empty() || shared.pended.load(Ordering::Acquire));
            shared.indices(shared.inbox.take(), &mut seen);
            let place = |index| seen.iter().position(|&i| i == index).expect("no push is lost");
            assert_eq!(seen.len(), 3);
            assert!(place(0) < place(1), "the order of one thread");
        });
    }

    #[test]
    fn a_push_beside_the_close_fails_or_is_returned() {
        ::loom::model(|| {
            let shared = Shared::new();
            let threads = [0, 2].map(|index| {
                let shared = shared.clone();
                thread::spawn(move || shared.push(index))
            });
            let mut seen = Vec::new();
            shared.indices(shared.inbox.take(), &mut seen);
            shared.indices(shared.inbox.close(), &mut seen);
            let accepted = threads.map(|thread| thread.join().unwrap());
            seen.sort_unstable();
            let expected: Vec<_> = [0, 2].into_iter().zip(accepted).filter(|p| p.1).map(|p| p.0).collect();
            assert_eq!(seen, expected);
            assert!(!shared.push(1), "closed for good");
            assert!(shared.inbox.is_empty());
        });
    }
}
