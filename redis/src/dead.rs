use redis::Value;

use crate::{
    Error, JobId, JobQueue,
    wire::{self, Entry},
};

/// A job that was given up, as it stands in the dead-letter stream.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct DeadLetter {
    /// Its place in the stream of dead letters, behind which [`JobQueue::dead_letters`] goes on.
    pub entry: String,
    /// The job's id.
    pub id: JobId,
    /// The name of the handler, if the job had one.
    pub name: Option<String>,
    /// The arguments as they came. JSON, if they were good.
    pub args: Vec<u8>,
    /// Attempts that were made.
    pub attempts: u32,
    /// In one word why: `failed` (the handler said so, for the last time), `refused` (it said never again), `panicked`,
    /// `timed-out`, `malformed` (no name, or arguments of another shape), `unknown` (no handler of that name), `lost` (delivered
    /// too often without a verdict: its worker died each time).
    pub kind: String,
    /// The error of the last attempt.
    pub error: String,
    /// The worker that gave it up.
    pub worker: String,
}

impl DeadLetter {
    fn read(entry: Entry) -> Self {
        let text = |name| String::from_utf8_lossy(entry.get(name).unwrap_or_default()).into_owned();
        Self {
            id: JobId::from(entry.text("id").unwrap_or(&entry.id)),
            name: entry.get("name").map(|_| text("name")),
            args: entry.get("args").unwrap_or_default().to_vec(),
            attempts: entry.text("attempt").and_then(|n| n.parse().ok()).unwrap_or(1),
            kind: text("dead.kind"),
            error: text("dead.error"),
            worker: text("dead.worker"),
            entry: entry.id,
        }
    }
}

/// Dead letters stay until they are replayed or deleted; nothing trims them.
impl JobQueue {
    /// Up to `count` dead letters, oldest first, that come behind the entry `after`.
    ///
    /// # Errors
    ///
    /// As [`submit`](Self::submit).
    pub async fn dead_letters(&self, after: Option<&str>, count: usize) -> Result<Vec<DeadLetter>, Error> {
        let start = after.map_or_else(|| "-".to_owned(), |entry| format!("({entry}"));
        // Redis counts with a sign.
        let count = i64::try_from(count).unwrap_or(i64::MAX);
        let range =
            redis::cmd("XRANGE").arg(&self.keys.dead).arg(start).arg("+").arg("COUNT").arg(count).take();
        let read = async |connection: &mut _| wire::entries(range.query_async::<Value>(connection).await?);
        Ok(self.link.call(self.limit(), read).await?.into_iter().map(DeadLetter::read).collect())
    }

    /// Puts dead letters back into the queue, as new jobs with the old id, payload, and all attempts ahead. Those that are
    /// gone are passed over. Returns how many went back, or fewer, if an answer was lost: each goes back once.
    ///
    /// # Errors
    ///
    /// As [`submit`](Self::submit).
    pub async fn replay<'a>(&self, letters: impl IntoIterator<Item = &'a DeadLetter>) -> Result<u64, Error> {
        let letters: Vec<_> = letters.into_iter().collect();
        let mut moved = 0;
        for chunk in letters.chunks(100) {
            let mut call = wire::REPLAY.prepare_invoke();
            call.key(&self.keys.dead).key(&self.keys.stream).key(&self.keys.totals);
            for letter in chunk {
                call.key(self.keys.outcome(letter.id.as_str())).arg(&letter.entry);
            }
            let call = &call;
            // A repeat after a lost answer finds them gone: then fewer are counted than were moved, and none is moved twice.
            let count: u64 = self.link.call(self.limit(), async |c| call.invoke_async(c).await).await?;
            moved += count;
        }
        Ok(moved)
    }

    /// [`replay`](Self::replay) for all that are dead now. Those that die again meanwhile stay.
    ///
    /// # Errors
    ///
    /// As [`submit`](Self::submit).
    pub async fn replay_all(&self) -> Result<u64, Error> {
        let last = redis::cmd("XREVRANGE").arg(&self.keys.dead).arg("+").arg("-").arg("COUNT").arg(1).take();
        let read = async |connection: &mut _| wire::entries(last.query_async::<Value>(connection).await?);
        let Some(last) = self.link.call(self.limit(), read).await?.pop() else { return Ok(0) };
        let mut moved = 0;
        loop {
            let mut call = wire::LETTERS.prepare_invoke();
            call.key(&self.keys.dead).arg(&last.id).arg(100);
            let call = &call;
            let read = async |c: &mut _| wire::entries(call.invoke_async::<Value>(c).await?);
            let letters: Vec<_> =
                self.link.call(self.limit(), read).await?.into_iter().map(DeadLetter::read).collect();
            if letters.is_empty() {
                return Ok(moved);
            }
            moved += self.replay(&letters).await?;
        }
    }
}
