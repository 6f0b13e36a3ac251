//! The model raises, returns values that are not finite, or changes shape or type under the group.

use super::{Evidence, Finding, Mode, Severity};
use crate::report::Classification;

pub(super) fn findings(evidence: &Evidence<'_>) -> Vec<Finding> {
    evidence
        .outputs
        .iter()
        .filter(|output| output.classification == Classification::Broken && !output.violation.is_finite())
        .map(|output| Finding {
            location: format!("output `{}`", output.name),
            severity: Severity::High,
            message: output.reason.clone(),
            evidence: output
                .worst
                .iter()
                .map(|worst| format!("sample {}, {}", worst.sample, worst.element))
                .collect(),
            fix: "run the model on the transformed input of the worst case by itself: it must give a finite output of \
                  the same shape and type as for the original input"
                .to_owned(),
            ..Finding::of(Mode::BrokenCall)
        })
        .collect()
}
