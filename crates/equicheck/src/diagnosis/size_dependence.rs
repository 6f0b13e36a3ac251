//! The symmetry is lost for sets, images or batches of unusual size or content.

use super::case::Case;
use super::{Evidence, Finding, Mode, of_stress, stressed};
use crate::report::{Outcome, SizeRow, StressKind, Unread};

pub(super) fn cause(case: &Case<'_>) -> Option<Finding> {
    let rows = case.sizes();
    let crops = case.seen.is_some_and(|seen| {
        seen.unread == Some(Unread::Border) && seen.resampling.is_some_and(|ratio| ratio < 1.0)
    });
    // A stride holds at some sizes too: that of its pixels is told by what it reads.
    let strides = case.seen.is_some_and(|seen| seen.resampling.is_some_and(|ratio| ratio < 1.0));
    if !crops && (rows.is_empty() || strides) {
        return None;
    }
    let mut facts = facts(&rows);
    if crops {
        facts.push("the end of its input is not read: what is left over by a window is dropped".to_owned());
    }
    let message = "inputs of some sizes hold, and those of others do not".to_owned();
    Some(case.finding(Mode::SizeDependence, message, facts))
}

/// What pairs of each size show.
pub(super) fn facts(rows: &[&SizeRow]) -> Vec<String> {
    let fact = |row: &&SizeRow| {
        let sizes: Vec<String> = row.sizes.iter().map(|(name, n)| format!("{name} {n}")).collect();
        format!("{}: {} of {} pairs violate", sizes.join(", "), row.exceeding, row.pairs)
    };
    rows.iter().map(fact).collect()
}

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
