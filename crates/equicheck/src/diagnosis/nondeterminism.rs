//! Equal calls with equal generators differ.

use super::case::Case;
use super::{Evidence, Finding, MARGIN, Mode, figure, is_unrepeatable, of_repeats, page, where_dependent};
use crate::report::{Dependence, OutputResult};

/// What differs between equal calls explains the violation.
pub(super) fn cause(case: &Case<'_>) -> Option<Finding> {
    let explains = |output: &&OutputResult| {
        let repeat = output.repeatability.seeded;
        repeat > 0.0 && output.violation <= MARGIN * repeat
    };
    if !case.outputs.iter().all(explains) {
        return None;
    }
    let largest = case.outputs.iter().map(|output| output.repeatability.seeded).fold(0.0, f64::max);
    let message = "equal calls with equal seeds differ by as much as the violation".to_owned();
    Some(case.finding(
        Mode::Nondeterminism,
        message,
        vec![figure("relative difference with equal seeds", largest)],
    ))
}

pub(super) fn findings(evidence: &Evidence<'_>) -> Vec<Finding> {
    evidence
        .outputs
        .iter()
        .zip(evidence.rounding)
        .filter(|(output, rounding)| {
            output.distribution.is_none()
                && (output.repeatability.seeded > **rounding || is_unrepeatable(output, evidence.levels))
        })
        .map(|(output, _)| Finding {
            message: "two calls with the same input and equal seeds differ".to_owned(),
            fix: page(Mode::Nondeterminism).advice(),
            ..of_repeats(Mode::Nondeterminism, output)
        })
        .map(|finding| where_dependent(finding, Dependence::Chance, evidence))
        .collect()
}
