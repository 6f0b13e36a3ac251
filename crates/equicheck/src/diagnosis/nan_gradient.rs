//! Gradients that are not finite where the outputs are.

use super::{Evidence, Finding, Mode, Severity, at_faults, severity};
use crate::report::{GradientCheck, GradientRow, Outcome};

pub(super) fn findings(evidence: &Evidence<'_>) -> Vec<Finding> {
    let mut by_output: Vec<(&str, Vec<&GradientRow>)> = Vec::new();
    let bad = |row: &&GradientRow| row.check == GradientCheck::Finite && row.outcome == Outcome::NotFinite;
    for row in evidence.gradients.iter().filter(bad) {
        match by_output.iter_mut().find(|(output, _)| *output == row.output) {
            Some((_, rows)) => rows.push(row),
            None => by_output.push((&row.output, vec![row])),
        }
    }
    by_output
        .into_iter()
        .map(|(output, rows)| {
            let finding = Finding {
            location: format!("output `{output}`"),
            // On degenerate inputs it is a note.
            severity: rows.iter().filter_map(|row| row.verdict).max().map_or(Severity::Low, severity),
            message: "gradients are not finite where the output is".to_owned(),
            evidence: rows
                .iter()
                .map(|row| match &row.target {
                    Some(target) => format!("by `{target}`: {}", row.reason),
                    None => row.reason.clone(),
                })
                .collect(),
            fix: "look for a square root, a norm, a division or an inverse function at its singular point: mask the \
                  argument before the function (`torch.where` inside, not after), or add a small constant under the \
                  root"
                .to_owned(),
            ..Finding::of(Mode::NanGradient)
            };
            at_faults(finding, &rows)
        })
        .collect()
}
