//! A lock that a page may take: it spins and never waits.
//!
//! `std`'s mutex waits when it is contended, which traps in a page. Asked by `try_lock` alone it is never waited for and so
//! wakes nobody. What is behind it is held for a few instructions: nothing of users runs under it, nothing is dropped.

#![expect(clippy::disallowed_types, reason = "never waited for")]

use std::sync::{Mutex, MutexGuard, TryLockError};

pub(crate) use std::sync::{Mutex as Spin, MutexGuard as Locked};

/// Takes the lock, and lets a holder that was put off have the processor where this thread may wait.
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    let mut spins = 0;
    loop {
        match mutex.try_lock() {
            Ok(guard) => return guard,
            Err(TryLockError::Poisoned(poisoned)) => return poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => relax(&mut spins),
        }
    }
}

/// Spins so often before it gives the processor away.
const SPINS: u32 = 100;

fn relax(spins: &mut u32) {
    *spins += 1;
    if *spins > SPINS {
        crate::relax();
    } else {
        std::hint::spin_loop();
    }
}
