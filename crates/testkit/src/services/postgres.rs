//! PostgreSQL.

use std::ffi::OsString;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection};
use tokio::sync::OnceCell;
use uuid::Uuid;

use super::installed;
use super::process::{Process, Ready, Spec, free_port};

/// The versions that are installed, newest last.
const VERSIONS: [u32; 2] = [13, 18];
const READY: &str = "database system is ready to accept connections";
const READY_TO_READ: &str = "database system is ready to accept read-only connections";
/// What makes the server one of tests: fast, as nothing has to outlast the machine, and with all that may be asked of it.
const SETTINGS: &[&str] = &[
    "listen_addresses=127.0.0.1",
    "unix_socket_directories=",
    "fsync=off",
    "full_page_writes=off",
    "wal_level=logical",
    "max_wal_senders=10",
    "max_replication_slots=10",
    "max_connections=200",
];

/// A server of PostgreSQL.
#[derive(Debug)]
pub struct Postgres {
    process: Process,
    port: u16,
}

impl Postgres {
    /// Starts the newest version, which takes two seconds; `None` (said loudly) if it is not installed.
    ///
    /// # Panics
    /// If it does not start, with what it said; with `CI=true` if it is not installed.
    pub async fn start() -> Option<Self> {
        Self::start_version(VERSIONS[VERSIONS.len() - 1]).await
    }

    /// As [`Self::start`], a major version: 13 or 18.
    pub async fn start_version(version: u32) -> Option<Self> {
        assert!(VERSIONS.contains(&version), "PostgreSQL {version} is not among {VERSIONS:?}");
        let native = installed("postgres")?.join(format!("node_modules/postgres-{version}/native"));
        let mut port = 0;
        let process = Process::start(|folder| {
            port = free_port();
            spec(&native, folder, port)
        })
        .await;
        Some(Self { process, port })
    }

    /// The one that all tests of this process share, started at the first call; each test makes a database of its own in it.
    /// It ends with the process. `None` and panics as for [`Self::start`].
    pub async fn shared() -> Option<&'static Self> {
        static SHARED: OnceCell<Option<Postgres>> = OnceCell::const_new();
        SHARED.get_or_init(Self::start).await.as_ref()
    }

    /// Where clients find the database that is always there, `postgres://USER@HOST:PORT/DATABASE`, as one who may do everything.
    pub fn url(&self) -> String {
        self.url_of("postgres")
    }

    /// Makes an empty database; returns where clients find it, see [`Self::url`].
    ///
    /// # Panics
    /// If the server does not make it.
    pub async fn database(&self) -> String {
        let name = format!("test_{}", Uuid::new_v4().simple());
        let mut connection = PgConnection::connect(&self.url()).await.expect("the server answers");
        connection.execute(AssertSqlSafe(format!("CREATE DATABASE {name}"))).await.expect("the database is made");
        connection.close().await.expect("the server answers");
        self.url_of(&name)
    }

    /// How many connections to a database there ever were, by now or a moment ago; this one is not among them.
    pub async fn sessions(&self, url: &str) -> i64 {
        let name = url.rsplit('/').next().unwrap_or_default();
        let mut connection = PgConnection::connect(&self.url()).await.expect("the server answers");
        let sql = "SELECT sessions FROM pg_stat_database WHERE datname = $1";
        sqlx::query_scalar(sql).bind(name).fetch_one(&mut connection).await.expect("the server answers")
    }

    fn url_of(&self, database: &str) -> String {
        format!("postgres://postgres@127.0.0.1:{}/{database}", self.port)
    }

    /// The folder that has its data, removed when it ends.
    pub fn folder(&self) -> &Path {
        self.process.folder()
    }

    /// Ends the server at once, as a crash would; what it has stored stays.
    pub async fn stop(&self) {
        self.process.end().await;
    }

    /// Starts a server that was stopped once more, on its port, and waits until it is ready.
    pub async fn start_again(&self) {
        self.process.start_again(READY).await;
    }

    /// Starts a server that was stopped once more as a standby of nobody, which others may read and nobody may write.
    pub async fn start_as_standby(&self) {
        std::fs::write(self.folder().join("data/standby.signal"), "").expect("its folder can be written");
        self.process.start_again(READY_TO_READ).await;
    }

    /// What it has said, for a test that fails.
    pub fn log(&self) -> String {
        self.process.log()
    }
}

/// Makes the server's data; it takes them from an installation that it can reach.
fn spec(native: &Path, folder: &Path, port: u16) -> Spec {
    let root = std::fs::metadata("/proc/self").expect("this is Linux").uid() == 0;
    let (own, data) = (folder.join("native"), folder.join("data"));
    let native = if root {
        // It refuses to run as root, and a lesser user may not be allowed where it is installed.
        run("chown", &["nobody".into(), folder.into()]);
        let links = Command::new("cp").arg("-al").arg(native).arg(&own).output().expect("there is `cp`");
        if !links.status.success() {
            run("cp", &["-aT".into(), native.into(), own.clone().into()]);
        }
        &own
    } else {
        native
    };
    let mut initdb = lesser(root, &native.join("bin/initdb"));
    let options = ["-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C.UTF-8", "--no-sync", "--wal-segsize=1"];
    initdb.1.extend(["-D".into(), data.clone().into()]);
    initdb.1.extend(options.map(OsString::from));
    let made = Command::new(&initdb.0).args(&initdb.1).current_dir(folder).output().expect("initdb can be run");
    assert!(made.status.success(), "initdb: {}{}", String::from_utf8_lossy(&made.stdout), String::from_utf8_lossy(&made.stderr));
    let (program, mut args) = lesser(root, &native.join("bin/postgres"));
    args.extend(["-D".into(), data.into(), "-p".into(), port.to_string().into()]);
    args.extend(SETTINGS.iter().flat_map(|setting| ["-c".into(), OsString::from(setting)]));
    // Killed, it would leave its children for a moment; told so, it ends them first, as fast.
    Spec { program, args, ready: Ready::Says(READY), end: "QUIT", ..Spec::default() }
}

/// A program and its first arguments, as somebody else than root.
fn lesser(root: bool, program: &Path) -> (PathBuf, Vec<OsString>) {
    if !root {
        return (program.to_owned(), Vec::new());
    }
    let args = ["--reuid=nobody", "--regid=65534", "--clear-groups"].map(OsString::from);
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).map(|folder| folder.join("setpriv")).find(|program| program.exists());
    let setpriv = found.expect("root needs `setpriv` of util-linux to run PostgreSQL");
    (setpriv, args.into_iter().chain([program.into()]).collect())
}

fn run(program: &str, args: &[OsString]) {
    let done = Command::new(program).args(args).output().unwrap_or_else(|e| panic!("`{program}` cannot be run: {e}"));
    assert!(done.status.success(), "{program}: {}", String::from_utf8_lossy(&done.stderr));
}
