//! Padding, or the end of the array, enters where the grid has none.

use super::case::Case;
use super::{Finding, Mode};
use crate::report::{Placement, Unread};

pub(super) fn cause(case: &Case<'_>) -> Option<Finding> {
    let seen = case.seen?;
    // A network that is padded with zeros may be equivariant under turns: then what is wrong is wrong inside too.
    let inside = seen.exact_rows.is_some_and(|share| share > 0.0);
    let differs = seen.placement == Some(Placement::Border);
    if !inside || !case.on_grid() || seen.unread == Some(Unread::Between) || !seen.border.unwrap_or(differs) {
        return None;
    }
    let message = format!("{} makes the border of the array differ from its inside", case.place());
    let mut facts = Vec::new();
    if seen.border == Some(true) {
        facts.push(
            "what is wrong lies along the border of the grid or of its image, all further inside is right"
                .to_owned(),
        );
    }
    if differs {
        facts.push("given the same at all places, its output differs towards the border alone".to_owned());
    }
    let pads = case.operations(&["constant_pad*", "reflection_pad*", "replication_pad*"]);
    facts.extend(pads.iter().map(|name| format!("operation: {name}")));
    facts.extend(seen.exact_rows.map(|share| format!("{:.0} % of its output is right", 100.0 * share)));
    Some(case.finding(Mode::PaddingBoundary, message, facts))
}
