//! Models of the queue. Run by `RUSTFLAGS="--cfg selkie_loom" cargo test -p selkie --lib --release loom`.

use std::{
    sync::{
        Arc as StdArc,
        atomic::{AtomicUsize, Ordering as StdOrdering},
    },
    task::{Wake, Waker},
};

use loom::thread;

use super::*;

struct Unpark(thread::Thread);

impl Wake for Unpark {
    fn wake(self: StdArc<Self>) {
        self.0.unpark();
    }
}

/// Counts its wakes.
struct Count(AtomicUsize);

impl Wake for Count {
    fn wake(self: StdArc<Self>) {
        self.0.fetch_add(1, StdOrdering::Relaxed);
    }
}

/// Waits as a blocked thread does; a lost wake is a deadlock, which loom reports.
fn block<F: Future>(future: F) -> F::Output {
    let waker = Waker::from(StdArc::new(Unpark(thread::current())));
    let mut future = pin!(future);
    loop {
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(output) => return output,
            Poll::Pending => thread::park(),
        }
    }
}

fn count() -> (StdArc<Count>, Waker) {
    let count = StdArc::new(Count(AtomicUsize::new(0)));
    (count.clone(), Waker::from(count))
}

fn poll<F: Future>(future: &mut Pin<Box<F>>, waker: &Waker) -> Poll<F::Output> {
    future.as_mut().poll(&mut Context::from_waker(waker))
}

fn is_at_rest<T>(queue: &Queue<T>) -> bool {
    let QueueStatistics { len, getting, putting, .. } = queue.statistics();
    (len, getting, putting) == (0, 0, 0)
}

/// Both may have to wait: the putter for room, and then the getter for what it puts in.
#[test]
fn items_pass_a_queue_of_one_place() {
    loom::model(|| {
        let queue = Queue::bounded(1);
        queue.try_put(0).unwrap();
        let theirs = queue.clone();
        let producer = thread::spawn(move || block(theirs.put(1)).unwrap());
        let ours = queue.clone();
        let consumer = thread::spawn(move || [0, 1].map(|_| block(ours.get()).unwrap()));
        producer.join().unwrap();
        assert_eq!(consumer.join().unwrap(), [0, 1]);
        assert!(is_at_rest(&queue));
    });
}

/// *Grant and drop at once*, *grant, then drop*: the item goes to the getter behind, who is woken.
#[test]
fn a_getter_that_is_dropped_beside_a_put_loses_no_item() {
    loom::model(|| {
        let queue = Queue::unbounded();
        let get = |queue: Queue<u32>| Box::pin(async move { queue.get().await });
        let (mut leaver, mut stayer) = (get(queue.clone()), get(queue.clone()));
        assert!(poll(&mut leaver, &count().1).is_pending());
        let (wakes, waker) = count();
        assert!(poll(&mut stayer, &waker).is_pending());
        let gone = thread::spawn(move || drop(leaver));
        queue.try_put(7).unwrap();
        gone.join().unwrap();
        assert_eq!(wakes.0.load(StdOrdering::Relaxed), 1);
        assert_eq!(poll(&mut stayer, &waker), Poll::Ready(Ok(7)));
        assert!(is_at_rest(&queue));
    });
}

/// A putter that is dropped beside the get that makes room: its item is in or gone, and the next one's follows.
#[test]
fn a_putter_that_is_dropped_beside_a_get_leaves_room_for_the_next() {
    loom::model(|| {
        let queue = Queue::bounded(1);
        queue.try_put(0).unwrap();
        let put = |queue: Queue<u32>, n| Box::pin(async move { queue.put(n).await });
        let (mut leaver, mut stayer) = (put(queue.clone(), 1), put(queue.clone(), 2));
        assert!(poll(&mut leaver, &count().1).is_pending());
        let (wakes, waker) = count();
        assert!(poll(&mut stayer, &waker).is_pending());
        let gone = thread::spawn(move || drop(leaver));
        assert_eq!(queue.try_get(), Ok(0));
        gone.join().unwrap();
        let mut next = queue.try_get();
        if next == Ok(1) {
            next = queue.try_get();
        }
        assert_eq!(next, Ok(2));
        assert_eq!(wakes.0.load(StdOrdering::Relaxed), 1);
        assert_eq!(poll(&mut stayer, &waker), Poll::Ready(Ok(())));
        assert!(is_at_rest(&queue));
    });
}

/// Nobody waits for ever at a queue that is shut down, and what was taken in comes out.
#[test]
fn a_shutdown_beside_a_put_leaves_no_getter() {
    loom::model(|| {
        let queue = Queue::unbounded();
        let theirs = queue.clone();
        let mut getter = Box::pin(async move { theirs.get().await });
        let (wakes, waker) = count();
        assert!(poll(&mut getter, &waker).is_pending());
        let theirs = queue.clone();
        let closer = thread::spawn(move || theirs.shutdown(false));
        let put = queue.try_put(7);
        closer.join().unwrap();
        assert_eq!(wakes.0.load(StdOrdering::Relaxed), 1);
        let got = poll(&mut getter, &waker);
        match put {
            // Before the end, so it was promised to the getter.
            Ok(()) => assert_eq!(got, Poll::Ready(Ok(7))),
            Err(refused) => {
                assert_eq!((refused.into_item(), got), (7, Poll::Ready(Err(QueueShutDown(())))));
            }
        }
        assert!(is_at_rest(&queue));
    });
}

/// A getter that has to find memory for the item of a putter, beside a shutdown that drops all: nothing is put in afterwards.
#[test]
fn a_shutdown_beside_a_get_that_makes_room_lets_nothing_in() {
    loom::model(|| {
        // Two rooms of the store, full to the last place.
        let queue = Queue::bounded(96);
        for n in 0..96 {
            queue.try_put(n).unwrap();
        }
        let theirs = queue.clone();
        let mut putter = Box::pin(async move { theirs.put(96).await });
        let (wakes, waker) = count();
        assert!(poll(&mut putter, &waker).is_pending());
        let theirs = queue.clone();
        let closer = thread::spawn(move || theirs.shutdown(true));
        let got = queue.try_get();
        closer.join().unwrap();
        assert_eq!(wakes.0.load(StdOrdering::Relaxed), 1);
        assert!(poll(&mut putter, &waker).is_ready());
        assert!(is_at_rest(&queue));
        assert_eq!(queue.statistics().unfinished, usize::from(got.is_ok()));
    });
}
