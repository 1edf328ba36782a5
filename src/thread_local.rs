//! Values that each thread has its own of.

use std::{
    any::Any,
    cell::RefCell,
    collections::{BTreeSet, HashMap},
    error::Error,
    fmt,
    marker::PhantomData,
    rc::Rc,
    sync::atomic::{AtomicU64, Ordering},
};

use crate::os;

/// A value that each thread has one of, empty at first in each.
///
/// Mirrors [`threading.local`](https://docs.python.org/3/library/threading.html#thread-local-data): unlike a `thread_local!` it can
/// be part of a value that threads share. What a thread has set is dropped when the thread ends, or with the `ThreadLocal` if that
/// is dropped in this thread.
///
/// **Difference**: a value whose `ThreadLocal` is dropped in another thread stays where it is. Its own thread drops it in a call that
/// sets a value, of any `ThreadLocal`, and leaves the thread with at least 32 values and with twice as many as the last such look
/// has left; at the latest when the thread ends. A thread that is ending keeps nothing that is set.
///
/// Tasks of one loop share it, as they share a thread; [`ContextVar`](crate::ContextVar) is theirs alone, and
/// [`LoopLocal`](crate::LoopLocal) is their loop's, where several loops share a thread.
///
/// # Platform-specific
///
/// - **Web:** the end of a thread drops no values, and a thread that comes up in the Worker of an earlier one finds those as they were.
///
/// # Examples
///
/// One connection per thread, under one shared object:
///
/// ```
/// use selkie::ThreadLocal;
///
/// struct Connections {
///     current: ThreadLocal<String>,
/// }
///
/// let connections = Connections { current: ThreadLocal::new() };
/// let open = connections.current.scope(|| "connected".to_owned())?;
/// assert_eq!(*open, "connected");
/// assert!(connections.current.scope(|| "again".to_owned()).is_err());
/// drop(open); // closes it
/// assert!(connections.current.get().is_none());
/// # Ok::<(), selkie::AlreadySet>(())
/// ```
pub struct ThreadLocal<T> {
    key: AtomicU64,
    marker: PhantomData<fn() -> T>,
}

thread_local! {
    static VALUES: RefCell<Values> = RefCell::default();
}

/// What a thread has set, by key.
#[derive(Default)]
struct Values {
    map: HashMap<u64, Rc<dyn Any>>,
    /// How many the last sweep has left.
    swept: usize,
}

impl Values {
    /// The values whose `ThreadLocal` was dropped in another thread, for the caller to drop. Looks for them only when there are
    /// twice as many values as the last look has left, so that a call costs the same on average.
    ///
    /// A list: if the drop of one panics, that of a map would leave out the others.
    fn sweep(&mut self) -> Vec<Rc<dyn Any>> {
        let mut gone = Vec::new();
        if self.map.len() < 2 * self.swept.max(16) {
            return gone;
        }
        let keys = os::lock(&KEYS);
        self.map.retain(|key, value| {
            let kept = keys.contains(key);
            if !kept {
                gone.push(value.clone());
            }
            kept
        });
        drop(keys);
        self.swept = self.map.len();
        gone
    }
}

/// The keys of all that may have values somewhere.
#[expect(clippy::disallowed_types, reason = "taken by `os::lock` only")]
static KEYS: std::sync::Mutex<BTreeSet<u64>> = std::sync::Mutex::new(BTreeSet::new());

impl<T: 'static> ThreadLocal<T> {
    /// Empty in every thread.
    #[allow(clippy::new_without_default)]
    pub const fn new() -> Self {
        Self { key: AtomicU64::new(0), marker: PhantomData }
    }

    fn key(&self) -> u64 {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        // Acquire: whoever has the key finds it in `KEYS`.
        let key = self.key.load(Ordering::Acquire);
        if key != 0 {
            return key;
        }
        let new = NEXT.fetch_add(1, Ordering::Relaxed);
        // Before another thread can have it, and sweep.
        os::lock(&KEYS).insert(new);
        match self.key.compare_exchange(0, new, Ordering::AcqRel, Ordering::Acquire) {
            Ok(_) => new,
            Err(other) => {
                os::lock(&KEYS).remove(&new);
                other
            }
        }
    }

    fn replace(&self, value: Option<Rc<T>>) -> Option<Rc<T>> {
        let key = self.key();
        // What is dropped here may come back: not while the map is borrowed. A thread that ends has no values any more.
        let old = VALUES.try_with(|values| {
            let values = &mut *values.borrow_mut();
            match value {
                Some(value) => (values.map.insert(key, value), values.sweep()),
                None => (values.map.remove(&key), Vec::new()),
            }
        });
        let (old, gone) = old.ok()?;
        drop(gone);
        old?.downcast().ok()
    }

    /// This thread's value.
    pub fn get(&self) -> Option<Rc<T>> {
        let key = self.key();
        VALUES.try_with(|values| values.borrow().map.get(&key).cloned()).ok().flatten()?.downcast().ok()
    }

    /// This thread's value, made by `make` if there is none.
    ///
    /// # Panics
    ///
    /// If `make` sets the value itself, which stays.
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

    /// Sets this thread's value; returns the old one.
    pub fn set(&self, value: T) -> Option<Rc<T>> {
        self.replace(Some(Rc::new(value)))
    }

    /// Takes this thread's value away; returns it.
    pub fn clear(&self) -> Option<Rc<T>> {
        self.replace(None)
    }

    /// Makes this thread's value, and drops it with the returned guard.
    ///
    /// # Errors
    ///
    /// [`AlreadySet`] if this thread has one; `make` is not called. Also if `make` sets one itself, which stays; what `make` returned
    /// is dropped.
    pub fn scope(&self, make: impl FnOnce() -> T) -> Result<ThreadScope<'_, T>, AlreadySet> {
        if self.get().is_some() {
            return Err(AlreadySet);
        }
        let value = Rc::new(make());
        if self.get().is_some() {
            return Err(AlreadySet);
        }
        self.replace(Some(value.clone()));
        Ok(ThreadScope { local: self, value })
    }
}

impl<T> Drop for ThreadLocal<T> {
    fn drop(&mut self) {
        let key = *self.key.get_mut();
        if key == 0 {
            return;
        }
        os::lock(&KEYS).remove(&key);
        // As in `replace`.
        let old = VALUES.try_with(|values| values.borrow_mut().map.remove(&key));
        drop(old);
    }
}

impl<T: fmt::Debug + 'static> fmt::Debug for ThreadLocal<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ThreadLocal").field(&self.get()).finish()
    }
}

/// A thread's value for as long as this lives; from [`ThreadLocal::scope`]. Stays on its thread.
#[must_use = "the value goes when the guard is dropped"]
pub struct ThreadScope<'a, T: 'static> {
    local: &'a ThreadLocal<T>,
    value: Rc<T>,
}

impl<T> std::ops::Deref for ThreadScope<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

impl<T> Drop for ThreadScope<'_, T> {
    fn drop(&mut self) {
        // Unless somebody has set another one since.
        if self.local.get().is_some_and(|value| Rc::ptr_eq(&value, &self.value)) {
            self.local.clear();
        }
    }
}

impl<T: fmt::Debug> fmt::Debug for ThreadScope<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.value, f)
    }
}

/// This thread, or this loop, has a value already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AlreadySet;

impl fmt::Display for AlreadySet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("there is a value here already: drop its guard first")
    }
}

impl Error for AlreadySet {}
