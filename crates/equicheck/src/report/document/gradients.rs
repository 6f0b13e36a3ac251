//! The section of the gradient stage.

use std::collections::BTreeMap;

use super::rows::counted;
use super::{Align, Block, Document, Inline, Table, figure, item, not_run, optional};
use crate::report::{BreakKind, Fault, GradientCheck, GradientRow, Outcome, Rows, Verdict};

/// Rows that hold and are shown all the same, of those of one kind: a network has hundreds of parameter tensors.
const SHOWN: usize = 8;

pub(super) fn gradients(stage: &Rows<GradientRow>, blocks: &mut Document) {
    blocks.push(Block::Section("GRADIENT TEST"));
    let rows = match stage {
        Rows::NotRun { reason } => {
            blocks.push(item("Gradient equivariance error", not_run(reason)));
            blocks.push(item("RESULT", "not run"));
            return;
        }
        Rows::Ran { rows } => rows,
    };
    let judged = |row: &&GradientRow| matches!(row.check, GradientCheck::Input | GradientCheck::Parameter);
    let worst = rows.iter().filter(judged).filter_map(|row| row.max_relative).reduce(f64::max);
    blocks.push(item("Gradient equivariance error", worst.map_or_else(|| "not measured".to_owned(), figure)));
    let verdict = rows.iter().filter_map(|row| row.verdict).max();
    let result = match verdict {
        Some(Verdict::Pass) => "PASS".to_owned(),
        Some(Verdict::NeedsAttention) => "FAIL (NEEDS_ATTENTION)".to_owned(),
        Some(Verdict::Fail) => "FAIL".to_owned(),
        None => "nothing was judged".to_owned(),
    };
    let counts = counted(rows.iter().map(|row| row.outcome));
    blocks.push(item("RESULT", format!("{result} ({counts})")));
    let mut left_out = 0;
    let mut of_kind: BTreeMap<(GradientCheck, &str), usize> = BTreeMap::new();
    let shown: Vec<&GradientRow> = rows
        .iter()
        .filter(|row| row.max_relative.is_some() || row.max_relative_f64.is_some())
        .filter(|row| {
            if row.outcome != Outcome::Holds {
                return true;
            }
            let seen = of_kind.entry((row.check, row.mode.as_str())).or_default();
            *seen += 1;
            left_out += usize::from(*seen > SHOWN);
            *seen <= SHOWN
        })
        .collect();
    if !shown.is_empty() {
        blocks.push(Block::Table(table(&shown)));
    }
    if left_out > 0 {
        blocks.push(item("Not shown", format!("{left_out} more rows that hold (the JSON form has all)")));
    }
    // Rows with one reason together: most models have one cause and many tensors.
    let mut reasons: Vec<(&GradientRow, usize)> = Vec::new();
    for row in rows.iter().filter(|row| row.outcome != Outcome::Holds) {
        let same = |known: &GradientRow| {
            (known.check, known.outcome, &known.mode, &known.reason)
                == (row.check, row.outcome, &row.mode, &row.reason)
        };
        match reasons.iter_mut().find(|(known, _)| same(known)) {
            Some((_, more)) => *more += 1,
            None => reasons.push((row, 0)),
        }
    }
    for (row, more) in reasons {
        let mut label = Inline::from(format!("{}, {}, ", row.check, row.mode)).then_code(&row.output);
        if let Some(target) = &row.target {
            label = label.then(" by ").then_code(target);
        }
        if more > 0 {
            label = label.then(format!(" and {more} more"));
        }
        blocks.push(Block::Item(label, format!("{}: {}", row.outcome, row.reason).into()));
    }
    let mut faults: Vec<&Fault> = Vec::new();
    for fault in rows.iter().flat_map(|row| &row.faults) {
        if !faults.contains(&fault) {
            faults.push(fault);
        }
    }
    for fault in faults {
        let kind = if fault.kind == BreakKind::Module { "" } else { "code of the forward of " };
        let source = fault.source.as_ref().map_or(String::new(), |source| format!(", {source}"));
        let label = Inline::from(format!("Arises in {kind}")).then_code(&fault.location);
        blocks.push(Block::Item(label, format!("{}{source}: {}", fault.class, fault.reason).into()));
    }
}

fn table(rows: &[&GradientRow]) -> Table {
    Table {
        caption: "Gradients of a random combination of each output's entries",
        columns: vec![
            ("check", Align::Left),
            ("mode", Align::Left),
            ("output", Align::Left),
            ("by", Align::Left),
            ("pairs", Align::Right),
            ("max relative", Align::Right),
            ("in f64", Align::Right),
            ("noise", Align::Right),
            ("outcome", Align::Left),
        ],
        rows: rows
            .iter()
            .map(|row| {
                vec![
                    Inline::from(row.check.to_string()),
                    Inline::from(&row.mode),
                    Inline::code(&row.output),
                    row.target.as_ref().map_or_else(|| "-".into(), Inline::code),
                    row.pairs.to_string().into(),
                    optional(row.max_relative),
                    optional(row.max_relative_f64),
                    optional(row.noise),
                    row.outcome.to_string().into(),
                ]
            })
            .collect(),
    }
}
