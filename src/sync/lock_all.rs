//! Taking several locks in one order, so that no two tasks wait for each other.

use std::{cell::RefCell, collections::HashMap, error::Error, fmt, future::Future, marker::PhantomData};

use super::{
    lock::{Held, Lock, place, take_in_turn, untake},
    order::{Hold, Site},
    rlock::me,
    waiters::{Guarded, Shared},
};

/// Takes several locks: all of them, in one order that is the same everywhere, whatever the order of the arguments.
///
/// Tasks that take their locks by this, one call at a time, never wait for each other in a circle. The order is that in
/// which the locks were first named to any call of this, within a call that of its arguments. While a task holds what one
/// call took it may take more by another call, but only locks that come later in the order; what does not is refused before
/// anything is taken. (Locks that were taken by [`Lock::lock`] are not refused; debug builds report an order of them that
/// could make tasks wait for each other.) The locks are released in reverse, also when the task is cancelled or panics. No
/// lock at all is fine.
///
/// Takes tuples of up to six references to locks, arrays and vectors; [`LockedAll::values`] gives what they protect, in the order of
/// the arguments.
///
/// # Errors
///
/// [`LockOrderViolation`], also if one lock is named twice, which would wait for itself.
///
/// # Cancel safety
///
/// Dropping the future releases what it has taken.
///
/// # Examples
///
/// ```
/// use selkie::{Lock, lock_all};
///
/// selkie::run(async {
///     let (from, to) = (Lock::named("from", 10), Lock::named("to", 0));
///     let mut both = lock_all((&from, &to)).await?;
///     let (from, to) = both.values();
///     *from -= 3;
///     *to += 3;
///     assert_eq!((*from, *to), (7, 3));
///     Ok::<(), selkie::LockOrderViolation>(())
/// }).unwrap();
/// ```
#[track_caller]
pub fn lock_all<L: LockSet>(locks: L) -> impl Future<Output = Result<LockedAll<L>, LockOrderViolation>> {
    lock_all_at(Site::here(), locks)
}

async fn lock_all_at<L: LockSet>(site: Site, locks: L) -> Result<LockedAll<L>, LockOrderViolation> {
    let mut order: Vec<(Place, &'static str)> = Vec::new();
    // SAFETY: `locks` borrows them.
    locks.each(&mut |raw, name| order.push((Place(place(unsafe { &*raw.0 }), raw.0), name)));
    order.sort_unstable_by_key(|(place, _)| *place);
    if let Some(twice) = order.windows(2).find(|pair| pair[0].0 == pair[1].0) {
        return Err(LockOrderViolation { held: twice[0].1, wanted: twice[1].1 });
    }
    let owner = me();
    if let Some(&(first, wanted)) = order.first() {
        let last = HELD.try_with(|held| {
            held.borrow().get(&owner).and_then(|held| held.iter().max_by_key(|(place, _)| *place).copied())
        });
        if let Some((_, held)) = last.ok().flatten().filter(|(place, _)| *place >= first) {
            return Err(LockOrderViolation { held, wanted });
        }
    }
    let mut all = LockedAll { taken: Vec::with_capacity(order.len()), owner, locks, not_send: PhantomData };
    for (place, name) in order {
        // SAFETY: `all.locks` borrows the locks for longer than this.
        take_in_turn(unsafe { &*place.1 }, name, site, Hold::Scoped).await;
        all.taken.push(place);
        let _ = HELD.try_with(|held| {
            held.borrow_mut().entry(owner).or_default().push((place, name));
        });
    }
    Ok(all)
}

thread_local! {
    /// What the tasks of this thread hold by `lock_all`: places and names.
    static HELD: RefCell<HashMap<u64, Vec<(Place, &'static str)>>> = RefCell::default();
}

/// Where a lock comes in the order. Its number says so; only once these have gone round, after four billion locks, some have the same,
/// and then the address does. An address alone is another one in each run, and so would be the order, also in a simulation.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Place(u32, *const Guarded<Held, Shared>);

/// The lock in a [`Lock`], whatever it protects.
#[doc(hidden)]
#[derive(Clone, Copy, Debug)]
pub struct Raw(*const Guarded<Held, Shared>);

/// Several locks that [`lock_all`] can take. Sealed.
pub trait LockSet: private::Sealed {
    /// References to what the locks protect.
    type Values<'v>
    where
        Self: 'v;

    #[doc(hidden)]
    fn each(&self, tell: &mut dyn FnMut(Raw, &'static str));

    /// # Safety
    ///
    /// Every lock is held, once, by the caller, for as long as the values are used.
    #[doc(hidden)]
    unsafe fn values(&self) -> Self::Values<'_>;
}

mod private {
    pub trait Sealed {}
}

macro_rules! tuples {
    ($($T:ident $n:tt),*) => {
        impl<$($T: ?Sized),*> private::Sealed for ($(&Lock<$T>,)*) {}

        impl<$($T: ?Sized),*> LockSet for ($(&Lock<$T>,)*) {
            type Values<'v> = ($(&'v mut $T,)*) where Self: 'v;

            fn each(&self, tell: &mut dyn FnMut(Raw, &'static str)) {
                let _ = &tell;
                $(tell(Raw(self.$n.raw()), self.$n.name());)*
            }

            unsafe fn values(&self) -> Self::Values<'_> {
                // SAFETY: as the caller promises.
                unsafe { ($(&mut *self.$n.value_ptr(),)*) }
            }
        }
    };
}

tuples!(A 0);
tuples!(A 0, B 1);
tuples!(A 0, B 1, C 2);
tuples!(A 0, B 1, C 2, D 3);
tuples!(A 0, B 1, C 2, D 3, E 4);
tuples!(A 0, B 1, C 2, D 3, E 4, F 5);

impl<T: ?Sized, const N: usize> private::Sealed for [&Lock<T>; N] {}

impl<T: ?Sized, const N: usize> LockSet for [&Lock<T>; N] {
    type Values<'v>
        = [&'v mut T; N]
    where
        Self: 'v;

    fn each(&self, tell: &mut dyn FnMut(Raw, &'static str)) {
        self.iter().for_each(|lock| tell(Raw(lock.raw()), lock.name()));
    }

    unsafe fn values(&self) -> Self::Values<'_> {
        // SAFETY: as the caller promises.
        self.map(|lock| unsafe { &mut *lock.value_ptr() })
    }
}

impl<T: ?Sized> private::Sealed for Vec<&Lock<T>> {}

impl<T: ?Sized> LockSet for Vec<&Lock<T>> {
    type Values<'v>
        = Vec<&'v mut T>
    where
        Self: 'v;

    fn each(&self, tell: &mut dyn FnMut(Raw, &'static str)) {
        self.iter().for_each(|lock| tell(Raw(lock.raw()), lock.name()));
    }

    unsafe fn values(&self) -> Self::Values<'_> {
        // SAFETY: as the caller promises.
        self.iter().map(|lock| unsafe { &mut *lock.value_ptr() }).collect()
    }
}

/// Several locks that are held; from [`lock_all`]. Dropping it releases them in reverse. Stays on its thread.
#[must_use = "dropping it releases the locks"]
pub struct LockedAll<L: LockSet> {
    /// In the order in which they were taken.
    taken: Vec<Place>,
    owner: u64,
    locks: L,
    not_send: PhantomData<*const ()>,
}

impl<L: LockSet> LockedAll<L> {
    /// What the locks protect, in the order in which they were named.
    pub fn values(&mut self) -> L::Values<'_> {
        // SAFETY: all are held and no lock is among them twice; the exclusive borrow of `self` lets nobody else have the values.
        unsafe { self.locks.values() }
    }
}

impl<L: LockSet> Drop for LockedAll<L> {
    fn drop(&mut self) {
        let taken = &self.taken;
        let _ = HELD.try_with(|held| {
            let mut held = held.borrow_mut();
            if let Some(list) = held.get_mut(&self.owner) {
                list.retain(|(place, _)| taken.binary_search(place).is_err());
                if list.is_empty() {
                    held.remove(&self.owner);
                }
            }
        });
        while let Some(place) = self.taken.pop() {
            // SAFETY: `locks` borrows them still.
            untake(unsafe { &*place.1 });
        }
    }
}

impl<L: LockSet> fmt::Debug for LockedAll<L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut names = Vec::new();
        self.locks.each(&mut |_, name| names.push(name));
        f.debug_tuple("LockedAll").field(&names).finish()
    }
}

/// Locks were to be taken against the order in which all are taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LockOrderViolation {
    held: &'static str,
    wanted: &'static str,
}

impl LockOrderViolation {
    /// The name of the lock that is held.
    pub fn held(&self) -> &'static str {
        self.held
    }

    /// The name of the lock that comes before it in the order, or is the same.
    pub fn wanted(&self) -> &'static str {
        self.wanted
    }
}

impl fmt::Display for LockOrderViolation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "\"{}\" must not be taken while \"{}\" is held: name both in one `lock_all`, each once",
            self.wanted, self.held
        )
    }
}

impl Error for LockOrderViolation {}
