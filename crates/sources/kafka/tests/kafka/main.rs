//! Reading a real broker.

mod changes;
mod faults;
mod groups;
mod identity;
mod letters;
mod positions;
mod security;
mod support;
mod transactions;
