//! What `equicheck explain` says, and in which order.

use crate::diagnosis::{Library, Mode, Page, page};

use super::{Block, Document, Inline};

/// All modes, with what each is.
pub(in super::super) fn modes() -> Document {
    let mut blocks = vec![Block::Title("FAILURE MODES")];
    let line = |mode: &Mode| Block::Item(Inline::code(mode.id()), page(*mode).summary.into());
    blocks.extend(Mode::ALL.iter().map(line));
    blocks.push(Block::Paragraph("`equicheck explain MODE` says how to recognise and mend one.".into()));
    blocks
}

/// A page; with a library, its fix in that library alone.
pub(in super::super) fn explanation(page: &Page, library: Option<Library>) -> Document {
    let mut blocks = vec![Block::Title(page.mode.id()), Block::Paragraph(page.summary.into())];
    if let Some(library) = library {
        blocks.push(Block::Section("FIX"));
        if let Some(fix) = page.fix_for(library) {
            blocks.push(Block::Heading(library.to_string().into()));
            prose(fix, &mut blocks);
        } else {
            let text = format!("Nothing is written for {library} in particular. In general:");
            blocks.push(Block::Paragraph(text.into()));
            prose(page.fix, &mut blocks);
        }
        return blocks;
    }
    for (heading, body) in [
        ("SYMPTOM", page.symptom),
        ("CAUSE", page.cause),
        ("HOW IT IS RECOGNISED", page.recognised),
        ("FIX", page.fix),
    ] {
        blocks.push(Block::Section(heading));
        prose(body, &mut blocks);
    }
    for (library, fix) in &page.fixes {
        blocks.push(Block::Heading(library.to_string().into()));
        prose(fix, &mut blocks);
    }
    blocks.push(Block::Section("VERIFY"));
    prose(page.verify, &mut blocks);
    blocks
}

/// The blocks of the Markdown that pages use: paragraphs, lists, tables and code. Marks inside a line stay as they are.
fn prose(markdown: &str, blocks: &mut Document) {
    /// What the lines in hand are part of.
    enum Open {
        Paragraph,
        Bullet,
        Numbered(usize),
    }
    let mut open: Option<(Open, String)> = None;
    let close = |open: &mut Option<(Open, String)>, blocks: &mut Document| {
        blocks.extend(open.take().map(|(kind, text)| match kind {
            Open::Paragraph => Block::Paragraph(text.into()),
            Open::Bullet => Block::Bullet(text.into()),
            Open::Numbered(number) => Block::Numbered(number, text.into(), vec![]),
        }));
    };
    let mut lines = markdown.lines().peekable();
    while let Some(line) = lines.next() {
        let text = line.trim();
        let indent = line.len() - line.trim_start().len();
        if text.starts_with("```") {
            close(&mut open, blocks);
            let code: Vec<&str> =
                lines.by_ref().take_while(|line| !line.trim_start().starts_with("```")).collect();
            // A fence inside a list is indented with its code.
            let unindented = |line: &&str| {
                let blank = line.len() - line.trim_start().len();
                line[indent.min(blank)..].to_owned()
            };
            blocks.push(Block::Code(code.iter().map(unindented).collect()));
        } else if text.starts_with('|') {
            close(&mut open, blocks);
            let mut rows = vec![text.to_owned()];
            while let Some(row) = lines.next_if(|line| line.trim_start().starts_with('|')) {
                rows.push(row.trim().to_owned());
            }
            blocks.push(Block::Code(rows));
        } else if text.is_empty() {
            close(&mut open, blocks);
        } else if let Some(entry) = text.strip_prefix("- ").or_else(|| text.strip_prefix("* ")) {
            close(&mut open, blocks);
            open = Some((Open::Bullet, entry.to_owned()));
        } else if let Some((number, entry)) =
            text.split_once(". ").and_then(|(number, entry)| Some((number.parse().ok()?, entry)))
        {
            close(&mut open, blocks);
            open = Some((Open::Numbered(number), entry.to_owned()));
        } else {
            match &mut open {
                Some((_, words)) => {
                    words.push(' ');
                    words.push_str(text);
                }
                None => open = Some((Open::Paragraph, text.to_owned())),
            }
        }
    }
    close(&mut open, blocks);
}
