//! Ticks. asyncio has none; the rows are those of the sleep below them.

use std::{rc::Rc, time::Duration};

use futures::StreamExt;
use selkie::{MissedTicks, interval, interval_at, sleep, spawn, testing::Sim, yield_now};

use crate::harness::test;

behaviour! {
    /// Rows: F20.
    async fn ticks_are_multiples_of_the_period_from_the_start(t) {
        let start = t.now();
        let period = t.secs(1.0);
        let mut ticks = interval(period);
        let first = ticks.tick().await;
        assert!(first >= start + period);
        assert!(t.now() >= first);
        assert_eq!(ticks.tick().await - first, period);
        assert_eq!(ticks.tick().await - first, period * 2);
        t.assert_elapsed(start, 3.0);
    }
}

behaviour! {
    /// Rows: F20.
    async fn an_interval_is_a_stream(t) {
        let start = t.now();
        let times: Vec<_> = interval_at(start, t.secs(1.0)).take(3).collect().await;
        assert_eq!(times, [start, start + t.secs(1.0), start + t.secs(2.0)]);
    }
}

/// The due times of four ticks, in periods from the start, when nobody waited for the first three and a half.
async fn late_ticks(t: &crate::harness::T, missed: MissedTicks) -> Vec<f64> {
    let start = t.now();
    let period = t.secs(1.0);
    let mut ticks = interval_at(start + period, period).missed_ticks(missed);
    sleep(t.secs(3.5)).await;
    let mut due = Vec::new();
    for _ in 0..4 {
        let time = ticks.tick().await;
        assert!(t.now() >= time, "a tick is never early");
        due.push((time - start).as_secs_f64() / period.as_secs_f64());
    }
    due
}

behaviour! {
    /// Rows: F20, X22.
    async fn missed_ticks_come_in_a_burst(t) {
        assert_eq!(late_ticks(&t, MissedTicks::Burst).await, [1.0, 2.0, 3.0, 4.0]);
    }
}

behaviour! {
    /// Rows: F20, X22.
    async fn missed_ticks_delay_those_that_follow(t) {
        let due = late_ticks(&t, MissedTicks::Delay).await;
        if t.is_sim() {
            assert_eq!(due, [1.0, 4.5, 5.5, 6.5]);
        } else {
            assert!(due[1] >= 4.5 && due[2] >= due[1] + 1.0, "{due:?}");
        }
    }
}

behaviour! {
    /// Rows: F20, X22.
    async fn missed_ticks_are_skipped(t) {
        let due = late_ticks(&t, MissedTicks::Skip).await;
        if t.is_sim() {
            assert_eq!(due, [1.0, 4.0, 5.0, 6.0]);
        } else {
            // The host may be late again; what stays is the phase.
            assert!(due[1] >= 4.0 && due.iter().all(|due| (due - due.round()).abs() < 1e-6), "{due:?}");
        }
    }
}

behaviour! {
    /// Rows: F20.
    /// Answers the complaint U16.
    async fn a_burst_gives_others_a_turn_between_two_ticks(t) {
        let inner = t.clone();
        let other = spawn(async move {
            for turn in 0..2 {
                yield_now().await;
                inner.log(format!("other {turn}"));
            }
        });
        let now = t.now();
        let period = Duration::from_nanos(1);
        let mut ticks = interval_at(now.saturating_sub(period * 5), period);
        for _ in 0..2 {
            ticks.tick().await;
            t.log("tick");
        }
        other.await.unwrap();
    } => ["other 0", "tick", "other 1", "tick"]
}

behaviour! {
    /// Rows: F20, X01.
    async fn a_tick_that_is_not_waited_for_to_the_end_is_not_lost(t) {
        // Long, beside the timeout, for hosts that are busy.
        let mut ticks = interval(t.secs(20.0));
        let first = ticks.next_tick();
        let waits = selkie::timeout(t.secs(0.25), ticks.tick()).await;
        assert!(waits.is_err());
        assert_eq!(Some(ticks.tick().await), first);
        ticks.reset();
        assert!(ticks.next_tick().unwrap() >= t.now() + t.secs(10.0));
        assert_eq!(ticks.period(), t.secs(20.0));
    }
}

behaviour! {
    /// Rows: F20.
    async fn a_period_of_zero_is_a_millisecond(t) {
        let start = t.now();
        let mut ticks = interval(Duration::ZERO);
        for n in 1..=3 {
            ticks.tick().await;
            assert!(t.now() - start >= Duration::from_millis(n));
        }
        assert_eq!(ticks.period(), Duration::from_millis(1));
    }
}

/// Rows: F20, X22. What was due while another task of the same round held up the loop, too.
#[test]
fn ticks_that_a_poll_just_before_has_held_up_are_missed_ones() {
    let ms = Duration::from_millis;
    let run = |missed| {
        let sim = Rc::new(Sim::new());
        let clock = sim.clone();
        sim.run(async move {
            let blocks = clock.clone();
            let other = spawn(async move {
                sleep(ms(10)).await;
                blocks.advance(ms(95));
            });
            let mut ticks = interval(ms(10)).missed_ticks(missed);
            let mut seen = Vec::new();
            for _ in 0..3 {
                seen.push((ticks.tick().await, clock.elapsed()));
            }
            other.await.unwrap();
            seen
        })
    };
    let delayed = [(ms(10), ms(105)), (ms(115), ms(115)), (ms(125), ms(125))];
    assert_eq!(run(MissedTicks::Delay), delayed);
    let skipped = [(ms(10), ms(105)), (ms(110), ms(110)), (ms(120), ms(120))];
    assert_eq!(run(MissedTicks::Skip), skipped);
}
