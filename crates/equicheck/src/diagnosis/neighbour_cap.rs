//! A list of neighbours is cut at a number: which ones stay is decided by their order, or by ties.

use super::case::Case;
use super::{Evidence, Finding, Mode, Severity, at, page, severity};

/// Operations that count, or put in order.
const COUNTING: [&str; 8] = ["topk", "sort", "argsort", "cumsum", "kthvalue", "tril", "triu", "bincount"];
/// Share of what is wrong that has to be dropped in one of two orders: what stays changes too where it is a mean.
const DROPPED: f64 = 0.25;

pub(super) fn cause(case: &Case<'_>) -> Option<Finding> {
    let seen = case.seen?;
    let counting = case.operations(&COUNTING);
    let chosen: Vec<String> = counting.iter().map(|n| format!("operation: {n}")).collect();
    let Some(cap) = seen.cap else {
        let dropped = seen.dropped.filter(|share| *share >= DROPPED)?;
        // Activations make zeros too.
        let activations = case.operations(&["relu*", "threshold*", "hardtanh*"]);
        let chooses = !counting.is_empty() && activations.is_empty();
        let axis = case.only_permutations().filter(|_| chooses)?;
        let message = format!(
            "{} counts along `{axis}`, keeps some entries and drops others by their order",
            case.place()
        );
        let fact =
            format!("{:.0} % of what is wrong is zero in one order and not in another", 100.0 * dropped);
        return Some(case.finding(
            Mode::NeighbourCap,
            message,
            std::iter::once(fact).chain(chosen).collect(),
        ));
    };
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
