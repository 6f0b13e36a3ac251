//! What is said of a failure mode: a page of Markdown each, the one source of `equicheck explain`, the documentation and
//! findings.

use std::fmt;
use std::str::FromStr;
use std::sync::LazyLock;

use super::Mode;

/// A library for which a fix is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Library {
    /// `PyTorch` without a library of equivariant layers.
    PyTorch,
    /// e3nn.
    E3nn,
    /// escnn.
    Escnn,
    /// `PyTorch` Geometric.
    Geometric,
    /// JAX.
    Jax,
    /// ONNX.
    Onnx,
}

impl Library {
    /// All of them, in the order in which a page may have them.
    pub const ALL: &'static [Self] =
        &[Self::PyTorch, Self::E3nn, Self::Escnn, Self::Geometric, Self::Jax, Self::Onnx];

    /// The heading of its section in a page.
    fn heading(self) -> &'static str {
        match self {
            Library::PyTorch => "plain PyTorch",
            Library::E3nn => "e3nn",
            Library::Escnn => "escnn",
            Library::Geometric => "PyTorch Geometric",
            Library::Jax => "JAX",
            Library::Onnx => "ONNX",
        }
    }

    /// The word for it on a command line, in lower case and without blanks: that of its package.
    pub fn word(self) -> &'static str {
        match self {
            Library::PyTorch => "torch",
            Library::E3nn => "e3nn",
            Library::Escnn => "escnn",
            Library::Geometric => "torch-geometric",
            Library::Jax => "jax",
            Library::Onnx => "onnx",
        }
    }
}

impl fmt::Display for Library {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.heading())
    }
}

impl FromStr for Library {
    type Err = String;

    /// By its word, its name, or what it is called for short.
    ///
    /// # Errors
    /// What is no library, with the nearest that is.
    fn from_str(name: &str) -> Result<Self, String> {
        let plain = |name: &str| name.trim().to_lowercase().replace(['_', '-', ' '], "");
        let wanted = plain(name);
        let short = match wanted.as_str() {
            "pytorch" => Some(Library::PyTorch),
            "pyg" | "geometric" => Some(Library::Geometric),
            _ => None,
        };
        let named =
            |library: &&Library| [library.word(), library.heading()].iter().any(|n| plain(n) == wanted);
        short.or_else(|| Self::ALL.iter().find(named).copied()).ok_or_else(|| {
            let words: Vec<&str> = Self::ALL.iter().map(|library| library.word()).collect();
            match crate::error::nearest(name, words.iter().copied()) {
                Some(near) => {
                    format!("`{name}` is no library that fixes are written for: did you mean `{near}`?")
                }
                None => {
                    format!(
                        "`{name}` is no library that fixes are written for: write one of {}",
                        words.join(", ")
                    )
                }
            }
        })
    }
}

/// What there is to know about a failure mode. Texts are Markdown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// The mode.
    pub mode: Mode,
    /// What it is, in one sentence on one line.
    pub summary: &'static str,
    /// What a user sees.
    pub symptom: &'static str,
    /// What is wrong in the model, or in its test.
    pub cause: &'static str,
    /// What of a report tells it from other modes.
    pub recognised: &'static str,
    /// What to do, in general. Its first paragraph is what a finding prints.
    pub fix: &'static str,
    /// What to do, by library; empty where code makes no sense.
    pub fixes: Vec<(Library, &'static str)>,
    /// How to see that the fix has worked.
    pub verify: &'static str,
    /// The whole page as it is written.
    pub text: &'static str,
}

impl Page {
    /// The first paragraph of the fix, on one line.
    pub fn advice(&self) -> String {
        let first = self.fix.split("\n\n").next().unwrap_or_default();
        first.split_whitespace().collect::<Vec<_>>().join(" ")
    }

    /// The fix for one library, if one is written.
    pub fn fix_for(&self, library: Library) -> Option<&'static str> {
        self.fixes.iter().find(|(written, _)| *written == library).map(|(_, text)| *text)
    }
}

/// The page of a mode.
pub fn page(mode: Mode) -> &'static Page {
    static PAGES: LazyLock<Vec<Page>> = LazyLock::new(|| {
        let read = |mode: &Mode| {
            parse(*mode, mode.source())
                .unwrap_or_else(|why| unreachable!("a test parses every page, that of `{mode}` too: {why}"))
        };
        Mode::ALL.iter().map(read).collect()
    });
    PAGES
        .iter()
        .find(|page| page.mode == mode)
        .unwrap_or_else(|| unreachable!("`Mode::ALL` holds every mode, `{mode}` too"))
}

/// The sections of a page, in order.
const SECTIONS: [&str; 5] = ["Symptom", "Cause", "How it is recognised", "Fix", "Verify"];

/// A heading: how deep it is, and what it says.
type Heading = (usize, &'static str);

/// Reads a page.
///
/// # Errors
/// What of the format it does not keep.
fn parse(mode: Mode, text: &'static str) -> Result<Page, String> {
    let parts = parts(text)?;
    let mut parts = parts.into_iter().peekable();
    let summary = match parts.next() {
        Some(((1, title), summary)) if title == mode.id() => summary,
        _ => return Err(format!("it must begin with `# {mode}`")),
    };
    if summary.is_empty() || summary.lines().count() > 1 {
        return Err("what it is must be said in one sentence, on one line".to_owned());
    }
    let mut sections = Vec::new();
    let mut fixes: Vec<(Library, &'static str)> = Vec::new();
    for name in SECTIONS {
        let body = match parts.next() {
            Some(((2, heading), body)) if heading == name => body,
            Some(((_, heading), _)) => return Err(format!("`{heading}` stands where `## {name}` belongs")),
            None => return Err(format!("`## {name}` is missing")),
        };
        if body.is_empty() {
            return Err(format!("`## {name}` is empty"));
        }
        sections.push(body);
        if name != "Fix" {
            continue;
        }
        while let Some(((_, heading), body)) = parts.next_if(|((depth, _), _)| *depth == 3) {
            let library = Library::ALL.iter().find(|library| library.heading() == heading);
            let library = *library.ok_or_else(|| format!("`### {heading}` is no library"))?;
            if fixes.last().is_some_and(|(before, _)| *before >= library) {
                return Err(format!("`### {heading}` is out of order, or there twice"));
            }
            if body.is_empty() {
                return Err(format!("`### {heading}` is empty"));
            }
            fixes.push((library, body));
        }
    }
    if let Some(((_, heading), _)) = parts.next() {
        return Err(format!("`{heading}` stands after the last section"));
    }
    let [symptom, cause, recognised, fix, verify] = sections[..] else {
        return Err(format!("it has {} sections", sections.len()));
    };
    Ok(Page { mode, summary, symptom, cause, recognised, fix, fixes, verify, text })
}

/// Headings with what stands under each. In a fence of code nothing is a heading: `#` begins comments there.
fn parts(text: &'static str) -> Result<Vec<(Heading, &'static str)>, String> {
    let mut found: Vec<(Heading, usize, usize)> = Vec::new();
    let mut fenced = false;
    let mut at = 0;
    for line in text.split_inclusive('\n') {
        let content = line.trim_end();
        if content.trim_start().starts_with("```") {
            fenced = !fenced;
        } else if !fenced && content.starts_with('#') {
            let depth = content.len() - content.trim_start_matches('#').len();
            found.push(((depth, content[depth..].trim()), at, at + line.len()));
        }
        at += line.len();
    }
    if fenced {
        return Err("a fence of code is not closed".to_owned());
    }
    let ends: Vec<usize> = found.iter().skip(1).map(|(_, start, _)| *start).chain([text.len()]).collect();
    let before = found.first().map_or(text.len(), |(_, start, _)| *start);
    if !text[..before].trim().is_empty() {
        return Err("something stands before its title".to_owned());
    }
    Ok(found
        .iter()
        .zip(ends)
        .map(|((heading, _, start), end)| (*heading, text[*start..end].trim()))
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: &str = "\
# parity

Rotations hold, reflections do not.

## Symptom
It fails.

## Cause
A cross product.

## How it is recognised
Rows of determinant -1 alone exceed.

## Fix
Multiply by a pseudoscalar,
or declare it.

More.

### e3nn
Parities:

```python
# not a heading
## nor this
irreps = \"1e\"
```

### JAX
The same.

## Verify
equicheck audit
";

    #[test]
    fn every_page_keeps_the_format() {
        for mode in Mode::ALL {
            if let Err(why) = parse(*mode, mode.source()) {
                panic!("pages/{mode}.md: {why}");
            }
            let page = page(*mode);
            assert_eq!(page.mode, *mode);
            assert!(!page.advice().is_empty() && !page.advice().contains('\n'), "{mode}");
        }
    }

    #[test]
    fn a_page_is_cut_at_its_headings() {
        let page = parse(Mode::Parity, PAGE).unwrap();
        assert_eq!(page.summary, "Rotations hold, reflections do not.");
        assert_eq!(page.symptom, "It fails.");
        assert_eq!(page.recognised, "Rows of determinant -1 alone exceed.");
        assert_eq!(page.advice(), "Multiply by a pseudoscalar, or declare it.");
        assert!(page.fix.ends_with("\n\nMore."));
        assert!(page.fix_for(Library::E3nn).unwrap().ends_with("## nor this\nirreps = \"1e\"\n```"));
        assert_eq!(page.fix_for(Library::Jax), Some("The same."));
        assert_eq!(page.fix_for(Library::Onnx), None);
        assert_eq!(page.verify, "equicheck audit");
        assert_eq!(page.text, PAGE);
    }

    #[test]
    fn what_does_not_keep_the_format_is_refused() {
        for (old, new, why) in [
            ("# parity", "# pariti", "must begin with `# parity`"),
            ("# parity", "x\n# parity", "before its title"),
            ("Rotations hold, reflections do not.\n", "", "one sentence"),
            ("reflections do not.", "reflections\ndo not.", "on one line"),
            ("## Cause\nA cross product.\n", "", "`How it is recognised` stands where `## Cause` belongs"),
            ("It fails.\n", "", "`## Symptom` is empty"),
            ("### e3nn", "### e4nn", "`### e4nn` is no library"),
            ("### JAX", "### e3nn", "out of order, or there twice"),
            ("### JAX", "### plain PyTorch", "out of order"),
            ("The same.\n", "", "`### JAX` is empty"),
            ("\"1e\"\n```", "\"1e\"", "not closed"),
            ("## Verify\nequicheck audit\n", "", "`## Verify` is missing"),
            ("equicheck audit\n", "equicheck audit\n## More\n", "`More` stands after"),
            ("## Cause", "### Cause", "`Cause` stands where `## Cause` belongs"),
        ] {
            assert!(PAGE.contains(old), "{old}");
            let page: &'static str = PAGE.replacen(old, new, 1).leak();
            let refused = parse(Mode::Parity, page).unwrap_err();
            assert!(refused.contains(why), "{refused}, not {why}");
        }
    }

    #[test]
    fn libraries_are_found_by_word_and_name() {
        for library in Library::ALL {
            assert_eq!(library.word().parse(), Ok(*library));
            assert_eq!(library.to_string().to_uppercase().parse(), Ok(*library));
        }
        assert_eq!("PyG".parse(), Ok(Library::Geometric));
        assert_eq!("pytorch".parse(), Ok(Library::PyTorch));
        assert!("e2nn".parse::<Library>().unwrap_err().ends_with("did you mean `e3nn`?"));
        assert!("tensorflow".parse::<Library>().unwrap_err().contains("one of torch, e3nn"));
    }
}
