//! Generators: both ways, to the end, through each other, with and without a loop.

use futures::FutureExt;
use selkie::{Generator, Step, Yielder, generator, sleep, spawn_lazy, yield_now};

use crate::harness::{OnDrop, test};

/// Gives out the average of what it was sent; an `Err` ends it.
async fn averages(outside: Yielder<f64, Result<f64, &'static str>>) -> Result<u32, &'static str> {
    let (mut sum, mut count) = (0.0, 0);
    let mut average = f64::NAN;
    loop {
        let value: f64 = outside.give(average).await?;
        if value < 0.0 {
            return Ok(count);
        }
        sum += value;
        count += 1;
        average = sum / f64::from(count);
    }
}

/// Rows: F79.
#[test]
fn the_running_average() {
    let mut average = generator(averages);
    assert!(average.prime().yielded().unwrap().is_nan());
    let shown: Vec<_> =
        [10.0, 20.0, 30.0].map(|value| format!("{:.1}", average.send(Ok(value)).yielded().unwrap())).into();
    assert_eq!(shown, ["10.0", "15.0", "20.0"]);
    assert_eq!(average.send(Ok(-1.0)), Step::Returned(Ok(3)));
    assert!(average.is_finished());
}

/// Rows: F79. Errors are values: thrown in as `Err`, given out as the return value.
#[test]
fn an_error_is_thrown_in_and_comes_out() {
    let mut average = generator(averages);
    average.prime();
    average.send(Ok(1.0));
    assert_eq!(average.send(Err("stop")), Step::Returned(Err("stop")));
}

/// Rows: F79. A transparent channel for values, errors and the return value.
#[test]
fn delegation_is_transparent_both_ways() {
    let mut outer = generator(async |outside: Yielder<f64, Result<f64, &'static str>>| {
        let mut counts = Vec::new();
        for _ in 0..2 {
            let mut inner = generator(averages);
            counts.push(outside.delegate(&mut inner).await);
        }
        counts
    });
    assert!(outer.prime().yielded().unwrap().is_nan());
    assert_eq!(outer.send(Ok(4.0)).yielded(), Some(4.0));
    assert_eq!(outer.send(Ok(6.0)).yielded(), Some(5.0));
    // The first ends, and the second is primed.
    assert!(outer.send(Ok(-1.0)).yielded().unwrap().is_nan());
    assert_eq!(outer.send(Ok(7.0)).yielded(), Some(7.0));
    assert_eq!(outer.send(Err("thrown")), Step::Returned(vec![Ok(2), Err("thrown")]));
}

/// Rows: F78. Step by step, outside of a `for`, and the rest in one.
#[test]
fn an_iterator_is_advanced_step_by_step() {
    let mut numbers: Generator<'_, u32> = generator(async |outside| {
        for n in 0..5 {
            outside.give(n).await;
        }
    });
    assert_eq!(numbers.next(), Some(0));
    assert_eq!(numbers.next(), Some(1));
    assert_eq!(numbers.by_ref().collect::<Vec<_>>(), [2, 3, 4]);
    assert_eq!(numbers.next(), None);
    assert_eq!(numbers.next(), None);
}

/// Rows: F79. It may borrow, runs nothing before the first step, and drops what it owns when it is closed.
#[test]
fn closing_drops_what_the_body_owns() {
    let log = std::cell::RefCell::new(Vec::new());
    let mut one = generator(async |outside: Yielder<u8>| {
        log.borrow_mut().push("starts");
        let _owned = OnDrop(|| log.borrow_mut().push("dropped"));
        outside.give(1).await;
        log.borrow_mut().push("never");
    });
    log.borrow_mut().push("made");
    assert_eq!(one.prime(), Step::Yielded(1));
    one.close();
    assert_eq!(*log.borrow(), ["made", "starts", "dropped"]);
}

/// Difference: F79. What cannot work is refused, a delegation to a generator that has begun as well.
#[test]
fn misuse_of_a_generator_panics() {
    if cfg!(panic = "abort") {
        return;
    }
    fn panics<R>(f: impl FnOnce() -> R) -> bool {
        std::panic::catch_unwind(std::panic::AssertUnwindSafe(f)).is_err()
    }
    let mut unprimed = generator(averages);
    assert!(panics(|| unprimed.send(Ok(1.0))));
    unprimed.prime();
    assert!(panics(|| unprimed.prime()));
    unprimed.send(Err("end")).returned().unwrap().unwrap_err();
    assert!(panics(|| unprimed.send(Ok(1.0))));
    let mut awaits = generator(async |outside: Yielder<u8>| {
        std::future::pending::<()>().await;
        outside.give(1).await;
    });
    assert!(panics(|| awaits.prime()));
    // Nothing could be sent to one that has begun.
    let mut begun = generator(averages);
    begun.prime();
    let mut around = generator(async |outside: Yielder<f64, Result<f64, &'static str>>| {
        _ = outside.delegate(&mut begun).await;
    });
    assert!(panics(|| around.prime()));
}

/// Rows: F79. As an exception of its body does.
#[test]
fn a_panic_of_its_body_ends_a_generator() {
    if cfg!(panic = "abort") {
        return;
    }
    let mut falls = generator(async |outside: Yielder<u8>| {
        outside.give(1).await;
        panic!("in the body (expected by a test)");
    });
    assert_eq!(falls.next(), Some(1));
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| falls.next())).unwrap_err();
    assert!(falls.is_finished());
    assert_eq!(falls.next(), None);
}

behaviour! {
    /// Difference: F80. A generator suspends to whoever drives it and not to the loop, so the task goes on meanwhile.
    async fn giving_a_value_out_does_not_suspend_the_task(t) {
        let inner = t.clone();
        let other = spawn_lazy(async move { inner.log("other") });
        let inner = t.clone();
        let mut one = generator(async move |outside: Yielder<u8, u8>| {
            let sent = outside.give(1).await;
            inner.log(format!("sent {sent}"));
            sent
        });
        assert_eq!(one.prime_async().await, Step::Yielded(1));
        assert_eq!(one.send_async(2).await, Step::Returned(2));
        t.log("task");
        other.await.unwrap();
    } => ["sent 2", "task", "other"]
}

behaviour! {
    /// Rows: F79. A step that is given up leaves the body where it is; the next one goes on, and what that sends is not seen.
    async fn a_step_that_is_given_up_is_gone_on_with(t) {
        let mut sums = generator(async move |outside: Yielder<u8, u8>| {
            yield_now().await;
            let sent = outside.give(1).await;
            yield_now().await;
            sent + outside.give(2).await
        });
        assert_eq!(sums.prime_async().now_or_never(), None);
        assert_eq!(sums.send_async(100).await, Step::Yielded(1));
        assert_eq!(sums.send_async(10).now_or_never(), None);
        assert_eq!(sums.send_async(100).await, Step::Yielded(2));
        assert_eq!(sums.send_async(3).await, Step::Returned(13));
        t.log("done");
    } => ["done"]
}

behaviour! {
    /// Rows: F79, F80. A body that awaits the loop is an async generator, and a stream.
    async fn an_async_generator_is_a_stream(t) {
        let inner = t.clone();
        let ticks = generator(async move |outside: Yielder<u32>| {
            for n in 0..3 {
                sleep(inner.secs(1.0)).await;
                yield_now().await;
                outside.give(n).await;
            }
        });
        let start = t.now();
        assert_eq!(futures::StreamExt::collect::<Vec<_>>(ticks.into_stream()).await, [0, 1, 2]);
        t.assert_elapsed(start, 3.0);
    }
}
