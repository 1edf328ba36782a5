//! How one behaviour is tested on every host, twice: on the simulator, and through the host's own backend.
//!
//! A behaviour is an `async` body that logs events. The events must come in the same order in both runs. Time is
//! counted in seconds of the test: virtual ones on the simulator, 20 ms each on the host, where only bounds are checked.

use std::{cell::RefCell, future::Future, rc::Rc, time::Duration};

use selkie::{EventLoop, RunError, testing::Sim};

/// The attribute of tests that are no behaviours, because they make a loop of their own or need none.
#[cfg(not(all(target_family = "wasm", target_os = "unknown")))]
pub use std::prelude::v1::test;
#[cfg(all(target_family = "wasm", target_os = "unknown"))]
pub use wasm_bindgen_test::wasm_bindgen_test as test;

/// What a behaviour gets: a log and a clock.
#[derive(Clone, Debug)]
pub struct T {
    events: Rc<RefCell<Vec<String>>>,
    second: Duration,
    exact: bool,
}

/// Seeds that each `seeds` behaviour runs with; `SELKIE_SEEDS` makes it more.
const SEEDS: u64 = 100;

/// A second of the test on a host. A machine that stands still for longer than two moments are apart brings them at
/// once, and so in another order. A behaviour whose events do is run again with a longer second; what is wrong stays so.
const HOST_SECONDS: [Duration; 3] =
    [Duration::from_millis(20), Duration::from_millis(100), Duration::from_millis(500)];
/// The same for `storm` behaviours, and `SELKIE_STORMS`. Where debug builds are slow it is fewer.
const STORMS: u64 = if HOST_BLOCKS { 1000 } else { 100 };

impl T {
    fn sim() -> Self {
        Self { events: Rc::default(), second: Duration::from_secs(1), exact: true }
    }

    fn host(second: Duration) -> Self {
        Self { events: Rc::default(), second, exact: false }
    }

    /// Whether the run has to be repeated. The last one asserts the order.
    fn is_out_of_order(&self, expected: Option<&[&str]>) -> bool {
        let is_out_of_order = expected.is_some_and(|expected| *self.events.borrow() != expected);
        if is_out_of_order && Some(&self.second) != HOST_SECONDS.last() {
            report(&format!("again, with a longer second: the events were {:?}", self.events.borrow()));
            return true;
        }
        compare(self, expected);
        false
    }

    /// Adds an event.
    pub fn log(&self, event: impl Into<String>) {
        self.events.borrow_mut().push(event.into());
    }

    /// A length of `seconds` in the time of the test.
    pub fn secs(&self, seconds: f64) -> Duration {
        self.second.mul_f64(seconds)
    }

    /// The running loop's time.
    pub fn now(&self) -> Duration {
        EventLoop::current().expect("a behaviour runs on a loop").time()
    }

    /// Asserts that `seconds` have passed since `start`: exactly on the simulator, at least and not far more on a host.
    #[track_caller]
    pub fn assert_elapsed(&self, start: Duration, seconds: f64) {
        let elapsed = self.now() - start;
        let expected = self.secs(seconds);
        if self.exact {
            assert_eq!(elapsed, expected, "virtual time is exact");
        } else {
            assert!(elapsed >= expected, "early: {elapsed:?} instead of {expected:?}");
            // Generous: the machine may be busy with other tests.
            assert!(elapsed < expected + Duration::from_secs(5), "late: {elapsed:?} instead of {expected:?}");
        }
    }

    /// Whether this is the simulator.
    pub fn is_sim(&self) -> bool {
        self.exact
    }
}

/// Whether loops of the host can run to an end inside a call, as a page's cannot.
pub const HOST_BLOCKS: bool = !cfg!(all(target_family = "wasm", target_os = "unknown"));

/// Whether the host has threads. `workers.rs` holds a build with threads to it.
pub fn has_threads() -> bool {
    HOST_BLOCKS || selkie::ThreadPool::new(1).is_ok()
}

/// Runs a test that blocks on a thread that may.
#[cfg(all(target_family = "wasm", target_os = "unknown", target_feature = "atomics"))]
pub async fn on_a_thread(test: impl FnOnce() + Send + 'static) {
    let Ok(pool) = selkie::ThreadPool::new(1) else { return };
    pool.submit(test).unwrap().await.unwrap();
}

#[cfg(not(all(target_family = "wasm", target_os = "unknown")))]
#[allow(clippy::disallowed_types, reason = "tests of threads")]
pub use std::{thread, time::Instant};

/// `std::thread` for threads of this crate.
#[cfg(all(target_family = "wasm", target_os = "unknown", target_feature = "atomics"))]
pub mod thread {
    pub use std::thread::{current, panicking, sleep, yield_now};

    use selkie::{JoinError, RemoteTask, ThreadPool};

    pub struct JoinHandle<T: Send>(RemoteTask<T>);

    pub fn spawn<T: Send + 'static>(f: impl FnOnce() -> T + Send + 'static) -> JoinHandle<T> {
        JoinHandle(ThreadPool::new(1).unwrap().submit(f).unwrap())
    }

    impl<T: Send> JoinHandle<T> {
        pub fn join(mut self) -> Result<T, JoinError> {
            self.0.wait(None).unwrap()
        }
    }
}

/// `std::time::Instant` where that panics.
#[cfg(all(target_family = "wasm", target_os = "unknown", target_feature = "atomics"))]
#[derive(Clone, Copy, PartialEq, PartialOrd)]
pub struct Instant(Duration);

#[cfg(all(target_family = "wasm", target_os = "unknown", target_feature = "atomics"))]
impl Instant {
    pub fn now() -> Self {
        Self(EventLoop::new().time())
    }

    pub fn elapsed(&self) -> Duration {
        Self::now().0 - self.0
    }
}

#[cfg(all(target_family = "wasm", target_os = "unknown", target_feature = "atomics"))]
impl std::ops::Add<Duration> for Instant {
    type Output = Self;

    fn add(self, time: Duration) -> Self {
        Self(self.0 + time)
    }
}

/// Defines tests that block, or use threads of their own: natively as they are, in a build with threads on a thread of the crate.
#[allow(unused_macros, reason = "where there are no threads")]
macro_rules! on_threads {
    ($($(#[doc = $doc:literal])* #[test] $(#[$meta:meta])* fn $name:ident() $body:block)*) => {$(
        $(#[doc = $doc])*
        $(#[$meta])*
        #[cfg(not(all(target_family = "wasm", target_os = "unknown")))]
        #[test]
        fn $name() $body

        $(#[doc = $doc])*
        $(#[$meta])*
        #[cfg(all(target_family = "wasm", target_os = "unknown", target_feature = "atomics"))]
        #[::wasm_bindgen_test::wasm_bindgen_test]
        async fn $name() {
            $crate::harness::on_a_thread(|| $body).await;
        }
    )*};
}

/// Runs `check` with a new loop of the simulator and, where the host can block, with one of the host.
///
/// Where it cannot, the host's loop has to say so instead, and to stay as it was.
pub fn on_new_loops(check: impl Fn(EventLoop)) {
    let event_loop = Sim::new().event_loop();
    check(event_loop);
    let event_loop = EventLoop::new();
    if HOST_BLOCKS {
        return check(event_loop);
    }
    assert!(matches!(event_loop.run_forever(), Err(RunError::WouldBlock)));
    assert!(matches!(event_loop.run_until_complete(async {}), Err(RunError::WouldBlock)));
    assert!(!event_loop.is_running() && !event_loop.is_closed());
}

/// What a loop's exception handler is told, while this lives.
pub struct Reports {
    event_loop: EventLoop,
    messages: Rc<RefCell<Vec<String>>>,
}

impl Reports {
    pub fn of(event_loop: &EventLoop) -> Self {
        let messages = Rc::new(RefCell::new(Vec::new()));
        let kept = messages.clone();
        event_loop.set_exception_handler(Some(Rc::new(move |context| {
            kept.borrow_mut().push(context.message().to_owned());
        })));
        Self { event_loop: event_loop.clone(), messages }
    }

    pub fn of_current() -> Self {
        Self::of(&EventLoop::current().expect("a behaviour runs on a loop"))
    }

    /// What was reported since the last call.
    pub fn take(&self) -> Vec<String> {
        self.messages.take()
    }
}

impl Drop for Reports {
    fn drop(&mut self) {
        self.event_loop.set_exception_handler(None);
    }
}

/// Logs when it is dropped.
pub struct OnDrop<F: FnMut()>(pub F);

impl<F: FnMut()> Drop for OnDrop<F> {
    fn drop(&mut self) {
        (self.0)();
    }
}

#[cfg(not(all(target_family = "wasm", target_os = "unknown")))]
fn report(message: &str) {
    eprintln!("{message}");
}

#[cfg(all(target_family = "wasm", target_os = "unknown"))]
fn report(message: &str) {
    wasm_bindgen_test::console_log!("{message}");
}

#[track_caller]
fn compare(t: &T, expected: Option<&[&str]>) {
    if let Some(expected) = expected {
        assert_eq!(*t.events.borrow(), expected, "the events came in another order");
    }
}

pub fn on_sim<F>(body: impl FnOnce(T) -> F, expected: Option<&[&str]>)
where
    F: Future<Output = ()> + 'static,
{
    let t = T::sim();
    Sim::new().run(body(t.clone()));
    compare(&t, expected);
}

/// Runs with many seeds: the behaviour may assert no order, only what always holds.
pub fn on_seeds<F>(body: impl Fn(T) -> F)
where
    F: Future<Output = ()> + 'static,
{
    on_each_seed(body, "SELKIE_SEEDS", SEEDS);
}

/// As [`on_seeds`], with many more.
pub fn on_storms<F>(body: impl Fn(T) -> F)
where
    F: Future<Output = ()> + 'static,
{
    on_each_seed(body, "SELKIE_STORMS", STORMS);
}

/// The seed to run with, or so many of them.
pub fn seeds(variable: &str, default: u64) -> std::ops::Range<u64> {
    let number = |name| std::env::var(name).ok().and_then(|value| value.parse().ok());
    match number("SELKIE_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number(variable).unwrap_or(default),
    }
}

fn on_each_seed<F>(body: impl Fn(T) -> F, variable: &str, default: u64)
where
    F: Future<Output = ()> + 'static,
{
    let seeds = seeds(variable, default);
    for seed in seeds {
        let run = std::panic::AssertUnwindSafe(|| Sim::seeded(seed).run(body(T::sim())));
        if let Err(payload) = std::panic::catch_unwind(run) {
            eprintln!("failed with SELKIE_SEED={seed}");
            std::panic::resume_unwind(payload);
        }
    }
}

#[cfg(not(all(target_family = "wasm", target_os = "unknown")))]
pub fn on_host<F>(body: impl Fn(T) -> F, expected: Option<&[&str]>)
where
    F: Future<Output = ()> + 'static,
{
    for t in HOST_SECONDS.map(T::host) {
        selkie::run(body(t.clone()));
        if !t.is_out_of_order(expected) {
            break;
        }
    }
}

#[cfg(all(target_family = "wasm", target_os = "unknown"))]
pub async fn on_host<F>(body: impl Fn(T) -> F, expected: Option<&[&str]>)
where
    F: Future<Output = ()> + 'static,
{
    for t in HOST_SECONDS.map(T::host) {
        // The page's own executor waits for a task of the page's default loop.
        let before = selkie::spawn_lazy(async { selkie::all_tasks().len() }).await.unwrap();
        selkie::spawn_lazy(body(t.clone())).await.expect("a behaviour completes");
        // All of them share that loop: what this one has left behind would be seen by the next.
        for _ in 0..40 {
            let left = selkie::spawn_lazy(async { selkie::all_tasks().len() }).await.unwrap();
            if left <= before {
                break;
            }
            selkie::spawn_lazy(selkie::sleep(Duration::from_millis(10))).await.unwrap();
        }
        if !t.is_out_of_order(expected) {
            break;
        }
    }
}

/// Defines behaviours: each becomes a module with the tests `sim` and `host`.
///
/// ```text
/// behaviour! {
///     /// Rows: F23.
///     async fn results_come_in_argument_order(t) {
///         t.log("a");
///     } => ["a"]
/// }
/// ```
///
/// Without a list of events only the body's own assertions count. `seeds async fn` runs on many seeds as well, as the
/// test `seeds`, and `storm async fn` on many more.
macro_rules! behaviour {
    ($(#[$meta:meta])* async fn $name:ident($t:ident) $body:block $(=> [$($event:expr),* $(,)?])?) => {
        behaviour!(@module [$(#[$meta])*] $name $t $body {
            const EXPECTED: Option<&[&str]> = behaviour!(@expected $([$($event),*])?);
        });
    };
    ($(#[$meta:meta])* seeds async fn $name:ident($t:ident) $body:block) => {
        behaviour!(@many on_seeds [$(#[$meta])*] $name $t $body);
    };
    ($(#[$meta:meta])* storm async fn $name:ident($t:ident) $body:block) => {
        behaviour!(@many on_storms [$(#[$meta])*] $name $t $body);
    };
    (@many $run:ident [$(#[$meta:meta])*] $name:ident $t:ident $body:block) => {
        behaviour!(@module [$(#[$meta])*] $name $t $body {
            const EXPECTED: Option<&[&str]> = None;

            #[cfg_attr(not(all(target_family = "wasm", target_os = "unknown")), test)]
            #[cfg_attr(
                all(target_family = "wasm", target_os = "unknown"),
                ::wasm_bindgen_test::wasm_bindgen_test
            )]
            fn seeds() {
                $crate::harness::$run(body);
            }
        });
    };
    (@expected) => { None };
    (@expected [$($event:expr),*]) => { Some(&[$($event),*]) };
    (@module [$(#[$meta:meta])*] $name:ident $t:ident $body:block { $($items:item)* }) => {
        $(#[$meta])*
        mod $name {
            #[allow(unused_imports)]
            use super::*;

            #[allow(unused_variables)]
            async fn body($t: $crate::harness::T) $body

            $($items)*

            #[cfg_attr(not(all(target_family = "wasm", target_os = "unknown")), test)]
            #[cfg_attr(
                all(target_family = "wasm", target_os = "unknown"),
                ::wasm_bindgen_test::wasm_bindgen_test
            )]
            fn sim() {
                $crate::harness::on_sim(body, EXPECTED);
            }

            #[cfg(not(all(target_family = "wasm", target_os = "unknown")))]
            #[test]
            fn host() {
                $crate::harness::on_host(body, EXPECTED);
            }

            #[cfg(all(target_family = "wasm", target_os = "unknown"))]
            #[::wasm_bindgen_test::wasm_bindgen_test]
            async fn host() {
                $crate::harness::on_host(body, EXPECTED).await;
            }
        }
    };
}
