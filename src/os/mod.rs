//! What differs between targets: the only place that names a backend.

#[cfg(any(loom, all(target_family = "wasm", target_os = "unknown")))]
mod no_workers;

#[cfg(not(all(target_family = "wasm", target_os = "unknown")))]
pub mod native;
#[cfg(not(all(target_family = "wasm", target_os = "unknown")))]
pub(crate) use native::{
    Home, MAY_TRAP, Pool, Workers, block, cancelled_main, check_isolated, default_loop, divert, host,
    is_isolated_worker, relax, report, spawn_isolate, thread_name,
};

#[cfg(all(target_family = "wasm", target_os = "unknown"))]
pub mod web;
#[cfg(all(target_family = "wasm", target_os = "unknown"))]
pub(crate) use web::{
    Home, MAY_TRAP, Pool, Workers, block, cancelled_main, check_isolated, default_loop, divert, host,
    is_isolated_worker, relax, report, spawn_isolate, thread_name,
};
