//! What safe programs may do to a loop at the worst moments: end, drop and call things from inside destructors,
//! wakers, hooks and handlers. Small, so that miri can interpret all of it.

// Native only: other threads are the matter here.
#![allow(clippy::disallowed_methods)]

use std::{
    cell::{Cell, RefCell},
    future::{Future, IntoFuture, poll_fn},
    pin::{Pin, pin},
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
        mpsc,
    },
    task::{Context, Poll, Wake, Waker},
    time::Duration,
};

use selkie::{
    AnyTask, ContextVar, Deferred, Event, EventLoop, Executor, Instrument, RLock, RunError, Task, TaskError,
    TaskGroup, ThreadPool, all_tasks, sleep, spawn, spawn_lazy, testing::Sim, try_gather, yield_now,
};

/// Calls a function when it is dropped.
struct OnDrop<F: FnMut()>(F);

impl<F: FnMut()> Drop for OnDrop<F> {
    fn drop(&mut self) {
        (self.0)();
    }
}

/// Calls a function of the thread that made it when it is woken, and nothing elsewhere.
struct CallOnWake {
    key: usize,
}

thread_local! {
    static ON_WAKE: RefCell<Vec<Box<dyn FnMut()>>> = const { RefCell::new(Vec::new()) };
}

impl Wake for CallOnWake {
    fn wake(self: Arc<Self>) {
        let mut call =
            ON_WAKE.with_borrow_mut(|calls| std::mem::replace(&mut calls[self.key], Box::new(|| {})));
        call();
    }
}

fn calling(on_wake: impl FnMut() + 'static) -> Waker {
    let key = ON_WAKE.with_borrow_mut(|calls| {
        calls.push(Box::new(on_wake));
        calls.len() - 1
    });
    Waker::from(Arc::new(CallOnWake { key }))
}

type Slot<T> = Rc<RefCell<Option<T>>>;

struct OnDone<F: Fn(&AnyTask)>(F);

impl<F: Fn(&AnyTask)> Instrument for OnDone<F> {
    fn done(&self, task: &AnyTask) {
        (self.0)(task);
    }
}

#[test]
fn a_hook_may_drop_the_handle_of_the_task_that_ended() {
    Sim::new().run(async {
        let slot: Slot<Task<String>> = Rc::default();
        let inner = slot.clone();
        let hook = OnDone(move |task: &AnyTask| {
            if &*task.name() == "watched" {
                drop(inner.take());
            }
        });
        EventLoop::current().unwrap().set_instrument(Some(Rc::new(hook)));
        let task = Task::builder().name("watched").lazy().spawn(async { "result".repeat(3) });
        *slot.borrow_mut() = Some(task);
        yield_now().await;
        yield_now().await;
        assert!(slot.borrow().is_none());
        EventLoop::current().unwrap().set_instrument(None);
    });
}

#[test]
fn a_waker_may_take_the_result_of_the_task_that_ended() {
    Sim::new().run(async {
        let slot: Slot<Task<String>> = Rc::default();
        let taken = Rc::new(RefCell::new(String::new()));
        let task = spawn_lazy(async { "result".repeat(3) });
        let (inner, into) = (slot.clone(), taken.clone());
        let waker = calling(move || {
            *into.borrow_mut() = inner.take().unwrap().try_into_result().unwrap().unwrap();
        });
        let mut ended = pin!(task.any().ended());
        assert!(ended.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
        *slot.borrow_mut() = Some(task);
        yield_now().await;
        yield_now().await;
        assert_eq!(*taken.borrow(), "resultresultresult");
    });
}

/// A context variable whose value calls the function of its thread when it goes.
#[derive(Clone)]
struct Noisy {
    _inner: Arc<NoisyInner>,
}

impl Noisy {
    fn new() -> Self {
        Self { _inner: Arc::new(NoisyInner) }
    }
}

struct NoisyInner;

thread_local! {
    static ON_GONE: RefCell<Option<Box<dyn FnMut()>>> = const { RefCell::new(None) };
}

impl Drop for NoisyInner {
    fn drop(&mut self) {
        let call = ON_GONE.with(|call| call.take());
        if let Some(mut call) = call {
            call();
        }
    }
}

static NOISY: ContextVar<Noisy> = ContextVar::new();

#[test]
fn the_context_of_a_freed_task_may_list_the_tasks() {
    Sim::new().run(async {
        let seen = Rc::new(Cell::new(usize::MAX));
        let inner = seen.clone();
        ON_GONE.set(Some(Box::new(move || inner.set(all_tasks().len()))));
        spawn(async {
            NOISY.set(Noisy::new());
        })
        .detach();
        assert_eq!(seen.get(), 1, "the main task is listed, the freed one is not");
        spawn(async {}).await.unwrap();
    });
}

#[test]
fn the_context_of_a_freed_task_may_close_the_loop() {
    let event_loop = Sim::new().event_loop();
    let task = event_loop
        .spawn(async {
            NOISY.set(Noisy::new());
        })
        .unwrap();
    let hold: Slot<EventLoop> = Rc::default();
    *hold.borrow_mut() = Some(event_loop.clone());
    event_loop.run_until_complete(async {}).unwrap();
    assert!(task.is_finished());
    drop(event_loop);
    let inner = hold.clone();
    ON_GONE.set(Some(Box::new(move || drop(inner.take()))));
    drop(task);
    assert!(hold.borrow().is_none());
}

#[test]
fn the_context_of_a_task_freed_by_close_may_use_the_runtime() {
    let event_loop = Sim::new().event_loop();
    let task = event_loop
        .spawn(async {
            NOISY.set(Noisy::new());
        })
        .unwrap();
    event_loop.run_until_complete(async {}).unwrap();
    let other = task.any();
    drop(task);
    let refused = Rc::new(Cell::new(false));
    let inner = refused.clone();
    ON_GONE.set(Some(Box::new(move || inner.set(EventLoop::current().is_none()))));
    event_loop.close().unwrap();
    assert!(!refused.get(), "still referenced");
    drop(other);
    assert!(refused.get());
}

#[test]
fn a_cancelled_callback_may_hold_the_last_reference_to_its_loop() {
    let event_loop = Sim::new().event_loop();
    let (drops, reports) = (Rc::new(Cell::new(0)), Rc::new(Cell::new(0)));
    let (count, reported) = (drops.clone(), reports.clone());
    event_loop.set_exception_handler(Some(Rc::new(move |_| reported.set(reported.get() + 1))));
    let (inner, guard) = (event_loop.clone(), OnDrop(move || count.set(count.get() + 1)));
    let soon = event_loop
        .call_soon(move || {
            inner.stop();
            drop(guard);
        })
        .unwrap();
    drop(event_loop);
    assert!(soon.cancel());
    assert!(soon.is_cancelled());
    assert_eq!((drops.get(), reports.get()), (1, 0));
}

#[test]
fn a_cancelled_callback_may_not_close_or_run_its_loop() {
    let event_loop = Sim::new().event_loop();
    let seen = Rc::new(Cell::new(0));
    let (inner, count) = (event_loop.clone(), seen.clone());
    let guard = OnDrop(move || {
        assert!(matches!(inner.close(), Err(RunError::Nested)));
        assert!(matches!(inner.run_until_complete(async {}), Err(RunError::Nested)));
        count.set(count.get() + 1);
    });
    let soon = event_loop.call_soon(move || drop(guard)).unwrap();
    assert!(soon.cancel());
    assert_eq!(seen.get(), 1);
    event_loop.run_until_complete(async {}).unwrap();
    event_loop.close().unwrap();
}

#[test]
fn a_simulation_may_run_inside_its_own_task() {
    let sim = Rc::new(Sim::new());
    let polls = Rc::new(Cell::new(0));
    let (inner, count) = (sim.clone(), polls.clone());
    sim.run(poll_fn(move |cx| {
        count.set(count.get() + 1);
        if count.get() == 2 {
            return Poll::Ready(());
        }
        // Ready again while it still runs: no other loop's turn may poll it meanwhile.
        cx.waker().wake_by_ref();
        inner.run(async { sleep(Duration::from_secs(1)).await });
        assert_eq!(count.get(), 1, "polled inside its own poll");
        Poll::Pending
    }));
    assert_eq!(polls.get(), 2);
}

struct OnCreated<F: Fn(&AnyTask)>(F);

impl<F: Fn(&AnyTask)> Instrument for OnCreated<F> {
    fn created(&self, task: &AnyTask) {
        (self.0)(task);
    }
}

#[test]
fn a_hook_may_cancel_what_was_just_made() {
    Sim::new().run(async {
        let event_loop = EventLoop::current().unwrap();
        event_loop.set_instrument(Some(Rc::new(OnCreated(|task| {
            task.cancel();
        }))));
        let lazy = spawn_lazy(async {});
        let soon = event_loop.call_soon(|| panic!("it was cancelled")).unwrap();
        event_loop.set_instrument(None);
        assert!(lazy.await.unwrap_err().is_cancelled());
        assert!(soon.is_cancelled());
        for _ in 0..5 {
            yield_now().await;
        }
    });
}

#[test]
fn a_hook_may_close_the_loop_of_what_was_just_made() {
    for which in 0..3 {
        let event_loop = Sim::new().event_loop();
        let inner = event_loop.clone();
        event_loop.set_instrument(Some(Rc::new(OnCreated(move |_| inner.close().unwrap()))));
        match which {
            0 => assert!(event_loop.spawn(async {}).unwrap().is_cancelled()),
            1 => assert!(event_loop.call_soon(|| {}).unwrap().is_cancelled()),
            _ => assert!(event_loop.call_later(Duration::from_secs(1), || {}).unwrap().is_cancelled()),
        }
        assert!(event_loop.is_closed());
    }
}

#[test]
fn what_a_closed_loop_is_given_is_dropped_by_the_caller() {
    let event_loop = Sim::new().event_loop();
    event_loop.close().unwrap();
    let held = Rc::new(());
    let inner = held.clone();
    event_loop.set_exception_handler(Some(Rc::new(move |_| {
        let _ = &inner;
    })));
    let inner = held.clone();
    event_loop.set_instrument(Some(Rc::new(OnDone(move |_: &AnyTask| {
        let _ = &inner;
    }))));
    // Otherwise another thread, with a `LoopHandle`, could be the one that drops them.
    assert_eq!(Rc::strong_count(&held), 1);
}

#[test]
fn a_done_callback_added_after_the_close_is_dropped() {
    let event_loop = Sim::new().event_loop();
    let task = event_loop.spawn(async { 1 }).unwrap();
    event_loop.run_until_complete(async {}).unwrap();
    event_loop.close().unwrap();
    let held = Rc::new(());
    let inner = held.clone();
    task.on_done(move |_| drop(inner));
    assert_eq!(Rc::strong_count(&held), 1);
    assert_eq!(task.try_into_result().unwrap().unwrap(), 1);
}

#[test]
fn a_done_callback_that_adds_another_lets_others_run() {
    fn again(task: &Rc<Task<()>>, stop: &Rc<Cell<bool>>) {
        let (inner, flag) = (task.clone(), stop.clone());
        task.on_done(move |_| {
            if !flag.get() {
                again(&inner, &flag);
            }
        });
    }
    Sim::new().run(async {
        let stop = Rc::new(Cell::new(false));
        let task = Rc::new(spawn(async {}));
        again(&task, &stop);
        yield_now().await;
        yield_now().await;
        stop.set(true);
    });
}

/// Calls the function of its thread when it is dropped.
struct CallOnDrop(usize);

impl Wake for CallOnDrop {
    fn wake(self: Arc<Self>) {}
}

impl Drop for CallOnDrop {
    fn drop(&mut self) {
        let mut call =
            ON_WAKE.with_borrow_mut(|calls| std::mem::replace(&mut calls[self.0], Box::new(|| {})));
        call();
    }
}

#[test]
fn a_sleep_armed_while_its_loop_closes_is_in_no_wheel() {
    let kept: Slot<std::pin::Pin<Box<selkie::Sleep>>> = Rc::default();
    let into = kept.clone();
    let event_loop = Sim::new().event_loop();
    let key = ON_WAKE.with_borrow_mut(|calls| {
        calls.push(Box::new(move || {
            let mut sleep = Box::pin(sleep(Duration::from_nanos(1)));
            assert!(sleep.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
            *into.borrow_mut() = Some(sleep);
        }));
        calls.len() - 1
    });
    let outer = event_loop.run_until_complete(poll_fn(move |_| {
        let mut outer = Box::pin(sleep(Duration::from_secs(1)));
        let waker = Waker::from(Arc::new(CallOnDrop(key)));
        assert!(outer.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
        Poll::Ready(outer)
    }));
    drop(event_loop);
    // The loop's memory is gone; a sleep that referred to it would take itself out of it.
    drop(kept.take().unwrap());
    drop(outer);
}

#[test]
fn a_waker_that_panics_fails_nothing_but_itself() {
    Sim::new().run(async {
        let event_loop = EventLoop::current().unwrap();
        let reports = Rc::new(Cell::new(0));
        let count = reports.clone();
        event_loop.set_exception_handler(Some(Rc::new(move |_| count.set(count.get() + 1))));
        let task = spawn_lazy(async { 1 });
        let mut joined = pin!((&task).into_future());
        let bad = calling(|| panic!("a bad waker"));
        assert!(joined.as_mut().poll(&mut Context::from_waker(&bad)).is_pending());
        let mut owned = pin!(spawn_lazy(async { 2 }).into_future());
        let bad = calling(|| panic!("another bad waker"));
        assert!(owned.as_mut().poll(&mut Context::from_waker(&bad)).is_pending());
        let mut time = pin!(sleep(Duration::from_secs(1)));
        let bad = calling(|| panic!("a third bad waker"));
        assert!(time.as_mut().poll(&mut Context::from_waker(&bad)).is_pending());
        sleep(Duration::from_secs(2)).await;
        assert_eq!(owned.await.unwrap(), 2);
        assert_eq!(*joined.await.unwrap(), 1);
        assert_eq!(reports.get(), 3);
        event_loop.set_exception_handler(None);
    });
}

#[test]
fn a_groups_waker_may_not_take_a_result_that_callbacks_wait_for() {
    Sim::new().run(async {
        let slot: Slot<Task<String>> = Rc::default();
        let seen: Slot<String> = Rc::default();
        let (inner, into) = (slot.clone(), seen.clone());
        let mut scope = pin!(TaskGroup::scope_ok(async move |group| {
            let task = group.spawn_ok(async {
                sleep(Duration::from_secs(1)).await;
                "result".repeat(3)
            });
            task.on_done(move |result| *into.borrow_mut() = Some(result.as_ref().unwrap().clone()));
            *inner.borrow_mut() = Some(task);
        }));
        let waker = calling({
            let slot = slot.clone();
            move || {
                let task = slot.take().unwrap();
                *slot.borrow_mut() = Some(task.try_into_result().expect_err("its callback has not run"));
            }
        });
        assert!(scope.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
        sleep(Duration::from_secs(2)).await;
        assert_eq!(seen.take().unwrap(), "resultresultresult");
        assert!(scope.await.is_ok());
    });
}

#[test]
fn a_waker_may_add_a_callback_and_drop_the_handle_when_callbacks_have_run() {
    Sim::new().run(async {
        let slot: Slot<Task<String>> = Rc::default();
        let seen: Slot<String> = Rc::default();
        let waiting: Slot<Pin<Box<dyn Future<Output = ()>>>> = Rc::default();
        let task = spawn_lazy(async { "result".repeat(3) });
        let any = task.any();
        let (inner, into, kept) = (slot.clone(), seen.clone(), waiting.clone());
        task.on_done(move |_| {
            let waker = calling(move || {
                let (task, into) = (inner.take().unwrap(), into.clone());
                task.on_done(move |result| *into.borrow_mut() = Some(result.as_ref().unwrap().clone()));
                drop(task);
            });
            let mut ended = Box::pin(any.ended());
            assert!(ended.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
            *kept.borrow_mut() = Some(Box::pin(async { _ = ended.await }));
        });
        *slot.borrow_mut() = Some(task);
        sleep(Duration::from_secs(1)).await;
        assert_eq!(seen.take().unwrap(), "resultresultresult");
    });
}

#[test]
fn a_lock_that_was_handed_over_belongs_to_nobody_until_its_future_is_polled() {
    Sim::new().run(async {
        let lock = Arc::new(RLock::new(Cell::new(0)));
        let slot: Slot<Pin<Box<dyn Future<Output = ()>>>> = Rc::default();
        let held = lock.lock().await;
        let (inner, into) = (lock.clone(), slot.clone());
        let first = spawn(async move {
            let theirs = inner.clone();
            let mut taking = Box::pin(async move { drop(theirs.lock().await) });
            assert!(poll_once(taking.as_mut()).await.is_pending());
            *into.borrow_mut() = Some(taking);
            sleep(Duration::from_secs(1)).await;
            // It was handed to the future, which whoever likes may poll.
            inner.try_lock().is_some()
        });
        drop(held);
        assert!(!first.await.unwrap(), "two could be in");
        let taking = slot.take().unwrap();
        taking.await;
        assert!(!lock.is_locked());
    });
}

async fn poll_once<F: Future>(mut future: Pin<&mut F>) -> Poll<F::Output> {
    poll_fn(move |cx| Poll::Ready(future.as_mut().poll(cx))).await
}

#[test]
fn a_groups_waker_that_panics_fails_nothing_but_itself() {
    Sim::new().run(async {
        let reports = Rc::new(Cell::new(0));
        let count = reports.clone();
        let event_loop = EventLoop::current().unwrap();
        event_loop.set_exception_handler(Some(Rc::new(move |_| count.set(count.get() + 1))));
        let mut scope = pin!(TaskGroup::scope_ok(async |group| {
            group.spawn_ok(sleep(Duration::from_secs(1)));
        }));
        let bad = calling(|| panic!("a bad waker"));
        assert!(scope.as_mut().poll(&mut Context::from_waker(&bad)).is_pending());
        sleep(Duration::from_secs(2)).await;
        assert!(scope.await.is_ok());
        assert_eq!(reports.get(), 1);
        event_loop.set_exception_handler(None);
    });
}

#[test]
fn a_deferreds_waker_that_panics_leaves_no_other_waiting() {
    Sim::new().run(async {
        EventLoop::current().unwrap().set_exception_handler(Some(Rc::new(|_| ())));
        let (resolver, deferred) = Deferred::<u8>::new();
        let deferred = Rc::new(deferred);
        let mut first = pin!((&*deferred).into_future());
        let bad = calling(|| panic!("a bad waker"));
        assert!(first.as_mut().poll(&mut Context::from_waker(&bad)).is_pending());
        let inner = deferred.clone();
        let second = spawn(async move { *(&*inner).await.unwrap() });
        yield_now().await;
        _ = EventLoop::current().unwrap().call_soon(move || resolver.set_result(5).unwrap());
        assert_eq!(second.await.unwrap(), 5);
    });
}

#[test]
fn a_deferred_may_be_polled_by_the_wake_after_its_callbacks_went_with_their_loop() {
    let (resolver, deferred) = Deferred::<u8>::new();
    let deferred = Sim::new().run(async move {
        deferred.on_done(|_| unreachable!("its loop is closed"));
        deferred
    });
    let taking = Rc::new(RefCell::new(deferred.into_future()));
    let seen = Rc::new(Cell::new(None));
    let (inner, told) = (taking.clone(), seen.clone());
    let again = calling(move || {
        let mut taking = inner.borrow_mut();
        if let Poll::Ready(result) = pin!(&mut *taking).poll(&mut Context::from_waker(Waker::noop())) {
            told.set(Some(result.unwrap()));
        }
    });
    assert!(pin!(&mut *taking.borrow_mut()).poll(&mut Context::from_waker(&again)).is_pending());
    resolver.set_result(5).unwrap();
    assert_eq!(seen.get(), Some(5));
}

#[test]
fn a_value_that_comes_too_late_may_take_the_first_in_its_destructor() {
    let (resolver, deferred) = Deferred::<OnDrop<Box<dyn FnMut()>>>::new();
    let slot = Rc::new(RefCell::new(Some(deferred)));
    let seen = Rc::new(Cell::new(false));
    let (inner, told) = (slot.clone(), seen.clone());
    Sim::new().run(async move {
        resolver.set_result(OnDrop(Box::new(|| ()))).unwrap();
        let late = OnDrop(Box::new(move || {
            let mut taking = pin!(inner.take().unwrap().into_future());
            let waker = calling(|| ());
            told.set(taking.as_mut().poll(&mut Context::from_waker(&waker)).is_ready());
        }) as Box<dyn FnMut()>);
        assert!(resolver.set_result(late).is_err());
    });
    assert!(seen.get());
}

#[test]
fn a_guest_that_is_dropped_closes_its_loop_although_a_task_has_it() {
    let dropped = Rc::new(Cell::new(false));
    let inner = dropped.clone();
    let mut guest = Box::pin(selkie::guest(|_| std::future::pending(), async move {
        let _event_loop = EventLoop::current();
        let _guard = OnDrop(move || inner.set(true));
        std::future::pending::<()>().await;
    }));
    let waker = calling(|| ());
    assert!(guest.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
    drop(guest);
    assert!(dropped.get());
}

#[test]
fn an_instrument_may_remove_itself_and_panic_as_it_goes() {
    struct Once(OnDrop<fn()>);
    impl Instrument for Once {
        fn poll_start(&self, _: &AnyTask) {
            let _ = &self.0;
            EventLoop::current().unwrap().set_instrument(None);
        }
    }
    Sim::new().run(async {
        let event_loop = EventLoop::current().unwrap();
        let reports = Rc::new(Cell::new(0));
        let count = reports.clone();
        event_loop.set_exception_handler(Some(Rc::new(move |_| count.set(count.get() + 1))));
        let task = spawn_lazy(async { 3 });
        event_loop.set_instrument(Some(Rc::new(Once(OnDrop(|| panic!("going"))))));
        assert_eq!(task.await.unwrap(), 3);
        assert_eq!(reports.get(), 1);
        event_loop.set_exception_handler(None);
    });
}

#[test]
fn wakers_that_are_replaced_may_call_back() {
    /// Wakes nobody, and calls when it goes.
    struct Leaving {
        key: usize,
    }
    impl Wake for Leaving {
        fn wake(self: Arc<Self>) {}
    }
    impl Drop for Leaving {
        fn drop(&mut self) {
            Arc::new(CallOnWake { key: self.key }).wake();
        }
    }
    Sim::new().run(async {
        let slot: Slot<TaskGroup> = Rc::default();
        let inner = slot.clone();
        let mut scope = pin!(TaskGroup::scope_ok(async move |group| {
            *inner.borrow_mut() = Some(group.clone());
            sleep(Duration::from_secs(1)).await;
        }));
        let key = ON_WAKE.with_borrow_mut(|calls| {
            calls.push(Box::new(move || slot.take().unwrap().cancel()));
            calls.len() - 1
        });
        let waker = Waker::from(Arc::new(Leaving { key }));
        assert!(scope.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
        drop(waker);
        // The first waker is replaced in this poll, and goes.
        assert!(poll_once(scope.as_mut()).await.is_pending());
        assert!(scope.await.unwrap_err().is_cancelled());
    });
}

#[test]
fn an_error_whose_text_panics_keeps_no_first_error_back() {
    #[derive(Clone)]
    struct Bad(u8);
    impl std::fmt::Debug for Bad {
        fn fmt(&self, _: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            panic!("no text for {}", self.0)
        }
    }
    Sim::new().run(async {
        EventLoop::current().unwrap().set_exception_handler(Some(Rc::new(|_| ())));
        let fail = |n| spawn_lazy(async move { Err::<(), _>(Bad(n)) });
        let both = [fail(1), fail(2)];
        sleep(Duration::from_secs(1)).await;
        match try_gather(both).await {
            Err(TaskError::Failed(Bad(n))) => assert_eq!(n, 1),
            _ => panic!("the first error"),
        }
    });
}

// As below, a payload is leaked on purpose, which miri reports.
#[cfg_attr(miri, ignore)]
#[test]
fn a_waiter_is_woken_although_the_one_before_it_panics_twice() {
    Sim::new().run(async {
        let event = Event::new();
        let mut first = pin!(event.wait());
        let bad = calling(|| {
            std::panic::panic_any(OnDrop(|| {
                if !std::thread::panicking() {
                    panic!("the payload's destructor")
                }
            }))
        });
        assert!(first.as_mut().poll(&mut Context::from_waker(&bad)).is_pending());
        let woken = Rc::new(Cell::new(false));
        let flag = woken.clone();
        let mut second = pin!(event.wait());
        let good = calling(move || flag.set(true));
        assert!(second.as_mut().poll(&mut Context::from_waker(&good)).is_pending());
        event.set();
        assert!(woken.get());
    });
}

// The second payload is leaked on purpose, which miri reports.
#[cfg_attr(miri, ignore)]
#[test]
fn a_panic_payload_may_panic_in_its_destructor() {
    let result = Sim::new().try_run(async {
        let payload = || {
            OnDrop(|| {
                if !std::thread::panicking() {
                    panic!("the payload's destructor")
                }
            })
        };
        let guard = OnDrop(move || std::panic::panic_any(payload()));
        // The future is dropped by the loop, after it has given its result.
        let task = spawn_lazy(poll_fn(move |_| {
            let _ = &guard;
            Poll::Ready(1)
        }));
        assert_eq!(task.await.unwrap(), 1);
        5
    });
    assert_eq!(result.unwrap().unwrap(), 5);
}

#[test]
fn a_hook_sees_what_a_task_waits_for() {
    struct Waits(RefCell<Vec<Option<String>>>);
    impl Instrument for Waits {
        fn poll_end(&self, task: &AnyTask) {
            self.0.borrow_mut().push(task.waits_for());
        }
    }
    Sim::new().run(async {
        let hook = Rc::new(Waits(RefCell::default()));
        EventLoop::current().unwrap().set_instrument(Some(hook.clone()));
        let task = spawn(sleep(Duration::from_secs(1)));
        EventLoop::current().unwrap().set_instrument(None);
        assert_eq!(*hook.0.borrow(), [Some("a timer".to_owned())]);
        task.await.unwrap();
    });
}

#[test]
fn a_run_that_was_stopped_does_not_stop_the_next_one() {
    let event_loop = Sim::new().event_loop();
    let inner = event_loop.clone();
    let _ = event_loop.call_later(Duration::from_secs(1), move || inner.stop()).unwrap();
    let stopped = event_loop.run_until_complete(sleep(Duration::from_secs(2)));
    assert!(matches!(stopped, Err(RunError::Stopped)));
    // The first main task ends during this run.
    event_loop.run_until_complete(sleep(Duration::from_secs(5))).unwrap();
}

#[test]
fn calls_from_other_threads_that_repeat_themselves_do_not_stop_the_clock() {
    fn again(handle: selkie::LoopHandle, stop: Arc<AtomicUsize>) {
        let next = handle.clone();
        if stop.fetch_add(1, Ordering::Relaxed) < 10_000_000 {
            handle.call_soon_threadsafe(move || again(next, stop)).unwrap();
        }
    }
    let event_loop = EventLoop::new();
    let calls = Arc::new(AtomicUsize::new(0));
    again(event_loop.handle(), calls.clone());
    event_loop.run_until_complete(sleep(Duration::from_millis(5))).unwrap();
    assert!(calls.load(Ordering::Relaxed) < 10_000_000, "the timer waited for the calls to end");
    calls.store(usize::MAX / 2, Ordering::Relaxed);
}

#[repr(align(64))]
#[derive(Clone, Copy)]
struct Wide(u8);

#[test]
fn futures_results_and_callbacks_may_have_any_alignment() {
    Sim::new().run(async {
        let wide = Wide(3);
        let task = spawn(async move {
            let here = wide;
            yield_now().await;
            assert_eq!(std::ptr::from_ref(&here).addr() % 64, 0);
            here
        });
        assert_eq!(task.await.unwrap().0, 3);
        let seen = Rc::new(Cell::new(0));
        let inner = seen.clone();
        let _ = EventLoop::current().unwrap().call_soon(move || inner.set(wide.0)).unwrap();
        yield_now().await;
        yield_now().await;
        assert_eq!(seen.get(), 3);
    });
}

/// Gives the wakers of tasks to other threads.
async fn waker() -> Waker {
    poll_fn(|cx| Poll::Ready(cx.waker().clone())).await
}

#[test]
fn wakers_in_other_threads_wake_and_go_while_the_loop_runs() {
    selkie::run(async {
        let woken = Arc::new(AtomicUsize::new(0));
        let threads: Vec<_> = (0..3)
            .map(|number| {
                let woken = woken.clone();
                spawn(async move {
                    let waker = waker().await;
                    let flag = woken.clone();
                    let thread = std::thread::spawn(move || {
                        let clone = waker.clone();
                        waker.wake_by_ref();
                        drop(waker);
                        flag.fetch_add(1, Ordering::Relaxed);
                        if number == 0 { clone.wake_by_ref() } else { clone.wake() }
                    });
                    // Relaxed: only the wake orders the two.
                    poll_fn(|_| {
                        if woken.load(Ordering::Relaxed) > number { Poll::Ready(()) } else { Poll::Pending }
                    })
                    .await;
                    thread
                })
            })
            .collect();
        for (number, task) in threads.into_iter().enumerate() {
            if number == 0 {
                task.await.unwrap().join().unwrap();
            } else {
                // Whether it is woken in time depends on the others; it ends with the loop or before.
                task.detach();
            }
        }
    });
}

#[test]
fn a_task_is_freed_wherever_its_last_waker_goes() {
    let event_loop = EventLoop::new();
    let gone = Arc::new(AtomicUsize::new(0));
    let mut threads = Vec::new();
    for _ in 0..3 {
        let count = gone.clone();
        let guard = OnDrop(move || {
            count.fetch_add(1, Ordering::Relaxed);
        });
        let waker = event_loop
            .run_until_complete(async move {
                let task = spawn(async move {
                    let _guard = guard;
                    waker().await
                });
                task.await.unwrap()
            })
            .unwrap();
        threads.push(std::thread::spawn(move || {
            let clone = waker.clone();
            drop(waker);
            clone.wake();
        }));
        event_loop.run_until_complete(yield_now()).unwrap();
    }
    assert_eq!(gone.load(Ordering::Relaxed), 3);
    for thread in threads {
        thread.join().unwrap();
    }
    event_loop.run_until_complete(yield_now()).unwrap();
    event_loop.close().unwrap();
}

#[test]
fn wakers_calls_and_handles_race_with_the_close() {
    let event_loop = EventLoop::new();
    let mut wakers = Vec::new();
    for _ in 0..3 {
        let (sender, receiver) = std::sync::mpsc::channel();
        let task = event_loop
            .spawn(async move {
                NOISY.set(Noisy::new());
                sender.send(waker().await).unwrap();
                std::future::pending::<()>().await
            })
            .unwrap();
        event_loop.run_until_complete(yield_now()).unwrap();
        wakers.push((receiver.recv().unwrap(), task));
    }
    let handle = event_loop.handle();
    let mut kept = Vec::new();
    let threads: Vec<_> = wakers
        .into_iter()
        .enumerate()
        .map(|(number, (waker, task))| {
            kept.push(task);
            let handle = handle.clone();
            std::thread::spawn(move || {
                let clone = waker.clone();
                match number {
                    0 => clone.wake(),
                    1 => drop(clone),
                    _ => drop(handle.call_soon_threadsafe(move || clone.wake())),
                }
                waker.wake_by_ref();
                drop(handle);
                drop(waker);
            })
        })
        .collect();
    let any = kept[0].any();
    kept.truncate(2);
    drop(handle);
    event_loop.close().unwrap();
    drop(event_loop);
    assert!(any.is_finished());
    for task in kept {
        assert!(task.try_into_result().unwrap().unwrap_err().is_cancelled());
    }
    drop(any);
    for thread in threads {
        thread.join().unwrap();
    }
}

#[test]
fn tasks_and_their_parts_may_outlive_the_thread_locals_of_their_thread() {
    thread_local! {
        static KEPT: RefCell<Vec<Box<dyn std::any::Any>>> = const { RefCell::new(Vec::new()) };
    }
    std::thread::spawn(|| {
        let event_loop = EventLoop::new();
        let task = event_loop.spawn(std::future::pending::<()>()).unwrap();
        let done = event_loop.spawn(async { "result".to_owned() }).unwrap();
        let join = event_loop.spawn(sleep(Duration::from_secs(9))).unwrap().into_future();
        event_loop.run_until_complete(yield_now()).unwrap();
        KEPT.with_borrow_mut(|kept| {
            kept.push(Box::new(task.any().ended()));
            kept.push(Box::new(task));
            kept.push(Box::new(done));
            kept.push(Box::new(join));
            kept.push(Box::new(event_loop.call_later(Duration::from_secs(5), || {}).unwrap()));
            kept.push(Box::new(event_loop));
        });
    })
    .join()
    .unwrap();
}

#[test]
fn a_thread_may_be_joined_when_the_thread_locals_have_gone() {
    struct Joins(selkie::Thread<u8>, mpsc::Sender<u8>);
    impl Drop for Joins {
        fn drop(&mut self) {
            self.1.send(self.0.join(None).unwrap().unwrap()).unwrap();
        }
    }
    thread_local! {
        static KEPT: RefCell<Option<Joins>> = const { RefCell::new(None) };
    }
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(|| {
        KEPT.set(Some(Joins(selkie::Thread::spawn("joined", || 7).unwrap(), sender)));
        // Later than the other, so its variable goes before.
        assert!(selkie::current_thread_name().is_none());
    })
    .join()
    .unwrap();
    assert_eq!(receiver.recv(), Ok(7));
}

/// In every way in which a job may go: detached, cancelled, awaited, forgotten, and run by the scope's own thread.
#[test]
fn what_a_scoped_job_borrows_and_gives_is_gone_when_the_scope_ends() {
    const ROUNDS: usize = if cfg!(miri) { 3 } else { 200 };
    // Miri reports what was forgotten as leaked, which it is.
    const FORGETS: bool = !cfg!(miri);
    /// What a result and a closure own of the frame below.
    struct Borrows<'a>(&'a AtomicUsize);
    impl Drop for Borrows<'_> {
        fn drop(&mut self) {
            self.0.fetch_sub(1, Ordering::Relaxed);
        }
    }
    let pool = ThreadPool::new(1).unwrap();
    for _ in 0..ROUNDS {
        let alive = AtomicUsize::new(0);
        let lend = || {
            alive.fetch_add(1, Ordering::Relaxed);
            Borrows(&alive)
        };
        pool.scope(|scope| {
            for way in 0..if FORGETS { 4 } else { 3 } {
                let owned = lend();
                let task = scope.submit(|| (owned, lend())).unwrap();
                match way {
                    0 => drop(task),
                    1 => _ = task.cancel(),
                    2 => _ = { task }.wait(None),
                    _ => std::mem::forget(task),
                }
            }
            scope
                .submit(|| {
                    let inner = pool.scope(|inner| inner.submit(lend).unwrap().detach());
                    inner.unwrap();
                })
                .unwrap()
                .detach();
        })
        .unwrap();
        // Two of the one that was forgotten, which has run.
        assert_eq!(alive.into_inner(), if FORGETS { 2 } else { 0 });
    }
    pool.join(None).unwrap();
}

/// Polls until it is ready.
fn wait_for(mut future: impl Future<Output = ()> + Unpin) {
    for _ in 0..1000 {
        if Pin::new(&mut future).poll(&mut Context::from_waker(Waker::noop())).is_ready() {
            return;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    panic!("it never ends");
}

/// Panics when its last clone goes, in a thread whose name begins so.
#[derive(Clone)]
struct PanicsIn(#[allow(dead_code, reason = "what matters is that it goes")] Arc<Fuse>);

struct Fuse(String);

impl Drop for Fuse {
    fn drop(&mut self) {
        let is_there = std::thread::current().name().is_some_and(|name| name.starts_with(&self.0));
        assert!(!is_there || std::thread::panicking(), "a value of a context");
    }
}

static FUSE: ContextVar<PanicsIn> = ContextVar::new();

#[test]
#[cfg_attr(miri, ignore = "of the last thread of an executor Miri cannot tell that it ends")]
fn a_shutdown_of_an_executor_lets_go_of_its_waker() {
    static VAR: ContextVar<Arc<()>> = ContextVar::new();
    let owned = Arc::new(());
    let inner = owned.clone();
    selkie::run(async move {
        VAR.set(inner);
        Executor::with_threads(1).unwrap().shutdown().await;
    });
    let all_gone = poll_fn(|_| if Arc::strong_count(&owned) == 1 { Poll::Ready(()) } else { Poll::Pending });
    wait_for(all_gone);
}

#[test]
#[cfg_attr(miri, ignore = "of the last thread of an executor Miri cannot tell that it ends")]
fn an_executors_shutdown_survives_the_waker_that_it_wakes() {
    struct Panics(AtomicBool);
    impl Wake for Panics {
        fn wake(self: Arc<Self>) {
            self.0.store(true, Ordering::Release);
            panic!("a waker");
        }
    }
    let executor = Executor::with_threads(1).unwrap();
    let task = executor.spawn(std::future::pending::<()>()).unwrap();
    let panics = Arc::new(Panics(AtomicBool::new(false)));
    let waker = Waker::from(panics.clone());
    let mut shutdown = Box::pin(executor.shutdown());
    assert!(shutdown.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
    task.cancel();
    wait_for(poll_fn(|_| if panics.0.load(Ordering::Acquire) { Poll::Ready(()) } else { Poll::Pending }));
    wait_for(shutdown);
}

#[test]
#[cfg_attr(miri, ignore = "of the last thread of an executor Miri cannot tell that it ends")]
fn a_context_of_an_executors_future_may_panic_as_it_goes_and_goes_before_the_shutdown_ends() {
    let executor = Executor::with_threads(1).unwrap();
    let task = executor.spawn(async {
        FUSE.set(PanicsIn(Arc::new(Fuse("selkie-executor".to_owned()))));
        1
    });
    assert_eq!(task.unwrap().wait(None).unwrap().unwrap(), 1);
    wait_for(Box::pin(executor.shutdown()));
}

#[test]
fn a_context_that_panics_as_it_goes_keeps_no_pool_from_its_end() {
    let pool = ThreadPool::new(1).unwrap();
    let (free, wait) = mpsc::channel::<()>();
    let (started, is_started) = mpsc::channel();
    let first = move || {
        started.send(()).unwrap();
        let _ = wait.recv();
    };
    pool.submit(first).unwrap().detach();
    is_started.recv().unwrap();
    let name = std::thread::current().name().unwrap_or("main").to_owned();
    let fuse = Arc::new(Fuse(name));
    let scope = FUSE.scope(PanicsIn(fuse));
    pool.submit(|| ()).unwrap().detach();
    drop(scope);
    for _ in 0..2 {
        pool.submit(|| ()).unwrap().detach();
    }
    drop(pool.shutdown_now());
    drop(free);
    wait_for(pool.shutdown());
}

#[test]
#[cfg_attr(miri, ignore = "what it forgets is leaked, as it should be")]
fn a_thread_may_end_with_a_simulation_whose_threads_have_loops() {
    thread_local! {
        static KEPT: RefCell<Option<Rc<Sim>>> = const { RefCell::new(None) };
    }
    for forgotten in [false, true] {
        let owned = Arc::new(());
        let kept = owned.clone();
        let thread = std::thread::spawn(move || {
            // Registered first, so dropped after what the simulator has in this thread.
            KEPT.set(None);
            let sim = Rc::new(Sim::new());
            KEPT.set(Some(sim.clone()));
            sim.run(async move {
                let worker = EventLoop::spawn_thread("worker").unwrap();
                let waits = async move || {
                    let _kept = kept;
                    std::future::pending::<()>().await;
                };
                worker.handle().submit(waits).unwrap().detach();
                worker.started().unwrap().await.unwrap();
                std::mem::forget(worker);
            });
            if forgotten {
                std::mem::forget(sim);
            }
        });
        thread.join().unwrap();
        assert_eq!(Arc::strong_count(&owned), 1);
    }
}
