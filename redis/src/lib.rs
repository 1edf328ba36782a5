#![doc = include_str!("../README.md")]

mod dead;
mod error;
mod handlers;
mod io;
mod link;
mod list;
mod queue;
mod retry;
mod server;
mod shift;
mod watch;
mod wire;
mod worker;

pub use dead::DeadLetter;
pub use error::Error;
pub use handlers::{Failure, Job, current_job};
pub use io::{run, shutdown_signal};
pub use list::ListWorker;
pub use queue::{Counts, Failed, JobId, JobQueue, NewJob};
pub use retry::Retry;
pub use server::LocalServer;
pub use watch::{Event, Watch};
pub use worker::{Monitor, Report, Worker};
