//! The test could not have failed.

use super::{Evidence, Finding, Mode, Severity, figure};
use crate::report::Classification;

pub(super) fn findings(evidence: &Evidence<'_>) -> Vec<Finding> {
    evidence
        .outputs
        .iter()
        .filter(|output| output.classification == Classification::Undetermined && output.reason.starts_with("vacuous"))
        .map(|output| Finding {
            location: format!("output `{}`", output.name),
            severity: Severity::Medium,
            message: output.reason.clone(),
            evidence: output
                .vacuity
                .iter()
                .filter(|row| row.vacuous.is_some())
                .map(|row| figure(&format!("sensitivity under {}", row.factor), row.sensitivity))
                .collect(),
            fix: "give inputs that the group moves and that the output depends on: more nodes, unequal features, \
                  asymmetric structures; if the output is meant to be constant, leave it out of the audit (None)"
                .to_owned(),
            ..Finding::of(Mode::VacuousTest)
        })
        .collect()
}
