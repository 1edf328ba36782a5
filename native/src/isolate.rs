//! Child processes that run work in an address space of their own.
//!
//! # The tie
//!
//! Parent and child share one socket, made as a pair, and nothing else. The child gets its end as standard input: that is
//! inherited without any trick, and no other child that is started at the same time gets it too. Before it runs anything of
//! users it moves the socket away and puts an empty standard input in its place. Standard output and error are those of the
//! parent.
//!
//! A child knows itself by a variable that names the socket, by its inode. What the child starts in turn inherits the
//! variable but not the socket, so it takes itself for nothing special.
//!
//! # Who ends when
//!
//! - The child is idle and its parent lets go, or dies: it sees the end of the stream and exits, with all that a normal exit
//!   does.
//! - The parent dies while the child works: a thread of the child sees the end of the stream, gives it `GRACE`, and kills
//!   it. The same when the work started an exit that hangs. The kernel's death signal (`PR_SET_PDEATHSIG`) is not used: it
//!   comes when the *thread* that made the child ends.
//! - A kill is `SIGKILL` to the child's process group, so what the work itself has started goes with it. The group of its
//!   own also keeps a Ctrl-C of the terminal from it: that is for the parent to answer.
//! - A child that ends by itself closes the socket, which ends the parent's read. It may not be the only one that has it:
//!   what the program starts before it serves inherits its standard input, and a fork inherits everything. So whoever
//!   waits for a child looks every `LOOK_FOR_END` whether it is there. What a child had said before it ended still counts.
//!
//! Each child has a thread in the parent, which starts it, writes, reads, and reaps. So nothing of it ever holds up the thread
//! that submits, and no child is left as a zombie.

use selkie_platform::{Isolate, IsolateEvents, IsolateOptions, Unavailable};
use std::sync::Arc;

#[cfg(not(unix))]
pub use elsewhere::{check, is_worker, serve, spawn};
#[cfg(unix)]
pub use unix::{check, is_worker, serve, spawn};

#[cfg(not(unix))]
mod elsewhere {
    use super::*;

    const ABSENT: Unavailable =
        Unavailable::new("isolated pools need a Unix system or a browser: use a `ThreadPool` here");

    /// Whether there can be child processes at all.
    pub fn check() -> Result<(), Unavailable> {
        Err(ABSENT)
    }

    /// Whether this process was started to serve another one.
    pub fn is_worker() -> bool {
        false
    }

    /// There is nobody to serve.
    pub fn serve(_: &[u8], _: &mut dyn FnMut(&str, Vec<u8>) -> Vec<u8>) {}

    /// There is no way to do it yet.
    pub fn spawn(_: IsolateOptions, _: Arc<dyn IsolateEvents>) -> Result<Box<dyn Isolate>, Unavailable> {
        Err(ABSENT)
    }
}

#[cfg(unix)]
mod unix {
    use std::{
        env,
        fs::File,
        io::{self, Read, Write},
        net::Shutdown,
        os::{
            fd::{AsFd, OwnedFd},
            unix::{
                fs::MetadataExt,
                net::UnixStream,
                process::{CommandExt, ExitStatusExt},
            },
        },
        path::{Path, PathBuf},
        process::{self, Child, Command, ExitStatus, Stdio},
        sync::{
            Mutex, MutexGuard, OnceLock, PoisonError,
            mpsc::{self, RecvTimeoutError},
        },
        thread,
        time::{Duration, Instant},
    };

    use nix::{
        sys::{
            signal::{self, Signal},
            stat::{SFlag, fstat},
        },
        unistd::{self, Pid},
    };
    use selkie_platform::IsolateEnd;

    use super::*;
    use crate::without_zeros;

    /// The inode of the socket, and the name of the worker.
    const VARIABLE: &str = "SELKIE_ISOLATED";

    /// What a child may take to exit by itself once the stream has ended.
    const GRACE: Duration = Duration::from_secs(1);

    /// How often whoever waits for an answer looks whether the child is there.
    const LOOK_FOR_END: Duration = Duration::from_millis(500);

    /// Of the threads of the parent. Results are read there, nested ones by recursion, up to the depth that the codec allows; it
    /// is the size that a main thread mostly has, and on such a one they were made.
    const STACK: usize = 8 << 20;

    /// How often an exit that is under way is looked at.
    const LOOK: Duration = Duration::from_millis(2);

    /// Whether there can be child processes at all.
    ///
    /// # Errors
    ///
    /// [`Unavailable`], not on Unix.
    pub fn check() -> Result<(), Unavailable> {
        Ok(())
    }

    struct Process {
        /// Dropping it lets the child go.
        messages: mpsc::Sender<Option<Vec<u8>>>,
        state: Arc<Mutex<State>>,
    }

    #[derive(Default)]
    struct State {
        killed: bool,
        /// Until it was reaped.
        child: Option<Child>,
    }

    fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
        state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    impl Isolate for Process {
        fn post(&self, message: Vec<u8>) {
            let _ = self.messages.send(Some(message));
        }

        fn kill(&self) {
            let mut state = lock(&self.state);
            state.killed = true;
            if let Some(child) = &mut state.child {
                kill(child);
            }
            drop(state);
            let _ = self.messages.send(None);
        }
    }

    /// Its number is its own for as long as it was not reaped.
    fn kill(child: &mut Child) {
        if has_ended(child) {
            return;
        }
        let group = i32::try_from(child.id()).map(Pid::from_raw);
        let killed = group.is_ok_and(|group| signal::killpg(group, Signal::SIGKILL).is_ok());
        if !killed {
            let _ = child.kill();
        }
    }

    /// Also when others reap what this program has started, and its status is lost.
    fn has_ended(child: &mut Child) -> bool {
        !matches!(child.try_wait(), Ok(None))
    }

    /// Starts this very program once more, as a child that is to call [`serve`].
    ///
    /// Returns at once; what goes wrong afterwards is told as an end.
    ///
    /// # Errors
    ///
    /// [`Unavailable`] when the system refuses a thread.
    pub fn spawn(
        options: IsolateOptions,
        events: Arc<dyn IsolateEvents>,
    ) -> Result<Box<dyn Isolate>, Unavailable> {
        let (messages, inbox) = mpsc::channel();
        let state = Arc::new(Mutex::new(State::default()));
        let process = Process { messages, state: state.clone() };
        let name = without_zeros(&options.name);
        let options = IsolateOptions { name: name.clone(), ..options };
        let life = move || {
            let end = match live(&options, &*events, &inbox, &state) {
                Ok(end) => end,
                Err(error) => IsolateEnd::Died(format!("could not be started: {error}")),
            };
            events.ended(end);
        };
        thread::Builder::new().name(name).stack_size(STACK).spawn(life).map_err(|_| {
            Unavailable::new("the system refuses to start a thread; try again when fewer are running")
        })?;
        Ok(Box::new(process))
    }

    /// The life of a child; returns how it ended.
    fn live(
        options: &IsolateOptions,
        events: &dyn IsolateEvents,
        inbox: &mpsc::Receiver<Option<Vec<u8>>>,
        state: &Mutex<State>,
    ) -> io::Result<IsolateEnd> {
        let (mut stream, theirs) = UnixStream::pair()?;
        stream.set_write_timeout(Some(LOOK_FOR_END))?;
        let mut command = command(options, theirs.into())?;
        {
            let mut state = lock(state);
            if state.killed {
                return Ok(IsolateEnd::Died("was killed before it started".to_owned()));
            }
            state.child = Some(command.spawn()?);
        }
        // Holds the child's end of the socket.
        drop(command);

        let deadline = Instant::now().checked_add(options.start);
        let mut late = false;
        let mut undelivered = None;
        match read(&mut Watchful::new(&stream, state, deadline)) {
            Ok(hello) => {
                events.message(hello);
                undelivered = talk(&mut stream, options.idle, events, inbox, state);
            }
            Err(error) => late = error.kind() == io::ErrorKind::TimedOut,
        }
        // The child's reads end, and its writes fail.
        let _ = stream.shutdown(Shutdown::Both);
        let (status, waited) = reap(state, if late { Duration::ZERO } else { GRACE + GRACE / 2 });
        let how = match status {
            _ if late => format!("did not call `selkie::isolated::serve()` within {:?}", options.start),
            Some(status) if waited => describe(status),
            None if waited => {
                "ended; how is not known, as its status was taken by others, or `SIGCHLD` is ignored"
                    .to_owned()
            }
            _ => "was killed, as it did not end by itself".to_owned(),
        };
        Ok(match undelivered {
            None => IsolateEnd::Died(how),
            Some(message) => IsolateEnd::Undelivered(how, message),
        })
    }

    /// Returns when the child is to end or has ended, with a message that it cannot have got.
    fn talk(
        stream: &mut UnixStream,
        idle: Duration,
        events: &dyn IsolateEvents,
        inbox: &mpsc::Receiver<Option<Vec<u8>>>,
        state: &Mutex<State>,
    ) -> Option<Vec<u8>> {
        loop {
            match inbox.recv_timeout(idle) {
                Ok(Some(message)) => {
                    let mut watchful = Watchful::new(stream, state, None);
                    // It may be on its way out still, with its end of the socket closed.
                    if watchful.is_over() || announce(&mut watchful, &message).is_err() {
                        return Some(message);
                    }
                    let answer = watchful.write_all(&message).and_then(|()| {
                        drop(message);
                        read(&mut watchful)
                    });
                    let Ok(answer) = answer else { return None };
                    events.message(answer);
                }
                Ok(None) | Err(RecvTimeoutError::Disconnected) => return None,
                Err(RecvTimeoutError::Timeout) => {
                    if events.idle() {
                        return None;
                    }
                }
            }
        }
    }

    /// Waits for the child's end, and after `limit` makes one. Also says whether it came by itself, or by a kill that was
    /// asked for.
    fn reap(state: &Mutex<State>, limit: Duration) -> (Option<ExitStatus>, bool) {
        let begin = Instant::now();
        let mut by_itself = true;
        loop {
            let mut locked = lock(state);
            let Some(child) = &mut locked.child else { return (None, by_itself) };
            match child.try_wait() {
                Ok(None) => {}
                done => {
                    locked.child = None;
                    return (done.ok().flatten(), by_itself);
                }
            }
            if by_itself && begin.elapsed() >= limit {
                by_itself = false;
                kill(child);
            }
            drop(locked);
            thread::sleep(LOOK);
        }
    }

    fn describe(status: ExitStatus) -> String {
        match (status.code(), status.signal()) {
            (Some(code), _) => format!("exited with status {code}"),
            (None, Some(number)) => match Signal::try_from(number) {
                Ok(signal) => format!("was ended by {signal}"),
                Err(_) => format!("was ended by signal {number}"),
            },
            (None, None) => status.to_string(),
        }
    }

    fn command(options: &IsolateOptions, socket: OwnedFd) -> io::Result<Command> {
        let mut command = Command::new(program()?);
        let mut own = env::args_os();
        if let Some(name) = own.next() {
            command.arg0(name);
        }
        match &options.arguments {
            Some(arguments) => command.args(arguments),
            None => command.args(own),
        };
        let file = File::from(socket);
        command.env(VARIABLE, format!("{} {}", file.metadata()?.ino(), options.name));
        command.stdin(Stdio::from(file));
        command.process_group(0);
        Ok(command)
    }

    /// What this process runs, also when the file was replaced since.
    fn program() -> io::Result<PathBuf> {
        let link = Path::new("/proc/self/exe");
        if cfg!(target_os = "linux") && link.exists() { Ok(link.to_owned()) } else { env::current_exe() }
    }

    struct Role {
        name: String,
        /// Until [`serve`] takes it.
        socket: Mutex<Option<UnixStream>>,
    }

    /// What this process was started as. The first call takes the socket from standard input.
    fn role() -> Option<&'static Role> {
        static ROLE: OnceLock<Option<Role>> = OnceLock::new();
        ROLE.get_or_init(|| {
            let value = env::var(VARIABLE).ok()?;
            let (inode, name) = value.split_once(' ')?;
            let status = fstat(io::stdin()).ok()?;
            let is_socket =
                SFlag::S_IFMT.intersection(SFlag::from_bits_truncate(status.st_mode)) == SFlag::S_IFSOCK;
            if !is_socket || inode != status.st_ino.to_string() {
                return None;
            }
            let socket = take_socket().unwrap_or_else(|error| {
                // To go on would run the program, which may start workers in turn.
                eprintln!("selkie: a worker of an isolated pool cannot take its socket: {error}");
                process::exit(1)
            });
            Some(Role { name: name.to_owned(), socket: Mutex::new(Some(socket)) })
        })
        .as_ref()
    }

    fn take_socket() -> io::Result<UnixStream> {
        let socket = UnixStream::from(io::stdin().as_fd().try_clone_to_owned()?);
        // Whatever reads from standard input finds its end, and no child of the work gets the socket.
        unistd::dup2_stdin(File::open("/dev/null")?)?;
        Ok(socket)
    }

    /// Whether this process was started by [`spawn`] of another one.
    pub fn is_worker() -> bool {
        role().is_some()
    }

    /// What a worker does: sends `hello`, has each message answered on this thread, and ends the process when there are no
    /// more.
    ///
    /// `answer` also gets the worker's name. The second call in a process returns at once, as one thread does it already, and
    /// so does any in a process that is no worker.
    pub fn serve(hello: &[u8], answer: &mut dyn FnMut(&str, Vec<u8>) -> Vec<u8>) {
        let Some(role) = role() else { return };
        let Some(mut stream) = role.socket.lock().unwrap_or_else(PoisonError::into_inner).take() else {
            return;
        };
        let (messages, inbox) = mpsc::channel();
        let reader = stream.try_clone().and_then(|mut stream| {
            thread::Builder::new().name("selkie-isolated".to_owned()).spawn(move || {
                while let Ok(message) = read(&mut stream) {
                    let _ = messages.send(message);
                }
                drop(messages);
                thread::sleep(GRACE);
                die();
            })
        });
        if reader.is_ok() && write(&mut stream, hello).is_ok() {
            for message in inbox {
                if write(&mut stream, &answer(&role.name, message)).is_err() {
                    break;
                }
            }
        }
        process::exit(0)
    }

    /// Also ends what the work has started.
    fn die() -> ! {
        if unistd::getpgrp() == unistd::getpid() {
            let _ = signal::kill(Pid::from_raw(0), Signal::SIGKILL);
        }
        process::abort()
    }

    fn write(stream: &mut impl Write, message: &[u8]) -> io::Result<()> {
        announce(stream, message)?;
        stream.write_all(message)
    }

    /// What comes before a message.
    fn announce(stream: &mut impl Write, message: &[u8]) -> io::Result<()> {
        stream.write_all(&(message.len() as u64).to_le_bytes())
    }

    fn read(stream: &mut impl Read) -> io::Result<Vec<u8>> {
        let mut length = [0; 8];
        stream.read_exact(&mut length)?;
        let length = u64::from_le_bytes(length);
        let mut message = Vec::new();
        // Room as it comes: the length may be nonsense when the child is not what it should be.
        if stream.take(length).read_to_end(&mut message)? as u64 != length {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(message)
    }

    /// Reads until a deadline, if there is one, and for as long as the child lives. Writes for as long as that.
    struct Watchful<'a> {
        stream: &'a UnixStream,
        state: &'a Mutex<State>,
        deadline: Option<Instant>,
        /// The child has ended: what it has said is there.
        over: bool,
        /// What the socket was told last, of reads.
        told: Option<Duration>,
    }

    impl<'a> Watchful<'a> {
        fn new(stream: &'a UnixStream, state: &'a Mutex<State>, deadline: Option<Instant>) -> Self {
            Self { stream, state, deadline, over: false, told: None }
        }

        fn is_over(&self) -> bool {
            lock(self.state).child.as_mut().is_none_or(has_ended)
        }

        fn patience(&self) -> io::Result<Duration> {
            if self.over {
                // Zero would be for ever.
                return Ok(Duration::from_micros(1));
            }
            match self.deadline.map(|deadline| deadline.saturating_duration_since(Instant::now())) {
                Some(Duration::ZERO) => Err(io::ErrorKind::TimedOut.into()),
                left => Ok(left.map_or(LOOK_FOR_END, |left| left.min(LOOK_FOR_END))),
            }
        }
    }

    impl Read for Watchful<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            loop {
                let patience = Some(self.patience()?);
                if self.told != patience {
                    self.stream.set_read_timeout(patience)?;
                    self.told = patience;
                }
                match (&mut &*self.stream).read(buffer) {
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    done => return done,
                }
                if self.over {
                    return Ok(0);
                }
                self.over = self.is_over();
            }
        }
    }

    impl Write for Watchful<'_> {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            loop {
                match (&mut &*self.stream).write(bytes) {
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock && !self.is_over() => {}
                    done => return done,
                }
            }
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
}
