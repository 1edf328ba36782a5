//! Models of the pool. Run by `RUSTFLAGS="--cfg selkie_loom" cargo test -p selkie-native --lib --release models`.

use std::sync::atomic::{AtomicUsize as Count, Ordering::Relaxed};

use super::*;

/// What has become of the jobs.
#[derive(Default)]
struct Fates {
    run: Count,
    dropped: Count,
}

struct Note(Option<Arc<Fates>>);

impl Run for Note {
    type Owner = ();

    fn run(mut self, (): &()) {
        self.0.take().expect("run once").run.fetch_add(1, Relaxed);
    }
}

impl Drop for Note {
    fn drop(&mut self) {
        if let Some(fates) = self.0.take() {
            fates.dropped.fetch_add(1, Relaxed);
        }
    }
}

/// Every interleaving with so many preemptions; all of them take hours.
fn check(model: impl Fn(Arc<Pool<Note>>, Arc<Fates>) + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(PREEMPTIONS);
    builder.check(move || {
        let pool = Pool::owned_by(NonZeroUsize::MIN, Duration::MAX, Duration::ZERO, "model", ());
        model(Arc::new(pool), Arc::default());
    });
}

const PREEMPTIONS: usize = 3;

/// Whether the pool has taken the job.
fn submit(pool: &Pool<Note>, fates: &Arc<Fates>) -> usize {
    match pool.submit(Note(Some(fates.clone()))) {
        Ok(()) => 1,
        Err(Refused::ShutDown(mut job)) => {
            job.0 = None;
            0
        }
        Err(refused) => panic!("{refused}"),
    }
}

/// Whether everything has ended: a wait that is not woken is a deadlock, which loom reports.
fn join(pool: &Pool<Note>) {
    pool.join(None).unwrap();
    assert_eq!(pool.counts(), Counts { threads: 0, idle: 0, queued: 0 });
}

#[test]
fn a_job_that_is_submitted_beside_a_shutdown_is_run_or_refused() {
    check(|pool, fates| {
        let other = {
            let (pool, fates) = (pool.clone(), fates.clone());
            thread::spawn(move || submit(&pool, &fates))
        };
        let first = submit(&pool, &fates);
        pool.shutdown();
        join(&pool);
        let taken = first + other.join().unwrap();
        assert_eq!((fates.run.load(Relaxed), fates.dropped.load(Relaxed)), (taken, 0));
    });
}

#[test]
fn a_job_that_is_submitted_beside_an_immediate_shutdown_is_run_handed_back_or_refused() {
    check(|pool, fates| {
        let other = {
            let (pool, fates) = (pool.clone(), fates.clone());
            thread::spawn(move || submit(&pool, &fates))
        };
        let first = submit(&pool, &fates);
        let back = pool.shutdown_now().into_iter().map(|mut job| job.0 = None).count();
        join(&pool);
        let taken = first + other.join().unwrap();
        assert_eq!((fates.run.load(Relaxed) + back, fates.dropped.load(Relaxed)), (taken, 0));
    });
}

#[test]
fn who_waits_for_the_end_is_woken_whoever_brings_it_about() {
    check(|pool, fates| {
        let joiner = {
            let pool = pool.clone();
            thread::spawn(move || join(&pool))
        };
        assert_eq!(submit(&pool, &fates), 1);
        pool.shutdown();
        joiner.join().unwrap();
        assert_eq!(fates.run.load(Relaxed), 1);
    });
}
