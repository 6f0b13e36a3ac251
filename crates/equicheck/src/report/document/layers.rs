//! The layer-wise section.

use super::super::{Break, LayerRow, LayerStage, LayerVerdict, Layers, Under};
use super::{Align, Block, Document, Inline, Table, figure, item, not_run, optional};

pub(super) fn layers(stage: &LayerStage, blocks: &mut Document) {
    blocks.push(Block::Section("LAYER-WISE ANALYSIS"));
    let layers = match stage {
        LayerStage::NotRun { reason } => {
            blocks.push(item("Layer", not_run(reason)));
            blocks.push(item("Error", "not run"));
            blocks.push(item("Result", "not run"));
            return;
        }
        LayerStage::Ran(layers) => layers,
    };
    match layers.breaks.as_slice() {
        [] => {
            let located = layers.notes.is_empty();
            let errors = layers.rows.iter().filter_map(|row| row.own_error);
            let largest = errors.reduce(f64::max).map_or_else(|| "none measured".to_owned(), figure);
            blocks.push(item("Layer", if located { "none loses the symmetry" } else { "not located" }));
            blocks.push(item("Error", format!("largest own error {largest}")));
            blocks.push(item("Result", if located { "PASS" } else { "undetermined" }));
        }
        breaks => {
            for broken in breaks {
                let source = broken.source.as_ref().map_or_else(String::new, |source| format!("; {source}"));
                blocks.push(item("Layer", broken.place() + &source));
                blocks.push(item("Error", measured(broken)));
                blocks.push(item("Result", format!("breaks (confidence {})", broken.confidence)));
            }
        }
    }
    blocks.push(item("Looked at", looked_at(layers)));
    if !layers.rows.is_empty() {
        blocks.push(Block::Table(table(&layers.rows)));
        blocks.extend(looked_at_under(&layers.rows).map(Block::Table));
    }
    for row in &layers.rows {
        if let Some(note) = &row.note {
            blocks.push(Block::Bullet(format!("{}: {note}", named(row)).into()));
        }
    }
    blocks.extend(layers.notes.iter().map(|note| Block::Bullet(note.into())));
    if layers.left_out > 0 {
        let text = format!("the time budget left out the local errors of {} module calls", layers.left_out);
        blocks.push(Block::Bullet(text.into()));
    }
    if !layers.skipped.is_empty() {
        let text = format!("no room for the values of {}", layers.skipped.join(", "));
        blocks.push(Block::Bullet(text.into()));
    }
}

fn looked_at(layers: &Layers) -> String {
    let known = layers.rows.iter().filter(|row| row.verdict != LayerVerdict::NotKnown).count();
    let precision =
        if layers.precision.is_empty() { String::new() } else { format!(" in {}", layers.precision) };
    format!("{known} of {} module calls, {} transformed passes{precision}", layers.rows.len(), layers.probes)
}

fn measured(broken: &Break) -> String {
    let own = broken.own_error.map_or_else(String::new, |own| format!("own error {}, ", figure(own)));
    format!("{own}under {}; mended, {} of the model's error is left", broken.factor, figure(broken.remaining))
}

fn named(row: &LayerRow) -> String {
    if row.call == 0 { row.location.clone() } else { format!("{} (call {})", row.location, row.call) }
}

fn table(rows: &[LayerRow]) -> Table {
    let local = rows.iter().any(|row| row.local_error.is_some());
    let mut columns = vec![
        ("layer", Align::Left),
        ("class", Align::Left),
        ("output", Align::Left),
        ("own error", Align::Right),
    ];
    columns.extend(local.then_some(("local error", Align::Right)));
    columns.extend([("propagated", Align::Right), ("rounding", Align::Right), ("result", Align::Left)]);
    let cells = |row: &LayerRow| {
        let layouts: Vec<&str> = row
            .outputs
            .iter()
            .map(|tensor| tensor.layout.as_ref().map_or("?", |(layout, _)| layout.as_str()))
            .collect();
        let mut cells = vec![
            Inline::code(named(row)),
            Inline::from(row.class.rsplit('.').next().unwrap_or(&row.class)),
            Inline::code(layouts.join("; ")),
            optional(row.own_error),
        ];
        cells.extend(local.then(|| optional(row.local_error)));
        cells.extend([
            optional(row.propagated_error),
            figure(row.noise).into(),
            row.verdict.to_string().into(),
        ]);
        cells
    };
    Table {
        caption: "Module calls, in the order in which they end",
        columns,
        rows: rows.iter().map(cells).collect(),
    }
}

/// What comparing outputs says of each layer that was called alone, and its errors by what it was called under.
fn looked_at_under(rows: &[LayerRow]) -> Option<Table> {
    let alone: Vec<&LayerRow> =
        rows.iter().filter(|row| row.own_error.is_some() || !row.checks.is_empty()).collect();
    let check = |row: &LayerRow, under: Under| row.checks.iter().find(|check| check.under == under).cloned();
    let used: Vec<(Under, &'static str)> = [
        (Under::Permutations, "permutations"),
        (Under::GenericInputs, "generic inputs"),
        (Under::EntriesTurnedApart, "a batch turned in part"),
    ]
    .into_iter()
    .filter(|(under, _)| alone.iter().any(|row| check(row, *under).is_some()))
    .collect();
    if alone.is_empty() {
        return None;
    }
    let mut columns =
        vec![("layer", Align::Left), ("what is checked", Align::Left), ("activations", Align::Right)];
    columns.extend(used.iter().map(|(_, name)| (*name, Align::Right)));
    let cells = |row: &&LayerRow| {
        let mut cells = vec![Inline::code(named(row)), row.kind.checked().into(), optional(row.own_error)];
        cells.extend(used.iter().map(|(under, _)| match check(row, *under) {
            Some(check) => check.error.map_or_else(|| "not possible".into(), |error| figure(error).into()),
            None => "-".into(),
        }));
        cells
    };
    Some(Table {
        caption: "Layers called alone: largest error by what they were called on",
        columns,
        rows: alone.iter().map(cells).collect(),
    })
}
