//! The sheet that a check fills: rows of a Markdown table, for people and for `cargo x cloud-check`, which collects them.

use std::any::Any;
use std::fmt::Debug;
use std::sync::Mutex;
use std::time::Instant;

/// The lines of one check. Each is printed at once, with the time since the one before.
pub struct Sheet {
    check: String,
    /// Words that do not belong into what is handed on, and what stands for them.
    hidden: Vec<(String, &'static str)>,
    state: Mutex<State>,
}

struct State {
    last: Instant,
    wrong: Vec<String>,
}

impl Sheet {
    pub fn new(check: &str, hidden: Vec<(String, &'static str)>) -> Self {
        let state = Mutex::new(State { last: Instant::now(), wrong: Vec::new() });
        Self { check: check.to_owned(), hidden, state }
    }

    /// Two things that ought to be equal. The check goes on if they are not: one run is to tell everything.
    pub fn same<T: PartialEq + Debug>(&self, what: &str, found: T, expected: T) {
        if found == expected {
            self.line("ok", what, "");
        } else {
            self.wrong(what, &format!("is {found:?}, and {expected:?} was expected"));
        }
    }

    /// Something that ought to hold; `otherwise` says what was found.
    pub fn holds(&self, what: &str, holds: bool, otherwise: &str) {
        if holds { self.line("ok", what, "") } else { self.wrong(what, otherwise) }
    }

    /// Something that is worth knowing, whatever it is.
    pub fn told(&self, what: &str, words: &str) {
        self.line("told", what, words);
    }

    /// Something that cannot be checked here.
    pub fn left_out(&self, what: &str, why: &str) {
        self.line("NOT CHECKED", what, why);
    }

    /// The check could not go on.
    pub fn broke_off(&self, why: &str) {
        self.wrong("broke off", why);
    }

    /// An error says everything that differed.
    pub fn outcome(&self) -> Result<(), String> {
        let wrong = &self.state.lock().unwrap().wrong;
        if wrong.is_empty() { Ok(()) } else { Err(wrong.join("\n")) }
    }

    fn wrong(&self, what: &str, how: &str) {
        self.line("DIFFERS", what, how);
        self.state.lock().unwrap().wrong.push(format!("{}: {what} {how}", self.check));
    }

    fn line(&self, outcome: &str, what: &str, words: &str) {
        let mut state = self.state.lock().unwrap();
        let seconds = state.last.elapsed().as_secs_f64();
        state.last = Instant::now();
        let hide = |text: String, (word, other): &(String, &str)| text.replace(word, other);
        let cell = |text: &str| self.hidden.iter().fold(text.to_owned(), hide).replace('|', "/").replace(['\n', '\r'], " ");
        // The test harness may stand in the middle of a line.
        println!("\n| {} | {outcome} | {} | {} | {seconds:.1} s |", self.check, cell(what), cell(words));
    }
}

/// What a panic says.
pub fn words(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("without words").to_owned()
}
