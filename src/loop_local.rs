//! Values that each loop has its own of.

use std::{
    any::Any,
    cell::RefCell,
    fmt,
    marker::PhantomData,
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use crate::{
    AlreadySet,
    scheduler::{Scheduler, with_current},
};

/// A value that each loop has one of, empty at first in each. It need not be `Send`.
///
/// All tasks and callbacks of a loop share it: a cache, a connection, a registry of what runs there. The loop that runs counts, so
/// two loops of one thread have one each, unlike with [`ThreadLocal`](crate::ThreadLocal). What is a task's alone, and goes along to
/// other threads, is a [`ContextVar`](crate::ContextVar).
///
/// The value is dropped when its loop closes, on the loop's thread and after its tasks; what is set from then on is not kept. Meant for a `static`; **Difference**: dropping the `LoopLocal`
/// itself leaves the values to their loops.
///
/// # Examples
///
/// ```
/// use selkie::LoopLocal;
/// use std::cell::Cell;
///
/// static VISITS: LoopLocal<Cell<u32>> = LoopLocal::new();
///
/// async fn visit() -> u32 {
///     let visits = VISITS.get_or_init(|| Cell::new(0));
///     visits.set(visits.get() + 1);
///     visits.get()
/// }
///
/// selkie::run(async {
///     visit().await;
///     assert_eq!(selkie::spawn(visit()).await.unwrap(), 2);
/// });
/// assert_eq!(selkie::run(visit()), 1); // another loop
/// ```
pub struct LoopLocal<T> {
    key: AtomicU64,
    marker: PhantomData<fn() -> T>,
}

/// The values of a loop, in the order of their keys. `None` once the loop has closed.
pub(crate) struct Locals(RefCell<Option<Vec<(u64, Rc<dyn Any>)>>>);

impl Locals {
    pub(crate) fn new() -> Self {
        Self(RefCell::new(Some(Vec::new())))
    }

    fn get(&self, key: u64) -> Option<Rc<dyn Any>> {
        let values = self.0.borrow();
        let values = values.as_ref()?;
        let place = values.binary_search_by_key(&key, |value| value.0).ok()?;
        Some(values[place].1.clone())
    }

    /// The old value, which is for the caller to drop.
    pub(crate) fn set(&self, key: u64, value: Option<Rc<dyn Any>>) -> Option<Rc<dyn Any>> {
        // On a closed loop the value is dropped, after the borrow, which was made later.
        let mut values = self.0.borrow_mut();
        let values = values.as_mut()?;
        match (values.binary_search_by_key(&key, |value| value.0), value) {
            (Ok(place), Some(value)) => Some(std::mem::replace(&mut values[place].1, value)),
            (Ok(place), None) => Some(values.remove(place).1),
            (Err(place), Some(value)) => {
                values.insert(place, (key, value));
                None
            }
            (Err(_), None) => None,
        }
    }

    /// All values, for the caller to drop; none are taken in any more. `None` if this was called before.
    pub(crate) fn close(&self) -> Option<Vec<(u64, Rc<dyn Any>)>> {
        self.0.take()
    }
}

impl<T: 'static> LoopLocal<T> {
    /// Empty in every loop.
    #[allow(clippy::new_without_default)]
    pub const fn new() -> Self {
        Self { key: AtomicU64::new(0), marker: PhantomData }
    }

    fn key(&self) -> u64 {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let key = self.key.load(Ordering::Relaxed);
        if key != 0 {
            return key;
        }
        let new = NEXT.fetch_add(1, Ordering::Relaxed);
        match self.key.compare_exchange(0, new, Ordering::Relaxed, Ordering::Relaxed) {
            Ok(_) => new,
            Err(other) => other,
        }
    }

    /// The running loop's value. `None` also where no loop runs.
    pub fn get(&self) -> Option<Rc<T>> {
        let key = self.key();
        with_current(|scheduler| scheduler.locals.get(key)).flatten()?.downcast().ok()
    }

    /// The running loop's value, made by `make` if there is none.
    ///
    /// # Panics
    ///
    /// Where no loop runs, and if `make` sets the value itself, which stays.
    #[track_caller]
    pub fn get_or_init(&self, make: impl FnOnce() -> T) -> Rc<T> {
        if let Some(value) = self.get() {
            return value;
        }
        let value = Rc::new(make());
        assert!(self.get().is_none(), "`make` has set the value that it makes: let it only return the value");
        self.replace(Some(value.clone()));
        value
    }

    /// Sets the running loop's value; returns the old one.
    ///
    /// # Panics
    ///
    /// Where no loop runs.
    #[track_caller]
    pub fn set(&self, value: T) -> Option<Rc<T>> {
        self.replace(Some(Rc::new(value)))
    }

    /// Takes the running loop's value away; returns it.
    pub fn clear(&self) -> Option<Rc<T>> {
        let key = self.key();
        with_current(|scheduler| scheduler.locals.set(key, None)).flatten()?.downcast().ok()
    }

    #[track_caller]
    fn replace(&self, value: Option<Rc<T>>) -> Option<Rc<T>> {
        let key = self.key();
        let value = value.map(|value| value as Rc<dyn Any>);
        let Some(old) = with_current(|scheduler| scheduler.locals.set(key, value)) else {
            panic!("no loop runs here that could have a value: use `LoopLocal` in tasks and callbacks");
        };
        old?.downcast().ok()
    }

    /// Makes the running loop's value, and takes it away with the returned guard, wherever that is dropped, unless the loop has
    /// another one then.
    ///
    /// # Errors
    ///
    /// [`AlreadySet`] if the loop has one; `make` is not called. Also if `make` sets one itself, which stays; what `make` returned
    /// is dropped.
    ///
    /// # Panics
    ///
    /// Where no loop runs.
    #[track_caller]
    pub fn scope(&self, make: impl FnOnce() -> T) -> Result<LoopScope<'_, T>, AlreadySet> {
        if self.get().is_some() {
            return Err(AlreadySet);
        }
        let value = Rc::new(make());
        if self.get().is_some() {
            return Err(AlreadySet);
        }
        self.replace(Some(value.clone()));
        // `replace` would have panicked.
        let scheduler = with_current(Scheduler::this).expect("a loop runs");
        Ok(LoopScope { local: self, scheduler, value })
    }
}

impl<T: fmt::Debug + 'static> fmt::Debug for LoopLocal<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("LoopLocal").field(&self.get()).finish()
    }
}

/// A loop's value for as long as this lives; from [`LoopLocal::scope`]. Stays on its thread.
#[must_use = "the value goes when the guard is dropped"]
pub struct LoopScope<'a, T: 'static> {
    local: &'a LoopLocal<T>,
    /// The value's: another loop may run when this is dropped, or none.
    scheduler: Arc<Scheduler>,
    value: Rc<T>,
}

impl<T> std::ops::Deref for LoopScope<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

impl<T> Drop for LoopScope<'_, T> {
    fn drop(&mut self) {
        let (key, locals) = (self.local.key(), &self.scheduler.locals);
        let value = locals.get(key).and_then(|value| value.downcast::<T>().ok());
        if value.is_some_and(|value| Rc::ptr_eq(&value, &self.value)) {
            locals.set(key, None);
        }
    }
}

impl<T: fmt::Debug> fmt::Debug for LoopScope<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.value, f)
    }
}
