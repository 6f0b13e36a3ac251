//! A stride keeps the shifts by its multiples alone, or the turns about one of its pixels.

use super::case::Case;
use super::{Finding, Mode};
use crate::report::Unread;

pub(super) fn cause(case: &Case<'_>) -> Option<Finding> {
    if !case.on_grid() {
        return None;
    }
    let held = case.holds_under();
    let step = Case::multiples(&held);
    let seen = case.seen;
    let coarser = seen.and_then(|seen| seen.resampling).filter(|ratio| *ratio < 1.0);
    let skips = seen.is_some_and(|seen| seen.unread == Some(Unread::Between));
    // Turns about the middle keep the places that are read at some sizes, and exchange them with others at the rest.
    let sizes = case.sizes();
    let by_size = coarser.is_some() && !sizes.is_empty();
    if step.is_none() && !skips && !by_size {
        return None;
    }
    let message = match step {
        Some(row) => format!("{} keeps shifts of {} alone", case.place(), row.group),
        None => format!("{} keeps some places of the grid and drops others", case.place()),
    };
    let mut facts = Case::stabiliser(&held);
    facts.extend(coarser.map(|ratio| format!("places that go out for one that comes in: {ratio:.2}")));
    if skips {
        facts.push("places of its input that it does not read lie between others".to_owned());
    }
    if by_size {
        facts.extend(super::size_dependence::facts(&sizes));
    }
    Some(case.finding(Mode::StridingAliasing, message, facts))
}
