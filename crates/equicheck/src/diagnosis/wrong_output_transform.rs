//! The error vanishes under another action: the inverse, another weight, an axis that points the other way, another
//! representation than the user's own.

use super::case::Case;
use super::{Finding, Mode};
use crate::report::Variation;

pub(super) fn cause(case: &Case<'_>) -> Option<Finding> {
    let other = case.alternative?;
    if matches!(other.variation, Variation::Order | Variation::Moved) {
        return None;
    }
    let tensor = if other.input { "input" } else { "output" };
    let message = format!(
        "{tensor} `{}` does not transform as `{}`, but as {}: {}",
        other.name, other.declared, other.holds_as, other.variation
    );
    Some(case.finding(Mode::WrongOutputTransform, message, super::wrong_declaration::figures(other)))
}
