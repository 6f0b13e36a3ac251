//! Rotations hold, reflections do not: a parity is wrong.

use super::{Evidence, Finding, Mode, figure, only_improper, severity, violated};

pub(super) fn findings(evidence: &Evidence<'_>) -> Vec<Finding> {
    violated(evidence)
        .filter(|output| only_improper(evidence, output))
        .map(|output| Finding {
            location: format!("output `{}`", output.name),
            severity: severity(output.verdict),
            message: "rotations hold and reflections do not".to_owned(),
            evidence: vec![figure("violation", output.violation)],
            fix: format!(
                "look for a cross product, a triple product or an odd irrep that is used as even on the way to `{}`; if \
                 the quantity is axial, declare it as `pseudovector` (or the irrep of the other parity), and if the \
                 model is meant for rotations alone, audit under SO or SE",
                output.name
            ),
            ..Finding::of(Mode::Parity)
        })
        .collect()
}
