//! The output depends on the calls that came before.

use super::{Evidence, Finding, Mode, Severity, figure};

pub(super) fn findings(evidence: &Evidence<'_>) -> Vec<Finding> {
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
        .collect()
}
