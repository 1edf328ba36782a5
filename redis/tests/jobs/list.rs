//! The simple form: a list.

use std::{
    cell::Cell,
    convert::Infallible,
    rc::Rc,
    time::{Duration, Instant},
};

use selkie_redis::{Failure, ListWorker, LocalServer, Retry};

use crate::{
    proxy::{Cut, Proxy},
    support::{Gauge, Notes, Test, ask, ms, run, server, until},
};

pub(crate) fn tests() -> Vec<Test> {
    vec![
        ("list::items_are_done_in_their_order", items_are_done_in_their_order),
        ("list::no_more_is_taken_than_can_run", no_more_is_taken_than_can_run),
        ("list::an_item_is_pushed_not_polled", an_item_is_pushed_not_polled),
        ("list::failed_and_malformed_items_go_to_the_dead", failed_and_malformed_items_go_to_the_dead),
        ("list::cut_connections_lose_and_double_nothing", cut_connections_lose_and_double_nothing),
        (
            "list::a_lost_item_is_found_while_its_equals_are_settled",
            a_lost_item_is_found_while_its_equals_are_settled,
        ),
        ("list::what_is_asked_for_late_is_found", what_is_asked_for_late_is_found),
        ("list::what_is_asked_for_late_goes_back_at_the_end", what_is_asked_for_late_goes_back_at_the_end),
        (
            "list::what_is_asked_for_after_the_end_is_done_by_another",
            what_is_asked_for_after_the_end_is_done_by_another,
        ),
        (
            "list::a_farewell_that_nobody_hears_does_not_hold_the_worker",
            a_farewell_that_nobody_hears_does_not_hold_the_worker,
        ),
        ("list::items_of_a_dead_worker_are_done_by_another", items_of_a_dead_worker_are_done_by_another),
        ("list::no_more_is_found_again_than_can_run", no_more_is_found_again_than_can_run),
        ("list::items_taken_after_a_flush_are_not_lost", items_taken_after_a_flush_are_not_lost),
        ("list::a_short_idle_limit_does_not_hurry_in_vain", a_short_idle_limit_does_not_hurry_in_vain),
        ("list::a_dropped_run_tries_nothing_again", a_dropped_run_tries_nothing_again),
        ("list::a_worker_that_ends_hands_back", a_worker_that_ends_hands_back),
        ("list::what_is_handed_back_keeps_its_order", what_is_handed_back_keeps_its_order),
        (
            "list::an_answer_that_is_lost_at_the_end_costs_no_item",
            an_answer_that_is_lost_at_the_end_costs_no_item,
        ),
        ("list::a_dead_letter_that_is_refused_is_not_lost", a_dead_letter_that_is_refused_is_not_lost),
        ("list::a_server_without_memory_left_is_waited_for", a_server_without_memory_left_is_waited_for),
        (
            "list::a_letter_that_redis_does_not_take_stops_nothing",
            a_letter_that_redis_does_not_take_stops_nothing,
        ),
        ("list::nothing_begins_once_the_grace_is_over", nothing_begins_once_the_grace_is_over),
        (
            "list::more_than_a_message_is_handed_back_in_its_order",
            more_than_a_message_is_handed_back_in_its_order,
        ),
        ("list::large_items_are_brought_in_several_messages", large_items_are_brought_in_several_messages),
    ]
}

fn push(server: &LocalServer, items: &[&str]) {
    let mut command = vec!["LPUSH", "jobs"];
    command.extend(items);
    ask::<u64>(server, &command);
}

/// Nothing waits, and nobody has anything.
fn is_empty(server: &LocalServer) -> bool {
    let keys: Vec<String> = ask(server, &["KEYS", "jobs*"]);
    !keys.iter().any(|key| key == "jobs" || key.starts_with("jobs:processing"))
}

fn noting(url: &str, notes: &Notes) -> ListWorker {
    let notes = notes.clone();
    ListWorker::open(url, "jobs", move |item: String| {
        let notes = notes.clone();
        async move {
            notes.add(item);
            selkie::sleep(ms(1)).await;
            Ok::<_, Infallible>(())
        }
    })
    .unwrap()
}

fn items_are_done_in_their_order() {
    run(async {
        let server = server();
        push(&server, &[r#""a""#, r#""b""#, r#""c""#, r#""d""#]);
        let notes = Notes::default();
        let worker = noting(server.url(), &notes).concurrency(1);
        let report = worker.run(until("all are done", async || is_empty(&server))).await.unwrap();
        assert_eq!(notes.all(), ["a", "b", "c", "d"]);
        assert_eq!((report.taken, report.done, report.unsettled), (4, 4, 0));
        // No key stays but the tokens, which go by themselves.
        let keys: Vec<String> = ask(&server, &["KEYS", "*"]);
        assert!(keys.iter().all(|key| key.starts_with("jobs:token:")), "{keys:?}");
        assert!(ask::<i64>(&server, &["PTTL", &keys[0]]) > 0);
    });
}

fn no_more_is_taken_than_can_run() {
    run(async {
        let server = server();
        let items: Vec<_> = (0..60).map(|n| n.to_string()).collect();
        push(&server, &items.iter().map(String::as_str).collect::<Vec<_>>());
        let gauge = Gauge::default();
        let at_work = gauge.clone();
        let worker = ListWorker::open(server.url(), "jobs", move |_: u32| {
            let gauge = at_work.clone();
            async move {
                gauge.enter();
                selkie::sleep(ms(2)).await;
                gauge.leave();
                Ok::<_, Infallible>(())
            }
        });
        let worker = worker.unwrap().concurrency(5).name("w");
        let mut most = 0;
        let all = until("all are done", async || {
            most = most.max(ask::<u64>(&server, &["LLEN", "jobs:processing:w"]));
            is_empty(&server)
        });
        assert_eq!(worker.run(all).await.unwrap().done, 60);
        assert_eq!(gauge.most(), 5);
        assert!((2..=10).contains(&most), "{most}");
    });
}

/// Difference: F49. The original looks for a new item once a second; here Redis hands it over.
fn an_item_is_pushed_not_polled() {
    run(async {
        let server = server();
        let notes = Notes::default();
        let worker = noting(server.url(), &notes);
        let quick = async {
            selkie::sleep(ms(100)).await;
            let mut quickest = Duration::MAX;
            for n in 1..=5 {
                let start = Instant::now();
                push(&server, &[r#""now""#]);
                until("it runs", async || notes.all().len() == n).await;
                quickest = quickest.min(start.elapsed());
            }
            assert!(quickest < ms(500), "{quickest:?}");
        };
        worker.run(quick).await.unwrap();
    });
}

fn failed_and_malformed_items_go_to_the_dead() {
    run(async {
        let server = server();
        let exact = r#"{"z": 123456789012345678901234567890, "a": 1.10, "a": 2}"#;
        push(&server, &["1", "2", "{", r#"{"n": 1}"#, exact]);
        let notes = Notes::default();
        let noted = notes.clone();
        let worker = ListWorker::open(server.url(), "jobs", move |n: u32| {
            let attempt = selkie_redis::current_job().unwrap().attempt;
            noted.add(format!("{n} {attempt}"));
            async move { if n == 1 { Ok(()) } else { Err(Failure::new("not two")) } }
        });
        let worker = worker.unwrap().concurrency(1).retry(Retry::default().attempts(3).base(ms(10)));
        let report = worker.run(until("all are done", async || is_empty(&server))).await.unwrap();
        assert_eq!(notes.all(), ["1 1", "2 1", "2 2", "2 3"]);
        assert_eq!((report.done, report.retried, report.dead), (1, 2, 4));
        let dead: Vec<String> = ask(&server, &["LRANGE", "jobs:dead", "0", "-1"]);
        assert_eq!(dead[0], r#"{"item":2,"kind":"failed","error":"not two"}"#);
        assert!(dead[1].starts_with(r#"{"item":"{","kind":"malformed","error":"the item is not what the handler takes: invalid type: map"#), "{}", dead[1]);
        assert!(dead[2].starts_with(r#"{"item":{"n": 1},"kind":"malformed","error":"the item is not what the handler takes: invalid type"#), "{}", dead[2]);
        assert!(dead[3].starts_with(&format!(r#"{{"item":{exact},"kind":"malformed","#)), "{}", dead[3]);
    });
}

fn cut_connections_lose_and_double_nothing() {
    run(async {
        for pattern in ["BLMOVE", "done", "w1"] {
            for cut in [Cut::Command, Cut::Answer, Cut::SecondAnswer, Cut::HalfAnswer] {
                let server = server();
                let proxy = Proxy::start(server.port());
                // Equal items, as those are what could be mistaken for each other.
                let items: Vec<_> = (0..40).map(|n| format!("\"{}\"", n / 4)).collect();
                let notes = Notes::default();
                let worker = noting(&proxy.url(), &notes).concurrency(6).name("w1");
                let all = async {
                    selkie::sleep(ms(20)).await;
                    proxy.cut_at(pattern, cut);
                    push(&server, &items.iter().map(String::as_str).collect::<Vec<_>>());
                    until("the cut", async || proxy.was_cut()).await;
                    until("all are done", async || is_empty(&server)).await;
                };
                let report = worker.run(all).await.unwrap();
                let mut seen = notes.all();
                seen.sort();
                let expected: Vec<_> = (0..40).map(|n| (n / 4).to_string()).collect();
                assert_eq!(seen, expected, "{pattern} {cut:?} {report:?}");
                assert_eq!(report.done, 40);
            }
        }
    });
}

/// The question what is missing is under way for long each time, and one that is known is done meanwhile.
fn a_lost_item_is_found_while_its_equals_are_settled() {
    run(async {
        let server = server();
        let proxy = Proxy::start(server.port());
        let (begun, go) = (Rc::new(Cell::new(0)), Rc::new(Cell::new(0)));
        let (begins, goes) = (begun.clone(), go.clone());
        let worker = ListWorker::open(&proxy.url(), "jobs", move |_: String| {
            begins.set(begins.get() + 1);
            let (n, go) = (begins.get(), goes.clone());
            async move {
                until("it may end", async || go.get() >= n).await;
                Ok::<_, Infallible>(())
            }
        });
        let worker = worker.unwrap().concurrency(2).idle_limit(ms(600_000));
        let monitor = worker.monitor();
        let all = async {
            push(&server, &[r#""a""#]);
            until("one runs", async || begun.get() == 1).await;
            // The wait of the next one ends with it, and the answer is lost.
            proxy.cut_at("BLMOVE", Cut::SecondAnswer);
            until("it waits", async || proxy.was_cut()).await;
            proxy.hold_at("LRANGE");
            push(&server, &[r#""a""#]);
            for n in 1..=2 {
                until("it asks", async || proxy.holds()).await;
                go.set(n);
                selkie::sleep(ms(200)).await;
                push(&server, &[r#""a""#]);
                proxy.release();
                proxy.hold_at("LRANGE");
                until("another runs", async || begun.get() > n).await;
            }
            proxy.release();
            go.set(4);
            until("all are done", async || monitor.read().done == 4).await;
        };
        let limited = async { selkie::timeout(Duration::from_secs(20), all).await.unwrap() };
        worker.run(limited).await.unwrap();
        assert!(is_empty(&server));
    });
}

/// Something on the way has kept a command, for longer than the worker waits for its answer.
fn what_is_asked_for_late_is_found() {
    run(async {
        let server = server();
        let proxy = Proxy::start(server.port());
        let notes = Notes::default();
        let worker = noting(&proxy.url(), &notes).idle_limit(ms(300));
        let monitor = worker.monitor();
        let all = async {
            proxy.hold_at("BLMOVE");
            until("it has given up", async || monitor.read().repeated > 0).await;
            // The next one is kept as well.
            selkie::sleep(ms(500)).await;
            push(&server, &[r#""a""#, r#""b""#]);
            proxy.release();
            until("all are done", async || is_empty(&server)).await;
        };
        let limited = async { _ = selkie::timeout(Duration::from_secs(40), all).await };
        let report = worker.run(limited).await.unwrap();
        assert_eq!((report.done, report.unsettled), (2, 0), "{report:?}");
    });
}

fn what_is_asked_for_late_goes_back_at_the_end() {
    run(async {
        let server = server();
        let notes = Notes::default();
        let worker = noting(server.url(), &notes).name("w");
        let monitor = worker.monitor();
        let all = async {
            push(&server, &[r#""a""#]);
            until("it works", async || monitor.read().done == 1).await;
            ask::<()>(&server, &["LPUSH", "jobs:processing:w", r#""b""#, r#""c""#]);
        };
        assert_eq!(worker.run(all).await.unwrap().unsettled, 0);
        assert_eq!(ask::<Vec<String>>(&server, &["LRANGE", "jobs", "0", "-1"]), [r#""c""#, r#""b""#]);
        assert_eq!(ask::<Vec<String>>(&server, &["KEYS", "jobs:[pwa]*"]), Vec::<String>::new());
    });
}

/// A command that something on the way has kept until its worker had left.
fn what_is_asked_for_after_the_end_is_done_by_another() {
    run(async {
        let server = server();
        let proxy = Proxy::start(server.port());
        let notes = Notes::default();
        let worker = noting(&proxy.url(), &notes).name("w");
        let monitor = worker.monitor();
        let ends = async {
            proxy.hold_next("BLMOVE");
            until("it has given up", async || monitor.read().repeated > 0).await;
            until("it takes again", async || {
                push(&server, &[r#""a""#]);
                selkie::sleep(ms(500)).await;
                monitor.read().done > 2
            })
            .await;
        };
        assert_eq!(worker.run(ends).await.unwrap().unsettled, 0);
        let left: Vec<String> = ask(&server, &["KEYS", "jobs:[pwa]*"]);
        assert!(left.is_empty(), "{left:?}");
        push(&server, &[r#""late""#]);
        proxy.release();
        until("it was moved", async || ask::<u64>(&server, &["LLEN", "jobs:processing:w"]) == 1).await;
        let other = noting(server.url(), &notes).idle_limit(ms(300));
        let all = async {
            let all = until("all are done", async || is_empty(&server));
            let _ = selkie::timeout(Duration::from_secs(20), all).await;
        };
        other.run(all).await.unwrap();
        assert_eq!(notes.all().last().unwrap(), "late");
        assert!(is_empty(&server));
    });
}

/// About the clock: it waits for less than an answer may take.
fn a_farewell_that_nobody_hears_does_not_hold_the_worker() {
    run(async {
        let server = server();
        let proxy = Proxy::start(server.port());
        let worker = noting(&proxy.url(), &Notes::default());
        let monitor = worker.monitor();
        push(&server, &[r#""a""#]);
        let start = Instant::now();
        let done = async {
            until("it is done", async || monitor.read().done == 1).await;
            proxy.hold_at("DEL");
        };
        assert_eq!(worker.run(done).await.unwrap().unsettled, 0);
        assert!(proxy.holds() && start.elapsed() < ms(8000), "{:?}", start.elapsed());
        proxy.release();
    });
}

fn items_of_a_dead_worker_are_done_by_another() {
    run(async {
        let server = server();
        push(&server, &[r#""a""#, r#""b""#, r#""c""#]);
        // It took two, gave one sign, and died.
        ask::<()>(&server, &["SADD", "jobs:workers", "gone"]);
        ask::<()>(&server, &["SET", "jobs:alive:gone", "1", "PX", "200"]);
        for _ in 0..2 {
            ask::<String>(&server, &["LMOVE", "jobs", "jobs:processing:gone", "RIGHT", "LEFT"]);
        }
        let notes = Notes::default();
        let worker = noting(server.url(), &notes).concurrency(1).idle_limit(ms(400));
        worker.run(until("all are done", async || is_empty(&server))).await.unwrap();
        assert_eq!(notes.all(), ["c", "a", "b"]);
        assert_eq!(ask::<Vec<String>>(&server, &["SMEMBERS", "jobs:workers"]), Vec::<String>::new());
        // A name may be no text.
        push(&server, &[r#""e""#]);
        let mut connection = redis::Client::open(server.url()).unwrap().get_connection().unwrap();
        redis::cmd("SADD").arg("jobs:workers").arg(b"\xff").exec(&mut connection).unwrap();
        let take = redis::cmd("RENAME").arg("jobs").arg(b"jobs:processing:\xff").take();
        take.exec(&mut connection).unwrap();
        let worker = noting(server.url(), &notes).idle_limit(ms(100));
        worker.run(until("it is done", async || notes.all().len() == 4)).await.unwrap();
        // With a name of its own a worker needs no other to find what it had.
        push(&server, &[r#""d""#]);
        ask::<String>(&server, &["LMOVE", "jobs", "jobs:processing:again", "RIGHT", "LEFT"]);
        let worker = noting(server.url(), &notes).name("again");
        let report = worker.run(until("all are done", async || is_empty(&server))).await.unwrap();
        assert_eq!((report.recovered, report.done), (1, 1));
    });
}

/// The one that died with this name ran more at a time.
fn no_more_is_found_again_than_can_run() {
    run(async {
        let server = server();
        let items: Vec<_> = (0..60).map(|n| format!("\"{n}\"")).collect();
        push(&server, &items.iter().map(String::as_str).collect::<Vec<_>>());
        ask::<()>(&server, &["RENAME", "jobs", "jobs:processing:same"]);
        let notes = Notes::default();
        let worker = noting(server.url(), &notes).concurrency(2).name("same");
        let monitor = worker.monitor();
        let mut most = 0;
        let all = until("all are done", async || {
            most = most.max(monitor.read().unsettled);
            is_empty(&server)
        });
        assert_eq!(worker.run(all).await.unwrap().recovered, 60);
        assert!(most <= 4, "{most}");
        let begun: Vec<_> = notes.all().iter().map(|item| format!("\"{item}\"")).collect();
        assert_eq!(begun, items);
    });
}

/// With all else the flush takes the names of the workers, of which the next sign of life is far away.
fn items_taken_after_a_flush_are_not_lost() {
    run(async {
        let server = server();
        let notes = Notes::default();
        let worker = ListWorker::open(server.url(), "jobs", async |_: String| {
            selkie::sleep(ms(60_000)).await;
            Ok::<_, Infallible>(())
        });
        // With more it would still wait in Redis when it dies.
        let worker = worker.unwrap().concurrency(1);
        let monitor = worker.monitor();
        {
            let until = async {
                until("it is known", async || ask(&server, &["EXISTS", "jobs:workers"])).await;
                ask::<()>(&server, &["FLUSHALL"]);
                // Longer than the worker waits in Redis.
                selkie::sleep(ms(1500)).await;
                push(&server, &[r#""a""#]);
                until("it runs", async || monitor.read().running == 1).await;
            };
            let dies = std::pin::pin!(worker.run(std::future::pending()));
            let until = std::pin::pin!(until);
            futures_util::future::select(dies, until).await;
        }
        let other = noting(server.url(), &notes).idle_limit(ms(300));
        other.run(until("the other has done it", async || !notes.all().is_empty())).await.unwrap();
        assert_eq!(notes.all(), ["a"]);
    });
}

/// About the clock.
fn a_short_idle_limit_does_not_hurry_in_vain() {
    run(async {
        let mut server = server();
        let worker = noting(server.url(), &Notes::default()).idle_limit(ms(30)).grace(Duration::ZERO);
        let monitor = worker.monitor();
        let stops = async {
            until("it is known", async || ask(&server, &["EXISTS", "jobs:workers"])).await;
            server.kill();
            selkie::sleep(ms(1000)).await;
            monitor.read().repeated
        };
        let repeated = Cell::new(0);
        let stops = async { repeated.set(stops.await) };
        worker.run(stops).await.unwrap();
        // A beat every 10 ms, and the reader.
        assert!(repeated.get() < 200, "{}", repeated.get());
    });
}

fn a_dropped_run_tries_nothing_again() {
    run(async {
        let server = server();
        push(&server, &[r#""a""#]);
        let notes = Notes::default();
        let begun = notes.clone();
        let worker = ListWorker::open(server.url(), "jobs", move |item: String| {
            begun.add(item);
            async {
                selkie::sleep(ms(60_000)).await;
                Ok::<_, Infallible>(())
            }
        });
        let worker = worker.unwrap().retry(Retry::default().base(ms(1)));
        let monitor = worker.monitor();
        {
            let run = std::pin::pin!(worker.run(std::future::pending()));
            let begins = std::pin::pin!(until("it runs", async || !notes.all().is_empty()));
            futures_util::future::select(run, begins).await;
        }
        selkie::sleep(ms(50)).await;
        assert_eq!(notes.all(), ["a"]);
        let report = monitor.read();
        assert_eq!((report.running, report.unsettled, report.handed_back), (0, 1, 0), "{report:?}");
    });
}

fn a_worker_that_ends_hands_back() {
    run(async {
        let server = server();
        push(&server, &[r#""quick""#, r#""slow""#, r#""fails""#]);
        let worker = ListWorker::open(server.url(), "jobs", async |item: String| {
            selkie::sleep(ms(if item == "slow" { 60_000 } else { 10 })).await;
            if item == "fails" { Err(Failure::after(ms(60_000), "later")) } else { Ok(()) }
        });
        let worker = worker.unwrap().grace(ms(200));
        let monitor = worker.monitor();
        let report = worker.run(until("one is done", async || monitor.read().done == 1)).await.unwrap();
        assert_eq!((report.done, report.handed_back, report.unsettled), (1, 2, 0));
        let mut left: Vec<String> = ask(&server, &["LRANGE", "jobs", "0", "-1"]);
        left.sort();
        assert_eq!(left, [r#""fails""#, r#""slow""#]);
    });
}

fn what_is_handed_back_keeps_its_order() {
    run(async {
        let server = server();
        let items: Vec<_> = (1..=9).map(|n| n.to_string()).collect();
        push(&server, &items.iter().map(String::as_str).collect::<Vec<_>>());
        let worker = ListWorker::open(server.url(), "jobs", async |_: u8| {
            selkie::sleep(ms(60_000)).await;
            Ok::<_, Infallible>(())
        });
        let worker = worker.unwrap().concurrency(6).grace(Duration::ZERO);
        let monitor = worker.monitor();
        worker.run(until("six run", async || monitor.read().running == 6)).await.unwrap();
        let mut left: Vec<String> = ask(&server, &["LRANGE", "jobs", "0", "-1"]);
        left.reverse();
        assert_eq!(left, items);
    });
}

/// It was taken, the worker does not know of it, and ends before it asks.
fn an_answer_that_is_lost_at_the_end_costs_no_item() {
    run(async {
        let server = server();
        let proxy = Proxy::start(server.port());
        let notes = Notes::default();
        let worker = noting(&proxy.url(), &notes).idle_limit(ms(300));
        proxy.cut_at("BLMOVE", Cut::SecondAnswer);
        let mut pushed = false;
        let cut = until("the answer is cut", async || {
            if !pushed && proxy.was_cut() {
                push(&server, &[r#""a""#]);
                pushed = true;
            }
            // No time for the worker to ask what it has missed.
            let begin = Instant::now();
            while pushed && proxy.cuts() == 0 && begin.elapsed() < ms(4000) {
                selkie::yield_now().await;
            }
            proxy.cuts() > 0
        });
        let report = worker.run(cut).await.unwrap();
        assert_eq!((report.done, report.unsettled), (0, 0));
        let other = noting(server.url(), &notes).idle_limit(ms(300));
        other.run(until("the other has done it", async || is_empty(&server))).await.unwrap();
        assert_eq!(notes.all(), ["a"]);
    });
}

/// The list of the dead may be something else; a human repairs that.
fn a_dead_letter_that_is_refused_is_not_lost() {
    run(async {
        let server = server();
        ask::<()>(&server, &["SET", "jobs:dead", "something else"]);
        push(&server, &["no JSON"]);
        let notes = Notes::default();
        let worker = noting(server.url(), &notes).idle_limit(ms(300));
        let refused = worker.run(selkie::sleep(ms(30_000))).await.unwrap_err();
        assert!(refused.is_refused(), "{refused}");
        ask::<()>(&server, &["DEL", "jobs:dead"]);
        let other = noting(server.url(), &notes).idle_limit(ms(300));
        other.run(until("the other has done it", async || is_empty(&server))).await.unwrap();
        assert_eq!(ask::<u64>(&server, &["LLEN", "jobs:dead"]), 1);
    });
}

/// To move an item takes memory, and so does a sign of life.
fn a_server_without_memory_left_is_waited_for() {
    run(async {
        let server = server();
        let notes = Notes::default();
        let worker = noting(server.url(), &notes).idle_limit(ms(60));
        let monitor = worker.monitor();
        let fills = async {
            push(&server, &[r#""a""#]);
            until("it works", async || monitor.read().done == 1).await;
            // Nothing else asks for an item meanwhile, and the worker may wait for one: that is refused too.
            ask::<()>(&server, &["CONFIG", "SET", "maxmemory", "1"]);
            until("there is trouble", async || monitor.read().trouble.is_some()).await;
            // For some beats.
            selkie::sleep(ms(200)).await;
            ask::<()>(&server, &["CONFIG", "SET", "maxmemory", "0"]);
            push(&server, &[r#""b""#]);
            until("it works again", async || monitor.read().done == 2).await;
        };
        assert_eq!(worker.run(fills).await.unwrap().done, 2);
    });
}

/// What is no JSON is a string in the letter, and that may be much longer.
fn a_letter_that_redis_does_not_take_stops_nothing() {
    run(async {
        let server = server();
        ask::<()>(&server, &["CONFIG", "SET", "proto-max-bulk-len", "1mb"]);
        let large = "\u{1}".repeat(500_000);
        push(&server, &[&large, r#""b""#]);
        let notes = Notes::default();
        let worker = noting(server.url(), &notes).concurrency(1);
        let all = until("all are done", async || is_empty(&server));
        let limited = async { _ = selkie::timeout(Duration::from_secs(20), all).await };
        let report = worker.grace(Duration::ZERO).run(limited).await.unwrap();
        assert_eq!((report.dead, report.done, report.repeated), (1, 1, 0));
        assert_eq!(ask::<Vec<String>>(&server, &["LRANGE", "jobs:dead", "0", "-1"]), [large]);
    });
}

/// Its wait may be over in the same turn in which the worker cancels it.
fn nothing_begins_once_the_grace_is_over() {
    run(async {
        for _ in 0..20 {
            let server = server();
            let items: Vec<_> = (0..64).map(|n| n.to_string()).collect();
            push(&server, &items.iter().map(String::as_str).collect::<Vec<_>>());
            let (gauge, over) = (Gauge::default(), Rc::new(Cell::new(false)));
            let (at_work, is_over) = (gauge.clone(), over.clone());
            struct Leaves(Gauge);
            impl Drop for Leaves {
                fn drop(&mut self) {
                    self.0.leave();
                }
            }
            let worker = ListWorker::open(server.url(), "jobs", move |_: u8| {
                let leaves = Leaves(at_work.clone());
                at_work.enter();
                let is_over = is_over.clone();
                async move {
                    let _leaves = leaves;
                    if is_over.get() {
                        selkie::sleep(ms(60_000)).await;
                    }
                    Err::<(), _>(Failure::new("again"))
                }
            });
            let retry = Retry::default().attempts(u32::MAX).base(ms(1)).max(ms(1));
            let worker = worker.unwrap().concurrency(64).retry(retry).grace(Duration::ZERO);
            let monitor = worker.monitor();
            let all = async {
                until("all run", async || monitor.read().running == 64).await;
                selkie::sleep(ms(20)).await;
                over.set(true);
            };
            let report = worker.run(all).await.unwrap();
            assert_eq!((gauge.now(), report.handed_back), (0, 64));
        }
    });
}

fn more_than_a_message_is_handed_back_in_its_order() {
    run(async {
        let server = server();
        let items: Vec<_> = (1..=700).map(|n| n.to_string()).collect();
        push(&server, &items.iter().map(String::as_str).collect::<Vec<_>>());
        let worker = ListWorker::open(server.url(), "jobs", async |_: u16| {
            selkie::sleep(ms(60_000)).await;
            Ok::<_, Infallible>(())
        });
        let worker = worker.unwrap().concurrency(700).grace(Duration::ZERO);
        let monitor = worker.monitor();
        worker.run(until("all run", async || monitor.read().running == 700)).await.unwrap();
        let mut left: Vec<String> = ask(&server, &["LRANGE", "jobs", "0", "-1"]);
        left.reverse();
        assert_eq!(left, items);
    });
}

/// Redis closes a connection by which more comes at once than its owner has set, 1 GB as a rule.
fn large_items_are_brought_in_several_messages() {
    run(async {
        let server = server();
        ask::<()>(&server, &["CONFIG", "SET", "client-query-buffer-limit", "3mb"]);
        ask::<()>(&server, &["CONFIG", "SET", "client-output-buffer-limit", "normal 3mb 0 0"]);
        let item = format!("\"{}\"", "x".repeat(600 << 10));
        for _ in 0..16 {
            push(&server, &[&item]);
        }
        let gauge = Gauge::default();
        let at_work = gauge.clone();
        let worker = ListWorker::open(server.url(), "jobs", move |_: String| {
            let gauge = at_work.clone();
            async move {
                gauge.enter();
                // All end at once.
                until("all run", async || gauge.most() == 16).await;
                Ok::<_, Infallible>(())
            }
        });
        let all = async {
            let all = until("all are done", async || is_empty(&server));
            let _ = selkie::timeout(Duration::from_secs(20), all).await;
        };
        let report = worker.unwrap().concurrency(16).run(all).await.unwrap();
        assert_eq!((report.done, report.repeated), (16, 0), "{report:?}");
    });
}
