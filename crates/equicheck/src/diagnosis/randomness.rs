//! Two calls with the same input differ.

use super::case::Case;
use super::{Evidence, Finding, MARGIN, Mode, figure, is_unrepeatable, of_repeats, where_dependent};
use crate::report::{Dependence, OutputResult};

/// What random numbers do to an output explains its violation.
pub(super) fn cause(case: &Case<'_>) -> Option<Finding> {
    let repeat = |output: &&OutputResult| output.repeatability.unseeded;
    let explains = |output: &&OutputResult| {
        output.repeatability.seeded < output.repeatability.unseeded
            && output.violation <= MARGIN * output.repeatability.unseeded
    };
    // Or the place that is blamed is the one that draws them.
    let draws =
        case.operations(&["rand*", "normal*", "bernoulli*", "native_dropout", "uniform", "multinomial"]);
    let varies = |output: &OutputResult| output.repeatability.unseeded > output.repeatability.seeded;
    let most = case.evidence.outputs.iter().filter(|output| varies(output)).map(|o| o.repeatability.unseeded);
    let drawn_there = !draws.is_empty() && case.violation() <= MARGIN * most.fold(0.0, f64::max);
    // Where the model draws nothing, in eval mode, the violation is still there.
    if case.evidence.mode == "train" && super::train_eval_difference::breaks_too(case) {
        return None;
    }
    if case.evidence.replayed || !(drawn_there || case.outputs.iter().all(explains)) {
        return None;
    }
    let largest = case.outputs.iter().map(repeat).fold(0.0, f64::max);
    let message =
        "the model draws random numbers, which do not transform: that explains the violation".to_owned();
    let mut facts = vec![figure("relative difference without equal seeds", largest)];
    facts.extend(draws.iter().map(|name| format!("operation: {name}")));
    Some(case.finding(Mode::Randomness, message, facts))
}

pub(super) fn findings(evidence: &Evidence<'_>) -> Vec<Finding> {
    evidence
        .outputs
        .iter()
        .zip(evidence.rounding)
        .filter(|(output, rounding)| {
            // Where laws are compared, calls are meant to differ.
            output.distribution.is_none()
                && output.repeatability.unseeded > **rounding
                && output.repeatability.seeded <= **rounding
                && !is_unrepeatable(output, evidence.levels)
        })
        .map(|(output, _)| Finding {
                message: if evidence.replayed {
                    "the model draws random numbers that were not recorded (numpy's, python's): calls agree only \
                     because the audit starts them from equal seeds"
                        .to_owned()
                } else {
                    "the model draws random numbers: calls agree only because the audit starts them from equal seeds"
                        .to_owned()
                },
                fix: "audit the deterministic part: mode=\"eval\" turns dropout off; or let noise move with the input: \
                      randomness=\"transform\" with noise_layouts= (torch), noise as an input with a layout of its own; \
                      or compare laws: randomness=\"distribution\"; seed private generators on each call"
                    .to_owned(),
                ..of_repeats(Mode::Randomness, output)
        })
        .map(|finding| where_dependent(finding, Dependence::RandomNumbers, evidence))
        .collect()
}
