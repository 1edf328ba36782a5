//! What happens in a queue, told by a channel of Redis.
//!
//! A channel has no memory: what is published while the connection is broken is lost. So a watch says when that may have
//! happened, with [`Event::Gap`], after it is subscribed again; whoever waits for something looks then, and so misses nothing.
//!
//! The client reads whatever comes and keeps it, so Redis never sees that a watcher is behind. So a task beside the connection
//! takes it from there, hands on what there is room for, and gives the connection up where there is none.
//!
//! A connection may die without a word, and a channel may be silent for long. So that task asks whether anybody is there when nothing
//! has come for a while, and gives up a connection that does not answer.

use std::{
    borrow::Cow,
    collections::VecDeque,
    fmt,
    future::Future,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures_util::{
    StreamExt,
    future::{Either, select},
};
use redis::{AsyncConnectionConfig, Client, RedisResult, Value, aio::PubSub};
use tokio::{sync::mpsc, task::JoinHandle};

use crate::{
    Error, JobId, io,
    link::{ANSWER_LIMIT, is_passing, silent},
    retry::Retry,
};

/// After so long without an event the connection is asked whether it lives.
const QUIET: Duration = Duration::from_secs(15);

/// How long to wait after a refusal.
const REFUSED_WAIT: Duration = Duration::from_secs(1);

/// Bytes that a watcher may be behind. Redis has a limit of this kind too, of 32 MB.
const ROOM: usize = 16 << 20;

/// What a message takes beside its text.
const FRAME: usize = 128;

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
/// Has a connection of its own, which comes back by itself. One that dies without a word is noticed within 25 seconds.
///
/// Read it: a watch that is 16 MiB behind is not told more, and then sees an [`Event::Gap`].
pub struct Watch {
    client: Client,
    channel: String,
    subscribed: Option<Messages>,
    /// A connection that is on its way. It outlives the future that has begun it.
    connecting: Option<JoinHandle<RedisResult<Messages>>>,
    /// Connections that failed since the last good one, and how long to wait before the next.
    failed: u32,
    pause: Duration,
    /// Of a message that tells several.
    events: VecDeque<Event>,
}

impl Watch {
    pub(crate) async fn open(client: Client, channel: String, patience: Duration) -> Result<Self, Error> {
        let mut watch = Self {
            client,
            channel,
            subscribed: None,
            connecting: None,
            failed: 0,
            pause: Duration::ZERO,
            events: VecDeque::new(),
        };
        let mut last = None;
        let subscribing = watch.subscribe(&mut last);
        match selkie::timeout(patience, subscribing).await {
            Ok(Ok(())) => Ok(watch),
            Ok(Err(error)) => Err(Error::refused(error)),
            Err(_) => Err(Error::unreachable(last.unwrap_or_else(silent), patience)),
        }
    }

    async fn subscribe(&mut self, last: &mut Option<redis::RedisError>) -> RedisResult<()> {
        loop {
            let connect = || connect(self.client.clone(), self.channel.clone(), self.pause);
            let connecting = self.connecting.get_or_insert_with(|| io::handle().spawn(connect()));
            let connected = connecting.await.unwrap_or_else(|error| Err(std::io::Error::other(error).into()));
            self.connecting = None;
            let error = match connected {
                Ok(messages) => {
                    self.subscribed = Some(messages);
                    (self.failed, self.pause) = (0, Duration::ZERO);
                    return Ok(());
                }
                Err(error) => error,
            };
            if !is_passing(&error) {
                self.pause = REFUSED_WAIT;
                return Err(error);
            }
            self.failed += 1;
            self.pause = Retry::RECONNECT.wait(self.failed).unwrap_or_default();
            *last = Some(error);
        }
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
            let Some(messages) = &mut self.subscribed else {
                // What Redis refuses now it did not refuse before: a human is at work on it.
                while self.subscribe(&mut None).await.is_err() {}
                return Event::Gap;
            };
            match messages.next().await {
                Some(text) => self.events.extend(text.lines().filter_map(Event::read)),
                None => self.subscribed = None,
            }
        }
    }
}

/// Makes a connection after `pause`, inside tokio.
async fn connect(client: Client, channel: String, pause: Duration) -> RedisResult<Messages> {
    tokio::time::sleep(pause).await;
    let subscribe = async {
        let mut connection = client.get_async_pubsub().await?;
        connection.subscribe(&channel).await?;
        // The client takes a refusal for success. By the older protocol the form of this answer tells whether one is subscribed.
        if !matches!(connection.ping().await?, Value::Array(_)) {
            let config = AsyncConnectionConfig::new().set_connection_timeout(None).set_response_timeout(None);
            let mut other = client.get_multiplexed_async_connection_with_config(&config).await?;
            redis::cmd("SUBSCRIBE").arg(&channel).exec_async(&mut other).await?;
            // What was refused may have been so in passing.
            connection.subscribe(&channel).await?;
        }
        let (messages, handing_on) = Messages::of(connection);
        tokio::spawn(handing_on);
        Ok(messages)
    };
    // The client has no limit of its own for this kind of connection.
    tokio::time::timeout(ANSWER_LIMIT, subscribe).await.unwrap_or_else(|_| Err(silent()))
}

/// What has come by a connection, which goes with it.
struct Messages {
    texts: mpsc::UnboundedReceiver<String>,
    behind: Arc<AtomicUsize>,
}

impl Messages {
    /// Also what is to run beside the connection.
    fn of(connection: PubSub) -> (Self, impl Future<Output = ()> + Send) {
        let (there, texts) = mpsc::unbounded_channel();
        let behind = Arc::new(AtomicUsize::new(0));
        let this = Self { texts, behind: behind.clone() };
        let handing_on = async move {
            let (mut commands, mut messages) = connection.split();
            let mut unwanted = pin!(there.closed());
            loop {
                let next = select(messages.next(), unwanted.as_mut());
                let message = match tokio::time::timeout(QUIET, next).await {
                    Ok(Either::Left((Some(message), _))) => message,
                    Ok(_) => break,
                    Err(_) => match tokio::time::timeout(ANSWER_LIMIT, commands.ping::<()>()).await {
                        Ok(Ok(())) => continue,
                        _ => break,
                    },
                };
                let text = message.get_payload::<String>().unwrap_or_default();
                let size = text.len() + FRAME;
                if behind.fetch_add(size, Ordering::Relaxed) + size > ROOM || there.send(text).is_err() {
                    break;
                }
            }
        };
        (this, handing_on)
    }

    async fn next(&mut self) -> Option<String> {
        let text = self.texts.recv().await?;
        self.behind.fetch_sub(text.len() + FRAME, Ordering::Relaxed);
        Some(text)
    }
}

impl fmt::Debug for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watch").field("channel", &self.channel).finish_non_exhaustive()
    }
}
