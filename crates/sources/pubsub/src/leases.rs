//! The messages that Pub/Sub has lent us, each from its arrival until it is acknowledged or given back.

use std::sync::Arc;
use std::time::Duration;

use hashbrown::HashMap;
use hashbrown::hash_map::EntryRef;
use tokio::time::Instant;

/// Where a message is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Received, not handed out yet.
    Waiting,
    /// Journalled by somebody whose commit is not complete: waited for.
    Held,
    /// Handed out, not journalled yet.
    Handed,
    /// Journalled by us.
    Journalled,
    /// To be acknowledged; `sent` while a request with it is on its way.
    Done { sent: bool },
}

/// A message's id with what acknowledges its last delivery.
#[derive(Debug, Clone)]
pub(crate) struct Loan {
    pub id: Arc<str>,
    pub ack_id: Arc<str>,
}

#[derive(Debug)]
struct Lease {
    ack_id: Arc<str>,
    phase: Phase,
    bytes: u32,
    /// When Pub/Sub gives the message to others; `None` once it has.
    until: Option<Instant>,
    /// Grows with each arrival.
    order: u64,
}

/// All of them, by id.
#[derive(Debug)]
pub(crate) struct Leases {
    leases: HashMap<Arc<str>, Lease>,
    /// How long a lease lasts.
    term: Duration,
    bytes: u64,
    arrivals: u64,
    held: usize,
    journalled: usize,
    doing: usize,
    /// What became done since it was last asked for.
    done: Vec<Arc<str>>,
}

impl Leases {
    pub(crate) fn new(term: Duration) -> Self {
        Self { leases: HashMap::new(), term, bytes: 0, arrivals: 0, held: 0, journalled: 0, doing: 0, done: Vec::new() }
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.leases.len()
    }

    /// Their bytes.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// How many are held.
    pub(crate) fn held(&self) -> usize {
        self.held
    }

    /// How many are neither journalled by us nor known to be complete.
    pub(crate) fn unread(&self) -> usize {
        self.leases.len() - self.journalled - self.doing
    }

    /// How many are to be acknowledged.
    pub(crate) fn doing(&self) -> usize {
        self.doing
    }

    /// Takes down a delivery. The message's id if it is not here yet; if it is, only what acknowledges it is new.
    pub(crate) fn arrived(&mut self, id: &str, ack_id: &str, bytes: usize, now: Instant) -> Option<Arc<str>> {
        let until = Some(now + self.term);
        self.arrivals += 1;
        let order = self.arrivals;
        if let Some(lease) = self.leases.get_mut(id) {
            (lease.ack_id, lease.until) = (ack_id.into(), until);
            return None;
        }
        let id: Arc<str> = id.into();
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        self.bytes += u64::from(bytes);
        self.leases.insert(Arc::clone(&id), Lease { ack_id: ack_id.into(), phase: Phase::Waiting, bytes, until, order });
        Some(id)
    }

    /// Where a message is, if it is here.
    #[cfg(test)]
    fn phase(&self, id: &str) -> Option<Phase> {
        self.leases.get(id).map(|lease| lease.phase)
    }

    /// Moves a message on. Nothing happens if it is not here.
    pub(crate) fn set(&mut self, id: &str, phase: Phase) {
        self.set_if(id, |_| true, phase);
    }

    /// Moves a message on if it is where it is thought to be; says whether it did.
    pub(crate) fn advance(&mut self, id: &str, from: Phase, to: Phase) -> bool {
        self.set_if(id, |phase| phase == from, to)
    }

    /// A message is to be acknowledged, wherever it is.
    pub(crate) fn finish(&mut self, id: &str) {
        self.set_if(id, |phase| !matches!(phase, Phase::Done { .. }), Phase::Done { sent: false });
    }

    fn set_if(&mut self, id: &str, so: impl FnOnce(Phase) -> bool, phase: Phase) -> bool {
        let EntryRef::Occupied(mut entry) = self.leases.entry_ref(id) else { return false };
        let before = entry.get().phase;
        if !so(before) {
            return false;
        }
        entry.get_mut().phase = phase;
        if phase == (Phase::Done { sent: false }) {
            self.done.push(Arc::clone(entry.key()));
        }
        self.count(before, -1);
        self.count(phase, 1);
        true
    }

    fn count(&mut self, phase: Phase, change: isize) {
        let count = match phase {
            Phase::Waiting | Phase::Handed => return,
            Phase::Held => &mut self.held,
            Phase::Journalled => &mut self.journalled,
            Phase::Done { .. } => &mut self.doing,
        };
        *count = count.saturating_add_signed(change);
    }

    fn remove(&mut self, id: &str) {
        if let Some(lease) = self.leases.remove(id) {
            self.bytes -= u64::from(lease.bytes);
            self.count(lease.phase, -1);
        }
    }

    /// The ids that are held.
    pub(crate) fn held_ids(&self) -> Vec<String> {
        let held = self.leases.iter().filter(|(_, lease)| lease.phase == Phase::Held);
        held.map(|(id, _)| id.to_string()).collect()
    }

    /// What is to be acknowledged and not on its way, in the order of arrival, which Pub/Sub wants where messages have ordering keys. It counts as
    /// sent from now on.
    pub(crate) fn take_done(&mut self) -> Vec<Loan> {
        let mut taken = Vec::with_capacity(self.done.len());
        for id in self.done.drain(..) {
            // It may be in the list twice, or be gone.
            if let Some(lease) = self.leases.get_mut(&id).filter(|lease| lease.phase == Phase::Done { sent: false }) {
                lease.phase = Phase::Done { sent: true };
                taken.push((lease.order, Loan { id, ack_id: Arc::clone(&lease.ack_id) }));
            }
        }
        taken.sort_unstable_by_key(|(order, _)| *order);
        taken.into_iter().map(|(_, loan)| loan).collect()
    }

    /// These were acknowledged. One that came again meanwhile has to be acknowledged again.
    pub(crate) fn acknowledged(&mut self, loans: &[Loan]) {
        for loan in loans {
            match self.leases.get(&loan.id) {
                Some(lease) if lease.ack_id == loan.ack_id => self.remove(&loan.id),
                _ => self.set(&loan.id, Phase::Done { sent: false }),
            }
        }
    }

    /// These are to be acknowledged again.
    pub(crate) fn not_acknowledged(&mut self, loans: &[Loan]) {
        for loan in loans {
            self.set(&loan.id, Phase::Done { sent: false });
        }
    }

    /// Those whose lease has to be extended by now: half of it is over.
    pub(crate) fn due(&self, now: Instant) -> Vec<Loan> {
        let limit = now + self.term / 2;
        let due = self.leases.iter().filter(|(_, lease)| lease.until.is_some_and(|until| until <= limit));
        due.map(|(id, lease)| Loan { id: Arc::clone(id), ack_id: Arc::clone(&lease.ack_id) }).collect()
    }

    /// The leases of these were extended by a request that was sent at `asked`.
    pub(crate) fn extended(&mut self, loans: &[Loan], asked: Instant) {
        for loan in loans {
            if let Some(lease) = self.leases.get_mut(&loan.id).filter(|lease| lease.ack_id == loan.ack_id) {
                lease.until = Some(asked + self.term);
            }
        }
    }

    /// The leases of these are lost for good: they come again, here or elsewhere. What was not handed out is forgotten.
    pub(crate) fn lost(&mut self, loans: &[Loan]) {
        for loan in loans {
            let Some(lease) = self.leases.get_mut(&loan.id).filter(|lease| lease.ack_id == loan.ack_id) else { continue };
            lease.until = None;
            if matches!(lease.phase, Phase::Waiting | Phase::Held) {
                self.remove(&loan.id);
            }
        }
    }

    /// Forgets some, by id and phase, and returns them in the order of arrival, to be given back.
    pub(crate) fn give_back(&mut self, which: impl Fn(&str, Phase) -> bool) -> Vec<Loan> {
        let mut given: Vec<_> = self.leases.iter().filter(|(id, lease)| which(id, lease.phase)).collect();
        given.sort_unstable_by_key(|(_, lease)| lease.order);
        let given: Vec<_> =
            given.into_iter().map(|(id, lease)| Loan { id: Arc::clone(id), ack_id: Arc::clone(&lease.ack_id) }).collect();
        for loan in &given {
            self.remove(&loan.id);
        }
        given
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TERM: Duration = Duration::from_secs(60);

    fn ids(loans: &[Loan]) -> Vec<&str> {
        loans.iter().map(|loan| &*loan.id).collect()
    }

    fn ack_ids(loans: &[Loan]) -> Vec<&str> {
        loans.iter().map(|loan| &*loan.ack_id).collect()
    }

    fn three(now: Instant) -> Leases {
        let mut leases = Leases::new(TERM);
        for id in ["c", "a", "b"] {
            assert!(leases.arrived(id, &format!("{id}1"), 10, now).is_some());
        }
        leases
    }

    #[test]
    fn a_message_that_comes_again_is_here_once_and_acknowledged_by_its_last_delivery() {
        let mut leases = three(Instant::now());
        assert_eq!(leases.arrived("a", "a2", 10, Instant::now()), None);
        assert_eq!((leases.len(), leases.bytes()), (3, 30));
        leases.set("a", Phase::Done { sent: false });
        assert_eq!(ack_ids(&leases.take_done()), ["a2"]);
    }

    #[test]
    fn a_message_that_comes_again_while_it_is_acknowledged_is_acknowledged_again() {
        let mut leases = three(Instant::now());
        leases.set("a", Phase::Done { sent: false });
        let sent = leases.take_done();
        assert!(leases.take_done().is_empty(), "it is on its way");
        assert_eq!(leases.arrived("a", "a2", 10, Instant::now()), None);
        leases.acknowledged(&sent);
        let again = leases.take_done();
        assert_eq!(ack_ids(&again), ["a2"]);
        leases.acknowledged(&again);
        assert_eq!((leases.len(), leases.bytes()), (2, 20));
    }

    #[test]
    fn what_is_given_back_or_acknowledged_keeps_the_order_of_arrival() {
        let mut leases = three(Instant::now());
        for id in ["a", "b", "c"] {
            leases.set(id, Phase::Done { sent: false });
        }
        assert_eq!(ids(&leases.take_done()), ["c", "a", "b"]);
        let mut leases = three(Instant::now());
        leases.set("a", Phase::Journalled);
        leases.set("c", Phase::Handed);
        assert_eq!(ids(&leases.give_back(|_, phase| phase != Phase::Journalled)), ["c", "b"]);
        assert_eq!((leases.len(), leases.unread(), leases.bytes()), (1, 0, 10));
    }

    #[test]
    fn a_lease_is_extended_at_half_of_its_term_whatever_the_message_is_doing() {
        let start = Instant::now();
        let mut leases = three(start);
        leases.set("a", Phase::Journalled);
        leases.set("b", Phase::Done { sent: true });
        assert!(leases.due(start + TERM / 2 - Duration::from_millis(1)).is_empty());
        let due = leases.due(start + TERM / 2);
        assert_eq!(due.len(), 3);
        leases.extended(&due[..2], start + TERM / 2);
        assert_eq!(ids(&leases.due(start + TERM / 2)), ids(&due[2..]), "what was not extended is due still");
    }

    #[test]
    fn a_late_answer_about_an_earlier_delivery_changes_nothing() {
        let start = Instant::now();
        let mut leases = three(start);
        let old = leases.due(start + TERM);
        assert_eq!(leases.arrived("a", "a2", 10, start + TERM), None);
        leases.lost(&old);
        assert_eq!(leases.phase("a"), Some(Phase::Waiting));
        assert_eq!((leases.phase("b"), leases.len()), (None, 1), "what was lost before it was handed out comes again");
        leases.extended(&old, start + 2 * TERM);
        assert_eq!(ack_ids(&leases.due(start + 2 * TERM)), ["a2"]);
    }

    #[test]
    fn what_was_handed_out_stays_known_when_its_lease_is_lost() {
        let start = Instant::now();
        let mut leases = three(start);
        leases.set("a", Phase::Handed);
        let due = leases.due(start + TERM);
        leases.lost(&due);
        assert_eq!((leases.phase("a"), leases.len()), (Some(Phase::Handed), 1));
        assert!(leases.due(start + 9 * TERM).is_empty(), "there is nothing to extend");
        assert_eq!(leases.arrived("a", "a2", 10, start + TERM), None, "it came back to us");
        assert_eq!(ack_ids(&leases.due(start + 2 * TERM)), ["a2"]);
    }

    #[test]
    fn what_counts_as_unread_is_neither_journalled_nor_done() {
        let mut leases = three(Instant::now());
        assert_eq!(leases.unread(), 3);
        leases.set("a", Phase::Handed);
        leases.set("b", Phase::Held);
        assert_eq!((leases.unread(), leases.held()), (3, 1));
        leases.set("a", Phase::Journalled);
        leases.set("b", Phase::Done { sent: false });
        assert_eq!((leases.unread(), leases.held()), (1, 0));
        assert_eq!(leases.held_ids(), [""; 0]);
        let sent = leases.take_done();
        leases.not_acknowledged(&sent);
        assert_eq!(leases.take_done().len(), 1);
    }
}
