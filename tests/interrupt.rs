//! Ctrl-C, as a program and its shell see it: a child process that gets real signals.
#![cfg(unix)]
#![allow(missing_docs)]
#![allow(clippy::disallowed_methods, reason = "the test is about processes and what they print")]

use std::{
    io::{BufRead, BufReader},
    process::{Child, ChildStdout, Command, Stdio},
    time::Duration,
};

use selkie::{catch_cancel, sleep};

const CHILD: &str = "SELKIE_TEST_INTERRUPT";

/// Starts this test again as a child in `mode`, and waits until its main task runs.
fn child(test: &str, mode: &str) -> (Child, std::io::Lines<BufReader<ChildStdout>>) {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture"])
        .env(CHILD, mode)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert!(lines.by_ref().any(|line| line.unwrap().ends_with("main runs")));
    (child, lines)
}

fn interrupt(child: &Child) {
    let status = Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    assert!(status.success());
}

/// What the child does: waits, and cleans up when it is asked to end.
fn run_as(mode: &str) {
    let stubborn = mode == "stubborn";
    selkie::run(async move {
        println!("main runs");
        let Err(cancelled) = catch_cancel(sleep(Duration::from_secs(60))).await else { return };
        println!("cleaning up: {}", cancelled.message().unwrap_or(""));
        if stubborn {
            sleep(Duration::from_secs(60)).await;
        }
        sleep(Duration::from_millis(5)).await;
        println!("clean");
        cancelled.resume().await;
    });
}

/// Rows: X17.
#[test]
fn the_first_interrupt_cancels_main_which_cleans_up() {
    if let Some(mode) = std::env::var_os(CHILD) {
        return run_as(mode.to_str().unwrap());
    }
    let (mut child, lines) = child("the_first_interrupt_cancels_main_which_cleans_up", "polite");
    interrupt(&child);
    let rest: Vec<_> = lines.map(Result::unwrap).collect();
    assert_eq!(rest, ["cleaning up: interrupted by Ctrl-C", "clean"]);
    assert_eq!(child.wait().unwrap().code(), Some(130));
}

/// Rows: X17.
#[test]
fn the_second_interrupt_ends_the_process_at_once() {
    if let Some(mode) = std::env::var_os(CHILD) {
        return run_as(mode.to_str().unwrap());
    }
    let (mut child, mut lines) = child("the_second_interrupt_ends_the_process_at_once", "stubborn");
    interrupt(&child);
    assert_eq!(lines.next().unwrap().unwrap(), "cleaning up: interrupted by Ctrl-C");
    interrupt(&child);
    assert!(lines.next().is_none());
    assert_eq!(child.wait().unwrap().code(), Some(130));
}
