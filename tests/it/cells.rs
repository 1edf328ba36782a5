//! Task cells: results, destructors, reuse.

use std::{cell::Cell, rc::Rc, time::Duration};

use selkie::{EventLoop, sleep_until, spawn, yield_now};

/// Panics when it is dropped.
#[cfg(panic = "unwind")]
struct Bomb;

#[cfg(panic = "unwind")]
impl Drop for Bomb {
    fn drop(&mut self) {
        panic!("boom");
    }
}

#[cfg(panic = "unwind")]
behaviour! {
    /// Rows: F13.
    async fn a_result_counts_though_the_destructor_of_the_future_panics(t) {
        let log = t.clone();
        EventLoop::current().unwrap().set_exception_handler(Some(Rc::new(move |context| {
            log.log(if context.message().contains("boom") { "reported" } else { "something else" });
        })));
        for eager in [true, false] {
            let bomb = Bomb;
            let mut polled = false;
            // Not an async block, which drops what it holds before it is ready.
            let task = spawn(std::future::poll_fn(move |cx| {
                let _held = &bomb;
                if eager || std::mem::replace(&mut polled, true) {
                    return std::task::Poll::Ready(Box::new(7));
                }
                cx.waker().wake_by_ref();
                std::task::Poll::Pending
            }));
            t.log(format!("{:?}", task.await.map(|value| *value).ok()));
        }
        EventLoop::current().unwrap().set_exception_handler(None);
    } => ["reported", "Some(7)", "reported", "Some(7)"]
}

behaviour! {
    /// Rows: F12.
    async fn cells_are_used_again_after_a_burst_and_an_idle_loop(t) {
        let ended = Rc::new(Cell::new(0));
        let holds = Rc::new(());
        // More than the pages that an idle loop keeps; Miri is slow.
        let many = if cfg!(miri) { 300 } else { 5000 };
        let mut all = 0;
        for burst in [many, 10, many] {
            let tasks: Vec<_> = (0..burst).map(|index: usize| {
                let (ended, holds) = (ended.clone(), holds.clone());
                spawn(async move {
                    yield_now().await;
                    ended.set(ended.get() + 1);
                    drop(holds);
                    index
                })
            }).collect();
            for (index, task) in tasks.into_iter().enumerate() {
                assert_eq!(task.await.unwrap(), index);
            }
            all += burst;
            // Nothing is ready meanwhile: the loop gives back what it does not need.
            selkie::sleep(t.secs(0.1)).await;
        }
        assert_eq!(ended.get(), all);
        t.log(format!("all ended, {} held", Rc::strong_count(&holds) - 1));
    } => ["all ended, 0 held"]
}

behaviour! {
    /// Difference: F20. Equal deadlines fire in the order they were set; asyncio promises none.
    async fn many_timers_that_are_due_at_once_fire_by_deadline_and_then_in_the_order_they_were_set(t) {
        // Far enough that all are set before the first is due, on a busy machine too.
        let start = t.now() + t.secs(if cfg!(miri) { 500.0 } else { 25.0 });
        let many = if cfg!(miri) { 60 } else { 500 };
        let fired = Rc::new(std::cell::RefCell::new(Vec::new()));
        let tasks: Vec<_> = (0..many).map(|index| {
            // In no order, and each deadline several times, within a few ticks.
            let deadline = start + Duration::from_micros(index * 7919 % 100 * 50);
            let fired = fired.clone();
            spawn(async move {
                sleep_until(deadline).await;
                fired.borrow_mut().push((deadline, index));
            })
        }).collect();
        assert!(t.now() < start, "the machine is too slow for this test");
        for task in tasks {
            task.await.unwrap();
        }
        let fired = fired.borrow();
        assert_eq!(fired.len() as u64, many);
        t.log(format!("all fired, sorted: {}", fired.is_sorted()));
    } => ["all fired, sorted: true"]
}
