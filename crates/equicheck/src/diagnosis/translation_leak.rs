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
    Some(case.finding(Mode::TranslationLeak, message, Case::stabiliser(&held)))
}
