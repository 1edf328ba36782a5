//! Moments of the host that a task can wait for. They are plain futures: any executor of the thread may poll them.

use std::{
    cell::{Cell, RefCell},
    future::Future,
    pin::Pin,
    rc::{Rc, Weak},
    task::{Context, Poll, Waker},
    time::Duration,
};

use selkie_platform::Unavailable;

use crate::host::{self, Moment};

/// Waits until the page is about to draw, and answers the time of the frame on the loop's clock.
///
/// A hidden page draws nothing: there the wait lasts until the user comes back. All who wait get the same frame.
///
/// # Errors
///
/// [`Unavailable`] where nothing is drawn, as in Node.
pub async fn next_frame() -> Result<Duration, Unavailable> {
    let time = Wait::new(Moment::Frame).await;
    time.map(host::duration).ok_or(Unavailable::new("this host draws no frames: use a timer"))
}

/// Waits until the host has nothing better to do, and answers for how long it expects that to last.
///
/// A host that does not tell, as WebKit and Node, gives a later turn of its own event loop and answers zero.
pub async fn idle() -> Duration {
    Wait::new(Moment::Idle).await.map_or(Duration::ZERO, host::duration)
}

/// Lets the page draw, react and deliver messages: waits for a turn of the host's own event loop.
pub async fn yield_to_page() {
    Wait::new(Moment::Task).await;
}

/// Whether the user can see the page. `true` where there is no page.
pub fn is_visible() -> bool {
    host::visible() != 0
}

/// Waits for a moment, from the first poll on.
struct Wait {
    moment: Moment,
    answer: Option<Rc<Answer>>,
}

#[derive(Default)]
struct Answer {
    value: Cell<Option<f64>>,
    waker: Cell<Option<Waker>>,
}

impl Wait {
    fn new(moment: Moment) -> Self {
        Self { moment, answer: None }
    }
}

impl Future for Wait {
    /// `None` if the host knows no such moment.
    type Output = Option<f64>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<f64>> {
        let moment = self.moment;
        let answer = self.answer.get_or_insert_with(Rc::default);
        if let Some(value) = answer.value.get() {
            return Poll::Ready(Some(value));
        }
        let first = answer.waker.replace(Some(context.waker().clone())).is_none();
        if first && moment == Moment::Frame {
            if !await_frame(answer) {
                return Poll::Ready(None);
            }
        } else if first {
            let kept = Rc::into_raw(answer.clone());
            if !host::ask(moment, fired, kept as usize) {
                // SAFETY: the host refused, so `fired` will not take this reference back.
                drop(unsafe { Rc::from_raw(kept) });
                return Poll::Ready(None);
            }
        }
        Poll::Pending
    }
}

impl Drop for Wait {
    fn drop(&mut self) {
        // The host keeps the answer, in a hidden page for hours. It must not keep the task.
        if let Some(answer) = &self.answer {
            answer.waker.take();
        }
    }
}

extern "C" fn fired(answer: usize, value: f64) {
    // SAFETY: the pointer is from `Rc::into_raw` in `poll`, on this thread, and the host calls once for each.
    let answer = unsafe { Rc::from_raw(answer as *const Answer) };
    answer.tell(value);
}

impl Answer {
    fn tell(&self, value: f64) {
        self.value.set(Some(value));
        // The waker may be anybody's.
        let mut waker = self.waker.take();
        host::guard(&mut || waker.take().into_iter().for_each(Waker::wake));
    }
}

thread_local! {
    /// Who waits for the frame that the host was asked for; `None` if it was not. It is asked once for all: a hidden page draws none for
    /// hours, and whoever gives up and waits again must not leave something there each time.
    static FRAME: RefCell<Option<Vec<Weak<Answer>>>> = const { RefCell::new(None) };
}

/// Whether there will be a frame.
fn await_frame(answer: &Rc<Answer>) -> bool {
    let mut frame = FRAME.take();
    if frame.is_none() && !host::ask(Moment::Frame, drawn, 0) {
        return false;
    }
    let waiting = frame.get_or_insert_default();
    // Instead of growing, as long as that makes enough room.
    if waiting.len() == waiting.capacity() {
        waiting.retain(|other| other.strong_count() > 0);
        waiting.reserve(waiting.len() + 1);
    }
    waiting.push(Rc::downgrade(answer));
    FRAME.set(frame);
    true
}

extern "C" fn drawn(_: usize, time: f64) {
    for answer in FRAME.take().into_iter().flatten() {
        if let Some(answer) = answer.upgrade() {
            answer.tell(time);
        }
    }
}
