//! Only translations break the symmetry: an absolute coordinate reaches the output, or the border of a grid.

use super::case::Case;
use super::{Finding, Mode};

pub(super) fn cause(case: &Case<'_>) -> Option<Finding> {
    if !case.only_translations() {
        return None;
    }
    // What small translations do not show jumps somewhere, and is no coordinate.
    let held = case.holds_under();
    if held.iter().any(|row| row.group == "small translations") && case.broken.is_some() {
        return None;
    }
    let message = "translations break the symmetry, the other factors hold".to_owned();
    let mut finding = case.finding(Mode::TranslationLeak, message, Case::stabiliser(&held));
    if case.on_grid() {
        "pad circularly where the grid wraps around, and not at all where it ends; a stride or pooling of k keeps shifts by \
         multiples of k alone (`kT(n)`); take out positional encodings"
            .clone_into(&mut finding.fix);
    }
    Some(finding)
}
