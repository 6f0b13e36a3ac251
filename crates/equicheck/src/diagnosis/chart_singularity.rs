//! The symmetry is lost where coordinates of the model degenerate: on a line, in a plane, at zero, at a pole.

use super::case::Case;
use super::{Evidence, Finding, Mode, of_stress, stressed};
use crate::report::{Outcome, StressKind};

/// Share of rows that are right, or of turns that are wrong, where a chart fails in places.
const MOSTLY: f64 = 0.5;
/// Functions of angles.
const ANGLES: [&str; 3] = ["atan2", "asin", "acos"];

/// Turns about an axis hold, and what is wrong lies near that axis: most rows are right, or angles are taken.
pub(super) fn cause(case: &Case<'_>) -> Option<Finding> {
    let held = case.holds_under();
    let about_axis = held.iter().any(|row| row.group.starts_with("SO(2)"));
    let seen = case.seen?;
    let few = seen.exact_rows.is_some_and(|share| share >= MOSTLY) || case.share_of_turns() <= MOSTLY;
    let angles = case.operations(&ANGLES);
    // What is equivariant in a basis of its own has a wrong factor, at all angles; a linear map has no chart.
    if seen.own_basis
        || seen.linear == Some(true)
        || !case.turns_break()
        || !about_axis
        || !few && angles.is_empty()
    {
        return None;
    }
    let message = format!("{} degenerates near an axis", case.place());
    let mut facts = Case::stabiliser(&held);
    facts.extend(seen.exact_rows.map(|share| format!("{:.0} % of its rows are right", 100.0 * share)));
    facts.extend(angles.iter().map(|name| format!("operation: {name}")));
    Some(case.finding(Mode::ChartSingularity, message, facts))
}

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
