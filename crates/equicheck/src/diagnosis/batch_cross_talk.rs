//! An entry of a batch depends on the others.

use super::{Evidence, Finding, Mode, Severity, figure, where_dependent};
use crate::report::{CompositionRow, Dependence, Outcome};

pub(super) fn findings(evidence: &Evidence<'_>) -> Vec<Finding> {
    let talks = |row: &&CompositionRow| matches!(row.outcome, Outcome::Violated | Outcome::NotFinite);
    evidence
        .outputs
        .iter()
        .filter_map(|output| {
            let rows: Vec<&CompositionRow> =
                evidence.composition.iter().filter(|row| row.output == output.name).filter(talks).collect();
            let worst = rows.iter().max_by(|a, b| figure_of(a).total_cmp(&figure_of(b)))?;
            let train = evidence.mode == "train";
            let changes: Vec<String> = rows.iter().map(|row| row.kind.to_string()).collect();
            let norm = if train {
                "in train mode a batch norm means it; audit in eval mode to see whether anything else mixes entries"
            } else {
                "look for attention or a norm over the batch axis (`batch_first`, `dim=0`), a mean over all nodes that \
                 ignores which graph they belong to, a batch norm without running statistics or left in train mode"
            };
            Some(Finding {
                location: format!("output `{}`", output.name),
                severity: if train { Severity::Low } else { Severity::Medium },
                message: format!(
                    "an entry of the batch changes with what else is in the batch ({})",
                    changes.join(", ")
                ),
                evidence: vec![
                    figure("largest relative difference of an entry", figure_of(worst)),
                    worst.reason.clone(),
                ],
                fix: norm.to_owned(),
                ..Finding::of(Mode::BatchCrossTalk)
            })
        })
        .map(|finding| where_dependent(finding, Dependence::RestOfTheBatch, evidence))
        .collect()
}

fn figure_of(row: &CompositionRow) -> f64 {
    row.max_relative_f64.or(row.max_relative).unwrap_or(f64::INFINITY)
}
