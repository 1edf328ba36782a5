//! Models of the result. Run by `RUSTFLAGS="--cfg selkie_loom" cargo test -p selkie --lib --release loom`.

use std::{
    future::{Future, poll_fn},
    pin::pin,
    sync::atomic::{AtomicUsize, Ordering as StdOrdering},
    task::{Context, Poll, Wake},
};

use loom::thread;

use super::{super::Debts, *};

struct Unpark(thread::Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Waits as a blocked thread does; a lost wake is a deadlock, which loom reports.
///
/// Not in the model's main thread: a late unpark would also end loom's `join`.
fn block<F: Future>(future: F) -> F::Output {
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut future = pin!(future);
    loop {
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(output) => return output,
            Poll::Pending => thread::park(),
        }
    }
}

/// Counts how often it is dropped.
struct Counted(Arc<AtomicUsize>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_add(1, StdOrdering::Relaxed);
    }
}

#[test]
fn a_result_is_given_once_and_wakes_who_waits() {
    loom::model(|| {
        let (producer, task) = channel(None);
        let gives = thread::spawn(move || producer.give(Ok(7)));
        let waits = thread::spawn(move || block(task).unwrap());
        gives.join().unwrap();
        assert_eq!(waits.join().unwrap(), 7);
    });
}

/// A thread that is lost and runs on, or one that could not hand its producer over: it settles beside the stand-in.
#[test]
fn a_producer_and_its_stand_in_settle_once() {
    loom::model(|| {
        let (producer, task) = channel(None);
        let stand_in = producer.stand_in();
        let called = Arc::new(AtomicUsize::new(0));
        let count = called.clone();
        task.on_done(move |_| _ = count.fetch_add(1, StdOrdering::Relaxed));
        let waits = thread::spawn(move || {
            match block(task) {
                Ok(result) => assert_eq!(result, 7),
                Err(error) => assert!(error.is_lost()),
            }
            // Before anybody who waits goes on.
            assert_eq!(called.load(StdOrdering::Relaxed), 1);
        });
        let lost = thread::spawn(move || stand_in.give(JoinError::LOST));
        producer.give(Ok(7));
        lost.join().unwrap();
        waits.join().unwrap();
    });
}

/// The thread is terminated when the result is there, and before it has told.
#[test]
fn a_stand_in_wakes_for_a_producer_that_has_gone_before_it_told() {
    loom::model(|| {
        let (mut producer, task) = channel(None);
        let stand_in = producer.stand_in();
        let waits = thread::spawn(move || block(task).unwrap());
        let shared = producer.shared.take().expect("nothing was given");
        assert!(shared.stage.claim());
        // SAFETY: claimed just now.
        unsafe { shared.write(Ok(7)) };
        assert!(shared.stage.set().is_ok(), "there are no callbacks");
        stand_in.give(JoinError::LOST);
        assert_eq!(waits.join().unwrap(), 7);
        // What is gone with the thread keeps the memory; here it goes, so that loom finds no leak.
        drop(shared);
    });
}

#[test]
fn what_a_loop_owes_is_lost_beside_a_submit_that_fails() {
    loom::model(|| {
        let debts = Arc::new(Debts::default());
        debts.keep();
        let (producer, task) = channel::<u32>(None);
        debts.owe(|| producer.stand_in());
        let lost = thread::spawn(move || debts.lose());
        let waits = thread::spawn(move || block(task).unwrap_err().is_lost());
        drop(producer);
        lost.join().unwrap();
        assert!(waits.join().unwrap());
    });
}

#[test]
fn a_callback_beside_the_result_is_called_once() {
    loom::model(|| {
        let (producer, task) = channel(None);
        let called = Arc::new(AtomicUsize::new(0));
        let count = called.clone();
        let gives = thread::spawn(move || producer.give(Ok(7)));
        let waits = thread::spawn(move || {
            task.on_done(move |result| {
                assert_eq!(*result.as_ref().unwrap(), 7);
                count.fetch_add(1, StdOrdering::Relaxed);
            });
            assert_eq!(block(task).unwrap(), 7);
        });
        gives.join().unwrap();
        waits.join().unwrap();
        assert_eq!(called.load(StdOrdering::Relaxed), 1);
    });
}

#[test]
fn a_cancel_reaches_the_work_wherever_that_is() {
    loom::model(|| {
        let (producer, task) = channel::<u32>(None);
        let work = thread::spawn(move || {
            if producer.begin() {
                block(poll_fn(|cx| match producer.poll_cancelled(cx.waker()) {
                    true => Poll::Ready(()),
                    false => Poll::Pending,
                }));
            }
        });
        let waits = thread::spawn(move || {
            task.cancel();
            assert!(block(task).unwrap_err().is_cancelled());
        });
        work.join().unwrap();
        waits.join().unwrap();
    });
}

#[test]
fn a_result_that_nobody_takes_is_dropped_once() {
    loom::model(|| {
        let dropped = Arc::new(AtomicUsize::new(0));
        let result = Counted(dropped.clone());
        let (producer, mut task) = channel(None);
        let gives = thread::spawn(move || producer.give(Ok(result)));
        drop(task.try_take());
        drop(task);
        gives.join().unwrap();
        assert_eq!(dropped.load(StdOrdering::Relaxed), 1);
    });
}
