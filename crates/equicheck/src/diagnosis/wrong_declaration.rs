//! All holds under another declaration that the language has a word for.

use super::case::Case;
use super::{Finding, Mode, figure};
use crate::report::{Alternative, Variation};

pub(super) fn cause(case: &Case<'_>) -> Option<Finding> {
    let other = case.alternative?;
    let by_word = matches!(other.variation, Variation::Parity | Variation::Affine | Variation::Dual)
        && !other.declared.contains('@');
    if !by_word || (other.input && other.variation == Variation::Moved) {
        return None;
    }
    let tensor = if other.input { "input" } else { "output" };
    let message = format!(
        "{tensor} `{}` is declared `{}`; all holds if it is `{}`: {}",
        other.name, other.declared, other.holds_as, other.variation
    );
    let mut finding = case.finding(Mode::WrongDeclaration, message, figures(other));
    finding.fix = format!(
        "declare `{}` as `{}` if that is what it means; if not, it is another quantity than you think. {}",
        other.name, other.holds_as, finding.fix
    );
    Some(finding)
}

/// What was measured of another declaration.
pub(super) fn figures(other: &Alternative) -> Vec<String> {
    vec![
        figure(&format!("largest error as declared, `{}`", other.declared), other.before),
        figure(&format!("as {}, over the same {} pairs", other.holds_as, other.pairs), other.after),
    ]
}
