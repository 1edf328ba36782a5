//! The transcripts. A scenario more is a function here and an entry in [`ALL`].

use std::time::Duration;

use selkie::{EventLoop, JoinError, Task, TaskSet, Until, gather, sleep, wait};

use super::stage::{Play, Scenario, Stage, at};

fn seconds(seconds: f64) -> Duration {
    Duration::from_secs_f64(seconds)
}

/// The work that most scenarios do: nothing, for a while. Gives back its name.
async fn work(stage: Stage, name: &'static str, length: f64) -> &'static str {
    stage.log(format!("{name} starts"));
    sleep(seconds(length)).await;
    stage.log(format!("{name} ends"));
    name
}

/// What tasks gave, or would have given.
fn values<'a>(results: impl IntoIterator<Item = &'a Result<&'static str, JoinError>>) -> String {
    let values: Vec<_> = results.into_iter().map(|result| *result.as_ref().unwrap_or(&"nothing")).collect();
    values.join(", ")
}

fn names<'a, T: 'a>(tasks: impl IntoIterator<Item = &'a Task<T>>) -> String {
    let names: Vec<_> = tasks.into_iter().map(|task| task.name().to_string()).collect();
    if names.is_empty() { "none".to_owned() } else { names.join(", ") }
}

/// The names in a set, in the order in which its tasks were made: a set has none of its own.
fn members<T>(set: &TaskSet<T>) -> String {
    let mut tasks: Vec<_> = set.iter().collect();
    tasks.sort_by_key(|task| task.id());
    names(tasks)
}

async fn sequence_and_gather(stage: Stage) {
    let a = work(stage.clone(), "a", 3.0).await;
    let b = work(stage.clone(), "b", 1.0).await;
    stage.log(format!("one after the other: {a}, {b}"));
    let task = |name, length| stage.spawn(name, work(stage.clone(), name, length));
    let results = gather([task("a", 3.0), task("b", 1.0)]).await;
    stage.log(format!("gathered: {}", values(&results)));
}

async fn two_tasks(stage: Stage) {
    let a = stage.spawn("a", work(stage.clone(), "a", 1.0));
    let b = stage.spawn("b", work(stage.clone(), "b", 2.0));
    let state =
        |a: &Task<_>, b: &Task<_>| format!("a done: {}, b done: {}", a.is_finished(), b.is_finished());
    stage.log(state(&a, &b));
    let _ = (&b).await;
    stage.log("b has been awaited");
    let _ = (&a).await;
    stage.log("a has been awaited");
    stage.log(state(&a, &b));
}

async fn first_error(stage: Stage) {
    let fails = |name, length| {
        let inner = stage.clone();
        stage.spawn(name, async move {
            sleep(seconds(length)).await;
            inner.log("fails");
            Err::<(), _>(format!("{name} has failed"))
        })
    };
    let mut tasks = TaskSet::from_iter([fails("early", 1.0), fails("late", 3.0)]);
    let done = wait(&mut tasks, Until::FIRST_ERROR).await;
    stage.log(format!("done: {}; pending: {}", names(&done), members(&tasks)));
    for task in done {
        if let Ok(Err(error)) = task.await {
            stage.log(format!("the error: {error}"));
        }
    }
    sleep(seconds(1.0)).await;
    stage.log(format!("still pending: {}", members(&tasks)));
    tasks.cancel_all();
    let done = wait(&mut tasks, Until::All).await;
    let cancelled = done.iter().filter(|task| task.is_cancelled());
    stage.log(format!("cancelled: {}", names(cancelled)));
}

async fn staged_wait(stage: Stage) {
    let task = |(name, length)| stage.spawn(name, work(stage.clone(), name, length));
    let mut tasks: TaskSet<_> =
        [("a", 1.0), ("b", 2.0), ("c", 3.0), ("d", 4.0)].into_iter().map(task).collect();
    let done = wait(&mut tasks, Until::FirstCompleted).await;
    stage.log(format!("first completed: {}; pending: {}", names(&done), members(&tasks)));
    let done = wait(&mut tasks, Until::All).timeout(seconds(1.5)).await;
    stage.log(format!("after 1.5 s: {}; pending: {}", names(&done), members(&tasks)));
    let done = wait(&mut tasks, Until::All).await;
    stage.log(format!("all: {}; pending: {}", names(&done), members(&tasks)));
}

async fn nested_groups(stage: Stage) {
    let group = |name, [first, second]: [(&'static str, f64); 2]| {
        let task = |(name, length)| stage.spawn(name, work(stage.clone(), name, length));
        stage.spawn(name, gather([task(first), task(second)]))
    };
    let groups =
        gather([group("group a", [("a1", 1.0), ("a2", 2.0)]), group("group b", [("b1", 3.0), ("b2", 1.0)])]);
    let results = groups.await;
    let inner = results.iter().map(|group| format!("[{}]", values(group.iter().flatten())));
    stage.log(format!("gathered: {}", inner.collect::<Vec<_>>().join(", ")));
}

async fn eager_and_lazy(stage: Stage) {
    let body = |first: &'static str| {
        let stage = stage.clone();
        async move {
            stage.log(first);
            sleep(seconds(1.0)).await;
            stage.log("goes on after 1 s");
        }
    };
    stage.log("spawns eager");
    let eager = stage.spawn("eager", body("runs inside spawn, to its first await"));
    stage.log("spawns lazy");
    let lazy = Task::builder().name("lazy").lazy().spawn(body("runs at its first turn"));
    stage.log("goes on: lazy has not run");
    let _ = (eager.await, lazy.await);
    stage.log("both have ended");
}

fn stopped_by_a_callback(event_loop: &EventLoop, stage: &Stage) {
    let spawn = |name, length| {
        let builder = Task::builder().name(name);
        event_loop.spawn_with(builder, work(stage.clone(), name, length)).expect("the loop is open")
    };
    let (a, b) = (spawn("a", 1.0), spawn("b", 2.0));
    let (said, first, second, third) = (stage.clone(), stage.clone(), stage.clone(), stage.clone());
    a.on_done(move |result| said.log(format!("a has given: {}", values([result]))));
    b.on_done(move |result| first.log(format!("b has given: {}", values([result]))));
    let running = event_loop.clone();
    b.on_done(move |_| {
        second.log("the second one of b stops the loop");
        running.stop();
    });
    b.on_done(move |_| third.log("the third one of b still runs"));
}

/// In the order of the tour.
pub const ALL: &[Scenario] = &[
    Scenario {
        name: "gather",
        title: "One after the other, and gathered",
        shows: "Awaited in sequence, 3 s and 1 s take 4 s. Gathered, the same two take 3 s: they end in the order \
                of their times, and the results still come in the order of the arguments.",
        rows: &["F82"],
        play: Play::Main(|stage| Box::pin(sequence_and_gather(stage))),
        expected: &[
            at(0.0, "main", "a starts"),
            at(3.0, "main", "a ends"),
            at(3.0, "main", "b starts"),
            at(4.0, "main", "b ends"),
            at(4.0, "main", "one after the other: a, b"),
            at(4.0, "a", "a starts"),
            at(4.0, "b", "b starts"),
            at(5.0, "b", "b ends"),
            at(7.0, "a", "a ends"),
            at(7.0, "main", "gathered: a, b"),
        ],
    },
    Scenario {
        name: "pending",
        title: "Two tasks, pending, then done",
        shows: "A task runs from the moment it is made, whether or not anybody awaits it. Awaiting b takes 2 s; \
                a has ended by then, so awaiting it takes no time.",
        rows: &["F83"],
        play: Play::Main(|stage| Box::pin(two_tasks(stage))),
        expected: &[
            at(0.0, "a", "a starts"),
            at(0.0, "b", "b starts"),
            at(0.0, "main", "a done: false, b done: false"),
            at(1.0, "a", "a ends"),
            at(2.0, "b", "b ends"),
            at(2.0, "main", "b has been awaited"),
            at(2.0, "main", "a has been awaited"),
            at(2.0, "main", "a done: true, b done: true"),
        ],
    },
    Scenario {
        name: "error",
        title: "Until the first error",
        shows: "Both tasks will fail, after 1 s and after 3 s. The wait ends at the first error and raises nothing: \
                the error is the task's result, and the other task runs on, here until it is cancelled.",
        rows: &["F84"],
        play: Play::Main(|stage| Box::pin(first_error(stage))),
        expected: &[
            at(1.0, "early", "fails"),
            at(1.0, "main", "done: early; pending: late"),
            at(1.0, "main", "the error: early has failed"),
            at(2.0, "main", "still pending: late"),
            at(2.0, "main", "cancelled: late"),
        ],
    },
    Scenario {
        name: "wait",
        title: "Three waits for one set of tasks",
        shows: "The first wait ends with the first task, the second by its timeout, the third when all have ended. \
                A wait cancels nothing: what is pending stays in the set for the next one.",
        rows: &["F34"],
        play: Play::Main(|stage| Box::pin(staged_wait(stage))),
        expected: &[
            at(0.0, "a", "a starts"),
            at(0.0, "b", "b starts"),
            at(0.0, "c", "c starts"),
            at(0.0, "d", "d starts"),
            at(1.0, "a", "a ends"),
            at(1.0, "main", "first completed: a; pending: b, c, d"),
            at(2.0, "b", "b ends"),
            at(2.5, "main", "after 1.5 s: b; pending: c, d"),
            at(3.0, "c", "c ends"),
            at(4.0, "d", "d ends"),
            at(4.0, "main", "all: c, d; pending: none"),
        ],
    },
    Scenario {
        name: "eager",
        title: "Started as JavaScript does, and as asyncio does",
        shows: "An eager task runs inside spawn up to its first await, like an async function of JavaScript. A lazy \
                one waits for its turn, like asyncio.create_task.",
        rows: &["F21", "X12"],
        play: Play::Main(|stage| Box::pin(eager_and_lazy(stage))),
        expected: &[
            at(0.0, "main", "spawns eager"),
            at(0.0, "eager", "runs inside spawn, to its first await"),
            at(0.0, "main", "spawns lazy"),
            at(0.0, "main", "goes on: lazy has not run"),
            at(0.0, "lazy", "runs at its first turn"),
            at(1.0, "eager", "goes on after 1 s"),
            at(1.0, "lazy", "goes on after 1 s"),
            at(1.0, "main", "both have ended"),
        ],
    },
    Scenario {
        name: "nested",
        title: "Groups within a group",
        shows: "A gather may be a member of another one. All four tasks run at once, so the whole takes as long as \
                the slowest of them, and the results are nested as the groups are.",
        rows: &["F27"],
        play: Play::Main(|stage| Box::pin(nested_groups(stage))),
        expected: &[
            at(0.0, "a1", "a1 starts"),
            at(0.0, "a2", "a2 starts"),
            at(0.0, "b1", "b1 starts"),
            at(0.0, "b2", "b2 starts"),
            at(1.0, "a1", "a1 ends"),
            at(1.0, "b2", "b2 ends"),
            at(2.0, "a2", "a2 ends"),
            at(3.0, "b1", "b1 ends"),
            at(3.0, "main", "gathered: [a1, a2], [b1, b2]"),
        ],
    },
    Scenario {
        name: "forever",
        title: "A loop that runs for ever, until a callback stops it",
        shows: "Done callbacks run on the loop, in the order in which they were added. The one that stops the loop \
                does not cut its round short: the third callback still runs, then run_forever returns.",
        rows: &["F03", "F15"],
        play: Play::Forever(stopped_by_a_callback),
        expected: &[
            at(0.0, "caller", "run_forever begins"),
            at(0.0, "a", "a starts"),
            at(0.0, "b", "b starts"),
            at(1.0, "a", "a ends"),
            at(1.0, "callback", "a has given: a"),
            at(2.0, "b", "b ends"),
            at(2.0, "callback", "b has given: b"),
            at(2.0, "callback", "the second one of b stops the loop"),
            at(2.0, "callback", "the third one of b still runs"),
            at(2.0, "caller", "run_forever has returned"),
        ],
    },
];
