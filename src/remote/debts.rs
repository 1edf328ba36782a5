//! What a loop owes to other threads, for the case that its own goes without a word.

use std::{collections::BTreeMap, sync::OnceLock};

use super::StandIn;
use crate::{error::JoinError, os};

/// What a loop owes to others, if its thread may go alone.
#[derive(Default)]
pub(crate) struct Debts(OnceLock<Box<dyn Book>>);

/// Gives the error of a lost result.
type Debt = Box<dyn Fn(JoinError) + Send>;

/// Where debts are noted, by the address of the result. By a trait, as most programs have no thread that may go alone, and none of
/// the code for it.
trait Book: Send + Sync {
    fn note(&self, key: usize, debt: Debt);

    fn cross_out(&self, key: usize);

    /// Any one of those that are left.
    fn next(&self) -> Option<Debt>;
}

#[expect(clippy::disallowed_types, reason = "taken by `os::lock` only")]
impl Book for std::sync::Mutex<BTreeMap<usize, Debt>> {
    fn note(&self, key: usize, debt: Debt) {
        os::lock(self).insert(key, debt);
    }

    fn cross_out(&self, key: usize) {
        let paid = os::lock(self).remove(&key);
        drop(paid);
    }

    fn next(&self) -> Option<Debt> {
        os::lock(self).pop_first().map(|(_, debt)| debt)
    }
}

impl Debts {
    /// From now on debts are noted.
    #[expect(clippy::disallowed_types, reason = "as above")]
    pub(crate) fn keep(&self) {
        self.0.get_or_init(|| Box::new(std::sync::Mutex::new(BTreeMap::new())));
    }

    pub(crate) fn owe<T: Send + 'static>(&self, stand_in: impl FnOnce() -> StandIn<T>) {
        if let Some(book) = self.0.get() {
            let stand_in = stand_in();
            book.note(stand_in.key(), Box::new(move |error| stand_in.give(error)));
        }
    }

    pub(super) fn paid(&self, key: usize) {
        if let Some(book) = self.0.get() {
            book.cross_out(key);
        }
    }

    /// The thread has gone: all that is owed is lost.
    pub(crate) fn lose(&self) {
        while let Some(give) = self.0.get().and_then(|book| book.next()) {
            give(JoinError::LOST);
        }
    }
}
