//! The symmetry is lost where coordinates of the model degenerate: on a line, in a plane, at zero, at a pole.

use super::{Evidence, Finding, Mode, of_stress, stressed};
use crate::report::{Outcome, StressKind};

pub(super) fn findings(evidence: &Evidence<'_>) -> Vec<Finding> {
    let kinds = [
        StressKind::Collinear,
        StressKind::AlongY,
        StressKind::AlongZ,
        StressKind::Planar,
        StressKind::ZeroVectors,
        StressKind::LightLike,
        StressKind::AtRest,
        StressKind::CollinearMomenta,
        StressKind::ConstantImage,
    ];
    let wrong = [Outcome::Violated, Outcome::NotFinite, Outcome::Raises];
    stressed(evidence, &kinds, &wrong)
        .into_iter()
        .map(|(output, rows)| {
            of_stress(
                Mode::ChartSingularity,
                output,
                &rows,
                "the symmetry is lost on degenerate inputs",
                "look for angles, frames, normalised or crossed vectors that have no direction there, and for a fixed \
                 axis that stands in for it; let such terms vanish smoothly instead",
            )
        })
        .collect()
}
