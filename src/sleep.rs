//! Waiting for a time.
//!
//! A sleep that a task awaits directly puts the node of the task's own cell into the wheel. One that is polled with
//! another waker, or beside a sleep that has taken the cell's node, uses a node of its own from the loop's spares.

use std::{
    cell::Cell,
    fmt,
    future::Future,
    marker::PhantomData,
    mem::ManuallyDrop,
    pin::Pin,
    ptr::{self, NonNull},
    task::{Context, Poll, Waker},
    time::Duration,
};

use crate::{
    scheduler::{Scheduler, with_current},
    task::TaskRef,
    timers::{NEVER, Node},
};

/// A timer node that is not part of a task cell.
#[repr(C)]
pub(crate) struct Boxed {
    node: Node,
    waker: Cell<Option<Waker>>,
    /// The loop in whose wheel the node is, or null.
    scheduler: Cell<*const Scheduler>,
}

impl Boxed {
    /// The node fired, or its loop closes. Returns the waker, which may be anything.
    ///
    /// # Safety
    ///
    /// `node` is the node of a live `Boxed`.
    pub(crate) unsafe fn fired(node: NonNull<Node>) -> Option<Waker> {
        // SAFETY: the node is the first field.
        let this = unsafe { node.cast::<Self>().as_ref() };
        this.scheduler.set(ptr::null());
        this.waker.take()
    }
}

enum Slot {
    /// Not polled yet.
    Fresh,
    /// The deadline had passed at the first poll.
    Yielded,
    /// The node of this cell was taken for this sleep.
    Cell(TaskRef),
    Boxed(NonNull<Boxed>),
    /// A deadline that never comes.
    Never,
}

/// A [`Slot`] in one word: of a million tasks that sleep, another one is eight megabytes.
struct SlotWord(*mut ());

const YIELDED: usize = 2;
const NEVER_WORD: usize = 4;
/// With the address of a `Boxed`. Cells and nodes are aligned to eight, and neither lies below that.
const IS_BOXED: usize = 1;

impl SlotWord {
    const FRESH: Self = Self(ptr::null_mut());

    fn new(slot: Slot) -> Self {
        Self(match slot {
            Slot::Fresh => ptr::null_mut(),
            Slot::Yielded => ptr::without_provenance_mut(YIELDED),
            Slot::Never => ptr::without_provenance_mut(NEVER_WORD),
            Slot::Cell(task) => task.into_ptr().as_ptr().cast(),
            Slot::Boxed(boxed) => boxed.as_ptr().cast::<()>().map_addr(|address| address | IS_BOXED),
        })
    }

    /// What it stands for. The reference to a cell is this word's, and not to be dropped.
    #[inline]
    fn get(&self) -> ManuallyDrop<Slot> {
        ManuallyDrop::new(match self.0.addr() {
            0 => Slot::Fresh,
            YIELDED => Slot::Yielded,
            NEVER_WORD => Slot::Never,
            // SAFETY: all other words are addresses of what is not null, with the tag of its kind.
            address => unsafe {
                let pointer = self.0.map_addr(|address| address & !IS_BOXED);
                if address & IS_BOXED != 0 {
                    Slot::Boxed(NonNull::new_unchecked(pointer.cast()))
                } else {
                    Slot::Cell(TaskRef::from_ptr(NonNull::new_unchecked(pointer.cast())))
                }
            },
        })
    }

    /// Takes it out; this is fresh then.
    fn take(&mut self) -> Slot {
        let slot = ManuallyDrop::into_inner(self.get());
        *self = Self::FRESH;
        slot
    }
}

/// Set in `Sleep::deadline` while it is a length, not a point: no loop was there to ask for the time.
const RELATIVE: u64 = 1 << 63;

/// The future of [`sleep`] and [`sleep_until`].
///
/// Belongs to the loop that polls it, so it is not `Send`. Dropping it takes its timer back.
#[must_use = "futures do nothing unless awaited"]
pub struct Sleep {
    deadline: u64,
    slot: SlotWord,
    not_send: PhantomData<*const ()>,
}

#[cfg(target_pointer_width = "64")]
const _: () = assert!(size_of::<Sleep>() == 16);

impl fmt::Debug for Sleep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sleep").field("deadline", &self.deadline()).finish()
    }
}

/// At most [`NEVER`]. Not by `as_nanos`, nor by what looks for an overflow: on the web both take a multiplication of 128 bits.
pub(crate) fn nanos(duration: Duration) -> u64 {
    const SECOND: u64 = 1_000_000_000;
    let secs = duration.as_secs();
    if secs >= NEVER / SECOND { NEVER } else { secs * SECOND + u64::from(duration.subsec_nanos()) }
}

/// Waits for `duration`, and lets others run meanwhile.
///
/// Mirrors [`asyncio.sleep`](https://docs.python.org/3/library/asyncio-task.html#asyncio.sleep). The time counts from
/// this call. Never early; late by at most the loop's grain (1 ms natively, about 0.03 ms in a browser) plus the time
/// that other tasks take. Zero yields exactly once. [`Duration::MAX`], and whatever overflows the clock, is never.
///
/// # Cancel safety
///
/// Dropping the future takes the timer back.
///
/// # Platform-specific
///
/// - **Web:** the clock is `performance.now()`, which browsers make coarse; hidden tabs may be woken only once a second.
///
/// # Examples
///
/// ```
/// use std::time::{Duration, Instant};
///
/// selkie::run(async {
///     let start = Instant::now();
///     selkie::sleep(Duration::from_millis(5)).await;
///     assert!(start.elapsed() >= Duration::from_millis(5));
/// });
/// ```
#[doc(alias = "setTimeout")]
pub fn sleep(duration: Duration) -> Sleep {
    let length = nanos(duration);
    let deadline = with_current(|scheduler| scheduler.time().saturating_add(length).min(NEVER));
    Sleep { deadline: deadline.unwrap_or(length | RELATIVE), slot: SlotWord::FRESH, not_send: PhantomData }
}

/// Waits until `deadline` on the loop's clock ([`EventLoop::time`](crate::EventLoop::time)).
///
/// A deadline in the past yields once. Otherwise as [`sleep`].
#[doc(alias = "call_at")]
pub fn sleep_until(deadline: Duration) -> Sleep {
    Sleep { deadline: nanos(deadline), slot: SlotWord::FRESH, not_send: PhantomData }
}

impl Sleep {
    /// When it ends, on the loop's clock. `None` for never, and before the first poll of a sleep made outside of a loop.
    pub fn deadline(&self) -> Option<Duration> {
        (self.deadline < NEVER).then(|| Duration::from_nanos(self.deadline))
    }

    /// Makes it end at another time, also after it has ended.
    ///
    /// Whoever waits for it has to poll it again to take notice; awaits do.
    pub fn reset(&mut self, deadline: Duration) {
        self.disarm();
        self.deadline = nanos(deadline);
    }

    /// Whether it has yielded, as its time was over, and `deadline` is over as well.
    pub(crate) fn is_over_at(&self, deadline: Duration) -> bool {
        let now = with_current(|scheduler| scheduler.cached_time());
        matches!(*self.slot.get(), Slot::Yielded) && now.is_some_and(|now| nanos(deadline) <= now)
    }

    fn disarm(&mut self) {
        match self.slot.take() {
            Slot::Cell(task) => {
                // The cell's node is ours until the deadline: a node fires only when the time that the loop
                // knows has reached its deadline. After that it may be another sleep's, and is left alone; if
                // it was not, the task gets one wake too many.
                let scheduler = task.scheduler();
                if !task.is_done() && scheduler.cached_time() < self.deadline && task.has_timer() {
                    scheduler.disarm_task(&task);
                }
            }
            Slot::Boxed(boxed) => {
                // SAFETY: ours; the wheel's pointer to it goes right here.
                let this = unsafe { boxed.as_ref() };
                let scheduler = this.scheduler.replace(ptr::null());
                // SAFETY: a loop that closes sets the pointer to null.
                match unsafe { scheduler.as_ref() } {
                    Some(scheduler) => {
                        // SAFETY: the pointer says that the node is in the wheel.
                        unsafe { scheduler.disarm_boxed(boxed.cast()) };
                        // Dropped last: its destructor may close the loop.
                        let _waker = this.waker.take();
                        // SAFETY: made by `Box::into_raw`, and in no wheel now.
                        scheduler.spare(unsafe { Box::from_raw(boxed.as_ptr()) });
                    }
                    None => {
                        // SAFETY: as above.
                        let spare = unsafe { Box::from_raw(boxed.as_ptr()) };
                        with_current(|scheduler| scheduler.spare(spare));
                    }
                }
            }
            Slot::Fresh | Slot::Yielded | Slot::Never => {}
        }
    }

    /// Puts a node into the wheel of the loop that runs here.
    fn arm(&mut self, scheduler: &Scheduler, waker: &Waker) {
        if self.deadline >= NEVER {
            self.slot = SlotWord::new(Slot::Never);
            return;
        }
        if scheduler.is_closed() {
            // A destructor polls it while the loop closes. The node would stay in a wheel that is never looked at.
            return;
        }
        static SLEEP: &str = "a timer";
        scheduler.set_waits(ptr::from_ref(&SLEEP).cast());
        if let Some(task) = TaskRef::of_waker(waker) {
            if !task.has_timer() && task.is_running() {
                scheduler.arm_task(&task, self.deadline);
                self.slot = SlotWord::new(Slot::Cell(TaskRef::clone(&task)));
                return;
            }
        }
        let spare = scheduler.spare_nodes.borrow_mut().pop().unwrap_or_else(|| {
            Box::new(Boxed {
                node: Node::default(),
                waker: Cell::new(None),
                scheduler: Cell::new(ptr::null()),
            })
        });
        spare.waker.set(Some(waker.clone()));
        spare.scheduler.set(scheduler);
        let boxed = NonNull::from(Box::leak(spare));
        // SAFETY: leaked; `disarm` takes it out of the wheel before it goes.
        unsafe { scheduler.arm_boxed(boxed.cast(), self.deadline) };
        self.slot = SlotWord::new(Slot::Boxed(boxed));
    }
}

impl Future for Sleep {
    type Output = ();

    /// # Panics
    ///
    /// If no selkie loop runs on this thread.
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let polled = with_current(|scheduler| {
            let this = &mut *self;
            if this.deadline & RELATIVE != 0 {
                this.deadline = scheduler.time().saturating_add(this.deadline & !RELATIVE).min(NEVER);
            }
            match &*this.slot.get() {
                Slot::Yielded => return Poll::Ready(()),
                Slot::Fresh if scheduler.cached_time() >= this.deadline => {
                    this.slot = SlotWord::new(Slot::Yielded);
                    cx.waker().wake_by_ref();
                    return Poll::Pending;
                }
                Slot::Fresh => this.arm(scheduler, cx.waker()),
                _ if scheduler.cached_time() >= this.deadline => {
                    this.disarm();
                    this.slot = SlotWord::new(Slot::Yielded);
                    return Poll::Ready(());
                }
                Slot::Cell(task) => {
                    let same = TaskRef::of_waker(cx.waker()).is_some_and(|t| t.as_ptr() == task.as_ptr());
                    if !same {
                        this.disarm();
                        this.arm(scheduler, cx.waker());
                    }
                }
                Slot::Boxed(boxed) => {
                    // SAFETY: ours.
                    let boxed = unsafe { boxed.as_ref() };
                    if ptr::eq(boxed.scheduler.get(), scheduler) {
                        let waker = boxed.waker.take().filter(|waker| waker.will_wake(cx.waker()));
                        boxed.waker.set(waker.or_else(|| Some(cx.waker().clone())));
                    } else {
                        this.disarm();
                        this.arm(scheduler, cx.waker());
                    }
                }
                Slot::Never => {}
            }
            Poll::Pending
        });
        match polled {
            Some(polled) => polled,
            None => {
                panic!("`sleep` polled outside of a selkie loop: use `selkie::run`, or a loop in guest mode")
            }
        }
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        self.disarm();
    }
}

/// Lets every other task of its [`Priority`](crate::Priority) that is ready run once, then goes on.
///
/// Mirrors `asyncio.sleep(0)`. The task goes to the back of its lane; those of a lane behind it may have to wait for longer. For long
/// computations.
///
/// ```
/// selkie::run(async {
///     for part in 0..10 {
///         // work on `part`
///         selkie::yield_now().await;
///     }
/// });
/// ```
pub fn yield_now() -> YieldNow {
    YieldNow { yielded: false }
}

/// The future of [`yield_now`].
#[derive(Debug)]
#[must_use = "futures do nothing unless awaited"]
pub struct YieldNow {
    yielded: bool,
}

impl Future for YieldNow {
    type Output = ();

    #[inline]
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if std::mem::replace(&mut self.yielded, true) {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

#[cfg(all(test, target_pointer_width = "64"))]
mod tests {
    use std::time::Duration;

    #[test]
    fn a_task_that_only_sleeps_takes_two_cache_lines() {
        let task = async {
            let length = std::hint::black_box(Duration::from_secs(1));
            super::sleep(length).await;
        };
        assert!(size_of::<crate::task::Header>() + size_of_val(&task) <= 128);
    }
}
