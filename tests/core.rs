use selkie::*;
use std::time::Duration;
use std::rc::Rc;
use std::cell::RefCell;

#[test]
fn basics() {
    let r = run(async {
        let t = spawn(async { 5 });
        assert!(t.is_finished());
        let u = spawn(async { sleep(Duration::from_millis(5)).await; 6 });
        assert!(!u.is_finished());
        let v = spawn_lazy(async { yield_now().await; 7 });
        t.await.unwrap() + u.await.unwrap() + v.await.unwrap()
    });
    assert_eq!(r, 18);
}
#[test]
fn many() {
    let r = run(async {
        let mut ts = vec![];
        for i in 0..3_00u64 { ts.push(spawn(async move { yield_now().await; i })) }
        let mut s = 0; for t in ts { s += t.await.unwrap() } s
    });
    assert_eq!(r, 299 * 300 / 2);
}
#[test]
fn sim_time_and_order() {
    let sim = testing::Sim::new();
    let log = Rc::new(RefCell::new(vec![]));
    let l = log.clone();
    sim.run(async move {
        let mut ts = vec![];
        for i in (0..50u64).rev() { let l = l.clone(); ts.push(spawn(async move { sleep(Duration::from_millis(i*37)).await; l.borrow_mut().push(i) })) }
        for t in ts { t.await.unwrap() }
    });
    assert_eq!(*log.borrow(), (0..50).collect::<Vec<_>>());
    assert_eq!(sim.elapsed(), Duration::from_millis(49*37));
}
#[test]
fn panic_cancel() {
    run(async {
        let t = spawn(async { panic!("x") });
        let t: Task<()> = t;
        assert!(t.await.unwrap_err().is_panic());
        let t = spawn(sleep(Duration::from_secs(100)));
        assert!(t.cancel());
        assert!(t.await.unwrap_err().is_cancelled());
        let t = spawn(async { let e = catch_cancel(sleep(Duration::from_secs(100))).await.unwrap_err(); sleep(Duration::from_millis(2)).await; e.resume().await; });
        t.cancel();
        assert!(t.await.unwrap_err().is_cancelled());
        let (tx, rx) = futures::channel::oneshot::channel::<u32>();
        std::thread::spawn(move || { std::thread::sleep(Duration::from_millis(5)); tx.send(3).unwrap() });
        assert_eq!(rx.await.unwrap(), 3);
    });
}
#[test]
fn deadlock() {
    let e = testing::Sim::new().try_run(std::future::pending::<()>()).unwrap_err();
    println!("{e}");
}
