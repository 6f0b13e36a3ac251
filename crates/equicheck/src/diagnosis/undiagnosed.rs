//! A violation that no other rule explains: what was found, and what was excluded.

use super::case::Case;
use super::{Finding, Mode};
use crate::symmetry::Factor;

pub(super) fn cause(case: &Case<'_>) -> Finding {
    let inquiries = case.evidence.inquiries;
    let mut excluded = Vec::new();
    if inquiries.tried > 0 {
        excluded.push(format!("excluded: {} other declarations, none of which passes", inquiries.tried));
    }
    excluded.extend(super::train_eval_difference::figures(case));
    let own = |output: &str| case.outputs.iter().any(|o| o.name == output);
    for row in inquiries.subgroups.iter().filter(|row| own(&row.output)) {
        let verb = if row.holds { "holds" } else { "does not hold" };
        excluded.push(format!("{verb} under {}: {:.1e}", row.group, row.error));
    }
    excluded.extend(inquiries.left_out.iter().map(|why| format!("not all was tried: {why}")));
    let message = case.outputs.first().map_or_else(String::new, |output| output.reason.clone());
    let mut finding = case.finding(Mode::Undiagnosed, message, excluded);
    if case.evidence.group.factors().iter().any(|f| matches!(f, Factor::Custom(_))) {
        finding.fix = format!(
            "check first that the custom action's `input` and `output` say what the model computes. {}",
            finding.fix
        );
    }
    finding
}
