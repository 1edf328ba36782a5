//! W4: two tasks that hand a value to and fro.

use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    future::{Future, IntoFuture, poll_fn},
    rc::Rc,
    task::{Poll, Waker},
    time::Instant,
};

use crate::{effort::Effort, subject::Subject};

/// A way from one task to another.
pub trait Channel: 'static {
    type Sender: 'static;
    type Receiver: 'static;

    fn new() -> (Self::Sender, Self::Receiver);
    fn send(sender: &mut Self::Sender, value: usize) -> impl Future<Output = ()>;
    fn receive(receiver: &mut Self::Receiver) -> impl Future<Output = usize>;
}

/// The same for all: a queue and a waker, on one thread, of nothing but the standard library.
pub struct Neutral;

#[derive(Default)]
pub struct Shared {
    values: RefCell<VecDeque<usize>>,
    receiver: Cell<Option<Waker>>,
}

impl Channel for Neutral {
    type Sender = Rc<Shared>;
    type Receiver = Rc<Shared>;

    fn new() -> (Self::Sender, Self::Receiver) {
        let shared = Rc::new(Shared::default());
        (shared.clone(), shared)
    }

    #[inline]
    async fn send(sender: &mut Self::Sender, value: usize) {
        sender.values.borrow_mut().push_back(value);
        if let Some(waker) = sender.receiver.take() {
            waker.wake();
        }
    }

    #[inline]
    fn receive(receiver: &mut Self::Receiver) -> impl Future<Output = usize> {
        poll_fn(|cx| {
            if let Some(value) = receiver.values.borrow_mut().pop_front() {
                return Poll::Ready(value);
            }
            receiver.receiver.set(Some(cx.waker().clone()));
            Poll::Pending
        })
    }
}

pub struct TokioMpsc;

impl Channel for TokioMpsc {
    type Sender = tokio::sync::mpsc::Sender<usize>;
    type Receiver = tokio::sync::mpsc::Receiver<usize>;

    fn new() -> (Self::Sender, Self::Receiver) {
        tokio::sync::mpsc::channel(1)
    }

    async fn send(sender: &mut Self::Sender, value: usize) {
        sender.send(value).await.expect("the other task lives");
    }

    async fn receive(receiver: &mut Self::Receiver) -> usize {
        receiver.recv().await.expect("the other task lives")
    }
}

pub struct AsyncChannel;

impl Channel for AsyncChannel {
    type Sender = async_channel::Sender<usize>;
    type Receiver = async_channel::Receiver<usize>;

    fn new() -> (Self::Sender, Self::Receiver) {
        async_channel::bounded(1)
    }

    async fn send(sender: &mut Self::Sender, value: usize) {
        sender.send(value).await.expect("the other task lives");
    }

    async fn receive(receiver: &mut Self::Receiver) -> usize {
        receiver.recv().await.expect("the other task lives")
    }
}

pub struct FuturesMpsc;

impl Channel for FuturesMpsc {
    type Sender = futures::channel::mpsc::Sender<usize>;
    type Receiver = futures::channel::mpsc::Receiver<usize>;

    fn new() -> (Self::Sender, Self::Receiver) {
        futures::channel::mpsc::channel(1)
    }

    async fn send(sender: &mut Self::Sender, value: usize) {
        use futures::SinkExt;
        sender.send(value).await.expect("the other task lives");
    }

    async fn receive(receiver: &mut Self::Receiver) -> usize {
        use futures::StreamExt;
        receiver.next().await.expect("the other task lives")
    }
}

/// `n` round trips between the measuring task and another; nanoseconds each.
pub fn ping_pong<S: Subject, C: Channel>(n: usize, effort: Effort) -> f64 {
    S::run(move |spawner| async move {
        let (mut ping, mut pinged) = C::new();
        let (mut pong, mut ponged) = C::new();
        let task = S::spawn(&spawner, async move {
            loop {
                let value = C::receive(&mut pinged).await;
                C::send(&mut pong, value).await;
                if value == usize::MAX {
                    break;
                }
            }
        });
        let start = Instant::now();
        let mut trips = 0;
        let result = loop {
            for value in 0..n {
                C::send(&mut ping, value).await;
                assert_eq!(C::receive(&mut ponged).await, value);
            }
            trips += n;
            let elapsed = start.elapsed();
            if effort.is_spent(elapsed, trips / n) {
                break elapsed.as_nanos() as f64 / trips as f64;
            }
        };
        C::send(&mut ping, usize::MAX).await;
        C::receive(&mut ponged).await;
        let _ = task.into_future().await;
        result
    })
}
