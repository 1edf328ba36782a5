use std::{error, fmt, sync::Arc, time::Duration};

use redis::{ErrorKind, RedisError};

use crate::link::code;

/// Why something that needs Redis could not be done.
///
/// Cheap to clone. What Redis or the client said is the [`source`](error::Error::source).
#[derive(Clone, Debug)]
pub struct Error(Arc<Kind>);

#[derive(Debug)]
enum Kind {
    Address(RedisError),
    Refused(RedisError),
    Unreachable(RedisError, Duration),
    Payload(String, serde_json::Error),
    TooLarge(usize),
    Reply(&'static str),
}

impl Error {
    pub(crate) fn address(error: RedisError) -> Self {
        Self(Arc::new(Kind::Address(error)))
    }

    pub(crate) fn refused(error: RedisError) -> Self {
        Self(Arc::new(Kind::Refused(error)))
    }

    pub(crate) fn unreachable(error: RedisError, after: Duration) -> Self {
        Self(Arc::new(Kind::Unreachable(error, after)))
    }

    pub(crate) fn payload(what: impl Into<String>, error: serde_json::Error) -> Self {
        Self(Arc::new(Kind::Payload(what.into(), error)))
    }

    pub(crate) fn too_large(bytes: usize) -> Self {
        Self(Arc::new(Kind::TooLarge(bytes)))
    }

    pub(crate) fn reply(what: &'static str) -> Self {
        Self(Arc::new(Kind::Reply(what)))
    }

    /// Redis could not be reached within the limit, or was not ready: it reads its data, is busy, or is a replica. It may or may not have
    /// done what was asked; asking again is safe.
    pub fn is_unreachable(&self) -> bool {
        matches!(*self.0, Kind::Unreachable(..))
    }

    /// Redis was reached and said no: no password, no permission, a key of another type, no memory left.
    pub fn is_refused(&self) -> bool {
        matches!(*self.0, Kind::Refused(_))
    }

    /// A value could not be turned into JSON, or back, or is larger than Redis takes, 512 MB if its `proto-max-bulk-len` says nothing else.
    pub fn is_payload(&self) -> bool {
        matches!(*self.0, Kind::Payload(..) | Kind::TooLarge(_))
    }
}

/// What to do where Redis says no.
fn remedy(error: &RedisError) -> Option<&'static str> {
    // Who has not said who he is may send short commands only, and hears something else of longer ones.
    let says = |text| error.detail().is_some_and(|detail| detail.contains(text));
    let is_unknown = error.kind() == ErrorKind::AuthenticationFailed
        || says("Authentication required")
        || says("unauthenticated");
    match code(error) {
        Some("WRONGTYPE") => Some(
            "Somebody else has put something under a key of this queue: remove it, or give the queue another name",
        ),
        Some("NOPERM") => Some("The user of the address needs the right to it"),
        Some("OOM") => {
            Some("It has reached its `maxmemory`: give it more, or have workers take what waits there")
        }
        Some("MOVED") => Some(
            "This is a node of a cluster, and the queue is on the one that it names: give the address of that",
        ),
        Some("NOAUTH" | "WRONGPASS") => Some(WHO),
        _ if is_unknown => Some(WHO),
        _ => None,
    }
}

const WHO: &str = "The address needs a password, and a name if the user has one: redis://user:password@host";

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &*self.0 {
            Kind::Address(error) => {
                write!(
                    f,
                    "not an address of Redis (redis://[user:password@]host[:port][/database], unix:///path, or rediss://.. with the feature `tls` of selkie-redis): {error}"
                )
            }
            Kind::Refused(error) => match remedy(error) {
                Some(remedy) => {
                    let said = error.to_string();
                    write!(f, "Redis refuses: {}. {remedy}", said.trim_end_matches('.'))
                }
                None => write!(f, "Redis refuses: {error}"),
            },
            Kind::Unreachable(error, after) => {
                let is_there = !matches!(error.kind(), ErrorKind::Io | ErrorKind::Parse);
                let what = if is_there { "is not ready" } else { "cannot be reached" };
                write!(f, "Redis {what}, tried for {after:?}: {error}")
            }
            Kind::Payload(what, error) => write!(f, "{what}: {error}"),
            Kind::TooLarge(bytes) => {
                write!(
                    f,
                    "{bytes} bytes are more than Redis takes at once, its `proto-max-bulk-len`: keep them elsewhere, and send where they are"
                )
            }
            Kind::Reply(what) => write!(f, "Redis answers in another form than expected: {what}"),
        }
    }
}

impl error::Error for Error {
    fn source(&self) -> Option<&(dyn error::Error + 'static)> {
        match &*self.0 {
            Kind::Address(error) | Kind::Refused(error) | Kind::Unreachable(error, _) => Some(error),
            Kind::Payload(_, error) => Some(error),
            Kind::TooLarge(_) | Kind::Reply(_) => None,
        }
    }
}
