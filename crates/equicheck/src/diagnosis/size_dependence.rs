//! The symmetry is lost for sets, images or batches of unusual size or content.

use super::{Evidence, Finding, Mode, of_stress, stressed};
use crate::report::{Outcome, StressKind};

pub(super) fn findings(evidence: &Evidence<'_>) -> Vec<Finding> {
    let kinds = [
        StressKind::OneNode,
        StressKind::TwoNodes,
        StressKind::BatchOfOne,
        StressKind::CentrePixel,
        StressKind::BorderPixel,
        StressKind::TinyScale,
        StressKind::HugeScale,
        StressKind::FarFromOrigin,
    ];
    let wrong = [Outcome::Violated, Outcome::NotFinite, Outcome::Raises];
    stressed(evidence, &kinds, &wrong)
        .into_iter()
        .map(|(output, rows)| {
            of_stress(
                Mode::SizeDependence,
                output,
                &rows,
                "the symmetry holds on the test samples and is lost on inputs of another size",
                "look for a branch, a clamp, a constant or a squeezed axis that takes over at these sizes",
            )
        })
        .collect()
}
