//! Queues: orders, limits, who gets what, shutdown, threads.

use std::{
    cell::{Cell, RefCell},
    cmp::Reverse,
    collections::{BTreeMap, VecDeque},
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures::StreamExt;
use selkie::{
    AnyQueue, EventLoop, GetError, LifoQueue, PriorityQueue, PutError, Queue, QueueOrder, QueueShutDown,
    WaitError, gather, local, spawn, testing::Sim, yield_now,
};

use crate::{
    harness::{OnDrop, test},
    locks::{Dice, has_threads, yields},
};

behaviour! {
    /// Rows: F62, F68. Producer and consumer; the put to a full queue waits.
    async fn items_come_out_in_the_order_of_the_puts(t) {
        let queue = Queue::bounded(2);
        let (inner, items) = (t.clone(), queue.clone());
        let producer = spawn(async move {
            for n in 0..4 {
                items.put(n).await.unwrap();
                inner.log(format!("put {n}"));
            }
        });
        t.log(format!("{} queued, full: {}", queue.len(), queue.is_full()));
        assert_eq!(queue.statistics().putting, 1);
        for _ in 0..4 {
            let item = queue.get().await.unwrap();
            t.log(format!("got {item}"));
            yield_now().await;
        }
        producer.await.unwrap();
    } => ["put 0", "put 1", "2 queued, full: true", "got 0", "put 2", "got 1", "put 3", "got 2", "got 3"]
}

behaviour! {
    /// Rows: F62, F64.
    async fn what_is_not_possible_at_once_is_an_error(t) {
        let queue = Queue::bounded(1);
        assert_eq!(queue.try_get(), Err(GetError::Empty));
        queue.try_put("a").unwrap();
        assert_eq!(queue.try_put("b"), Err(PutError::Full("b")));
        assert!(queue.is_full() && !queue.is_empty());
        assert_eq!((queue.len(), queue.limit()), (1, Some(1)));
        assert_eq!(queue.try_get(), Ok("a"));
        assert!(queue.is_empty());
        let unbounded = Queue::unbounded();
        for n in 0..1000 {
            unbounded.try_put(n).unwrap();
        }
        assert!(!unbounded.is_full());
        assert_eq!(unbounded.limit(), None);
        assert_eq!(unbounded.len(), 1000);
    }
}

behaviour! {
    /// Difference: F62. A limit of 0 is no word for "no limit".
    async fn a_queue_for_nothing_is_refused(t) {
        if cfg!(panic = "unwind") {
            assert!(std::panic::catch_unwind(|| Queue::<u8>::bounded(0)).is_err());
        }
        assert_eq!(Queue::<u8>::unbounded().limit(), None);
    }
}

behaviour! {
    /// Rows: F66.
    async fn last_in_first_out(t) {
        let queue = LifoQueue::unbounded();
        for n in 0..100 {
            queue.put(n).await.unwrap();
        }
        for n in (0..100).rev() {
            assert_eq!(queue.get().await, Ok(n));
        }
    }
}

behaviour! {
    /// Difference: F67. Equal keys come out in the order of the puts, whatever the values are.
    async fn smallest_key_first_and_equal_ones_in_order(t) {
        // Values that cannot be compared.
        let queue: PriorityQueue<i32, f64> = PriorityQueue::unbounded();
        for (key, value) in [(2, 0.2), (1, 0.3), (2, 0.1), (-5, 0.9), (1, 0.1)] {
            queue.put((key, value)).await.unwrap();
        }
        let mut order = Vec::new();
        while let Ok(item) = queue.try_get() {
            order.push(item);
        }
        assert_eq!(order, [(-5, 0.9), (1, 0.3), (1, 0.1), (2, 0.2), (2, 0.1)]);
        let greatest = PriorityQueue::unbounded();
        for key in [1, 3, 2] {
            greatest.try_put((Reverse(key), ())).unwrap();
        }
        assert_eq!(greatest.get().await, Ok((Reverse(3), ())));
    }
}

behaviour! {
    /// Rows: F68. Getters are served first come, first served.
    async fn getters_are_served_in_their_order(t) {
        let queue = Queue::unbounded();
        let getters: Vec<_> = (0..3).map(|n| {
            let (t, queue) = (t.clone(), queue.clone());
            spawn(async move {
                let item: i32 = queue.get().await.unwrap();
                t.log(format!("{n} got {item}"));
            })
        }).collect();
        assert_eq!(queue.statistics().getting, 3);
        for item in 10..13 {
            queue.try_put(item).unwrap();
        }
        for getter in getters {
            getter.await.unwrap();
        }
    } => ["0 got 10", "1 got 11", "2 got 12"]
}

behaviour! {
    /// Difference: F68. In asyncio `get_nowait` can take the item of a getter that was woken and has not run.
    async fn a_woken_getter_is_not_overtaken(t) {
        let queue = Queue::unbounded();
        let (inner, items) = (t.clone(), queue.clone());
        let getter = spawn(async move { inner.log(format!("woken got {}", items.get().await.unwrap())) });
        queue.try_put(1).unwrap();
        assert_eq!(queue.len(), 1);
        assert_eq!(queue.try_get(), Err(GetError::Empty));
        queue.try_put(2).unwrap();
        t.log(format!("newcomer got {}", queue.get().await.unwrap()));
        getter.await.unwrap();
    } => ["newcomer got 1", "woken got 2"]
}

behaviour! {
    /// Rows: F68, U10. Woken and then cancelled: the item goes to the next getter, or stays.
    async fn a_cancelled_getter_loses_no_item(t) {
        let queue = Queue::unbounded();
        let get = |name: &'static str| {
            let (t, queue) = (t.clone(), queue.clone());
            spawn(async move { t.log(format!("{name} got {}", queue.get().await.unwrap())) })
        };
        let [first, second, third] = [get("first"), get("second"), get("third")];
        queue.try_put(1).unwrap();
        first.cancel();
        second.await.unwrap();
        queue.try_put(2).unwrap();
        third.cancel();
        assert!(third.await.unwrap_err().is_cancelled());
        assert_eq!(queue.try_get(), Ok(2));
        assert!(first.await.unwrap_err().is_cancelled());
    } => ["second got 1"]
}

behaviour! {
    /// Rows: F62, U10. A putter that waits is served in its place; one that is cancelled leaves with its item.
    async fn a_cancelled_putter_takes_its_item_along(t) {
        let queue = Queue::bounded(1);
        let item = Rc::new(());
        let put = |n: u32| {
            let (queue, item) = (queue.clone(), item.clone());
            spawn(async move { queue.put((n, item)).await.unwrap() })
        };
        let tasks = [put(0), put(1), put(2)];
        tasks[1].cancel();
        yield_now().await;
        assert_eq!(Rc::strong_count(&item), 3);
        assert_eq!(queue.try_get().unwrap().0, 0);
        assert_eq!(queue.try_put((3, item.clone())).unwrap_err().into_item().0, 3, "it is 2's turn");
        assert_eq!(queue.get().await.unwrap().0, 2);
        let [zero, one, two] = tasks;
        zero.await.unwrap();
        two.await.unwrap();
        assert!(one.await.unwrap_err().is_cancelled());
    }
}

behaviour! {
    /// Rows: F68, U16. Nothing that is ready yields; the way out is a yield.
    async fn a_ready_queue_does_not_yield(t) {
        let inner = t.clone();
        let other = selkie::spawn_lazy(async move { inner.log("other") });
        let queue = Queue::bounded(10);
        for n in 0..100 {
            queue.put(n).await.unwrap();
            queue.get().await.unwrap();
        }
        t.log("a hundred items");
        yield_now().await;
        t.log("after a yield");
        other.await.unwrap();
    } => ["a hundred items", "other", "after a yield"]
}

behaviour! {
    /// Rows: F65. An empty queue has not been worked off.
    async fn join_waits_until_every_item_was_worked_off(t) {
        let queue = Queue::unbounded();
        queue.join().await;
        for n in 0..3 {
            queue.try_put(n).unwrap();
        }
        let (inner, items) = (t.clone(), queue.clone());
        let consumer = spawn(async move {
            for _ in 0..3 {
                let item = items.get().await.unwrap();
                yield_now().await;
                inner.log(format!("{item} done"));
                items.task_done();
            }
        });
        assert_eq!(queue.statistics().unfinished, 3);
        queue.join().await;
        t.log(format!("joined, {} unfinished", queue.statistics().unfinished));
        consumer.await.unwrap();
        if cfg!(panic = "unwind") {
            let once_too_often = std::panic::AssertUnwindSafe(|| queue.task_done());
            assert!(std::panic::catch_unwind(once_too_often).is_err());
        }
    } => ["0 done", "1 done", "2 done", "joined, 0 unfinished"]
}

behaviour! {
    /// Rows: X14. What is queued may be had; whoever waits to put fails with the item.
    async fn shutdown_drains(t) {
        let queue = Queue::bounded(2);
        queue.try_put(1).unwrap();
        queue.try_put(2).unwrap();
        let items = queue.clone();
        let putter = spawn(async move { items.put(3).await });
        queue.shutdown(false);
        queue.shutdown(false);
        assert!(queue.is_shut_down());
        assert_eq!(putter.await.unwrap().unwrap_err().0, 3);
        assert_eq!(queue.put(4).await, Err(QueueShutDown(4)));
        assert_eq!(queue.try_put(4), Err(PutError::ShutDown(4)));
        assert_eq!(queue.get().await, Ok(1));
        assert_eq!(queue.try_get(), Ok(2));
        assert_eq!(queue.get().await, Err(QueueShutDown(())));
        assert_eq!(queue.try_get(), Err(GetError::ShutDown));
        // Its items have still to be worked off.
        assert_eq!(queue.statistics().unfinished, 2);
        queue.task_done();
        queue.task_done();
        queue.join().await;
    }
}

behaviour! {
    /// Rows: X14.
    async fn an_immediate_shutdown_drops_what_is_queued(t) {
        let queue = Queue::unbounded();
        let item = Rc::new(());
        for _ in 0..5 {
            queue.try_put(item.clone()).unwrap();
        }
        drop(queue.get().await);
        let (inner, items) = (t.clone(), queue.clone());
        let joiner = spawn(async move {
            items.join().await;
            inner.log("joined");
        });
        queue.shutdown(false);
        queue.shutdown(true);
        assert_eq!(Rc::strong_count(&item), 1);
        assert_eq!(queue.len(), 0);
        yields(2).await;
        // The one that was taken out is still being worked on.
        t.log(format!("{} unfinished", queue.statistics().unfinished));
        queue.task_done();
        joiner.await.unwrap();
        assert_eq!(queue.get().await.unwrap_err(), QueueShutDown(()));
        queue.shutdown(true);
    } => ["1 unfinished", "joined"]
}

behaviour! {
    /// Rows: X14. An item that panics when it is dropped keeps nobody waiting.
    async fn an_immediate_shutdown_tells_everybody_whatever_the_items_do(t) {
        if !cfg!(panic = "unwind") {
            return;
        }
        let panics: fn() = || panic!("on purpose");
        let queue = Queue::bounded(1);
        assert!(queue.try_put(OnDrop(panics)).is_ok());
        let items = queue.clone();
        let putter = spawn(async move { std::mem::forget(items.put(OnDrop(panics)).await.unwrap_err()) });
        let items = queue.clone();
        let joiner = spawn(async move { items.join().await });
        let immediate = std::panic::AssertUnwindSafe(|| queue.shutdown(true));
        assert!(std::panic::catch_unwind(immediate).is_err());
        putter.await.unwrap();
        joiner.await.unwrap();
    }
}

behaviour! {
    /// Rows: X14. Getters that wait, and one that was promised an item which is then dropped.
    async fn shutdown_ends_the_getters_that_wait(t) {
        let queue = Queue::<u8>::unbounded();
        let get = || {
            let queue = queue.clone();
            spawn(async move { queue.get().await })
        };
        let tasks: Vec<_> = (0..10).map(|_| get()).collect();
        queue.try_put(1).unwrap();
        queue.shutdown(true);
        for task in tasks {
            assert_eq!(task.await.unwrap(), Err(QueueShutDown(())));
        }
        queue.join().await;
        assert_eq!(queue.statistics().getting, 0);
    }
}

behaviour! {
    /// Rows: X14, U10. A getter that was promised an item and does not come leaves it to whoever waits or asks then.
    async fn a_shutdown_leaves_the_item_of_a_getter_that_is_cancelled_to_others(t) {
        let queue = Queue::unbounded();
        let get = || {
            let queue = queue.clone();
            spawn(async move { queue.get().await })
        };
        let (first, second) = (get(), get());
        queue.try_put(1).unwrap();
        queue.shutdown(false);
        first.cancel();
        assert!(first.await.unwrap_err().is_cancelled());
        assert_eq!(second.await.unwrap(), Ok(1));
        queue.task_done();
        queue.join().await;
        // Somebody who asks while the first was woken and has not come; then there is nothing for it.
        let queue = Queue::unbounded();
        let items = queue.clone();
        let first = spawn(async move { items.get().await });
        queue.try_put(2).unwrap();
        assert_eq!(queue.try_get(), Err(GetError::Empty));
        queue.shutdown(false);
        assert_eq!(queue.get().await, Ok(2));
        assert_eq!(first.await.unwrap(), Err(QueueShutDown(())));
        assert_eq!(queue.try_get(), Err(GetError::ShutDown));
        assert_eq!(queue.statistics().getting, 0);
        // Without a cancel those who were promised something get it, and the others hear of the end.
        let queue = Queue::unbounded();
        let tasks: Vec<_> = (0..10).map(|_| {
            let queue = queue.clone();
            spawn(async move { queue.get().await })
        }).collect();
        for n in 0..3 {
            queue.try_put(n).unwrap();
        }
        queue.shutdown(false);
        let mut got = 0;
        for task in tasks {
            got += usize::from(task.await.unwrap().is_ok());
        }
        assert_eq!((got, queue.len()), (3, 0));
    }
}

behaviour! {
    /// Rows: F70. Each consumer needs a stop message of its own; a shutdown stops them all.
    async fn a_stop_message_ends_one_consumer(t) {
        let queue = Queue::unbounded();
        let consumers: Vec<_> = (0..2).map(|n| {
            let (t, queue) = (t.clone(), queue.clone());
            spawn(async move {
                while let Some(item) = queue.get().await.unwrap() {
                    let _: u32 = item;
                    yield_now().await;
                }
                t.log(format!("{n} stops"));
            })
        }).collect();
        for item in [Some(1), Some(2), None] {
            queue.try_put(item).unwrap();
        }
        yields(4).await;
        t.log("one more");
        queue.try_put(None).unwrap();
        for consumer in consumers {
            consumer.await.unwrap();
        }
    } => ["0 stops", "one more", "1 stops"]
}

behaviour! {
    /// Rows: U13. One of several producers ends, and the stream goes on until the shutdown.
    async fn a_queue_is_a_stream(t) {
        let queue = Queue::bounded(1);
        let producers: Vec<_> = (0..2).map(|n| {
            let queue = queue.clone();
            spawn(async move {
                for k in 0..=n {
                    queue.put(n * 10 + k).await.unwrap();
                }
            })
        }).collect();
        let items = queue.items();
        let closer = spawn(async move {
            for producer in producers {
                producer.await.unwrap();
            }
            queue.shutdown(false);
        });
        let mut all: Vec<i32> = items.collect().await;
        closer.await.unwrap();
        all.sort_unstable();
        assert_eq!(all, [0, 10, 11]);
    }
}

behaviour! {
    /// Rows: X36. A queue without a limit takes items from anywhere, also from a drop inside a callback.
    async fn an_unbounded_queue_is_filled_from_callbacks(t) {
        let queue = Queue::unbounded();
        let items = queue.clone();
        let _handle = EventLoop::current().unwrap().call_soon(move || {
            let from_a_drop = crate::harness::OnDrop(|| items.try_put("dropped").unwrap());
            items.try_put("called").unwrap();
            drop(from_a_drop);
        }).unwrap();
        assert_eq!(queue.get().await, Ok("called"));
        assert_eq!(queue.get().await, Ok("dropped"));
    }
}

behaviour! {
    /// Rows: F63. Inside a task nothing blocks: what would have to wait is refused, on every host.
    async fn blocking_forms_of_a_queue_refuse_to_block_a_loop(t) {
        let queue = Queue::bounded(1);
        assert_eq!(queue.get_blocking(Some(Duration::from_secs(1))), Err(GetError::WouldBlock));
        queue.put_blocking(1, None).unwrap();
        assert_eq!(queue.put_blocking(2, None), Err(PutError::WouldBlock(2)));
        assert_eq!(queue.join_blocking(None), Err(WaitError::WouldBlock));
        assert_eq!(queue.get_blocking(None), Ok(1));
        assert_eq!(queue.statistics().getting + queue.statistics().putting, 0);
    }
}

behaviour! {
    /// Rows: U11, U12. Seed 002: a producer on a loop of its own fills what a task of this one drains.
    async fn one_queue_serves_tasks_of_several_loops(t) {
        if !has_threads(&t) {
            return;
        }
        let queue = Queue::bounded(4);
        let workers: Vec<_> = (0..3).map(|n| EventLoop::spawn_thread(format!("worker {n}")).unwrap()).collect();
        let producers: Vec<_> = workers.iter().enumerate().map(|(n, worker)| {
            let queue = queue.clone();
            worker.handle().submit(async move || {
                for k in 0..100 {
                    queue.put((n, k)).await.unwrap();
                }
            }).unwrap()
        }).collect();
        let mut next = [0; 3];
        for _ in 0..300 {
            let (n, k) = queue.get().await.unwrap();
            assert_eq!(next[n], k, "items of one producer keep their order");
            next[n] += 1;
        }
        for producer in producers {
            producer.await.unwrap();
        }
        for worker in workers {
            worker.ended().await.unwrap();
        }
    }
}

behaviour! {
    /// Rows: F62, U10. 50 producers and 50 consumers, some of them cancelled: every item that went in comes out, once.
    storm async fn fifty_producers_and_fifty_consumers_lose_nothing(t) {
        let dice = Dice::new().await;
        let queue = Queue::bounded(1 + dice.roll(5) as usize);
        let put = Rc::new(RefCell::new(Vec::new()));
        let got = Rc::new(RefCell::new(Vec::new()));
        let producers: Vec<_> = (0..50u32).map(|n| {
            let (queue, put) = (queue.clone(), put.clone());
            let start = dice.roll(4);
            spawn(async move {
                yields(start).await;
                for k in 0..4 {
                    // What a cancelled put took along is not counted, unless it was taken in before.
                    let item = Rc::new(Cell::new((n * 4 + k, false)));
                    let on_cancel = item.clone();
                    let counted = put.clone();
                    let _count = crate::harness::OnDrop(move || {
                        if Rc::strong_count(&on_cancel) > 1 || on_cancel.get().1 {
                            counted.borrow_mut().push(on_cancel.get().0);
                        }
                    });
                    queue.put(item).await.unwrap();
                }
            })
        }).collect();
        let consumers: Vec<_> = (0..50).map(|_| {
            let (queue, got) = (queue.clone(), got.clone());
            let hold = dice.roll(2);
            spawn(async move {
                while let Ok(item) = queue.get().await {
                    // Kept where the producer can see that it came out.
                    item.set((item.get().0, true));
                    got.borrow_mut().push(item.get().0);
                    queue.task_done();
                    yields(hold).await;
                }
            })
        }).collect();
        for _ in 0..30 {
            producers[dice.roll(50) as usize].cancel();
            consumers[dice.roll(49) as usize].cancel();
            yields(dice.roll(2)).await;
        }
        for producer in producers {
            let _ = producer.await;
        }
        queue.join().await;
        queue.shutdown(false);
        for consumer in consumers {
            let _ = consumer.await;
        }
        let (mut put, mut got) = (put.take(), got.take());
        put.sort_unstable();
        got.sort_unstable();
        assert_eq!(put, got);
        let statistics = queue.statistics();
        assert_eq!((statistics.len, statistics.unfinished, statistics.getting, statistics.putting), (0, 0, 0, 0));
    }
}

behaviour! {
    /// Rows: F62, F66, F67. Against the models of the standard library, for operations at random.
    storm async fn the_three_orders_agree_with_their_models(t) {
        let dice = Dice::new().await;
        let limit = 1 + dice.roll(70) as usize;
        let (queue, stack, heap) = (Queue::bounded(limit), LifoQueue::bounded(limit), PriorityQueue::bounded(limit));
        let local: local::Queue<u64> = local::Queue::bounded(limit);
        let (mut line, mut pile, mut sorted) = (VecDeque::new(), Vec::new(), BTreeMap::new());
        for n in 0..600 {
            let full = line.len() == limit;
            if dice.roll(100) < 55 {
                let key = dice.roll(5);
                assert_eq!(queue.try_put(n).is_err(), full);
                assert_eq!(local.try_put(n).is_err(), full);
                assert_eq!(stack.try_put(n).is_err(), full);
                assert_eq!(heap.try_put((key, n)).is_err(), full);
                if !full {
                    line.push_back(n);
                    pile.push(n);
                    sorted.insert((key, n), ());
                }
            } else {
                assert_eq!(queue.try_get().ok(), line.front().copied());
                assert_eq!(local.try_get().ok(), line.pop_front());
                assert_eq!(stack.try_get().ok(), pile.pop());
                assert_eq!(heap.try_get().ok(), sorted.pop_first().map(|(item, ())| item));
            }
            assert_eq!((queue.len(), stack.len(), heap.len()), (line.len(), pile.len(), sorted.len()));
        }
    }
}

behaviour! {
    /// Rows: F62, F65, F68. The flavour of one thread takes items that cannot leave it.
    async fn a_local_queue_takes_what_cannot_cross_threads(t) {
        let queue = local::Queue::bounded(1);
        let (inner, items) = (t.clone(), queue.clone());
        let consumer = spawn(async move {
            while let Ok(item) = items.get().await {
                let item: Rc<str> = item;
                inner.log(&*item);
                items.task_done();
            }
        });
        for item in ["a", "b", "c"] {
            queue.put(Rc::from(item)).await.unwrap();
        }
        queue.join().await;
        queue.shutdown(false);
        consumer.await.unwrap();
    } => ["a", "b", "c"]
}

behaviour! {
    /// Rows: F62. Big items, small ones and none at all.
    async fn items_of_any_size(t) {
        let (units, blocks) = (Queue::bounded(3), Queue::unbounded());
        for n in 0..3u8 {
            units.try_put(()).unwrap();
            blocks.try_put([n; 1000]).unwrap();
        }
        assert!(units.try_put(()).is_err());
        assert_eq!(units.get().await, Ok(()));
        assert_eq!(blocks.get().await.unwrap()[999], 0);
        let many = gather((0..100).map(|n: usize| {
            let blocks = blocks.clone();
            async move { blocks.put([n as u8; 1000]).await.is_ok() }
        })).await;
        assert!(many.into_iter().all(Result::unwrap));
        assert_eq!(blocks.len(), 102);
    }
}

/// Rows: F68. Seen by the simulator: a getter of a queue that nobody fills.
#[test]
fn a_getter_of_a_queue_that_nobody_fills_is_named() {
    let deadlock = Sim::new()
        .try_run(async {
            let queue = Queue::<u8>::unbounded();
            let _ = queue.get().await;
        })
        .unwrap_err();
    assert!(deadlock.waiting()[0].ends_with("waits for an item of a queue"), "{deadlock}");
}

/// Any operations, with shrinking, against the collections of the standard library.
#[cfg(not(all(target_family = "wasm", target_os = "unknown")))]
mod models {
    use std::collections::BinaryHeap;

    use proptest::{collection::vec, prelude::*, test_runner::Config};

    use super::*;

    #[derive(Clone, Copy, Debug)]
    enum Step {
        Put(u8),
        Get,
        TaskDone,
        Shutdown,
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            8 => any::<u8>().prop_map(|key| Step::Put(key % 5)),
            7 => Just(Step::Get),
            4 => Just(Step::TaskDone),
            1 => Just(Step::Shutdown),
        ];
        vec(step, 0..200)
    }

    proptest! {
        #![proptest_config(Config { failure_persistence: None, ..Config::default() })]

        /// Rows: F62, F64, F65, F66, F67, X14.
        #[test]
        fn three_queues_do_what_their_models_do(steps in steps(), limit in 1..40usize) {
            let (line, pile, heap) =
                (Queue::bounded(limit), LifoQueue::bounded(limit), PriorityQueue::bounded(limit));
            let (mut queue, mut stack, mut sorted) = (VecDeque::new(), Vec::new(), BinaryHeap::new());
            let (mut unfinished, mut shut) = (0, false);
            for (n, step) in steps.into_iter().enumerate() {
                match step {
                    Step::Put(key) => {
                        let expected = match (shut, queue.len() == limit) {
                            (true, _) => Err(PutError::ShutDown(n)),
                            (false, true) => Err(PutError::Full(n)),
                            (false, false) => Ok(()),
                        };
                        prop_assert_eq!(line.try_put(n), expected);
                        prop_assert_eq!(pile.try_put(n), expected);
                        let refused = heap.try_put((key, n)).map_err(|refused| refused.into_item().1);
                        prop_assert_eq!(refused, expected.map_err(PutError::into_item));
                        if expected.is_ok() {
                            queue.push_back(n);
                            stack.push(n);
                            sorted.push(Reverse((key, n)));
                            unfinished += 1;
                        }
                    }
                    Step::Get => {
                        let none = if shut { GetError::ShutDown } else { GetError::Empty };
                        prop_assert_eq!(line.try_get(), queue.pop_front().ok_or(none));
                        prop_assert_eq!(pile.try_get(), stack.pop().ok_or(none));
                        prop_assert_eq!(heap.try_get(), sorted.pop().map(|item| item.0).ok_or(none));
                    }
                    Step::TaskDone if unfinished > 0 => {
                        unfinished -= 1;
                        line.task_done();
                        pile.task_done();
                        heap.task_done();
                    }
                    Step::TaskDone => {}
                    Step::Shutdown => {
                        shut = true;
                        line.shutdown(false);
                        pile.shutdown(false);
                        heap.shutdown(false);
                    }
                }
                for statistics in [line.statistics(), pile.statistics(), heap.statistics()] {
                    prop_assert_eq!((statistics.len, statistics.unfinished), (queue.len(), unfinished));
                }
                prop_assert_eq!(line.is_full(), queue.len() == limit);
            }
        }
    }
}

#[cfg(any(not(all(target_family = "wasm", target_os = "unknown")), target_feature = "atomics"))]
mod threads {
    use super::*;
    use crate::harness::thread;

    on_threads! {
    /// Rows: F63.
    #[test]
    fn a_thread_gives_up_after_its_time() {
        let queue = Queue::bounded(1);
        let short = Some(Duration::from_millis(5));
        assert_eq!(queue.get_blocking(short), Err(GetError::Empty));
        queue.put_blocking("a", short).unwrap();
        assert_eq!(queue.put_blocking("b", short), Err(PutError::Full("b")));
        assert_eq!(queue.join_blocking(short), Err(WaitError::TimedOut));
        assert_eq!(queue.get_blocking(short), Ok("a"));
        queue.task_done();
        queue.join_blocking(None).unwrap();
        let items = queue.clone();
        let getter = thread::spawn(move || items.get_blocking(None));
        while queue.statistics().getting == 0 {
            thread::yield_now();
        }
        queue.shutdown(false);
        assert_eq!(getter.join().unwrap(), Err(GetError::ShutDown));
    }

    /// Rows: F69, U11. A task drains what threads fill, and no thread waits in its place.
    #[test]
    fn a_task_drains_what_threads_fill() {
        let queue = Queue::bounded(8);
        let threads: Vec<_> = (0..4u64)
            .map(|n| {
                let queue = queue.clone();
                thread::spawn(move || {
                    for k in 0..500 {
                        queue.put_blocking(n * 500 + k, None).unwrap();
                    }
                })
            })
            .collect();
        let items = queue.clone();
        let sum = selkie::run(async move {
            let mut sum = 0;
            for _ in 0..2000 {
                sum += items.get().await.unwrap();
            }
            sum
        });
        assert_eq!(sum, (0..2000).sum::<u64>());
        for thread in threads {
            thread.join().unwrap();
        }
    }

    /// Rows: U11, U10. Fifty of each: tasks of two loops, cancelled now and then, and threads that give up now and then.
    #[test]
    fn fifty_by_fifty_across_threads_lose_nothing() {
        let queue: Queue<usize> = Queue::bounded(5);
        let (put, got) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let loops: Vec<_> = (0..2).map(|n| EventLoop::spawn_thread(format!("loop {n}")).unwrap()).collect();
        let mut remotes = Vec::new();
        for n in 0..40 {
            let handle = loops[n % 2].handle();
            let (items, count) = (queue.clone(), put.clone());
            remotes.push(
                handle
                    .submit(async move || {
                        for k in 0..50 {
                            items.put(k).await.unwrap();
                            count.fetch_add(1, Ordering::Relaxed);
                        }
                    })
                    .unwrap(),
            );
            let (items, count) = (queue.clone(), got.clone());
            remotes.push(
                handle
                    .submit(async move || {
                        loop {
                            // A getter that is dropped when another future is ready first.
                            let get = std::pin::pin!(items.get());
                            match futures::future::select(get, std::pin::pin!(yield_now())).await {
                                futures::future::Either::Left((Ok(_), _)) => {
                                    count.fetch_add(1, Ordering::Relaxed);
                                }
                                futures::future::Either::Left((Err(_), _)) => break,
                                futures::future::Either::Right(..) => yield_now().await,
                            }
                        }
                    })
                    .unwrap(),
            );
        }
        let threads: Vec<_> = (0..10)
            .flat_map(|_| {
                let (items, count) = (queue.clone(), put.clone());
                let producer = thread::spawn(move || {
                    for k in 0..50 {
                        let mut item = k;
                        while let Err(error) = items.put_blocking(item, Some(Duration::from_micros(20))) {
                            item = error.into_item();
                        }
                        count.fetch_add(1, Ordering::Relaxed);
                    }
                });
                let (items, count) = (queue.clone(), got.clone());
                let consumer = thread::spawn(move || {
                    loop {
                        match items.get_blocking(Some(Duration::from_micros(20))) {
                            Ok(_) => count.fetch_add(1, Ordering::Relaxed),
                            Err(GetError::Empty) => continue,
                            Err(_) => break,
                        };
                    }
                });
                [producer, consumer]
            })
            .collect();
        while got.load(Ordering::Relaxed) < 2500 {
            thread::sleep(Duration::from_millis(1));
        }
        queue.shutdown(false);
        for mut remote in remotes {
            remote.wait(None).unwrap().unwrap();
        }
        for thread in threads {
            thread.join().unwrap();
        }
        assert_eq!(put.load(Ordering::Relaxed), 2500);
        assert_eq!(got.load(Ordering::Relaxed), 2500);
        assert!(queue.is_empty());
        for one in loops {
            one.join(None).unwrap();
        }
    }
    }
}

behaviour! {
    /// Rows: F62. Also where the memory is used up, and the putter's item needs new one.
    async fn a_place_that_becomes_free_is_the_waiting_putters_whatever_the_limit(t) {
        async fn check<T: 'static, O: QueueOrder<T> + 'static>(queue: AnyQueue<T, O>, item: fn(u32) -> T) {
            let limit = queue.limit().unwrap();
            for number in 0..limit as u32 {
                queue.try_put(item(number)).unwrap();
            }
            let putting = queue.clone();
            let putter = spawn(async move { putting.put(item(0)).await.is_ok() });
            queue.try_get().unwrap();
            assert_eq!(queue.len(), limit, "of a queue for {limit}");
            assert!(putter.await.unwrap());
        }
        for limit in 1..200 {
            check(Queue::bounded(limit), |number| number).await;
            check(LifoQueue::bounded(limit), |number| number).await;
            check(PriorityQueue::bounded(limit), |number| (number, ())).await;
        }
    }
}
