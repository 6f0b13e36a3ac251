//! A batch normalisation with statistics or weights for single components or positions; in train mode, one that mixes the
//! entries of a batch as it is meant to.

use super::case::Case;
use super::{Evidence, Finding, Mode, Severity, figure, page};
use crate::report::Outcome;

/// How classes of batch norms are called.
const NAMES: [&str; 2] = ["batchnorm", "batch_norm"];

pub(super) fn cause(case: &Case<'_>) -> Option<Finding> {
    case.broken?;
    let classes = case.classes();
    let normalises = |class: &String| NAMES.iter().any(|name| class.contains(name));
    let by_class = classes.iter().any(normalises);
    // A norm of another name that calls the function; an instance norm calls it too.
    let by_function = !case.operations(&["native_batch_norm*", "cudnn_batch_norm", "batch_norm*"]).is_empty()
        && !classes.iter().any(|class| class.contains("instance"));
    if !by_class && !by_function {
        return None;
    }
    let mut facts: Vec<String> = case.operations(&["native_batch_norm*", "cudnn_batch_norm", "batch_norm*"]);
    facts = facts.iter().map(|name| format!("operation: {name}")).collect();
    facts.extend(super::train_eval_difference::figures(case));
    let message =
        format!("{} normalises what the group mixes, each part by statistics of its own", case.place());
    Some(case.finding(Mode::BatchNorm, message, facts))
}

/// Train mode, in which a batch norm is meant to mix the entries.
pub(super) fn findings(evidence: &Evidence<'_>) -> Vec<Finding> {
    if evidence.mode != "train" {
        return Vec::new();
    }
    let rows = evidence.layers.map_or(&[][..], |layers| &layers.rows);
    let norms: Vec<_> = rows
        .iter()
        .filter(|row| NAMES.iter().any(|name| row.class.to_lowercase().contains(name)) && row.call == 0)
        .collect();
    let mixed: Vec<_> = evidence.composition.iter().filter(|row| row.outcome == Outcome::Violated).collect();
    let (Some(first), Some(worst)) = (
        norms.first(),
        mixed.iter().filter_map(|row| row.max_relative_f64.or(row.max_relative)).reduce(f64::max),
    ) else {
        return Vec::new();
    };
    vec![Finding {
        location: first.location.clone(),
        class: Some(first.class.clone()),
        source: first.source.clone(),
        severity: Severity::Low,
        effects: mixed
            .iter()
            .map(|row| format!("output `{}`", row.output))
            .collect::<std::collections::BTreeSet<_>>()
            .into_iter()
            .collect(),
        message: "in train mode an entry of the batch changes with the others, as a batch norm means it to"
            .to_owned(),
        evidence: std::iter::once(figure("largest relative difference of an entry", worst))
            .chain(norms.iter().map(|row| format!("batch norm: {}", row.location)))
            .collect(),
        fix: page(Mode::BatchNorm).advice(),
        ..Finding::of(Mode::BatchNorm)
    }]
}
