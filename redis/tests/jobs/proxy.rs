//! A wire to the server that can be cut, at a byte of one's choice.

use std::{
    io::{Read, Write},
    net::{Ipv4Addr, Shutdown, TcpListener, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

/// Where a connection is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cut {
    /// In the middle of the command: the server sees a part of it, and does nothing.
    Command,
    /// After the command: the server does it, and its answer is lost.
    Answer,
    /// As `Answer`, where another answer comes before it, which passes.
    SecondAnswer,
    /// In the middle of the answer.
    HalfAnswer,
}

struct Plan {
    /// Cut where a command has these bytes.
    pattern: &'static [u8],
    cut: Cut,
}

/// On any connection.
const ANY: u64 = 0;
const NEXT: u64 = u64::MAX;

#[derive(Default)]
struct Shared {
    plan: Mutex<Option<Plan>>,
    /// Bytes that a connection lives for, both ways together; 0 for ever.
    life: AtomicU64,
    cuts: AtomicU64,
    /// Answers that followed a command.
    round_trips: AtomicU64,
    /// How many connections there were.
    wired: AtomicU64,
    /// So many of them, the first ones, pass nothing on, and stay open.
    dead: AtomicU64,
    /// A command with these bytes waits.
    hold: Mutex<Option<&'static [u8]>>,
    /// On the connection with this number alone, or, with `NEXT`, on the first that has such a command.
    hold_on: AtomicU64,
    holds: AtomicBool,
    /// The next connection is taken and kept, and nobody is behind it.
    mute: Mutex<Option<Vec<TcpStream>>>,
}

pub(crate) struct Proxy {
    port: u16,
    shared: Arc<Shared>,
}

impl Proxy {
    pub(crate) fn start(target: u16) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let shared = Arc::new(Shared::default());
        let proxy = Self { port, shared: shared.clone() };
        // Ends with the process.
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                if let Some(kept) = shared.mute.lock().unwrap().as_mut().filter(|kept| kept.is_empty()) {
                    kept.push(client);
                    continue;
                }
                let Ok(server) = TcpStream::connect((Ipv4Addr::LOCALHOST, target)) else { continue };
                wire(client, server, shared.clone());
            }
        });
        proxy
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}/", self.port)
    }

    /// Cuts once, where the next command has `pattern` in it.
    pub(crate) fn cut_at(&self, pattern: &'static str, cut: Cut) {
        *self.shared.plan.lock().unwrap() = Some(Plan { pattern: pattern.as_bytes(), cut });
    }

    /// Whether the planned cut was made.
    pub(crate) fn was_cut(&self) -> bool {
        self.shared.plan.lock().unwrap().is_none()
    }

    /// From now on commands that have `pattern` in them wait here until the [`release`](Self::release).
    pub(crate) fn hold_at(&self, pattern: &'static str) {
        self.shared.hold_on.store(ANY, Ordering::Relaxed);
        *self.shared.hold.lock().unwrap() = Some(pattern.as_bytes());
    }

    /// As [`hold_at`](Self::hold_at), the next such command only.
    pub(crate) fn hold_next(&self, pattern: &'static str) {
        self.shared.hold_on.store(NEXT, Ordering::Relaxed);
        *self.shared.hold.lock().unwrap() = Some(pattern.as_bytes());
    }

    /// Whether one waits.
    pub(crate) fn holds(&self) -> bool {
        self.shared.holds.load(Ordering::Relaxed)
    }

    pub(crate) fn release(&self) {
        *self.shared.hold.lock().unwrap() = None;
        while self.holds() {
            thread::yield_now();
        }
    }

    /// From now on cuts every connection after about so many bytes, wherever in a command or an answer that is.
    pub(crate) fn cut_after(&self, bytes: u64) {
        self.shared.life.store(bytes, Ordering::Relaxed);
    }

    /// From the next connection nothing will ever come.
    pub(crate) fn mute_next(&self) {
        *self.shared.mute.lock().unwrap() = Some(Vec::new());
    }

    /// From now on nothing comes by any connection that there is, as if somebody had pulled out a cable.
    pub(crate) fn mute_all(&self) {
        self.shared.dead.store(self.shared.wired.load(Ordering::Relaxed), Ordering::Relaxed);
    }

    /// As [`mute_all`](Self::mute_all), and by none that comes.
    pub(crate) fn mute_all_for_ever(&self) {
        self.shared.dead.store(u64::MAX, Ordering::Relaxed);
    }

    /// Later connections pass everything on again.
    pub(crate) fn unmute(&self) {
        self.mute_all();
    }

    pub(crate) fn cuts(&self) -> u64 {
        self.shared.cuts.load(Ordering::Relaxed)
    }

    /// How often an answer followed a command, on all connections.
    pub(crate) fn round_trips(&self) -> u64 {
        self.shared.round_trips.load(Ordering::Relaxed)
    }
}

struct Ends {
    client: TcpStream,
    server: TcpStream,
    shared: Arc<Shared>,
    number: u64,
    /// How many bytes it still lives for.
    left: AtomicU64,
    /// The next answer passes, and the one behind it is lost.
    skip: AtomicBool,
    lose: AtomicBool,
    halve: AtomicBool,
    asked: AtomicBool,
}

impl Ends {
    fn cut(&self) {
        self.shared.cuts.fetch_add(1, Ordering::Relaxed);
        let _ = self.client.shutdown(Shutdown::Both);
        let _ = self.server.shutdown(Shutdown::Both);
    }

    fn is_dead(&self) -> bool {
        self.number < self.shared.dead.load(Ordering::Relaxed)
    }

    fn is_held(&self, bytes: &[u8]) -> bool {
        let hold = self.shared.hold.lock().unwrap();
        if !hold.is_some_and(|pattern| bytes.windows(pattern.len()).any(|at| at == pattern)) {
            return false;
        }
        let on = &self.shared.hold_on;
        // Numbers count from 0, which is any.
        let _ = on.compare_exchange(NEXT, self.number + 1, Ordering::Relaxed, Ordering::Relaxed);
        [ANY, self.number + 1].contains(&on.load(Ordering::Relaxed))
    }

    /// As much of `bytes` as still passes.
    fn passes(&self, bytes: usize) -> usize {
        let life = self.shared.life.load(Ordering::Relaxed);
        if life == 0 {
            return bytes;
        }
        if self.left.load(Ordering::Relaxed) == 0 {
            // A length of its own for each, so that cuts fall everywhere.
            self.left.store(fastrand::u64(life / 2..life), Ordering::Relaxed);
        }
        let left = self.left.load(Ordering::Relaxed);
        self.left.store(left.saturating_sub(bytes as u64).max(1), Ordering::Relaxed);
        usize::try_from(left).unwrap().min(bytes)
    }
}

fn wire(client: TcpStream, server: TcpStream, shared: Arc<Shared>) {
    for end in [&client, &server] {
        end.set_nodelay(true).unwrap();
    }
    let (mut from_client, mut from_server) = (client.try_clone().unwrap(), server.try_clone().unwrap());
    let ends = Arc::new(Ends {
        client,
        server,
        number: shared.wired.fetch_add(1, Ordering::Relaxed),
        shared,
        left: AtomicU64::new(0),
        skip: AtomicBool::new(false),
        lose: AtomicBool::new(false),
        halve: AtomicBool::new(false),
        asked: AtomicBool::new(false),
    });
    let there = ends.clone();
    thread::spawn(move || {
        let mut buffer = vec![0; 1 << 16];
        while let Ok(n @ 1..) = from_client.read(&mut buffer) {
            if there.is_dead() {
                continue;
            }
            let bytes = &buffer[..n];
            let plan = {
                let mut plan = there.shared.plan.lock().unwrap();
                let hit = plan
                    .as_ref()
                    .is_some_and(|plan| bytes.windows(plan.pattern.len()).any(|at| at == plan.pattern));
                if hit { plan.take() } else { None }
            };
            if there.is_held(bytes) {
                there.shared.holds.store(true, Ordering::Relaxed);
                while there.is_held(bytes) {
                    thread::sleep(Duration::from_millis(1));
                }
                there.shared.holds.store(false, Ordering::Relaxed);
            }
            let mut pass = there.passes(n);
            match plan.map(|plan| plan.cut) {
                Some(Cut::Command) => pass = n / 2,
                Some(Cut::Answer) => there.lose.store(true, Ordering::Relaxed),
                Some(Cut::SecondAnswer) => there.skip.store(true, Ordering::Relaxed),
                Some(Cut::HalfAnswer) => there.halve.store(true, Ordering::Relaxed),
                None => {}
            }
            there.asked.store(true, Ordering::Relaxed);
            if (&there.server).write_all(&bytes[..pass]).is_err() {
                break;
            }
            if pass < n {
                return there.cut();
            }
        }
        let _ = there.server.shutdown(Shutdown::Both);
    });
    thread::spawn(move || {
        let mut buffer = vec![0; 1 << 16];
        while let Ok(n @ 1..) = from_server.read(&mut buffer) {
            if ends.is_dead() {
                continue;
            }
            if ends.asked.swap(false, Ordering::Relaxed) {
                ends.shared.round_trips.fetch_add(1, Ordering::Relaxed);
            }
            let mut pass = ends.passes(n);
            if ends.skip.swap(false, Ordering::Relaxed) {
                ends.lose.store(true, Ordering::Relaxed);
            } else if ends.lose.load(Ordering::Relaxed) {
                pass = 0;
            } else if ends.halve.load(Ordering::Relaxed) {
                pass = n / 2;
            }
            if (&ends.client).write_all(&buffer[..pass]).is_err() {
                break;
            }
            if pass < n {
                return ends.cut();
            }
        }
        let _ = ends.client.shutdown(Shutdown::Both);
    });
}
