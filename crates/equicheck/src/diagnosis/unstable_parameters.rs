//! A symmetry that holds at these parameter values alone: a vector bias that starts at zero, weights that are equal.

use super::{Evidence, Finding, Mode, Severity, at_faults};
use crate::report::{GradientCheck, Outcome};

pub(super) fn findings(evidence: &Evidence<'_>) -> Vec<Finding> {
    let broken = evidence
        .gradients
        .iter()
        .filter(|row| row.check == GradientCheck::Step && row.outcome == Outcome::Violated);
    broken
        .map(|row| {
            let parameter = row.target.as_deref().unwrap_or("a parameter");
            let finding = Finding {
                location: format!("parameter `{parameter}`, output `{}`", row.output),
                severity: Severity::High,
                message: format!(
                    "equivariant only at these parameter values: one optimiser step on `{parameter}` breaks it"
                ),
                evidence: vec![row.reason.clone()],
                fix: format!(
                    "leave `{parameter}` out, or tie it so that the symmetry holds for all its values: no bias on \
                     vectors, one weight per irreducible feature in place of one per component"
                ),
                ..Finding::of(Mode::UnstableParameters)
            };
            at_faults(finding, &[row])
        })
        .collect()
}
