//! The symmetry holds in one of train and eval mode alone.

use super::case::Case;
use super::{Finding, Mode};
use crate::report::OtherMode;

pub(super) fn cause(case: &Case<'_>) -> Option<Finding> {
    let rows = rows(case);
    if rows.is_empty() || !rows.iter().all(|row| row.holds) {
        return None;
    }
    let (own, other) = (case.evidence.mode, &rows[0].mode);
    let message = format!("the symmetry is broken in {own} mode and holds in {other} mode");
    Some(case.finding(Mode::TrainEvalDifference, message, figures(case)))
}

fn rows<'a>(case: &Case<'a>) -> Vec<&'a OtherMode> {
    let own = |row: &&OtherMode| case.outputs.iter().any(|output| output.name == row.output);
    case.evidence.inquiries.other_mode.iter().filter(own).collect()
}

/// Whether the other mode breaks the symmetry too.
pub(super) fn breaks_too(case: &Case<'_>) -> bool {
    rows(case).iter().any(|row| !row.holds)
}

/// What was measured in the other mode.
pub(super) fn figures(case: &Case<'_>) -> Vec<String> {
    let rows = rows(case);
    let said =
        |row: &&OtherMode| format!("in {} mode `{}` is off by {:.1e}", row.mode, row.output, row.error);
    rows.iter().map(said).collect()
}
