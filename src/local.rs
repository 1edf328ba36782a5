//! Queues and locks for the tasks of one thread, which pay for no atomics.
//!
//! They are the types of the same names with [`Local`] as their mode: the same methods and promises, but not `Sync`, a queue not even
//! `Send`, and nothing that blocks can get an answer from another thread.
//!
//! ```
//! use selkie::{Lock, local, spawn};
//!
//! selkie::run(async {
//!     let queue = local::Queue::unbounded();
//!     let items = queue.clone();
//!     let consumer = spawn(async move { items.get().await });
//!     queue.put(std::rc::Rc::new(7)).await.unwrap();
//!     assert_eq!(*consumer.await.unwrap().unwrap(), 7);
//!
//!     let lock: local::Lock<u8> = Lock::local(1);
//!     *lock.lock().await += 1;
//! });
//! ```

pub use crate::sync::{Local, Mode};
use crate::{
    AnyQueue,
    queue::{Fifo, Lifo, Smallest},
};

/// A [`Lock`](crate::Lock) of one thread; made by [`Lock::local`](crate::Lock::local).
pub type Lock<T> = crate::Lock<T, Local>;

/// A [`Semaphore`](crate::Semaphore) of one thread; made by [`Semaphore::local`](crate::Semaphore::local).
pub type Semaphore = crate::Semaphore<Local>;

/// An [`Event`](crate::Event) of one thread; made by [`Event::local`](crate::Event::local).
pub type Event = crate::Event<Local>;

/// A [`Condition`](crate::Condition) of one thread; made by [`Condition::local`](crate::Condition::local).
pub type Condition = crate::Condition<Local>;

/// A [`Queue`](crate::Queue) of one thread.
pub type Queue<T> = AnyQueue<T, Fifo, Local>;

/// A [`LifoQueue`](crate::LifoQueue) of one thread.
pub type LifoQueue<T> = AnyQueue<T, Lifo, Local>;

/// A [`PriorityQueue`](crate::PriorityQueue) of one thread.
pub type PriorityQueue<K, T> = AnyQueue<(K, T), Smallest, Local>;
