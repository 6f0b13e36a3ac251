//! The place in the array, or the number of an element, is an input.

use super::case::Case;
use super::{Finding, Mode};
use crate::report::Placement;

pub(super) fn cause(case: &Case<'_>) -> Option<Finding> {
    let seen = case.seen?;
    case.broken?;
    let by_order = case.only_permutations().is_some();
    let by_shift = case.only_translations() && case.on_grid();
    if !by_order && !by_shift {
        return None;
    }
    // What keeps shifts by a multiple is a stride.
    if Case::multiples(&case.holds_under()).is_some() {
        return None;
    }
    let alone = seen.pointwise == Some(true) || seen.counts || seen.unmoved;
    let differs = seen.placement == Some(Placement::Everywhere);
    // What does not read what moves has tables by place.
    // Places that read nothing but themselves and are treated unlike; or like places that come out unlike, each from the
    // next, which an aggregation in some order does too.
    if !(alone || by_shift && differs) {
        return None;
    }
    let message = format!("{} treats places by where they are", case.place());
    let mut facts = Vec::new();
    if seen.counts {
        facts.push("it is given the numbers of the places".to_owned());
    } else if seen.unmoved {
        facts.push("nothing that it is given moves, and what it gives should".to_owned());
    } else if alone {
        facts.push("each place of its output depends on the same place of its input alone".to_owned());
    }
    if let Some(placement) = seen.placement {
        facts.push(format!("given the same at all places, its output differs {placement}"));
    }
    Some(case.finding(Mode::PositionalEncoding, message, facts))
}
