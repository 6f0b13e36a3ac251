//! The model writes to the tensors that it is given.

use super::{Evidence, Finding, Mode, Severity};

pub(super) fn findings(evidence: &Evidence<'_>) -> Vec<Finding> {
    evidence
        .written_inputs
        .iter()
        .map(|input| Finding {
            location: format!("input `{input}`"),
            severity: Severity::Low,
            message: "the model writes to its input in place; each audited call gets a fresh tensor".to_owned(),
            evidence: vec!["the input's values differ after one call".to_owned()],
            fix: format!("clone `{input}` before the in-place operation: callers who reuse the tensor get wrong results"),
            ..Finding::of(Mode::InputMutation)
        })
        .collect()
}
