//! One layer of a user's own violates what equivariance asks of it.

use super::case::Case;
use super::{Finding, Mode};
use crate::report::{BreakKind, Confidence};

pub(super) fn cause(case: &Case<'_>) -> Option<Finding> {
    let broken = case.broken?;
    // Between two places that nothing is known of, or a mere lead: that is no layer.
    if broken.kind == BreakKind::Bracket || broken.confidence == Confidence::Low {
        return None;
    }
    let own = broken.own_error.map_or_else(String::new, |own| format!(", by {own:.1e}"));
    let message =
        format!("what goes into {} transforms as it must, and what comes out does not{own}", case.place());
    let mut facts = Case::stabiliser(&case.holds_under());
    if let Some(seen) = case.seen {
        facts.extend(
            seen.exact_rows
                .filter(|share| *share > 0.0)
                .map(|share| format!("{:.0} % of its rows are right", 100.0 * share)),
        );
        if seen.own_basis {
            facts.push(
                "its output transforms linearly in a basis of its own: components have other factors"
                    .to_owned(),
            );
        }
        facts.extend(
            (!seen.operations.is_empty()).then(|| format!("operations: {}", seen.operations.join(", "))),
        );
    }
    Some(case.finding(Mode::CustomLayerBug, message, facts))
}
