//! What a trap leaves of a turn: WebAssembly unwinds the stack without running a destructor.

use std::{mem::ManuallyDrop, ptr::NonNull};

use super::{CURRENT, Scheduler};
use crate::{
    context,
    task::{Header, TaskRef},
};

/// Each repair takes off what has trapped, so they come to an end: this is for those that get nowhere, as without memory.
pub(crate) const REPAIRS: u32 = 10_000;

impl Scheduler {
    /// Runs `f`, which polls tasks, where a trap would not come to the platform's notice; whether there was none.
    pub(crate) fn guard(&self, f: &mut dyn FnMut()) -> bool {
        if self.platform.guard(f) {
            return true;
        }
        // To tell those who wait may trap as well, and so may each of the tasks that a loop ends as it closes.
        let _repaired = (0..REPAIRS).any(|_| self.platform.guard(&mut || self.trapped()));
        false
    }

    /// The last turn was unwound by a trap, with everything that was on the stack.
    ///
    /// To tell those who wait may run code of users and trap as well. So what was told is taken off first, and another
    /// call goes on with the rest.
    pub(crate) fn trapped(&self) {
        if self.in_turn.replace(false) {
            CURRENT.with(|current| current.set(self.outer.get()));
        }
        let entered = self.enter_loop();
        self.trapped_chain(None);
        if let Some(cell) = self.calling.take() {
            drop(context::put_outside(self.outside.take()));
            // SAFETY: whoever ran the callbacks held a reference, which leaked with the stack and is ours now.
            let task = unsafe { TaskRef::from_ptr(cell) };
            // The rest of them, and then who waits for the task, get another turn.
            self.push_ready(&task);
        }
        if !self.closing.get() {
            self.run_taken();
        }
        self.wake_fired();
        if self.closing.get() && !self.orphaned.get() {
            self.finish_close();
        }
        // If it was an instrument that trapped. Last, as it is told nothing of what it has left.
        self.telling.set(false);
        drop(entered);
    }

    /// Ends the running task, and those it was started by, up to `end`.
    fn trapped_chain(&self, end: Option<NonNull<Header>>) {
        while let Some(running) = self.running.get().filter(|running| Some(*running) != end) {
            // SAFETY: its loop keeps a task that runs.
            let task = ManuallyDrop::new(unsafe { TaskRef::from_ptr(running) });
            let outer = NonNull::new(task.link.get().cast_mut().cast());
            self.running.set(outer);
            // Whoever started it inside another task held a reference, which leaked with the stack and is ours now.
            let task = if outer.is_some() { ManuallyDrop::into_inner(task) } else { TaskRef::clone(&task) };
            // Within another task it was being spawned.
            task.end_trapped(self, outer.is_some());
        }
    }

    /// `task`, whose poll is over, had called JavaScript, which called back, and caught the trap of the tasks that this
    /// started: from `inner` on.
    #[cold]
    pub(super) fn trapped_within(&self, inner: Option<NonNull<Header>>, task: &TaskRef) {
        let outer = self.running.replace(inner);
        self.trapped_chain(Some(task.as_ptr()));
        self.running.set(outer);
        self.wake_fired();
        // One that an instrument has made is polled while that is being told.
        if !task.read_cold(|cold| cold.untold).unwrap_or_default() {
            self.telling.set(false);
        }
    }
}

// A trap leaves the stack where it was; a thread that never goes on does the same, for as long as the test runs.
#[cfg(all(test, not(miri), not(all(target_family = "wasm", target_os = "unknown"))))]
mod tests {
    use std::{
        sync::{
            Arc,
            atomic::{AtomicU64, Ordering::Relaxed},
            mpsc,
        },
        time::Duration,
    };

    use selkie_platform::Next;

    use crate::{EventLoop, Thread, spawn, spawn_lazy, testing::Sim};

    /// What a trap does to the stack that it is called on.
    fn trap() -> ! {
        let (_kept, never) = mpsc::channel::<()>();
        let _ = never.recv();
        unreachable!("nobody sends")
    }

    #[test]
    fn a_trap_in_an_eager_start_leaves_nothing_but_the_callers_behind() {
        let (sender, receiver) = mpsc::channel();
        let thread = Thread::spawn("trap", move || {
            let event_loop = Sim::new().event_loop();
            let run = event_loop.run_until_complete(async move {
                spawn_lazy(async {}).detach();
                spawn(async move {
                    let event_loop = EventLoop::current().unwrap();
                    sender.send(event_loop.scheduler().this()).unwrap();
                    trap();
                })
                .detach();
            });
            drop(run);
        });
        thread.unwrap().detach();
        let scheduler = receiver.recv().unwrap();
        assert_eq!(scheduler.arena.live(), 3);
        assert_eq!(scheduler.turn(), Next::Now, "no turn inside a turn");
        scheduler.trapped();
        assert_eq!(scheduler.arena.live(), 2, "the main task's handle is on the other stack");
        assert!(scheduler.running.get().is_none());
        // The task behind still runs, then the main task's end stops the loop.
        assert_eq!(scheduler.turn(), Next::Done);
        assert_eq!(scheduler.arena.live(), 1);
    }

    #[test]
    fn an_instrument_that_has_trapped_is_told_of_what_comes_after() {
        struct Trap(mpsc::Sender<()>);
        impl crate::Instrument for Trap {
            fn done(&self, task: &crate::AnyTask) {
                let _ = self.0.send(());
                if &*task.name() == "trap" {
                    trap();
                }
            }
        }
        let (sender, told) = mpsc::channel();
        let (loops, scheduler) = mpsc::channel();
        let thread = Thread::spawn("trap", move || {
            let event_loop = Sim::new().event_loop();
            event_loop.set_instrument(Some(std::rc::Rc::new(Trap(sender))));
            let run = event_loop.run_until_complete(async move {
                loops.send(EventLoop::current().unwrap().scheduler().this()).unwrap();
                crate::Task::builder().name("trap").lazy().spawn(async {}).detach();
                spawn_lazy(async {}).detach();
                std::future::pending::<()>().await;
            });
            drop(run);
        });
        thread.unwrap().detach();
        let scheduler = scheduler.recv().unwrap();
        told.recv().unwrap();
        scheduler.trapped();
        assert_eq!(told.try_iter().count(), 0, "not while what it left is repaired");
        while scheduler.turn() != Next::Idle {}
        assert_eq!(told.try_iter().count(), 1);
    }

    #[test]
    fn a_waker_that_traps_when_its_timer_fires_leaves_those_behind_it_to_be_woken() {
        use std::{
            future::Future,
            pin::pin,
            task::{Context, Wake, Waker},
        };

        struct Trap(mpsc::Sender<()>);
        impl Wake for Trap {
            fn wake(self: Arc<Self>) {
                let _ = self.0.send(());
                trap();
            }
        }
        struct Count(AtomicU64);
        impl Wake for Count {
            fn wake(self: Arc<Self>) {
                self.0.fetch_add(1, Relaxed);
            }
        }

        let woken = Arc::new(Count(AtomicU64::new(0)));
        let behind = Waker::from(woken.clone());
        let (sender, trapped) = mpsc::channel();
        let (loops, scheduler) = mpsc::channel();
        let thread = Thread::spawn("trap", move || {
            let run = Sim::new().event_loop().run_until_complete(async move {
                loops.send(EventLoop::current().unwrap().scheduler().this()).unwrap();
                let (mut first, mut second) =
                    (pin!(crate::sleep(Duration::from_secs(1))), pin!(crate::sleep(Duration::from_secs(1))));
                let trap = Waker::from(Arc::new(Trap(sender)));
                assert!(first.as_mut().poll(&mut Context::from_waker(&trap)).is_pending());
                assert!(second.as_mut().poll(&mut Context::from_waker(&behind)).is_pending());
                std::future::pending::<()>().await;
            });
            drop(run);
        });
        thread.unwrap().detach();
        let scheduler = scheduler.recv().unwrap();
        trapped.recv().unwrap();
        assert_eq!(woken.0.load(Relaxed), 0);
        scheduler.trapped();
        assert_eq!(woken.0.load(Relaxed), 1);
    }
}
