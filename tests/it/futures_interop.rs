//! Combinators of other crates run on the loop.

use std::future::IntoFuture;

use futures::{FutureExt, StreamExt, stream::FuturesUnordered};
use futures_concurrency::prelude::*;
use selkie::{sleep, spawn, yield_now};

behaviour! {
    async fn join_and_select_macros(t) {
        let start = t.now();
        let (a, (), c) = futures::join!(spawn(async { 1 }).into_future(), sleep(t.secs(2.0)), async { 3 });
        assert_eq!((a.unwrap(), c), (1, 3));
        t.assert_elapsed(start, 2.0);
        let mut slow = spawn({
            let t = t.clone();
            async move {
                sleep(t.secs(60.0)).await;
            }
        })
        .into_future();
        let won = futures::select! {
            _ = slow => "task",
            () = sleep(t.secs(1.0)).fuse() => "timer",
        };
        assert_eq!(won, "timer");
        t.assert_elapsed(start, 3.0);
        // Not owned by the select: the task can be taken back.
        assert_eq!(slow.into_task().unwrap().cancelling(), 0);
    }
}

behaviour! {
    async fn tasks_in_a_set_of_futures_come_as_they_complete(t) {
        let mut set: FuturesUnordered<_> = [3u32, 1, 2]
            .into_iter()
            .map(|n| {
                let delay = t.secs(f64::from(n));
                spawn(async move {
                    sleep(delay).await;
                    n
                })
                .into_future()
            })
            .collect();
        while let Some(n) = set.next().await {
            t.log(n.unwrap().to_string());
        }
    } => ["1", "2", "3"]
}

behaviour! {
    async fn a_set_that_is_dropped_ends_the_tasks_it_owns(t) {
        let tasks: Vec<_> = (0..3).map(|_| spawn(std::future::pending::<()>())).collect();
        let watched: Vec<_> = tasks.iter().map(selkie::Task::any).collect();
        let mut set: FuturesUnordered<_> = tasks.into_iter().map(IntoFuture::into_future).collect();
        assert!(futures::poll!(set.next()).is_pending());
        drop(set);
        for task in &watched {
            task.ended().await;
        }
        assert!(watched.iter().all(|task| task.state() == selkie::TaskState::Cancelled));
    }
}

behaviour! {
    async fn futures_concurrency_joins_and_races(t) {
        let start = t.now();
        let (t1, t2) = (t.clone(), t.clone());
        let a = async move { sleep(t1.secs(1.0)).await };
        let b = async move { sleep(t2.secs(2.0)).await };
        (a, b).join().await;
        t.assert_elapsed(start, 2.0);
        let (t1, t2) = (t.clone(), t.clone());
        let slow = async move { sleep(t1.secs(60.0)).await; "slow" };
        let fast = async move { sleep(t2.secs(1.0)).await; "fast" };
        assert_eq!((slow, fast).race().await, "fast");
        t.assert_elapsed(start, 3.0);
        let tasks: Vec<_> = (0..5).map(|n| spawn(async move { yield_now().await; n }).into_future()).collect();
        let results = tasks.join().await;
        assert_eq!(results.into_iter().map(Result::unwrap).collect::<Vec<_>>(), [0, 1, 2, 3, 4]);
    }
}
