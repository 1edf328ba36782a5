//! What happens in a queue, told by a channel of Redis.
//!
//! A channel has no memory: what is published while the connection is broken is lost. So a watch says when that may have
//! happened, with [`Event::Gap`], after it is subscribed again; whoever waits for something looks then, and so misses nothing.

use std::{borrow::Cow, collections::VecDeque, fmt, time::Duration};

use futures_util::StreamExt;
use redis::{Client, RedisResult, aio::PubSub};

use crate::{Error, JobId, io, link::is_passing, retry::Retry};

/// What a [`Watch`] tells.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// The job succeeded.
    Done {
        /// Which one.
        id: JobId,
        /// From when it was submitted or due until it was settled, by the clock of Redis.
        latency: Duration,
    },
    /// An attempt failed; there will be another.
    Retry {
        /// Which one.
        id: JobId,
    },
    /// The job was given up.
    Dead {
        /// Which one.
        id: JobId,
    },
    /// A worker that shuts down put it back.
    Back {
        /// Which one.
        id: JobId,
    },
    /// Events may be missing here: the connection was lost, and is back.
    Gap,
}

impl Event {
    pub(crate) fn may_end(&self, job: &JobId) -> bool {
        match self {
            Self::Done { id, .. } | Self::Dead { id } => id == job,
            Self::Gap => true,
            _ => false,
        }
    }

    fn read(payload: &str) -> Option<Self> {
        let mut words = payload.splitn(3, ' ');
        let (verdict, latency, id) = (words.next()?, words.next()?, JobId::from(unescape(words.next()?)));
        Some(match verdict {
            "done" => Self::Done { id, latency: Duration::from_millis(latency.parse().ok()?) },
            "retry" => Self::Retry { id },
            "dead" => Self::Dead { id },
            "back" => Self::Back { id },
            _ => return None,
        })
    }
}

/// What settle.lua has made of an id. What it has not made stays.
fn unescape(id: &str) -> Cow<'_, str> {
    if !id.contains('%') {
        return id.into();
    }
    let mut parts = id.split('%');
    let mut text = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let byte = part.get(..2).and_then(|digits| u8::from_str_radix(digits, 16).ok());
        match byte.filter(u8::is_ascii) {
            Some(byte) => {
                text.push(byte.into());
                text.push_str(&part[2..]);
            }
            None => {
                text.push('%');
                text.push_str(part);
            }
        }
    }
    text.into()
}

/// The events of a queue; from [`JobQueue::watch`](crate::JobQueue::watch).
///
/// Has a connection of its own, which comes back by itself. Read it: Redis closes the connection of a watcher that is far
/// behind, which then sees an [`Event::Gap`].
pub struct Watch {
    client: Client,
    channel: String,
    subscribed: Option<PubSub>,
    /// Of a message that tells several.
    events: VecDeque<Event>,
}

impl Watch {
    pub(crate) async fn open(client: Client, channel: String, patience: Duration) -> Result<Self, Error> {
        let mut watch = Self { client, channel, subscribed: None, events: VecDeque::new() };
        let mut last = None;
        let subscribing = watch.subscribe(&mut last);
        match selkie::timeout(patience, subscribing).await {
            Ok(Ok(())) => Ok(watch),
            Ok(Err(error)) => Err(Error::refused(error)),
            Err(_) => Err(last.map_or_else(
                || Error::own("Redis has not answered in time"),
                |error| Error::unreachable(error, patience),
            )),
        }
    }

    async fn subscribe(&mut self, last: &mut Option<redis::RedisError>) -> RedisResult<()> {
        for tried in 1.. {
            let (client, channel) = (self.client.clone(), self.channel.clone());
            let connect = io::handle().spawn(async move {
                let mut connection = client.get_async_pubsub().await?;
                connection.subscribe(channel).await?;
                RedisResult::Ok(connection)
            });
            match connect.await.unwrap_or_else(|error| Err(std::io::Error::other(error).into())) {
                Ok(connection) => {
                    self.subscribed = Some(connection);
                    break;
                }
                Err(error) if is_passing(&error) => *last = Some(error),
                Err(error) => return Err(error),
            }
            selkie::sleep(Retry::RECONNECT.wait(tried).unwrap_or_default()).await;
        }
        Ok(())
    }

    /// The next event.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses no event.
    pub async fn next(&mut self) -> Event {
        loop {
            if let Some(event) = self.events.pop_front() {
                return event;
            }
            let Some(connection) = &mut self.subscribed else {
                // What Redis refuses now it did not refuse before: a human is at work on it.
                while self.subscribe(&mut None).await.is_err() {
                    selkie::sleep(Duration::from_secs(1)).await;
                }
                return Event::Gap;
            };
            let message = connection.on_message().next().await;
            match message {
                Some(message) => {
                    let text = message.get_payload::<String>().unwrap_or_default();
                    self.events.extend(text.lines().filter_map(Event::read));
                }
                None => self.subscribed = None,
            }
        }
    }
}

impl fmt::Debug for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watch").field("channel", &self.channel).finish_non_exhaustive()
    }
}
