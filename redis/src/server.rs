use std::{
    env, fmt, fs,
    io::{self, BufRead, BufReader, Write},
    net::{Ipv4Addr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use tempfile::TempDir;

/// A Redis server of one's own, for tests and for trying things out: on a free port of the loopback, with its data in a temporary
/// folder. Dropping it ends the server and removes the data. If this process is killed, nobody is left to do that.
///
/// Runs the program that the variable `SELKIE_REDIS_SERVER` names, or else `redis-server` or `valkey-server`. Blocks while the
/// server starts, some 10 ms.
///
/// # Examples
///
/// ```
/// let server = selkie_redis::LocalServer::start()?;
/// assert!(server.url().starts_with("redis://127.0.0.1:"));
/// # Ok::<(), std::io::Error>(())
/// ```
#[must_use = "dropping it ends the server"]
pub struct LocalServer {
    child: Option<Child>,
    program: String,
    port: u16,
    persistent: bool,
    url: String,
    folder: TempDir,
}

impl LocalServer {
    /// Starts one that keeps its data in memory only.
    ///
    /// # Errors
    ///
    /// [`NotFound`](io::ErrorKind::NotFound) with the remedy, if there is no such program; or what it said before it ended.
    pub fn start() -> io::Result<Self> {
        Self::launch(false)
    }

    /// Starts one that writes every change to a file, and has it on the disk, before it answers. A [`kill`](Self::kill) loses
    /// nothing then that was answered.
    ///
    /// # Errors
    ///
    /// As [`start`](Self::start).
    pub fn start_persistent() -> io::Result<Self> {
        Self::launch(true)
    }

    fn launch(persistent: bool) -> io::Result<Self> {
        let programs = match env::var("SELKIE_REDIS_SERVER") {
            Ok(program) => vec![program],
            Err(_) => vec!["redis-server".to_owned(), "valkey-server".to_owned()],
        };
        let folder = tempfile::Builder::new().prefix("selkie-redis-").tempdir()?;
        let mut server =
            Self { child: None, program: String::new(), port: 0, persistent, url: String::new(), folder };
        let mut result = Err(io::Error::new(
            io::ErrorKind::NotFound,
            "there is no redis-server: install one (apt-get install redis-server, brew install redis), or name it in SELKIE_REDIS_SERVER",
        ));
        for program in programs {
            server.program = program;
            // Another program may take the port between the question and the answer.
            for _ in 0..5 {
                server.port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port();
                server.url = format!("redis://127.0.0.1:{}/", server.port);
                match server.restart() {
                    Ok(()) => return Ok(server),
                    Err(error) if error.kind() == io::ErrorKind::NotFound => break,
                    Err(error) => result = Err(error),
                }
            }
        }
        result.map(|()| server)
    }

    /// The address, for [`JobQueue::open`](crate::JobQueue::open). The same after a restart.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The port on the loopback.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Ends the server as a power cut would (SIGKILL), and waits until it is gone. Nothing if it does not run.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            // It may have ended by itself.
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Starts it again on the same port, with the data that it has on disk; a running one is killed before.
    ///
    /// # Errors
    ///
    /// As [`start`](Self::start).
    pub fn restart(&mut self) -> io::Result<()> {
        self.kill();
        let log = self.log();
        let appendonly = if self.persistent { "yes" } else { "no" };
        let mut command = Command::new(&self.program);
        // Ctrl-C in a terminal goes to a whole group: the program that uses the server is to end first.
        #[cfg(unix)]
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        let child = command
            .args([
                "--port",
                &self.port.to_string(),
                "--bind",
                "127.0.0.1",
                "--daemonize",
                "no",
                "--save",
                "",
            ])
            .args([
                "--appendonly",
                appendonly,
                "--appendfsync",
                "always",
                "--no-appendfsync-on-rewrite",
                "no",
            ])
            .arg("--dir")
            .arg(self.folder.path())
            .arg("--logfile")
            .arg(&log)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        let child = self.child.insert(child);
        let start = Instant::now();
        loop {
            if let Some(status) = child.try_wait()? {
                let said = fs::read_to_string(&log).unwrap_or_default();
                let last = said.lines().last().unwrap_or("it said nothing").to_owned();
                return Err(io::Error::other(format!("{} ended ({status}): {last}", self.program)));
            }
            if answers(self.port, self.folder.path()) {
                return Ok(());
            }
            if start.elapsed() > Duration::from_secs(20) {
                self.kill();
                return Err(io::Error::new(io::ErrorKind::TimedOut, "the server does not answer"));
            }
            thread::sleep(Duration::from_millis(3));
        }
    }

    fn log(&self) -> PathBuf {
        self.folder.path().join("log")
    }
}

/// Whether the server has read its data and takes commands, and is not another one that has the port: its folder is `folder`.
fn answers(port: u16, folder: &Path) -> bool {
    let ask = || {
        let mut socket = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
        socket.set_read_timeout(Some(Duration::from_secs(1)))?;
        socket.write_all(b"PING\r\nCONFIG GET dir\r\n")?;
        let mut lines = BufReader::new(socket).lines();
        if lines.next().transpose()?.as_deref() != Some("+PONG") {
            return Ok(false);
        }
        // A list of two strings, each behind its length.
        let dir = lines.nth(4).transpose()?.unwrap_or_default();
        // By its name, as the way there may have links.
        io::Result::Ok(Path::new(&dir).file_name() == folder.file_name())
    };
    ask().unwrap_or(false)
}

impl Drop for LocalServer {
    fn drop(&mut self) {
        self.kill();
    }
}

impl fmt::Debug for LocalServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LocalServer").field("url", &self.url).finish_non_exhaustive()
    }
}
