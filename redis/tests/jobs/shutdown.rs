//! Workers that end, stall, or die.

use std::{
    cell::Cell,
    convert::Infallible,
    rc::Rc,
    time::{Duration, Instant},
};

use selkie_redis::{Event, Failure, JobQueue, ListWorker, NewJob, Retry, Worker, current_job};

use crate::support::{Notes, Test, ask, drain, ms, queue, run, server, until};

pub(crate) fn tests() -> Vec<Test> {
    vec![
        (
            "shutdown::running_jobs_may_end_and_others_are_handed_back",
            running_jobs_may_end_and_others_are_handed_back,
        ),
        (
            "shutdown::a_job_that_ignores_its_cancel_does_not_hold_the_worker",
            a_job_that_ignores_its_cancel_does_not_hold_the_worker,
        ),
        (
            "shutdown::an_unreachable_server_does_not_hold_the_worker",
            an_unreachable_server_does_not_hold_the_worker,
        ),
        (
            "shutdown::a_server_that_never_was_there_does_not_hold_the_worker",
            a_server_that_never_was_there_does_not_hold_the_worker,
        ),
        (
            "shutdown::jobs_of_a_dropped_run_are_cancelled_and_claimed",
            jobs_of_a_dropped_run_are_cancelled_and_claimed,
        ),
        (
            "shutdown::a_stalled_worker_loses_its_jobs_and_they_count_once",
            a_stalled_worker_loses_its_jobs_and_they_count_once,
        ),
        (
            "shutdown::long_jobs_of_a_living_worker_are_not_claimed",
            long_jobs_of_a_living_worker_are_not_claimed,
        ),
        ("shutdown::a_job_that_ends_its_workers_is_given_up", a_job_that_ends_its_workers_is_given_up),
        (
            "shutdown::a_worker_with_the_name_of_a_dead_one_takes_its_jobs_at_once",
            a_worker_with_the_name_of_a_dead_one_takes_its_jobs_at_once,
        ),
        ("shutdown::deliveries_are_those_of_the_attempt", deliveries_are_those_of_the_attempt),
        ("shutdown::the_group_forgets_workers_that_are_gone", the_group_forgets_workers_that_are_gone),
    ]
}

fn sleeper(queue: &JobQueue, notes: &Notes) -> Worker {
    let notes = notes.clone();
    Worker::new(queue.clone()).concurrency(4).register("sleep", move |time: u64| {
        let notes = notes.clone();
        async move {
            selkie::sleep(ms(time)).await;
            notes.add(format!("{time} {}", current_job().unwrap().deliveries));
            Ok::<_, Infallible>(())
        }
    })
}

fn running_jobs_may_end_and_others_are_handed_back() {
    run(async {
        let server = server();
        let queue = queue(&server);
        queue
            .submit_all([100, 60_000, 200, 61_000, 1].map(|n| NewJob::new("sleep", &n).unwrap()))
            .await
            .unwrap();
        let notes = Notes::default();
        let worker = sleeper(&queue, &notes).grace(ms(1500));
        let monitor = worker.monitor();
        let start = Instant::now();
        let report = worker.run(until("four run", async || monitor.read().running == 4)).await.unwrap();
        assert!(start.elapsed() < ms(6000), "{:?}", start.elapsed());
        // The fifth may have been taken, when the first was done.
        assert_eq!(notes.all()[..2], ["100 1", "200 1"]);
        assert!((2..=3).contains(&report.handed_back), "{report:?}");
        assert_eq!((report.unsettled, report.running), (0, 0));
        // They need no idle limit: another worker has them at once, and sees that they may have run.
        let counts = queue.counts().await.unwrap();
        assert_eq!((counts.delivered, counts.ready), (0, 3));
        let seen = Notes::default();
        let noted = seen.clone();
        let quick = Worker::new(queue.clone()).register("sleep", move |time: u64| {
            let job = current_job().unwrap();
            noted.add(format!("{time} attempt {} again {}", job.attempt, job.deliveries > 1));
            async { Ok::<_, Infallible>(()) }
        });
        drain(&queue, quick).await;
        let mut seen = seen.all();
        seen.sort();
        assert_eq!(seen[1..], ["60000 attempt 1 again true", "61000 attempt 1 again true"]);
        assert!(seen[0].starts_with("1 attempt 1"));
        assert!(
            ask::<Vec<redis::Value>>(&server, &["XINFO", "CONSUMERS", "selkie:{tests}:jobs", "workers"])
                .is_empty()
        );
    });
}

fn a_job_that_ignores_its_cancel_does_not_hold_the_worker() {
    run(async {
        let server = server();
        let queue = queue(&server);
        let mut watch = queue.watch().await.unwrap();
        let mut ids = vec![queue.submit("stubborn", &()).await.unwrap()];
        ids.push(queue.submit("thread", &()).await.unwrap());
        let worker = Worker::new(queue.clone())
            .grace(ms(20))
            .register("stubborn", async |()| {
                loop {
                    let _ = selkie::catch_cancel(selkie::sleep(Duration::from_secs(3600))).await;
                    if false {
                        return Ok::<_, Infallible>(());
                    }
                }
            })
            .register_blocking("thread", |()| {
                std::thread::sleep(ms(3000));
                Ok::<_, Infallible>(())
            });
        let monitor = worker.monitor();
        let start = Instant::now();
        let report = worker.run(until("both run", async || monitor.read().running == 2)).await.unwrap();
        assert!(start.elapsed() < ms(6000), "{:?}", start.elapsed());
        assert_eq!((report.handed_back, report.unsettled), (2, 0));
        assert_eq!(queue.counts().await.unwrap().ready, 2);
        for _ in 0..2 {
            match watch.next().await {
                Event::Back { id } => ids.retain(|known| *known != id),
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(ids, []);
    });
}

fn an_unreachable_server_does_not_hold_the_worker() {
    run(async {
        let mut server = server();
        let queue = queue(&server);
        queue.submit("sleep", &10).await.unwrap();
        let worker = sleeper(&queue, &Notes::default()).grace(ms(100));
        let monitor = worker.monitor();
        let start = Instant::now();
        let lost = async {
            until("it runs", async || monitor.read().running == 1).await;
            server.kill();
        };
        let report = worker.run(lost).await.unwrap();
        assert_eq!((report.done, report.unsettled), (0, 1));
        assert!(start.elapsed() < Duration::from_secs(12), "{:?}", start.elapsed());
    });
}

/// It has nothing to be graceful about.
fn a_server_that_never_was_there_does_not_hold_the_worker() {
    const HOUR: Duration = Duration::from_secs(3600);
    run(async {
        let mut server = server();
        server.kill();
        let stream = sleeper(&queue(&server), &Notes::default()).grace(HOUR);
        let list = ListWorker::open(server.url(), "jobs", async |(): ()| Ok::<_, Infallible>(()))
            .unwrap()
            .grace(HOUR);
        let ends = async {
            assert_eq!(stream.run(selkie::sleep(ms(50))).await.unwrap().taken, 0);
            assert_eq!(list.run(selkie::sleep(ms(50))).await.unwrap().taken, 0);
        };
        selkie::timeout(Duration::from_secs(60), ends).await.unwrap();
    });
}

fn jobs_of_a_dropped_run_are_cancelled_and_claimed() {
    run(async {
        let server = server();
        let queue = queue(&server);
        queue.submit("sleep", &300).await.unwrap();
        let notes = Notes::default();
        let worker = sleeper(&queue, &notes);
        let monitor = worker.monitor();
        let task = selkie::spawn(worker.run(std::future::pending()));
        until("it runs", async || monitor.read().running == 1).await;
        drop(task.into_future());
        selkie::sleep(ms(500)).await;
        assert!(notes.all().is_empty(), "the job went on");
        let report = drain(&queue, sleeper(&queue, &notes).idle_limit(ms(300))).await;
        assert_eq!(notes.all(), ["300 2"]);
        assert_eq!((report.claimed, report.done), (1, 1));
    });
}

fn a_stalled_worker_loses_its_jobs_and_they_count_once() {
    let server = server();
    let url = server.url().to_owned();
    let stalled = std::thread::spawn(move || {
        let queue = JobQueue::open(&url, "tests").unwrap();
        // The whole loop stands still, the heart as well.
        let worker = Worker::new(queue.clone()).idle_limit(ms(300)).register("stall", async |()| {
            if current_job().unwrap().deliveries == 1 {
                selkie::yield_now().await;
                std::thread::sleep(ms(1500));
            }
            Ok::<_, Infallible>("from the stalled one")
        });
        let monitor = worker.monitor();
        run(worker.run(until("settled", async move || monitor.read().done == 1))).unwrap()
    });
    let queue = queue(&server);
    let (counts, outcome) = run(async move {
        let id = queue.submit("stall", &()).await.unwrap();
        let delivered = async || queue.counts().await.unwrap().delivered == 1;
        until("it is delivered", delivered).await;
        let other = Worker::new(queue.clone())
            .idle_limit(ms(300))
            .register("stall", async |()| Ok::<_, Infallible>("from the other one"));
        let report = drain(&queue, other).await;
        assert_eq!((report.claimed, report.done), (1, 1));
        selkie::sleep(ms(2500)).await;
        (queue.counts().await.unwrap(), queue.outcome::<String>(&id).await.unwrap())
    });
    stalled.join().unwrap();
    assert_eq!((counts.done_total, counts.claimed_total, counts.open()), (1, 1, 0));
    assert_eq!(outcome, Some(Ok("from the other one".to_owned())));
}

fn long_jobs_of_a_living_worker_are_not_claimed() {
    run(async {
        let server = server();
        let queue = queue(&server);
        queue.submit("sleep", &1500).await.unwrap();
        let notes = Notes::default();
        let worker = sleeper(&queue, &notes).idle_limit(ms(600));
        let other = selkie::spawn({
            let worker = sleeper(&queue, &notes).idle_limit(ms(600));
            worker.run(selkie::sleep(ms(2000)))
        });
        assert_eq!(drain(&queue, worker).await.taken + other.await.unwrap().unwrap().taken, 1);
        assert_eq!(notes.all(), ["1500 1"]);
        assert_eq!(queue.counts().await.unwrap().claimed_total, 0);
    });
}

fn a_job_that_ends_its_workers_is_given_up() {
    run(async {
        let server = server();
        let queue = queue(&server);
        let id = queue.submit("never settled", &()).await.unwrap();
        ask::<()>(&server, &["XGROUP", "CREATE", "selkie:{tests}:jobs", "workers", "0"]);
        // Two workers took it, and died.
        let read = |worker: &str, from: &str| {
            ask::<redis::Value>(
                &server,
                &["XREADGROUP", "GROUP", "workers", worker, "STREAMS", "selkie:{tests}:jobs", from],
            )
        };
        read("first", ">");
        read("first", "0");
        let worker = Worker::new(queue.clone())
            .idle_limit(ms(100))
            .max_deliveries(2)
            .register("never settled", async |()| -> Result<(), Failure> { unreachable!("a third time") });
        assert_eq!(drain(&queue, worker).await.dead, 1);
        let letter = queue.dead_letters(None, 1).await.unwrap().remove(0);
        assert_eq!((&letter.id, letter.kind.as_str()), (&id, "lost"));
        assert!(letter.error.starts_with("delivered 2 times without a verdict"), "{}", letter.error);
    });
}

fn a_worker_with_the_name_of_a_dead_one_takes_its_jobs_at_once() {
    run(async {
        let server = server();
        let queue = queue(&server);
        queue.submit_all([1, 2, 3].map(|n| NewJob::new("sleep", &n).unwrap())).await.unwrap();
        ask::<()>(&server, &["XGROUP", "CREATE", "selkie:{tests}:jobs", "workers", "0"]);
        let read =
            ["XREADGROUP", "GROUP", "workers", "ada", "COUNT", "2", "STREAMS", "selkie:{tests}:jobs", ">"];
        ask::<redis::Value>(&server, &read);
        let notes = Notes::default();
        let report = drain(&queue, sleeper(&queue, &notes).name("ada")).await;
        let mut seen = notes.all();
        seen.sort();
        assert_eq!(seen, ["1 2", "2 2", "3 1"]);
        assert_eq!((report.recovered, report.claimed, report.done), (2, 0, 3));
    });
}

/// A worker dies with the job, one hands it back, and then it fails.
fn deliveries_are_those_of_the_attempt() {
    run(async {
        let server = server();
        let queue = queue(&server);
        queue.submit("fail", &()).await.unwrap();
        ask::<()>(&server, &["XGROUP", "CREATE", "selkie:{tests}:jobs", "workers", "0"]);
        let read = ["XREADGROUP", "GROUP", "workers", "ada", "STREAMS", "selkie:{tests}:jobs", ">"];
        ask::<redis::Value>(&server, &read);
        let notes = Notes::default();
        let worker = |hangs: bool| {
            let notes = notes.clone();
            let retry = Retry::default().attempts(2).base(ms(1));
            Worker::new(queue.clone()).name("ada").retry(retry).grace(ms(1)).register("fail", move |()| {
                let job = current_job().unwrap();
                notes.add(format!("attempt {}, delivery {}", job.attempt, job.deliveries));
                async move {
                    if hangs {
                        std::future::pending::<()>().await;
                    }
                    Err::<(), _>(Failure::new("each time"))
                }
            })
        };
        let hangs = worker(true);
        let monitor = hangs.monitor();
        hangs.run(until("it runs", async || monitor.read().running == 1)).await.unwrap();
        drain(&queue, worker(false)).await;
        assert_eq!(notes.all(), ["attempt 1, delivery 2", "attempt 1, delivery 3", "attempt 2, delivery 1"]);
    });
}

fn the_group_forgets_workers_that_are_gone() {
    run(async {
        let server = server();
        let queue = queue(&server);
        ask::<()>(&server, &["XGROUP", "CREATE", "selkie:{tests}:jobs", "workers", "0", "MKSTREAM"]);
        queue.submit("sleep", &1).await.unwrap();
        let group = |rest: &[&str]| ask::<redis::Value>(&server, rest);
        group(&["XREADGROUP", "GROUP", "workers", "gone, with a job", "STREAMS", "selkie:{tests}:jobs", ">"]);
        group(&["XGROUP", "CREATECONSUMER", "selkie:{tests}:jobs", "workers", "gone"]);
        let names = || {
            let workers: Vec<Vec<redis::Value>> =
                ask(&server, &["XINFO", "CONSUMERS", "selkie:{tests}:jobs", "workers"]);
            workers.into_iter().map(|fields| format!("{:?}", fields[1])).collect::<Vec<_>>()
        };
        assert_eq!(names().len(), 2);
        let script = include_str!("../../src/lua/claim.lua");
        let claim = |forget: &str| {
            ask::<redis::Value>(
                &server,
                &[
                    "EVAL",
                    script,
                    "2",
                    "selkie:{tests}:jobs",
                    "selkie:{tests}:totals",
                    "workers",
                    "me",
                    "3600000",
                    "1",
                    "0-0",
                    forget,
                ],
            )
        };
        claim("3600000");
        assert_eq!(names().len(), 2, "not for an hour");
        selkie::sleep(ms(20)).await;
        claim("10");
        assert_eq!(names().len(), 1);
        assert!(names()[0].contains("with a job"));
        // The job is still there for whoever claims it.
        let done = Rc::new(Cell::new(0));
        let count = done.clone();
        let worker = Worker::new(queue.clone()).idle_limit(ms(50)).register("sleep", move |_: u64| {
            count.set(count.get() + 1);
            async { Ok::<_, Infallible>(()) }
        });
        drain(&queue, worker).await;
        assert_eq!(done.get(), 1);
    });
}
