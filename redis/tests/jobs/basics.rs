//! One worker, one server, nothing goes wrong but the jobs.

use std::{
    cell::Cell,
    convert::Infallible,
    rc::Rc,
    time::{Duration, Instant},
};

use selkie_redis::{Event, Failed, Failure, JobId, JobQueue, NewJob, Retry, Worker, current_job};

use crate::support::{Gauge, Notes, Test, ask, drain, ms, queue, run, server, until};

pub(crate) fn tests() -> Vec<Test> {
    vec![
        ("basics::a_job_is_done_and_its_outcome_kept", a_job_is_done_and_its_outcome_kept),
        ("basics::the_address_may_ask_for_the_newer_protocol", the_address_may_ask_for_the_newer_protocol),
        (
            "basics::a_worker_runs_on_a_loop_that_is_not_inside_tokio",
            a_worker_runs_on_a_loop_that_is_not_inside_tokio,
        ),
        ("basics::no_more_is_taken_than_can_run", no_more_is_taken_than_can_run),
        (
            "basics::jobs_that_never_wait_leave_the_loop_its_turns",
            jobs_that_never_wait_leave_the_loop_its_turns,
        ),
        (
            "basics::a_failed_job_is_tried_again_later_and_then_given_up",
            a_failed_job_is_tried_again_later_and_then_given_up,
        ),
        ("basics::dead_letters_are_replayed", dead_letters_are_replayed),
        (
            "basics::panics_and_timeouts_fail_the_job_not_the_worker",
            panics_and_timeouts_fail_the_job_not_the_worker,
        ),
        ("basics::malformed_jobs_die_with_a_reason", malformed_jobs_die_with_a_reason),
        (
            "basics::a_job_without_a_handler_waits_for_a_worker_that_has_one",
            a_job_without_a_handler_waits_for_a_worker_that_has_one,
        ),
        ("basics::a_delayed_job_waits_for_its_time", a_delayed_job_waits_for_its_time),
        ("basics::an_id_is_taken_once", an_id_is_taken_once),
        ("basics::a_submission_that_is_refused_adds_nothing", a_submission_that_is_refused_adds_nothing),
        ("basics::a_right_that_is_missing_is_named", a_right_that_is_missing_is_named),
        ("basics::a_password_that_is_missing_is_asked_for", a_password_that_is_missing_is_asked_for),
        (
            "basics::submissions_of_programs_with_the_same_seed_are_their_own",
            submissions_of_programs_with_the_same_seed_are_their_own,
        ),
        ("basics::an_id_that_is_free_again_has_no_outcome", an_id_that_is_free_again_has_no_outcome),
        ("basics::a_watch_tells_what_happens", a_watch_tells_what_happens),
        ("basics::blocking_handlers_run_beside_the_loop", blocking_handlers_run_beside_the_loop),
        ("basics::isolated_handlers_crash_and_hang_alone", isolated_handlers_crash_and_hang_alone),
        ("basics::what_redis_refuses_is_an_error", what_redis_refuses_is_an_error),
        ("basics::a_server_without_memory_left_takes_verdicts", a_server_without_memory_left_takes_verdicts),
        (
            "basics::an_error_in_a_verdict_leaves_the_delivery_pending",
            an_error_in_a_verdict_leaves_the_delivery_pending,
        ),
        ("basics::jobs_of_other_languages", jobs_of_other_languages),
        ("basics::a_job_without_an_id_has_one_for_ever", a_job_without_an_id_has_one_for_ever),
        ("basics::all_dead_letters_may_be_asked_for", all_dead_letters_may_be_asked_for),
        ("basics::a_wait_is_over_when_its_limit_is", a_wait_is_over_when_its_limit_is),
        ("basics::arguments_whose_type_panics_fail_the_job", arguments_whose_type_panics_fail_the_job),
        ("basics::a_panic_whose_payload_panics_fails_the_job", a_panic_whose_payload_panics_fails_the_job),
        ("basics::an_outcome_is_what_was_returned", an_outcome_is_what_was_returned),
        ("basics::times_may_be_for_ever", times_may_be_for_ever),
        ("basics::an_id_may_be_any_text", an_id_may_be_any_text),
        ("basics::what_is_larger_than_redis_takes_fails_alone", what_is_larger_than_redis_takes_fails_alone),
        ("basics::a_watch_tells_of_its_own_database", a_watch_tells_of_its_own_database),
        ("basics::a_watch_that_is_not_read_ends_in_a_gap", a_watch_that_is_not_read_ends_in_a_gap),
    ]
}

fn what_is_larger_than_redis_takes_fails_alone() {
    run(async {
        let server = server();
        ask::<()>(&server, &["CONFIG", "SET", "proto-max-bulk-len", "1mb"]);
        let queue = queue(&server);
        // More than fits between the two ends of a connection.
        let large = 16 << 20;
        let error = queue.submit("make", &"x".repeat(large)).await.unwrap_err();
        assert!(error.is_payload() && error.to_string().contains("`proto-max-bulk-len`"), "{error}");
        assert!(queue.submit(&"x".repeat(large), &()).await.unwrap_err().is_payload());
        let job = NewJob::new("make", &()).unwrap().id("x".repeat(large));
        assert!(queue.submit_all([job]).await.unwrap_err().is_payload());
        let sizes = [3, large, 5, large + 1];
        let ids = queue.submit_all(sizes.map(|size| NewJob::new("make", &size).unwrap())).await.unwrap();
        let complaint = NewJob::new("complain", &large).unwrap().id("complaint");
        queue.submit_all([complaint]).await.unwrap();
        let worker = Worker::new(queue.clone())
            .register("make", async |size: usize| Ok::<_, Infallible>("x".repeat(size)))
            .register("complain", async |size: usize| Err::<(), _>(Failure::permanent("x".repeat(size))));
        let report = drain(&queue, worker).await;
        assert_eq!((report.done, report.dead, report.unsettled), (2, 3, 0));
        for (size, id) in sizes.into_iter().zip(ids) {
            let outcome = queue.outcome::<String>(&id.unwrap()).await.unwrap().unwrap();
            match outcome {
                Ok(text) => assert!(text.len() == size && size < large),
                Err(failed) => assert_eq!(
                    failed.error,
                    format!(
                        "its result has {} bytes, more than Redis takes at once: keep it elsewhere, and return where it is",
                        size + r#"{"ok":""}"#.len()
                    )
                ),
            }
        }
    });
}

fn an_outcome_is_what_was_returned() {
    run(async {
        let server = server();
        let queue = queue(&server);
        // Somebody else's may be no text at all.
        let mut connection = redis::Client::open(server.url()).unwrap().get_connection().unwrap();
        let put = redis::cmd("SET").arg("selkie:{tests}:outcome:other").arg(b"{\"ok\":\"\xff\"}").take();
        put.exec(&mut connection).unwrap();
        assert!(queue.outcome::<String>(&JobId::from("other")).await.unwrap_err().is_payload());
        let returned = (u128::MAX, i128::MIN, Some(()), [("a".to_owned(), 1e300)]);
        let ids = [queue.submit("echo", &returned).await.unwrap(), queue.submit("none", &()).await.unwrap()];
        let worker = Worker::new(queue.clone())
            .register("echo", async |args: (u128, i128, Option<()>, [(String, f64); 1])| {
                Ok::<_, Infallible>(args)
            })
            .register("none", async |()| Ok::<_, Infallible>(None::<u8>));
        drain(&queue, worker).await;
        assert_eq!(
            queue.outcome(&ids[0]).await.unwrap(),
            Some(Ok((u128::MAX, i128::MIN, None::<()>, returned.3)))
        );
        assert_eq!(queue.outcome::<Option<u8>>(&ids[1]).await.unwrap(), Some(Ok(None)));
    });
}

fn a_job_is_done_and_its_outcome_kept() {
    run(async {
        let server = server();
        let queue = queue(&server);
        let id = queue.submit("add", &(19, 23)).await.unwrap();
        assert_eq!(queue.outcome::<u32>(&id).await.unwrap(), None);
        let seen = Rc::new(Cell::new(false));
        let handler = {
            let (seen, id) = (seen.clone(), id.clone());
            move |(a, b): (u32, u32)| {
                let (seen, id) = (seen.clone(), id.clone());
                async move {
                    let job = current_job().unwrap();
                    assert_eq!((&job.id, job.name.as_str(), job.attempt, job.deliveries), (&id, "add", 1, 1));
                    seen.set(true);
                    Ok::<_, Infallible>(a + b)
                }
            }
        };
        let worker =
            Worker::new(queue.clone()).keep_outcomes(Duration::from_secs(60)).register("add", handler);
        let report = drain(&queue, worker).await;
        assert!(seen.get());
        assert_eq!(
            (report.taken, report.done, report.retried, report.dead, report.unsettled),
            (1, 1, 0, 0, 0)
        );
        assert_eq!(queue.outcome::<u32>(&id).await.unwrap(), Some(Ok(42)));
        assert!(queue.outcome::<Vec<String>>(&id).await.unwrap_err().is_payload());
        let life: i64 = ask(&server, &["PTTL", &format!("selkie:{{tests}}:outcome:{id}")]);
        assert!((50_000..=60_000).contains(&life), "{life}");
        // Nothing else stays: no entry, no pending delivery, no worker in the group.
        assert_eq!(ask::<u64>(&server, &["XLEN", "selkie:{tests}:jobs"]), 0);
        assert_eq!(
            ask::<Vec<redis::Value>>(&server, &["XINFO", "CONSUMERS", "selkie:{tests}:jobs", "workers"]),
            []
        );
        assert!(current_job().is_none());
    });
}

fn a_worker_runs_on_a_loop_that_is_not_inside_tokio() {
    let server = server();
    let queue = queue(&server);
    selkie::run(async move {
        assert!(tokio::runtime::Handle::try_current().is_err());
        let ids = queue.submit_all((0..1200).map(|n| NewJob::new("square", &n).unwrap())).await.unwrap();
        assert_eq!(ids.len(), 1200);
        let handler = async |n: u64| Ok::<_, Infallible>(n * n);
        let report = drain(&queue, Worker::new(queue.clone()).register("square", handler)).await;
        assert_eq!(report.done, 1200);
        let last = ids[1199].as_ref().unwrap();
        assert_eq!(queue.outcome::<u64>(last).await.unwrap(), Some(Ok(1199 * 1199)));
    });
}

/// In which some answers have another form.
fn the_address_may_ask_for_the_newer_protocol() {
    run(async {
        let server = server();
        let queue = JobQueue::open(&format!("{}?protocol=resp3", server.url()), "tests").unwrap();
        let id = queue.submit("echo", &3).await.unwrap();
        queue.submit("unknown", &()).await.unwrap();
        let worker =
            Worker::new(queue.clone()).retry(Retry::default().attempts(1)).register("echo", async |n: u8| {
                selkie::sleep(ms(100)).await;
                Ok::<_, Infallible>(n)
            });
        let ends = async {
            let outcome = queue.wait_for::<u8>(&id, Duration::from_secs(9)).await;
            assert_eq!(outcome.unwrap(), Some(Ok(3)));
        };
        let report = worker.run(ends).await.unwrap();
        assert_eq!((report.done, report.dead), (1, 1));
        assert_eq!(queue.replay_all().await.unwrap(), 1);
    });
}

/// Rows: F49.
fn no_more_is_taken_than_can_run() {
    run(async {
        let server = server();
        let queue = queue(&server);
        queue.submit_all((0..200).map(|n| NewJob::new("work", &n).unwrap())).await.unwrap();
        let gauge = Gauge::default();
        let at_work = gauge.clone();
        let worker = Worker::new(queue.clone()).concurrency(7).register("work", move |n: u64| {
            let gauge = at_work.clone();
            async move {
                gauge.enter();
                selkie::sleep(ms(1 + n % 5)).await;
                gauge.leave();
                Ok::<_, Infallible>(())
            }
        });
        let monitor = worker.monitor();
        let looking = queue.clone();
        let most = selkie::spawn(async move {
            let mut most = (0, 0);
            loop {
                let counts = looking.counts().await.unwrap();
                most = (most.0.max(counts.delivered), most.1.max(monitor.read().unsettled));
                if counts.open() == 0 {
                    return most;
                }
            }
        });
        let report = drain(&queue, worker).await;
        assert_eq!(report.done, 200);
        assert_eq!(gauge.most(), 7);
        let (delivered, known) = most.await.unwrap();
        assert!((7..=14).contains(&delivered), "Redis has delivered {delivered} at once");
        assert!((7..=14).contains(&known), "the worker knew {known} at once");
    });
}

/// One blocks it for a moment, all of them for longer than others would leave them to this worker.
fn jobs_that_never_wait_leave_the_loop_its_turns() {
    run(async {
        let server = server();
        let queue = queue(&server);
        queue.submit_all((0..100).map(|n| NewJob::new("block", &n).unwrap())).await.unwrap();
        let turns = Rc::new(Cell::new(0));
        let seen = turns.clone();
        let most = Rc::new(Cell::new(0));
        let (jobs, most_jobs) = (Cell::new((0, 0)), most.clone());
        let worker = Worker::new(queue.clone()).concurrency(100).register("block", move |_: u64| {
            std::thread::sleep(ms(15));
            let (turn, before) = jobs.get();
            let now = if turn == seen.get() { before + 1 } else { 1 };
            jobs.set((seen.get(), now));
            most_jobs.set(now.max(most_jobs.get()));
            async { Ok::<_, Infallible>(()) }
        });
        let ticks = selkie::spawn(async move {
            loop {
                selkie::yield_now().await;
                turns.set(turns.get() + 1);
            }
        });
        assert_eq!(drain(&queue, worker).await.done, 100);
        assert!(most.get() < 10, "{} jobs in one turn", most.get());
        ticks.cancel();
    });
}

fn a_failed_job_is_tried_again_later_and_then_given_up() {
    run(async {
        let server = server();
        let queue = queue(&server);
        let id = queue.submit("fails", &"payload").await.unwrap();
        let times = Rc::new(std::cell::RefCell::new(Vec::new()));
        let noted = times.clone();
        let worker = Worker::new(queue.clone()).retry(Retry::default().attempts(4).base(ms(100))).register(
            "fails",
            move |_: String| {
                let noted = noted.clone();
                async move {
                    let attempt = current_job().unwrap().attempt;
                    noted.borrow_mut().push((attempt, Instant::now()));
                    Err::<(), _>(Failure::new(format_args!("no luck in attempt {attempt}")))
                }
            },
        );
        let report = drain(&queue, worker).await;
        assert_eq!((report.retried, report.dead, report.done), (3, 1, 0));
        let times = times.borrow().clone();
        assert_eq!(times.iter().map(|(attempt, _)| *attempt).collect::<Vec<_>>(), [1, 2, 3, 4]);
        let waits: Vec<_> = times.windows(2).map(|pair| pair[1].1 - pair[0].1).collect();
        // Half to all of 100, 200 and 400 ms; the worker that delays a job does not poll for it.
        for (wait, least) in waits.iter().zip([50, 100, 200]) {
            assert!(*wait >= ms(least) && *wait < ms(2 * least + 500), "{waits:?}");
        }
        let letters = queue.dead_letters(None, 10).await.unwrap();
        assert_eq!(letters.len(), 1);
        let letter = &letters[0];
        assert_eq!(
            (&letter.id, letter.name.as_deref(), letter.args.as_slice()),
            (&id, Some("fails"), &br#""payload""#[..])
        );
        assert_eq!(
            (letter.attempts, letter.kind.as_str(), letter.error.as_str()),
            (4, "failed", "no luck in attempt 4")
        );
        let failed = Failed::clone(&queue.outcome::<()>(&id).await.unwrap().unwrap().unwrap_err());
        assert_eq!(failed.to_string(), "failed: no luck in attempt 4");
    });
}

fn dead_letters_are_replayed() {
    run(async {
        let server = server();
        let queue = queue(&server);
        let ids = queue.submit_all((0..250).map(|n| NewJob::new("moody", &n).unwrap())).await.unwrap();
        let works = Rc::new(Cell::new(false));
        let mood = works.clone();
        let worker = move |queue: &JobQueue| {
            let mood = mood.clone();
            Worker::new(queue.clone()).register("moody", move |n: u32| {
                let works = mood.get();
                async move { if works { Ok(n) } else { Err(Failure::permanent("not today")) } }
            })
        };
        let report = drain(&queue, worker(&queue)).await;
        assert_eq!((report.dead, report.retried), (250, 0));
        let page = queue.dead_letters(None, 100).await.unwrap();
        let next = queue.dead_letters(Some(&page[99].entry), 200).await.unwrap();
        assert_eq!((page.len(), next.len(), next[0].kind.as_str()), (100, 150, "refused"));
        assert_eq!(queue.replay(&page[..2]).await.unwrap(), 2);
        assert_eq!(queue.replay(&page[..2]).await.unwrap(), 0, "they are gone");
        assert_eq!(queue.outcome::<u32>(&page[0].id).await.unwrap(), None, "it is open again");
        // Those two die again, with all fields of their own and no others.
        let report = drain(&queue, worker(&queue)).await;
        assert_eq!(report.dead, 2);
        works.set(true);
        assert_eq!(queue.replay_all().await.unwrap(), 250);
        assert_eq!(drain(&queue, worker(&queue)).await.done, 250);
        assert_eq!(queue.counts().await.unwrap().dead, 0);
        for (n, id) in ids.iter().enumerate() {
            assert_eq!(queue.outcome::<usize>(id.as_ref().unwrap()).await.unwrap(), Some(Ok(n)));
        }
    });
}

fn panics_and_timeouts_fail_the_job_not_the_worker() {
    run(async {
        let server = server();
        let queue = queue(&server);
        let cleaned = Notes::default();
        struct Cleans(Notes);
        impl Drop for Cleans {
            fn drop(&mut self) {
                self.0.add("cleaned");
            }
        }
        for name in
            ["panics at once", "panics later", "panics on a thread", "hangs", "cancels itself", "works"]
        {
            queue.submit(name, &()).await.unwrap();
        }
        let notes = cleaned.clone();
        let panics = |_: ()| -> std::future::Ready<Result<(), Infallible>> {
            panic!("in the call (expected by a test)")
        };
        let worker = Worker::new(queue.clone())
            .retry(Retry::default().attempts(1))
            .timeout(ms(1000))
            .register("panics at once", panics)
            .register("panics later", async |()| {
                selkie::sleep(ms(1)).await;
                if true {
                    panic!("after a while (expected by a test)");
                }
                Ok::<_, Infallible>(())
            })
            .register_blocking("panics on a thread", |()| {
                if true {
                    panic!("on a thread (expected by a test)");
                }
                Ok::<_, Infallible>(())
            })
            .register("hangs", move |()| {
                let cleans = Cleans(notes.clone());
                async move {
                    std::future::pending::<()>().await;
                    drop(cleans);
                    Ok::<_, Infallible>(())
                }
            })
            .register("cancels itself", async |()| {
                selkie::current_task().unwrap().cancel();
                selkie::yield_now().await;
                Ok::<_, Infallible>(())
            })
            .register("works", async |()| Ok::<_, Infallible>(()));
        let report = drain(&queue, worker).await;
        assert_eq!((report.done, report.dead), (1, 5));
        let mut letters = queue.dead_letters(None, 10).await.unwrap();
        letters.sort_by(|a, b| a.name.cmp(&b.name));
        let found: Vec<_> = letters
            .iter()
            .map(|letter| (letter.name.as_deref().unwrap(), letter.kind.as_str(), letter.error.as_str()))
            .collect();
        let expected = [
            ("cancels itself", "failed", "cancelled"),
            ("hangs", "timed-out", "it took longer than 1s"),
            ("panics at once", "panicked", "in the call"),
            ("panics later", "panicked", "after a while"),
            ("panics on a thread", "panicked", "on a thread"),
        ];
        assert_eq!(found.len(), expected.len());
        for ((name, kind, error), (expected_name, expected_kind, part)) in found.into_iter().zip(expected) {
            assert_eq!((name, kind), (expected_name, expected_kind));
            assert!(error.contains(part), "{name}: {error}");
        }
        assert_eq!(cleaned.all(), ["cleaned"]);
    });
}

fn malformed_jobs_die_with_a_reason() {
    run(async {
        let server = server();
        let queue = queue(&server);
        let stream = "selkie:{tests}:jobs";
        let add = |fields: &[(&str, &[u8])]| {
            let mut connection = redis::Client::open(server.url()).unwrap().get_connection().unwrap();
            let mut add = redis::cmd("XADD");
            add.arg(stream).arg("*");
            for (name, value) in fields {
                add.arg(*name).arg(*value);
            }
            add.query::<String>(&mut connection).unwrap()
        };
        add(&[("what", b"is this?")]);
        add(&[("name", b"takes a number"), ("args", b"{not json")]);
        add(&[("name", b"takes a number"), ("args", br#""text""#)]);
        add(&[("name", b"takes a number"), ("args", b"\xff\x00\xfe")]);
        add(&[("name", b"takes a number")]);
        add(&[("name", b"\xff\xfe")]);
        add(&[("name", b"takes a number"), ("args", b"1"), ("attempt", b"many")]);
        add(&[("name", b"takes a number"), ("args", b"7"), ("id", b"good")]);
        let worker =
            Worker::new(queue.clone()).register("takes a number", async |n: u32| Ok::<_, Infallible>(n));
        let report = drain(&queue, worker).await;
        assert_eq!((report.done, report.dead, report.retried), (1, 7, 0));
        assert_eq!(queue.outcome::<u32>(&JobId::from("good")).await.unwrap(), Some(Ok(7)));
        let letters = queue.dead_letters(None, 10).await.unwrap();
        let reasons = [
            "the entry has no field `name`",
            "the arguments are not what `takes a number` takes: invalid type: map, expected u32",
            "the arguments are not what `takes a number` takes: invalid type: string \"text\", expected u32",
            "the arguments are not what `takes a number` takes: expected value",
            "the arguments are not what `takes a number` takes: invalid type: null, expected u32",
            "the field `name` is no text",
            "the field `attempt` is no number",
        ];
        assert_eq!(letters.len(), reasons.len());
        for (letter, reason) in letters.iter().zip(reasons) {
            assert_eq!(letter.kind, "malformed");
            assert!(letter.error.starts_with(reason), "{}", letter.error);
        }
        assert_eq!(letters[3].args, b"\xff\x00\xfe", "the payload is kept as it came");
        let kept: Vec<redis::Value> =
            ask(&server, &["XRANGE", "selkie:{tests}:dead", "-", "+", "COUNT", "1"]);
        assert!(format!("{kept:?}").contains("is this?"), "{kept:?}");
    });
}

fn a_job_without_a_handler_waits_for_a_worker_that_has_one() {
    run(async {
        let server = server();
        let queue = queue(&server);
        let id = queue.submit("new", &1).await.unwrap();
        let retry = Retry::default().attempts(3).base(ms(40));
        let old = Worker::new(queue.clone()).retry(retry).register("old", async |()| Ok::<_, Infallible>(()));
        let tried = async || queue.counts().await.unwrap().retried_total == 1;
        old.run(until("a first attempt", tried)).await.unwrap();
        let new = Worker::new(queue.clone()).register("new", async |n: u32| Ok::<_, Infallible>(n));
        assert_eq!(drain(&queue, new).await.done, 1);
        assert_eq!(queue.outcome::<u32>(&id).await.unwrap(), Some(Ok(1)));
        queue.submit("new", &1).await.unwrap();
        let old = Worker::new(queue.clone()).retry(retry).register("old", async |()| Ok::<_, Infallible>(()));
        assert_eq!(drain(&queue, old).await.dead, 1);
        let letter = queue.dead_letters(None, 1).await.unwrap().remove(0);
        assert_eq!(
            (letter.kind.as_str(), letter.error.as_str()),
            ("unknown", "no handler is called `new` here (there are: `old`)")
        );
    });
}

fn a_delayed_job_waits_for_its_time() {
    run(async {
        let server = server();
        let queue = queue(&server);
        let start = Instant::now();
        queue.submit_all([NewJob::new("late", &()).unwrap().delay(ms(300))]).await.unwrap();
        assert_eq!(queue.counts().await.unwrap().later, 1);
        let worker = Worker::new(queue.clone()).register("late", async |()| Ok::<_, Infallible>(()));
        drain(&queue, worker).await;
        // Redis counts whole milliseconds, and its clock may have been at the end of one.
        assert!(start.elapsed() >= ms(299), "{:?}", start.elapsed());
    });
}

fn an_id_is_taken_once() {
    run(async {
        let server = server();
        let queue = queue(&server);
        let job = |n: u32| NewJob::new("count", &n).unwrap().id("order-7");
        let ids = queue.submit_all([job(1), NewJob::new("count", &2).unwrap(), job(3)]).await.unwrap();
        assert_eq!(ids.iter().map(Option::is_some).collect::<Vec<_>>(), [true, true, false]);
        assert_eq!(queue.submit_all([job(4)]).await.unwrap(), [None]);
        let notes = Notes::default();
        let noted = notes.clone();
        let worker = Worker::new(queue.clone()).register("count", move |n: u32| {
            noted.add(n.to_string());
            async { Ok::<_, Infallible>(()) }
        });
        drain(&queue, worker).await;
        assert_eq!(notes.all(), ["1", "2"]);
        // As long as its job has not begun, and an hour.
        let hour = 3_600_000;
        for (id, delay) in [("soon", 0), ("tomorrow", 24 * hour)] {
            queue.submit_all([NewJob::new("count", &5).unwrap().id(id).delay(ms(delay))]).await.unwrap();
            let left: u64 = ask(&server, &["PTTL", &format!("selkie:{{tests}}:id:{id}")]);
            assert!((delay + hour - 60_000..=delay + hour).contains(&left), "{id}: {left} ms");
        }
        let forever = NewJob::new("count", &6).unwrap().id("never").delay(Duration::MAX);
        assert!(queue.submit_all([forever]).await.unwrap()[0].is_some());
    });
}

/// Redis takes nothing back that a script has done before its error, nor an id.
fn a_submission_that_is_refused_adds_nothing() {
    run(async {
        let server = server();
        let queue = queue(&server);
        for part in ["jobs", "later", "totals"] {
            let key = format!("selkie:{{tests}}:{part}");
            ask::<()>(&server, &["SET", &key, "something else"]);
            let jobs = || {
                let job = |id: &str| NewJob::new("x", &()).unwrap().id(format!("{part}-{id}"));
                [job("now"), job("later").delay(ms(60_000))]
            };
            let error = queue.submit_all(jobs()).await.unwrap_err();
            assert!(error.is_refused() && error.to_string().contains("another name"), "{part}: {error}");
            ask::<()>(&server, &["DEL", &key]);
            assert_eq!(queue.counts().await.unwrap().open(), 0, "{part}");
            assert!(queue.submit_all(jobs()).await.unwrap().iter().all(Option::is_some), "{part}");
            ask::<()>(&server, &["DEL", "selkie:{tests}:jobs", "selkie:{tests}:later"]);
        }
    });
}

fn a_right_that_is_missing_is_named() {
    run(async {
        let server = server();
        let rights = ["ACL", "SETUSER", "some", "on", ">word", "~*", "&*", "+@all", "-eval", "-evalsha"];
        ask::<()>(&server, &rights);
        let url = server.url().replace("redis://", "redis://some:word@");
        let error = JobQueue::open(&url, "tests").unwrap().submit("x", &()).await.unwrap_err();
        assert!(error.is_refused() && error.to_string().ends_with("needs the right to it"), "{error}");
        // Nor is a watch left without events.
        ask::<()>(&server, &["ACL", "SETUSER", "some", "+@all", "resetchannels"]);
        for url in [url.clone(), format!("{url}?protocol=resp3")] {
            let error = JobQueue::open(&url, "tests").unwrap().watch().await.unwrap_err();
            assert!(error.is_refused() && error.to_string().ends_with("needs the right to it"), "{error}");
        }
        ask::<()>(&server, &["ACL", "SETUSER", "some", "&*"]);
        for url in [url.clone(), format!("{url}?protocol=resp3")] {
            JobQueue::open(&url, "tests").unwrap().watch().await.unwrap();
        }
        // How much Redis takes need not be known.
        ask::<()>(&server, &["ACL", "SETUSER", "some", "+@all", "-config"]);
        JobQueue::open(&url, "tests").unwrap().submit("x", &"x".repeat(2 << 20)).await.unwrap();
    });
}

fn a_password_that_is_missing_is_asked_for() {
    run(async {
        let server = server();
        ask::<()>(&server, &["CONFIG", "SET", "requirepass", "word"]);
        let none = server.url().to_owned();
        let wrong = none.replace("redis://", "redis://:another@");
        let newer = |url: &str| format!("{url}?protocol=resp3");
        for url in [newer(&none), format!("{none}1"), none, newer(&wrong), wrong] {
            let queue = JobQueue::open(&url, "tests").unwrap();
            let errors = [
                queue.submit("x", &()).await.unwrap_err(),
                queue.dead_letters(None, 1).await.unwrap_err(),
                queue.watch().await.unwrap_err(),
                Worker::new(queue).run(std::future::pending()).await.unwrap_err(),
            ];
            for error in errors {
                assert!(error.is_refused() && error.to_string().ends_with(":password@host"), "{error}");
            }
        }
        let good = server.url().replace("redis://", "redis://:word@");
        JobQueue::open(&good, "tests").unwrap().submit("x", &()).await.unwrap();
    });
}

/// As a program does that wants its own choices to be the same each time.
fn submissions_of_programs_with_the_same_seed_are_their_own() {
    run(async {
        let server = server();
        let queue = queue(&server);
        for n in 0..3 {
            fastrand::seed(7);
            queue.submit("x", &n).await.unwrap();
        }
        assert_eq!(queue.counts().await.unwrap().ready, 3);
        let worker = || {
            fastrand::seed(7);
            format!("{:?}", Worker::new(queue.clone()))
        };
        assert_ne!(worker(), worker());
    });
}

/// Its job is another one, which has not ended.
fn an_id_that_is_free_again_has_no_outcome() {
    run(async {
        let server = server();
        let queue = queue(&server);
        let job = || NewJob::new("one", &()).unwrap().id("order-7");
        let id = queue.submit_all([job()]).await.unwrap().remove(0).unwrap();
        let worker = Worker::new(queue.clone()).register("one", async |()| Ok::<_, Infallible>(1));
        drain(&queue, worker).await;
        // While it is taken it stays.
        assert_eq!(queue.submit_all([job()]).await.unwrap(), [None]);
        assert_eq!(queue.outcome(&id).await.unwrap(), Some(Ok(1)));
        // The hour is over.
        ask::<()>(&server, &["DEL", "selkie:{tests}:id:order-7"]);
        assert_eq!(queue.submit_all([job()]).await.unwrap(), [Some(id.clone())]);
        assert_eq!(queue.outcome::<u8>(&id).await.unwrap(), None);
    });
}

fn a_watch_tells_what_happens() {
    run(async {
        let server = server();
        let queue = queue(&server);
        let mut watch = queue.watch().await.unwrap();
        let id = queue.submit("second time lucky", &()).await.unwrap();
        let worker = Worker::new(queue.clone()).retry(Retry::default().attempts(2).base(ms(10))).register(
            "second time lucky",
            async |()| match current_job().unwrap().attempt {
                1 => Err(Failure::new("not yet")),
                _ => Ok(()),
            },
        );
        drain(&queue, worker).await;
        assert_eq!(watch.next().await, Event::Retry { id: id.clone() });
        match watch.next().await {
            Event::Done { id: done, latency } => {
                assert_eq!(done, id);
                assert!(latency >= ms(4) && latency < Duration::from_secs(10), "{latency:?}");
            }
            other => panic!("{other:?}"),
        }
    });
}

fn blocking_handlers_run_beside_the_loop() {
    run(async {
        let server = server();
        let queue = queue(&server);
        let id = queue.submit("sleep", &50).await.unwrap();
        queue.submit("sleep", &50).await.unwrap();
        let worker = Worker::new(queue.clone()).register_blocking("sleep", |n: u64| {
            std::thread::sleep(ms(n));
            let thread = std::thread::current().name().map(str::to_owned);
            Ok::<_, Infallible>((current_job().unwrap().id.to_string(), thread))
        });
        let (here, start) = (std::thread::current().name().map(str::to_owned), Instant::now());
        drain(&queue, worker).await;
        let (seen, there) = queue.outcome::<(String, Option<String>)>(&id).await.unwrap().unwrap().unwrap();
        assert_eq!(seen, id.to_string());
        assert_ne!(there, here);
        assert!(start.elapsed() >= ms(50));
    });
}

#[selkie::isolated]
fn dangerous(how: String) -> Result<u32, String> {
    match how.as_str() {
        "crashes" => std::process::abort(),
        "hangs" => loop {
            std::thread::sleep(ms(1000));
        },
        "panics" => panic!("in another process (expected by a test)"),
        "fails" => Err("it said so".to_owned()),
        _ => Ok(std::process::id()),
    }
}

fn isolated_handlers_crash_and_hang_alone() {
    run(async {
        let server = server();
        let queue = queue(&server);
        for how in ["crashes", "hangs", "panics", "fails"] {
            queue.submit("dangerous", &how).await.unwrap();
        }
        let id = queue.submit("dangerous", &"works").await.unwrap();
        let pool = selkie::IsolatedPool::new(2).unwrap();
        let worker = Worker::new(queue.clone())
            .retry(Retry::default().attempts(1))
            .timeout(Duration::from_secs(10))
            .register_isolated("dangerous", pool.clone(), dangerous);
        let report = drain(&queue, worker).await;
        assert_eq!((report.done, report.dead), (1, 4));
        let process = queue.outcome::<u32>(&id).await.unwrap().unwrap().unwrap();
        assert_ne!(process, std::process::id());
        let mut letters = queue.dead_letters(None, 10).await.unwrap();
        letters.sort_by(|a, b| a.args.cmp(&b.args));
        let kinds: Vec<_> = letters.iter().map(|letter| letter.kind.as_str()).collect();
        assert_eq!(kinds, ["failed", "failed", "timed-out", "panicked"]);
        assert_eq!(letters[1].error, "it said so");
        assert!(letters[3].error.contains("in another process"), "{}", letters[3].error);
        // The one that hung was killed, so nothing holds the pool up.
        selkie::timeout(Duration::from_secs(30), pool.shutdown()).await.unwrap();
    });
}

fn what_redis_refuses_is_an_error() {
    run(async {
        let server = server();
        assert!(JobQueue::open("http://example.org", "x").unwrap_err().to_string().contains("redis://"));
        let queue = queue(&server);
        ask::<()>(&server, &["SET", "selkie:{tests}:jobs", "not a stream"]);
        let error = Worker::new(queue.clone()).run(std::future::pending()).await.unwrap_err();
        assert!(error.is_refused(), "{error}");
        assert!(queue.submit("x", &()).await.unwrap_err().is_refused());
        // The same while it runs.
        ask::<()>(&server, &["DEL", "selkie:{tests}:jobs"]);
        let worker = selkie::spawn(Worker::new(queue.clone()).run(std::future::pending()));
        until("the group is there", async || ask(&server, &["EXISTS", "selkie:{tests}:jobs"])).await;
        ask::<()>(&server, &["SET", "selkie:{tests}:jobs", "not a stream"]);
        assert!(worker.await.unwrap().unwrap_err().is_refused());
    });
}

fn a_server_without_memory_left_takes_verdicts() {
    run(async {
        let server = server();
        let queue = queue(&server);
        for name in ["works", "fails", "dies"] {
            queue.submit(name, &()).await.unwrap();
        }
        let full = |limit: &str| ask::<()>(&server, &["CONFIG", "SET", "maxmemory", limit]);
        let worker = Worker::new(queue.clone())
            .retry(Retry::default().base(ms(1)))
            .register("works", async |()| {
                selkie::sleep(ms(200)).await;
                Ok::<_, Infallible>(())
            })
            .register("fails", async |()| {
                selkie::sleep(ms(200)).await;
                if current_job().unwrap().attempt == 1 { Err(Failure::new("once")) } else { Ok(()) }
            })
            .register("dies", async |()| {
                selkie::sleep(ms(200)).await;
                Err::<(), _>(Failure::permanent("no"))
            });
        let monitor = worker.monitor();
        let fills = async {
            until("they run", async || monitor.read().running == 3).await;
            full("1");
            let error = queue.submit("works", &()).await.unwrap_err();
            assert!(error.is_refused() && error.to_string().contains("`maxmemory`: give it more"), "{error}");
            until("three verdicts", async || {
                queue.counts().await.unwrap().retried_total == 1 && monitor.read().dead == 1
            })
            .await;
            full("0");
            until("all", async || monitor.read().done == 2).await;
        };
        assert_eq!(worker.run(fills).await.unwrap().dead, 1);
    });
}

fn an_error_in_a_verdict_leaves_the_delivery_pending() {
    run(async {
        let server = server();
        let queue = queue(&server);
        queue.submit("fails", &()).await.unwrap();
        ask::<()>(&server, &["SET", "selkie:{tests}:dead", "not a stream"]);
        let fails = || {
            Worker::new(queue.clone())
                .idle_limit(ms(100))
                .register("fails", async |()| Err::<(), _>(Failure::permanent("no")))
        };
        assert!(fails().run(std::future::pending()).await.unwrap_err().is_refused());
        ask::<()>(&server, &["DEL", "selkie:{tests}:dead"]);
        let report = drain(&queue, fails()).await;
        assert_eq!((report.claimed, report.dead), (1, 1));
    });
}

fn jobs_of_other_languages() {
    run(async {
        let server = server();
        let queue = queue(&server);
        let entry: String =
            ask(&server, &["XADD", "selkie:{tests}:jobs", "*", "name", "add", "args", "[1, 2]"]);
        let worker =
            Worker::new(queue.clone()).register("add", async |(a, b): (u32, u32)| Ok::<_, Infallible>(a + b));
        drain(&queue, worker).await;
        assert_eq!(queue.outcome::<u32>(&JobId::from(entry)).await.unwrap(), Some(Ok(3)));
        // A worker outlives a flush: the queue is empty and goes on.
        let worker =
            Worker::new(queue.clone()).register("add", async |(a, b): (u32, u32)| Ok::<_, Infallible>(a + b));
        let monitor = worker.monitor();
        let flushed = async {
            selkie::sleep(ms(20)).await;
            ask::<()>(&server, &["FLUSHALL"]);
            queue.submit("add", &(3, 4)).await.unwrap();
            until("a job after the flush", async || monitor.read().done == 1).await;
        };
        worker.run(flushed).await.unwrap();
    });
}

/// That of its first entry.
fn a_job_without_an_id_has_one_for_ever() {
    run(async {
        let server = server();
        let queue = queue(&server);
        let id: String = ask(&server, &["XADD", "selkie:{tests}:jobs", "*", "name", "work"]);
        let notes = Notes::default();
        let worker = |how: &'static str| {
            let notes = notes.clone();
            Worker::new(queue.clone()).grace(Duration::ZERO).register("work", move |()| {
                notes.add(current_job().unwrap().id.as_str());
                async move {
                    if how == "wait" {
                        selkie::sleep(ms(60_000)).await;
                    }
                    Err::<(), _>(Failure::permanent("no"))
                }
            })
        };
        let stopped = worker("wait");
        let monitor = stopped.monitor();
        let report = stopped.run(until("it runs", async || monitor.read().running == 1)).await.unwrap();
        assert_eq!(report.handed_back, 1);
        drain(&queue, worker("fail")).await;
        let letters = queue.dead_letters(None, 9).await.unwrap();
        assert_eq!(letters[0].id.as_str(), id);
        assert_eq!(queue.replay(&letters).await.unwrap(), 1);
        assert_eq!(queue.outcome::<()>(&letters[0].id).await.unwrap(), None, "it is open again");
        drain(&queue, worker("fail")).await;
        assert_eq!(notes.all(), [&*id; 3]);
    });
}

fn all_dead_letters_may_be_asked_for() {
    run(async {
        let server = server();
        let queue = queue(&server);
        ask::<String>(&server, &["XADD", "selkie:{tests}:dead", "*", "name", "work"]);
        assert_eq!(queue.dead_letters(None, usize::MAX).await.unwrap().len(), 1);
        assert_eq!(queue.dead_letters(None, 0).await.unwrap(), []);
    });
}

fn a_wait_is_over_when_its_limit_is() {
    run(async {
        let server = server();
        let queue = queue(&server);
        let id = queue.submit("nobody does it", &()).await.unwrap();
        let start = Instant::now();
        assert_eq!(queue.wait_for::<()>(&id, ms(50)).await.unwrap(), None);
        assert!(start.elapsed() >= ms(50));
        let nowhere = JobQueue::open("redis://127.0.0.1:1/", "tests").unwrap().patience(ms(100));
        assert!(nowhere.submit("x", &()).await.unwrap_err().is_unreachable());
        assert!(nowhere.watch().await.unwrap_err().is_unreachable());
    });
}

/// Reading arguments is code of users too.
struct Even(u32);

impl<'de> serde::Deserialize<'de> for Even {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let n = u32::deserialize(deserializer)?;
        assert!(n % 2 == 0, "odd (expected by a test)");
        Ok(Self(n))
    }
}

fn arguments_whose_type_panics_fail_the_job() {
    run(async {
        let server = server();
        let queue = queue(&server);
        let odd = queue.submit("half", &7).await.unwrap();
        let even = queue.submit("half", &8).await.unwrap();
        let retry = Retry::default().attempts(2).base(ms(1));
        let worker = Worker::new(queue.clone())
            .retry(retry)
            .register("half", async |n: Even| Ok::<_, Infallible>(n.0 / 2));
        let report = drain(&queue, worker).await;
        assert_eq!((report.done, report.retried, report.dead, report.running), (1, 1, 1, 0));
        assert_eq!(queue.outcome::<u32>(&even).await.unwrap(), Some(Ok(4)));
        let failed = queue.outcome::<u32>(&odd).await.unwrap().unwrap().unwrap_err();
        assert_eq!(failed.kind, "panicked");
        assert!(failed.error.contains("odd (expected by a test)"), "{failed}");
    });
}

/// What a panic may be raised with.
struct Bomb;

impl Drop for Bomb {
    fn drop(&mut self) {
        panic!("in the drop (expected by a test)");
    }
}

fn a_panic_whose_payload_panics_fails_the_job() {
    fn explode() -> Result<(), Infallible> {
        std::panic::resume_unwind(Box::new(Bomb))
    }
    run(async {
        let server = server();
        let queue = queue(&server);
        for name in ["at once", "later", "on a thread", "works"] {
            queue.submit(name, &()).await.unwrap();
        }
        let worker = Worker::new(queue.clone())
            .concurrency(1)
            .retry(Retry::default().attempts(1))
            .register("at once", async |()| explode())
            .register("later", async |()| {
                selkie::yield_now().await;
                explode()
            })
            .register_blocking("on a thread", |()| explode())
            .register("works", async |()| Ok::<_, Infallible>(()));
        let report = drain(&queue, worker).await;
        assert_eq!((report.done, report.dead, report.running), (1, 3, 0));
        let letters = queue.dead_letters(None, 10).await.unwrap();
        assert!(letters.iter().all(|letter| letter.kind == "panicked"), "{letters:?}");
    });
}

fn times_may_be_for_ever() {
    run(async {
        let server = server();
        let queue = queue(&server).patience(Duration::MAX);
        let delayed = NewJob::new("done", &()).unwrap().delay(Duration::MAX);
        let jobs = [delayed, NewJob::new("later", &()).unwrap(), NewJob::new("done", &()).unwrap()];
        let ids = queue.submit_all(jobs).await.unwrap();
        let worker = Worker::new(queue.clone())
            .concurrency(usize::MAX)
            .timeout(Duration::MAX)
            .retry(Retry::default().base(Duration::MAX).max(Duration::MAX))
            .idle_limit(Duration::MAX)
            .grace(Duration::MAX)
            .keep_outcomes(Duration::MAX)
            .register("later", async |()| Err::<(), _>(Failure::after(Duration::MAX, "not before the end")))
            .register("done", async |()| Ok::<_, Infallible>(1));
        let monitor = worker.monitor();
        let settled = until("both are settled", async || monitor.read().done + monitor.read().retried == 2);
        let report = worker.run(settled).await.unwrap();
        assert_eq!((report.done, report.retried, report.unsettled), (1, 1, 0));
        assert_eq!(queue.counts().await.unwrap().later, 2);
        assert_eq!(queue.outcome::<u32>(ids[2].as_ref().unwrap()).await.unwrap(), Some(Ok(1)));
    });
}

/// A watch is told of many jobs in one message.
fn an_id_may_be_any_text() {
    run(async {
        let server = server();
        let queue = queue(&server);
        let mut watch = queue.watch().await.unwrap();
        let names = ["two\nlines", "done 5 other", "100%\r", "%0A"];
        for name in names {
            let job = NewJob::new("done", &()).unwrap().id(name);
            assert_eq!(queue.submit_all([job]).await.unwrap(), [Some(JobId::from(name))]);
        }
        let worker = Worker::new(queue.clone()).register("done", async |()| Ok::<_, Infallible>(1));
        assert_eq!(drain(&queue, worker).await.done, 4);
        for name in names {
            match watch.next().await {
                Event::Done { id, .. } => assert_eq!(id.as_str(), name),
                other => panic!("{other:?}"),
            }
        }
    });
}

/// The channels of a server belong to all of its databases.
fn a_watch_tells_of_its_own_database() {
    run(async {
        let server = server();
        let queues = ["0", "1"].map(|n| JobQueue::open(&format!("{}{n}", server.url()), "tests").unwrap());
        let mut watch = queues[1].watch().await.unwrap();
        let mut last = None;
        for queue in &queues {
            last = Some(queue.submit("nothing", &()).await.unwrap());
            let nothing = async |()| Ok::<_, Infallible>(());
            drain(queue, Worker::new(queue.clone()).register("nothing", nothing)).await;
        }
        assert!(matches!(watch.next().await, Event::Done { id, .. } if Some(&id) == last.as_ref()));
    });
}

/// It keeps so many and not all.
fn a_watch_that_is_not_read_ends_in_a_gap() {
    run(async {
        let server = server();
        let queue = queue(&server);
        let mut watch = queue.watch().await.unwrap();
        let mut connection = redis::Client::open(server.url()).unwrap().get_connection().unwrap();
        const TOLD: usize = 4000;
        let text = format!("retry 0 {}", "long".repeat(2500));
        for _ in 0..TOLD / 100 {
            let mut pipe = redis::pipe();
            for _ in 0..100 {
                pipe.publish("selkie:{tests}:events", &text).ignore();
            }
            pipe.query::<()>(&mut connection).unwrap();
            // Its connection may share this thread.
            selkie::sleep(ms(1)).await;
        }
        let mut seen = 0;
        while watch.next().await != Event::Gap {
            seen += 1;
            assert!(seen < TOLD, "all were kept");
        }
        // From then on it tells again.
        ask::<u64>(&server, &["PUBLISH", "selkie:{tests}:events", "retry 0 last"]);
        assert_eq!(watch.next().await, Event::Retry { id: JobId::from("last") });
    });
}
