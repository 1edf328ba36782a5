//! Which types may cross threads is part of the interface.

use selkie::*;

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
    CatchCancel<()>, ContextScope<'static, u32>, LoopScope<'static, u32>, testing::Sim);
not!(Sync: EventLoop, Handle, Runner, Task<()>, AnyTask, Join<()>, Joined<'static, ()>, Ended, Sleep,
    CatchCancel<()>, ContextScope<'static, u32>, testing::Sim);
not!(Unpin: CatchCancel<std::marker::PhantomPinned>);
