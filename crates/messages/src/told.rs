//! What is told of decoding, and not too often.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use longshore_core::event::Events;

/// Columns whose dropped values are counted; beyond these nobody reads on.
const COUNTED: usize = 1000;

/// Where things are told, and what has been.
pub(crate) struct Told(Mutex<State>);

struct State {
    events: Events,
    dropped: BTreeMap<(String, String), u64>,
}

impl Default for Told {
    /// Tells nobody.
    fn default() -> Self {
        Self(Mutex::new(State { events: Events::silent(), dropped: BTreeMap::new() }))
    }
}

impl Told {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells it there from now on.
    pub fn tell(&self, events: Events) {
        self.state().events = events;
    }

    /// Warns.
    pub fn warn(&self, text: String) {
        let events = self.state().events.clone();
        events.warn(text);
    }

    /// Notes.
    pub fn note(&self, text: String) {
        let events = self.state().events.clone();
        events.note(text);
    }

    /// Counts values of unknown columns that a table drops; tells the first of a column, the tenth, the hundredth and so on.
    pub fn dropped(&self, table: &str, columns: BTreeMap<String, u64>) {
        for (column, count) in columns {
            let mut state = self.state();
            let key = (table.to_owned(), column);
            if state.dropped.len() >= COUNTED && !state.dropped.contains_key(&key) {
                return;
            }
            let before = state.dropped.get(&key).copied().unwrap_or_default();
            let now = before + count;
            state.dropped.insert(key.clone(), now);
            let (events, (table, column)) = (state.events.clone(), key);
            drop(state);
            if before == 0 || before.ilog10() < now.ilog10() {
                let values = if now == 1 { "1 value".to_owned() } else { format!("{now} values") };
                events.warn(format!("{table}: {values} of the unknown column {column} dropped so far"));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use longshore_core::event::{Observer, RunEvent};
    use std::sync::Arc;

    #[derive(Default)]
    struct Heard(Mutex<Vec<String>>);

    impl Observer for Heard {
        fn event(&self, event: &RunEvent) {
            if let RunEvent::Warning { text } = event {
                self.0.lock().expect("not poisoned").push(text.clone());
            }
        }
    }

    #[test]
    fn dropped_values_are_told_once_for_each_power_of_ten() {
        let heard = Arc::new(Heard::default());
        let told = Told::default();
        told.tell(Events::new(heard.clone()));
        for _ in 0..250 {
            told.dropped("t", BTreeMap::from([("x".to_owned(), 1)]));
        }
        let heard = heard.0.lock().expect("not poisoned");
        assert_eq!(
            *heard,
            ["1 value", "10 values", "100 values"].map(|n| format!("t: {n} of the unknown column x dropped so far"))
        );
    }
}
