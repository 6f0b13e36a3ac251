//! What a written comparison of two audits says, and in which order.

use std::fmt::Display;

use super::super::{Change, Comparison, Figures, Finding, Matched, Trend};
use super::{Align, Block, Document, Inline, Table, figure, item, optional};

pub(in super::super) fn comparison(comparison: &Comparison) -> Document {
    let Comparison { model, verdict, .. } = comparison;
    let name = if model.before == model.after {
        Inline::code(&model.after)
    } else {
        Inline::code(&model.before).then(" before, ").then_code(&model.after).then(" after")
    };
    let mut blocks = vec![
        Block::Title("COMPARISON OF TWO AUDITS"),
        Block::Field("Model", name),
        Block::Field("Intended Symmetry", Inline::code(&comparison.group)),
        Block::Field("Verdict", went(verdict).into()),
        Block::Section("OUTPUTS"),
        Block::Table(outputs(comparison)),
        Block::Section("LAYERS"),
    ];
    let changed = |trend: Trend| trend != Trend::Same;
    let rows: Vec<Vec<Inline>> = comparison
        .layers
        .rows
        .iter()
        .filter(|row| changed(row.trend) || row.verdict.before != row.verdict.after)
        .map(|row| {
            let call = if row.call == 0 { String::new() } else { format!(" (call {})", row.call) };
            vec![
                Inline::code(format!("{}{call}", row.location)),
                both(&row.own_error),
                both(&row.propagated_error),
                went(&row.verdict).into(),
                row.trend.to_string().into(),
            ]
        })
        .collect();
    let columns = vec![
        ("layer", Align::Left),
        ("own error", Align::Left),
        ("propagated", Align::Left),
        ("result", Align::Left),
        ("change", Align::Left),
    ];
    let trends = comparison.layers.rows.iter().map(|row| row.trend);
    let table = Table { caption: "Module calls that changed", columns, rows };
    stage(&comparison.layers, trends, "module calls", table, &mut blocks);
    blocks.push(Block::Section("GRADIENTS"));
    let rows: Vec<Vec<Inline>> = comparison
        .gradients
        .rows
        .iter()
        .filter(|row| changed(row.trend) || row.outcome.before != row.outcome.after)
        .map(|row| {
            let verdict = |verdict: Option<_>| {
                verdict.map_or_else(|| "none".to_owned(), |v: super::Verdict| v.to_string())
            };
            let verdicts = Change { before: verdict(row.verdict.before), after: verdict(row.verdict.after) };
            vec![
                Inline::from(row.check.to_string()),
                Inline::from(&row.mode),
                Inline::code(&row.output),
                row.target.as_ref().map_or_else(|| "-".into(), Inline::code),
                both(&row.error),
                went(&row.outcome).into(),
                went(&verdicts).into(),
                row.trend.to_string().into(),
            ]
        })
        .collect();
    let columns = ["check", "mode", "output", "by", "error", "outcome", "verdict", "change"];
    let table = Table {
        caption: "Rows that changed",
        columns: columns.map(|column| (column, Align::Left)).into(),
        rows,
    };
    let trends = comparison.gradients.rows.iter().map(|row| row.trend);
    stage(&comparison.gradients, trends, "rows", table, &mut blocks);
    blocks.push(Block::Section("FINDINGS"));
    for (label, findings) in [
        ("Went", &comparison.findings.went),
        ("Stayed", &comparison.findings.stayed),
        ("Came", &comparison.findings.came),
    ] {
        if findings.is_empty() {
            blocks.push(item(label, "none"));
        }
        blocks.extend(findings.iter().map(|found| item(label, finding(found))));
    }
    if !comparison.notes.is_empty() {
        blocks.push(Block::Section("NOTES"));
        blocks.extend(comparison.notes.iter().map(|note| Block::Bullet(note.into())));
    }
    blocks.push(Block::Section("REGRESSIONS"));
    if comparison.regressions.is_empty() {
        blocks.push(Block::Bullet("none".into()));
    }
    blocks.extend(comparison.regressions.iter().map(|line| Block::Bullet(line.into())));
    blocks.push(Block::Result(if comparison.regressed { "REGRESSION" } else { "no regression" }));
    blocks
}

/// One word where nothing changed.
fn went<T: Display + PartialEq>(change: &Change<T>) -> String {
    if change.before == change.after {
        change.after.to_string()
    } else {
        format!("{} -> {}", change.before, change.after)
    }
}

fn both(figures: &Figures) -> Inline {
    match (figures.before, figures.after) {
        (None, None) => "-".into(),
        (before, after) => {
            let figure = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), figure);
            format!("{} -> {}", figure(before), figure(after)).into()
        }
    }
}

fn outputs(comparison: &Comparison) -> Table {
    Table {
        caption: "Violation and verdict of each output",
        columns: vec![
            ("output", Align::Left),
            ("before", Align::Right),
            ("after", Align::Right),
            ("noise explains", Align::Right),
            ("level", Align::Left),
            ("class", Align::Left),
            ("verdict", Align::Left),
            ("change", Align::Left),
        ],
        rows: comparison
            .outputs
            .iter()
            .map(|row| {
                vec![
                    Inline::code(&row.name),
                    optional(row.violation.before),
                    optional(row.violation.after),
                    figure(row.explained).into(),
                    went(&row.level).into(),
                    went(&row.classification).into(),
                    went(&row.verdict).into(),
                    row.trend.to_string().into(),
                ]
            })
            .collect(),
    }
}

/// How many rows went which way, those that changed, and what one side has alone.
fn stage<R>(
    matched: &Matched<R>,
    trends: impl Iterator<Item = Trend>,
    what: &str,
    table: Table,
    blocks: &mut Document,
) {
    if let Some(why) = &matched.not_compared {
        blocks.push(item("Compared", format!("nothing: {why}")));
        return;
    }
    let mut counts = [0; Trend::ALL.len()];
    trends.for_each(|trend| counts[trend as usize] += 1);
    let counts: Vec<String> =
        Trend::ALL.iter().zip(counts).map(|(trend, count)| format!("{count} {trend}")).collect();
    blocks.push(item("Compared", format!("{} {what}: {}", matched.rows.len(), counts.join(", "))));
    for (label, names) in [("Only before", &matched.only_before), ("Only after", &matched.only_after)] {
        if !names.is_empty() {
            blocks.push(item(label, names.join("; ")));
        }
    }
    if !table.rows.is_empty() {
        blocks.push(Block::Table(table));
    }
}

fn finding(finding: &Finding) -> Inline {
    Inline::from("[")
        .then_code(finding.mode.id())
        .then("] at ")
        .then_code(&finding.location)
        .then(format!(": {} ({})", finding.message, finding.severity))
}
