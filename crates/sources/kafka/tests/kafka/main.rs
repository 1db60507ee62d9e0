//! Reading a real broker.

mod positions;
mod support;
