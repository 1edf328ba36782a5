//! Isolated pools: what is the same for child processes, Web Workers and the simulator.

use std::{
    collections::BTreeMap,
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use selkie::{
    ContextVar, EventLoop, IsolatedPool, PoolError, RemoteSet, ThreadPool, isolated, isolated::Call, sleep,
    spawn, testing::Sim, timeout,
};
use serde::{Deserialize, Serialize};

use crate::harness::{HOST_BLOCKS, test};

/// What workers run natively, where the main of this binary is not ours. On the web they come to it by themselves.
#[test]
fn worker() {
    isolated::serve();
}

fn pool(workers: usize) -> Option<IsolatedPool> {
    named_pool(workers, "tests")
}

fn named_pool(workers: usize, name: &str) -> Option<IsolatedPool> {
    isolated::serve();
    let builder = IsolatedPool::builder(workers).name(name);
    match builder.arguments(["--exact", "isolated::worker", "--nocapture"]).build() {
        Ok(pool) => Some(pool),
        // Windows and Node say what to do instead.
        Err(error) => {
            let text = error.to_string();
            assert!(text.contains("need a Unix system") || text.contains("no Web Workers"), "{text}");
            None
        }
    }
}

#[isolated]
pub(crate) fn square(n: u64) -> u64 {
    n * n
}

#[isolated]
fn nothing() {}

/// A parameter that has the name of the function.
#[isolated]
fn echo(echo: String) -> String {
    echo
}

/// Names that the attribute gives to its own as well.
#[isolated]
fn arguments(argument_1: u8, (a, b): (u8, u8)) -> u8 {
    argument_1 + a * b
}

/// A call of one that has the same name elsewhere.
fn other_square(n: i8) -> Call<String> {
    #[isolated]
    fn square(n: i8) -> String {
        format!("{n}²")
    }
    square(n)
}

#[isolated]
fn count(text: &str, bytes: Vec<u8>, mut extra: Option<usize>, (a, b): (usize, usize)) -> usize {
    *extra.get_or_insert(0) += 1;
    text.len() + bytes.len() + extra.unwrap() + a * b
}

#[derive(Clone, Debug, Serialize, Deserialize, PartialEq)]
struct Everything {
    bytes: Vec<u8>,
    map: BTreeMap<String, Option<f64>>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    skipped: Option<u8>,
    untagged: Vec<Untagged>,
    large: u128,
    small: (i8, char, bool),
    nothing: (),
    tagged: Vec<Tagged>,
    keys: BTreeMap<(Option<i8>, char), [u8; 2]>,
    address: IpAddr,
    float: f32,
    blob: Blob,
    #[serde(flatten)]
    flat: Flat,
    #[serde(flatten)]
    others: BTreeMap<String, Vec<u8>>,
}

#[derive(Clone, Debug, Serialize, Deserialize, PartialEq)]
#[serde(tag = "kind")]
enum Tagged {
    Bytes { bytes: Vec<u8> },
    Address { address: IpAddr },
}

/// Bytes that say so.
#[derive(Clone, Debug, PartialEq)]
struct Blob(Vec<u8>);

impl Serialize for Blob {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.0)
    }
}

impl<'de> Deserialize<'de> for Blob {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl serde::de::Visitor<'_> for Visitor {
            type Value = Blob;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("bytes")
            }

            fn visit_bytes<E>(self, bytes: &[u8]) -> Result<Blob, E> {
                Ok(Blob(bytes.to_vec()))
            }
        }
        deserializer.deserialize_byte_buf(Visitor)
    }
}

#[derive(Clone, Debug, Serialize, Deserialize, PartialEq)]
#[serde(untagged)]
enum Untagged {
    Small(u8),
    Number(i64),
    Text { text: String },
    List(Vec<u32>),
}

#[derive(Clone, Debug, Serialize, Deserialize, PartialEq)]
struct Flat {
    last: Result<u8, String>,
}

#[isolated]
fn same(value: Everything) -> Everything {
    value
}

#[isolated]
fn checked(divisor: u32) -> Result<u32, String> {
    100u32.checked_div(divisor).ok_or_else(|| "by zero".to_owned())
}

#[isolated]
fn panics(text: String) -> u8 {
    panic!("on purpose: {text}")
}

#[isolated]
fn never_ends() {
    loop {
        std::hint::spin_loop();
    }
}

#[isolated]
fn name() -> Option<String> {
    isolated::worker()
}

static CONTEXT: ContextVar<u8> = ContextVar::new();

#[isolated]
fn context() -> Option<u8> {
    CONTEXT.get()
}

/// Runs loops of its own.
#[isolated]
fn runs_loops() -> u32 {
    let guest = EventLoop::guest(|| ());
    let task = guest.spawn(async { 1 }).unwrap();
    guest.turn().unwrap();
    guest.close().unwrap();
    let slept = Sim::new().run(async {
        sleep(Duration::from_secs(60)).await;
        spawn(async { 2 }).await.unwrap()
    });
    task.try_into_result().unwrap().unwrap() + slept
}

/// Can be read, but not written.
#[derive(Debug, Deserialize)]
struct Unwritable;

impl Serialize for Unwritable {
    fn serialize<S: serde::Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
        Err(serde::ser::Error::custom("not today"))
    }
}

/// Can be written, but not read.
#[derive(Debug, Serialize)]
struct Unreadable;

impl<'de> Deserialize<'de> for Unreadable {
    fn deserialize<D: serde::Deserializer<'de>>(_: D) -> Result<Self, D::Error> {
        Err(serde::de::Error::custom("cannot be read"))
    }
}

/// Harmful where it was read: `Panics` then, `Bomb` as it goes.
#[derive(Debug, Serialize)]
struct Panics;

impl<'de> Deserialize<'de> for Panics {
    fn deserialize<D: serde::Deserializer<'de>>(_: D) -> Result<Self, D::Error> {
        panic!("as it is read")
    }
}

#[derive(Debug, Serialize)]
struct Bomb {
    read: bool,
}

impl<'de> Deserialize<'de> for Bomb {
    fn deserialize<D: serde::Deserializer<'de>>(_: D) -> Result<Self, D::Error> {
        Ok(Self { read: true })
    }
}

impl Drop for Bomb {
    fn drop(&mut self) {
        assert!(!self.read, "as it goes");
    }
}

#[isolated]
fn gives_what_panics() -> Panics {
    Panics
}

#[isolated]
fn gives_a_bomb() -> Bomb {
    Bomb { read: false }
}

/// What the attribute makes of it uses the argument: not for a lint to tell the user.
#[isolated]
#[deny(clippy::used_underscore_binding)]
fn takes_unwritable(_value: Unwritable) {}

#[isolated]
fn takes_unreadable(_value: Unreadable) {}

#[isolated]
fn gives_unwritable() -> Unwritable {
    Unwritable
}

#[isolated]
fn gives_unreadable() -> Unreadable {
    Unreadable
}

#[isolated]
fn makes_a_pool() -> String {
    IsolatedPool::new(1).unwrap_err().to_string()
}

fn everything() -> Everything {
    Everything {
        bytes: (0..=255).collect(),
        map: [("one".to_owned(), Some(1.5)), ("none".to_owned(), None)].into(),
        skipped: None,
        untagged: vec![
            Untagged::Small(7),
            Untagged::Number(-7),
            Untagged::Text { text: "ü".to_owned() },
            Untagged::List(vec![1, 300, 70_000]),
        ],
        large: u128::MAX - 1,
        small: (-128, '🦭', true),
        nothing: (),
        tagged: vec![
            Tagged::Bytes { bytes: vec![1, 200] },
            Tagged::Address { address: [127, 0, 0, 1].into() },
        ],
        keys: [((None, 'a'), [1, 2]), ((Some(-1), 'ü'), [3, 4])].into(),
        address: [0, 0, 0, 0, 0, 0, 0, 1].into(),
        float: f32::NEG_INFINITY,
        blob: Blob(vec![0; 300]),
        flat: Flat { last: Err("no".to_owned()) },
        others: [("more".to_owned(), vec![1, 2, 255])].into(),
    }
}

behaviour! {
    /// Rows: F40.
    async fn a_call_runs_in_another_address_space_and_comes_back(t) {
        let Some(pool) = pool(2) else { return };
        let jobs: Vec<_> = (0..20).map(|n| pool.submit(square(n)).unwrap()).collect();
        for (n, job) in jobs.into_iter().enumerate() {
            assert_eq!(job.await.unwrap(), (n * n) as u64);
        }
        pool.submit(nothing()).unwrap().await.unwrap();
        assert_eq!(pool.submit(echo("seal".to_owned())).unwrap().await.unwrap(), "seal");
        assert_eq!(pool.submit(other_square(3)).unwrap().await.unwrap(), "3²");
        assert_eq!(pool.submit(count("four", vec![1, 2, 3], None, (2, 5))).unwrap().await.unwrap(), 18);
        assert_eq!(pool.submit(count("", vec![], Some(1), (0, 0))).unwrap().await.unwrap(), 2);
        assert_eq!(pool.submit(same(everything())).unwrap().await.unwrap(), everything());
        assert_eq!(pool.submit(checked(5)).unwrap().await.unwrap(), Ok(20));
        assert_eq!(pool.submit(checked(0)).unwrap().await.unwrap(), Err("by zero".to_owned()));
        assert!((1..=2).contains(&pool.workers()) && pool.max_workers() == 2);
        pool.shutdown().await;
        assert_eq!(pool.workers(), 0);
    }
}

#[isolated]
fn same_options(options: Vec<Option<Option<u8>>>, unit: Option<()>) -> (Vec<Option<Option<u8>>>, Option<()>) {
    (options, unit)
}

behaviour! {
    /// Rows: F40. As in JSON, which is what types are made for.
    async fn an_option_of_nothing_comes_back_as_none(t) {
        let result = same_options(vec![None, Some(None), Some(Some(1))], Some(())).run_here();
        assert_eq!(result.unwrap(), (vec![None, None, Some(Some(1))], None));
    }
}

behaviour! {
    /// Rows: F37, F40. Where nothing may block the refusal names what does the work there.
    async fn work_that_finds_no_thread_is_sent_to_an_isolated_pool(t) {
        match selkie::to_thread(|| 1).await {
            Ok(one) => assert_eq!(one, 1),
            Err(error) => {
                let text = error.to_string();
                assert!(text.contains("`IsolatedPool`") || text.contains("no Workers"), "{text}");
            }
        }
    }
}

behaviour! {
    /// Rows: F40. Difference: F40. Nothing of the caller comes along but the arguments: no context variable either.
    async fn a_worker_has_a_name_and_nothing_of_the_caller(t) {
        let Some(pool) = pool(1) else { return };
        CONTEXT.set(7);
        assert_eq!(pool.submit(name()).unwrap().await.unwrap().as_deref(), Some("tests-0"));
        assert_eq!(pool.name(), "tests");
        assert_eq!(isolated::worker(), None);
        if !t.is_sim() {
            assert_eq!(pool.submit(context()).unwrap().await.unwrap(), None);
            let refused = pool.submit(makes_a_pool()).unwrap().await.unwrap();
            assert!(refused.contains("worker"), "{refused}");
        }
        pool.shutdown().await;
    }
}

behaviour! {
    /// Rows: F40. Also in a Web Worker without glue.
    async fn a_job_may_run_loops_of_its_own(_t) {
        let Some(pool) = pool(1) else { return };
        assert_eq!(pool.submit(runs_loops()).unwrap().await.unwrap(), 3);
        pool.shutdown().await;
    }
}

behaviour! {
    /// Rows: F74, X34, F40.
    async fn a_map_of_calls_keeps_the_order_and_pulls_items_as_it_goes(t) {
        use std::{cell::Cell, rc::Rc};
        let Some(pool) = pool(2) else { return };
        let pulled = Rc::new(Cell::new(0));
        let counted = pulled.clone();
        let items = (0..30).inspect(move |_| counted.set(counted.get() + 1));
        let mut map = pool.map(items, square).buffer(3);
        assert_eq!(pulled.get(), 0);
        let mut next = 0;
        while let Some(result) = map.next().await {
            assert_eq!(result.unwrap(), next * next);
            next += 1;
            assert!(pulled.get() <= next + 2);
        }
        assert_eq!(next, 30);
        assert!(map.next().await.is_none());
        let mut failing = pool.map([1, 0, 1], |n| if n == 1 { checked(n) } else { takes_none() });
        assert_eq!(failing.next().await.unwrap().unwrap(), Ok(100));
        assert!(failing.next().await.unwrap().unwrap_err().is_bad_data());
        assert!(failing.next().await.is_none());
        pool.shutdown().await;
    }
}

/// A call that cannot be sent, of a function with the result of `checked`.
fn takes_none() -> Call<Result<u32, String>> {
    #[isolated]
    fn refuses(_value: Unwritable) -> Result<u32, String> {
        Ok(0)
    }
    refuses(Unwritable)
}

behaviour! {
    /// Rows: F75, F40. Difference: F75. An immediate shutdown ends also what runs.
    async fn a_shutdown_of_an_isolated_pool_waits_or_kills(t) {
        let Some(pool) = pool(2) else { return };
        let jobs: Vec<_> = (0..20).map(|n| pool.submit(square(n)).unwrap()).collect();
        let (first, second) = (pool.shutdown(), pool.shutdown());
        assert_eq!(pool.submit(nothing()).unwrap_err(), PoolError::ShutDown);
        first.await;
        assert!(jobs.iter().all(|job| job.is_finished()));
        second.await;
        assert_eq!(pool.workers(), 0);
        for (n, job) in jobs.into_iter().enumerate() {
            assert_eq!(job.await.unwrap(), (n * n) as u64);
        }

        let Some(pool) = self::pool(1) else { return };
        let job = if t.is_sim() { pool.submit(nothing()).unwrap() } else { running(&pool).await };
        let queued = pool.submit(square(2)).unwrap();
        pool.shutdown_now().await;
        assert_eq!(pool.workers(), 0);
        assert!(job.await.unwrap_err().is_lost());
        assert!(queued.await.unwrap_err().is_lost());
    }
}

/// A job that has begun and never ends.
async fn running(pool: &IsolatedPool) -> selkie::RemoteTask<()> {
    let job = pool.submit(never_ends()).unwrap();
    while !job.is_started() {
        sleep(Duration::from_millis(1)).await;
    }
    job
}

behaviour! {
    /// Rows: F40. No worker waits for what its pool does with a result.
    async fn a_worker_has_its_next_job_before_the_result_of_the_last_is_looked_at(_t) {
        let Some(pool) = pool(1) else { return };
        let (first, second) = (pool.submit(square(2)).unwrap(), pool.submit(square(3)).unwrap());
        let begun = Arc::new(AtomicBool::new(false));
        let seen = begun.clone();
        first.on_done(move |_| seen.store(second.is_started(), Ordering::Relaxed));
        assert_eq!(first.await.unwrap(), 4);
        assert!(begun.load(Ordering::Relaxed));
        pool.shutdown().await;
    }
}

behaviour! {
    /// Rows: F40, F42, U17. Difference: F42. What runs is really ended: its worker is killed, and another one takes its place.
    async fn a_job_that_never_ends_can_be_cancelled(t) {
        let Some(pool) = pool(1) else { return };
        let queued = pool.submit(square(1)).unwrap();
        assert!(queued.cancel());
        assert!(queued.await.unwrap_err().is_cancelled());
        if !t.is_sim() {
            let job = running(&pool).await;
            let next = pool.submit(square(5)).unwrap();
            assert!(job.cancel());
            assert!(job.is_finished());
            assert!(job.await.unwrap_err().is_cancelled());
            assert_eq!(next.await.unwrap(), 25);
            // A timeout that drops the task detaches it; cancelled before, it ends.
            let mut job = running(&pool).await;
            assert!(timeout(Duration::from_millis(5), &mut job).await.is_err());
            job.cancel();
            assert!(job.await.unwrap_err().is_cancelled());
        }
        assert_eq!(pool.submit(square(6)).unwrap().await.unwrap(), 36);
        pool.shutdown().await;
    }
}

behaviour! {
    /// Rows: F40. Also what a system does not take as the name of a thread or in an environment.
    async fn the_name_of_an_isolated_pool_may_be_any_text(_t) {
        let Some(pool) = named_pool(1, "name\0with a zero") else { return };
        assert_eq!(pool.submit(square(2)).unwrap().await.unwrap(), 4);
        let worker = pool.submit(name()).unwrap().await.unwrap().unwrap();
        assert!(worker.starts_with("name") && worker.ends_with("with a zero-0"), "{worker}");
        pool.shutdown().await;
    }
}

#[cfg(panic = "unwind")]
behaviour! {
    /// Rows: F72, F40. The worker goes on after a panic that unwinds.
    async fn a_panic_of_an_isolated_job_comes_back_with_its_message(t) {
        let Some(pool) = pool(1) else { return };
        let error = pool.submit(panics("no luck".to_owned())).unwrap().await.unwrap_err();
        assert!(error.is_panic() && error.to_string().contains("on purpose: no luck"), "{error}");
        let payload = error.into_panic().downcast::<String>().unwrap();
        assert_eq!(*payload, "on purpose: no luck");
        assert_eq!(pool.submit(square(2)).unwrap().await.unwrap(), 4);
        let error = panics("here".to_owned()).run_here().unwrap_err();
        assert!(error.is_panic());
        pool.shutdown().await;
    }
}

/// Rows: F40, F72. As a Worker that is lost with its job.
#[cfg(not(panic = "unwind"))]
#[test]
fn a_panic_that_aborts_in_a_simulation_ends_its_worker_and_not_the_pool() {
    Sim::new().run(async {
        let pool = pool(1).unwrap();
        for _ in 0..2 {
            let error = pool.submit(panics("no luck".to_owned())).unwrap().await.unwrap_err();
            assert!(error.is_crashed(), "{error}");
            assert_eq!(isolated::worker(), None);
            assert_eq!(pool.submit(square(3)).unwrap().await.unwrap(), 9);
        }
        timeout(Duration::from_secs(10), pool.shutdown()).await.unwrap();
    });
}

behaviour! {
    /// Rows: F40, F75. Where results are read and dropped, no job may stop being counted.
    async fn a_result_that_panics_as_it_is_read_or_dropped_fails_itself_only(t) {
        let Some(pool) = pool(1) else { return };
        // Nobody wants it by the time that a worker is there.
        pool.submit(gives_a_bomb()).unwrap().detach();
        for _ in 0..3 {
            let error = pool.submit(gives_what_panics()).unwrap().await.map(drop).unwrap_err();
            assert!(if cfg!(panic = "unwind") { error.is_bad_data() } else { error.is_trap() }, "{error}");
            assert_eq!(pool.submit(square(2)).unwrap().await.unwrap(), 4);
        }
        timeout(Duration::from_secs(10), pool.shutdown()).await.unwrap();
        assert_eq!(pool.workers(), 0);
    }
}

behaviour! {
    /// Rows: F40. In each of the four places where a value is written or read.
    async fn what_cannot_be_sent_is_an_error_that_says_so(t) {
        let Some(pool) = pool(1) else { return };
        let refused = pool.submit(takes_unwritable(Unwritable)).unwrap_err();
        assert!(matches!(&refused, PoolError::BadData(_)), "{refused:?}");
        assert!(refused.to_string().contains("not today") && refused.to_string().contains("takes_unwritable"));
        let errors = [
            pool.submit(takes_unreadable(Unreadable)).unwrap().await.map(drop).unwrap_err(),
            pool.submit(gives_unwritable()).unwrap().await.map(drop).unwrap_err(),
            pool.submit(gives_unreadable()).unwrap().await.map(drop).unwrap_err(),
        ];
        for error in errors {
            assert!(error.is_bad_data() && !error.is_lost(), "{error}");
        }
        assert_eq!(pool.submit(square(2)).unwrap().await.unwrap(), 4);
        pool.shutdown().await;
    }
}

behaviour! {
    /// Rows: F40, F76. Results of isolated pools, thread pools and loops are of one kind.
    async fn results_of_isolated_pools_come_as_they_complete(t) {
        let Some(pool) = pool(2) else { return };
        let mut set = RemoteSet::new();
        for n in 0..5 {
            set.insert(pool.submit(square(n)).unwrap());
        }
        if t.is_sim() || HOST_BLOCKS {
            let threads = ThreadPool::new(1).unwrap();
            set.insert(threads.submit(|| 100).unwrap());
        } else {
            set.insert(pool.submit(square(10)).unwrap());
        }
        let mut all = Vec::new();
        while let Some((_, result)) = set.next().await {
            all.push(result.unwrap());
        }
        all.sort_unstable();
        assert_eq!(all, [0, 1, 4, 9, 16, 100]);
        let waiter = spawn(pool.submit(square(3)).unwrap());
        assert_eq!(waiter.await.unwrap().unwrap(), 9);
        pool.shutdown().await;
    }
}

behaviour! {
    /// Rows: F40. Also while jobs wait and run; detached jobs are still done.
    async fn handles_may_be_dropped_in_every_state(t) {
        let Some(pool) = pool(1) else { return };
        drop(pool.submit(square(1)).unwrap());
        pool.submit(square(2)).unwrap().detach();
        let last = pool.submit(square(3)).unwrap();
        let ending = pool.shutdown();
        drop(pool);
        ending.await;
        assert_eq!(last.try_into_done(), 9);
        let Some(unused) = self::pool(3) else { return };
        drop(unused);
        let Some(pool) = self::pool(1) else { return };
        let job = pool.submit(square(4)).unwrap();
        drop(pool);
        assert_eq!(job.await.unwrap(), 16);
    }
}

/// Takes a result that is there.
trait Done<R> {
    fn try_into_done(self) -> R;
}

impl<R: Send> Done<R> for selkie::RemoteTask<R> {
    fn try_into_done(mut self) -> R {
        self.try_take().unwrap().unwrap()
    }
}

behaviour! {
    /// Rows: F40. With the same copies as in a worker.
    async fn a_call_can_be_made_here(t) {
        assert_eq!(square(4).run_here().unwrap(), 16);
        assert!(square(4).name().ends_with("isolated::square"));
        assert_eq!(same(everything()).clone().run_here().unwrap(), everything());
        assert!(takes_unwritable(Unwritable).run_here().unwrap_err().is_bad_data());
        t.log("done");
    } => ["done"]
}

behaviour! {
    /// Rows: F40.
    seeds async fn the_seed_chooses_when_isolated_jobs_run(t) {
        let Some(pool) = pool(2) else { return };
        let jobs: Vec<_> = (0..6).map(|n| pool.submit(square(n)).unwrap()).collect();
        jobs[3].cancel();
        for (n, job) in jobs.into_iter().enumerate() {
            match job.await {
                Ok(result) => assert_eq!(result, (n * n) as u64),
                Err(error) => assert!(n == 3 && error.is_cancelled()),
            }
        }
        pool.shutdown().await;
        assert_eq!(pool.workers(), 0);
    }
}

/// A pool of a simulation does not outlive it, and nobody waits for it then.
#[test]
fn the_end_of_a_simulation_ends_its_isolated_pool() {
    let mut kept = None;
    let (pool, mut job) = selkie::testing::Sim::new().run(async {
        let pool = IsolatedPool::new(1).unwrap();
        let job = pool.submit(square(3)).unwrap();
        (pool, job)
    });
    assert!(job.try_take().is_some_and(|result| result.is_err()));
    let error = pool.submit(square(1)).map(|task| kept = Some(task));
    assert!(error.is_ok() && kept.unwrap().try_take().unwrap().unwrap_err().is_unavailable());
}

/// Rows: F47. The jobs of an isolated pool go on in the next run of their simulation, and end with it also where a handle keeps it.
#[test]
fn a_simulated_isolated_pool_is_its_world_s_and_not_its_loop_s() {
    let sim = selkie::testing::Sim::new();
    let start = async || {
        let pool = IsolatedPool::new(1).unwrap();
        let jobs: Vec<_> = (0..3).map(|n| pool.submit(square(n)).unwrap()).collect();
        (selkie::EventLoop::current().unwrap().handle(), pool, jobs)
    };
    let (_, _pool, jobs) = sim.run(start());
    let results = sim.run(async move { selkie::gather(jobs).await });
    let results: Vec<_> = results.into_iter().map(|result| result.unwrap().unwrap()).collect();
    assert_eq!(results, [0, 1, 4]);
    let (_handle, _pool, mut jobs) = sim.run(start());
    drop(sim);
    assert!(jobs.iter_mut().all(|job| job.try_take().is_some_and(|result| result.is_err())));
}

/// Rows: F47. A wait that blocks would keep the simulation from running the job.
#[test]
fn blocking_on_an_isolated_pool_of_the_same_simulation_is_refused() {
    if crate::harness::HOST_BLOCKS {
        selkie::testing::Sim::new().run(async {
            let pool = IsolatedPool::new(1).unwrap();
            let mut job = pool.submit(square(3)).unwrap();
            assert_eq!(job.wait(None).unwrap_err(), selkie::WaitError::WouldDeadlock);
            assert_eq!(pool.join(None).unwrap_err(), selkie::WaitError::WouldDeadlock);
            assert_eq!(job.await.unwrap(), 9);
            pool.shutdown().await;
            pool.join(None).unwrap();
        });
    }
}

/// What can go wrong with Web Workers, and jobs that call JavaScript.
#[cfg(all(target_family = "wasm", target_os = "unknown"))]
mod workers {
    use js_sys::Function;
    use selkie::{JoinError, os::web::set_isolated_worker};
    use wasm_bindgen::prelude::*;

    use super::*;

    #[wasm_bindgen(module = "/tests/it/web.js")]
    extern "C" {
        #[wasm_bindgen(js_name = withGlue)]
        fn with_glue() -> Function;
        #[wasm_bindgen(js_name = notThere)]
        fn not_there() -> Function;
        #[wasm_bindgen(js_name = throwsAtLoad)]
        fn throws_at_load() -> Function;
        fn silent() -> Function;
        fn refused() -> Function;
        #[wasm_bindgen(js_name = notYet)]
        fn not_yet() -> Function;
        fn forgotten() -> Function;
        #[wasm_bindgen(js_name = takesNoJob)]
        fn takes_no_job() -> Function;
        #[wasm_bindgen(js_name = terminateLast)]
        fn terminate_last();
    }

    #[wasm_bindgen(module = "/tests/it/web.js")]
    extern "C" {
        /// So that the file is there.
        #[wasm_bindgen(js_name = isHere)]
        fn is_here() -> bool;
    }

    #[isolated]
    fn random() -> f64 {
        js_sys::Math::random()
    }

    /// Has Workers made by the usual entry again, also when a test fails.
    struct Restored;

    impl Drop for Restored {
        fn drop(&mut self) {
            set_isolated_worker(None);
        }
    }

    fn made_by(make: &Function) -> Restored {
        set_isolated_worker(Some(make));
        Restored
    }

    async fn error_of<R: serde::de::DeserializeOwned + Send + 'static>(
        pool: &IsolatedPool,
        call: Call<R>,
    ) -> JoinError {
        pool.submit(call).unwrap().await.map(drop).unwrap_err()
    }

    behaviour! {
        /// Rows: F40. Without glue there is no JavaScript in a Worker, and the error says whose name is missing.
        async fn a_job_that_calls_javascript_fails_by_name(t) {
            let Some(pool) = pool(1) else { return };
            if t.is_sim() {
                assert!(pool.submit(random()).unwrap().await.unwrap() < 1.0);
                return;
            }
            let error = error_of(&pool, random()).await;
            assert!(error.is_crashed(), "{error}");
            let text = error.to_string();
            assert!(text.contains("random") && text.contains("set_isolated_worker"), "{text}");
            assert_eq!(pool.submit(square(2)).unwrap().await.unwrap(), 4);
            pool.shutdown().await;
        }
    }

    behaviour! {
        /// Rows: F40.
        async fn a_worker_with_an_entry_of_ones_own_calls_javascript(t) {
            if t.is_sim() {
                return;
            }
            assert!(is_here());
            let _restored = made_by(&with_glue());
            let Some(pool) = pool(2) else { return };
            assert!(pool.submit(random()).unwrap().await.unwrap() < 1.0);
            assert_eq!(pool.submit(same(everything())).unwrap().await.unwrap(), everything());
            assert_eq!(pool.submit(name()).unwrap().await.unwrap().as_deref(), Some("tests-0"));
            let job = running(&pool).await;
            job.cancel();
            assert!(job.await.unwrap_err().is_cancelled());
            pool.shutdown().await;
        }
    }

    #[cfg(not(panic = "unwind"))]
    behaviour! {
        /// Rows: F40, F72. Its Worker is replaced, as nobody knows what the panic has left of the instance.
        async fn a_panic_that_aborts_comes_back_with_its_message(t) {
            if t.is_sim() {
                return;
            }
            for make in [None, Some(with_glue())] {
                let _restored = make.as_ref().map(made_by);
                let Some(pool) = pool(1) else { return };
                for _ in 0..2 {
                    let error = error_of(&pool, panics("no luck".to_owned())).await;
                    assert!(error.is_panic() && error.to_string().contains("on purpose: no luck"), "{error}");
                    assert_eq!(pool.submit(square(2)).unwrap().await.unwrap(), 4);
                }
                pool.shutdown().await;
            }
        }
    }

    behaviour! {
        /// Rows: F40. Of that there is no event; a lock that comes free tells it.
        async fn a_worker_that_is_terminated_fails_its_job_and_is_replaced(t) {
            if t.is_sim() {
                return;
            }
            let _restored = made_by(&with_glue());
            let Some(pool) = pool(1) else { return };
            for _ in 0..2 {
                let job = running(&pool).await;
                let next = pool.submit(square(3)).unwrap();
                terminate_last();
                let error = job.await.unwrap_err();
                assert!(error.is_crashed() && error.to_string().contains("was terminated"), "{error}");
                assert_eq!(next.await.unwrap(), 9);
            }
            pool.shutdown().await;
        }
    }

    behaviour! {
        /// Rows: F40. As where memory is too short for a copy of the arguments.
        async fn a_job_that_cannot_be_posted_fails_and_its_caller_goes_on(t) {
            if t.is_sim() {
                return;
            }
            let restored = made_by(&takes_no_job());
            let Some(pool) = pool(1) else { return };
            // The first is posted when its Worker has come up, or by whoever submits to one that is idle.
            let jobs = [0, 1].map(|n| pool.submit(square(n)).unwrap());
            for job in jobs {
                let error = timeout(Duration::from_secs(5), job).await.unwrap().unwrap_err();
                assert!(error.is_crashed() && error.to_string().contains("no room"), "{error}");
            }
            drop(restored);
            assert_eq!(pool.submit(square(2)).unwrap().await.unwrap(), 4);
            pool.shutdown().await;
        }
    }

    behaviour! {
        /// Rows: F40. Each failure fails all that wait, and the next submit tries again.
        async fn a_worker_that_does_not_load_is_an_error_and_no_hang(t) {
            if t.is_sim() {
                return;
            }
            // The limit is for the one of which nothing is ever heard.
            let (long, short) = (Duration::from_secs(60), Duration::from_millis(300));
            for (make, limit, says) in [
                (not_there(), long, "could not be loaded"),
                (throws_at_load(), long, "thrown at load"),
                (silent(), short, "isolated::serve()"),
                (refused(), long, "could not be made"),
                (not_yet(), long, "answered no Worker"),
                (forgotten(), long, "answered no Worker"),
            ] {
                let restored = made_by(&make);
                isolated::serve();
                let builder = IsolatedPool::builder(2).start_limit(limit);
                let Ok(pool) = builder.build() else { return };
                let jobs: Vec<_> = (0..50).map(|n| pool.submit(square(n)).unwrap()).collect();
                for job in jobs {
                    let error = job.await.unwrap_err();
                    assert!(error.is_crashed() && error.to_string().contains(says), "{error}");
                }
                drop(restored);
                drop(pool);
                let Some(pool) = self::pool(1) else { return };
                assert_eq!(pool.submit(square(2)).unwrap().await.unwrap(), 4);
                pool.shutdown().await;
            }
        }
    }

    behaviour! {
        /// Rows: F40. It is ended there and then, and not by its limit; who waits for a job is told.
        async fn a_pool_that_ends_while_its_worker_loads_waits_for_nothing(t) {
            if t.is_sim() {
                return;
            }
            let _restored = made_by(&silent());
            for cancels in [true, false] {
                isolated::serve();
                let Ok(pool) = IsolatedPool::builder(1).start_limit(Duration::from_secs(3600)).build() else { return };
                let job = pool.submit(square(1)).unwrap();
                sleep(Duration::from_millis(5)).await;
                assert_eq!(pool.workers(), 1);
                let ending = if cancels {
                    job.cancel();
                    pool.shutdown()
                } else {
                    pool.shutdown_now()
                };
                drop(pool);
                timeout(Duration::from_secs(60), ending).await.unwrap();
                let error = job.await.unwrap_err();
                assert!(if cancels { error.is_cancelled() } else { error.is_lost() }, "{error}");
            }
        }
    }

    behaviour! {
        /// Rows: F40, F75.
        async fn a_hundred_thousand_jobs_and_then_a_shutdown_leave_nothing(t) {
            let Some(pool) = pool(2) else { return };
            let count = if t.is_sim() { 1000 } else { 100_000 };
            let jobs: Vec<_> = (0..count).map(|n| pool.submit(square(n)).unwrap()).collect();
            assert!(pool.workers() <= 2);
            sleep(Duration::from_millis(20)).await;
            pool.shutdown_now().await;
            assert_eq!(pool.workers(), 0);
            assert!(jobs.iter().all(|job| job.is_finished()));
            let lost = jobs.into_iter().filter_map(|mut job| job.try_take()?.err()).filter(JoinError::is_lost);
            assert!(lost.count() > 0 || t.is_sim());
        }
    }
}
