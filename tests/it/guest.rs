//! Guest mode: a loop that somebody else drives.

#![allow(clippy::disallowed_types, reason = "the test's own host has a lock")]

use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Wake, Waker},
    time::Duration,
};

use futures::{FutureExt, executor::LocalPool};
use selkie::{
    EventLoop, Next, RunError, Task, interval, sleep, sleep_until, spawn, testing::ManualClock, yield_now,
};

use crate::{harness::OnDrop, test};

/// A guest, and how often it has asked for a turn.
fn counted() -> (EventLoop, Arc<AtomicUsize>) {
    let pends = Arc::new(AtomicUsize::new(0));
    let counter = pends.clone();
    let guest = EventLoop::guest(move || {
        counter.fetch_add(1, Ordering::Relaxed);
    });
    (guest, pends)
}

#[test]
/// Rows: X38.
fn a_guest_runs_by_turns_and_names_its_next_deadline() {
    let (guest, pends) = counted();
    assert_eq!(guest.turn().unwrap(), Next::Idle);
    let log = Rc::new(RefCell::new(Vec::new()));
    let inner = log.clone();
    let task = guest
        .spawn(async move {
            inner.borrow_mut().push("first");
            yield_now().await;
            inner.borrow_mut().push("second");
            sleep(Duration::from_secs(3600)).await;
        })
        .unwrap();
    assert_eq!(*log.borrow(), ["first"], "between the turns of a guest a spawn is eager");
    assert!(pends.load(Ordering::Relaxed) > 0, "the host is asked for a turn");
    let next = guest.turn().unwrap();
    assert_eq!(*log.borrow(), ["first", "second"]);
    assert!(matches!(next, Next::At(time) if time > guest.time()), "{next:?}");
    task.cancel();
    assert_eq!(guest.turn().unwrap(), Next::Idle);
    assert!(task.is_cancelled());
}

#[test]
/// Rows: X38.
fn a_task_that_leaves_a_turn_nothing_to_do_asks_for_none() {
    let (guest, pends) = counted();
    let turn = || {
        while guest.turn().unwrap() == Next::Now {}
        pends.swap(0, Ordering::Relaxed)
    };
    turn();
    let (resolver, deferred) = selkie::Deferred::<(), ()>::new();
    let waits = guest.spawn(async move { deferred.await.is_ok() }).unwrap();
    drop(guest.spawn(async {}).unwrap());
    assert_eq!(turn(), 0, "one waits for what comes from outside, and one has ended");
    // Each of these leaves something to do.
    let sleeps = guest.spawn(sleep(Duration::from_secs(3600))).unwrap();
    assert!(turn() > 0, "a timer to be armed");
    let later = guest.spawn(sleep(Duration::from_secs(7200))).unwrap();
    assert_eq!(turn(), 0, "the host knows of an earlier one");
    assert!(sleeps.cancel() && later.cancel());
    turn();
    guest.spawn(async { spawn(yield_now()).detach() }).unwrap().detach();
    assert!(turn() > 0, "a task that is ready");
    resolver.set_result(()).unwrap();
    assert!(turn() > 0, "a wake");
    assert!(waits.try_into_result().unwrap().unwrap());
    let stops = guest.clone();
    guest.spawn(async move { stops.stop() }).unwrap().detach();
    assert!(turn() > 0, "a stop");
}

#[test]
/// Rows: X38, F03.
fn a_guest_that_is_stopped_says_done_and_goes_on() {
    let guest = EventLoop::guest(|| ());
    guest.stop();
    assert_eq!(guest.turn().unwrap(), Next::Done);
    assert_eq!(guest.turn().unwrap(), Next::Idle);
    assert!(matches!(guest.run_forever(), Err(RunError::WouldBlock)));
    guest.close().unwrap();
    assert!(matches!(guest.turn(), Err(RunError::Closed)));
}

#[test]
/// Rows: X38.
fn a_turn_inside_a_turn_is_refused() {
    let guest = EventLoop::guest(|| ());
    let inner = guest.clone();
    let task = guest.spawn(async move { matches!(inner.turn(), Err(RunError::Nested)) }).unwrap();
    guest.turn().unwrap();
    assert!(task.result().unwrap().unwrap());
}

#[test]
/// Rows: X38. A window system in small: one queue of events, turns as events among others.
fn a_window_loop_drives_a_guest_by_its_own_events() {
    #[derive(Clone, Copy)]
    enum Event {
        Turn,
        Key(u32),
    }
    let queue: Arc<std::sync::Mutex<VecDeque<Event>>> = Arc::default();
    let pend = queue.clone();
    let guest = EventLoop::guest(move || pend.lock().unwrap().push_back(Event::Turn));
    let keys = Rc::new(Cell::new(0));
    let seen = keys.clone();
    let task = guest
        .spawn(async move {
            while seen.get() < 6 {
                yield_now().await;
            }
            seen.get()
        })
        .unwrap();
    (1..=3).for_each(|key| queue.lock().unwrap().push_back(Event::Key(key)));
    while !task.is_finished() {
        let event = queue.lock().unwrap().pop_front();
        match event {
            Some(Event::Turn) => {
                if guest.turn().unwrap() == Next::Now {
                    queue.lock().unwrap().push_back(Event::Turn);
                }
            }
            Some(Event::Key(key)) => keys.set(keys.get() + key),
            None => panic!("the guest asked for no turn and is not done"),
        }
    }
    assert_eq!(task.try_into_result().unwrap().unwrap(), 6);
}

#[test]
/// Rows: X38.
fn a_guest_is_a_future_of_any_executor() {
    let mut pool = LocalPool::new();
    let guest = selkie::guest(|_| std::future::ready(()), async {
        let child = spawn(async {
            sleep(Duration::from_millis(3)).await;
            4
        });
        child.await.unwrap() + 1
    });
    assert_eq!(pool.run_until(guest).unwrap(), 5);
}

#[test]
/// Rows: X38. Its loop may be closed by somebody else: then it has an error, and no more to give.
fn a_guest_whose_loop_was_closed_ends_with_an_error() {
    let event_loop = Rc::new(RefCell::new(None));
    let slot = event_loop.clone();
    let mut guest = selkie::guest(|_| std::future::ready(()), async move {
        *slot.borrow_mut() = EventLoop::current();
        std::future::pending::<()>().await;
    });
    assert!((&mut guest).now_or_never().is_none());
    event_loop.take().unwrap().close().unwrap();
    assert!((&mut guest).now_or_never().unwrap().unwrap_err().is_lost());
}

#[test]
/// Rows: X38.
fn a_guest_goes_on_when_a_task_has_stopped_its_loop() {
    let guest = selkie::guest(|_| std::future::ready(()), async {
        EventLoop::current().unwrap().stop();
        yield_now().await;
        7
    });
    assert_eq!(LocalPool::new().run_until(guest).unwrap(), 7);
}

#[test]
/// Rows: X38. One timer of the host at a time, for the next deadline, and none where there is none.
fn a_guest_has_a_timer_of_its_host_for_its_next_deadline() {
    // Their lengths in minutes, and how many are over.
    let timers = Rc::new(RefCell::new((Vec::new(), 0)));
    let (made, begun) = (timers.clone(), Rc::new(RefCell::new(None)));
    let host_sleep = move |length: Duration| {
        made.borrow_mut().0.push((length.as_secs_f64() / 60.0).round());
        let gone = made.clone();
        let goes = OnDrop(move || gone.borrow_mut().1 += 1);
        async move {
            let _goes = goes;
            std::future::pending().await
        }
    };
    let slot = begun.clone();
    let mut guest = selkie::guest(host_sleep, async move {
        let long = spawn(sleep(Duration::from_secs(6000)));
        *slot.borrow_mut() = Some((EventLoop::current().unwrap(), long));
        std::future::pending::<()>().await;
    });
    let mut poll = || assert!((&mut guest).now_or_never().is_none());
    (0..5).for_each(|_| poll());
    assert_eq!(*timers.borrow(), (vec![100.0], 0), "the one that there is serves on");
    let (event_loop, long) = begun.take().unwrap();
    let short = event_loop.spawn(sleep(Duration::from_secs(600))).unwrap();
    (0..5).for_each(|_| poll());
    assert_eq!(*timers.borrow(), (vec![100.0, 10.0], 1), "a sooner one takes its place");
    short.cancel();
    long.cancel();
    (0..5).for_each(|_| poll());
    assert_eq!(timers.borrow().1, 2, "nobody sleeps");
}

#[test]
/// Rows: X38. What polled it may own what it has left, and its tasks the loop.
fn a_guest_that_goes_forgets_who_has_polled_it() {
    struct Host;
    impl Wake for Host {
        fn wake(self: Arc<Self>) {}
    }
    let handle = Rc::new(RefCell::new(None));
    let slot = handle.clone();
    let gone = Rc::new(Cell::new(false));
    let seen = gone.clone();
    let goes_with_it = OnDrop(move || seen.set(true));
    let mut guest = selkie::guest(|_| std::future::pending(), async move {
        let event_loop = EventLoop::current().unwrap();
        *slot.borrow_mut() = Some(event_loop.handle());
        std::future::pending::<()>().await;
        drop((event_loop, goes_with_it));
    });
    let host = Arc::new(Host);
    let waker = Waker::from(host.clone());
    assert!(guest.poll_unpin(&mut Context::from_waker(&waker)).is_pending());
    drop(waker);
    drop(guest);
    assert!(gone.get());
    assert_eq!(Arc::strong_count(&host), 1);
    assert!(handle.take().unwrap().submit(async || ()).is_err());
}

#[cfg(not(all(target_family = "wasm", target_os = "unknown")))]
mod in_tokio {
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::{TcpListener, TcpStream},
    };

    use super::*;

    #[test]
    /// Rows: X38. Sockets of tokio and tasks of selkie, on one thread.
    fn tokio_sockets_work_in_the_tasks_of_a_guest() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let here = std::thread::current().id();
        let echoed = runtime.block_on(selkie::guest(tokio::time::sleep, async move {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = listener.local_addr().unwrap();
            let server = spawn(async move {
                assert_eq!(std::thread::current().id(), here);
                let (mut socket, _) = listener.accept().await.unwrap();
                let mut buffer = [0; 4];
                socket.read_exact(&mut buffer).await.unwrap();
                sleep(Duration::from_millis(2)).await;
                socket.write_all(&buffer).await.unwrap();
            });
            let mut socket = TcpStream::connect(address).await.unwrap();
            socket.write_all(b"ping").await.unwrap();
            let mut buffer = [0; 4];
            socket.read_exact(&mut buffer).await.unwrap();
            server.await.unwrap();
            buffer
        }));
        assert_eq!(&echoed.unwrap(), b"ping");
    }

    #[test]
    /// Rows: X38.
    fn tasks_of_tokio_run_beside_a_busy_guest() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let set = tokio::task::LocalSet::new();
        let ticks = Rc::new(Cell::new(0));
        let ticking = ticks.clone();
        set.spawn_local(async move {
            loop {
                ticking.set(ticking.get() + 1);
                tokio::task::yield_now().await;
            }
        });
        set.block_on(
            &runtime,
            selkie::guest(tokio::time::sleep, async {
                for _ in 0..100 {
                    yield_now().await;
                }
            }),
        )
        .unwrap();
        assert!(ticks.get() >= 50, "{}", ticks.get());
    }
}

#[test]
/// Rows: X38.
fn a_guest_on_a_clock_that_is_set_by_hand_keeps_exact_times() {
    let clock = ManualClock::new();
    let guest = clock.guest(None, || ());
    let log = Rc::new(RefCell::new(Vec::new()));
    for millis in [20, 10, 10] {
        let (inner, time) = (log.clone(), clock.clone());
        let task = guest.spawn(async move {
            sleep(Duration::from_millis(millis)).await;
            inner.borrow_mut().push((millis, time.now()));
        });
        task.unwrap().detach();
    }
    while let Next::At(time) = guest.turn().unwrap() {
        clock.set(time);
    }
    let millis = Duration::from_millis;
    assert_eq!(*log.borrow(), [(10, millis(10)), (10, millis(10)), (20, millis(20))]);
    clock.set(millis(5));
    assert_eq!(guest.time(), millis(20), "the clock never goes back");
}

#[test]
/// Rows: F20, X38. On a clock that was set to its end as well.
fn never_does_not_come() {
    let clock = ManualClock::new();
    let guest = clock.guest(None, || ());
    clock.set(Duration::MAX);
    let sleeps = guest.spawn(sleep(Duration::MAX)).unwrap();
    let ticks = guest.spawn(async { interval(Duration::MAX).tick().await }).unwrap();
    for _ in 0..3 {
        assert_eq!(guest.turn().unwrap(), Next::Idle);
    }
    assert!(!sleeps.is_finished() && !ticks.is_finished());
    sleeps.cancel();
    ticks.cancel();
    while guest.turn().unwrap() == Next::Now {}
}

#[test]
/// Rows: F20, X38. Nor if the clock had come to its end before there was a loop.
fn never_does_not_come_to_a_loop_that_is_made_at_the_end_of_time() {
    let clock = ManualClock::new();
    clock.set(Duration::MAX);
    let guest = clock.guest(None, || ());
    let sleeps = guest.spawn(sleep_until(Duration::MAX)).unwrap();
    for _ in 0..3 {
        assert_eq!(guest.turn().unwrap(), Next::Idle);
    }
    assert!(sleeps.cancel());
    while guest.turn().unwrap() == Next::Now {}
}

#[test]
/// Rows: F07, X38.
fn a_guest_runs_in_its_turns() {
    let guest = EventLoop::guest(|| ());
    let is_running = || EventLoop::current().is_some_and(|event_loop| event_loop.is_running());
    let (lazily, seen) = (Task::builder().lazy(), OnDrop(move || assert!(!is_running(), "it is closing")));
    let asks = guest.spawn_with(lazily, async move { is_running() }).unwrap();
    assert!(!guest.is_running());
    while !asks.is_finished() {
        guest.turn().unwrap();
    }
    assert!(asks.try_into_result().unwrap().unwrap());
    assert!(!guest.is_running());
    let _ = guest.call_later(Duration::MAX, move || drop(seen)).unwrap();
    guest.close().unwrap();
}

#[test]
/// Rows: X38.
fn equal_seeds_give_a_guest_equal_orders() {
    let order = |seed| {
        let guest = ManualClock::new().guest(seed, || ());
        let log = Rc::new(RefCell::new(Vec::new()));
        for n in 0..8 {
            let inner = log.clone();
            drop(guest.call_soon(move || inner.borrow_mut().push(n)));
        }
        while guest.turn().unwrap() == Next::Now {}
        log.take()
    };
    assert_eq!(order(None), [0, 1, 2, 3, 4, 5, 6, 7]);
    assert_eq!(order(Some(3)), order(Some(3)));
    assert!((0..8).any(|seed| order(Some(seed)) != order(None)), "some seed gives another order");
}
