//! `#[main]`, `#[test]` and `#[isolated]` of selkie.
//!
//! Use them through the crate `selkie`, which the expansions name as `::selkie`. They only wrap the function;
//! what runs it is in `selkie::__private`, ordinary code that differs by target.

mod expand;
mod function;

use proc_macro::TokenStream;

/// Makes an `async fn` the entry point of a program.
///
/// Natively it runs on a loop until it is done, and what it returns is the program's exit status as with a plain
/// `main`: it may return whatever implements [`Termination`](std::process::Termination), so `?` works with
/// `Result<(), Box<dyn Error>>`. In the browser it starts and returns at once, as a page must not be held up; an
/// error is shown in the console.
///
/// ```text
/// #[selkie::main]
/// async fn main() -> Result<(), Box<dyn std::error::Error>> {
///     selkie::sleep(std::time::Duration::from_millis(10)).await;
///     Ok(())
/// }
/// ```
///
/// becomes, on every target:
///
/// ```text
/// fn main() -> impl ::std::process::Termination {
///     async fn main() -> Result<(), Box<dyn std::error::Error>> {
///         selkie::sleep(std::time::Duration::from_millis(10)).await;
///         Ok(())
///     }
///     ::selkie::__private::main(main)
/// }
/// ```
///
/// Attributes and docs of the function stay on it. A program that needs options for its loop calls `selkie::run`
/// or a `Runner` from a plain `main`. Where Cargo.toml gives the crate another name, this and the other attributes need
/// `extern crate other_name as selkie;` at the root.
///
/// # Errors
///
/// The function must be `async` and must have neither parameters nor generics. It is an error at compile time
/// otherwise, and so is any option.
#[proc_macro_attribute]
pub fn main(options: TokenStream, item: TokenStream) -> TokenStream {
    expand::main(options.into(), item.into()).into()
}

/// Makes an `async fn` a test that runs on a loop, natively and in the browser.
///
/// | option | effect |
/// |---|---|
/// | none | runs on a real loop of the target |
/// | `sim` | runs on the simulator: virtual time, one seed of the order, deadlocks found |
/// | `sim, seed = 7` | the same with this seed |
/// | `sim, seeds = 100` | runs once with each seed from 0 to 99 |
///
/// The function returns nothing, or a `Result<(), E>` whose `E` is `Debug`; an `Err` fails the test.
/// `#[should_panic]`, `#[cfg]`, docs and all other attributes keep their meaning.
///
/// # In the browser
///
/// On `wasm32-unknown-unknown` the test belongs to `wasm-bindgen-test`. Your crate names it itself:
///
/// ```toml
/// [target.'cfg(all(target_family = "wasm", target_os = "unknown"))'.dev-dependencies]
/// wasm-bindgen-test = "0.3"
/// ```
///
/// # What it expands to
///
/// ```text
/// #[selkie::test]
/// async fn it_works() { body }
/// ```
///
/// becomes
///
/// ```text
/// // native
/// #[test]
/// fn it_works() {
///     async fn it_works() { body }
///     ::selkie::__private::test(it_works)
/// }
///
/// // wasm32-unknown-unknown
/// #[wasm_bindgen_test]
/// async fn it_works() {
///     async fn it_works() { body }
///     ::selkie::__private::test(it_works).await
/// }
/// ```
///
/// With `sim` the test is a plain function on both, as the simulator never waits:
///
/// ```text
/// #[test] // or #[wasm_bindgen_test]
/// fn it_works() {
///     async fn it_works() { body }
///     ::selkie::__private::test_sim(
///         ::selkie::__private::SimOptions {
///             name: concat!(module_path!(), "::it_works"),
///             seeds: None, // or Some(7..8), Some(0..100)
///         },
///         it_works,
///     )
/// }
/// ```
///
/// # Errors
///
/// At compile time: the function is not `async`, has parameters or generics, or is a `#[test]` already; an option
/// is unknown, stands twice, or needs `sim`.
#[proc_macro_attribute]
pub fn test(options: TokenStream, item: TokenStream) -> TokenStream {
    expand::test(options.into(), item.into()).into()
}

/// Makes a function one that the workers of an `IsolatedPool` can run.
///
/// The function takes arguments as before, but makes a `Call` instead of running: hand that to the pool.
///
/// ```text
/// #[selkie::isolated]
/// fn resize(image: Vec<u8>, width: u32) -> Result<Vec<u8>, String> { .. }
///
/// let task = pool.submit(resize(image, 800))?;
/// ```
///
/// Arguments are anything that is `Serialize` and `Deserialize`, also `&str` and other types that borrow from what they are read
/// from; the result is `Serialize` and `DeserializeOwned`. An `Err` that the function returns is its result.
///
/// ```text
/// pub fn resize(image: Vec<u8>, width: u32) -> ::selkie::isolated::Call<Result<Vec<u8>, String>> {
///     ::selkie::__private::call(
///         {
///             fn resize(image: Vec<u8>, width: u32) -> Result<Vec<u8>, String> { .. }
///             // a function that reads the arguments and calls it, registered by the path and the place of this one
///             &JOB
///         },
///         &(image, width),
///     )
/// }
/// ```
///
/// # Errors
///
/// At compile time: the function is `async`, `const`, `unsafe` or `extern`, takes `self`, or has generics or `impl Trait`;
/// an argument or the result cannot be sent.
#[proc_macro_attribute]
pub fn isolated(options: TokenStream, item: TokenStream) -> TokenStream {
    expand::isolated(options.into(), item.into()).into()
}
