//! What differs between targets: the only place that names a backend.

#[cfg(not(all(target_family = "wasm", target_os = "unknown")))]
pub mod native;
#[cfg(not(all(target_family = "wasm", target_os = "unknown")))]
pub(crate) use native::{Pool, block, cancelled_main, default_loop, host, relax, report, thread_name};
// Models have no executor: what it is made of takes `cfg(loom)` for its own.
#[cfg(not(any(loom, all(target_family = "wasm", target_os = "unknown"))))]
pub(crate) use native::Workers;

#[cfg(all(target_family = "wasm", target_os = "unknown"))]
pub mod web;
#[cfg(all(target_family = "wasm", target_os = "unknown"))]
pub(crate) use web::{Pool, Workers, block, cancelled_main, default_loop, host, relax, report, thread_name};
