//! Ctrl-C, shared by all loops of the process.
//!
//! The signal handler is installed with the first registration and stays: the crate `ctrlc` has no way back.
//! From then on the default is kept by hand, in `signalled`. That runs on ctrlc's thread, one Ctrl-C after the
//! other, and never calls a handler itself: one that hangs would swallow the second Ctrl-C.

pub(crate) use sys::register;

#[cfg(any(unix, windows))]
mod sys {
    use std::{
        process,
        sync::{Arc, Mutex, MutexGuard, PoisonError},
        thread,
    };

    use crate::contain;

    type Handler = Arc<dyn Fn() + Send + Sync>;

    static STATE: Mutex<State> =
        Mutex::new(State { installed: false, called: false, next_id: 0, handlers: Vec::new() });

    struct State {
        installed: bool,
        /// The handlers have been called since the list was last empty.
        called: bool,
        next_id: u64,
        handlers: Vec<(u64, Handler)>,
    }

    pub(crate) fn register(handler: Box<dyn Fn() + Send + Sync>) -> Option<Box<dyn Send + Sync>> {
        let mut state = lock();
        if !state.installed {
            // Fails, without a change, when somebody else handles or ignores the signal.
            ctrlc::try_set_handler(signalled).ok()?;
            state.installed = true;
        }
        let id = state.next_id;
        state.next_id += 1;
        state.handlers.push((id, handler.into()));
        Some(Box::new(Guard(id)))
    }

    fn signalled() {
        let mut state = lock();
        if state.called || state.handlers.is_empty() {
            process::exit(INTERRUPTED);
        }
        state.called = true;
        let handlers: Vec<Handler> = state.handlers.iter().map(|(_, handler)| handler.clone()).collect();
        drop(state);
        let call = move || {
            for handler in handlers {
                // One panic, which the panic hook shows, does not keep the others from being called.
                contain(|| handler());
                contain(|| drop(handler));
            }
        };
        if thread::Builder::new().name("selkie-interrupt".to_owned()).spawn(call).is_err() {
            // No thread to be had, and nobody to tell the loops: what the second Ctrl-C would do.
            process::exit(INTERRUPTED);
        }
    }

    struct Guard(u64);

    impl Drop for Guard {
        fn drop(&mut self) {
            let mut state = lock();
            let place =
                state.handlers.iter().position(|(id, _)| *id == self.0).expect("only its guard removes it");
            let handler = state.handlers.swap_remove(place);
            if state.handlers.is_empty() {
                state.called = false;
            }
            drop(state);
            // Its drop is user code, so not under the mutex.
            drop(handler);
        }
    }

    /// No handler runs under this mutex, so it is never poisoned.
    fn lock() -> MutexGuard<'static, State> {
        STATE.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What a shell shows for a program that SIGINT has ended: 128 + 2.
    const INTERRUPTED: i32 = 130;
}

#[cfg(not(any(unix, windows)))]
mod sys {
    pub(crate) fn register(_: Box<dyn Fn() + Send + Sync>) -> Option<Box<dyn Send + Sync>> {
        None
    }
}
