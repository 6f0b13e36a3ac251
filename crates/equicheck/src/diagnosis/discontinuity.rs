//! A test input sits on a jump of the model.

use super::{Evidence, Finding, Severity};

pub(super) fn findings(evidence: &Evidence<'_>) -> Vec<Finding> {
    evidence
        .outputs
        .iter()
        .zip(evidence.discontinuous)
        .filter(|(_, jumps)| **jumps)
        .map(|(output, _)| Finding {
            mode: "discontinuity".to_owned(),
            location: format!("output `{}`", output.name),
            severity: Severity::Low,
            message: "a change of one unit in the last place of the input jumps the output".to_owned(),
            evidence: vec![format!("noise floor without the jump: {:.2e}", output.noise)],
            fix: "audit again on generic inputs (a tie, a sorted order, a neighbour exactly at a cutoff?); if the jump \
                  stays, make the model continuous there"
                .to_owned(),
        })
        .collect()
}
