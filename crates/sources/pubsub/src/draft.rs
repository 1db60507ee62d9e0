//! Messages that wait to be handed out.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::pull::Incoming;

/// What one delivery holds at most, but for a message that is larger.
const MESSAGES: usize = 1_000;
const BYTES: usize = 1 << 20;
/// How long messages wait for others.
const WAIT: Duration = Duration::from_millis(50);

/// Answers of streams, the first of them perhaps handed out in part.
#[derive(Debug, Default)]
pub(crate) struct Draft {
    answers: VecDeque<Incoming>,
    /// Messages of the first answer that were handed out.
    taken: usize,
    messages: usize,
    bytes: usize,
    since: Option<Instant>,
}

impl Draft {
    pub(crate) fn add(&mut self, incoming: Incoming) {
        self.since.get_or_insert_with(Instant::now);
        self.messages += incoming.messages.len();
        self.bytes += incoming.messages.iter().map(|(_, place)| place.len()).sum::<usize>();
        self.answers.push_back(incoming);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.messages == 0
    }

    /// Whether there is enough for a delivery.
    pub(crate) fn is_full(&self) -> bool {
        self.messages >= MESSAGES || self.bytes >= BYTES
    }

    /// When it is to be handed out, full or not.
    pub(crate) fn due(&self) -> Option<Instant> {
        self.since.filter(|_| !self.is_empty()).map(|since| since + WAIT)
    }

    fn iter(&self) -> impl Iterator<Item = (&Arc<str>, &[u8])> {
        let all = self
            .answers
            .iter()
            .flat_map(|answer| answer.messages.iter().map(|(id, place)| (id, answer.raw.get(place.clone()).unwrap_or_default())));
        all.skip(self.taken)
    }

    /// The messages of the next delivery: how many and how many bytes.
    pub(crate) fn next_size(&self) -> (usize, usize) {
        let (mut count, mut bytes) = (0, 0);
        for (_, body) in self.iter().take(MESSAGES) {
            if count > 0 && bytes + body.len() > BYTES {
                break;
            }
            (count, bytes) = (count + 1, bytes + body.len());
        }
        (count, bytes)
    }

    /// The first `count` messages, with their ids.
    pub(crate) fn first(&self, count: usize) -> impl Iterator<Item = (&Arc<str>, &[u8])> {
        self.iter().take(count)
    }

    /// Forgets the first `count` messages.
    pub(crate) fn remove(&mut self, count: usize) {
        let bytes: usize = self.first(count).map(|(_, body)| body.len()).sum();
        (self.messages, self.bytes, self.taken) = (self.messages - count, self.bytes - bytes, self.taken + count);
        while let Some(first) = self.answers.front()
            && first.messages.len() <= self.taken
        {
            self.taken -= first.messages.len();
            self.answers.pop_front();
        }
        self.since = (!self.is_empty()).then(Instant::now);
    }
}

#[cfg(test)]
mod tests {
    use longshore_core::budget::Budget;

    use super::*;

    async fn answer(budget: &Budget, ids: &[&str], size: usize) -> Incoming {
        let raw = vec![b'x'; ids.len() * size].into();
        let messages = ids.iter().enumerate().map(|(i, id)| (Arc::from(*id), i * size..(i + 1) * size)).collect();
        Incoming { raw, messages, room: budget.take(1024).await }
    }

    fn ids(draft: &Draft) -> Vec<&str> {
        let (count, _) = draft.next_size();
        draft.first(count).map(|(id, _)| &**id).collect()
    }

    #[tokio::test]
    async fn deliveries_take_what_fits_and_leave_the_rest_in_order() {
        let budget = Budget::new(1 << 20);
        let mut draft = Draft::default();
        assert!(draft.is_empty() && draft.due().is_none());
        draft.add(answer(&budget, &["a", "b"], BYTES / 2).await);
        draft.add(answer(&budget, &["c", "d", "e"], BYTES).await);
        assert!(draft.is_full());
        assert_eq!(ids(&draft), ["a", "b"]);
        draft.remove(1);
        assert_eq!(ids(&draft), ["b"], "the next one is too large to go along");
        draft.remove(1);
        assert_eq!((ids(&draft), draft.next_size()), (vec!["c"], (1, BYTES)));
        draft.remove(3);
        assert!(draft.is_empty() && draft.answers.is_empty() && draft.due().is_none());
    }

    #[tokio::test]
    async fn the_room_of_an_answer_is_free_when_all_of_it_was_handed_out() {
        let budget = Budget::new(2048);
        let mut draft = Draft::default();
        draft.add(answer(&budget, &["a", "b"], 10).await);
        draft.add(answer(&budget, &["c"], 10).await);
        let third = tokio::spawn({
            let budget = budget.clone();
            async move { budget.take(1024).await }
        });
        draft.remove(1);
        tokio::task::yield_now().await;
        assert!(!third.is_finished());
        draft.remove(1);
        third.await.expect("gets the room of the first");
        assert_eq!(ids(&draft), ["c"]);
    }

    #[tokio::test]
    async fn a_message_larger_than_a_delivery_goes_alone() {
        let budget = Budget::new(1 << 30);
        let mut draft = Draft::default();
        draft.add(answer(&budget, &["large", "small"], 2 * BYTES).await);
        assert_eq!(draft.next_size(), (1, 2 * BYTES));
    }
}
