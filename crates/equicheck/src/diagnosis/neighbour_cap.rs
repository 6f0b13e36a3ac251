//! A list of neighbours is cut at a number: which ones stay is decided by their order, or by ties.

use super::case::Case;
use super::{Evidence, Finding, Mode, Severity, at, page, severity};

pub(super) fn cause(case: &Case<'_>) -> Option<Finding> {
    let cap = case.seen?.cap?;
    let chosen: Vec<String> = case
        .operations(&["topk", "sort", "argsort", "cumsum", "kthvalue"])
        .iter()
        .map(|n| format!("operation: {n}"))
        .collect();
    let message =
        format!("{} keeps {cap} neighbours of each, and not both of a pair: the list is cut", case.place());
    let facts = std::iter::once(format!("rows with {cap} entries, not symmetric")).chain(chosen).collect();
    Some(case.finding(Mode::NeighbourCap, message, facts))
}

/// Ties: rounding decides which neighbours stay, and everything behind jumps.
pub(super) fn findings(evidence: &Evidence<'_>) -> Vec<Finding> {
    let Some(found) = evidence.examined(|seen| seen.amplifies.is_some() && seen.cap.is_some()) else {
        return Vec::new();
    };
    let (seen, _) = found;
    let cap = seen.cap.unwrap_or_default();
    vec![Finding {
        severity: evidence
            .outputs
            .iter()
            .map(|output| severity(output.verdict))
            .max()
            .unwrap_or(Severity::Low),
        message: format!("which {cap} neighbours are kept is decided by rounding: they are equally far"),
        evidence: vec![
            format!("rows with {cap} entries, not symmetric"),
            format!(
                "rounding of its input comes out {:.0e} times as large",
                seen.amplifies.unwrap_or_default()
            ),
        ],
        effects: evidence.outputs.iter().map(|output| format!("output `{}`", output.name)).collect(),
        fix: page(Mode::NeighbourCap).advice(),
        ..at(Mode::NeighbourCap, found)
    }]
}
