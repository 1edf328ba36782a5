//! Every workload: its question, who answers it, and what selkie should reach.

use crate::{
    channels::{AsyncChannel, FuturesMpsc, Neutral, TokioMpsc, ping_pong},
    children,
    effort::Effort,
    floor::Floor,
    locks, pools,
    subject::*,
    tasks, timers,
};

/// One sample: the size and how much of it, in; the value, out.
pub type Measure = fn(usize, Effort) -> f64;

pub struct Entry {
    pub name: &'static str,
    pub measure: Measure,
    /// Why it does not count as a peer, if it does not.
    pub unfair: Option<&'static str>,
}

pub struct Goal {
    /// At most this many times the peer named so.
    pub peer: (&'static str, f64),
    /// At most this many times the floor named so.
    pub floor: Option<(&'static str, f64)>,
}

pub struct Workload {
    pub id: &'static str,
    pub title: &'static str,
    pub unit: &'static str,
    /// The size that the goal is about.
    pub n: usize,
    /// Other sizes, to see how it grows.
    pub sweep: &'static [usize],
    /// A sample waits for timers, or takes a large process of its own.
    pub slow: bool,
    /// Each sample is a process of its own.
    pub apart: bool,
    pub entries: Vec<Entry>,
    pub goal: Goal,
}

const fn entry(name: &'static str, measure: Measure) -> Entry {
    Entry { name, measure, unfair: None }
}

const fn unfair(name: &'static str, measure: Measure, why: &'static str) -> Entry {
    Entry { name, measure, unfair: Some(why) }
}

pub const SELKIE: &str = "selkie";
pub const FLOOR: &str = "floor";
pub const BEST: &str = "best fair peer";

const PLAIN: &str = "waits for futures that are no tasks";

const FRONT: &str = "puts a task that wakes itself in front of its queue: no switch";

macro_rules! all {
    ($module:ident :: $measure:ident, $monoio:expr) => {
        vec![
            entry(SELKIE, $module::$measure::<Selkie>),
            entry("tokio LocalSet", $module::$measure::<TokioSet>),
            entry("tokio LocalRuntime", $module::$measure::<TokioLocal>),
            entry("LocalExecutor", $module::$measure::<LocalExecutor>),
            entry("StaticLocalExecutor", $module::$measure::<StaticExecutor>),
            entry("futures LocalPool", $module::$measure::<LocalPool>),
            Entry { name: "monoio", measure: $module::$measure::<Monoio>, unfair: $monoio },
            entry("compio", $module::$measure::<Compio>),
            entry("floor, lazy", $module::$measure::<Floor<false, false>>),
            entry("floor, eager", $module::$measure::<Floor<true, false>>),
            entry(FLOOR, $module::$measure::<Floor<true, true>>),
        ]
    };
}

macro_rules! timers {
    ($measure:ident) => {
        vec![
            entry(SELKIE, timers::$measure::<Selkie>),
            entry("tokio LocalSet", timers::$measure::<TokioSet>),
            entry("tokio LocalRuntime", timers::$measure::<TokioLocal>),
            entry("LocalExecutor", timers::$measure::<LocalExecutor>),
            entry("StaticLocalExecutor", timers::$measure::<StaticExecutor>),
            entry("monoio", timers::$measure::<Monoio>),
            entry("compio", timers::$measure::<Compio>),
        ]
    };
}

macro_rules! remote {
    ($measure:ident) => {
        vec![
            entry(SELKIE, pools::$measure::<pools::SelkieLoop>),
            entry("tokio current_thread", pools::$measure::<pools::TokioThread>),
            entry("tokio multi_thread of 1", pools::$measure::<pools::TokioOne>),
            entry("async-executor in a thread", pools::$measure::<pools::SmolThread>),
            entry(FLOOR, pools::$measure::<pools::Channel>),
        ]
    };
}

macro_rules! blocking {
    ($measure:ident) => {
        vec![
            entry(SELKIE, pools::$measure::<pools::SelkiePool>),
            unfair("selkie::to_thread", pools::$measure::<pools::SelkieToThread>, "is another form"),
            unfair("selkie, spin of 1 ms", pools::$measure::<pools::SelkieSpin>, "costs a processor"),
            entry("tokio spawn_blocking", pools::$measure::<pools::TokioBlocking>),
            entry("blocking", pools::$measure::<pools::BlockingCrate>),
            entry("rayon", pools::$measure::<pools::Rayon>),
        ]
    };
}

macro_rules! pool {
    ($measure:ident) => {
        vec![
            entry(SELKIE, pools::$measure::<pools::Selkie>),
            entry("tokio multi_thread", pools::$measure::<pools::Tokio>),
            entry("async-executor", pools::$measure::<pools::Smol>),
            entry("async-executor, static", pools::$measure::<pools::SmolStatic>),
        ]
    };
}

macro_rules! lock {
    ($measure:ident) => {
        vec![
            entry(SELKIE, locks::$measure::<Selkie, selkie::local::Lock<usize>>),
            unfair("selkie, shared", locks::$measure::<Selkie, selkie::Lock<usize>>, "is another form"),
            entry("tokio::sync::Mutex", locks::$measure::<TokioLocal, tokio::sync::Mutex<usize>>),
            entry("async_lock::Mutex", locks::$measure::<StaticExecutor, async_lock::Mutex<usize>>),
            entry("futures::lock::Mutex", locks::$measure::<LocalPool, futures::lock::Mutex<usize>>),
            unfair(
                "selkie, futures::lock::Mutex",
                locks::$measure::<Selkie, futures::lock::Mutex<usize>>,
                "is selkie's loop with another's lock",
            ),
            entry(FLOOR, locks::$measure::<Floor<true, true>, locks::FloorLock>),
        ]
    };
}

pub fn workloads() -> Vec<Workload> {
    let mut table = Vec::new();
    let mut add = |id, title, unit, n, sweep, slow, entries, peer, floor: Option<f64>| {
        let goal = Goal { peer, floor: floor.map(|ratio| (FLOOR, ratio)) };
        table.push(Workload {
            id,
            title,
            unit,
            n,
            sweep,
            slow,
            apart: unit == "bytes" || id.ends_with("-core"),
            entries,
            goal,
        });
    };
    add(
        "W1",
        "spawn a task that is ready at once, and join it",
        "ns",
        1000,
        &[10_000, 100_000, 1_000_000],
        false,
        all!(tasks::ready, None),
        (BEST, 0.25),
        Some(2.0),
    );
    add(
        "W2",
        "spawn a task that yields once, and join it",
        "ns",
        1000,
        &[10_000, 100_000, 1_000_000],
        false,
        all!(tasks::yielding, Some(FRONT)),
        (BEST, 0.25),
        Some(2.5),
    );
    add(
        "W3",
        "switch between tasks that yield in turn",
        "ns",
        1000,
        &[10_000, 100_000, 1_000_000],
        false,
        all!(tasks::switch, Some(FRONT)),
        (BEST, 0.4),
        Some(2.0),
    );
    add(
        "W4",
        "round trip between two tasks, by the same channel for all",
        "ns",
        1000,
        &[],
        false,
        vec![
            entry(SELKIE, ping_pong::<Selkie, Neutral>),
            entry("tokio LocalSet", ping_pong::<TokioSet, Neutral>),
            entry("tokio LocalRuntime", ping_pong::<TokioLocal, Neutral>),
            entry("LocalExecutor", ping_pong::<LocalExecutor, Neutral>),
            entry("StaticLocalExecutor", ping_pong::<StaticExecutor, Neutral>),
            entry("futures LocalPool", ping_pong::<LocalPool, Neutral>),
            entry("monoio", ping_pong::<Monoio, Neutral>),
            entry("compio", ping_pong::<Compio, Neutral>),
            entry("tokio LocalSet, tokio::sync::mpsc", ping_pong::<TokioSet, TokioMpsc>),
            entry("tokio LocalRuntime, tokio::sync::mpsc", ping_pong::<TokioLocal, TokioMpsc>),
            entry("StaticLocalExecutor, async-channel", ping_pong::<StaticExecutor, AsyncChannel>),
            entry("futures LocalPool, futures mpsc", ping_pong::<LocalPool, FuturesMpsc>),
            unfair(
                "selkie, tokio::sync::mpsc",
                ping_pong::<Selkie, TokioMpsc>,
                "is selkie's loop with another's channel",
            ),
            entry(FLOOR, ping_pong::<Floor<true, true>, Neutral>),
        ],
        ("tokio LocalRuntime, tokio::sync::mpsc", 0.2),
        Some(2.0),
    );
    add(
        "W5-insert",
        "make a sleep and poll it once",
        "ns",
        100_000,
        &[1000, 10_000, 1_000_000],
        false,
        timers!(insert),
        ("tokio LocalRuntime", 0.5),
        None,
    );
    add(
        "W5-cancel",
        "drop a sleep that waits",
        "ns",
        100_000,
        &[1000, 10_000, 1_000_000],
        false,
        timers!(cancel),
        ("monoio", 0.25),
        None,
    );
    add(
        "W5-fire",
        "timers that end within a second, processor time each",
        "ns CPU",
        100_000,
        &[],
        true,
        timers!(fire_spread),
        ("tokio LocalRuntime", 0.8),
        None,
    );
    add(
        "W5-burst",
        "timers that are all due at once, processor time each",
        "ns CPU",
        100_000,
        &[],
        true,
        {
            let mut entries = timers!(fire_burst);
            for entry in &mut entries {
                if entry.name.ends_with("Executor") {
                    entry.unfair = Some("a helper thread fires them while the loop is held up");
                }
            }
            entries
        },
        ("tokio LocalRuntime", 0.5),
        None,
    );
    add(
        "W5-task",
        "spawn a task that sleeps up to a second, and join it, processor time each",
        "ns CPU",
        100_000,
        &[],
        true,
        timers!(task),
        ("tokio LocalRuntime", 0.6),
        None,
    );
    add(
        "W8-join",
        "start many, wake them in no order, wait for all; per child",
        "ns",
        10_000,
        &[100, 1000, 100_000, 1_000_000],
        false,
        vec![
            entry(SELKIE, children::join_gather),
            unfair("selkie, in order", children::join_in_order::<Selkie>, "is another form"),
            entry("tokio LocalSet, in order", children::join_in_order::<TokioSet>),
            entry("tokio LocalRuntime, in order", children::join_in_order::<TokioLocal>),
            entry("LocalExecutor, in order", children::join_in_order::<LocalExecutor>),
            entry("StaticLocalExecutor, in order", children::join_in_order::<StaticExecutor>),
            entry("monoio, in order", children::join_in_order::<Monoio>),
            entry("compio, in order", children::join_in_order::<Compio>),
            unfair("futures::join_all", children::join_futures, PLAIN),
            unfair("futures-buffered join_all", children::join_buffered, PLAIN),
            entry(FLOOR, children::join_in_order::<Floor<true, true>>),
        ],
        ("tokio LocalRuntime, in order", 0.4),
        Some(1.5),
    );
    add(
        "W8-first",
        "start many, wake them in no order, take them one by one as they end; per child",
        "ns",
        10_000,
        &[100, 1000, 100_000, 1_000_000],
        false,
        vec![
            entry(SELKIE, children::first_set),
            unfair("selkie, wait for the first", children::first_wait, "is another form"),
            entry("tokio LocalSet, JoinSet", children::first_join_set),
            entry("tokio LocalRuntime, JoinSet", children::first_join_set_local),
            entry("tokio LocalRuntime, FuturesUnordered", children::first_handles::<TokioLocal>),
            entry("StaticLocalExecutor, FuturesUnordered", children::first_handles::<StaticExecutor>),
            unfair("futures::FuturesUnordered", children::first_futures, PLAIN),
            unfair("futures-buffered FuturesUnordered", children::first_buffered, PLAIN),
        ],
        ("tokio LocalRuntime, JoinSet", 0.2),
        None,
    );
    if cfg!(target_os = "linux") {
        add(
            "W9",
            "memory of a task that sleeps",
            "bytes",
            1_000_000,
            &[],
            true,
            timers!(bytes),
            ("compio", 0.85),
            None,
        );
    }
    add(
        "W6-trip",
        "submit a future to a loop in another thread, and block until it has ended",
        "ns",
        200,
        &[],
        false,
        remote!(trip),
        (BEST, 1.05),
        None,
    );
    add(
        "W6-core",
        "the same with all threads on one processor",
        "ns",
        1000,
        &[],
        false,
        remote!(trip_on_one_core),
        ("tokio current_thread", 0.9),
        Some(1.15),
    );
    add(
        "W6-flood",
        "submit 100,000 futures to a loop in another thread, then wait for each",
        "ns",
        100_000,
        &[1000, 10_000],
        false,
        remote!(flood),
        ("async-executor in a thread", 0.6),
        Some(1.2),
    );
    add(
        "W7-call",
        "run a function that does nothing on a pool, and wait for it",
        "ns",
        200,
        &[],
        false,
        blocking!(call),
        ("rayon", 1.0),
        None,
    );
    add(
        "W7-core",
        "the same with all threads on one processor",
        "ns",
        1000,
        &[],
        false,
        blocking!(call_on_one_core),
        ("rayon", 1.0),
        None,
    );
    add(
        "W7-burst",
        "run 100,000 functions that do nothing on a pool, then wait for each",
        "ns",
        100_000,
        &[1000, 10_000],
        false,
        blocking!(burst),
        ("rayon", 0.5),
        None,
    );
    add(
        "W10-outside",
        "tasks of two threads that yield once, spawned from outside",
        "ns",
        10_000,
        &[1000, 100_000, 1_000_000],
        false,
        pool!(outside),
        (BEST, 0.6),
        None,
    );
    add(
        "W10-inside",
        "tasks of two threads that yield once, spawned by one of them",
        "ns",
        10_000,
        &[1000, 100_000, 1_000_000],
        false,
        pool!(inside),
        (BEST, 0.6),
        None,
    );
    add(
        "W11-lock",
        "take a lock that nobody else wants, and give it back",
        "ns",
        1000,
        &[],
        false,
        lock!(uncontended),
        ("futures::lock::Mutex", 0.3),
        Some(2.0),
    );
    add(
        "W11-contended",
        "100 tasks take one lock in turn, and hold it while they yield",
        "ns",
        10_000,
        &[],
        false,
        lock!(contended),
        ("futures::lock::Mutex", 0.15),
        Some(2.5),
    );
    add(
        "W11-across",
        "8 tasks of two threads take one lock",
        "ns",
        10_000,
        &[],
        false,
        vec![
            entry(SELKIE, locks::across::<pools::Selkie, selkie::Lock<usize>>),
            entry("tokio", locks::across::<pools::Tokio, tokio::sync::Mutex<usize>>),
            unfair(
                "async-executor, async-lock",
                locks::across::<pools::SmolStatic, async_lock::Mutex<usize>>,
                "lets newcomers pass those who wait, for half a millisecond",
            ),
            unfair(
                "selkie's executor, async-lock",
                locks::across::<pools::Selkie, async_lock::Mutex<usize>>,
                "is selkie's executor with another's lock",
            ),
        ],
        ("tokio", 0.7),
        None,
    );
    add(
        "W11-queue",
        "from task to task through a queue of 64, each item",
        "ns",
        10_000,
        &[],
        false,
        vec![
            entry(SELKIE, locks::queue::<Selkie, locks::SelkieLocal>),
            unfair("selkie, shared", locks::queue::<Selkie, locks::SelkieShared>, "is another form"),
            entry("flume", locks::queue::<TokioLocal, locks::Flume>),
            entry("tokio::sync::mpsc", locks::queue::<TokioLocal, locks::TokioMpsc>),
            entry("async-channel", locks::queue::<StaticExecutor, locks::AsyncChannel>),
            entry("futures mpsc", locks::queue::<LocalPool, locks::FuturesMpsc>),
            unfair(
                "selkie, flume",
                locks::queue::<Selkie, locks::Flume>,
                "is selkie's loop with another's queue",
            ),
            entry(FLOOR, locks::queue::<Floor<true, true>, locks::FloorQueue>),
        ],
        ("flume", 0.25),
        Some(2.0),
    );
    add(
        "W11-loops",
        "from loop to loop through a queue without a limit, each item",
        "ns",
        100_000,
        &[],
        false,
        vec![
            entry(SELKIE, locks::loops::<Selkie, locks::SelkieShared>),
            entry("flume", locks::loops::<TokioLocal, locks::Flume>),
            entry("tokio::sync::mpsc", locks::loops::<TokioLocal, locks::TokioMpsc>),
            entry("async-channel", locks::loops::<StaticExecutor, locks::AsyncChannel>),
            entry("futures mpsc", locks::loops::<LocalPool, locks::FuturesMpsc>),
            unfair(
                "selkie, flume",
                locks::loops::<Selkie, locks::Flume>,
                "is selkie's loop with another's queue",
            ),
        ],
        (BEST, 1.0),
        None,
    );
    table
}
