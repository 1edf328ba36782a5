//! Isolated pools as a program and its system see them: real processes, counted, killed and orphaned.
//!
//! Without a harness, as it is the main of a program that decides what its workers do. It prints what a harness would.
#![allow(missing_docs)]
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "the test is about processes and their threads"
)]

#[cfg(not(unix))]
fn main() {
    selkie::isolated::serve();
    let error = selkie::IsolatedPool::new(1).unwrap_err();
    assert!(error.to_string().contains("ThreadPool"), "{error}");
}

#[cfg(unix)]
fn main() {
    unix::main();
}

#[cfg(unix)]
mod unix {
    use std::{
        io::{BufRead, BufReader, Read, Write},
        net::Shutdown,
        os::{fd::BorrowedFd, unix::net::UnixStream},
        panic::catch_unwind,
        process::{Child, ChildStdout, Command, Stdio},
        sync::mpsc,
        thread,
        time::{Duration, Instant},
    };

    use nix::sys::{
        resource::{Resource, setrlimit},
        signal::{self, SigHandler, Signal},
    };
    use selkie::{IsolatedPool, RemoteTask, WaitError, isolated};

    /// Tells this program which part to play.
    const PART: &str = "SELKIE_TEST_PART";

    /// Generous: the machine may be busy with other tests.
    const LONG: Duration = Duration::from_secs(60);

    pub(super) fn main() {
        // What workers are started with that are to go wrong.
        match std::env::args().nth(1).as_deref() {
            Some("hangs") => thread::sleep(LONG),
            Some("exits") => std::process::exit(3),
            Some("starts another") => {
                #[expect(
                    clippy::zombie_processes,
                    reason = "it outlives the worker, and has its standard input"
                )]
                Command::new("sh").args(["-c", "trap '' HUP; exec sleep 60"]).spawn().unwrap();
            }
            Some("makes a pool") => {
                // Not diverted, and in a worker: it would be a bomb.
                let refused = IsolatedPool::new(1).is_err();
                std::process::exit(if refused { 40 } else { 41 });
            }
            Some("has no room") => {
                // For its socket, beside its standard streams.
                setrlimit(Resource::RLIMIT_NOFILE, 3, 3).unwrap();
                isolated::serve();
                std::process::exit(41);
            }
            Some("late") => {
                // By the first of several runs; what comes before happens in each worker.
                selkie::run(async {});
                unreachable!("a worker does not return from `run`");
            }
            _ => {}
        }
        let part = std::env::var(PART);
        if part.as_deref() == Ok("undiverted") {
            undiverted();
            return;
        }
        isolated::serve();
        match part.as_deref() {
            Ok("orphans") => return orphans(),
            Ok("talks") => return talks(),
            Ok("has no status") => return has_no_status(),
            Ok(part) => unreachable!("no such part: {part}"),
            Err(_) => {}
        }

        let tests: [(&str, fn()); 21] = [
            ("a_worker_is_a_process_of_its_own", a_worker_is_a_process_of_its_own),
            (
                "a_crashed_worker_fails_its_job_and_is_replaced",
                a_crashed_worker_fails_its_job_and_is_replaced,
            ),
            ("a_worker_killed_in_its_sleep_costs_no_job", a_worker_killed_in_its_sleep_costs_no_job),
            (
                "a_job_may_meet_more_than_one_worker_killed_in_its_sleep",
                a_job_may_meet_more_than_one_worker_killed_in_its_sleep,
            ),
            ("a_worker_that_is_on_its_way_out_costs_no_job", a_worker_that_is_on_its_way_out_costs_no_job),
            ("workers_of_a_pool_that_is_dropped_end_at_once", workers_of_a_pool_that_is_dropped_end_at_once),
            ("a_shutdown_waits_for_what_a_cancel_calls", a_shutdown_waits_for_what_a_cancel_calls),
            ("a_cancel_also_ends_what_the_job_has_started", a_cancel_also_ends_what_the_job_has_started),
            ("a_program_that_does_not_divert_gets_no_pool", a_program_that_does_not_divert_gets_no_pool),
            ("a_worker_that_cannot_start_fails_what_waits", a_worker_that_cannot_start_fails_what_waits),
            ("a_worker_that_starts_does_not_hold_up_the_end", a_worker_that_starts_does_not_hold_up_the_end),
            (
                "a_dead_worker_is_noticed_while_others_have_its_socket",
                a_dead_worker_is_noticed_while_others_have_its_socket,
            ),
            ("a_worker_may_divert_in_run", a_worker_may_divert_in_run),
            ("a_crash_that_leaves_no_status_says_so", a_crash_that_leaves_no_status_says_so),
            ("orphans_are_gone_within_two_seconds", orphans_are_gone_within_two_seconds),
            ("standard_streams_are_those_of_the_program", standard_streams_are_those_of_the_program),
            ("idle_workers_end", idle_workers_end),
            ("large_arguments_and_results_pass", large_arguments_and_results_pass),
            (
                "a_result_may_be_as_deep_as_a_worker_can_make_it",
                a_result_may_be_as_deep_as_a_worker_can_make_it,
            ),
            ("a_hundred_thousand_jobs_leave_nothing_behind", a_hundred_thousand_jobs_leave_nothing_behind),
            ("results_come_without_any_loop", results_come_without_any_loop),
        ];
        let filter = std::env::args().nth(1).filter(|filter| !filter.starts_with('-'));
        println!("\nrunning {} tests", tests.len());
        let (mut passed, mut failed) = (0, 0);
        for (name, test) in tests {
            if filter.as_deref().is_some_and(|filter| !name.contains(filter)) {
                continue;
            }
            let ok = catch_unwind(test).is_ok();
            println!("test {name} ... {}", if ok { "ok" } else { "FAILED" });
            *if ok { &mut passed } else { &mut failed } += 1;
        }
        let word = if failed == 0 { "ok" } else { "FAILED" };
        println!(
            "\ntest result: {word}. {passed} passed; {failed} failed; 0 ignored; 0 measured; 0 filtered out\n"
        );
        std::process::exit(i32::from(failed > 0));
    }

    // What the workers run.

    #[isolated]
    fn pid() -> u32 {
        std::process::id()
    }

    #[isolated]
    fn pid_after_a_while() -> u32 {
        thread::sleep(Duration::from_millis(200));
        std::process::id()
    }

    #[isolated]
    fn main_thread() -> bool {
        thread::current().name() == Some("main")
    }

    #[isolated]
    fn exits(status: i32) {
        std::process::exit(status);
    }

    #[isolated]
    fn aborts() {
        std::process::abort();
    }

    #[isolated]
    fn never_ends() {
        loop {
            thread::sleep(LONG);
        }
    }

    #[isolated]
    fn square(n: u64) -> u64 {
        n * n
    }

    #[isolated]
    fn reverse(mut bytes: Vec<u8>) -> Vec<u8> {
        bytes.reverse();
        bytes
    }

    #[derive(serde::Serialize, serde::Deserialize)]
    struct Deep {
        inner: Option<Box<Deep>>,
    }

    #[isolated]
    fn deep(levels: usize) -> Deep {
        (0..levels).fold(Deep { inner: None }, |deep, _| Deep { inner: Some(Box::new(deep)) })
    }

    /// Starts a process that would outlive it, says its number, and waits for it.
    #[isolated]
    fn starts_another(path: String) {
        let mut child = Command::new("sleep").arg("60").spawn().unwrap();
        std::fs::write(&path, child.id().to_string()).unwrap();
        child.wait().unwrap();
    }

    #[isolated]
    fn talk(text: String) -> usize {
        println!("out: {text}");
        eprintln!("err: {text}");
        let mut input = Vec::new();
        std::io::stdin().read_to_end(&mut input).unwrap();
        // Inherits the variable that made a worker of this one, and is none.
        let seen = Command::new(std::env::current_exe().unwrap()).env(PART, "undiverted").status().unwrap();
        assert!(seen.success());
        input.len()
    }

    /// Leaves a thread that ends the worker's socket once there is a file, and removes that. The worker then exits, for a while.
    #[isolated]
    fn exits_slowly(path: String) {
        unsafe extern "C" {
            fn atexit(f: extern "C" fn()) -> std::ffi::c_int;
        }
        extern "C" fn dawdle() {
            thread::sleep(Duration::from_millis(700));
        }
        // SAFETY: the function is there for as long as the program is.
        assert_eq!(unsafe { atexit(dawdle) }, 0);
        thread::spawn(move || {
            until(LONG, "there is the file", || std::fs::exists(&path).unwrap());
            for number in 3..100 {
                // SAFETY: it is borrowed for the call that makes a number of its own, which fails if there is none.
                let owned = unsafe { BorrowedFd::borrow_raw(number) }.try_clone_to_owned();
                let _ = owned.map(|owned| UnixStream::from(owned).shutdown(Shutdown::Both));
            }
            std::fs::remove_file(&path).unwrap();
        });
    }

    // What the tests look at.

    /// The processes that `parent` has started and that have not been reaped.
    fn children(parent: u32) -> Vec<u32> {
        let ps = Command::new("ps").args(["-A", "-o", "pid=,ppid="]).stdout(Stdio::piped()).spawn().unwrap();
        let own = ps.id();
        let out = String::from_utf8(ps.wait_with_output().unwrap().stdout).unwrap();
        let pairs = out.lines().filter_map(|line| {
            let mut numbers = line.split_whitespace().map(|number| number.parse::<u32>());
            Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
        });
        pairs.filter(|&(pid, of)| of == parent && pid != own).map(|(pid, _)| pid).collect()
    }

    fn is_alive(pid: u32) -> bool {
        let out = Command::new("ps").args(["-o", "stat=", "-p", &pid.to_string()]).output().unwrap();
        let state = String::from_utf8(out.stdout).unwrap();
        // An orphan's zombie is for init to reap, which a container may not have.
        !state.trim().is_empty() && !state.trim().starts_with('Z')
    }

    /// Threads of this process; one where the system does not tell.
    fn threads() -> usize {
        std::fs::read_dir("/proc/self/task").map_or(1, Iterator::count)
    }

    fn kill(pid: u32) {
        signal("KILL", pid);
    }

    fn signal(name: &str, pid: u32) {
        assert!(Command::new("kill").args(["-s", name, &pid.to_string()]).status().unwrap().success());
    }

    #[track_caller]
    fn until(limit: Duration, what: &str, mut condition: impl FnMut() -> bool) {
        let begin = Instant::now();
        while !condition() {
            assert!(begin.elapsed() < limit, "not within {limit:?}: {what}");
            thread::sleep(Duration::from_millis(10));
        }
    }

    fn started(job: &RemoteTask<()>) {
        until(LONG, "the job begins", || job.is_started());
    }

    fn value<T: Send>(mut task: RemoteTask<T>) -> T {
        task.wait(Some(LONG)).unwrap().unwrap()
    }

    fn error<T: Send + std::fmt::Debug>(mut task: RemoteTask<T>) -> selkie::JoinError {
        task.wait(Some(LONG)).unwrap().unwrap_err()
    }

    /// No process and no thread is left of what a test had.
    fn clean(threads_before: usize) {
        until(LONG, "no child is left", || children(std::process::id()).is_empty());
        until(LONG, "no thread is left", || threads() <= threads_before);
    }

    // The tests.

    /// Rows: F40. On the main thread of the worker, as asyncio has it.
    fn a_worker_is_a_process_of_its_own() {
        let before = threads();
        let pool = IsolatedPool::new(2).unwrap();
        assert!(children(std::process::id()).is_empty());
        let worker = value(pool.submit(pid()).unwrap());
        assert_ne!(worker, std::process::id());
        assert_eq!(children(std::process::id()), [worker]);
        assert!(value(pool.submit(main_thread()).unwrap()));
        assert_eq!(value(pool.submit(pid()).unwrap()), worker);
        let both = [pool.submit(never_ends()).unwrap(), pool.submit(never_ends()).unwrap()];
        both.iter().for_each(started);
        assert_eq!(children(std::process::id()).len(), 2);
        assert!(both[0].cancel() && both[1].cancel());
        pool.join(Some(LONG)).unwrap();
        clean(before);
    }

    /// Rows: F40. Difference: F40. asyncio's pool is broken for good then.
    fn a_crashed_worker_fails_its_job_and_is_replaced() {
        let pool = IsolatedPool::new(1).unwrap();
        let died = error(pool.submit(exits(3)).unwrap());
        assert!(died.is_crashed() && died.is_lost() && died.to_string().contains("status 3"), "{died}");
        let died = error(pool.submit(aborts()).unwrap());
        assert!(died.is_crashed() && died.to_string().contains("SIGABRT"), "{died}");
        let worker = value(pool.submit(pid()).unwrap());
        let job = pool.submit(never_ends()).unwrap();
        started(&job);
        let next = pool.submit(square(3)).unwrap();
        kill(worker);
        let died = error(job);
        assert!(died.is_crashed() && died.to_string().contains("SIGKILL"), "{died}");
        assert_eq!(value(next), 9);
        assert_ne!(value(pool.submit(pid()).unwrap()), worker);
    }

    /// Rows: F40.
    fn a_worker_killed_in_its_sleep_costs_no_job() {
        let pool = IsolatedPool::new(1).unwrap();
        for _ in 0..5 {
            let worker = value(pool.submit(pid()).unwrap());
            kill(worker);
            until(LONG, "the worker is dead", || !is_alive(worker));
            assert_eq!(value(pool.submit(square(4)).unwrap()), 16);
        }
    }

    /// Rows: F40. As by a system that has run out of memory.
    fn a_job_may_meet_more_than_one_worker_killed_in_its_sleep() {
        let pool = IsolatedPool::new(3).unwrap();
        let mut workers = Vec::new();
        until(LONG, "there are three workers", || {
            let jobs = [(); 3].map(|()| pool.submit(pid_after_a_while()).unwrap());
            workers = Vec::from(jobs.map(value));
            workers.sort_unstable();
            workers.dedup();
            workers.len() == 3
        });
        workers.iter().copied().for_each(kill);
        until(LONG, "the workers are dead", || !workers.iter().any(|&worker| is_alive(worker)));
        assert_eq!(value(pool.submit(square(4)).unwrap()), 16);
    }

    /// It is a process still, but nothing reaches it.
    ///
    /// Rows: F40.
    fn a_worker_that_is_on_its_way_out_costs_no_job() {
        let path = std::env::temp_dir().join(format!("selkie-exits-{}", std::process::id()));
        let pool = IsolatedPool::new(1).unwrap();
        value(pool.submit(exits_slowly(path.to_str().unwrap().to_owned())).unwrap());
        std::fs::write(&path, "").unwrap();
        until(LONG, "the socket is closed", || !path.exists());
        assert_eq!(value(pool.submit(square(4)).unwrap()), 16);
    }

    /// Rows: F40, F75. However long they might be idle.
    fn workers_of_a_pool_that_is_dropped_end_at_once() {
        let before = threads();
        let pool = IsolatedPool::builder(1).idle_limit(LONG * 10).build().unwrap();
        assert_eq!(value(pool.submit(square(2)).unwrap()), 4);
        drop(pool);
        clean(before);
    }

    /// The worker is gone by then.
    ///
    /// Rows: F42, F75.
    fn a_shutdown_waits_for_what_a_cancel_calls() {
        let pool = IsolatedPool::new(1).unwrap();
        let job = pool.submit(never_ends()).unwrap();
        started(&job);
        let (go_on, wait) = mpsc::channel::<()>();
        let (call, called) = mpsc::channel();
        job.on_done(move |_| {
            call.send(()).unwrap();
            let _ = wait.recv();
        });
        let canceller = thread::spawn(move || job.cancel());
        called.recv_timeout(LONG).unwrap();
        until(LONG, "the worker is gone", || pool.join(Some(Duration::ZERO)).is_ok() || pool.workers() == 0);
        assert_eq!(pool.join(Some(Duration::from_millis(20))), Err(WaitError::TimedOut));
        drop(go_on);
        assert!(canceller.join().unwrap());
        pool.join(Some(LONG)).unwrap();
    }

    /// Rows: F40, F42.
    fn a_cancel_also_ends_what_the_job_has_started() {
        let path = std::env::temp_dir().join(format!("selkie-isolated-{}", std::process::id()));
        let pool = IsolatedPool::new(1).unwrap();
        let job = pool.submit(starts_another(path.to_str().unwrap().to_owned())).unwrap();
        let mut other = 0;
        until(LONG, "the job starts a process", || {
            let text = std::fs::read_to_string(&path).unwrap_or_default();
            text.parse().is_ok_and(|number| {
                other = number;
                true
            })
        });
        std::fs::remove_file(&path).unwrap();
        assert!(is_alive(other));
        let begin = Instant::now();
        job.cancel();
        assert!(error(job).is_cancelled() && begin.elapsed() < Duration::from_secs(5));
        until(LONG, "what it started is gone", || !is_alive(other));
        assert_eq!(value(pool.submit(square(2)).unwrap()), 4);
    }

    fn undiverted() {
        let error = IsolatedPool::new(4).unwrap_err();
        assert!(error.to_string().contains("isolated::serve()"), "{error}");
        assert!(children(std::process::id()).is_empty());
        // A loop is such a place.
        selkie::run(async {});
        IsolatedPool::new(4).unwrap();
    }

    /// Rows: F40. Else each worker would run the program, and make workers.
    fn a_program_that_does_not_divert_gets_no_pool() {
        let me = std::env::current_exe().unwrap();
        assert!(Command::new(&me).env(PART, "undiverted").status().unwrap().success());
        // Nor does a worker that comes to making one.
        let pool = IsolatedPool::builder(1).arguments(["makes a pool"]).build().unwrap();
        let error = error(pool.submit(square(1)).unwrap());
        assert!(error.is_crashed() && error.to_string().contains("status 40"), "{error}");
    }

    /// Rows: F40. Each failure fails all that wait, so nothing is tried for ever.
    fn a_worker_that_cannot_start_fails_what_waits() {
        let before = threads();
        let pool = IsolatedPool::builder(2).arguments(["exits"]).build().unwrap();
        let jobs: Vec<_> = (0..1000).map(|n| pool.submit(square(n)).unwrap()).collect();
        for job in jobs {
            let error = error(job);
            assert!(error.is_crashed() && error.to_string().contains("status 3"), "{error}");
        }
        pool.join(Some(LONG)).unwrap();

        // It knows what it is: it must not go on as if it were the program itself, and start workers in turn.
        let pool = IsolatedPool::builder(1).arguments(["has no room"]).build().unwrap();
        let lost = error(pool.submit(square(1)).unwrap());
        assert!(lost.is_crashed() && lost.to_string().contains("status 1"), "{lost}");
        pool.join(Some(LONG)).unwrap();

        let limit = Duration::from_millis(200);
        let pool = IsolatedPool::builder(2).arguments(["hangs"]).start_limit(limit).build().unwrap();
        let begin = Instant::now();
        let job = pool.submit(square(1)).unwrap();
        let error = error(job);
        assert!(error.is_crashed() && error.to_string().contains("isolated::serve()"), "{error}");
        assert!(begin.elapsed() >= limit && begin.elapsed() < LONG / 2);
        pool.join(Some(LONG)).unwrap();
        clean(before);
    }

    /// Rows: F40, F75. It has nothing of a job, so nobody waits for it.
    fn a_worker_that_starts_does_not_hold_up_the_end() {
        let before = threads();
        let pool = IsolatedPool::builder(1).arguments(["hangs"]).start_limit(LONG).build().unwrap();
        let job = pool.submit(square(1)).unwrap();
        until(LONG, "the worker has been started", || !children(std::process::id()).is_empty());
        assert!(job.cancel());
        pool.join(Some(LONG / 4)).unwrap();
        clean(before);
    }

    /// Rows: F40. What a program starts before it serves has the socket as its standard input.
    fn a_dead_worker_is_noticed_while_others_have_its_socket() {
        let before = threads();
        let pool = IsolatedPool::builder(1).arguments(["starts another"]).build().unwrap();
        assert_eq!(value(pool.submit(square(2)).unwrap()), 4);
        let worker = value(pool.submit(pid()).unwrap());
        let other = children(worker);
        let mut job = pool.submit(aborts()).unwrap();
        let died = job.wait(Some(LONG / 4));
        other.into_iter().for_each(kill);
        let died = died.unwrap().unwrap_err();
        assert!(died.is_crashed() && died.to_string().contains("SIGABRT"), "{died}");

        // Also while the arguments are on their way: a worker that was stopped does not read them.
        let worker = value(pool.submit(pid()).unwrap());
        let other = children(worker);
        signal("STOP", worker);
        let mut job = pool.submit(reverse(vec![1; 20_000_000])).unwrap();
        until(LONG, "the job begins", || job.is_started());
        thread::sleep(Duration::from_millis(50));
        kill(worker);
        let ended = job.wait(Some(LONG / 4));
        // The end of a stopped one may have ended it as well.
        other.into_iter().filter(|&other| is_alive(other)).for_each(kill);
        // One that had not got them yet is replaced.
        let replaced = ended.unwrap().is_ok_and(|bytes| bytes.len() == 20_000_000);
        if replaced {
            children(std::process::id()).into_iter().flat_map(children).for_each(kill);
        }
        drop(pool);
        clean(before);
    }

    /// Rows: F40.
    fn a_worker_may_divert_in_run() {
        let pool = IsolatedPool::builder(1).arguments(["late"]).build().unwrap();
        assert_eq!(value(pool.submit(square(7)).unwrap()), 49);
    }

    /// One worker that sleeps and one that works, and then nothing more is done for them.
    fn orphans() {
        let pool = IsolatedPool::new(2).unwrap();
        let first = pool.submit(never_ends()).unwrap();
        started(&first);
        println!("\n{}", children(std::process::id())[0]);
        println!("{}", value(pool.submit(pid()).unwrap()));
        thread::sleep(LONG);
    }

    fn part(part: &str) -> (Child, std::io::Lines<BufReader<ChildStdout>>) {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .env(PART, part)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        (child, lines)
    }

    /// Daemons ignore `SIGCHLD`, and what they start inherits that.
    fn a_crash_that_leaves_no_status_says_so() {
        let mut parent = Command::new(std::env::current_exe().unwrap());
        assert!(parent.env(PART, "has no status").status().unwrap().success());
    }

    fn has_no_status() {
        // SAFETY: to ignore a signal runs no code in a handler.
        #[allow(unsafe_code)]
        unsafe { signal::signal(Signal::SIGCHLD, SigHandler::SigIgn) }.unwrap();
        let pool = IsolatedPool::new(1).unwrap();
        let died = error(pool.submit(exits(3)).unwrap());
        assert!(died.is_crashed() && died.to_string().contains("SIGCHLD"), "{died}");
        assert_eq!(value(pool.submit(square(3)).unwrap()), 9);
        let job = pool.submit(never_ends()).unwrap();
        started(&job);
        job.cancel();
        assert!(error(job).is_cancelled());
        pool.join(Some(LONG)).unwrap();
    }

    /// Rows: F40. After `kill -9` of their parent, of which they hear only by the end of the stream.
    fn orphans_are_gone_within_two_seconds() {
        let (mut parent, lines) = part("orphans");
        let mut lines = lines.map(Result::unwrap).filter(|line| !line.is_empty());
        let workers: [u32; 2] = std::array::from_fn(|_| lines.next().unwrap().parse().unwrap());
        assert!(workers.iter().all(|&worker| is_alive(worker)));
        parent.kill().unwrap();
        parent.wait().unwrap();
        let begin = Instant::now();
        until(LONG, "the orphans are gone", || !workers.iter().any(|&worker| is_alive(worker)));
        assert!(begin.elapsed() < Duration::from_secs(2), "{:?}", begin.elapsed());
    }

    fn talks() {
        let pool = IsolatedPool::new(1).unwrap();
        println!("out: before");
        let length = value(pool.submit(talk("from the worker".to_owned())).unwrap());
        println!("out: the worker read {length} bytes");
        let mut line = String::new();
        std::io::stdin().read_line(&mut line).unwrap();
        println!("out: the program read {line}");
        pool.join(Some(LONG)).unwrap();
    }

    /// Rows: F40.
    fn standard_streams_are_those_of_the_program() {
        let (mut child, lines) = part("talks");
        child.stdin.take().unwrap().write_all(b"for the program").unwrap();
        let lines: Vec<_> = lines.map(Result::unwrap).filter(|line| line.starts_with("out: ")).collect();
        let expected = [
            "out: before",
            "out: from the worker",
            "out: the worker read 0 bytes",
            "out: the program read for the program",
        ];
        assert_eq!(lines, expected);
        let mut text = String::new();
        child.stderr.take().unwrap().read_to_string(&mut text).unwrap();
        assert_eq!(text.trim(), "err: from the worker");
        assert!(child.wait().unwrap().success());
    }

    /// Rows: F40.
    fn idle_workers_end() {
        let before = threads();
        let pool = IsolatedPool::builder(2).idle_limit(Duration::from_millis(200)).build().unwrap();
        let jobs: Vec<_> = (0..100).map(|n| pool.submit(square(n)).unwrap()).collect();
        assert_eq!(jobs.into_iter().map(value).sum::<u64>(), 328_350);
        assert!(pool.workers() >= 1);
        until(LONG, "the workers end", || pool.workers() == 0);
        clean(before);
        assert_eq!(value(pool.submit(square(3)).unwrap()), 9);
    }

    /// Rows: F40. More than a socket holds, both ways at once.
    fn large_arguments_and_results_pass() {
        let pool = IsolatedPool::new(2).unwrap();
        let bytes: Vec<u8> = (0..20_000_000u32).map(|n| (n / 7) as u8).collect();
        let begin = Instant::now();
        let jobs =
            [pool.submit(reverse(bytes.clone())).unwrap(), pool.submit(reverse(bytes.clone())).unwrap()];
        for job in jobs {
            let back = value(job);
            assert!(back.iter().rev().eq(bytes.iter()));
        }
        assert!(begin.elapsed() < LONG);
    }

    /// Rows: F40. Nested values are read by recursion: what is too deep is an error, and not the end of this process.
    fn a_result_may_be_as_deep_as_a_worker_can_make_it() {
        let pool = IsolatedPool::new(1).unwrap();
        for levels in [500, 1000, 2000] {
            let mut job = pool.submit(deep(levels)).unwrap();
            match job.wait(Some(LONG)).unwrap() {
                Ok(deep) => {
                    let mut depth = 0;
                    let mut next = deep.inner.as_ref();
                    while let Some(deep) = next {
                        depth += 1;
                        next = deep.inner.as_ref();
                    }
                    assert_eq!(depth, levels);
                    assert!(levels < 2000);
                }
                Err(error) => assert!(error.is_bad_data() && levels > 500, "{error}"),
            }
        }
    }

    /// Rows: F40, F75. Neither by a shutdown that waits for them nor by one that does not.
    fn a_hundred_thousand_jobs_leave_nothing_behind() {
        let before = threads();
        let pool = IsolatedPool::new(2).unwrap();
        let jobs: Vec<_> = (0..100_000).map(|n| pool.submit(square(n)).unwrap()).collect();
        let first = pool.submit(never_ends()).unwrap();
        assert!(children(std::process::id()).len() <= 2);
        drop(pool.shutdown_now());
        let mut lost = 0;
        for (n, mut job) in jobs.into_iter().enumerate() {
            match job.wait(Some(LONG)).unwrap() {
                Ok(result) => assert_eq!(result, (n * n) as u64),
                Err(error) => {
                    assert!(error.is_lost() && !error.is_crashed(), "{error}");
                    lost += 1;
                }
            }
        }
        assert!(lost > 0 && error(first).is_lost());
        pool.join(Some(LONG)).unwrap();
        assert_eq!(pool.workers(), 0);
        clean(before);

        let pool = IsolatedPool::new(2).unwrap();
        let jobs: Vec<_> = (0..100_000).map(|n| pool.submit(square(n)).unwrap()).collect();
        // Cancelled at the start, in the middle and at the end of the queue.
        assert!(jobs[1..].iter().step_by(10).filter(|job| job.cancel()).count() > 0);
        pool.join(Some(LONG)).unwrap();
        assert!(jobs.iter().all(RemoteTask::is_finished));
        clean(before);
    }

    /// Rows: F40, F73. Callbacks run where the result comes in.
    fn results_come_without_any_loop() {
        let pool = IsolatedPool::new(1).unwrap();
        let job = pool.submit(square(5)).unwrap();
        let (tell, told) = std::sync::mpsc::channel();
        job.on_done(move |result| tell.send(*result.as_ref().unwrap()).unwrap());
        assert_eq!(told.recv_timeout(LONG).unwrap(), 25);
        assert_eq!(value(job), 25);
        let mut slow = pool.submit(never_ends()).unwrap();
        assert_eq!(slow.wait(Some(Duration::from_millis(20))).unwrap_err(), selkie::WaitError::TimedOut);
        assert_eq!(pool.join(Some(Duration::from_millis(20))), Err(selkie::WaitError::TimedOut));
        slow.cancel();
        assert!(slow.wait(Some(LONG)).unwrap().unwrap_err().is_cancelled());
        pool.join(Some(LONG)).unwrap();
    }
}
