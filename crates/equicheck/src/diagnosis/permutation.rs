//! Only permutations break the symmetry: something depends on the order of a set.

use super::case::Case;
use super::{Finding, Mode};

pub(super) fn cause(case: &Case<'_>) -> Option<Finding> {
    let axis = case.only_permutations()?;
    let message = format!("the order of `{axis}` matters, the other factors hold");
    Some(case.finding(Mode::Permutation, message, Vec::new()))
}
