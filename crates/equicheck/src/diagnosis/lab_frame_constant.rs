//! A direction of the laboratory is built into the model: what is left over is constant, or turns about an axis hold.

use super::case::Case;
use super::{Finding, Mode};

pub(super) fn cause(case: &Case<'_>) -> Option<Finding> {
    if !case.matrices_break() {
        return None;
    }
    let held = case.holds_under();
    let about = held.iter().any(|row| row.group.starts_with("SO("));
    let constant = case.seen.is_some_and(|seen| seen.constant == Some(true));
    // What is equivariant in a basis of its own has a wrong factor, not a direction.
    let stretched = case.seen.is_some_and(|seen| seen.own_basis && !constant);
    // A linear map with a wrong sign or weight at one component keeps such turns too, and is met more often than one with a
    // direction of its own.
    let weighs = case.seen.is_some_and(|seen| seen.linear == Some(true));
    if !(about && !weighs || constant) || stretched {
        return None;
    }
    let message = if about {
        let names: Vec<&str> = held.iter().map(|row| row.group.as_str()).collect();
        format!("a direction is singled out at {}: {} holds", case.place(), names.join(", "))
    } else {
        format!("{} adds a constant that does not turn", case.place())
    };
    let mut facts = Case::stabiliser(&held);
    if constant {
        facts.push("what does not turn is the same in all rows".to_owned());
    }
    Some(case.finding(Mode::LabFrameConstant, message, facts))
}
