//! A server as a child process that cannot outlive whoever started it.

use std::ffi::OsString;
use std::io::Write;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use reqwest::Client;
use tokio::net::TcpStream;
use uuid::Uuid;

/// The server runs under a shell that ends it when our end of its standard input closes: when we are done, or dead. It
/// keeps nothing that is worth a slow farewell. How a server ended by itself is noted in its folder, and the folder stays
/// until our end closes, since the log is there. A line from us starts a server that has ended once more.
const KEEPER: &str = r#"
# What ends a whole group of processes (Ctrl-C, timeout) must not end the two that tidy up; a server may take its time.
trap '' INT TERM HUP
folder=$1; end=$2; shift 2
run() {
    rm -f "$folder/pid" "$folder/ended"
    ("$@" </dev/null & echo $! >"$folder/pid"; wait $!; echo "exit code $?" >"$folder/ended") &
}
run "$@"
while read -r line; do run "$@"; done
until [ -s "$folder/pid" ]; do sleep 0.01; done
[ -e "$folder/ended" ] || kill -s "$end" "$(cat "$folder/pid")"
wait
rm -rf "$folder"
"#;

/// How long a server may take until it answers; it takes seconds, or a minute on a machine that is busy.
const PATIENCE: Duration = Duration::from_secs(120);
/// Another process may take a port between our choice and the server's start.
const TRIES: usize = 3;

/// What to run, and how to tell that it is ready.
pub struct Spec {
    pub program: PathBuf,
    pub args: Vec<OsString>,
    pub env: Vec<(&'static str, OsString)>,
    pub ready: Ready,
    /// Ports that it must listen on as well.
    pub ports: Vec<u16>,
    /// The signal that ends it, and all that it has started, at once.
    pub end: &'static str,
}

/// What a server does once it is ready.
pub enum Ready {
    /// It answers this page.
    Page(String),
    /// It says so. Unlike a page, nobody else can do that in its place.
    Says(&'static str),
}

impl Default for Spec {
    fn default() -> Self {
        Self {
            program: PathBuf::new(),
            args: Vec::new(),
            env: Vec::new(),
            ready: Ready::Page(String::new()),
            ports: Vec::new(),
            end: "KILL",
        }
    }
}

/// A running server with a folder of its own.
#[derive(Debug)]
pub struct Process {
    keeper: Child,
    lifeline: Mutex<Option<ChildStdin>>,
    folder: PathBuf,
    end: &'static str,
}

impl Process {
    /// Starts a server and waits until it is ready. `spec` gets its folder, and is asked anew for each try.
    pub async fn start(mut spec: impl FnMut(&Path) -> Spec) -> Self {
        let mut said = String::new();
        let deadline = Instant::now() + PATIENCE;
        for _ in 0..TRIES {
            match Self::try_start(&mut spec).await {
                Ok(process) => return process,
                Err(why) => said = why,
            }
            if Instant::now() >= deadline {
                break;
            }
        }
        panic!("{said}");
    }

    /// Starts a server once and waits until it is ready; if it is not, returns what it said.
    pub async fn try_start(spec: impl FnOnce(&Path) -> Spec) -> Result<Self, String> {
        let folder = tempfile::Builder::new().prefix("longshore-service-").tempdir().expect("a temporary folder");
        let spec = spec(folder.path());
        assert!(spec.program.exists(), "{} is not there; run `cargo x services`", spec.program.display());
        let process = Self::spawn(&spec, folder.keep());
        match process.ready(&spec.ready, &spec.ports, 0).await {
            Ok(()) => Ok(process),
            Err(why) => Err(format!("{} {why}:\n{}", spec.program.display(), process.log())),
        }
    }

    fn spawn(spec: &Spec, folder: PathBuf) -> Self {
        let log = std::fs::File::create(folder.join("log")).expect("a temporary folder can be written");
        let errors = log.try_clone().expect("a file can be opened twice");
        let mut shell = Command::new("sh");
        shell.args(["-c", KEEPER, "sh"]).arg(&folder).arg(spec.end).arg(&spec.program).args(&spec.args);
        shell.envs(spec.env.iter().map(|(name, value)| (*name, value))).current_dir(&folder);
        let mut keeper = shell.stdin(Stdio::piped()).stdout(log).stderr(errors).spawn().expect("there is a shell");
        let lifeline = Mutex::new(keeper.stdin.take());
        Self { keeper, lifeline, folder, end: spec.end }
    }

    async fn ready(&self, sign: &Ready, ports: &[u16], said_before: usize) -> Result<(), String> {
        let deadline = Instant::now() + PATIENCE;
        let client = client();
        loop {
            let mut ready = match sign {
                Ready::Page(url) => client.get(url).send().await.is_ok_and(|answer| answer.status().is_success()),
                Ready::Says(words) => self.log().get(said_before..).is_some_and(|said| said.contains(words)),
            };
            for port in ports {
                ready = ready && TcpStream::connect(("127.0.0.1", *port)).await.is_ok();
            }
            // Asked last: who answered may be another one, with ours dead because of it.
            if let Ok(how) = std::fs::read_to_string(self.folder.join("ended")) {
                return Err(format!("ended before it was ready ({})", how.trim_end()));
            }
            if ready {
                return Ok(());
            }
            if Instant::now() >= deadline {
                return Err(format!("was not ready in {} s", PATIENCE.as_secs()));
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Ends the server at once and waits until it is dead. What it has in its folder stays.
    pub async fn end(&self) {
        self.signal(self.end);
        while !self.folder.join("ended").exists() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Starts a server that was killed once more, in the same folder, and waits until it says that it is ready.
    pub async fn start_again(&self, says: &'static str) {
        let ended = self.folder.join("ended");
        assert!(ended.exists(), "a server that runs cannot be started");
        let said_before = self.log().len();
        std::fs::remove_file(ended).expect("its folder can be written");
        let told = {
            let mut lifeline = self.lifeline.lock().unwrap_or_else(PoisonError::into_inner);
            lifeline.as_mut().map(|shell| shell.write_all(b"start\n"))
        };
        told.expect("it is closed at the end only").expect("the shell reads");
        if let Err(why) = self.ready(&Ready::Says(says), &[], said_before).await {
            panic!("a server that was started again {why}:\n{}", self.log());
        }
    }

    /// Sends a signal to the server.
    pub fn signal(&self, name: &str) {
        let pid = std::fs::read_to_string(self.folder.join("pid")).expect("a server that was started has a number");
        let sent = Command::new("kill").args(["-s", name, pid.trim_end()]).status().expect("there is `kill`");
        assert!(sent.success(), "the server has ended:\n{}", self.log());
    }

    /// The server's own folder, removed when it ends.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// What it has said.
    pub fn log(&self) -> String {
        std::fs::read(self.folder.join("log"))
            .map_or_else(|e| format!("no log: {e}"), |log| String::from_utf8_lossy(&log).into_owned())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        *self.lifeline.get_mut().unwrap_or_else(PoisonError::into_inner) = None;
        let _ = self.keeper.wait();
    }
}

/// A client that asks nobody but the server, and no longer than a server of this machine may take.
pub fn client() -> Client {
    Client::builder().no_proxy().timeout(Duration::from_secs(10)).build().expect("a client without settings")
}

/// A port that nobody listens on. It is not one of those that systems give to whoever connects: a server that is started
/// again must find it free.
pub fn free_port() -> u16 {
    loop {
        let (chance, _) = Uuid::new_v4().as_u64_pair();
        let port = 15_000 + u16::try_from(chance % 15_000).expect("it is below");
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}
