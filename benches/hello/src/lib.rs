//! A task is spawned, sleeps, and is waited for. One feature says on what.

use wasm_bindgen::prelude::*;

#[wasm_bindgen]
extern "C" {
    #[wasm_bindgen(js_namespace = console)]
    fn log(number: f64);
}

#[cfg(feature = "selkie")]
#[wasm_bindgen(start)]
pub fn start() {
    use std::time::Duration;
    _ = selkie::start(async {
        let task = selkie::spawn(async {
            selkie::sleep(Duration::from_millis(10)).await;
            42
        });
        log(f64::from(task.await.unwrap_or(0)));
    });
}

/// It has neither handles nor timers: the least is to await a promise of `setTimeout`.
#[cfg(all(feature = "wasm-bindgen-futures", not(feature = "n0-future")))]
#[wasm_bindgen(start)]
pub fn start() {
    #[wasm_bindgen]
    extern "C" {
        #[wasm_bindgen(js_name = setTimeout)]
        fn set_timeout(done: &js_sys::Function, ms: f64);
    }
    wasm_bindgen_futures::spawn_local(async {
        let promise = js_sys::Promise::new(&mut |done, _| set_timeout(&done, 10.0));
        _ = wasm_bindgen_futures::JsFuture::from(promise).await;
        log(42.0);
    });
}

#[cfg(feature = "n0-future")]
#[wasm_bindgen(start)]
pub fn start() {
    use std::time::Duration;
    wasm_bindgen_futures::spawn_local(async {
        let task = n0_future::task::spawn(async {
            n0_future::time::sleep(Duration::from_millis(10)).await;
            42
        });
        log(f64::from(task.await.unwrap_or(0)));
    });
}
