//! What can only be seen from outside: Ctrl-C and a closed standard error, in real child processes.
//!
//! The child is this very test binary, told by an environment variable which part to play.

#![cfg(all(unix, not(selkie_loom)))]

use std::{
    io::{self, BufRead, BufReader, Write},
    process::{Child, Command, ExitStatus, Stdio},
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{SigHandler, Signal, kill, signal},
    unistd::Pid,
};
use selkie_native::Native;
use selkie_platform::Platform;

const PART: &str = "SELKIE_TEST_PART";
const LONG: Duration = Duration::from_secs(60);

/// Not a test of its own: the parts that the children play.
#[test]
fn child() {
    let Ok(part) = std::env::var(PART) else { return };
    // A parent shell may have started us with the signal ignored.
    let disposition = if part == "ignored" { SigHandler::SigIgn } else { SigHandler::SigDfl };
    // SAFETY: neither disposition runs code in a signal handler.
    unsafe { signal(Signal::SIGINT, disposition) }.unwrap();

    let platform = Native::new();
    let register = |line: &'static str| platform.on_interrupt(Box::new(move || say(line)));
    match part.as_str() {
        "two handlers" => {
            let _guards = [register("first").unwrap(), register("second").unwrap()];
            say("ready");
            thread::sleep(LONG);
        }
        "hanging handler" => {
            let _guard = platform.on_interrupt(Box::new(|| {
                say("called");
                thread::sleep(LONG);
            }));
            say("ready");
            thread::sleep(LONG);
        }
        "panicking handler" => {
            let _guards = [
                platform.on_interrupt(Box::new(|| panic!("expected by a test"))).unwrap(),
                platform.on_interrupt(Box::new(|| std::panic::panic_any(Bomb))).unwrap(),
                register("called").unwrap(),
            ];
            say("ready");
            thread::sleep(LONG);
        }
        "unregistered" => {
            drop(register("never").unwrap());
            say("ready");
            thread::sleep(LONG);
        }
        "registered again" => {
            for line in ["one", "two", "three"] {
                let (done, is_done) = mpsc::channel();
                let guard = platform.on_interrupt(Box::new(move || done.send(()).unwrap())).unwrap();
                say("ready");
                is_done.recv_timeout(LONG).unwrap();
                drop(guard);
                say(line);
            }
            std::process::exit(7);
        }
        "never asked" => {
            say("ready");
            thread::sleep(LONG);
        }
        "ignored" => {
            say(if register("never").is_none() { "none" } else { "some" });
            std::process::exit(8);
        }
        "closed stderr" => {
            say("ready");
            // The parent has closed its end by the time it answers.
            io::stdin().read_line(&mut String::new()).unwrap();
            platform.report("nobody reads this");
            std::process::exit(9);
        }
        "report" => {
            platform.report("shown to the developer");
            std::process::exit(10);
        }
        _ => unreachable!("no such part: {part}"),
    }
}

/// What was thrown may throw in turn.
struct Bomb;

impl Drop for Bomb {
    fn drop(&mut self) {
        panic!("expected by a test");
    }
}

/// Past the capture of the test harness.
fn say(line: &str) {
    let mut out = io::stdout().lock();
    writeln!(out, "\n> {line}").unwrap();
    out.flush().unwrap();
}

struct Actor {
    child: Child,
    lines: mpsc::Receiver<String>,
}

impl Actor {
    fn start(part: &str) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "child", "--nocapture"])
            .env(PART, part)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let out = BufReader::new(child.stdout.take().unwrap());
        let (line, lines) = mpsc::channel();
        thread::spawn(move || {
            for text in out.lines().map_while(Result::ok) {
                if let Some(text) = text.strip_prefix("> ") {
                    let _ = line.send(text.to_owned());
                }
            }
        });
        Self { child, lines }
    }

    #[track_caller]
    fn says(&self, line: &str) {
        assert_eq!(self.lines.recv_timeout(LONG).unwrap(), line);
    }

    fn interrupt(&self) {
        kill(Pid::from_raw(self.child.id().try_into().unwrap()), Signal::SIGINT).unwrap();
    }

    #[track_caller]
    fn ends(&mut self) -> ExitStatus {
        let start = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            // Well below what the children sleep.
            assert!(start.elapsed() < LONG / 3, "the child does not end");
            thread::sleep(Duration::from_millis(2));
        }
    }
}

impl Drop for Actor {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn the_first_interrupt_calls_all_handlers_and_the_second_exits() {
    let mut child = Actor::start("two handlers");
    child.says("ready");
    child.interrupt();
    child.says("first");
    child.says("second");
    thread::sleep(Duration::from_millis(50));
    assert!(child.child.try_wait().unwrap().is_none(), "the first interrupt leaves the end to the handlers");
    child.interrupt();
    assert_eq!(child.ends().code(), Some(130));
}

#[test]
fn a_handler_that_hangs_does_not_hold_up_the_second_interrupt() {
    let mut child = Actor::start("hanging handler");
    child.says("ready");
    child.interrupt();
    child.says("called");
    child.interrupt();
    assert_eq!(child.ends().code(), Some(130));
}

#[test]
fn a_handler_that_panics_does_not_keep_the_others_from_being_called() {
    let mut child = Actor::start("panicking handler");
    child.says("ready");
    child.interrupt();
    child.says("called");
    child.interrupt();
    assert_eq!(child.ends().code(), Some(130));
}

#[test]
fn without_a_handler_the_first_interrupt_exits() {
    let mut child = Actor::start("unregistered");
    child.says("ready");
    child.interrupt();
    assert_eq!(child.ends().code(), Some(130));
}

#[test]
fn a_process_that_never_asked_keeps_the_default_of_the_system() {
    use std::os::unix::process::ExitStatusExt;
    let mut child = Actor::start("never asked");
    child.says("ready");
    child.interrupt();
    assert_eq!(child.ends().signal(), Some(Signal::SIGINT as i32));
}

#[test]
fn the_count_starts_again_when_the_last_handler_is_gone() {
    let mut child = Actor::start("registered again");
    for line in ["one", "two", "three"] {
        child.says("ready");
        child.interrupt();
        child.says(line);
    }
    assert_eq!(child.ends().code(), Some(7));
}

#[test]
fn an_ignored_interrupt_stays_ignored() {
    let mut child = Actor::start("ignored");
    child.says("none");
    assert_eq!(child.ends().code(), Some(8));
}

#[test]
fn a_report_to_a_closed_standard_error_is_dropped() {
    let mut child = Actor::start("closed stderr");
    child.says("ready");
    drop(child.child.stderr.take());
    child.child.stdin.take().unwrap().write_all(b"go\n").unwrap();
    assert_eq!(child.ends().code(), Some(9));
}

#[test]
fn a_report_is_one_line_on_standard_error() {
    use std::io::Read;
    let mut child = Actor::start("report");
    assert_eq!(child.ends().code(), Some(10));
    let mut text = String::new();
    child.child.stderr.take().unwrap().read_to_string(&mut text).unwrap();
    assert_eq!(text, "shown to the developer\n");
}
