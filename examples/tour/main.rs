//! The tour: short transcripts of what the scheduler does, played against the real clock, or on virtual time at once.
//!
//! ```text
//! cargo run --example tour                 every scenario, in real time
//! cargo run --example tour -- --virtual    the same on the simulator
//! cargo run --example tour -- gather wait  these two only
//! npx -y rust-just web                     the same source in a page
//! ```
//!
//! Each event is shown beside what is expected. A wrong order, or a time that is off by too much, makes it fail.

#![allow(missing_docs, unreachable_pub)]

mod scenarios;
#[allow(dead_code, reason = "each front end shows a part of it")]
mod stage;
#[cfg(not(all(target_family = "wasm", target_os = "unknown")))]
mod terminal;
#[cfg(all(target_family = "wasm", target_os = "unknown"))]
mod web;

#[cfg(not(all(target_family = "wasm", target_os = "unknown")))]
fn main() -> std::process::ExitCode {
    terminal::main()
}

/// The page calls the exports of `web` when its user wants something.
#[cfg(all(target_family = "wasm", target_os = "unknown"))]
fn main() {}
