//! What differs between targets: the only place that names a backend.

#[cfg(not(all(target_family = "wasm", target_os = "unknown")))]
pub mod native;
#[cfg(not(all(target_family = "wasm", target_os = "unknown")))]
pub(crate) use native::{
    Carried, Home, LOSES_THREADS, Pool, TRAPS, Workers, at_risk, block, cancelled_main, check_isolated,
    default_loop, divert, guard, host, is_isolated_worker, lock, may_wait, owes, relax, report,
    serve_isolated, spawn_isolate, thread_name, trap, work,
};

#[cfg(all(target_family = "wasm", target_os = "unknown"))]
pub mod web;
#[cfg(all(target_family = "wasm", target_os = "unknown"))]
pub(crate) use web::{
    Carried, Home, LOSES_THREADS, Pool, TRAPS, Workers, at_risk, block, cancelled_main, check_isolated,
    default_loop, divert, guard, host, is_isolated_worker, lock, may_wait, owes, relax, report,
    serve_isolated, spawn_isolate, thread_name, trap, work,
};
