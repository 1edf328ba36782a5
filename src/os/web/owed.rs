//! What a simulated job owes where no frames are watched, as they are on the threads of the program: a trap takes the job's frame, and
//! the job goes without a word.

use std::{
    cell::{Cell, RefCell},
    sync::Arc,
};

use selkie_platform::Debt;

type Handler = Box<dyn FnOnce(bool) + Send>;

thread_local! {
    /// Simulated jobs that run, each within the one before.
    static JOBS: Cell<u32> = const { Cell::new(0) };
    /// The last number, and what is owed by number: that of the innermost job last.
    static OWED: RefCell<(u64, Vec<(u64, Handler)>)> = const { RefCell::new((0, Vec::new())) };
}

/// Something that is owed, as long as this lives.
pub(crate) enum Risk {
    None,
    Job(u64),
    #[cfg(target_feature = "atomics")]
    Thread {
        _risk: selkie_web::Risk,
    },
}

/// Has `handler` called if what runs here goes by a trap before the answer is dropped: a simulated job, or in a build with threads
/// whatever a thread of the program does. Nothing else is at risk.
pub(crate) fn at_risk(handler: impl FnOnce() -> Handler) -> Risk {
    #[cfg(target_feature = "atomics")]
    if selkie_web::is_member() {
        return Risk::Thread { _risk: selkie_web::at_risk(handler) };
    }
    owe(handler)
}

/// As [`at_risk`].
pub(crate) fn owes(debt: impl FnOnce() -> Arc<dyn Debt>) -> Risk {
    #[cfg(target_feature = "atomics")]
    if selkie_web::is_member() {
        return Risk::Thread { _risk: selkie_web::owes(debt) };
    }
    owe(|| {
        let debt = debt();
        Box::new(move |trapped| debt.lost(trapped))
    })
}

fn owe(handler: impl FnOnce() -> Handler) -> Risk {
    if JOBS.get() == 0 {
        return Risk::None;
    }
    let handler = handler();
    OWED.with_borrow_mut(|(last, owed)| {
        *last += 1;
        owed.push((*last, handler));
        Risk::Job(*last)
    })
}

impl Drop for Risk {
    fn drop(&mut self) {
        let Self::Job(number) = *self else { return };
        let handler = OWED.with_borrow_mut(|(_, owed)| {
            let place = owed.iter().rposition(|(other, _)| *other == number)?;
            Some(owed.remove(place))
        });
        drop(handler);
    }
}

/// Runs a simulated job. If it traps, those are told whom it owes something.
pub(crate) fn work(job: &mut dyn FnMut()) {
    let before = OWED.with_borrow(|(_, owed)| owed.len());
    JOBS.set(JOBS.get() + 1);
    let trapped = !super::guard(job);
    JOBS.set(JOBS.get() - 1);
    // A job that has ended owes nothing.
    while let Some(handler) = last(before) {
        let mut handler = Some(handler).filter(|_| trapped);
        // It may tell code of users, and trap.
        super::guard(&mut || handler.take().into_iter().for_each(|handler| handler(true)));
    }
}

/// The last one behind the first `from`.
fn last(from: usize) -> Option<Handler> {
    OWED.with_borrow_mut(|(_, owed)| if owed.len() > from { owed.pop() } else { None })
        .map(|(_, handler)| handler)
}
