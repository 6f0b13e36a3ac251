//! Rotations hold, reflections do not: a parity is wrong.

use super::case::Case;
use super::{Finding, Mode};

pub(super) fn cause(case: &Case<'_>) -> Option<Finding> {
    if !case.only_reflections() {
        return None;
    }
    let facts = case.operations(&["linalg_cross", "cross", "linalg_det", "linalg_slogdet"]);
    let facts = facts.iter().map(|name| format!("operation: {name}")).collect();
    Some(case.finding(Mode::Parity, "rotations hold and reflections do not".to_owned(), facts))
}
