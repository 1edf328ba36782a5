//! The crate against a real Redis, in this process and in worker processes that get killed.
//!
//! Not libtest's harness, as this program is also what the tests start as a worker process.

mod basics;
mod crashes;
mod list;
mod memory;
mod network;
mod process;
mod proxy;
mod shutdown;
mod support;

use libtest_mimic::{Arguments, Trial};

/// What tests make panic is told to the worker. In the output it would stand before what somebody looks for there, and a trace that
/// is looked up under load takes seconds of a job's time.
fn hide_expected_panics() {
    let before = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        let text = panic.payload().downcast_ref::<&str>();
        if !text.is_some_and(|text| text.ends_with("(expected by a test)")) {
            before(panic);
        }
    }));
}

fn main() {
    hide_expected_panics();
    // An isolated handler's process is this program once more.
    selkie::isolated::serve();
    if process::is_worker() {
        process::work();
        return;
    }
    let tests: Vec<Trial> = [
        basics::tests(),
        crashes::tests(),
        list::tests(),
        memory::tests(),
        network::tests(),
        shutdown::tests(),
    ]
    .into_iter()
    .flatten()
    .map(|(name, test)| {
        Trial::test(name, move || {
            test();
            Ok(())
        })
    })
    .collect();
    let mut arguments = Arguments::from_args();
    // They wait most of the time.
    arguments.test_threads.get_or_insert(6);
    libtest_mimic::run(&arguments, tests).exit();
}
