//! Components of a vector, an irrep or a symmetric tensor come in another order than the declaration, or the next layer,
//! takes them to have.

use super::case::Case;
use super::{Finding, Mode};
use crate::report::Variation;

pub(super) fn cause(case: &Case<'_>) -> Option<Finding> {
    if let Some(other) = case.alternative.filter(|other| other.variation == Variation::Order) {
        let message = format!("`{}` holds as {}", other.name, other.holds_as);
        return Some(case.finding(Mode::ComponentOrder, message, super::wrong_declaration::figures(other)));
    }
    let order = case.seen?.order.as_ref()?;
    let message = format!("{} would be equivariant if its components were ordered as {order}", case.place());
    Some(case.finding(Mode::ComponentOrder, message, Vec::new()))
}
