//! The sections of stages that give rows.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use super::{Align, Block, Document, Inline, Table, item, not_run, optional};
use crate::report::{CompositionRow, Outcome, Rows, StressRow};

const FIGURES: [(&str, Align); 3] =
    [("max relative", Align::Right), ("max relative f64", Align::Right), ("noise floor", Align::Right)];

/// `excellent` is the bound above which even a row that holds is explained.
pub(super) fn stress(stage: &Rows<StressRow>, excellent: f64, blocks: &mut Document) {
    blocks.push(Block::Section("STRESS INPUTS"));
    let rows = match stage {
        Rows::NotRun { reason } => return blocks.push(item("Inputs", not_run(reason))),
        Rows::Ran { rows } => rows,
    };
    blocks.push(item("Result", counted(rows.iter().map(|row| row.outcome))));
    let measured: Vec<&StressRow> = rows.iter().filter(|row| row.max_relative.is_some()).collect();
    if !measured.is_empty() {
        let mut columns = vec![("input", Align::Left), ("sample", Align::Right), ("output", Align::Left)];
        columns.extend(FIGURES);
        columns.push(("outcome", Align::Left));
        blocks.push(Block::Table(Table {
            caption: "Inputs derived from the test samples (no verdict hangs on them)",
            columns,
            rows: measured
                .iter()
                .map(|row| {
                    vec![
                        Inline::from(row.kind.to_string()),
                        row.sample.map_or_else(|| "-".to_owned(), |sample| sample.to_string()).into(),
                        row.output.as_ref().map_or_else(|| "-".into(), Inline::code),
                        optional(row.max_relative),
                        optional(row.max_relative_f64),
                        optional(row.noise),
                        row.outcome.to_string().into(),
                    ]
                })
                .collect(),
        }));
    }
    let explained =
        |row: &&&StressRow| row.outcome != Outcome::Holds || row.max_relative.is_some_and(|e| e >= excellent);
    for row in measured.iter().filter(explained) {
        blocks.push(Block::Item(row.kind.to_string().into(), row.reason.as_str().into()));
    }
    // What gave no figures, inputs with the same reason together.
    let mut reasons: Vec<(Outcome, &str, Vec<String>)> = Vec::new();
    for row in rows.iter().filter(|row| row.max_relative.is_none()) {
        let reason = row.reason.as_str();
        match reasons.iter_mut().find(|known| (known.0, known.1) == (row.outcome, reason)) {
            Some((.., kinds)) => kinds.push(row.kind.to_string()),
            None => reasons.push((row.outcome, reason, vec![row.kind.to_string()])),
        }
    }
    for (outcome, reason, kinds) in reasons {
        blocks.push(Block::Item(kinds.join(", ").into(), format!("{outcome}: {reason}").into()));
    }
}

pub(super) fn composition(stage: &Rows<CompositionRow>, blocks: &mut Document) {
    blocks.push(Block::Section("BATCH COMPOSITION"));
    let rows = match stage {
        Rows::NotRun { reason } => return blocks.push(item("Entries of a batch", not_run(reason))),
        Rows::Ran { rows } => rows,
    };
    blocks.push(item("Result", counted(rows.iter().map(|row| row.outcome))));
    let mut columns = vec![("entries", Align::Left), ("output", Align::Left), ("batches", Align::Right)];
    columns.extend(FIGURES);
    columns.push(("outcome", Align::Left));
    blocks.push(Block::Table(Table {
        caption: "Each entry against itself in the batch as it was given",
        columns,
        rows: rows
            .iter()
            .map(|row| {
                vec![
                    Inline::from(row.kind.to_string()),
                    Inline::code(&row.output),
                    row.batches.to_string().into(),
                    optional(row.max_relative),
                    optional(row.max_relative_f64),
                    optional(row.noise),
                    row.outcome.to_string().into(),
                ]
            })
            .collect(),
    }));
    for row in rows.iter().filter(|row| row.outcome != Outcome::Holds) {
        let label = Inline::from(format!("{}, ", row.kind)).then_code(&row.output);
        blocks.push(Block::Item(label, row.reason.as_str().into()));
    }
}

/// `violated 1, holds 12`: how often each outcome came, the gravest first.
pub(super) fn counted(outcomes: impl Iterator<Item = Outcome>) -> String {
    let mut counts: BTreeMap<Reverse<Outcome>, usize> = BTreeMap::new();
    for outcome in outcomes {
        *counts.entry(Reverse(outcome)).or_default() += 1;
    }
    let words: Vec<String> = counts.iter().map(|(outcome, n)| format!("{} {n}", outcome.0)).collect();
    if words.is_empty() { "nothing to try".to_owned() } else { words.join(", ") }
}
