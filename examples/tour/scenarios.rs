//! The transcripts. A scenario more is a function here and an entry in [`ALL`].

use std::{cell::RefCell, future::poll_fn, pin::Pin, rc::Rc, time::Duration};

use selkie::{
    Condition, Event, EventLoop, JoinError, Lock, Queue, Task, TaskSet, ThreadPool, Until, Yielder, gather,
    generator, lock_all, sleep, to_thread, wait, yield_now,
};

use super::stage::{Host, Play, Scenario, Stage, State, at};

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

async fn producer_and_consumer(stage: Stage) {
    let queue = Queue::bounded(2);
    let loaves = queue.clone();
    let bake = move || async move {
        for loaf in 1..=3 {
            sleep(seconds(1.0)).await;
            loaves.put(loaf).await.expect("the shop is open");
        }
        loaves.shutdown(false);
    };
    // The same queue and the same body, wherever it runs.
    let bakery = stage.has_threads().then(|| EventLoop::spawn_thread("bakery").expect("there are threads"));
    match &bakery {
        Some(bakery) => bakery.handle().submit(bake).expect("the loop is open").detach(),
        None => stage.spawn("bakery", bake()).detach(),
    }
    while let Ok(loaf) = queue.get().await {
        stage.log(format!("sells loaf {loaf}"));
    }
    stage.log("the bakery has shut down");
    if let Some(bakery) = bakery {
        bakery.ended().await.expect("the loop has ended");
    }
}

async fn roll_call(stage: Stage) {
    let calls = Queue::unbounded();
    for pupil in ["ann", "bob", "cid"] {
        let (calls, inner) = (calls.clone(), stage.clone());
        let listen = async move {
            while let Ok(name) = calls.get().await {
                if name == pupil {
                    inner.log("present");
                    calls.task_done();
                    break;
                }
                inner.log(format!("hears {name}, and passes it on"));
                calls.put(name).await.expect("it is not shut down");
                calls.task_done();
            }
        };
        stage.spawn(pupil, listen).detach();
    }
    for name in ["cid", "bob", "ann"] {
        stage.log(format!("calls {name}"));
        calls.put(name).await.expect("it is not shut down");
        calls.join().await;
        sleep(seconds(0.5)).await;
    }
    stage.log("all are present");
}

async fn hide_and_seek(stage: Stage) {
    let shared = Rc::new((Lock::named("the game", ("", false)), Condition::new()));
    let (inner, theirs) = (stage.clone(), shared.clone());
    let hider = stage.spawn("hider", async move {
        let (game, changed) = &*theirs;
        sleep(seconds(1.0)).await;
        inner.log("is behind the tree");
        game.lock().await.0 = "the tree";
        changed.notify(1);
        let _found = changed.wait_for(game.lock().await, |(_, found)| *found).await;
        inner.log("comes out");
    });
    let (inner, theirs) = (stage.clone(), shared.clone());
    let seeker = stage.spawn("seeker", async move {
        let (game, changed) = &*theirs;
        inner.log("counts with closed eyes");
        let game = changed.wait_for(game.lock().await, |(place, _)| !place.is_empty()).await;
        let place = game.0;
        drop(game);
        inner.log("opens the eyes");
        sleep(seconds(1.0)).await;
        inner.log(format!("looks behind {place}: found"));
        theirs.0.lock().await.1 = true;
        changed.notify_all();
    });
    let _ = (hider.await, seeker.await);
}

async fn one_event(stage: Stage) {
    let go = Rc::new(Event::new());
    let waiters = ["a", "b", "c", "d"].map(|name| {
        let (inner, go) = (stage.clone(), go.clone());
        stage.spawn(name, async move {
            go.wait().await;
            inner.log("goes on");
        })
    });
    sleep(seconds(5.0)).await;
    stage.log("sets the event, and clears it");
    go.set();
    go.clear();
    gather(waiters).await;
}

async fn opposite_orders(stage: Stage) {
    let locks = Rc::new([Lock::named("left", ()), Lock::named("right", ())]);
    let both = |name, first: usize, second: usize| {
        let (inner, locks) = (stage.clone(), locks.clone());
        stage.spawn(name, async move {
            let _both = lock_all((&locks[first], &locks[second])).await.expect("nothing is held");
            inner.log("has both");
            sleep(seconds(1.0)).await;
        })
    };
    gather([both("one", 0, 1), both("two", 1, 0)]).await;
    let [left, right] = &*locks;
    let later = lock_all((right,)).await.expect("nothing is held");
    match lock_all((left,)).await {
        Ok(_) => stage.log("takes what could wait for ever"),
        Err(error) => stage.log(format!("refused \"{}\" with \"{}\" held", error.wanted(), error.held())),
    }
    drop(later);
}

async fn running_average(stage: Stage) {
    let mut average = generator(async |outside: Yielder<f64, f64>| {
        let (mut sum, mut count, mut average) = (0.0, 0.0, 0.0);
        loop {
            sum += outside.give(average).await;
            count += 1.0;
            average = sum / count;
        }
    });
    let _: selkie::Step<f64, ()> = average.prime();
    for value in [10.0, 20.0, 30.0] {
        if let Some(average) = average.send(value).yielded() {
            stage.log(format!("{value} in, {average:.1} out"));
        }
    }
    yield_now().await;
}

async fn blocking_jobs(stage: Stage) {
    let ended = Queue::unbounded();
    for name in ["a", "b", "c"] {
        let ended = ended.clone();
        stage.reporter("callback").call(move |stage| {
            stage.block_the_loop(name, 2.0);
            stage.log(format!("{name} ends"));
            ended.try_put(name).expect("it has no limit");
        });
    }
    for _ in 0..3 {
        ended.get().await.expect("it is not shut down");
    }
    stage.log("on the loop: one after the other");
    let jobs = ["d", "e", "f"].map(|name| {
        let job = stage.job(name, 2.0);
        to_thread(move || job.run())
    });
    let mut ended = Vec::new();
    for job in jobs {
        ended.push(job.await.unwrap_or("nothing"));
    }
    stage.log(format!("{}: each on a thread of its own", ended.join(", ")));
    let pool = ThreadPool::builder(2).name("pool").build().expect("there are threads");
    let jobs = ["g", "h", "i"].map(|name| {
        let job = stage.job(name, 2.0);
        pool.submit(move || job.run()).expect("it is open")
    });
    for job in jobs {
        stage.log(format!("{} ends", job.await.expect("it does not panic")));
    }
    stage.log("two threads: the third job had to wait");
    pool.shutdown().await;
}

async fn eight_works(stage: Stage) {
    let jobs = [("job 1", "work 1"), ("job 2", "work 2")].map(|(name, work)| {
        let job = stage.job(work, 4.0);
        stage.spawn(name, async move { to_thread(move || job.run()).await.unwrap_or("nothing") })
    });
    let a = stage.spawn("a", work(stage.clone(), "a", 1.0));
    let b = stage.spawn("b", work(stage.clone(), "b", 2.0));
    let here = EventLoop::current().expect("it runs").handle();
    let submits = [("submit 1", 1.5), ("submit 2", 2.5)].map(|(name, length)| {
        let reporter = stage.reporter(name);
        let body = move || async move {
            sleep(seconds(length)).await;
            reporter.log("ends");
        };
        here.submit(body).expect("the loop is open")
    });
    let c = stage.spawn("c", work(stage.clone(), "c", 3.0));
    let d = stage.spawn("d", work(stage.clone(), "d", 0.5));
    let [first, second] = jobs;
    let (a, b, first, second, c, d) = gather((a, b, first, second, c, d)).await;
    stage.log(format!("gathered: {}", values(&[a, b, first, second, c, d])));
    for submit in submits {
        submit.await.expect("it has ended");
    }
}

async fn remote_loop(stage: Stage) {
    let worker = EventLoop::spawn_thread("loop thread").expect("there are threads");
    sleep(seconds(1.1)).await;
    let (reporter, bar) = (stage.reporter("remote"), stage.away("remote"));
    let body = async move || {
        for text in ["SETUP", "MIDDLE"] {
            bar.is(State::Running);
            reporter.log(text);
            bar.is(State::Waiting);
            sleep(seconds(2.0)).await;
        }
        reporter.log("END");
        bar.is(State::Done);
        "Result"
    };
    let remote = Rc::new(RefCell::new(worker.handle().submit(body).expect("the loop is open")));
    let inner = remote.clone();
    let wrapped =
        stage.spawn("wrapped", poll_fn(move |cx| Future::poll(Pin::new(&mut *inner.borrow_mut()), cx)));
    let done = || format!("done: {}, {}", remote.borrow().is_finished(), wrapped.is_finished());
    stage.log(done());
    sleep(seconds(3.0)).await;
    stage.log(done());
    sleep(seconds(3.0)).await;
    stage.log(done());
    if let Ok(Ok(result)) = wrapped.await {
        stage.log(format!("gives: {result}"));
    }
    worker.ended().await.expect("the loop has ended");
}

async fn two_feeds(stage: Stage) {
    for (name, length) in [("slow job", 6.0), ("quick job", 3.0)] {
        let job = stage.job(name, length);
        let name = to_thread(move || job.run()).await.unwrap_or("nothing");
        stage.log(format!("{name} ends"));
    }
    let task = |name, length| stage.spawn(name, work(stage.clone(), name, length));
    let results = gather([task("slow", 6.0), task("quick", 3.0)]).await;
    stage.log(format!("gathered: {}", values(&results)));
    let pool = ThreadPool::builder(5).name("pool").build().expect("there are threads");
    stage.jobs_take(0.0);
    let mut sums = pool.map(0..5, |n| n + 5);
    let mut all = Vec::new();
    while let Some(sum) = sums.next().await {
        all.push(sum.expect("it does not panic").to_string());
    }
    stage.log(format!("the pool gives: {}", all.join(", ")));
    pool.shutdown().await;
}

fn nothing_special(_: Host) -> Option<&'static str> {
    None
}

fn about_forever(host: Host) -> Option<&'static str> {
    match host {
        Host::Threads if cfg!(not(target_family = "wasm")) => None,
        Host::Threads | Host::OneThread => Some(
            "A page cannot block. Here run_forever gives the loop to the browser and returns at once, and the last \
             event is the moment at which the loop has stopped. The events and their order are those of a native program.",
        ),
        Host::Virtual if cfg!(target_family = "wasm") => {
            Some("On virtual time this is run_forever itself. It blocks the page, for no time at all.")
        }
        Host::Virtual => None,
    }
}

fn about_the_bakery(host: Host) -> Option<&'static str> {
    (host == Host::OneThread).then_some(
        "This host has one thread, so the bakery is a task of the same loop. The queue and the body are those that a \
         native program uses between threads.",
    )
}

fn about_threads(host: Host) -> Option<&'static str> {
    match host {
        Host::OneThread => Some(
            "This host has no threads to give blocking work to, so what the scenario needs answers with a typed error \
             at once: that is what has to come here. On virtual time the simulator has the threads.",
        ),
        Host::Virtual => Some("The simulator makes up the threads: nothing blocks, and the times are exact."),
        Host::Threads => None,
    }
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
        needs_threads: false,
        note: nothing_special,
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
        needs_threads: false,
        note: nothing_special,
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
        needs_threads: false,
        note: nothing_special,
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
        needs_threads: false,
        note: nothing_special,
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
        needs_threads: false,
        note: nothing_special,
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
        needs_threads: false,
        note: nothing_special,
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
        needs_threads: false,
        note: about_forever,
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
    Scenario {
        name: "queue",
        title: "Producer and consumer, across threads",
        shows: "The bakery is a loop on a thread of its own, the shop is this one. One bounded queue serves both, and \
                its shutdown ends the shop's day.",
        rows: &["F62", "X14", "U11"],
        play: Play::Main(|stage| Box::pin(producer_and_consumer(stage))),
        needs_threads: false,
        note: about_the_bakery,
        expected: &[
            at(1.0, "main", "sells loaf 1"),
            at(2.0, "main", "sells loaf 2"),
            at(3.0, "main", "sells loaf 3"),
            at(3.0, "main", "the bakery has shut down"),
        ],
    },
    Scenario {
        name: "roll",
        title: "Calling the roll",
        shows: "Three pupils listen to one queue and are served in the order in which they came. Who gets the name of \
                another puts it back, so no call is lost, and the teacher waits until each was answered.",
        rows: &["F65", "F68", "F70"],
        play: Play::Main(|stage| Box::pin(roll_call(stage))),
        needs_threads: false,
        note: nothing_special,
        expected: &[
            at(0.0, "main", "calls cid"),
            at(0.0, "ann", "hears cid, and passes it on"),
            at(0.0, "bob", "hears cid, and passes it on"),
            at(0.0, "cid", "present"),
            at(0.5, "main", "calls bob"),
            at(0.5, "ann", "hears bob, and passes it on"),
            at(0.5, "bob", "present"),
            at(1.0, "main", "calls ann"),
            at(1.0, "ann", "present"),
            at(1.5, "main", "all are present"),
        ],
    },
    Scenario {
        name: "seek",
        title: "Hide and seek",
        shows: "A condition lets tasks wait until what a lock protects has changed. The seeker sleeps until somebody \
                is hidden, the hider until he is found.",
        rows: &["F60", "F61"],
        play: Play::Main(|stage| Box::pin(hide_and_seek(stage))),
        needs_threads: false,
        note: nothing_special,
        expected: &[
            at(0.0, "seeker", "counts with closed eyes"),
            at(1.0, "hider", "is behind the tree"),
            at(1.0, "seeker", "opens the eyes"),
            at(2.0, "seeker", "looks behind the tree: found"),
            at(2.0, "hider", "comes out"),
        ],
    },
    Scenario {
        name: "event",
        title: "Four waiters, woken by one event",
        shows: "Setting an event wakes everybody who waits at that moment, in the order in which they came, even if \
                it is cleared right after.",
        rows: &["F59", "F88"],
        play: Play::Main(|stage| Box::pin(one_event(stage))),
        needs_threads: false,
        note: nothing_special,
        expected: &[
            at(5.0, "main", "sets the event, and clears it"),
            at(5.0, "a", "goes on"),
            at(5.0, "b", "goes on"),
            at(5.0, "c", "goes on"),
            at(5.0, "d", "goes on"),
        ],
    },
    Scenario {
        name: "locks",
        title: "Two locks, in opposite order",
        shows: "Two tasks name the same two locks in opposite order. lock_all takes them in one order, so neither \
                waits for the other for ever. Taking one by one against that order is refused, before anything is taken.",
        rows: &["F55", "F56"],
        play: Play::Main(|stage| Box::pin(opposite_orders(stage))),
        needs_threads: false,
        note: nothing_special,
        expected: &[
            at(0.0, "one", "has both"),
            at(1.0, "two", "has both"),
            at(2.0, "main", "refused \"left\" with \"right\" held"),
        ],
    },
    Scenario {
        name: "average",
        title: "A generator that takes values in",
        shows: "A generator is a function that stops in the middle: each value that is sent in comes out as the \
                average so far. It needs no loop and takes no time.",
        rows: &["F79"],
        play: Play::Main(|stage| Box::pin(running_average(stage))),
        needs_threads: false,
        note: nothing_special,
        expected: &[
            at(0.0, "main", "10 in, 10.0 out"),
            at(0.0, "main", "20 in, 15.0 out"),
            at(0.0, "main", "30 in, 20.0 out"),
        ],
    },
    Scenario {
        name: "blocking",
        title: "Three jobs that block: on the loop, in threads, on two threads",
        shows: "Each job blocks for 2 s. As callbacks of the loop they take 6 s and nothing else happens. In threads \
                they take 2 s together, and a pool of two threads needs 4 s for three.",
        rows: &["F39", "F85"],
        play: Play::Main(|stage| Box::pin(blocking_jobs(stage))),
        needs_threads: true,
        note: about_threads,
        expected: &[
            at(2.0, "callback", "a ends"),
            at(4.0, "callback", "b ends"),
            at(6.0, "callback", "c ends"),
            at(6.0, "main", "on the loop: one after the other"),
            at(8.0, "main", "d, e, f: each on a thread of its own"),
            at(10.0, "main", "g ends"),
            at(10.0, "main", "h ends"),
            at(12.0, "main", "i ends"),
            at(12.0, "main", "two threads: the third job had to wait"),
        ],
    },
    Scenario {
        name: "eight",
        title: "Eight works at once",
        shows: "Four tasks, two jobs that block for 4 s, and two futures submitted as from another thread. All run at \
                once: the gather of the first six takes as long as the slowest of them, 4 s.",
        rows: &["F24", "F86"],
        play: Play::Main(|stage| Box::pin(eight_works(stage))),
        needs_threads: true,
        note: about_threads,
        expected: &[
            at(0.0, "a", "a starts"),
            at(0.0, "b", "b starts"),
            at(0.0, "c", "c starts"),
            at(0.0, "d", "d starts"),
            at(0.5, "d", "d ends"),
            at(1.0, "a", "a ends"),
            at(1.5, "submit 1", "ends"),
            at(2.0, "b", "b ends"),
            at(2.5, "submit 2", "ends"),
            at(3.0, "c", "c ends"),
            at(4.0, "main", "gathered: a, b, work 1, work 2, c, d"),
        ],
    },
    Scenario {
        name: "remote",
        title: "Work for a loop on another thread",
        shows: "The loop runs on a thread of its own. What is submitted to it starts at once, ends 4 s later, and says \
                so to whoever asks; here it is asked three times, and then awaited as if it were a task of this loop.",
        rows: &["F08", "F44", "F46", "F87"],
        play: Play::Main(|stage| Box::pin(remote_loop(stage))),
        needs_threads: true,
        note: about_threads,
        expected: &[
            at(1.1, "main", "done: false, false"),
            at(1.1, "remote", "SETUP"),
            at(3.1, "remote", "MIDDLE"),
            at(4.1, "main", "done: false, false"),
            at(5.1, "remote", "END"),
            at(7.1, "main", "done: true, true"),
            at(7.1, "main", "gives: Result"),
        ],
    },
    Scenario {
        name: "feeds",
        title: "Two feeds: one that blocks, one that awaits",
        shows: "Blocking jobs that are awaited one by one, of 6 s and 3 s, end at 6 and 9. The same as tasks go side by \
                side: the quick one ends 3 s later, the slow one 6 s. A pool of five threads then adds 5 to each number, in order.",
        rows: &["F74", "F88"],
        play: Play::Main(|stage| Box::pin(two_feeds(stage))),
        needs_threads: true,
        note: about_threads,
        expected: &[
            at(6.0, "main", "slow job ends"),
            at(9.0, "main", "quick job ends"),
            at(9.0, "slow", "slow starts"),
            at(9.0, "quick", "quick starts"),
            at(12.0, "quick", "quick ends"),
            at(15.0, "slow", "slow ends"),
            at(15.0, "main", "gathered: slow, quick"),
            at(15.0, "main", "the pool gives: 5, 6, 7, 8, 9"),
        ],
    },
];
