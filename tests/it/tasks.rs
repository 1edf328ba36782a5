//! Tasks: start, state, results, callbacks.

use selkie::{JoinError, spawn, spawn_lazy};

behaviour! {
    /// Rows: F12, X12.
    async fn an_eager_task_runs_to_its_first_suspension_inside_spawn(t) {
        let inner = t.clone();
        let eager = spawn(async move {
            inner.log("eager starts");
            selkie::yield_now().await;
            inner.log("eager goes on");
        });
        let inner = t.clone();
        let lazy = spawn_lazy(async move { inner.log("lazy starts") });
        t.log("spawned");
        let _: Result<(), JoinError> = eager.await;
        lazy.await.unwrap();
    } => ["eager starts", "spawned", "eager goes on", "lazy starts"]
}
