//! Values that belong to a task and are inherited, as a copy, by the tasks it starts.
//!
//! A task's variables are one shared, immutable list; setting one makes a new list for this task alone. An empty
//! list is a null pointer in the cell, so programs that use no variable pay nothing.

use std::{
    any::Any,
    cell::Cell,
    fmt,
    marker::PhantomData,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use crate::scheduler;

#[derive(Clone, Default)]
pub(crate) struct Variables(Vec<(u64, Arc<dyn Any + Send + Sync>)>);

/// A copy of all context variables, to run other work in. Mirrors `contextvars.Context`.
///
/// Cheap to clone: one reference count. It may be sent to other threads.
#[derive(Clone, Default)]
pub struct Context(pub(crate) Option<Arc<Variables>>);

thread_local! {
    /// The context of code that runs in no task.
    static OUTSIDE: Cell<Option<Arc<Variables>>> = const { Cell::new(None) };
    /// It may have variables: this needs no destructor, so it is cheaper to ask.
    static OUTSIDE_IS_SET: Cell<bool> = const { Cell::new(false) };
}

impl Context {
    /// The context of the running task, or of this thread outside of tasks. Mirrors `contextvars.copy_context`.
    #[doc(alias = "copy_context")]
    pub fn current() -> Self {
        Self(current())
    }

    /// Runs `f` in a copy of this context. What it sets is not seen outside.
    ///
    /// Mirrors `Context.run`. **Difference**: asyncio's `run` writes into the context it is called on; here
    /// a context is a value, and two threads can use it at once.
    pub fn run<R>(&self, f: impl FnOnce() -> R) -> R {
        struct Restore(Option<Arc<Variables>>);
        impl Drop for Restore {
            fn drop(&mut self) {
                replace(self.0.take());
            }
        }
        let restore = Restore(replace(self.0.clone()));
        let result = f();
        drop(restore);
        result
    }
}

impl fmt::Debug for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Context").field("variables", &self.0.as_ref().map_or(0, |v| v.0.len())).finish()
    }
}

#[inline]
pub(crate) fn current() -> Option<Arc<Variables>> {
    match scheduler::running() {
        Some(task) => task.context(),
        None => outside(),
    }
}

#[cold]
pub(crate) fn outside() -> Option<Arc<Variables>> {
    if !OUTSIDE_IS_SET.get() {
        return None;
    }
    let copy = |outside: &Cell<Option<Arc<Variables>>>| {
        let variables = outside.take();
        outside.set(variables.clone());
        variables
    };
    OUTSIDE.try_with(copy).unwrap_or_default()
}

fn replace(new: Option<Arc<Variables>>) -> Option<Arc<Variables>> {
    match scheduler::running() {
        Some(task) => {
            let old = task.context();
            task.set_context(new);
            old
        }
        None => put_outside(new),
    }
}

/// Answers those that were in force.
pub(crate) fn put_outside(new: Option<Arc<Variables>>) -> Option<Arc<Variables>> {
    OUTSIDE_IS_SET.set(new.is_some());
    OUTSIDE.try_with(|outside| outside.replace(new)).unwrap_or_default()
}

/// Exchanges the variables that are in force with those of `context`: before code that a thread polls, often and in many contexts,
/// and again after it.
#[inline]
pub(crate) fn exchange(context: &mut Context) {
    // Mostly there are none.
    if context.0.is_some() || !is_empty() {
        context.0 = replace(context.0.take());
    }
}

/// Whether there are no variables, where that is cheap to say.
#[inline]
fn is_empty() -> bool {
    scheduler::current_scheduler().is_null() && !OUTSIDE_IS_SET.get()
}

/// A value that each task has its own of. Mirrors `contextvars.ContextVar`.
///
/// A task that is spawned starts with a copy of the variables of the one that spawned it; what either sets
/// afterwards the other does not see. Callbacks of `call_soon` and `on_done` run with a copy made at registration.
///
/// ```
/// use selkie::ContextVar;
///
/// static REQUEST: ContextVar<u32> = ContextVar::new();
///
/// selkie::run(async {
///     REQUEST.set(7);
///     let child = selkie::spawn(async {
///         let inherited = REQUEST.get();
///         REQUEST.set(8);
///         inherited
///     });
///     assert_eq!(child.await.unwrap(), Some(7));
///     assert_eq!(REQUEST.get(), Some(7));
/// });
/// ```
pub struct ContextVar<T> {
    key: AtomicU64,
    marker: PhantomData<fn() -> T>,
}

static NEXT_KEY: AtomicU64 = AtomicU64::new(1);

impl<T: Clone + Send + Sync + 'static> ContextVar<T> {
    /// A variable without a value; meant for a `static`.
    #[allow(clippy::new_without_default)]
    pub const fn new() -> Self {
        Self { key: AtomicU64::new(0), marker: PhantomData }
    }

    fn key(&self) -> u64 {
        let key = self.key.load(Ordering::Relaxed);
        if key != 0 {
            return key;
        }
        let new = NEXT_KEY.fetch_add(1, Ordering::Relaxed);
        match self.key.compare_exchange(0, new, Ordering::Relaxed, Ordering::Relaxed) {
            Ok(_) => new,
            Err(other) => other,
        }
    }

    /// The value in the running task, or in this thread outside of tasks.
    pub fn get(&self) -> Option<T> {
        let key = self.key();
        let variables = current()?;
        let (_, value) = variables.0.iter().find(|(k, _)| *k == key)?;
        value.downcast_ref::<T>().cloned()
    }

    /// Sets the value for the running task and those it starts from now on; returns the old one.
    pub fn set(&self, value: T) -> Option<T> {
        self.change(Some(Arc::new(value)))
    }

    /// Takes the value away again; returns it.
    pub fn clear(&self) -> Option<T> {
        self.change(None)
    }

    fn change(&self, value: Option<Arc<dyn Any + Send + Sync>>) -> Option<T> {
        let key = self.key();
        let mut variables = current().unwrap_or_default();
        let list = &mut Arc::make_mut(&mut variables).0;
        let index = list.iter().position(|(k, _)| *k == key);
        let old = match (index, value) {
            (Some(index), Some(value)) => Some(std::mem::replace(&mut list[index].1, value)),
            (Some(index), None) => Some(list.remove(index).1),
            (None, Some(value)) => {
                list.push((key, value));
                None
            }
            (None, None) => return None,
        };
        replace(if variables.0.is_empty() { None } else { Some(variables) });
        old.and_then(|old| old.downcast_ref::<T>().cloned())
    }

    /// Sets the value until the returned guard is dropped, then puts the old one back. Mirrors `ContextVar.reset`.
    ///
    /// The guard belongs to the task that made it: drop it there.
    #[doc(alias = "reset")]
    #[must_use = "the value is reset when the guard is dropped"]
    pub fn scope(&self, value: T) -> ContextScope<'_, T> {
        ContextScope { var: self, old: self.set(value), marker: PhantomData }
    }
}

impl<T> fmt::Debug for ContextVar<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ContextVar")
    }
}

/// Puts the old value back when it is dropped; from [`ContextVar::scope`].
pub struct ContextScope<'a, T: Clone + Send + Sync + 'static> {
    var: &'a ContextVar<T>,
    old: Option<T>,
    marker: PhantomData<*const ()>,
}

impl<T: Clone + Send + Sync + 'static> fmt::Debug for ContextScope<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ContextScope")
    }
}

impl<T: Clone + Send + Sync + 'static> Drop for ContextScope<'_, T> {
    fn drop(&mut self) {
        match self.old.take() {
            Some(old) => self.var.set(old),
            None => self.var.clear(),
        };
    }
}
