//! A test input sits on a jump of the model.

use super::case::Case;
use super::{Evidence, Finding, Mode, Severity, is_unrepeatable, of_stress, stressed};
use crate::report::{Outcome, StressKind};

/// Decompositions whose vectors have signs, or an order, of nobody's choice.
const ARBITRARY: [&str; 6] = ["linalg_eigh", "linalg_eig", "linalg_svd", "symeig", "svd", "linalg_qr"];

/// A module takes eigenvectors or singular vectors as they come, and loses the symmetry.
pub(super) fn cause(case: &Case<'_>) -> Option<Finding> {
    case.broken?;
    let operations = case.operations(&ARBITRARY);
    let by_component = case.seen.is_some_and(|seen| seen.componentwise == Some(true));
    if operations.is_empty() || by_component {
        return None;
    }
    let message =
        format!("{} takes vectors whose sign and order the decomposition happens to give", case.place());
    let facts = operations.iter().map(|name| format!("operation: {name}")).collect();
    Some(case.finding(Mode::Discontinuity, message, facts))
}

pub(super) fn findings(evidence: &Evidence<'_>) -> Vec<Finding> {
    let on_samples = evidence
        .outputs
        .iter()
        .zip(evidence.discontinuous)
        .filter(|(output, jumps)| **jumps && !is_unrepeatable(output, evidence.levels))
        .map(|(output, _)| Finding {
            location: format!("output `{}`", output.name),
            severity: Severity::Low,
            message: "a change of one unit in the last place of the input jumps the output".to_owned(),
            evidence: vec![format!("noise floor without the jump: {:.2e}", output.noise)],
            fix: "audit again on generic inputs (a tie, a sorted order, a neighbour exactly at a cutoff?); if the jump \
                  stays, make the model continuous there"
                .to_owned(),
            ..Finding::of(Mode::Discontinuity)
        });
    on_samples.chain(on_stress_inputs(evidence)).collect()
}

fn on_stress_inputs(evidence: &Evidence<'_>) -> Vec<Finding> {
    let at_edges = [
        StressKind::Coincident,
        StressKind::BelowCutoff,
        StressKind::AtCutoff,
        StressKind::AboveCutoff,
        StressKind::AcrossCutoff,
    ];
    let wrong = [Outcome::Violated, Outcome::NotFinite, Outcome::Raises, Outcome::Discontinuous];
    stressed(evidence, &at_edges, &wrong)
        .into_iter()
        .map(|(output, rows)| {
            of_stress(
                Mode::Discontinuity,
                output,
                &rows,
                "the model jumps or fails where elements meet or leave each other's neighbourhood",
                "let contributions vanish at the cutoff with an envelope, and at zero distance by a power of it",
            )
        })
        .collect()
}
