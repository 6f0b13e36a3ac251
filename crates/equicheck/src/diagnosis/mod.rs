//! What is wrong, why, and what fixes it.

use std::fmt;

use serde::{Deserialize, Serialize};

/// How much a finding matters to the model's use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Severity {
    /// Worth knowing; the verdict does not hang on it.
    Low,
    /// The verdict is `NEEDS_ATTENTION` because of it.
    Medium,
    /// The declared symmetry does not hold.
    High,
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Severity::Low => "Low",
            Severity::Medium => "Medium",
            Severity::High => "High",
        })
    }
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// Stable id of the failure mode, e.g. `numerical-precision`.
    pub mode: String,
    /// Where: an output, an input, a module path.
    pub location: String,
    /// How severe.
    pub severity: Severity,
    /// What was seen, in one sentence.
    pub message: String,
    /// The figures that support it, one per line.
    pub evidence: Vec<String>,
    /// What to do about it.
    pub fix: String,
}
