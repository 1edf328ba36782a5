//! What a subscriber of the `tracing` crate sees of a loop, with the feature of that name.
#![allow(missing_docs)]
#![allow(
    clippy::disallowed_types,
    reason = "a subscriber has to be `Sync`, and this one is for native hosts"
)]
#![cfg(not(all(target_family = "wasm", target_os = "unknown")))]

use std::{
    fmt::{self, Write},
    rc::Rc,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
};

use selkie::{EventLoop, Task, TaskSpans, spawn, yield_now};
use tracing::{
    Event, Metadata, Subscriber,
    field::{Field, Visit},
    span::{Attributes, Id, Record},
    subscriber::with_default,
};

/// Writes a line for each call; spans are called by the names of their tasks.
#[derive(Clone, Default)]
struct Lines {
    lines: Arc<Mutex<Vec<String>>>,
    names: Arc<Mutex<Vec<String>>>,
    next: Arc<AtomicU64>,
}

/// The fields as text, but for the ids of tasks, which are not the same in each run.
struct Fields(String);

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if !field.name().ends_with("id") {
            write!(self.0, " {field}={value:?}").unwrap();
        }
    }
}

impl Lines {
    fn add(&self, line: String) {
        self.lines.lock().unwrap().push(line);
    }

    fn name(&self, id: &Id) -> String {
        self.names.lock().unwrap()[id.into_u64() as usize - 1].clone()
    }

    fn taken(&self) -> Vec<String> {
        std::mem::take(&mut self.lines.lock().unwrap())
    }
}

impl Subscriber for Lines {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target().starts_with("selkie") || metadata.target() == module_path!()
    }

    fn new_span(&self, span: &Attributes<'_>) -> Id {
        let mut fields = Fields(String::new());
        span.record(&mut fields);
        self.add(format!("new {}{}", span.metadata().name(), fields.0));
        self.names.lock().unwrap().push(fields.0.trim_start_matches(" name=").replace('"', ""));
        Id::from_u64(self.next.fetch_add(1, Ordering::Relaxed) + 1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut fields = Fields(String::new());
        event.record(&mut fields);
        self.add(format!("{}{}", event.metadata().level(), fields.0));
    }

    fn enter(&self, span: &Id) {
        self.add(format!("enter {}", self.name(span)));
    }

    fn exit(&self, span: &Id) {
        self.add(format!("exit {}", self.name(span)));
    }
}

#[test]
fn what_a_task_logs_stands_in_its_span() {
    let lines = Lines::default();
    with_default(lines.clone(), || {
        let event_loop = EventLoop::new();
        event_loop
            .run_until_complete(async move {
                EventLoop::current().unwrap().set_instrument(Some(TaskSpans::new()));
                let task = Task::builder().name("outer").spawn(async {
                    tracing::info!("begins");
                    let inner = Task::builder().name("inner").spawn(async { tracing::info!("within") });
                    yield_now().await;
                    inner.await.unwrap();
                });
                let told = lines.taken();
                assert_eq!(
                    told,
                    [
                        r#"new task name="outer""#,
                        "enter outer",
                        "INFO message=begins",
                        r#"new task name="inner""#,
                        "enter inner",
                        "INFO message=within",
                        "exit inner",
                        "exit outer",
                    ]
                );
                task.await.unwrap();
                assert_eq!(lines.taken(), ["enter outer", "exit outer"]);
                EventLoop::current().unwrap().set_instrument(None);
            })
            .unwrap();
    });
}

#[test]
fn an_instrument_that_is_removed_within_a_poll_leaves_no_span_entered() {
    let lines = Lines::default();
    with_default(lines.clone(), || {
        EventLoop::new()
            .run_until_complete(async move {
                EventLoop::current().unwrap().set_instrument(Some(TaskSpans::new()));
                let outer = Task::builder().name("outer").spawn(async {
                    let inner = Task::builder().name("inner").spawn(async {
                        EventLoop::current().unwrap().set_instrument(None);
                        tracing::info!("in no span");
                    });
                    inner.await.unwrap();
                });
                outer.await.unwrap();
                let told = lines.taken();
                assert_eq!(
                    told[3..],
                    ["enter inner", "exit inner", "exit outer", "INFO message=in no span"],
                    "{told:?}"
                );
            })
            .unwrap();
    });
}

#[test]
fn what_nobody_handles_is_an_event() {
    let lines = Lines::default();
    with_default(lines.clone(), || {
        EventLoop::new()
            .run_until_complete(async {
                drop(Task::builder().name("careless").spawn(async { panic!("oops") }));
                yield_now().await;
            })
            .unwrap();
    });
    let told = lines.taken();
    let event = told.iter().find(|line| line.starts_with("ERROR")).expect("a report");
    assert!(event.contains("oops") && event.contains(r#"task.name="careless""#), "{told:?}");
}

#[test]
fn a_handler_comes_before_the_subscriber() {
    let lines = Lines::default();
    let reports = Arc::new(AtomicU64::new(0));
    with_default(lines.clone(), || {
        let event_loop = EventLoop::new();
        let count = reports.clone();
        event_loop.set_exception_handler(Some(Rc::new(move |_| {
            count.fetch_add(1, Ordering::Relaxed);
        })));
        event_loop
            .run_until_complete(async {
                drop(spawn(async { panic!("oops") }));
                yield_now().await;
            })
            .unwrap();
    });
    assert_eq!((reports.load(Ordering::Relaxed), lines.taken()), (1, vec![]));
}
