//! The loop: read, decode, stage, journal, publish, complete, acknowledge; and what surrounds it: the lease, recovery,
//! the history, the plan and the repair.
//!
//! [`commit`] holds the function that is the product; read it first. Everything here works through the traits of
//! [`longshore_core`] and knows no source, destination or store.

mod amend;
pub mod commit;
mod dead_letters;
mod error;
mod history;
mod lease;
pub mod pipeline;
pub mod plan;
mod prepare;
mod publisher;
mod recover;
pub mod repair;
mod run;
mod session;
mod stage;
mod stager;
mod stream;

pub use error::ALL as CODES;
pub use pipeline::{Keep, Outcome, Pipeline, StreamSettings};
pub use plan::{RunPlan, TablePlan, plan, plan_stream};
pub use repair::{Finding, repair};
pub use run::run;
pub use stream::replay::ReplayStream;
pub use stream::run_stream;
