//! Named places where a test kills the process.
//!
//! `LONGSHORE_FAILPOINT=journal.after` kills this process with SIGKILL at that place the first time it comes by;
//! `journal.after:3` the third time. Builds without debug assertions have no failpoints: [`hit`] is empty there.

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

/// Dies here if the environment asks for it.
#[cfg(debug_assertions)]
pub fn hit(name: &str) {
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicU32, Ordering};

    static WANTED: OnceLock<Option<(String, u32)>> = OnceLock::new();
    static SEEN: AtomicU32 = AtomicU32::new(0);

    debug_assert!(ALL.contains(&name), "the failpoint {name} is not in the list");
    let wanted = WANTED.get_or_init(|| {
        let value = std::env::var("LONGSHORE_FAILPOINT").ok()?;
        let (name, count) = value.split_once(':').map_or((value.as_str(), 1), |(n, c)| (n, c.parse().unwrap_or(1)));
        Some((name.to_owned(), count))
    });
    if let Some((wanted, count)) = wanted
        && wanted == name
        && SEEN.fetch_add(1, Ordering::SeqCst) + 1 == *count
    {
        kill();
    }
}

#[cfg(debug_assertions)]
#[expect(unsafe_code, reason = "SIGKILL to ourselves is the only death that runs no destructor")]
fn kill() -> ! {
    // SAFETY: raise takes no pointer and SIGKILL cannot be handled.
    unsafe { libc::raise(libc::SIGKILL) };
    unreachable!("SIGKILL returned")
}

/// Does nothing in a build without debug assertions.
#[cfg(not(debug_assertions))]
pub fn hit(_name: &str) {}
