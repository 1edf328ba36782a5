//! The functions that workers know, and what goes between them and a pool.
//!
//! A pool and its workers run the same program, so a place in the registry names a function. The first message of a worker
//! shows that they do: a file may be replaced while it runs.
//!
//! A request is the place, as four bytes, and the arguments. A reply is a result or a text, and one byte that says which.

use std::{
    any::Any,
    panic::{AssertUnwindSafe, catch_unwind},
};

use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::{Call, WORKER, codec};
use crate::{
    error::{JoinError, discard, panic_message},
    os,
};

/// A function that workers know.
#[derive(Debug)]
pub struct Job {
    name: &'static str,
    place: &'static str,
    run: fn(&[u8]) -> Vec<u8>,
}

impl Job {
    /// `run` reads arguments and answers with a reply.
    pub const fn new(name: &'static str, place: &'static str, run: fn(&[u8]) -> Vec<u8>) -> Self {
        Self { name, place, run }
    }

    pub(super) fn name(&self) -> &'static str {
        self.name
    }

    pub(super) fn run(&self, arguments: &[u8]) -> Vec<u8> {
        (self.run)(arguments)
    }
}

/// An entry of the registry.
#[derive(Debug)]
pub struct Registered {
    /// The function.
    pub job: &'static Job,
    /// What a Worker serves by. It is here so that a module without such functions has nothing of that.
    pub serve: fn(),
}

impl Registered {
    /// As the attribute registers `job`.
    pub const fn new(job: &'static Job) -> Self {
        Self { job, serve: os::serve_isolated }
    }
}

inventory::collect!(Registered);

/// What an isolated function does in the caller's program.
pub fn call<A: Serialize, R: Serialize + DeserializeOwned>(job: &'static Job, arguments: &A) -> Call<R> {
    let encoded = catch_unwind(AssertUnwindSafe(|| codec::encode(arguments)));
    let encoded = encoded.unwrap_or_else(|payload| Err(panicked(payload)));
    let refused = |error| format!("the arguments of `{}` could not be sent: {error}", job.name).into();
    Call::new(job, encoded.map_err(refused))
}

/// What an isolated function does in a worker.
pub fn run<'a, A: Deserialize<'a>, R: Serialize>(bytes: &'a [u8], f: impl FnOnce(A) -> R) -> Vec<u8> {
    let run = || match codec::decode(bytes) {
        Err(error) => (reply::BAD_DATA, format!("the arguments could not be read: {error}").into_bytes()),
        Ok(arguments) => {
            let result = f(arguments);
            match codec::encode(&result) {
                Ok(bytes) => (reply::DONE, bytes),
                Err(error) => {
                    (reply::BAD_DATA, format!("the result could not be sent: {error}").into_bytes())
                }
            }
        }
    };
    let (kind, mut reply) = catch_unwind(AssertUnwindSafe(run))
        .unwrap_or_else(|payload| (reply::PANICKED, panicked(payload).into_bytes()));
    reply.push(kind);
    reply
}

fn panicked(payload: Box<dyn Any + Send>) -> String {
    let message = panic_message(&*payload);
    discard(payload);
    message
}

/// How a reply ends; what stands before is the result, or a text.
mod reply {
    pub(super) const DONE: u8 = 0;
    pub(super) const PANICKED: u8 = 1;
    pub(super) const BAD_DATA: u8 = 2;
}

/// What a reply says about a call of `name`.
pub(super) fn result<R: DeserializeOwned>(name: &str, reply: &[u8]) -> Result<R, JoinError> {
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    match reply.split_last() {
        Some((&reply::DONE, bytes)) => {
            let decoded = catch_unwind(AssertUnwindSafe(|| codec::decode(bytes)));
            decoded.unwrap_or_else(|payload| Err(panicked(payload))).map_err(|error| {
                JoinError::bad_data(format!("the result of `{name}` could not be read: {error}").into())
            })
        }
        Some((&reply::PANICKED, message)) => Err(panic(name, text(message))),
        Some((&reply::BAD_DATA, message)) => {
            Err(JoinError::bad_data(format!("`{name}`: {}", text(message)).into()))
        }
        _ => Err(JoinError::bad_data(format!("the worker of `{name}` answered what makes no sense").into())),
    }
}

pub(super) fn panic(name: &str, message: String) -> JoinError {
    JoinError::panicked(format!("isolated function `{name}`"), Box::new(message))
}

pub(super) fn request(job: &'static Job, arguments: &[u8]) -> Option<Vec<u8>> {
    let place = registry().position(|known| std::ptr::eq(known, job))?;
    let mut request = Vec::with_capacity(4 + arguments.len());
    request.extend(u32::try_from(place).ok()?.to_le_bytes());
    request.extend(arguments);
    Some(request)
}

fn registry() -> impl Iterator<Item = &'static Job> {
    inventory::iter::<Registered>.into_iter().map(|registered| registered.job)
}

/// The first message of a worker: the program that it runs.
pub(crate) fn hello() -> Vec<u8> {
    // FNV-1a.
    let mut hash = 0xcbf2_9ce4_8422_2325u64;
    let mut add = |text: &str| {
        for byte in text.bytes().chain([0xff]) {
            hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
    };
    add(concat!("selkie ", env!("CARGO_PKG_VERSION")));
    for job in registry() {
        add(job.name);
        add(job.place);
    }
    hash.to_le_bytes().to_vec()
}

/// Runs what a request asks for, in the worker `name`.
pub(crate) fn answer(name: &str, request: &[u8]) -> Vec<u8> {
    let named = WORKER.replace(Some(name.to_owned()));
    let job = request.split_first_chunk().and_then(|(place, arguments)| {
        Some((registry().nth(u32::from_le_bytes(*place) as usize)?, arguments))
    });
    let reply = match job {
        Some((job, arguments)) => job.run(arguments),
        None => {
            let mut reply = b"the worker does not know the function".to_vec();
            reply.push(reply::BAD_DATA);
            reply
        }
    };
    WORKER.set(named);
    reply
}
