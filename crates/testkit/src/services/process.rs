//! A server as a child process that cannot outlive whoever started it.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::{Duration, Instant};

use reqwest::Client;
use tokio::net::TcpStream;

/// The server runs under a shell that kills it when our end of its standard input closes: when we are done, or dead. It
/// keeps nothing that is worth a slow farewell. How a server ended by itself is noted in its folder, and the folder stays
/// until our end closes, since the log is there.
const KEEPER: &str = r#"
# What ends a whole group of processes (Ctrl-C, timeout) must not end the two that tidy up; a server may take its time.
trap '' INT TERM HUP
folder=$1; shift
exec 3<&0
"$@" </dev/null 3<&- &
server=$!
# Nobody writes a line: this ends when the input does.
(read -r line <&3; kill -9 "$server") &
watcher=$!
wait "$server"; code=$?
kill -9 "$watcher" 2>/dev/null
echo "exit code $code" >"$folder/ended"
read -r line <&3
rm -rf "$folder"
"#;

/// How long a server may take until it answers; it takes seconds, or a minute on a machine that is busy.
const PATIENCE: Duration = Duration::from_secs(120);
/// Another process may take a port between our choice and the server's start.
const TRIES: usize = 3;

/// What to run, and how to tell that it is ready.
pub struct Spec {
    pub program: PathBuf,
    pub args: Vec<String>,
    pub env: Vec<(&'static str, PathBuf)>,
    /// A page that answers once it is ready.
    pub ready: String,
    /// Ports that it must listen on as well.
    pub ports: Vec<u16>,
}

/// A running server with a folder of its own.
#[derive(Debug)]
pub struct Process {
    keeper: Child,
    lifeline: Option<ChildStdin>,
    folder: PathBuf,
}

impl Process {
    /// Starts a server and waits until it is ready. `spec` gets its folder, and is asked anew for each try.
    pub async fn start(mut spec: impl FnMut(&Path) -> Spec) -> Self {
        let mut said = String::new();
        let deadline = Instant::now() + PATIENCE;
        for _ in 0..TRIES {
            let folder = tempfile::Builder::new().prefix("longshore-service-").tempdir().expect("a temporary folder");
            let spec = spec(folder.path());
            assert!(spec.program.exists(), "{} is not there; run `cargo x services`", spec.program.display());
            let mut process = Self::spawn(&spec, folder.keep());
            match process.ready(&spec, deadline).await {
                Ok(()) => return process,
                Err(why) => said = format!("{} {why}:\n{}", spec.program.display(), process.log()),
            }
            if Instant::now() >= deadline {
                break;
            }
        }
        panic!("{said}");
    }

    fn spawn(spec: &Spec, folder: PathBuf) -> Self {
        let log = std::fs::File::create(folder.join("log")).expect("a temporary folder can be written");
        let errors = log.try_clone().expect("a file can be opened twice");
        let mut shell = Command::new("sh");
        shell.args(["-c", KEEPER, "sh"]).arg(&folder).arg(&spec.program).args(&spec.args);
        shell.envs(spec.env.iter().map(|(name, value)| (*name, value)));
        let mut keeper = shell.stdin(Stdio::piped()).stdout(log).stderr(errors).spawn().expect("there is a shell");
        let lifeline = keeper.stdin.take();
        Self { keeper, lifeline, folder }
    }

    async fn ready(&mut self, spec: &Spec, deadline: Instant) -> Result<(), String> {
        let client = client();
        loop {
            let mut ready = client.get(&spec.ready).send().await.is_ok_and(|answer| answer.status().is_success());
            for port in &spec.ports {
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
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
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
        self.lifeline = None;
        let _ = self.keeper.wait();
    }
}

/// A client that asks nobody but the server, and no longer than a server of this machine may take.
pub fn client() -> Client {
    Client::builder().no_proxy().timeout(Duration::from_secs(10)).build().expect("a client without settings")
}

/// A port that nobody listens on.
pub fn free_port() -> u16 {
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
    listener.local_addr().expect("a bound listener has an address").port()
}
