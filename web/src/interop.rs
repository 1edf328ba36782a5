//! Moments of the host that a task can wait for. They are plain futures: any executor of the thread may poll them.

use std::{
    cell::Cell,
    future::Future,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, Waker},
    time::Duration,
};

use selkie_platform::Unavailable;

use crate::host::{self, Moment};

/// Waits until the page is about to draw, and answers the time of the frame on the loop's clock.
///
/// A hidden page draws nothing: there the wait lasts until the user comes back.
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
        if first {
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
    answer.value.set(Some(value));
    // The waker may be anybody's.
    let mut waker = answer.waker.take();
    host::guard(&mut || waker.take().into_iter().for_each(Waker::wake));
}
