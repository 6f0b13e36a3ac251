//! Jupyter's files: nbformat 4.5.

use serde_json::{Value, json};

/// What a notebook is made of.
pub(super) enum Cell {
    Markdown(String),
    Code(String),
}

/// The file.
pub(super) fn notebook(cells: &[Cell]) -> String {
    let cells: Vec<Value> = cells
        .iter()
        .enumerate()
        .map(|(k, cell)| {
            let id = format!("cell-{k}");
            match cell {
                Cell::Markdown(text) => {
                    json!({"cell_type": "markdown", "id": id, "metadata": {}, "source": lines(text)})
                }
                Cell::Code(text) => json!({
                    "cell_type": "code",
                    "execution_count": null,
                    "id": id,
                    "metadata": {},
                    "outputs": [],
                    "source": lines(text),
                }),
            }
        })
        .collect();
    let file = json!({
        "cells": cells,
        "metadata": {
            "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
            "language_info": {"name": "python"},
        },
        "nbformat": 4,
        "nbformat_minor": 5,
    });
    format!("{file:#}\n")
}

/// A list of lines, each with its end, but for the last.
fn lines(text: &str) -> Vec<&str> {
    text.trim_end().split_inclusive('\n').collect()
}
