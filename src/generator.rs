//! Functions that stop in the middle, give a value out and take one in. Needs no loop.

use std::{
    cell::Cell,
    fmt,
    future::Future,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, Waker, ready},
};

use futures_core::Stream;

/// What passes between a generator's body and whoever drives it.
struct Exchange<Y, S> {
    out: Cell<Option<Y>>,
    sent: Cell<Option<S>>,
}

/// Makes a generator out of an async closure, which gets a [`Yielder`]. Nothing runs before the first step.
///
/// Mirrors Python's generator functions, with [`send`](Generator::send), return values and
/// [`yield from`](Yielder::delegate). It needs no loop and no allocation per step.
///
/// # Examples
///
/// A running average:
///
/// ```
/// use selkie::{Yielder, generator};
///
/// let mut average = generator(async |outside: Yielder<f64, f64>| {
///     let (mut sum, mut count, mut average) = (0.0, 0.0, 0.0);
///     while count < 3.0 {
///         sum += outside.give(average).await;
///         count += 1.0;
///         average = sum / count;
///     }
///     average
/// });
/// average.prime();
/// assert_eq!(average.send(10.0).yielded(), Some(10.0));
/// assert_eq!(average.send(20.0).yielded(), Some(15.0));
/// assert_eq!(average.send(30.0).returned(), Some(20.0));
/// ```
///
/// One that takes nothing in is an iterator:
///
/// ```
/// let mut squares = selkie::generator(async |outside: selkie::Yielder<u32>| {
///     for n in 1.. {
///         outside.give(n * n).await;
///     }
/// });
/// assert_eq!(squares.next(), Some(1));
/// assert_eq!(squares.take(2).collect::<Vec<_>>(), [4, 9]);
/// ```
#[doc(alias = "coroutine")]
pub fn generator<'a, Y, S, R, F, Fut>(body: F) -> Generator<'a, Y, S, R>
where
    F: FnOnce(Yielder<Y, S>) -> Fut,
    Fut: Future<Output = R> + 'a,
{
    let exchange = Rc::new(Exchange { out: Cell::new(None), sent: Cell::new(None) });
    let body = body(Yielder { exchange: exchange.clone() });
    Generator { exchange, body: Some(Box::pin(body)), primed: false }
}

/// A function that stops in the middle; from [`generator`].
///
/// It is driven in one of three ways: as an [`Iterator`] or a [`Stream`](Self::into_stream) if it takes nothing in, by [`prime`](Self::prime) and
/// [`send`](Self::send), or by [`prime_async`](Self::prime_async) and [`send_async`](Self::send_async) if its body awaits other
/// things than its yielder.
///
/// **Errors are values.** A generator that takes `Result`s can be sent an `Err`, which is Python's `throw`; one that returns a
/// `Result` gives its errors out. Dropping it is Python's `close`: what its body owns is dropped where it stopped.
#[must_use = "nothing runs before the first step"]
pub struct Generator<'a, Y, S = (), R = ()> {
    exchange: Rc<Exchange<Y, S>>,
    /// `None` once it has ended.
    body: Option<Pin<Box<dyn Future<Output = R> + 'a>>>,
    primed: bool,
}

/// Where a [`Generator`] has got to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step<Y, R = ()> {
    /// It gave a value out and has stopped there.
    Yielded(Y),
    /// It has ended. Mirrors `StopIteration.value`.
    Returned(R),
}

impl<Y, R> Step<Y, R> {
    /// The value that was given out.
    pub fn yielded(self) -> Option<Y> {
        match self {
            Self::Yielded(value) => Some(value),
            Self::Returned(_) => None,
        }
    }

    /// The value at the end.
    pub fn returned(self) -> Option<R> {
        match self {
            Self::Yielded(_) => None,
            Self::Returned(value) => Some(value),
        }
    }
}

impl<Y, S, R> Generator<'_, Y, S, R> {
    /// Runs up to the first value. Mirrors `next(generator)` before the first `send`.
    ///
    /// # Panics
    ///
    /// If it was primed before, or if the body awaits something else: see [`prime_async`](Self::prime_async).
    #[track_caller]
    pub fn prime(&mut self) -> Step<Y, R> {
        self.check_fresh();
        self.step()
    }

    /// Sends a value in, and runs up to the next value that comes out. Mirrors `generator.send`.
    ///
    /// # Panics
    ///
    /// If it was not primed (nothing waits for the value, where Python raises `TypeError`), if it has ended, or if the
    /// body awaits something else: see [`send_async`](Self::send_async).
    #[track_caller]
    pub fn send(&mut self, value: S) -> Step<Y, R> {
        self.hand_in(value);
        self.step()
    }

    /// As [`prime`](Self::prime), for a body that also awaits other things.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future, once it was polled, leaves the body where it is. It is primed then: [`send_async`](Self::send_async) goes
    /// on to its first value, and what that sends is not seen.
    ///
    /// # Panics
    ///
    /// If it was primed before.
    pub async fn prime_async(&mut self) -> Step<Y, R> {
        self.check_fresh();
        std::future::poll_fn(|cx| self.poll_step(cx)).await
    }

    /// As [`send`](Self::send), for a body that also awaits other things.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves the body where it is; it goes on with the next step, whose value it does not see.
    ///
    /// # Panics
    ///
    /// If it was not primed, or has ended.
    pub async fn send_async(&mut self, value: S) -> Step<Y, R> {
        self.hand_in(value);
        std::future::poll_fn(|cx| self.poll_step(cx)).await
    }

    /// Whether it has returned, or panicked.
    pub fn is_finished(&self) -> bool {
        self.body.is_none()
    }

    /// Ends it where it stands. The same as dropping, said aloud.
    pub fn close(self) {}

    #[track_caller]
    fn check_fresh(&self) {
        assert!(!self.primed, "a generator is primed once: send it a value");
    }

    #[track_caller]
    fn hand_in(&mut self, value: S) {
        assert!(self.primed, "nothing waits for the value yet: `prime` the generator first");
        assert!(self.body.is_some(), "the generator has ended: ask `is_finished` first");
        self.exchange.sent.set(Some(value));
    }

    #[track_caller]
    fn step(&mut self) -> Step<Y, R> {
        match self.poll_step(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(step) => step,
            Poll::Pending => panic!("the generator awaits something outside: drive it by `send_async`"),
        }
    }

    fn poll_step(&mut self, cx: &mut Context<'_>) -> Poll<Step<Y, R>> {
        self.primed = true;
        // Put back when it has stopped somewhere: a panic ends it, as an exception does in Python.
        let mut body = self.body.take().expect("checked before each step");
        if let Poll::Ready(value) = body.as_mut().poll(cx) {
            return Poll::Ready(Step::Returned(value));
        }
        self.body = Some(body);
        match self.exchange.out.take() {
            Some(value) => Poll::Ready(Step::Yielded(value)),
            None => Poll::Pending,
        }
    }
}

impl<Y, R> Generator<'_, Y, (), R> {
    /// Gets ready for another step, unless the end was reached.
    fn advance(&mut self) -> bool {
        if self.primed {
            self.exchange.sent.set(Some(()));
        }
        self.body.is_some()
    }
}

/// Ends when the generator does; what it returns is dropped.
impl<Y, R> Iterator for Generator<'_, Y, (), R> {
    type Item = Y;

    fn next(&mut self) -> Option<Y> {
        if self.advance() { self.step().yielded() } else { None }
    }
}

impl<Y, R> std::iter::FusedIterator for Generator<'_, Y, (), R> {}

impl<'a, Y, R> Generator<'a, Y, (), R> {
    /// The values as a [`Stream`], for a body that also awaits other things: an async generator.
    pub fn into_stream(self) -> GeneratorStream<'a, Y, R> {
        GeneratorStream { generator: self }
    }
}

/// The values of an async generator; from [`Generator::into_stream`].
#[must_use = "streams do nothing unless polled"]
#[derive(Debug)]
pub struct GeneratorStream<'a, Y, R = ()> {
    generator: Generator<'a, Y, (), R>,
}

impl<Y, R> Stream for GeneratorStream<'_, Y, R> {
    type Item = Y;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Y>> {
        // Asked again while the body awaits something else, this leaves a value that `give` throws away.
        if !self.generator.advance() {
            return Poll::Ready(None);
        }
        Poll::Ready(ready!(self.generator.poll_step(cx)).yielded())
    }
}

impl<Y, S, R> fmt::Debug for Generator<'_, Y, S, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Generator")
            .field("primed", &self.primed)
            .field("finished", &self.is_finished())
            .finish()
    }
}

/// The way out of a [`Generator`]'s body.
pub struct Yielder<Y, S = ()> {
    exchange: Rc<Exchange<Y, S>>,
}

impl<Y, S> Yielder<Y, S> {
    /// Gives a value out and stops; goes on with the value that is sent in. Mirrors `yield`.
    ///
    /// To be awaited in the generator's body, one at a time.
    #[doc(alias = "yield")]
    pub async fn give(&self, value: Y) -> S {
        self.exchange.sent.set(None);
        self.exchange.out.set(Some(value));
        // Nobody is woken: the next step polls.
        std::future::poll_fn(|_| match self.exchange.sent.take() {
            Some(sent) => Poll::Ready(sent),
            None => Poll::Pending,
        })
        .await
    }

    /// Lets `inner` give its values out and take in what is sent, until it returns. Mirrors `yield from`.
    ///
    /// What is sent in goes to it as it is, an `Err` too.
    ///
    /// # Panics
    ///
    /// If `inner` has begun. **Difference**: Python sends such a one `None`, and takes one that has ended for one without values.
    #[doc(alias = "yield from")]
    pub async fn delegate<R>(&self, inner: &mut Generator<'_, Y, S, R>) -> R {
        let mut step = inner.prime_async().await;
        loop {
            match step {
                Step::Yielded(value) => {
                    let sent = self.give(value).await;
                    step = inner.send_async(sent).await;
                }
                Step::Returned(value) => return value,
            }
        }
    }
}

impl<Y, S> fmt::Debug for Yielder<Y, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Yielder")
    }
}
