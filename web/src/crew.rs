//! Workers that are threads of the program, in a build with threads.
//!
//! # The crew
//!
//! A thread of the program is a Worker of the *crew*: started for the first thread that finds none free, used again for
//! later ones, and gone when it was free for some time. A Worker has the compiled module, the shared memory, and none of the
//! application's JavaScript, so nothing of JavaScript can be pending in it, and it waits by parking, as a native thread
//! does: loops, pools and jobs run there as they do natively. `js/worker.js` is what it runs.
//!
//! A program that gives its Workers a script of its own has its JavaScript in them, as `js/crew.js` says. There promises may be
//! pending, so such a Worker does not park: its loops, the pools' threads and its wait for work are turns that the host
//! gives, as in a page. Only what blocks on purpose waits there.
//!
//! # The root
//!
//! One thread starts all Workers: the first one that needs any and is not of the crew, which is the page's. A Worker's own
//! Workers would end with it, and could not come up while it waits. Other threads leave a note and wake the root by a word.
//! It never blocks, so what is asked of it is done: that is why only threads of the crew may wait.
//!
//! # A Worker ends
//!
//! - *It retires*: it takes itself off the list of the free ones, under the lock by which work is given out, so that none is
//!   given to it. One that is *kept* waits on instead: it is among as many as the program wants to have. It frees its stack and its variables. Destructors of thread-locals do not run, as nowhere on this target.
//! - *It cannot come up*: the work that was meant for it is dropped, not run, and that tells those who wait. Work that was given
//!   to a free Worker which had died unnoticed goes to another one.
//! - *It says nothing* for so long that the root gives it up, and comes up all the same: a word that both write, and of which
//!   the first writing counts, says which of the two it is. Given up, it ends without having run anything of the program.
//! - *It dies*: it is terminated by a developer or the host, or runs out of stack in a place where that cannot be caught. The
//!   host tells the root: by an event, or because the Worker's lock is free (`navigator.locks`). What was on its stack is gone
//!   without a destructor having run, and what it held is leaked, with its stack.
//!
//!   The root itself ends no Worker that runs the program. All threads share one allocator with one lock, and who is ended
//!   while he holds it leaves all others waiting for it, the page among them.
//! - *Its work traps*: that ends in [`host::guard`], and the Worker goes on.
//!
//! In the last two cases frames are gone that owed something. So whoever owes something registers a [`Risk`] while it does: what
//! to do if the frame goes without a word. Frames that return or unwind drop their `Risk`, and nothing happens.

#![expect(unsafe_code, reason = "the host hands addresses back")]

use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
    ptr,
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicI32, AtomicU32, AtomicUsize, Ordering},
    },
    task::{Poll, Waker},
    time::Duration,
};

use selkie_platform::{Debt, Job, Next, Turn, Unavailable};
use wasm_bindgen::prelude::*;

use crate::{
    here, host,
    lock::{Locked, Spin, lock},
    turn,
    wake::Wake,
};

/// Bytes of stack of a thread, as many as the page's has. A multiple of 64 KiB.
const STACK: usize = 1 << 20;

/// A Worker that was free for so long retires. In milliseconds.
static FREE: AtomicU32 = AtomicU32::new(5000);

/// Workers at most: each costs its stack and some megabytes of the host.
const MOST: usize = 128;

#[wasm_bindgen(module = "/js/crew.js")]
extern "C" {
    #[expect(clippy::too_many_arguments, reason = "once")]
    fn crew_open(
        module: JsValue,
        memory: JsValue,
        functions: JsValue,
        word: f64,
        heard: f64,
        ended: f64,
        work: f64,
        join: f64,
        missing: f64,
        call: f64,
        stack: f64,
    ) -> i32;
    fn crew_holds() -> i32;
    fn crew_start(id: i32, address: f64);
    fn crew_hold(id: i32, busy: i32);
    fn crew_retire();
}

// Makes the tools put the file beside the others. Never called.
#[wasm_bindgen(module = "/js/worker.js")]
extern "C" {
    type NotUsed;
}

/// A thread of the crew, or one that is coming up.
struct Member {
    id: i32,
    /// Set when it is given work.
    wake: Wake,
    /// It came up, so another one would as well.
    up: AtomicBool,
    /// It has decided to end. Written under the crew's lock.
    retired: AtomicBool,
    work: Spin<Option<Job>>,
    risks: Spin<Risks>,
}

/// Told whether a trap took the frame, or else the thread.
enum Handler {
    Call(Box<dyn FnOnce(bool) + Send>),
    Debt(Arc<dyn Debt>),
}

impl Handler {
    fn tell(self, trapped: bool) {
        match self {
            Self::Call(f) => f(trapped),
            Self::Debt(debt) => debt.lost(trapped),
        }
    }
}

#[derive(Default)]
struct Risks {
    next: u64,
    list: Vec<(u64, Handler)>,
}

struct Crew {
    next_id: i32,
    all: BTreeMap<i32, Arc<Member>>,
    /// Those that wait for work; the last one gets it first, which lets the others run out their time.
    free: Vec<Arc<Member>>,
    /// How many of `all` have not retired.
    present: usize,
    /// So many do not retire.
    kept: usize,
    /// Who waits for members to come up.
    awaiting: Vec<Waker>,
    /// Notes for the root.
    to_start: Vec<Arc<Member>>,
    /// Whose state has changed.
    to_hold: Vec<i32>,
}

static CREW: Spin<Crew> = Spin::new(Crew {
    next_id: 1,
    all: BTreeMap::new(),
    free: Vec::new(),
    present: 0,
    kept: 0,
    awaiting: Vec::new(),
    to_start: Vec::new(),
    to_hold: Vec::new(),
});

/// What the root found: the number of processors, or why there can be no Workers, below 0. 0 before there is a root.
static FOUND: AtomicI32 = AtomicI32::new(0);
const OPENING: i32 = i32::MIN;

/// The root's thread, as [`here`].
static ROOT: AtomicUsize = AtomicUsize::new(0);
static HOLDS: AtomicI32 = AtomicI32::new(0);

/// The root listens to it.
static WORD: AtomicI32 = AtomicI32::new(0);

thread_local! {
    static MEMBER: Cell<*const Member> = const { Cell::new(ptr::null()) };
    /// The host gives this thread its turns.
    static HOSTED: Cell<bool> = const { Cell::new(false) };
    /// What this thread is called as long as it works for the one who gave it the name.
    static NAME: RefCell<Option<Arc<str>>> = const { RefCell::new(None) };
}

/// What this thread is called, if it is one of the crew.
pub fn thread_name() -> Option<Arc<str>> {
    NAME.try_with(|name| name.borrow().clone()).ok().flatten()
}

/// Whether this thread is one of the crew: it may wait.
pub fn is_member() -> bool {
    !MEMBER.get().is_null()
}

/// Whether this thread parks between turns, as nothing of JavaScript can be pending in it.
pub(crate) fn parks() -> bool {
    is_member() && !HOSTED.get()
}

/// How many processors there are.
///
/// # Errors
///
/// [`Unavailable`] where there can be no threads: the reason, and what to do.
pub fn processors() -> Result<usize, Unavailable> {
    let opened = FOUND.compare_exchange(0, OPENING, Ordering::AcqRel, Ordering::Acquire);
    let mut found = opened.unwrap_or_else(|found| found);
    if opened.is_ok() {
        found = open();
        FOUND.store(found, Ordering::Release);
    }
    while found == OPENING {
        std::hint::spin_loop();
        found = FOUND.load(Ordering::Acquire);
    }
    match found {
        1.. => Ok(found as usize),
        -1 => Err(Unavailable::new("this host has no Workers: spawn tasks on the loop")),
        -2 => Err(Unavailable::new(
            "the page is not isolated (COOP and COEP headers), so it shares no memory: use an `IsolatedPool`",
        )),
        _ => Err(Unavailable::new(
            "this host has no `Atomics.waitAsync`, by which Workers wake a page: use an `IsolatedPool`",
        )),
    }
}

/// Makes this thread the root.
fn open() -> i32 {
    let heard: extern "C" fn() = heard;
    let ended: extern "C" fn(i32, i32) = ended;
    let work: extern "C" fn(i32, usize) = work;
    let join: extern "C" fn(usize) = join;
    let missing: extern "C-unwind" fn(usize, usize) -> usize = missing;
    show_panics();
    ROOT.store(here(), Ordering::Relaxed);
    HOLDS.store(crew_holds(), Ordering::Relaxed);
    crew_open(
        wasm_bindgen::module(),
        wasm_bindgen::memory(),
        wasm_bindgen::function_table(),
        WORD.as_ptr() as usize as f64,
        heard as usize as f64,
        ended as usize as f64,
        work as usize as f64,
        join as usize as f64,
        missing as usize as f64,
        host::call_index(),
        STACK as f64,
    )
}

/// The panic hook of a page is often one that calls JavaScript, which a thread of the crew has not: it would panic in the
/// hook, and that is the end. There the panic is shown by the backend's own means.
fn show_panics() {
    if std::thread::panicking() {
        return;
    }
    let before = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        if is_member() {
            host::report(&panic.to_string());
        } else {
            before(panic);
        }
    }));
}

/// Runs `main` on a thread of its own, called `name`. If none can come up it is dropped, now or later.
pub(crate) fn spawn(name: Arc<str>, main: Job) -> Result<(), Unavailable> {
    start_work(Box::new(move || {
        // It stays until the next work comes: where the host gives turns, this has begun a loop when it returns.
        NAME.set(Some(name));
        main();
    }))
}

fn start_work(main: Job) -> Result<(), Unavailable> {
    processors()?;
    let mut crew = lock(&CREW);
    if let Some(member) = crew.free.pop() {
        *lock(&member.work) = Some(main);
        drop(crew);
        hold(member.id);
        member.wake.set();
        return Ok(());
    }
    if crew.all.len() >= MOST {
        drop(crew);
        return Err(Unavailable::new("all 128 Workers are in use: end some loops, or make pools smaller"));
    }
    let member = crew.add(Some(main));
    start_all(crew, vec![member]);
    Ok(())
}

impl Crew {
    /// Somebody has to start it.
    fn add(&mut self, work: Option<Job>) -> Arc<Member> {
        let id = self.next_id;
        self.next_id += 1;
        let member = Arc::new(Member {
            id,
            wake: Wake::default(),
            up: AtomicBool::new(false),
            retired: AtomicBool::new(false),
            work: Spin::new(work),
            risks: Spin::default(),
        });
        self.all.insert(id, member.clone());
        self.present += 1;
        member
    }

    fn retire(&mut self, member: &Member) {
        self.present -= 1;
        member.retired.store(true, Ordering::Relaxed);
    }
}

/// Starts them here or, by a note, on the root.
fn start_all(mut crew: Locked<'_, Crew>, members: Vec<Arc<Member>>) {
    if ROOT.load(Ordering::Relaxed) == here() {
        drop(crew);
        members.iter().for_each(start);
    } else {
        crew.to_start.extend(members);
        drop(crew);
        tell_root();
    }
}

/// Has `count` Workers there from now on, those included that are busy or coming up, by starting some now and by having them
/// not retire. 0 keeps none.
///
/// # Errors
///
/// [`Unavailable`] where there can be none, or not so many.
pub fn keep(count: usize) -> Result<(), Unavailable> {
    processors()?;
    if count > MOST {
        return Err(Unavailable::new("a program has 128 Workers at most: keep fewer"));
    }
    let mut crew = lock(&CREW);
    crew.kept = count;
    // They look at their time again: some may have been kept, and are too many now.
    let free = crew.free.clone();
    let missing = count.saturating_sub(crew.present);
    let members: Vec<_> = (0..missing).map(|_| crew.add(None)).collect();
    start_all(crew, members);
    free.iter().for_each(|member| member.wake.set());
    Ok(())
}

/// Has free Workers retire after `time`, those too that are free already. With 0, one that becomes free takes no more work.
///
/// For tests that have to know in which Worker their work runs.
pub fn free_for(time: Duration) {
    FREE.store(time.as_millis() as u32, Ordering::Relaxed);
    let free = lock(&CREW).free.clone();
    free.iter().for_each(|member| member.wake.set());
}

/// How many Workers are free, and how many there are. For tests.
pub fn census() -> (usize, usize) {
    let crew = lock(&CREW);
    (crew.free.len(), crew.all.len())
}

fn free_time() -> Duration {
    Duration::from_millis(FREE.load(Ordering::Relaxed).into())
}

/// Ready when `count` Workers have come up.
///
/// # Errors
///
/// [`Unavailable`] if they are fewer, and no more are coming up.
pub fn poll_up(count: usize, waker: &Waker) -> Poll<Result<(), Unavailable>> {
    let waker = waker.clone();
    let mut crew = lock(&CREW);
    let is_up =
        |member: &&Arc<Member>| member.up.load(Ordering::Relaxed) && !member.retired.load(Ordering::Relaxed);
    let up = crew.all.values().filter(is_up).count();
    if up < count && up < crew.present {
        // Once, however often it is polled. What is not kept is dropped behind the lock.
        if !crew.awaiting.iter().any(|other| other.will_wake(&waker)) {
            crew.awaiting.push(waker);
        }
        return Poll::Pending;
    }
    drop(crew);
    Poll::Ready(if up < count {
        Err(Unavailable::new("a Worker did not come up: the console says why"))
    } else {
        Ok(())
    })
}

/// With its first work, or by [`set_free`] when it can be given some: who waits for it may count on it.
fn came_up(member: &Member) {
    if member.up.load(Ordering::Relaxed) {
        return;
    }
    let mut crew = lock(&CREW);
    member.up.store(true, Ordering::Relaxed);
    let awaiting = std::mem::take(&mut crew.awaiting);
    drop(crew);
    wake_all(awaiting);
}

/// They may be of users, and trap.
fn wake_all(wakers: Vec<Waker>) {
    for waker in wakers {
        let mut waker = Some(waker);
        host::guard(&mut || waker.take().into_iter().for_each(Waker::wake));
    }
}

/// What becomes of a free member whose time is over.
enum Over {
    Retires,
    Kept,
    /// Whoever took it off the list brings work.
    HasWork,
}

fn time_is_over(member: &Arc<Member>) -> Over {
    let mut crew = lock(&CREW);
    let Some(place) = crew.free.iter().position(|free| Arc::ptr_eq(free, member)) else {
        return Over::HasWork;
    };
    if crew.present <= crew.kept {
        return Over::Kept;
    }
    crew.free.remove(place);
    crew.retire(member);
    Over::Retires
}

/// On the root.
fn start(member: &Arc<Member>) {
    crew_start(member.id, Arc::as_ptr(member) as usize as f64);
}

/// In Node a thread that has work keeps the process alive, and one that is free does not.
fn hold(id: i32) {
    if HOLDS.load(Ordering::Relaxed) == 0 {
        return;
    }
    lock(&CREW).to_hold.push(id);
    tell_root();
}

fn tell_root() {
    if WORD.swap(1, Ordering::SeqCst) == 0 {
        // SAFETY: the word is a static.
        unsafe { std::arch::wasm32::memory_atomic_notify(WORD.as_ptr(), u32::MAX) };
    }
}

/// Called by the host on the root when [`WORD`] is set.
extern "C" fn heard() {
    // First: what comes now gets another call.
    WORD.store(0, Ordering::SeqCst);
    let mut crew = lock(&CREW);
    let (to_start, to_hold) = (std::mem::take(&mut crew.to_start), std::mem::take(&mut crew.to_hold));
    // What is true now counts: notes may have been overtaken by others.
    let to_hold: Vec<_> =
        to_hold.into_iter().map(|id| (id, crew.free.iter().all(|free| free.id != id))).collect();
    drop(crew);
    to_start.iter().for_each(start);
    for (id, busy) in to_hold {
        crew_hold(id, i32::from(busy));
    }
}

/// Called by the host on the root, once for each Worker, when that is gone.
extern "C" fn ended(id: i32, _how: i32) {
    let mut crew = lock(&CREW);
    let member = crew.all.remove(&id);
    crew.free.retain(|free| free.id != id);
    let is_missed = member.as_ref().is_some_and(|member| !member.retired.load(Ordering::Relaxed));
    crew.present -= usize::from(is_missed);
    let awaiting = std::mem::take(&mut crew.awaiting);
    drop(crew);
    let Some(member) = member else { return };
    wake_all(awaiting);
    // Code of users hears of it, and may trap.
    host::guard(&mut || {
        let work = lock(&member.work).take();
        // One that died while it was free was given work before anybody knew.
        if let Some(work) = work.filter(|_| member.up.load(Ordering::Relaxed)) {
            let _ = start_work(work);
        }
    });
    tell(&member, 0, false);
}

/// Calls the handlers behind the first `from`, the last one first.
fn tell(member: &Member, from: usize, trapped: bool) {
    while let Some(risk) = last_risk(member, from) {
        let mut risk = Some(risk);
        // They may tell code of users, and trap.
        host::guard(&mut || risk.take().into_iter().for_each(|risk| risk.tell(trapped)));
    }
}

fn last_risk(member: &Member, from: usize) -> Option<Handler> {
    let mut risks = lock(&member.risks);
    if risks.list.len() > from { risks.list.pop().map(|(_, risk)| risk) } else { None }
}

/// The life of a Worker, called by `js/worker.js`.
extern "C" fn work(instance: i32, address: usize) {
    host::adopt(instance);
    let member = address as *const Member;
    // SAFETY: `spawn` made the address from an Arc that the crew keeps until `ended`.
    let member = unsafe {
        Arc::increment_strong_count(member);
        Arc::from_raw(member)
    };
    MEMBER.set(Arc::as_ptr(&member));
    loop {
        let work = lock(&member.work).take();
        if let Some(work) = work {
            came_up(&member);
            run(work);
        }
        if !set_free(&member) {
            return;
        }
        let since = host::now();
        loop {
            member.wake.clear();
            if lock(&member.work).is_some() {
                break;
            }
            let left = (since + free_time()).saturating_sub(host::now());
            if !left.is_zero() {
                member.wake.wait(Some(left));
                continue;
            }
            match time_is_over(&member) {
                Over::Retires => return,
                Over::Kept => member.wake.wait(None),
                Over::HasWork => crate::relax(),
            }
        }
    }
}

/// Puts a member on the list of those that wait for work, unless it has no time to wait, or was lost and runs on all the same.
fn set_free(member: &Arc<Member>) -> bool {
    let mut crew = lock(&CREW);
    let is_member = crew.all.contains_key(&member.id);
    let waits = is_member && (!free_time().is_zero() || crew.present <= crew.kept);
    if waits {
        crew.free.push(member.clone());
    } else if is_member {
        crew.retire(member);
    }
    drop(crew);
    came_up(member);
    hold(member.id);
    waits
}

/// The life of a Worker with JavaScript begins, called by `js/crew.js`.
extern "C" fn join(address: usize) {
    let member = address as *const Member;
    // SAFETY: as in `work`.
    let member = unsafe {
        Arc::increment_strong_count(member);
        Arc::from_raw(member)
    };
    MEMBER.set(Arc::as_ptr(&member));
    HOSTED.set(true);
    let wake = member.wake.clone();
    turn::drive(Rc::new(Hosted { member, since: Cell::new(None) }), &wake);
}

/// What [`work`] is where the host gives turns: woken with work, when the last drive of the thread has ended, and in time
/// to retire.
struct Hosted {
    member: Arc<Member>,
    /// Since when it is free. `None` while it has work.
    since: Cell<Option<Duration>>,
}

impl Turn for Hosted {
    fn turn(&self) -> Next {
        let work = lock(&self.member.work).take();
        if let Some(work) = work {
            self.since.set(None);
            came_up(&self.member);
            run(work);
        }
        // This one counts.
        if turn::drives() > 1 {
            return Next::Idle;
        }
        let now = host::now();
        if self.since.get().is_none() {
            self.since.set(Some(now));
            if !set_free(&self.member) {
                crew_retire();
                return Next::Done;
            }
        }
        let limit = self.since.get().unwrap_or(now) + free_time();
        if now < limit {
            return Next::At(limit);
        }
        match time_is_over(&self.member) {
            Over::Retires => {
                crew_retire();
                Next::Done
            }
            // Woken with work, or when fewer are kept.
            Over::Kept | Over::HasWork => Next::Idle,
        }
    }

    fn trapped(&self) {}
}

/// Some drive of this thread has ended.
pub(crate) fn drive_ended() {
    if HOSTED.get() {
        // SAFETY: the member is that of `Hosted`, which lives as long as the thread has a use for it.
        if let Some(member) = unsafe { MEMBER.get().as_ref() } {
            member.wake.set();
        }
    }
}

fn run(work: Job) {
    let mut work = Some(work);
    host::guard(&mut || {
        let Some(work) = work.take() else { return };
        if let Err(thrown) = catch_unwind(AssertUnwindSafe(work)) {
            // Its destructor may panic in turn.
            if let Err(again) = catch_unwind(AssertUnwindSafe(|| drop(thrown))) {
                std::mem::forget(again);
            }
        }
    });
}

/// Called by `js/worker.js` for a function that it does not have: first for room, with 0, and then with the name in it.
///
/// The allocator that wasm-bindgen exports has another name where the linker has wrapped the exports to run constructors.
extern "C-unwind" fn missing(start: usize, length: usize) -> usize {
    if start == 0 {
        return vec![0u8; length].leak().as_mut_ptr() as usize;
    }
    // SAFETY: it is the room that was given out above, as long as its capacity, and full of UTF-8 by now.
    let name = unsafe { String::from_raw_parts(start as *mut u8, length, length) };
    let name = name.strip_prefix("__wbg_").unwrap_or(&name);
    panic!(
        "`{name}` is JavaScript, which threads of this program do not have: call it in a task of the page's loop, by \
         `LoopHandle::submit`, or give the threads a script of your own (PLATFORM.md)"
    );
}

/// Something is owed by this thread, as long as this lives.
#[must_use = "dropping it says that nothing is owed any more"]
pub struct Risk {
    id: u64,
    member: Option<Arc<Member>>,
}

/// Has `handler` called if this thread goes, or this frame by a trap, before the answer is dropped.
///
/// By the thread that notices it. `handler` is made only on threads of the crew.
pub fn at_risk(handler: impl FnOnce() -> Box<dyn FnOnce(bool) + Send>) -> Risk {
    register(|| Handler::Call(handler()))
}

/// As [`at_risk`], without an allocation.
pub fn owes(debt: impl FnOnce() -> Arc<dyn Debt>) -> Risk {
    register(|| Handler::Debt(debt()))
}

fn register(handler: impl FnOnce() -> Handler) -> Risk {
    let member = MEMBER.get();
    if member.is_null() {
        return Risk { id: 0, member: None };
    }
    let handler = handler();
    // SAFETY: `work`, below on this stack, holds it.
    let member = unsafe {
        Arc::increment_strong_count(member);
        Arc::from_raw(member)
    };
    let mut risks = lock(&member.risks);
    risks.next += 1;
    let id = risks.next;
    risks.list.push((id, handler));
    drop(risks);
    Risk { id, member: Some(member) }
}

impl Drop for Risk {
    fn drop(&mut self) {
        let Some(member) = &self.member else { return };
        let mut risks = lock(&member.risks);
        let place = risks.list.iter().rposition(|(id, _)| *id == self.id);
        let handler = place.map(|place| risks.list.remove(place));
        drop(risks);
        drop(handler);
    }
}

impl fmt::Debug for Risk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Risk").field("taken", &self.member.is_some()).finish()
    }
}

/// The risks of this thread at present, for [`trapped`].
pub(crate) fn risks() -> usize {
    let member = MEMBER.get();
    // SAFETY: as in `at_risk`.
    unsafe { member.as_ref() }.map_or(0, |member| lock(&member.risks).list.len())
}

/// The frames that registered all but the first `before` risks are gone by a trap.
pub(crate) fn trapped(before: usize) {
    let member = MEMBER.get();
    // SAFETY: as in `at_risk`.
    let Some(member) = (unsafe { member.as_ref() }) else { return };
    tell(member, before, true);
}
