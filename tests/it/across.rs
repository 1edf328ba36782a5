//! Queues and locks between a page (or the loop of the main thread), loops on other threads, and threads that block.
//!
//! A simulation has no threads that block, so most of these run on the host only. Without threads they only see that there are none.

use std::{
    collections::BTreeSet,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures::future::{Either, select};
use selkie::{
    AnyQueue, Barrier, Condition, Event, EventLoop, GetError, JoinError, LifoQueue, Lock, LoopThread,
    PriorityQueue, PutError, Queue, QueueOrder, QueueShutDown, RLock, RemoteTask, Semaphore, Task, Thread,
    ThreadPool, WaitError, sleep, spawn, testing::Sim, timeout, to_thread, yield_now,
};

use crate::harness::T;

/// Far more than any of this takes, so that what never ends fails.
const LONG: Duration = Duration::from_secs(60);

fn has_threads(t: &T) -> bool {
    !t.is_sim() && crate::harness::has_threads()
}

fn loops(count: usize) -> Vec<LoopThread> {
    (0..count).map(|n| EventLoop::spawn_thread(format!("loop {n}")).unwrap()).collect()
}

/// The three kinds of who may wait, one of each or more.
struct Crowd<R: Send + 'static> {
    here: Vec<Task<R>>,
    there: Vec<RemoteTask<R>>,
    threads: Vec<Thread<R>>,
}

impl<R: Send + 'static> Crowd<R> {
    /// `async_way` as tasks of this loop and of `loops`, so many each in all, and `blocking` on so many threads.
    fn gather<F>(
        loops: &[LoopThread],
        [here, there, threads]: [usize; 3],
        async_way: impl Fn(usize) -> F + Clone + Send + 'static,
        blocking: impl Fn(usize) -> R + Clone + Send + 'static,
    ) -> Self
    where
        F: Future<Output = R> + 'static,
    {
        Self {
            here: (0..here).map(|n| spawn(async_way(n))).collect(),
            there: (here..here + there)
                .map(|n| {
                    let way = async_way.clone();
                    loops[n % loops.len()].handle().submit(async move || way(n).await).unwrap()
                })
                .collect(),
            threads: (here + there..here + there + threads)
                .map(|n| {
                    let way = blocking.clone();
                    Thread::spawn(format!("thread {n}"), move || way(n)).unwrap()
                })
                .collect(),
        }
    }

    /// What all gave, or the errors of those that were cancelled.
    async fn ends(self) -> Vec<Result<R, JoinError>> {
        let mut all = Vec::new();
        for task in self.here {
            all.push(timeout(LONG, task).await.unwrap());
        }
        for task in self.there {
            all.push(timeout(LONG, task).await.unwrap());
        }
        for mut thread in self.threads {
            all.push(timeout(LONG, &mut thread).await.unwrap());
        }
        all
    }
}

/// Fifty of each kind: some wait as tasks, some block, some give up now and then, and some are cancelled for good.
async fn fifty_by_fifty<I, O>(queue: AnyQueue<I, O>, item: fn(usize) -> I, number: fn(I) -> usize)
where
    I: Send + 'static,
    O: QueueOrder<I> + 'static,
    AnyQueue<I, O>: Send,
{
    const EACH: usize = 20;
    let loops = loops(2);
    let items = queue.clone();
    let put = queue.clone();
    let producers = Crowd::gather(
        &loops,
        [22, 24, 4],
        move |n| {
            let queue = put.clone();
            async move {
                for k in 0..EACH {
                    queue.put(item(n * EACH + k)).await.ok().unwrap();
                }
            }
        },
        move |n| {
            for k in 0..EACH {
                let mut item = item(n * EACH + k);
                while let Err(error) = items.put_blocking(item, Some(Duration::from_micros(50))) {
                    item = error.into_item();
                }
            }
        },
    );
    let (got, count) = (Queue::unbounded(), Arc::new(AtomicUsize::new(0)));
    let (items, taken, counted) = (queue.clone(), got.clone(), count.clone());
    let (also_items, also_taken, also_counted) = (queue.clone(), got.clone(), count.clone());
    let consumers = Crowd::gather(
        &loops,
        [22, 24, 4],
        move |_| {
            let (queue, got, count) = (items.clone(), taken.clone(), counted.clone());
            async move {
                loop {
                    // A getter that is dropped when another future is ready first.
                    match select(pin!(queue.get()), pin!(yield_now())).await {
                        Either::Left((Ok(item), _)) => {
                            got.try_put(number(item)).unwrap();
                            count.fetch_add(1, Ordering::Relaxed);
                            queue.task_done();
                        }
                        Either::Left((Err(QueueShutDown(())), _)) => break,
                        Either::Right(..) => yield_now().await,
                    }
                }
            }
        },
        move |_| {
            loop {
                match also_items.get_blocking(Some(Duration::from_micros(50))) {
                    Ok(item) => {
                        also_taken.try_put(number(item)).unwrap();
                        also_counted.fetch_add(1, Ordering::Relaxed);
                        also_items.task_done();
                    }
                    Err(GetError::Empty) => {}
                    Err(error) => {
                        assert_eq!(error, GetError::ShutDown);
                        break;
                    }
                }
            }
        },
    );
    // Ten of this loop and ten of the others are cancelled for good, at any moment.
    for n in 0..10 {
        sleep(Duration::from_micros(200)).await;
        consumers.here[n].cancel();
        consumers.there[n].cancel();
    }
    for end in producers.ends().await {
        end.unwrap();
    }
    // Whoever joins may be on a thread as well.
    let items = queue.clone();
    let mut joiner = Thread::spawn("joiner", move || items.join_blocking(Some(LONG))).unwrap();
    timeout(LONG, queue.join()).await.unwrap();
    timeout(LONG, &mut joiner).await.unwrap().unwrap().unwrap();
    queue.shutdown(false);
    let cancelled = consumers.ends().await.into_iter().filter(|end| match end {
        Ok(()) => false,
        Err(error) => {
            assert!(error.is_cancelled(), "{error}");
            true
        }
    });
    assert!(cancelled.count() <= 20);
    assert_eq!(count.load(Ordering::Relaxed), 50 * EACH);
    let all: BTreeSet<usize> = std::iter::from_fn(|| got.try_get().ok()).collect();
    assert_eq!(all, (0..50 * EACH).collect(), "each item comes out, once");
    let statistics = queue.statistics();
    assert_eq!((statistics.len, statistics.unfinished, statistics.getting, statistics.putting), (0, 0, 0, 0));
    for one in loops {
        timeout(LONG, one.ended()).await.unwrap().unwrap();
    }
}

behaviour! {
    /// Rows: F62, F65, U10, U11.
    async fn fifty_by_fifty_of_every_kind_lose_nothing(t) {
        if has_threads(&t) {
            fifty_by_fifty(Queue::bounded(5), |n| n, |n| n).await;
        }
    }
}

behaviour! {
    /// Rows: F66, U10, U11.
    async fn fifty_by_fifty_of_every_kind_lose_nothing_last_in_first_out(t) {
        if has_threads(&t) {
            fifty_by_fifty(LifoQueue::bounded(3), |n| n, |n| n).await;
        }
    }
}

behaviour! {
    /// Rows: F67, U10, U11.
    async fn fifty_by_fifty_of_every_kind_lose_nothing_by_priority(t) {
        if has_threads(&t) {
            fifty_by_fifty(PriorityQueue::bounded(7), |n| (n % 5, n), |(_, n)| n).await;
        }
    }
}

behaviour! {
    /// Rows: X14, U11. Getters and putters of every kind; a putter has its item again.
    async fn a_shutdown_wakes_all_who_wait_wherever_they_are(t) {
        if !has_threads(&t) {
            return;
        }
        let loops = loops(2);
        let (empty, full) = (Queue::<usize>::unbounded(), Queue::bounded(1));
        full.try_put(100).unwrap();
        let (items, also_items) = (empty.clone(), empty.clone());
        let getters = Crowd::gather(
            &loops,
            [2, 4, 2],
            move |_| {
                let items = items.clone();
                async move { items.get().await.is_err() }
            },
            move |_| also_items.get_blocking(Some(LONG)) == Err(GetError::ShutDown),
        );
        let (items, also_items) = (full.clone(), full.clone());
        let putters = Crowd::gather(
            &loops,
            [2, 4, 2],
            move |n| {
                let items = items.clone();
                async move { items.put(n).await == Err(QueueShutDown(n)) }
            },
            move |n| also_items.put_blocking(n, Some(LONG)) == Err(PutError::ShutDown(n)),
        );
        let all_wait = async {
            while empty.statistics().getting + full.statistics().putting < 16 {
                sleep(Duration::from_millis(1)).await;
            }
        };
        timeout(LONG, all_wait).await.unwrap();
        empty.shutdown(false);
        full.shutdown(true);
        for end in getters.ends().await.into_iter().chain(putters.ends().await) {
            assert!(end.unwrap());
        }
        timeout(LONG, full.join()).await.unwrap();
        for one in loops {
            timeout(LONG, one.ended()).await.unwrap().unwrap();
        }
    }
}

/// So many wakes in all, each of which is waited for; `SELKIE_WAKES` says another number, for the web when it is compiled.
fn wakes() -> usize {
    let said = std::env::var("SELKIE_WAKES").ok().or(option_env!("SELKIE_WAKES").map(str::to_owned));
    said.map_or(100_000, |wakes| wakes.parse().expect("a number"))
}

behaviour! {
    /// Rows: F43, F44, F46. Threads hand calls to this loop, and to one on another thread, and block until each was run; two tasks
    /// of the two loops wake each other. The timers of this loop race with it. A wake that is lost holds its sender up for longer
    /// than it may wait.
    async fn no_wake_between_loops_and_threads_is_lost(t) {
        if !has_threads(&t) {
            return;
        }
        let here = EventLoop::current().unwrap().handle();
        let worker = EventLoop::spawn_thread("worker").unwrap();
        let each = wakes() / 5;
        let senders: Vec<_> = (0..4)
            .map(|n| {
                let to = if n % 2 == 0 { here.clone() } else { worker.handle().clone() };
                let seen = Arc::new(AtomicUsize::new(0));
                let send = move || {
                    for k in 0..each {
                        let seen = seen.clone();
                        let mut sent = to.submit(async move || seen.fetch_add(1, Ordering::Relaxed)).unwrap();
                        assert_eq!(sent.wait(Some(LONG)).expect("no wake is lost").unwrap(), k);
                    }
                };
                Thread::spawn(format!("sender {n}"), send).unwrap()
            })
            .collect();
        // There and back are two.
        let ping_pong = Queue::bounded(1);
        let (to, from) = (ping_pong.clone(), Queue::bounded(1));
        let back = from.clone();
        let pong = worker.handle().submit(async move || {
            while let Ok(n) = to.get().await {
                back.put(n).await.unwrap();
            }
        }).unwrap();
        let ping = spawn(async move {
            for n in 0..each / 2 {
                ping_pong.put(n).await.unwrap();
                assert_eq!(timeout(LONG, from.get()).await.expect("no wake is lost"), Ok(n));
            }
            ping_pong.shutdown(false);
        });
        let mut round = 0u64;
        while senders.iter().any(Thread::is_alive) {
            round += 1;
            sleep(Duration::from_micros(round * 37 % 400)).await;
        }
        for sender in senders {
            sender.await.unwrap();
        }
        ping.await.unwrap();
        pong.await.unwrap();
        worker.ended().await.unwrap();
    }
}

/// How many are inside, and whether there were ever more than may be.
#[derive(Default)]
struct Inside {
    now: AtomicUsize,
    most: AtomicUsize,
}

impl Inside {
    fn enter(&self) {
        let now = self.now.fetch_add(1, Ordering::SeqCst) + 1;
        self.most.fetch_max(now, Ordering::SeqCst);
    }

    fn leave(&self) {
        self.now.fetch_sub(1, Ordering::SeqCst);
    }
}

behaviour! {
    /// Rows: F53, F54, X19. Held over an await or a pause, so that others have to wait.
    async fn locks_and_semaphores_are_contended_between_loops_and_threads(t) {
        const EACH: usize = 100;
        if !has_threads(&t) {
            return;
        }
        struct State {
            lock: Lock<usize>,
            again: RLock<()>,
            permits: Semaphore,
            /// Of the lock, of the reentrant one, of the semaphore.
            inside: [Inside; 3],
        }
        let state = Arc::new(State {
            lock: Lock::new(0),
            again: RLock::new(()),
            permits: Semaphore::new(3),
            inside: Default::default(),
        });
        let loops = loops(2);
        let (theirs, also_theirs) = (state.clone(), state.clone());
        let crowd = Crowd::gather(
            &loops,
            [3, 4, 3],
            move |_| {
                let state = theirs.clone();
                async move {
                    let [lock, again, permits] = &state.inside;
                    for _ in 0..EACH {
                        let mut guard = state.lock.lock().await;
                        lock.enter();
                        let before = *guard;
                        yield_now().await;
                        *guard = before + 1;
                        lock.leave();
                        drop(guard);
                        let outer = state.again.lock().await;
                        again.enter();
                        let inner = state.again.lock().await;
                        yield_now().await;
                        again.leave();
                        drop((inner, outer));
                        let permit = state.permits.acquire().await;
                        permits.enter();
                        yield_now().await;
                        permits.leave();
                        drop(permit);
                    }
                }
            },
            move |_| {
                let state = also_theirs.clone();
                let [lock, again, permits] = &state.inside;
                for _ in 0..EACH {
                    let mut guard = state.lock.lock_blocking(Some(LONG)).unwrap();
                    lock.enter();
                    *guard += 1;
                    lock.leave();
                    drop(guard);
                    let outer = state.again.lock_blocking(Some(LONG)).unwrap();
                    again.enter();
                    let inner = state.again.lock_blocking(Some(LONG)).unwrap();
                    again.leave();
                    drop((inner, outer));
                    let permit = state.permits.acquire_blocking(Some(LONG)).unwrap();
                    permits.enter();
                    std::hint::spin_loop();
                    permits.leave();
                    drop(permit);
                }
            },
        );
        // Some give up in the queue, on this loop.
        for _ in 0..50 {
            let lock = spawn({
                let state = state.clone();
                async move { drop(state.lock.lock().await) }
            });
            let permit = spawn({
                let state = state.clone();
                async move { drop(state.permits.acquire().await) }
            });
            yield_now().await;
            lock.cancel();
            permit.cancel();
        }
        for end in crowd.ends().await {
            end.unwrap();
        }
        assert_eq!(*timeout(LONG, state.lock.lock()).await.unwrap(), 10 * EACH);
        let most: Vec<_> = state.inside.iter().map(|inside| inside.most.load(Ordering::SeqCst)).collect();
        assert_eq!(most[..2], [1, 1]);
        assert!((1..=3).contains(&most[2]), "{most:?}");
        assert_eq!(state.permits.available(), 3);
        for one in loops {
            timeout(LONG, one.ended()).await.unwrap().unwrap();
        }
    }
}

behaviour! {
    /// Rows: F59, F60, X15, X35. One after the other: all wait for the event, meet at the barrier, and are let through by the
    /// condition one at a time.
    async fn events_barriers_and_conditions_are_for_loops_and_threads_alike(t) {
        const ROUNDS: usize = 20;
        if !has_threads(&t) {
            return;
        }
        struct State {
            go: Event,
            met: Barrier,
            turn: Condition,
            next: Lock<usize>,
        }
        let state = Arc::new(State {
            go: Event::new(),
            met: Barrier::new(9),
            turn: Condition::new(),
            next: Lock::new(0),
        });
        let loops = loops(2);
        let (theirs, also_theirs) = (state.clone(), state.clone());
        let crowd = Crowd::gather(
            &loops,
            [3, 3, 3],
            move |n| {
                let state = theirs.clone();
                async move {
                    state.go.wait().await;
                    let mut places = Vec::new();
                    for round in 0..ROUNDS {
                        places.push(state.met.wait().await.unwrap());
                        let guard = state.next.lock().await;
                        let mut guard = state.turn.wait_for(guard, |next| *next == round * 9 + n).await;
                        *guard += 1;
                        drop(guard);
                        state.turn.notify_all();
                    }
                    places
                }
            },
            move |n| {
                let state = also_theirs.clone();
                state.go.wait_blocking(Some(LONG)).unwrap();
                let mut places = Vec::new();
                for round in 0..ROUNDS {
                    places.push(state.met.wait_blocking(Some(LONG)).unwrap().unwrap());
                    let mut guard = state.next.lock_blocking(Some(LONG)).unwrap();
                    while *guard != round * 9 + n {
                        let (again, waited) = state.turn.wait_blocking(guard, Some(LONG));
                        waited.unwrap();
                        guard = again;
                    }
                    *guard += 1;
                    drop(guard);
                    state.turn.notify_all();
                }
                places
            },
        );
        let all_wait = async {
            while state.go.statistics().waiting < 9 {
                sleep(Duration::from_millis(1)).await;
            }
        };
        timeout(LONG, all_wait).await.unwrap();
        state.go.set();
        let ends: Vec<Vec<usize>> = crowd.ends().await.into_iter().map(Result::unwrap).collect();
        for round in 0..ROUNDS {
            let places: BTreeSet<_> = ends.iter().map(|places| places[round]).collect();
            assert_eq!(places.len(), 9, "each has a place of its own");
        }
        assert_eq!(*state.next.lock().await, 9 * ROUNDS);
        for one in loops {
            timeout(LONG, one.ended()).await.unwrap().unwrap();
        }
    }
}

/// What would have to wait is refused; what need not wait is not.
fn refuses_to_block() {
    let short = Some(Duration::from_secs(1));
    for limit in [None, short] {
        let queue = Queue::bounded(1);
        assert_eq!(queue.get_blocking(limit), Err(GetError::WouldBlock));
        queue.put_blocking(1, limit).unwrap();
        assert_eq!(queue.put_blocking(2, limit), Err(PutError::WouldBlock(2)));
        assert_eq!(queue.join_blocking(limit), Err(WaitError::WouldBlock));
        assert_eq!(queue.get_blocking(limit), Ok(1));
        let stack: LifoQueue<u8> = LifoQueue::unbounded();
        assert_eq!(stack.get_blocking(limit), Err(GetError::WouldBlock));
        let heap: PriorityQueue<u8, u8> = PriorityQueue::unbounded();
        assert_eq!(heap.get_blocking(limit), Err(GetError::WouldBlock));

        let lock = Lock::new(());
        let held = lock.lock_blocking(limit).unwrap();
        assert_eq!(lock.lock_blocking(limit).unwrap_err(), WaitError::WouldBlock);
        let condition = Condition::new();
        let (held, waited) = condition.wait_blocking(held, limit);
        assert_eq!(waited, Err(WaitError::WouldBlock));
        assert!(lock.is_locked(), "the lock stays with the guard");
        drop(held);
        drop(lock.lock_blocking(limit).unwrap());
        let permits = Semaphore::new(1);
        let permit = permits.acquire_blocking(limit).unwrap();
        assert_eq!(permits.acquire_blocking(limit).unwrap_err(), WaitError::WouldBlock);
        drop(permit);
        let event = Event::new();
        assert_eq!(event.wait_blocking(limit), Err(WaitError::WouldBlock));
        event.set();
        event.wait_blocking(limit).unwrap();
        assert_eq!(Barrier::new(2).wait_blocking(limit), Err(WaitError::WouldBlock));
        assert_eq!(queue.statistics().getting + queue.statistics().putting + lock.statistics().waiting, 0);
    }
}

/// What would have to wait is refused where nothing may, in code that no task runs as well.
///
/// Rows: F53, F59, F60, F63.
#[cfg(all(target_family = "wasm", target_os = "unknown"))]
#[crate::harness::test]
fn blocking_forms_refuse_to_block_a_page() {
    refuses_to_block();
}

/// Whoever else is there for it could not run meanwhile.
///
/// Rows: F53, F59, F60, F63.
#[crate::harness::test]
fn blocking_forms_refuse_to_hold_up_a_simulation() {
    Sim::new().run(async {
        to_thread(refuses_to_block).await.unwrap();
        Thread::spawn("blocks", refuses_to_block).unwrap().await.unwrap();
        ThreadPool::new(1).unwrap().submit(refuses_to_block).unwrap().await.unwrap();
    });
}
