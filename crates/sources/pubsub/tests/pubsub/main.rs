//! Google Pub/Sub as a source: against Google's own fake, and against ours for what only fails on command.

mod acknowledging;
mod coming_again;
mod ending;
mod harness;
mod landing;
mod ordering;
mod publishing;
mod real;
mod refusals;
mod speed;
