//! The allocator, and how long it keeps what is free.

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Milliseconds after which free memory goes back to the system. Its own second keeps nearly as much again as a load uses; with ten,
/// the system spends a tenth of the time on handing out pages.
const PURGE_DELAY: libc::c_long = 100;

/// `mi_option_purge_delay` of mimalloc's `mi_option_t`, the same in its versions 2 and 3.
const OPTION: libc::c_int = 15;

#[expect(unsafe_code, reason = "the crate has no call for it")]
unsafe extern "C" {
    safe fn mi_option_set(option: libc::c_int, value: libc::c_long);
}

/// To be called once, at the start.
pub fn set_up() {
    // What the user says counts.
    if std::env::var_os("MIMALLOC_PURGE_DELAY").is_none() {
        mi_option_set(OPTION, PURGE_DELAY);
    }
}
