//! Named places where a test kills the process.
//!
//! `LONGSHORE_FAILPOINT=journal.after` kills this process with SIGKILL at that place the first time it comes by;
//! `journal.after:3` the third time; `journal.after=stop` stops it with SIGSTOP, as a machine does that is paused. Builds without debug assertions have no failpoints: [`hit`] is empty there.

/// Every failpoint, in the order in which a run passes them. The fault tests kill at each.
pub const ALL: &[&str] = &[
    "attempt.after",
    "prepare.after",
    "stage.first_batch",
    "stage.before_sync",
    "stage.after",
    "journal.before",
    "journal.after",
    "publish.before",
    "publish.before_log_entry",
    "publish.log_entry_unsynced",
    "publish.after_table",
    "publish.after",
    "complete.before",
    "complete.after",
    "acknowledge.before",
    "acknowledge.copied",
    "acknowledge.after",
    "acknowledged.after",
    "sweep.before",
    "sweep.after",
];

/// Those that only a run passes whose destination refuses rows after they were journalled.
pub const AMENDING: &[&str] = &["amend.before", "amend.after"];

/// Dies or stops here if the environment asks for it.
#[cfg(debug_assertions)]
pub fn hit(name: &str) {
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicU32, Ordering};

    struct Wanted {
        name: String,
        count: u32,
        signal: libc::c_int,
    }
    static WANTED: OnceLock<Option<Wanted>> = OnceLock::new();
    static SEEN: AtomicU32 = AtomicU32::new(0);

    debug_assert!(ALL.contains(&name) || AMENDING.contains(&name), "the failpoint {name} is not in the list");
    let wanted = WANTED.get_or_init(|| {
        let value = std::env::var("LONGSHORE_FAILPOINT").ok()?;
        let (rest, signal) = value.strip_suffix("=stop").map_or((value.as_str(), libc::SIGKILL), |rest| (rest, libc::SIGSTOP));
        let (name, count) = rest.split_once(':').map_or((rest, 1), |(n, c)| (n, c.parse().unwrap_or(1)));
        Some(Wanted { name: name.to_owned(), count, signal })
    });
    if let Some(wanted) = wanted
        && wanted.name == name
        && SEEN.fetch_add(1, Ordering::SeqCst) + 1 == wanted.count
    {
        if wanted.signal == libc::SIGSTOP {
            // What other threads are writing to the store gets done: who is stopped inside a transaction keeps everybody out.
            std::thread::sleep(std::time::Duration::from_millis(100));
        }
        raise(wanted.signal);
    }
}

#[cfg(debug_assertions)]
#[expect(unsafe_code, reason = "a signal to ourselves is the only death that runs no destructor")]
fn raise(signal: libc::c_int) {
    // SAFETY: raise takes no pointer, and neither SIGKILL nor SIGSTOP can be handled.
    unsafe { libc::raise(signal) };
}

/// Does nothing in a build without debug assertions.
#[cfg(not(debug_assertions))]
pub fn hit(_name: &str) {}
