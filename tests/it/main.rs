//! The suite: every behaviour that the documentation promises, on every host.

#![allow(missing_docs, unreachable_pub)]

#[macro_use]
mod harness;

mod tasks;
