//! The suite: every behaviour that the documentation promises, on every host.

#![allow(missing_docs, unreachable_pub)]
#![allow(clippy::disallowed_methods, reason = "tests of threads")]
#![cfg_attr(
    any(
        not(panic = "unwind"),
        all(target_family = "wasm", target_os = "unknown", not(target_feature = "atomics"))
    ),
    allow(unused_imports, reason = "what panics, or needs threads, is not compiled there")
)]

#[macro_use]
mod harness;

mod across;
mod as_completed;
mod auto_traits;
mod bad_input;
mod barriers;
mod callbacks;
mod cancel;
mod cells;
mod conditions;
mod context;
mod deferred;
mod eager;
mod event_loop;
mod faults;
#[cfg(all(target_family = "wasm", target_os = "unknown"))]
mod forever;
mod futures_interop;
mod gather;
mod generators;
mod guest;
mod instrument;
mod interval;
mod isolated;
#[cfg(not(all(target_family = "wasm", target_os = "unknown")))]
mod lanes;
mod locks;
mod macros;
mod named_threads;
mod pools;
mod priorities;
mod queues;
mod reports;
mod runner;
#[cfg(not(all(target_family = "wasm", target_os = "unknown")))]
mod safety;
mod shield;
mod slow;
mod staggered;
mod storms;
mod task_group;
mod tasks;
mod thread_locals;
mod threads;
mod timeout;
mod timers;
mod tour;
mod wait;
#[cfg(all(target_family = "wasm", target_os = "unknown"))]
mod web;
#[cfg(all(target_family = "wasm", target_os = "unknown", target_feature = "atomics"))]
mod workers;

#[cfg(not(all(target_family = "wasm", target_os = "unknown")))]
use std::prelude::v1::test;
/// `#[test]` of this host, for tests that need no behaviour of a loop.
#[cfg(all(target_family = "wasm", target_os = "unknown"))]
use wasm_bindgen_test::wasm_bindgen_test as test;
