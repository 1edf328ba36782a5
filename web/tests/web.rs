//! The contract of `selkie_platform`, kept by the web backend. One binary for Node, a page and a Worker.

#![cfg(all(target_family = "wasm", target_os = "unknown"))]

use std::{
    cell::{Cell, RefCell},
    panic::AssertUnwindSafe,
    rc::{Rc, Weak},
    sync::Arc,
    time::Duration,
};

use js_sys::{Array, Function, Promise};
use selkie_platform::{Driven, Next, Platform, Turn};
use selkie_web::{Web, interop};
use wasm_bindgen::prelude::*;
use wasm_bindgen_futures::JsFuture;
use wasm_bindgen_test::wasm_bindgen_test as test;

#[wasm_bindgen(module = "/tests/support.js")]
extern "C" {
    #[wasm_bindgen(js_name = sleep)]
    fn sleep_promise(ms: f64) -> Promise;
    fn page() -> bool;
    fn draws() -> bool;
    fn macrotasks(f: &Function) -> u32;
    #[wasm_bindgen(js_name = armedBy)]
    fn armed_by(f: &mut dyn FnMut()) -> Array;
    fn pump(f: &Closure<dyn Fn() -> bool>) -> Promise;
    #[wasm_bindgen(js_name = frames)]
    fn frames_promise(stop: &Function) -> Promise;
    #[wasm_bindgen(js_name = shownBy)]
    fn shown_by(f: &mut dyn FnMut()) -> String;
}

async fn sleep(ms: u32) {
    JsFuture::from(sleep_promise(f64::from(ms))).await.unwrap();
}

async fn microtask() {
    JsFuture::from(Promise::resolve(&JsValue::NULL)).await.unwrap();
}

/// What `look` sees in the microtask after those that are due. A test itself goes on later, where memory is shared.
async fn in_microtask<R: 'static>(look: impl FnOnce() -> R + 'static) -> R {
    let seen = shared::<Cell<Option<R>>>();
    let into = seen.clone();
    let look = AssertUnwindSafe(move || into.set(Some(look())));
    let look = Closure::once(move |_: JsValue| {
        let look = look;
        (look.0)();
    });
    JsFuture::from(Promise::resolve(&JsValue::NULL).then(&look)).await.unwrap();
    seen.take().expect("it was called")
}

const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// A loop whose turns are a closure, told how many came before.
struct Script<F> {
    turn: F,
    turns: Cell<u32>,
    traps: Cell<u32>,
}

impl<F: Fn(u32) -> Next> Turn for Script<F> {
    fn turn(&self) -> Next {
        let turns = self.turns.get();
        self.turns.set(turns + 1);
        (self.turn)(turns)
    }

    fn trapped(&self) {
        self.traps.set(self.traps.get() + 1);
    }
}

fn script<F: Fn(u32) -> Next + 'static>(turn: F) -> Rc<Script<F>> {
    Rc::new(Script { turn, turns: Cell::new(0), traps: Cell::new(0) })
}

/// Drives `turn` and answers a way to see whether the host still keeps it.
fn start<F: Fn(u32) -> Next + 'static>(web: &Web, turn: F) -> Weak<Script<F>> {
    let script = script(turn);
    let weak = Rc::downgrade(&script);
    assert_eq!(web.drive(script), Driven::Started);
    weak
}

/// Has a loop take a macrotask: on a busy machine a row of microtasks may have become long, and the next turn would be one.
async fn fresh() {
    let hops = start(&Web::new(), |turns| if turns == 0 { Next::Now } else { Next::Done });
    while hops.strong_count() > 0 {
        sleep(1).await;
    }
}

fn closure(f: impl Fn() + 'static) -> Function {
    Closure::<dyn Fn()>::own_assert_unwind_safe(f).into_js_value().unchecked_into()
}

fn spin(web: &Web, time: Duration) {
    let start = web.now();
    while web.now() - start < time {}
}

/// A value several closures of a test look at.
fn shared<T: Default>() -> Rc<T> {
    Rc::default()
}

#[test]
fn a_platform_crosses_threads() {
    fn crosses<T: Send + Sync + 'static>(_: &T) {}
    crosses(&Web::new());
}

#[test]
async fn the_first_turn_comes_after_drive_and_before_any_macrotask() {
    fresh().await;
    let log = shared::<RefCell<Vec<&str>>>();
    let noted = log.clone();
    macrotasks(&closure(move || noted.borrow_mut().push("macrotask")));
    let noted = log.clone();
    start(&Web::new(), move |_| {
        noted.borrow_mut().push("turn");
        Next::Done
    });
    log.borrow_mut().push("drive has returned");
    sleep(50).await;
    assert_eq!(log.borrow()[..3], ["drive has returned", "turn", "macrotask"]);
}

#[test]
async fn pends_of_one_burst_ask_the_host_once() {
    fresh().await;
    let web = Web::new();
    let turns = start(&web, |turns| if turns < 2 { Next::Idle } else { Next::Done });
    let turns = turns.upgrade().unwrap();
    assert_eq!(armed_by(&mut || (0..100).for_each(|_| web.pend())).length(), 0, "the first turn is coming");
    microtask().await;
    assert_eq!(turns.turns.get(), 1);
    assert_eq!(armed_by(&mut || (0..100).for_each(|_| web.pend())).length(), 1);
    assert_eq!(turns.turns.get(), 1, "pend runs nothing itself");
    microtask().await;
    assert_eq!(turns.turns.get(), 2);
    web.pend();
    sleep(10).await;
    assert_eq!(turns.turns.get(), 3);
}

#[test]
async fn a_pend_within_the_turn_asks_nothing_and_brings_another_turn() {
    fresh().await;
    let web = Arc::new(Web::new());
    let (asked, inner) = (shared::<Cell<u32>>(), web.clone());
    let (noted, turns) = (asked.clone(), shared::<Cell<u32>>());
    let counted = turns.clone();
    start(&web, move |turn| {
        counted.set(turn + 1);
        if turn == 0 {
            noted.set(armed_by(&mut || inner.pend()).length());
            Next::Idle
        } else {
            Next::Done
        }
    });
    let counted = turns.clone();
    assert_eq!((in_microtask(move || counted.get()).await, asked.get()), (1, 0));
    sleep(50).await;
    assert_eq!(turns.get(), 2);
}

#[test]
async fn an_idle_loop_gets_no_turns() {
    let web = Web::new();
    let turns = start(&web, |turns| if turns < 1 { Next::Idle } else { Next::Done }).upgrade().unwrap();
    sleep(60).await;
    assert_eq!(turns.turns.get(), 1);
    web.pend();
    sleep(10).await;
    assert_eq!(turns.turns.get(), 2);
}

#[test]
async fn between_two_turns_the_host_runs_its_own_work() {
    let web = Arc::new(Web::new());
    let (ran, inner) = (shared::<Cell<u32>>(), web.clone());
    let count = ran.clone();
    let kinds = macrotasks(&closure(move || count.set(count.get() + 1)));
    let turns = shared::<Cell<u32>>();
    let (seen, counted) = (ran.clone(), turns.clone());
    start(&web, move |turn| {
        spin(&inner, ms(1));
        counted.set(turn + 1);
        if seen.get() == kinds || turn == 2000 { Next::Done } else { Next::Now }
    });
    while turns.get() < 2000 && ran.get() < kinds {
        sleep(10).await;
    }
    assert_eq!(ran.get(), kinds);
}

#[test]
async fn turns_never_come_before_their_deadline() {
    const DELAYS: [u64; 8] = [300, 1_500, 16_500, 20, 1_000, 4_000, 50_000, 2_250];
    let web = Arc::new(Web::new());
    // Until the host's abilities are known, and after.
    for _ in 0..2 {
        let (deadline, late) = (Cell::new(Duration::ZERO), shared::<RefCell<Vec<Duration>>>());
        let (inner, noted) = (web.clone(), late.clone());
        let turns = start(&web, move |turn| {
            let now = inner.now();
            if turn > 0 {
                let late = now.checked_sub(deadline.get());
                noted.borrow_mut().push(late.unwrap_or(Duration::MAX));
            }
            let Some(delay) = DELAYS.get(turn as usize) else { return Next::Done };
            deadline.set(now + Duration::from_micros(*delay));
            Next::At(deadline.get())
        });
        while turns.strong_count() > 0 {
            sleep(20).await;
        }
        let late = late.borrow();
        assert_eq!(late.len(), DELAYS.len());
        assert!(late.iter().all(|late| *late < ms(500)), "early (the maximum) or lost: {late:?}");
        wasm_bindgen_test::console_log!("late by {late:?}");
    }
}

#[test]
async fn a_deadline_weeks_away_does_not_wrap() {
    let web = Arc::new(Web::new());
    let far = web.now() + Duration::from_secs(60 * 24 * 3600);
    let turns =
        start(&web, move |turns| if turns < 1 { Next::At(far) } else { Next::Done }).upgrade().unwrap();
    sleep(50).await;
    assert_eq!(turns.turns.get(), 1);
    web.pend();
    sleep(10).await;
    assert_eq!(turns.turns.get(), 2);
}

#[test]
async fn an_earlier_deadline_moves_the_timer_and_a_later_one_does_not_fire_it() {
    let web = Arc::new(Web::new());
    let origin = web.now();
    let (inner, turns) = (web.clone(), shared::<RefCell<Vec<Duration>>>());
    let noted = turns.clone();
    start(&web, move |turn| {
        noted.borrow_mut().push(inner.now() - origin);
        match turn {
            0 => Next::At(origin + ms(5000)),
            1 => Next::At(origin + ms(30)),
            2 => Next::At(origin + ms(60)),
            3 => Next::At(origin + ms(150)),
            _ => Next::Done,
        }
    });
    microtask().await;
    web.pend();
    sleep(45).await;
    assert_eq!(turns.borrow().len(), 3, "{turns:?}");
    web.pend();
    sleep(300).await;
    let turns = turns.borrow();
    assert_eq!(turns.len(), 5, "{turns:?}");
    assert!(turns[2] >= ms(30) && turns[4] >= ms(150), "{turns:?}");
}

#[test]
async fn after_done_the_turn_is_dropped_and_the_next_drive_starts_afresh() {
    fresh().await;
    let web = Web::new();
    let first = start(&web, |_| Next::Done);
    microtask().await;
    assert_eq!(first.strong_count(), 0);
    assert_eq!(armed_by(&mut || web.pend()).length(), 0);
    let second = start(&web, |turns| if turns == 0 { Next::Idle } else { Next::Done });
    microtask().await;
    assert_eq!(second.upgrade().unwrap().turns.get(), 1);
    web.pend();
    microtask().await;
    assert_eq!(second.strong_count(), 0);
}

#[test]
async fn what_an_ended_drive_had_armed_gives_no_turn_to_the_next() {
    fresh().await;
    let web = Arc::new(Web::new());
    let (inner, stale) = (web.clone(), shared::<RefCell<Option<Function>>>());
    // Ends by the timer's turn, with the microtask of a pend still under way.
    let first = start(&web, |turns| match turns {
        0 => Next::Idle,
        _ => Next::Done,
    });
    microtask().await;
    *stale.borrow_mut() = armed_by(&mut || inner.pend()).get(0).dyn_into().ok();
    sleep(10).await;
    assert_eq!(first.strong_count(), 0);
    fresh().await;
    let second = start(&web, |turns| if turns < 1 { Next::Idle } else { Next::Done }).upgrade().unwrap();
    microtask().await;
    assert_eq!(second.turns.get(), 1);
    stale.borrow().as_ref().unwrap().call0(&JsValue::NULL).unwrap();
    assert_eq!(second.turns.get(), 1);
    web.pend();
    sleep(10).await;
    assert_eq!(second.turns.get(), 2);
}

#[test]
async fn a_host_that_reenters_gets_no_turn_within_the_turn() {
    fresh().await;
    let web = Arc::new(Web::new());
    let (deepest, depth) = (shared::<Cell<u32>>(), shared::<Cell<u32>>());
    let (inner, drain) = (deepest.clone(), shared::<RefCell<Option<Function>>>());
    let (stolen, turns) = (drain.clone(), shared::<Cell<u32>>());
    let counted = turns.clone();
    start(&web, move |turn| {
        depth.set(depth.get() + 1);
        inner.set(inner.get().max(depth.get()));
        counted.set(turn + 1);
        if turn == 1 {
            // As Firefox does inside `window.open`.
            stolen.borrow().as_ref().unwrap().call0(&JsValue::NULL).unwrap();
        }
        depth.set(depth.get() - 1);
        if turn == 2 { Next::Done } else { Next::Idle }
    });
    microtask().await;
    *drain.borrow_mut() = armed_by(&mut || web.pend()).get(0).dyn_into().ok();
    let counted = turns.clone();
    assert_eq!((in_microtask(move || counted.get()).await, deepest.get()), (2, 1));
    sleep(50).await;
    assert_eq!((turns.get(), deepest.get()), (3, 1), "the turn that could not start comes afterwards");
}

#[test]
async fn a_trap_costs_the_loop_nothing_but_that_turn() {
    fresh().await;
    let web = Web::new();
    let turns = start(&web, |turn| match turn {
        0 => Next::Idle,
        1 | 2 => core::arch::wasm32::unreachable(),
        3 => wasm_bindgen::throw_str("an exception of JavaScript ends a turn as well"),
        4 => Next::Idle,
        _ => Next::Done,
    });
    microtask().await;
    web.pend();
    let script = turns.upgrade().unwrap();
    // A host takes its time to show a trap; if a turn is lost none comes however long this waits.
    for _ in 0..200 {
        if script.turns.get() == 5 {
            break;
        }
        sleep(20).await;
    }
    sleep(20).await;
    assert_eq!((script.turns.get(), script.traps.get()), (5, 3));
    drop(script);
    fresh().await;
    web.pend();
    microtask().await;
    assert_eq!(turns.strong_count(), 0, "nothing was leaked");
}

#[test]
async fn promises_and_the_loop_cannot_wake_each_other_for_ever() {
    let web = Arc::new(Web::new());
    let (fired, turns) = (shared::<Cell<bool>>(), shared::<Cell<u32>>());
    let (inner, seen, counted) = (web.clone(), fired.clone(), turns.clone());
    let pend = Closure::<dyn FnMut(JsValue)>::own_assert_unwind_safe(move |_| inner.pend());
    start(&web, move |turn| {
        counted.set(turn);
        if seen.get() || turn == 1_000_000 {
            return Next::Done;
        }
        let _ = Promise::resolve(&JsValue::NULL).then(&pend);
        Next::Idle
    });
    sleep(0).await;
    fired.set(true);
    assert!(turns.get() < 1_000_000, "the timeout had to wait for the loop");
    sleep(20).await;
}

#[test]
async fn loops_of_one_thread_share_it() {
    let webs: [Arc<Web>; 3] = Default::default();
    let log = shared::<RefCell<Vec<usize>>>();
    for (index, web) in webs.iter().enumerate() {
        let (noted, inner, end) = (log.clone(), web.clone(), web.now() + ms(200));
        start(web, move |_| {
            noted.borrow_mut().push(index);
            spin(&inner, ms(1));
            if inner.now() < end { Next::Now } else { Next::Done }
        });
    }
    sleep(400).await;
    let log = log.borrow();
    assert_eq!(log[..3], [0, 1, 2]);
    // A host that puts its frames off is left an idle moment now and then, by any one of them.
    let turns = [0, 1, 2].map(|web| log.iter().filter(|index| **index == web).count());
    assert!(turns.iter().all(|own| own * 5 > log.len()), "a third for each, about: {turns:?}");
}

#[test]
async fn a_turn_may_start_the_next_drive_when_it_is_dropped() {
    struct Last(Arc<Web>, Rc<Cell<u32>>);
    impl Drop for Last {
        fn drop(&mut self) {
            let turns = self.1.clone();
            start(&self.0, move |_| {
                turns.set(turns.get() + 1);
                Next::Done
            });
        }
    }
    let web = Arc::new(Web::new());
    let turns = shared::<Cell<u32>>();
    let last = Last(web.clone(), turns.clone());
    start(&web, move |_| {
        let _kept = &last;
        Next::Done
    });
    sleep(30).await;
    assert_eq!(turns.get(), 1);
}

#[test]
async fn beside_a_busy_program_a_loop_gets_its_share() {
    let web = Arc::new(Web::new());
    // By then the host's abilities are known, and the kindest of hops is in use.
    sleep(100).await;
    let over = shared::<Cell<bool>>();
    let (busy, clock) = (over.clone(), web.clone());
    let work = Closure::<dyn Fn() -> bool>::own_assert_unwind_safe(move || {
        spin(&clock, ms(5));
        !busy.get()
    });
    let pump = pump(&work);
    let turns = shared::<Cell<u32>>();
    let (inner, counted, end) = (web.clone(), turns.clone(), web.now() + ms(1000));
    start(&web, move |turn| {
        counted.set(turn);
        if inner.now() < end { Next::Now } else { Next::Done }
    });
    while web.now() < end {
        sleep(20).await;
    }
    over.set(true);
    let slices = JsFuture::from(pump).await.unwrap().as_f64().unwrap();
    wasm_bindgen_test::console_log!("{} turns beside {slices} slices of 5 ms", turns.get());
    assert!(turns.get() > 20, "{} turns beside {slices} slices", turns.get());
}

#[test]
async fn slices_of_the_stated_length_leave_the_page_its_frames() {
    if !page() {
        return;
    }
    let web = Arc::new(Web::new());
    let (inner, end) = (web.clone(), web.now() + ms(2000));
    let turns = start(&web, move |_| {
        spin(&inner, inner.slice());
        if inner.now() < end { Next::Now } else { Next::Done }
    });
    let counted = turns.upgrade().unwrap();
    let stop = Closure::<dyn Fn() -> bool>::own_assert_unwind_safe(move || turns.strong_count() == 1)
        .into_js_value();
    let frames = JsFuture::from(frames_promise(stop.unchecked_ref())).await.unwrap().as_f64().unwrap();
    let slices = f64::from(counted.turns.get());
    wasm_bindgen_test::console_log!("{frames} frames beside {slices} slices of 5 ms in 2 s");
    // Some 120 beside some 390. A hop that Firefox puts frames off for gives at most 46, and one that waits for them a slice for each.
    // Relative to each other, as a busy machine takes time from both.
    assert!(slices > 25.0, "{slices} slices");
    assert!(frames > 0.175 * slices, "{frames} frames beside {slices} slices");
    assert!(slices > 1.6 * frames, "{frames} frames beside {slices} slices");
}

#[test]
fn the_clock_never_goes_back() {
    let web = Web::new();
    let mut last = web.now();
    for _ in 0..1000 {
        let now = Web::new().now();
        assert!(now >= last);
        last = now;
    }
}

#[test]
async fn blocking_work_runs_on_a_thread_or_is_refused_with_the_remedy() {
    let (web, owned) = (Web::new(), Arc::new(()));
    let job = owned.clone();
    match web.run_blocking(Box::new(move || drop(job))) {
        Ok(()) if cfg!(target_feature = "atomics") => {}
        Ok(()) => panic!("a build without threads has taken a job"),
        Err(refusal) => assert!(refusal.to_string().contains("IsolatedPool"), "{refusal}"),
    }
    for _ in 0..1000 {
        if Arc::strong_count(&owned) == 1 {
            break;
        }
        sleep(5).await;
    }
    assert_eq!(Arc::strong_count(&owned), 1, "the job was run, or is dropped");
    assert!(!web.can_block());
}

#[test]
fn a_report_is_shown_on_the_console() {
    let shown = shown_by(&mut || Web::new().report("a käse, not a case"));
    assert_eq!(shown, "a käse, not a case");
}

#[test]
async fn a_task_can_wait_for_frames_or_is_told_that_there_are_none() {
    let start = Web::new().now();
    match interop::next_frame().await {
        Err(refusal) => assert!(!draws() && refusal.to_string().contains("use a timer"), "{refusal}"),
        Ok(first) => {
            let second = interop::next_frame().await.unwrap();
            assert!(draws() && second > first, "{start:?} {first:?} {second:?}");
        }
    }
}

#[test]
async fn a_task_can_yield_to_the_host_and_wait_until_it_is_idle() {
    let fired = shared::<Cell<bool>>();
    let (seen, mut yields) = (fired.clone(), 0);
    wasm_bindgen_futures::spawn_local(async move {
        sleep(0).await;
        fired.set(true);
    });
    while !seen.get() && yields < 100_000 {
        interop::yield_to_page().await;
        yields += 1;
    }
    assert!(seen.get() && yields > 0, "{yields} yields");
    assert!(interop::idle().await < ms(1000));
    assert!(interop::is_visible());
}

#[test]
async fn a_wait_that_is_dropped_lets_go_of_its_task() {
    struct Task;
    impl std::task::Wake for Task {
        fn wake(self: Arc<Self>) {
            unreachable!("the wait was dropped");
        }
    }
    let task = Arc::new(Task);
    let waker = task.clone().into();
    let mut wait = Box::pin(interop::yield_to_page());
    assert!(wait.as_mut().poll(&mut std::task::Context::from_waker(&waker)).is_pending());
    drop((wait, waker));
    assert_eq!(Arc::strong_count(&task), 1);
    sleep(20).await;
}

/// A build with threads, in a page or a Worker of an isolated origin.
#[cfg(target_feature = "atomics")]
mod threads {
    use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

    use super::{test, *};

    struct Remote {
        web: Web,
        turns: AtomicU32,
        over: AtomicBool,
    }

    const WAKES: u32 = 20_000;

    /// Pends, and waits for the turn that this must bring, again and again.
    fn pend_from_another_thread(remote: &Remote) {
        for _ in 0..WAKES {
            let before = remote.turns.load(Ordering::SeqCst);
            remote.web.pend();
            while remote.turns.load(Ordering::SeqCst) == before {
                std::hint::spin_loop();
            }
        }
        remote.over.store(true, Ordering::SeqCst);
        remote.web.pend();
    }

    #[test]
    async fn no_pend_of_another_thread_is_lost() {
        let remote =
            Arc::new(Remote { web: Web::new(), turns: AtomicU32::new(0), over: AtomicBool::new(false) });
        let (inner, start) = (remote.clone(), remote.web.now());
        // Mostly idle or waiting for long, where only the wake helps; at times the timer races with it.
        let turns =
            super::start(&remote.web, move |_| match inner.turns.fetch_add(1, Ordering::SeqCst) % 4 {
                _ if inner.over.load(Ordering::SeqCst) => Next::Done,
                0 => Next::At(inner.web.now() + Duration::from_micros(30)),
                1 => Next::At(inner.web.now() + ms(3_600_000)),
                _ => Next::Idle,
            });
        let other = remote.clone();
        if remote.web.spawn_thread("pends", Box::new(move || pend_from_another_thread(&other))).is_err() {
            // A page that is not isolated.
            remote.over.store(true, Ordering::SeqCst);
            remote.web.pend();
            return sleep(10).await;
        }
        while !remote.over.load(Ordering::SeqCst) {
            sleep(5).await;
        }
        sleep(10).await;
        assert_eq!(turns.strong_count(), 0, "the last pend ended the loop");
        wasm_bindgen_test::console_log!(
            "{WAKES} wakes, {:?} turns in {:?}",
            remote.turns,
            remote.web.now() - start
        );
        assert!(remote.turns.load(Ordering::SeqCst) >= WAKES);
    }
}
