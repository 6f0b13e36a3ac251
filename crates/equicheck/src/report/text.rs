//! Plain text, for terminals and logs: the headings of the audit report to the letter.

use super::document::{
    Align, Block, Document, Inline, Span, Table, comparison, document, explanation, modes, visible,
};
use super::{Comparison, Report};
use crate::diagnosis::{Library, Page};

/// Prose is wrapped and the last column of a table is folded to stay within this many columns.
const WIDTH: usize = 110;

/// The narrowest last column worth folding.
const NARROWEST: usize = 24;

/// The report as plain text with a final newline. Strings from users are shown with control characters escaped.
pub fn to_text(report: &Report) -> String {
    rendered(document(report))
}

/// A comparison of two audits in the same way.
pub fn comparison_to_text(of: &Comparison) -> String {
    rendered(comparison(of))
}

/// All failure modes as a list: `id: what it is`.
pub fn modes_to_text() -> String {
    rendered(modes())
}

/// The page of a failure mode; with a library, its fix there alone, or the general one where none is written.
pub fn page_to_text(page: &Page, library: Option<Library>) -> String {
    rendered(explanation(page, library))
}

fn rendered(document: Document) -> String {
    let mut out = String::new();
    // What follows a heading is not set apart from it.
    let mut headed = true;
    for block in document {
        if matches!(block, Block::Paragraph(_) | Block::Code(_)) && !headed {
            out.push('\n');
        }
        headed = matches!(block, Block::Title(_) | Block::Section(_) | Block::Heading(_));
        match block {
            Block::Title(title) => underlined(&mut out, title, '='),
            Block::Section(heading) => {
                out.push('\n');
                underlined(&mut out, &format!("{heading}:"), '-');
            }
            Block::Heading(heading) => {
                out.push('\n');
                paragraph(&mut out, "", 2, &words(&heading), ":");
            }
            Block::Field(label, value) => paragraph(&mut out, &format!("{label}: "), 2, &words(&value), ""),
            Block::Item(label, value) => {
                let mut line = label;
                line.0.push(Span::Text(": ".to_owned()));
                line.0.extend(value.0);
                paragraph(&mut out, "- ", 2, &words(&line), "");
            }
            Block::Bullet(value) => paragraph(&mut out, "- ", 2, &words(&value), ""),
            Block::Numbered(number, title, particulars) => {
                paragraph(&mut out, &format!("{number}. "), 3, &words(&title), "");
                for (label, value) in particulars {
                    paragraph(&mut out, &format!("   - {label}: "), 5, &words(&value), "");
                }
            }
            Block::Table(rows) => table(&mut out, &rows),
            Block::Paragraph(prose) => paragraph(&mut out, "", 0, &words(&prose), ""),
            Block::Code(lines) => {
                for code in lines {
                    line(&mut out, &format!("    {}", visible(&code)));
                }
            }
            Block::Verdict(verdict) => {
                out.push('\n');
                line(&mut out, &format!("OVERALL VERDICT: {verdict}"));
            }
            Block::Result(result) => {
                out.push('\n');
                line(&mut out, &format!("RESULT: {result}"));
            }
        }
    }
    out
}

fn line(out: &mut String, text: &str) {
    out.push_str(text.trim_end());
    out.push('\n');
}

fn underlined(out: &mut String, heading: &str, rule: char) {
    line(out, heading);
    line(out, &rule.to_string().repeat(heading.len()));
}

/// The pieces between which a line may break: spaces of prose, never those of a name.
fn words(inline: &Inline) -> Vec<String> {
    let mut words = vec![String::new()];
    for span in &inline.0 {
        match span {
            Span::Text(prose) => {
                for (index, piece) in prose.split(' ').enumerate() {
                    if index > 0 {
                        words.push(String::new());
                    }
                    let last = words.len() - 1;
                    words[last].push_str(&visible(piece));
                }
            }
            Span::Code(literal) => {
                let last = words.len() - 1;
                words[last].push_str(&visible(literal));
            }
        }
    }
    words
}

/// Greedy lines of at most `width` characters; a longer word has a line of its own.
fn fold(words: &[String], width: usize, first: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    let mut used = first;
    for (index, word) in words.iter().enumerate() {
        let length = word.chars().count();
        if index > 0 {
            if used + 1 + length > width {
                lines.push(String::new());
                used = 0;
            } else {
                let last = lines.len() - 1;
                lines[last].push(' ');
                used += 1;
            }
        }
        let last = lines.len() - 1;
        lines[last].push_str(word);
        used += length;
    }
    lines
}

fn paragraph(out: &mut String, prefix: &str, indent: usize, words: &[String], suffix: &str) {
    let beyond = prefix.chars().count().saturating_sub(indent);
    let lines = fold(words, WIDTH - indent, beyond);
    let count = lines.len();
    for (index, text) in lines.iter().enumerate() {
        let start = if index == 0 { prefix.to_owned() } else { " ".repeat(indent) };
        let end = if index + 1 == count { suffix } else { "" };
        line(out, &format!("{start}{text}{end}"));
    }
}

fn table(out: &mut String, table: &Table) {
    out.push('\n');
    line(out, &format!("{}:", table.caption));
    let rows: Vec<Vec<String>> =
        table.rows.iter().map(|row| row.iter().map(|cell| words(cell).join(" ")).collect()).collect();
    let widths: Vec<usize> = table
        .columns
        .iter()
        .enumerate()
        .map(|(column, (header, _))| {
            let cells = rows.iter().filter_map(|row| row.get(column));
            cells.map(|cell| cell.chars().count()).fold(header.chars().count(), usize::max)
        })
        .collect();
    let headers: Vec<String> = table.columns.iter().map(|(header, _)| (*header).to_owned()).collect();
    let last = table.columns.len().saturating_sub(1);
    let before: usize = widths[..last].iter().map(|width| width + 2).sum::<usize>() + 2;
    let room = WIDTH.saturating_sub(before).max(NARROWEST);
    for (index, row) in std::iter::once(&headers).chain(&rows).enumerate() {
        let mut text = "  ".to_owned();
        for (column, cell) in row.iter().enumerate().take(last) {
            text.push_str(&aligned(cell, widths[column], table.columns[column].1));
            text.push_str("  ");
        }
        let Some(cell) = row.get(last) else { continue };
        // Right-aligned figures are short; only prose is folded.
        if table.columns[last].1 == Align::Right {
            line(out, &(text + &aligned(cell, widths[last], Align::Right)));
            continue;
        }
        let folded = match index.checked_sub(1).and_then(|row| table.rows[row].get(last)) {
            Some(inline) => fold(&words(inline), room, 0),
            None => vec![cell.clone()],
        };
        for (index, piece) in folded.iter().enumerate() {
            let start = if index == 0 { text.clone() } else { " ".repeat(before) };
            line(out, &format!("{start}{piece}"));
        }
    }
}

fn aligned(cell: &str, width: usize, align: Align) -> String {
    match align {
        Align::Left => format!("{cell:<width$}"),
        Align::Right => format!("{cell:>width$}"),
    }
}
