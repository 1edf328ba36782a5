//! What the browser and Node have beyond the common ground.

use std::{cell::RefCell, sync::Arc};

use selkie_platform::Platform;

use crate::{EventLoop, JoinError};

pub(crate) fn host() -> Arc<dyn Platform> {
    Arc::new(selkie_web::Web::new())
}

thread_local! {
    static DEFAULT: RefCell<Option<EventLoop>> = const { RefCell::new(None) };
}

/// The loop that `spawn` uses where none runs: made and started on first use, and never stopped.
pub(crate) fn default_loop() -> Option<EventLoop> {
    let made = DEFAULT.try_with(|default| {
        let mut default = default.borrow_mut();
        match &*default {
            Some(event_loop) if !event_loop.is_closed() => (event_loop.clone(), false),
            _ => {
                let event_loop = EventLoop::new();
                *default = Some(event_loop.clone());
                (event_loop, true)
            }
        }
    });
    let (event_loop, new) = made.ok()?;
    if new {
        event_loop.drive(false);
    }
    Some(event_loop)
}

/// `run` cannot get here: the host cannot block.
pub(crate) fn cancelled_main(error: &JoinError) -> ! {
    panic!("{error}")
}
