//! The output depends on the calls that came before.

use super::{Evidence, Finding, Mode, Severity, figure, where_dependent};
use crate::report::{Dependence, OutputResult};

pub(super) fn findings(evidence: &Evidence<'_>) -> Vec<Finding> {
    // Where equal calls differ, they do so after other calls too.
    let differs = |(output, rounding): (&OutputResult, &f64)| output.repeatability.seeded > *rounding;
    if evidence.outputs.iter().zip(evidence.rounding).any(differs) {
        return Vec::new();
    }
    evidence
        .outputs
        .iter()
        .zip(evidence.rounding)
        .filter(|(output, rounding)| {
            let repeat = &output.repeatability;
            repeat.drift > **rounding && repeat.seeded <= **rounding && repeat.unseeded <= **rounding
        })
        .map(|(output, _)| Finding {
            location: format!("output `{}`", output.name),
            severity: Severity::Medium,
            message: "the output changes after other calls: the model changes its own buffers".to_owned(),
            evidence: vec![figure("relative difference after three calls", output.repeatability.drift)],
            fix: "do not update buffers in eval mode (running statistics, caches, counters)".to_owned(),
            ..Finding::of(Mode::StateDrift)
        })
        .map(|finding| where_dependent(finding, Dependence::EarlierCalls, evidence))
        .collect()
}
