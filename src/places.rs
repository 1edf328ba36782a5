//! Things that come, may leave in any order, and are met in the order in which they came.
//!
//! There may be any number, and a step costs little however many there are: keys go up, so a place is found by halves, and one that was
//! left stays empty until most are.

use std::{mem, task::Waker};

pub(crate) struct Places<T> {
    /// By key, which is the order in which they came.
    all: Vec<(u64, Option<T>)>,
    empty: usize,
    next_key: u64,
}

/// Those who wait for a result that they only borrow: of a task or of a [`Deferred`](crate::Deferred).
pub(crate) type Borrowers = Places<Waker>;

#[cfg(test)]
thread_local! {
    /// Places that were looked at.
    static STEPS: std::cell::Cell<usize> = const { std::cell::Cell::new(0) };
}

#[inline]
fn count_step() {
    #[cfg(test)]
    STEPS.set(STEPS.get() + 1);
}

impl<T> Default for Places<T> {
    fn default() -> Self {
        Self { all: Vec::new(), empty: 0, next_key: 0 }
    }
}

impl<T> Places<T> {
    /// Answers the key.
    pub(crate) fn insert(&mut self, item: T) -> u64 {
        let key = self.next_key;
        self.all.push((key, Some(item)));
        self.next_key += 1;
        key
    }

    fn find(&mut self, key: u64) -> Option<&mut Option<T>> {
        let key_of = |place: &(u64, _)| {
            count_step();
            place.0
        };
        let place = self.all.binary_search_by_key(&key, key_of).ok()?;
        Some(&mut self.all[place].1)
    }

    /// Takes one out, for the caller to drop. `None` if it is not there any more.
    pub(crate) fn remove(&mut self, key: u64) -> Option<T> {
        let gone = self.find(key)?.take()?;
        self.empty += 1;
        if 2 * self.empty > self.all.len() {
            self.all.retain(|place| {
                count_step();
                place.1.is_some()
            });
            self.empty = 0;
        }
        Some(gone)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &T> {
        self.all.iter().filter_map(|place| place.1.as_ref())
    }

    /// Takes all out.
    pub(crate) fn take(&mut self) -> impl Iterator<Item = T> + use<T> {
        self.empty = 0;
        mem::take(&mut self.all).into_iter().filter_map(|place| place.1)
    }
}

impl Borrowers {
    /// Has `waker` told, instead of the one that has come with this key before, which is for the caller to drop. The key is the
    /// caller's from now on.
    pub(crate) fn add(&mut self, key: &mut Option<u64>, waker: Waker) -> Option<Waker> {
        if let Some(place) = key.and_then(|key| self.find(key)) {
            return place.replace(waker);
        }
        // It is new, or was told in vain and queues again.
        *key = Some(self.insert(waker));
        None
    }
}

#[cfg(all(test, not(all(target_family = "wasm", target_os = "unknown"))))]
mod tests {
    use std::{
        sync::{
            Arc,
            atomic::{AtomicUsize, Ordering},
        },
        task::{Wake, Waker},
    };

    use super::{Borrowers, STEPS};

    struct Told(AtomicUsize);

    impl Wake for Told {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Places that are looked at when so many come, come back, and leave in the order of `leaving`; the last is told.
    fn steps(count: u64, leaving: impl Iterator<Item = u64>) -> usize {
        let told = Arc::new(Told(AtomicUsize::new(0)));
        let waker = Waker::from(told.clone());
        let before = STEPS.get();
        let mut borrowers = Borrowers::default();
        let mut keys: Vec<_> = (0..count).map(|_| None).collect();
        for _ in 0..2 {
            keys.iter_mut().for_each(|key| drop(borrowers.add(key, waker.clone())));
        }
        for index in leaving {
            let key = keys[index as usize].unwrap();
            assert!(borrowers.remove(key).is_some());
            assert!(borrowers.remove(key).is_none());
        }
        let steps = STEPS.get() - before;
        assert!(borrowers.all.len() <= 2);
        borrowers.take().for_each(Waker::wake);
        assert_eq!(told.0.load(Ordering::Relaxed), 1);
        // Whoever was told leaves in vain, and may come again.
        let last = keys.iter_mut().find(|key| borrowers.remove(key.unwrap()).is_none()).unwrap();
        assert!(borrowers.add(last, waker.clone()).is_none());
        assert!(borrowers.remove(last.unwrap()).is_some());
        steps
    }

    #[test]
    fn a_step_looks_at_few_places_however_many_wait() {
        let count: u64 = if cfg!(miri) { 64 } else { 1 << 14 };
        let few = 3 * (u64::BITS - count.leading_zeros()) as usize + 3;
        for steps in [
            steps(count, 0..count - 1),
            steps(count, (1..count).rev()),
            steps(count, (1..count).map(|n| n * 5 % count)),
        ] {
            assert!(steps < few * count as usize, "{steps} steps for {count}");
        }
    }
}
