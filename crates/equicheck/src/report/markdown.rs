//! GitHub-flavoured Markdown, for pull requests and notebooks: the content and order of the text report.

use super::document::{Align, Block, Document, Inline, Span, Table, comparison, document, visible};
use super::{Comparison, Report};

/// The report as GitHub-flavoured Markdown with a final newline. Strings from users cannot form markup or HTML.
pub fn to_markdown(report: &Report) -> String {
    rendered(document(report))
}

/// A comparison of two audits in the same way.
pub fn comparison_to_markdown(of: &Comparison) -> String {
    rendered(comparison(of))
}

fn rendered(document: Document) -> String {
    let mut out = String::new();
    // Lists, tables and headings are set apart by blank lines; entries of one list are not.
    let mut in_list = false;
    for block in document {
        let entry =
            matches!(block, Block::Field(..) | Block::Item(..) | Block::Bullet(..) | Block::Numbered(..));
        let continues = entry && in_list;
        if !out.is_empty() && !continues {
            out.push('\n');
        }
        in_list = entry;
        match block {
            Block::Title(title) => line(&mut out, &format!("# {title}")),
            Block::Section(heading) => line(&mut out, &format!("## {heading}")),
            Block::Heading(heading) => line(&mut out, &format!("### {}", inline(&heading, false))),
            Block::Field(label, value) => {
                line(&mut out, &format!("- **{label}:** {}", inline(&value, false)));
            }
            Block::Item(label, value) => {
                line(&mut out, &format!("- {}: {}", start(&inline(&label, false)), inline(&value, false)));
            }
            Block::Bullet(value) => line(&mut out, &format!("- {}", start(&inline(&value, false)))),
            Block::Numbered(number, title, particulars) => {
                line(&mut out, &format!("{number}. {}", start(&inline(&title, false))));
                // Entries of the inner list align with the text of the outer one, whatever the number's width.
                let indent = " ".repeat(number.to_string().len() + 2);
                for (label, value) in particulars {
                    line(&mut out, &format!("{indent}- {label}: {}", inline(&value, false)));
                }
            }
            Block::Table(rows) => table(&mut out, &rows),
            Block::Paragraph(prose) => line(&mut out, &start(&inline(&prose, false))),
            Block::Code(lines) => line(&mut out, &format!("```\n{}\n```", lines.join("\n"))),
            Block::Result(result) => line(&mut out, &format!("## RESULT: {result}")),
            Block::Verdict(verdict) => line(&mut out, &format!("## OVERALL VERDICT: {verdict}")),
        }
    }
    out
}

fn line(out: &mut String, text: &str) {
    out.push_str(text.trim_end());
    out.push('\n');
}

fn table(out: &mut String, table: &Table) {
    line(out, &format!("**{}**", table.caption));
    out.push('\n');
    let headers: Vec<String> = table.columns.iter().map(|(header, _)| (*header).to_owned()).collect();
    let rules: Vec<String> = table
        .columns
        .iter()
        .map(|(_, align)| match align {
            Align::Left => "---".to_owned(),
            Align::Right => "---:".to_owned(),
        })
        .collect();
    line(out, &format!("| {} |", headers.join(" | ")));
    line(out, &format!("| {} |", rules.join(" | ")));
    for row in &table.rows {
        let cells: Vec<String> = row.iter().map(|cell| inline(cell, true)).collect();
        line(out, &format!("| {} |", cells.join(" | ")));
    }
}

fn inline(text: &Inline, in_table: bool) -> String {
    text.0
        .iter()
        .map(|span| match span {
            Span::Text(prose) => prose_with_code(prose, in_table),
            Span::Code(literal) => code(literal, in_table),
        })
        .collect()
}

/// Prose in which balanced backticks, as messages quote literals, become code spans.
fn prose_with_code(prose: &str, in_table: bool) -> String {
    let pieces: Vec<&str> = prose.split('`').collect();
    if pieces.len().is_multiple_of(2) || pieces.iter().skip(1).step_by(2).any(|literal| literal.is_empty()) {
        return escaped(prose);
    }
    let render = |(index, piece): (usize, &&str)| {
        if index % 2 == 0 { escaped(piece) } else { code(piece, in_table) }
    };
    pieces.iter().enumerate().map(render).collect()
}

/// Prose without meaning as markup: HTML as entities, the rest behind a backslash.
fn escaped(prose: &str) -> String {
    let prose = visible(prose);
    let mut out = String::with_capacity(prose.len());
    let mut before = ' ';
    let mut rest = prose.chars().peekable();
    while let Some(c) = rest.next() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            // Within a word an underscore is plain already.
            '_' if before.is_alphanumeric() && rest.peek().is_some_and(|next| next.is_alphanumeric()) => {
                out.push('_');
            }
            '\\' | '`' | '*' | '_' | '[' | ']' | '~' | '|' | '#' | '$' => {
                out.push('\\');
                out.push(c);
            }
            _ => out.push(c),
        }
        before = c;
    }
    out
}

/// Keeps the start of an entry from being read as a nested list, a rule or indented code.
fn start(text: &str) -> String {
    let text = text.trim_start();
    if text.starts_with(['-', '+', '=']) {
        return format!("\\{text}");
    }
    let digits = text.chars().take_while(char::is_ascii_digit).count();
    if digits > 0 && text[digits..].starts_with(['.', ')']) {
        return format!("{}\\{}", &text[..digits], &text[digits..]);
    }
    text.to_owned()
}

/// A code span; its fence is longer than any run of backticks inside.
fn code(literal: &str, in_table: bool) -> String {
    let literal = visible(literal);
    if literal.is_empty() {
        return literal;
    }
    // A table is cut at pipes before code spans are seen, and parsers differ on a backslash before one.
    if in_table && literal.contains('|') {
        return format!("<code>{}</code>", escaped(&literal));
    }
    let longest = literal.split(|c| c != '`').map(str::len).max().unwrap_or(0);
    let fence = "`".repeat(longest + 1);
    let padded = literal.starts_with(['`', ' ']) || literal.ends_with(['`', ' ']);
    let pad = if padded { " " } else { "" };
    format!("{fence}{pad}{literal}{pad}{fence}")
}
