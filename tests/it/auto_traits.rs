//! Which types may cross threads is part of the interface.

use selkie::*;

const fn send<T: Send>() {}
const fn send_sync<T: Send + Sync>() {}
const fn unpin<T: Unpin>() {}

/// Compiles only while none of the types implements the trait: otherwise `item` is ambiguous.
macro_rules! not {
    ($marker:ident: $($t:ty),* $(,)?) => { $(const _: fn() = || {
        trait Ambiguous<A> { fn item() {} }
        impl<T: ?Sized> Ambiguous<()> for T {}
        struct Implemented;
        impl<T: ?Sized + $marker> Ambiguous<Implemented> for T {}
        let _ = <$t as Ambiguous<_>>::item;
    };)* };
}

const _: () = {
    send_sync::<LoopHandle>();
    send_sync::<RemoteHandle>();
    send_sync::<CancelOutcome>();
    send::<LoopThread>();
    send::<RemoteTask<std::cell::Cell<u8>>>();
    send::<ToThread<std::cell::Cell<u8>>>();
    send_sync::<Queue<std::cell::Cell<u8>>>();
    send_sync::<LifoQueue<std::cell::Cell<u8>>>();
    send_sync::<PriorityQueue<u8, std::cell::Cell<u8>>>();
    send_sync::<Lock<std::cell::Cell<u8>>>();
    send_sync::<RLock<std::cell::Cell<u8>>>();
    send_sync::<Semaphore>();
    send_sync::<BoundedSemaphore>();
    send_sync::<Event>();
    send_sync::<Condition>();
    send_sync::<Barrier>();
    send_sync::<IsolatedPool>();
    send_sync::<Context>();
    send_sync::<ContextVar<String>>();
    send_sync::<Builder>();
    send_sync::<Priority>();
    send_sync::<TaskState>();
    send_sync::<Cancelled>();
    send_sync::<ExceptionContext>();
    send_sync::<JoinError>();
    send_sync::<RunError>();
    send_sync::<InvalidState>();
    send_sync::<LoopClosed>();
    send_sync::<TimedOut>();
    send_sync::<TaskError<String>>();
    send_sync::<YieldNow>();
    send_sync::<ThreadPool>();
    send_sync::<PoolScope<'static, 'static>>();
    send_sync::<PoolShutdown>();
    send_sync::<PoolError>();
    send_sync::<Executor>();
    send_sync::<Thread<std::cell::Cell<u8>>>();
    send_sync::<ThreadPanic>();
    send_sync::<LoopLocal<std::rc::Rc<u8>>>();
    send_sync::<RemoteSet<std::cell::Cell<u8>>>();
    unpin::<PoolMap<std::vec::IntoIter<u8>, std::marker::PhantomPinned, std::marker::PhantomPinned>>();
    unpin::<RemoteSet<std::marker::PhantomPinned>>();
    send_sync::<testing::Deadlock>();
    unpin::<Task<std::marker::PhantomPinned>>();
    unpin::<Join<std::marker::PhantomPinned>>();
    unpin::<Joined<'static, std::marker::PhantomPinned>>();
    unpin::<Ended>();
    unpin::<Sleep>();
    unpin::<YieldNow>();
};

not!(Send: EventLoop, Handle, Runner, Task<()>, AnyTask, Join<()>, Joined<'static, ()>, Ended, Sleep,
    CatchCancel<()>, ContextScope<'static, u32>, LoopScope<'static, u32>, testing::Sim, TaskGroup<()>,
    local::Queue<u8>);
not!(Sync: EventLoop, Handle, Runner, Task<()>, AnyTask, Join<()>, Joined<'static, ()>, Ended, Sleep,
    CatchCancel<()>, ContextScope<'static, u32>, testing::Sim, TaskGroup<()>, local::Queue<u8>, local::Lock<u8>,
    local::Event, local::Semaphore, local::Condition);
// What is no `Send` itself makes no queue or lock that crosses threads.
not!(Send: Queue<std::rc::Rc<u8>>, Lock<std::rc::Rc<u8>>);
not!(Sync: Queue<std::rc::Rc<u8>>, Lock<std::rc::Rc<u8>>);
not!(Unpin: CatchCancel<std::marker::PhantomPinned>);
