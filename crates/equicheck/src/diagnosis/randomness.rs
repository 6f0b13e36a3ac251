//! Two calls with the same input differ.

use super::{Evidence, Finding, Mode, Severity, figure, is_unrepeatable};

pub(super) fn findings(evidence: &Evidence<'_>) -> Vec<Finding> {
    evidence
        .outputs
        .iter()
        .zip(evidence.rounding)
        .filter(|(output, rounding)| {
            // Where laws are compared, calls are meant to differ.
            output.distribution.is_none()
                && (output.repeatability.seeded.max(output.repeatability.unseeded) > **rounding
                    || is_unrepeatable(output, evidence.levels))
        })
        .map(|(output, rounding)| {
            let repeat = &output.repeatability;
            let unseeded = repeat.seeded <= *rounding && !is_unrepeatable(output, evidence.levels);
            Finding {
                location: format!("output `{}`", output.name),
                severity: Severity::Medium,
                message: if unseeded && evidence.replayed {
                    "the model draws random numbers that were not recorded (numpy's, python's): calls agree only \
                     because the audit starts them from equal seeds"
                        .to_owned()
                } else if unseeded {
                    "the model draws random numbers: calls agree only because the audit starts them from equal seeds"
                        .to_owned()
                } else {
                    "two calls with the same input and equal seeds differ".to_owned()
                },
                evidence: vec![
                    figure("relative difference with equal seeds", repeat.seeded),
                    figure("relative difference without", repeat.unseeded),
                ],
                fix: "audit the deterministic part: mode=\"eval\" turns dropout off; or let noise move with the input: \
                      randomness=\"transform\" with noise_layouts= (torch), noise as an input with a layout of its own; \
                      or compare laws: randomness=\"distribution\"; seed private generators on each call"
                    .to_owned(),
                ..Finding::of(Mode::Randomness)
            }
        })
        .collect()
}
