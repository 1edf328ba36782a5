//! What stands in Redis, and how it is read.

use std::{
    hash::{BuildHasher, Hasher, RandomState},
    sync::LazyLock,
};

use redis::{FromRedisValue, RedisError, RedisResult, Script, Value};

use crate::Error;

macro_rules! scripts {
    ($($name:ident = $file:literal,)*) => {
        $(pub(crate) static $name: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!($file)));)*
    };
}

scripts! {
    SUBMIT = "lua/submit.lua",
    SETTLE = "lua/settle.lua",
    CLAIM = "lua/claim.lua",
    RECOVER = "lua/recover.lua",
    BEAT = "lua/beat.lua",
    PROMOTE = "lua/promote.lua",
    LETTERS = "lua/letters.lua",
    REPLAY = "lua/replay.lua",
    LEAVE = "lua/leave.lua",
    COUNTS = "lua/counts.lua",
    LIST_SETTLE = "lua/list_settle.lua",
    LIST_TAKE = "lua/list_take.lua",
    LIST_REAP = "lua/list_reap.lua",
}

/// The one consumer group of a queue.
pub(crate) const GROUP: &str = "workers";

/// The keys of a queue. The braces put them into one slot of a cluster.
#[derive(Clone, Debug)]
pub(crate) struct Keys {
    base: String,
    pub(crate) stream: String,
    pub(crate) later: String,
    pub(crate) dead: String,
    pub(crate) totals: String,
    pub(crate) channel: String,
}

impl Keys {
    pub(crate) fn new(queue: &str, database: i64) -> Self {
        let base = format!("selkie:{{{queue}}}");
        let key = |part: &str| format!("{base}:{part}");
        Self {
            stream: key("jobs"),
            later: key("later"),
            dead: key("dead"),
            totals: key("totals"),
            // The channels of a server belong to all of its databases.
            channel: match database {
                0 => key("events"),
                other => key(&format!("events:{other}")),
            },
            base,
        }
    }

    pub(crate) fn outcome(&self, id: &str) -> String {
        format!("{}:outcome:{id}", self.base)
    }

    pub(crate) fn chosen(&self, id: &str) -> String {
        format!("{}:id:{id}", self.base)
    }

    pub(crate) fn token(&self) -> String {
        format!("{}:token:{}", self.base, unique())
    }
}

/// The longest text that Redis takes, if its owner has not changed that.
pub(crate) const LARGEST: usize = 512 << 20;
/// When so many bytes are in a message, nothing more is added: Redis does nothing else while it executes it. It always takes so many.
pub(crate) const FULL: usize = 1 << 20;

/// 128 bits, improbable to come twice. They are of the system: a program may seed the generator of `fastrand` for itself, and does so again
/// in each process.
pub(crate) fn unique() -> String {
    let random = || RandomState::new().build_hasher().finish();
    format!("{:016x}{:016x}", random(), random())
}

/// An entry of a stream.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) id: String,
    pub(crate) fields: Vec<(Vec<u8>, Vec<u8>)>,
    /// How often it was delivered, this time included.
    pub(crate) deliveries: u64,
}

impl Entry {
    pub(crate) fn get(&self, name: &str) -> Option<&[u8]> {
        let field = self.fields.iter().find(|(field, _)| field == name.as_bytes());
        field.map(|(_, value)| value.as_slice())
    }

    pub(crate) fn text(&self, name: &str) -> Option<&str> {
        std::str::from_utf8(self.get(name)?).ok()
    }
}

pub(crate) fn unexpected(what: &'static str) -> RedisError {
    // A kind of its own: it is neither repaired by waiting nor by a new connection.
    RedisError::from((redis::ErrorKind::UnexpectedReturnType, what))
}

pub(crate) fn list(value: Value) -> RedisResult<Vec<Value>> {
    match value {
        Value::Array(items) => Ok(items),
        Value::Nil => Ok(Vec::new()),
        _ => Err(unexpected("not a list")),
    }
}

/// Reads `[[id, [field, value, ..], deliveries?], ..]`. What was deleted meanwhile has no fields and is left out.
pub(crate) fn entries(value: Value) -> RedisResult<Vec<Entry>> {
    let mut found = Vec::new();
    for item in list(value)? {
        let mut parts = list(item)?.into_iter();
        let (Some(id), Some(fields)) = (parts.next(), parts.next()) else { continue };
        if fields == Value::Nil {
            continue;
        }
        let deliveries = parts.next().map_or(Ok(1), u64::from_redis_value)?;
        let mut values = list(fields)?.into_iter();
        let mut fields = Vec::new();
        while let (Some(name), Some(value)) = (values.next(), values.next()) {
            fields.push((Vec::from_redis_value(name)?, Vec::from_redis_value(value)?));
        }
        found.push(Entry { id: String::from_redis_value(id)?, fields, deliveries });
    }
    Ok(found)
}

/// Reads the answer of XREADGROUP of one stream: `[[stream, entries]]`, in RESP3 `{stream: entries}`, or nothing.
pub(crate) fn read_entries(value: Value) -> RedisResult<Vec<Entry>> {
    if let Value::Map(streams) = value {
        return streams.into_iter().next().map_or(Ok(Vec::new()), |(_, found)| entries(found));
    }
    let Some(stream) = list(value)?.into_iter().next() else { return Ok(Vec::new()) };
    let found = list(stream)?.into_iter().nth(1);
    entries(found.ok_or_else(|| unexpected("a stream without entries"))?)
}

pub(crate) fn json<T: serde::Serialize>(what: impl Into<String>, value: &T) -> Result<String, Error> {
    serde_json::to_string(value).map_err(|error| Error::payload(what, error))
}
