//! The states of a task, as bits of two words.
//!
//! # The local word
//!
//! Read and written by the loop's own thread only, so plain memory.
//!
//! - [`QUEUED`]: the cell is in a lane. Set when it is pushed, cleared before it is polled: a wake during
//!   the poll queues it again. While the task is pending, what the loop owns keeps it in the lane. A cell that is in a
//!   lane with [`DONE`] set has one reference of the lane: the loop's, if the task ended there, or one counted for it.
//! - [`RUNNING`]: the cell is being polled, or started eagerly, somewhere on the stack.
//! - [`STARTED`]: the future was polled at least once.
//! - [`DONE`]: the future is gone. Set once, never cleared. The cell is never polled again.
//! - [`OUTPUT`]: the result is in the cell. Only with `DONE`; cleared when somebody takes it.
//! - [`OBSERVED`]: somebody has looked at the result, so a failure needs no report.
//! - [`CALLBACKS`]: done callbacks wait for their turn. The result stays in the cell until they have run.
//! - [`HANDLE`]: a `Task` exists. When it goes, nobody can take the result, and it is dropped.
//! - [`CANCEL`]: a cancel was asked for and not yet delivered.
//! - [`TIMER`]: the cell's timer node is in the wheel.
//! - [`CALLBACK`]: not a task but a `call_soon` / `call_later` callback: it is in no list of tasks, is never the
//!   current task, and a panic goes to the exception handler.
//! - [`QUIET`]: internal; never reported as destroyed or failed.
//! - [`LANE`]: two bits, the lane.
//!
//! A task is *pending* while `DONE` is not set. Its loop owns one reference as long, and leaves it to the lane if the task
//! ends while it is in one.
//!
//! # The remote word
//!
//! Changed by any thread, atomically. It makes two things possible without the owner paying for them: wakers
//! that are cloned, dropped and woken in other threads, and a reference count split in two.
//!
//! - [`INBOX`]: the cell is in the loop's inbox, or the thread that set the bit is about to push it. While it
//!   is set nobody frees the cell.
//! - [`WAKE`]: with `INBOX`: put the task in its lane. Without it the inbox entry only asks the owner to look
//!   at the count.
//! - [`SETTLED`]: the owner's own count is zero or less, so a remote count of zero may be the end.
//! - [`ORPHAN`]: the loop has closed. All references are in the remote count; whoever brings it to zero frees.
//! - the rest: the remote count, signed, in units of [`ONE`]. It goes below zero when a waker that was cloned
//!   on the owner's thread is dropped in another.
//!
//! The references to a cell are the local count plus the remote count, and only the owner may add them up.
//!
//! ## Scenarios
//!
//! *Foreign wake.* Sets `INBOX | WAKE`. Whoever set `INBOX` pushes the cell; a second wake finds the bit and
//! does nothing. The owner unlinks the cell, then clears both bits in one step: a wake before that step is
//! part of it, a wake after it pushes again.
//!
//! *Foreign drop.* Lowers the count. Below zero, or to zero with `SETTLED`, the owner has to look: the same
//! step sets `INBOX` if it is not set, and whoever set it pushes. The owner moves a count below zero into its
//! own and frees when the sum is zero.
//!
//! *Owner drops its last.* The local count is zero or less: it adds the two counts. Zero and no `INBOX` means
//! free. Otherwise it moves its count into the remote one and sets `SETTLED`, and the last foreign drop comes
//! back through the inbox.
//!
//! *Close.* The inbox gets its closed mark, after which every push fails. Then the owner moves its count into
//! the remote one and sets `ORPHAN`. A thread whose push fails clears `INBOX`, and frees if it finds `ORPHAN`
//! and a count of zero; a drop to zero with `ORPHAN` frees unless `INBOX` is set. So exactly one frees.

pub(super) const QUEUED: u32 = 1 << 0;
pub(super) const RUNNING: u32 = 1 << 1;
pub(super) const STARTED: u32 = 1 << 2;
pub(super) const DONE: u32 = 1 << 3;
pub(super) const OUTPUT: u32 = 1 << 4;
pub(crate) const OBSERVED: u32 = 1 << 5;
pub(super) const CALLBACKS: u32 = 1 << 6;
pub(crate) const HANDLE: u32 = 1 << 7;
pub(super) const CANCEL: u32 = 1 << 8;
pub(super) const TIMER: u32 = 1 << 9;
pub(crate) const CALLBACK: u32 = 1 << 10;
pub(crate) const QUIET: u32 = 1 << 11;
/// The result is an error of the runtime (cancelled, panicked, trapped), not a value.
pub(super) const FAILED: u32 = 1 << 12;
/// The result says that the task was cancelled.
pub(super) const CANCELLED: u32 = 1 << 13;
pub(super) const LANE_SHIFT: u32 = 14;
pub(super) const LANE: u32 = 0b11 << LANE_SHIFT;

/// The state of a plain task that starts as it is made: it runs, in the normal lane.
pub(super) const START: u32 = RUNNING | STARTED | HANDLE | (crate::Priority::Normal as u32) << LANE_SHIFT;

pub(super) const INBOX: u32 = 1 << 0;
pub(super) const WAKE: u32 = 1 << 1;
pub(super) const SETTLED: u32 = 1 << 2;
pub(super) const ORPHAN: u32 = 1 << 3;
pub(super) const ONE: u32 = 1 << 4;

/// The count in a remote word.
pub(super) const fn count(word: u32) -> i32 {
    word as i32 >> 4
}
