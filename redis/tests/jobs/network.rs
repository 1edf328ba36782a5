//! Connections that break, servers that go away.

use std::{
    cell::RefCell,
    convert::Infallible,
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use futures_util::FutureExt;
use selkie::local;
use selkie_redis::{Event, Failure, JobQueue, LocalServer, NewJob, Retry, Worker, current_job};

use crate::{
    proxy::{Cut, Proxy},
    support::{Test, ask, drain, ms, queue, run, server, until},
};

pub(crate) fn tests() -> Vec<Test> {
    vec![
        ("network::forgotten_scripts_are_told_again", forgotten_scripts_are_told_again),
        ("network::a_submission_that_is_cut_counts_once", a_submission_that_is_cut_counts_once),
        ("network::jobs_of_a_lost_reply_are_found_again", jobs_of_a_lost_reply_are_found_again),
        (
            "network::what_no_connection_brings_at_once_comes_in_pieces",
            what_no_connection_brings_at_once_comes_in_pieces,
        ),
        (
            "network::large_dead_letters_are_replayed_where_they_are",
            large_dead_letters_are_replayed_where_they_are,
        ),
        ("network::a_verdict_that_is_cut_counts_once", a_verdict_that_is_cut_counts_once),
        ("network::cuts_everywhere_lose_and_double_nothing", cuts_everywhere_lose_and_double_nothing),
        (
            "network::what_was_done_during_an_outage_is_settled_after_it",
            what_was_done_during_an_outage_is_settled_after_it,
        ),
        ("network::a_server_that_comes_late_is_waited_for", a_server_that_comes_late_is_waited_for),
        ("network::a_server_that_is_busy_is_waited_for", a_server_that_is_busy_is_waited_for),
        ("network::a_replica_is_waited_for", a_replica_is_waited_for),
        ("network::a_flush_under_a_job_is_outlived", a_flush_under_a_job_is_outlived),
        (
            "network::whoever_asks_a_silent_server_is_patient_alone",
            whoever_asks_a_silent_server_is_patient_alone,
        ),
        ("network::all_that_a_dead_namesake_had_runs_at_once", all_that_a_dead_namesake_had_runs_at_once),
        ("network::short_jobs_share_round_trips", short_jobs_share_round_trips),
        (
            "network::a_server_that_does_not_answer_a_watch_is_asked_again",
            a_server_that_does_not_answer_a_watch_is_asked_again,
        ),
        (
            "network::a_watch_whose_connection_dies_without_a_word_says_so",
            a_watch_whose_connection_dies_without_a_word_says_so,
        ),
        (
            "network::a_watch_that_is_told_nothing_for_long_keeps_its_connection",
            a_watch_that_is_told_nothing_for_long_keeps_its_connection,
        ),
        (
            "network::a_watch_that_is_asked_for_moments_only_comes_back",
            a_watch_that_is_asked_for_moments_only_comes_back,
        ),
        ("network::a_server_of_one_s_own_is_told_from_another", a_server_of_one_s_own_is_told_from_another),
    ]
}

/// A queue on the far side of the proxy.
fn far(proxy: &Proxy) -> JobQueue {
    JobQueue::open(&proxy.url(), "tests").unwrap()
}

type Runs = Rc<RefCell<Vec<(u64, u32, u64)>>>;

/// Notes each run; every tenth job fails once.
fn noting(queue: &JobQueue, runs: &Runs) -> Worker {
    let runs = runs.clone();
    Worker::new(queue.clone()).retry(Retry::default().base(ms(20))).register("note", move |n: u64| {
        let runs = runs.clone();
        async move {
            let job = current_job().unwrap();
            runs.borrow_mut().push((n, job.attempt, job.deliveries));
            selkie::sleep(ms(n % 3)).await;
            if n % 10 == 0 && job.attempt == 1 { Err(std::fmt::Error) } else { Ok(n) }
        }
    })
}

/// What `noting` notes of jobs up to `n` when each attempt runs once.
fn once(n: u64) -> Vec<(u64, u32, u64)> {
    let first = (0..n).map(|n| (n, 1, 1));
    let second = (0..n).filter(|n| n % 10 == 0).map(|n| (n, 2, 1));
    let mut all: Vec<_> = first.chain(second).collect();
    all.sort_unstable();
    all
}

fn sorted(runs: &Runs) -> Vec<(u64, u32, u64)> {
    let mut runs = runs.borrow().clone();
    runs.sort_unstable();
    runs
}

async fn submit(queue: &JobQueue, count: u64) {
    let ids = queue.submit_all((0..count).map(|n| NewJob::new("note", &n).unwrap())).await.unwrap();
    assert!(ids.iter().all(Option::is_some));
}

fn a_submission_that_is_cut_counts_once() {
    run(async {
        let server = server();
        let proxy = Proxy::start(server.port());
        let (near, far) = (queue(&server), far(&proxy));
        far.counts().await.unwrap();
        for cut in [Cut::Command, Cut::Answer, Cut::HalfAnswer] {
            proxy.cut_at("note", cut);
            submit(&far, 50).await;
            assert!(proxy.was_cut());
        }
        assert_eq!(proxy.cuts(), 3);
        let counts = near.counts().await.unwrap();
        assert_eq!((counts.ready, counts.submitted_total), (150, 150));
    });
}

fn jobs_of_a_lost_reply_are_found_again() {
    run(async {
        for cut in [Cut::Command, Cut::Answer, Cut::HalfAnswer] {
            let server = server();
            let proxy = Proxy::start(server.port());
            let near = queue(&server);
            submit(&near, 40).await;
            let runs = Runs::default();
            proxy.cut_at("XREADGROUP", cut);
            let report = drain(&near, noting(&far(&proxy), &runs)).await;
            assert!(proxy.was_cut());
            assert_eq!(sorted(&runs), once(40), "{cut:?}");
            assert_eq!((report.done, report.retried), (40, 4));
            // 16 were delivered to nobody. They did not have to become idle first.
            assert_eq!(report.recovered, if cut == Cut::Command { 0 } else { 16 });
            assert!(report.repeated > 0);
        }
    });
}

/// A reply has 8 MB, and a connection lives for half of that at the most.
fn what_no_connection_brings_at_once_comes_in_pieces() {
    run(async {
        let server = server();
        let proxy = Proxy::start(server.port());
        let near = queue(&server);
        let large = || NewJob::new("large", &"x".repeat(1 << 19)).unwrap();
        near.submit_all((0..20).map(|_| large())).await.unwrap();
        proxy.cut_after(4 << 20);
        let worker = Worker::new(far(&proxy)).register("large", async |text: String| {
            assert_eq!(current_job().unwrap().deliveries, 1);
            Ok::<_, Infallible>(text.len())
        });
        let report = drain(&near, worker).await;
        assert!(proxy.cuts() > 0);
        assert_eq!((report.done, report.retried), (20, 0));
    });
}

/// A connection lives for a few of them at the most.
fn large_dead_letters_are_replayed_where_they_are() {
    run(async {
        let server = server();
        let proxy = Proxy::start(server.port());
        let near = queue(&server);
        let large = || NewJob::new("large", &"x".repeat(1 << 20)).unwrap();
        near.submit_all((0..20).map(|_| large())).await.unwrap();
        let fails = async |_: String| Err::<(), _>(Failure::permanent("no"));
        assert_eq!(drain(&near, Worker::new(near.clone()).register("large", fails)).await.dead, 20);
        proxy.cut_after(6 << 20);
        assert_eq!(far(&proxy).replay_all().await.unwrap(), 20);
        // They are whole.
        let works = async |text: String| Ok::<_, Infallible>(text.len());
        assert_eq!(drain(&near, Worker::new(near.clone()).register("large", works)).await.done, 20);
    });
}

fn a_verdict_that_is_cut_counts_once() {
    run(async {
        for cut in [Cut::Command, Cut::Answer, Cut::HalfAnswer] {
            for verdict in ["retry", "done"] {
                let server = server();
                let proxy = Proxy::start(server.port());
                let near = queue(&server);
                submit(&near, 40).await;
                let runs = Runs::default();
                proxy.cut_at(verdict, cut);
                let report = drain(&near, noting(&far(&proxy), &runs)).await;
                assert!(proxy.was_cut());
                assert_eq!(sorted(&runs), once(40), "{cut:?}");
                let counts = near.counts().await.unwrap();
                assert_eq!((counts.done_total, counts.retried_total, counts.dead_total), (40, 4, 0));
                assert!(report.repeated > 0);
            }
        }
    });
}

fn cuts_everywhere_lose_and_double_nothing() {
    run(async {
        let server = server();
        let proxy = Proxy::start(server.port());
        let near = queue(&server);
        submit(&near, 600).await;
        let runs = Runs::default();
        // Longer than connecting takes, with the scripts; then about every third batch is cut.
        proxy.cut_after(9000);
        let report = drain(&near, noting(&far(&proxy), &runs)).await;
        assert!(proxy.cuts() > 5, "{} cuts", proxy.cuts());
        assert_eq!(sorted(&runs), once(600));
        let counts = near.counts().await.unwrap();
        assert_eq!(
            (counts.done_total, counts.retried_total, counts.dead_total, counts.claimed_total),
            (600, 60, 0, 0)
        );
        assert!(report.repeated > 5, "{report:?}");
    });
}

fn what_was_done_during_an_outage_is_settled_after_it() {
    run(async {
        let mut server = LocalServer::start_persistent().unwrap();
        let queue = queue(&server);
        submit(&queue, 40).await;
        let mut watch = queue.watch().await.unwrap();
        let runs = Runs::default();
        let noted = runs.clone();
        let worker = Worker::new(queue.clone()).idle_limit(ms(1500)).concurrency(40).register(
            "note",
            move |n: u64| {
                let runs = noted.clone();
                async move {
                    selkie::sleep(ms(150)).await;
                    runs.borrow_mut().push((n, 1, current_job().unwrap().deliveries));
                    Ok::<_, Infallible>(n)
                }
            },
        );
        let monitor = worker.monitor();
        let outage = async {
            until("all run", async || monitor.read().running == 40).await;
            server.kill();
            until("all have run", async || monitor.read().running == 0).await;
            until("there is trouble", async || monitor.read().trouble.is_some()).await;
            assert_eq!((monitor.read().done, monitor.read().unsettled), (0, 40));
            selkie::sleep(ms(100)).await;
            server.restart().unwrap();
            until("all are settled", async || monitor.read().done == 40).await;
            until("no more trouble", async || monitor.read().trouble.is_none()).await;
        };
        let report = worker.run(outage).await.unwrap();
        let mut expected = once(40);
        expected.retain(|(_, attempt, _)| *attempt == 1);
        assert_eq!(sorted(&runs), expected);
        assert_eq!((report.done, report.claimed, report.unsettled), (40, 0, 0));
        assert_eq!(queue.counts().await.unwrap().open(), 0);
        while watch.next().await != Event::Gap {}
    });
}

fn a_server_that_comes_late_is_waited_for() {
    run(async {
        let mut server = server();
        server.kill();
        let queue = queue(&server);
        let worker = Worker::new(queue.clone()).register("late", async |()| Ok::<_, Infallible>(()));
        let monitor = worker.monitor();
        let comes = async {
            until("there is trouble", async || monitor.read().repeated > 2).await;
            server.restart().unwrap();
            queue.submit("late", &()).await.unwrap();
            until("it is done", async || monitor.read().done == 1).await;
        };
        worker.run(comes).await.unwrap();
    });
}

/// Somebody's script takes long. To select a database is refused then, as most is.
fn a_server_that_is_busy_is_waited_for() {
    const SPIN: &str = "local function now() local t = redis.call('TIME') return t[1] * 1000 + t[2] / 1000 end \
        local start = now() while now() - start < 1500 do end";
    run(async {
        let server = server();
        ask::<()>(&server, &["CONFIG", "SET", "lua-time-limit", "1"]);
        let url = server.url().to_owned();
        let spins = std::thread::spawn(move || {
            let mut connection = redis::Client::open(url).unwrap().get_connection().unwrap();
            redis::cmd("EVAL").arg(SPIN).arg(0).exec(&mut connection).unwrap();
        });
        selkie::sleep(ms(300)).await;
        let queue = JobQueue::open(&format!("{}1", server.url()), "tests").unwrap();
        let worker = Worker::new(queue.clone()).register("done", async |()| Ok::<_, Infallible>(()));
        let monitor = worker.monitor();
        let works = async {
            queue.watch().await.unwrap();
            queue.submit("done", &()).await.unwrap();
            until("it is done", async || monitor.read().done == 1).await;
        };
        worker.run(works).await.unwrap();
        spins.join().unwrap();
    });
}

/// As after a failover, until somebody has noticed.
fn a_replica_is_waited_for() {
    run(async {
        let server = server();
        let queue = queue(&server);
        let worker = Worker::new(queue.clone()).register("done", async |()| Ok::<_, Infallible>(()));
        let monitor = worker.monitor();
        ask::<()>(&server, &["REPLICAOF", "127.0.0.1", "1"]);
        let works = async {
            until("there is trouble", async || monitor.read().trouble.is_some()).await;
            let error = queue.clone().patience(ms(2000)).submit("done", &()).await.unwrap_err();
            assert!(error.is_unreachable() && error.to_string().contains("is not ready"), "{error}");
            ask::<()>(&server, &["REPLICAOF", "NO", "ONE"]);
            queue.submit("done", &()).await.unwrap();
            until("it is done", async || monitor.read().done == 1).await;
        };
        worker.run(works).await.unwrap();
    });
}

/// The stream goes with its group while the worker is busy and so does not read. What it says of its jobs meets neither.
fn a_flush_under_a_job_is_outlived() {
    run(async {
        let server = server();
        let queue = queue(&server);
        let free = Rc::new(local::Event::local());
        let gate = free.clone();
        let worker = Worker::new(queue.clone()).concurrency(1).idle_limit(ms(60)).register(
            "fail",
            move |wait: bool| {
                let gate = gate.clone();
                async move {
                    if wait {
                        gate.wait().await;
                        return Err(std::fmt::Error);
                    }
                    Ok(())
                }
            },
        );
        let monitor = worker.monitor();
        queue.submit("fail", &true).await.unwrap();
        let flushed = async {
            until("the job runs", async || monitor.read().running == 1).await;
            ask::<()>(&server, &["FLUSHALL"]);
            // Some beats.
            selkie::sleep(ms(200)).await;
            free.set();
            until("the job has ended", async || monitor.read().running == 0).await;
            queue.submit("fail", &false).await.unwrap();
            until("a job after the flush", async || monitor.read().done == 1).await;
        };
        let report = worker.run(flushed).await.unwrap();
        assert_eq!((report.done, report.unsettled), (1, 0), "{report:?}");
    });
}

/// As often as it pleases whoever is at work there.
fn forgotten_scripts_are_told_again() {
    run(async {
        let server = server();
        let queue = queue(&server);
        let worker = Worker::new(queue.clone()).register("quick", async |()| {
            selkie::yield_now().await;
            Ok::<_, Infallible>(())
        });
        let monitor = worker.monitor();
        let over = Arc::new(AtomicBool::new(false));
        let (url, end) = (server.url().to_owned(), over.clone());
        let forgets = std::thread::spawn(move || {
            let mut connection = redis::Client::open(url).unwrap().get_connection().unwrap();
            let mut flushes = redis::pipe();
            for _ in 0..200 {
                flushes.cmd("SCRIPT").arg("FLUSH").ignore();
            }
            while !end.load(Ordering::Relaxed) {
                flushes.exec(&mut connection).unwrap();
            }
        });
        let works = async {
            for n in 0..20 {
                queue.submit("quick", &()).await.unwrap();
                until("it is done", async || monitor.read().done > n).await;
            }
        };
        let report = worker.run(works).await;
        over.store(true, Ordering::Relaxed);
        forgets.join().unwrap();
        assert_eq!(report.unwrap().done, 20);
    });
}

/// About the clock.
fn whoever_asks_a_silent_server_is_patient_alone() {
    run(async {
        let server = server();
        let proxy = Proxy::start(server.port());
        let queue = far(&proxy).patience(ms(500));
        queue.counts().await.unwrap();
        proxy.mute_all_for_ever();
        // By the connection that there is, and then by none: one of them connects, the others wait for it.
        for _ in 0..2 {
            let start = Instant::now();
            let asking = (0..4).map(|_| {
                let queue = queue.clone();
                selkie::spawn(async move { assert!(queue.counts().await.unwrap_err().is_unreachable()) })
            });
            for asked in selkie::gather(asking).await {
                asked.unwrap();
            }
            assert!(start.elapsed() < ms(5000), "{:?}", start.elapsed());
        }
        assert!(queue.watch().await.unwrap_err().is_unreachable());
        proxy.unmute();
        queue.counts().await.unwrap();
    });
}

/// More than Redis lists in one answer, and than the worker has room for.
fn all_that_a_dead_namesake_had_runs_at_once() {
    run(async {
        let server = server();
        let near = queue(&server);
        near.submit_all((0..2500).map(|n| NewJob::new("nothing", &n).unwrap())).await.unwrap();
        ask::<()>(&server, &["XGROUP", "CREATE", "selkie:{tests}:jobs", "workers", "0"]);
        let read = [
            "XREADGROUP",
            "GROUP",
            "workers",
            "same",
            "COUNT",
            "2500",
            "STREAMS",
            "selkie:{tests}:jobs",
            ">",
        ];
        ask::<redis::Value>(&server, &read);
        let worker = Worker::new(near.clone())
            .name("same")
            .concurrency(600)
            .idle_limit(ms(600_000))
            .register("nothing", async |_: u64| Ok::<_, Infallible>(()));
        let report = drain(&near, worker).await;
        assert_eq!((report.done, report.recovered, report.claimed), (2500, 2500, 0));
    });
}

fn short_jobs_share_round_trips() {
    run(async {
        let server = server();
        let proxy = Proxy::start(server.port());
        let near = queue(&server);
        let jobs = 2000;
        near.submit_all((0..jobs).map(|n| NewJob::new("nothing", &n).unwrap())).await.unwrap();
        let worker = Worker::new(far(&proxy))
            .concurrency(50)
            .register("nothing", async |_: u64| Ok::<_, Infallible>(()));
        assert_eq!(drain(&near, worker).await.done, jobs);
        let trips = proxy.round_trips();
        // 40 reads and 40 batches of verdicts if every batch is full; starting, looking for delayed jobs and ending are some more.
        assert!((60..400).contains(&trips), "{trips} round trips for {jobs} jobs");
    });
}

/// About the clock: as when a router forgets a connection.
fn a_watch_whose_connection_dies_without_a_word_says_so() {
    run(async {
        let server = server();
        let proxy = Proxy::start(server.port());
        let queue = JobQueue::open(&proxy.url(), "tests").unwrap();
        let direct = JobQueue::open(server.url(), "tests").unwrap();
        let mut watch = queue.watch().await.unwrap();
        proxy.mute_all();
        let worker = Worker::new(direct.clone()).register("done", async |()| Ok::<_, Infallible>(()));
        direct.submit("done", &()).await.unwrap();
        drain(&direct, worker).await;
        assert_eq!(watch.next().await, Event::Gap);
        let worker = Worker::new(direct.clone()).register("done", async |()| Ok::<_, Infallible>(()));
        let id = direct.submit("done", &()).await.unwrap();
        drain(&direct, worker).await;
        assert!(matches!(watch.next().await, Event::Done { id: done, .. } if done == id));
    });
}

/// About the clock: longer than a connection may be quiet without being asked.
fn a_watch_that_is_told_nothing_for_long_keeps_its_connection() {
    run(async {
        let server = server();
        let queue = JobQueue::open(server.url(), "tests").unwrap();
        let mut watch = queue.watch().await.unwrap();
        selkie::sleep(ms(17_000)).await;
        let worker = Worker::new(queue.clone()).register("done", async |()| Ok::<_, Infallible>(()));
        let id = queue.submit("done", &()).await.unwrap();
        drain(&queue, worker).await;
        assert!(matches!(watch.next().await, Event::Done { id: done, .. } if done == id));
    });
}

/// As after a failover, where something still takes connections and nobody is behind it.
fn a_server_that_does_not_answer_a_watch_is_asked_again() {
    run(async {
        let server = server();
        let proxy = Proxy::start(server.port());
        proxy.mute_next();
        let queue = JobQueue::open(&proxy.url(), "tests").unwrap();
        let mut watch = queue.watch().await.unwrap();
        let id = queue.submit("done", &()).await.unwrap();
        let worker = Worker::new(queue.clone()).register("done", async |()| Ok::<_, Infallible>(()));
        drain(&queue, worker).await;
        assert!(matches!(watch.next().await, Event::Done { id: done, .. } if done == id));
    });
}

/// As whoever does something else in between.
fn a_watch_that_is_asked_for_moments_only_comes_back() {
    run(async {
        let server = server();
        let queue = queue(&server);
        let mut watch = queue.watch().await.unwrap();
        ask::<u64>(&server, &["CLIENT", "KILL", "TYPE", "pubsub"]);
        let told = until("it is told", async || watch.next().now_or_never() == Some(Event::Gap));
        selkie::timeout(Duration::from_secs(10), told).await.unwrap();
        let id = queue.submit("nothing", &()).await.unwrap();
        drain(&queue, Worker::new(queue.clone()).register("nothing", async |()| Ok::<_, Infallible>(())))
            .await;
        assert!(matches!(watch.next().await, Event::Done { id: done, .. } if done == id));
    });
}

/// Who answers at the port may be another one, that took it meanwhile.
fn a_server_of_one_s_own_is_told_from_another() {
    let mut own = server();
    own.kill();
    let (port, program) = (own.port().to_string(), std::env::var("SELKIE_REDIS_SERVER"));
    let mut other = std::process::Command::new(program.as_deref().unwrap_or("redis-server"))
        .args(["--port", &port, "--bind", "127.0.0.1", "--save", "", "--logfile", "/dev/null"])
        .spawn()
        .unwrap();
    let start = Instant::now();
    while redis::Client::open(own.url()).unwrap().get_connection().is_err() {
        assert!(start.elapsed() < Duration::from_secs(60));
        std::thread::sleep(ms(5));
    }
    let restarted = own.restart();
    other.kill().unwrap();
    other.wait().unwrap();
    let error = restarted.unwrap_err();
    assert!(error.to_string().contains(" ended "), "{error}");
    own.restart().unwrap();
}
