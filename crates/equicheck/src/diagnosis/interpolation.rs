//! A resampling follows the array, or a grid laid through space, rather than the space itself.
//!
//! Cells along the axes of space keep quarter turns; so do functions of single components, which lay out no places.

use super::case::Case;
use super::{Finding, Mode};

pub(super) fn cause(case: &Case<'_>) -> Option<Finding> {
    case.broken?;
    let resampled = case.operations(&["upsample*", "grid_sampler*", "affine_grid*"]);
    let finer = case.seen.and_then(|seen| seen.resampling).filter(|ratio| *ratio > 1.0);
    let held = case.holds_under();
    let right_angles = held.iter().any(|row| row.group == "quarter turns");
    let shifts = !case.on_grid() && case.broken_by_translations();
    // Points: turns by right angles hold, and neither other turns nor shifts do, or places are laid out: cells along the
    // axes.
    let laid = case.operations(&["arange", "linspace", "floor", "round", "bucketize", "histc", "meshgrid"]);
    let cells = right_angles
        && (shifts || !laid.is_empty() && case.seen.is_none_or(|seen| seen.componentwise != Some(true)));
    if !(case.on_grid() && (finer.is_some() || !resampled.is_empty()) || cells) {
        return None;
    }
    let message = if cells {
        format!("{} goes through a grid along the axes of space", case.place())
    } else {
        format!("{} resamples the grid by positions that refer to the array", case.place())
    };
    let mut facts = Case::stabiliser(&held);
    facts.extend(resampled.iter().map(|name| format!("operation: {name}")));
    facts.extend(finer.map(|ratio| format!("places that go out for one that comes in: {ratio:.2}")));
    Some(case.finding(Mode::Interpolation, message, facts))
}
