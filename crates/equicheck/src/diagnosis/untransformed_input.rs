//! An input that belongs to the geometry was left as it was.

use super::case::Case;
use super::{Finding, Mode};
use crate::report::Variation;

pub(super) fn cause(case: &Case<'_>) -> Option<Finding> {
    let other = case.alternative.filter(|other| other.input && other.variation == Variation::Moved)?;
    let message = format!(
        "input `{}` is not transformed (declared {}); all holds if it is `{}`",
        other.name, other.declared, other.holds_as
    );
    let mut finding =
        case.finding(Mode::UntransformedInput, message, super::wrong_declaration::figures(other));
    finding.fix = format!("declare `{}` as `{}`. {}", other.name, other.holds_as, finding.fix);
    Some(finding)
}
