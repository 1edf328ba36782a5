//! When a loop gets its turns.
//!
//! A loop is in one of these states:
//!
//! - **quiet**: nothing is armed but perhaps the timer. [`pend`] arms a microtask.
//! - **armed**: a microtask or a macrotask will give it a turn. [`pend`] has nothing to do.
//! - **running**: its turn is on the stack. [`pend`] leaves a note, and the turn's end arms a macrotask.
//!
//! *The host re-enters.* Firefox delivers messages inside `alert` and runs microtasks inside `window.open`, with the
//! turn still on the stack. The turn that arrives then finds the loop running, leaves a note and goes.
//!
//! *A turn traps.* Without unwinding nothing of it is cleaned up: what it borrowed stays borrowed, what it counted stays
//! counted. So nothing here is borrowed or cloned across a turn, and the loop is told by [`Turn::trapped`]. That may run
//! code of users, who are told in turn, and trap as well; it is called again as long as it may get further.
//!
//! *A drive ends with a microtask under way.* It cannot be revoked. It may come while the next drive of the slot waits
//! for its own, and then it serves as that one; otherwise it finds the loop not armed and goes.
//!
//! *JS and the loop wake each other for ever*, as a task does that awaits one settled promise after another. Each turn
//! is short, and the microtasks never end. So a loop takes a macrotask next when the last one of the thread is longer ago than a
//! slice. Nothing tells microtasks in a row from some that came while the thread was idle: turns that are far from each other
//! may be either, and the first few times they are taken for that. At worst a macrotask was not needed. The time is that of the
//! clock's last reading: turns of most loops begin with one. Now and then it is read for this, as to read it costs more than to arm.

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
    time::Duration,
};

use selkie_platform::{Next, Turn};

use crate::{host, wake::Wake};

/// So many turns by microtask go between two looks at the clock, if others do not look.
const LOOK: u32 = 32;

/// So often since the last macrotask the thread may have been idle.
const FREE: u32 = 4;

/// In nanoseconds.
const SLICE: u64 = crate::SLICE.as_nanos() as u64;

/// Each gets further than the last, and they may be as many as there are tasks: this is for those that get nowhere.
pub(crate) const REPAIRS: u32 = 10_000;

// What a turn answers to js/host.js, beside a time in milliseconds.
const NOW: f64 = -1.0;
const IDLE: f64 = -2.0;
/// Leave what is armed as it is.
const NOTHING: f64 = -3.0;

/// A place for a loop. It is never freed but used again, so that a trap has nothing to leak.
struct Slot {
    /// The host's name for it.
    handle: i32,
    /// The drive it serves, or 0.
    drive: Cell<u32>,
    turn: RefCell<Option<Rc<dyn Turn>>>,
    wake: RefCell<Option<Wake>>,
    armed: Cell<bool>,
    running: Cell<bool>,
    noted: Cell<bool>,
}

/// What the thread has done since its last macrotask, in turns of whichever loop. Times are in nanoseconds: to calculate with
/// `Duration` takes three times the code.
struct Row {
    /// There was none yet.
    is_new: Cell<bool>,
    since: Cell<u64>,
    last: Cell<u64>,
    /// How often it may have been idle.
    idle: Cell<u32>,
    microtasks: Cell<u32>,
}

thread_local! {
    static ROW: Row = const {
        Row {
            is_new: Cell::new(true),
            since: Cell::new(0),
            last: Cell::new(0),
            idle: Cell::new(0),
            microtasks: Cell::new(0),
        }
    };
    static SLOTS: RefCell<Vec<&'static Slot>> = const { RefCell::new(Vec::new()) };
    static DRIVES: Cell<u32> = const { Cell::new(0) };
}

/// One drive of a loop of this thread. Names are not used twice.
#[derive(Clone, Copy)]
pub(crate) struct Drive {
    pub(crate) slot: usize,
    pub(crate) name: u32,
}

/// Keeps `turn` and gives it its turns, the first one soon, later ones also when `wake` is set.
pub(crate) fn drive(turn: Rc<dyn Turn>, wake: &Wake) -> Drive {
    let (slot, this) = SLOTS.with_borrow_mut(|slots| {
        let free = (0..).zip(slots.iter()).find(|(_, slot)| slot.drive.get() == 0);
        if let Some((slot, this)) = free {
            return (slot, *this);
        }
        let this: &Slot = Box::leak(Box::new(Slot {
            handle: host::open(slots.len() as i32),
            drive: Cell::new(0),
            turn: RefCell::new(None),
            wake: RefCell::new(None),
            armed: Cell::new(false),
            running: Cell::new(false),
            noted: Cell::new(false),
        }));
        slots.push(this);
        (slots.len() - 1, this)
    });
    let name = DRIVES.get().wrapping_add(1).max(1);
    DRIVES.set(name);
    this.drive.set(name);
    this.turn.replace(Some(turn));
    this.wake.replace(Some(wake.clone()));
    wake.listen(this.handle);
    this.arm();
    Drive { slot, name }
}

/// How many drives this thread has.
#[cfg(target_feature = "atomics")]
pub(crate) fn drives() -> usize {
    SLOTS.with_borrow(|slots| slots.iter().filter(|slot| slot.drive.get() != 0).count())
}

/// Arms a turn, unless one is coming or the drive has ended.
pub(crate) fn pend(drive: Drive) {
    let Some(slot) = find(drive.slot) else { return };
    if slot.drive.get() != drive.name {
        return;
    }
    if slot.running.get() {
        slot.noted.set(true);
    } else if !slot.armed.get() {
        slot.arm();
    }
}

/// Called by the host: gives a loop its turn, and answers when the next one is due.
pub(crate) extern "C" fn turn(slot: i32, task: i32) -> f64 {
    let Some(slot) = find(slot as usize) else { return NOTHING };
    let drive = slot.drive.get();
    let mut next = NOTHING;
    if !host::guard(&mut || next = slot.turn(task != 0)) {
        next = slot.trapped(drive);
    }
    next
}

fn find(slot: usize) -> Option<&'static Slot> {
    SLOTS.with_borrow(|slots| slots.get(slot).copied())
}

impl Row {
    /// Counts a microtask, and tells whether it has been longer than a slice.
    fn is_long(&self) -> bool {
        let microtasks = self.microtasks.get().wrapping_add(1);
        self.microtasks.set(microtasks);
        if microtasks % LOOK == 0 {
            host::now();
        }
        let now = host::latest();
        let last = self.last.replace(now);
        if self.is_new.replace(false) {
            self.idle.set(0);
            self.since.set(now);
        } else if now.saturating_sub(last) > SLICE && self.idle.get() < FREE {
            self.idle.set(self.idle.get() + 1);
            self.since.set(now);
        }
        now.saturating_sub(self.since.get()) > SLICE
    }
}

impl Slot {
    fn arm(&self) {
        self.armed.set(true);
        if ROW.with(Row::is_long) {
            host::later(self.handle);
        } else {
            host::soon(self.handle);
        }
    }

    fn turn(&self, task: bool) -> f64 {
        if self.running.get() {
            self.noted.set(true);
            return NOTHING;
        }
        // Timers and macrotasks of an ended drive are dropped by the host, microtasks here.
        if self.drive.get() == 0 || !(task || self.armed.get()) {
            return NOTHING;
        }
        if task {
            ROW.with(|row| row.is_new.set(true));
        }
        self.armed.set(false);
        self.noted.set(false);
        self.running.set(true);
        if let Some(wake) = &*self.wake.borrow() {
            wake.clear();
        }
        let next = self.with_turn(|turn| turn.turn());
        self.running.set(false);
        match next {
            Next::Done => self.end(),
            Next::Now => self.hop(),
            _ if self.noted.get() => self.hop(),
            Next::At(time) => milliseconds(time),
            Next::Idle => IDLE,
        }
    }

    fn hop(&self) -> f64 {
        self.armed.set(true);
        NOW
    }

    fn end(&self) -> f64 {
        host::disarm(self.handle);
        self.drive.set(0);
        self.wake.take();
        let turn = self.turn.take();
        // Last, as it may run anything, also another `drive` in this slot.
        drop(turn);
        #[cfg(target_feature = "atomics")]
        crate::crew::drive_ended();
        NOTHING
    }

    fn trapped(&self, drive: u32) -> f64 {
        // What trapped may have been the drop of a turn that was done.
        if self.drive.get() != drive {
            return NOTHING;
        }
        // Still running, for what comes in meanwhile. A slot that cannot be repaired stays so and gets no more turns.
        self.running.set(true);
        for _ in 0..REPAIRS {
            if host::guard(&mut || self.with_turn(|turn| turn.trapped())) {
                self.running.set(false);
                return self.hop();
            }
        }
        NOTHING
    }

    #[expect(unsafe_code, reason = "a clone of the Rc would be leaked by a trap")]
    fn with_turn<R>(&self, f: impl FnOnce(&dyn Turn) -> R) -> R {
        let turn = self.turn.borrow().as_ref().map(Rc::as_ptr).expect("a slot in use has a turn");
        // SAFETY: the Rc stays in its slot while `f` runs. `drive` puts one only into a free slot, and only `end` takes
        // it out, after the outermost turn has returned: as `running` is set while `f` runs, in a turn as in `trapped`,
        // a turn that the host starts meanwhile goes before it gets there.
        f(unsafe { &*turn })
    }
}

/// One nanosecond more than `time`, so that the loop, which cuts to whole nanoseconds, finds the deadline passed.
fn milliseconds(time: Duration) -> f64 {
    time.as_secs() as f64 * 1e3 + f64::from(time.subsec_nanos() + 1) * 1e-6
}
