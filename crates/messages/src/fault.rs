//! Why a message is not a row.

use longshore_core::error::Code;

/// The first thing that is wrong with a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Fault {
    /// The stable reason code.
    pub code: &'static str,
    /// In words, with what to do.
    pub reason: String,
    /// Path of the field, where there is one.
    pub field: Option<String>,
}

impl Fault {
    pub fn new(code: Code, reason: impl Into<String>) -> Self {
        Self { code: code.name, reason: reason.into(), field: None }
    }

    #[must_use]
    pub fn at(mut self, field: impl Into<String>) -> Self {
        self.field = Some(field.into());
        self
    }
}
