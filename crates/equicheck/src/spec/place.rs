//! From a part of a string's value to the bytes of the file that stand for it.

use std::ops::Range;

/// The bytes of `text` that stand for `part` of the string `value`, whose token, quotes included, is at `token`.
///
/// Escapes are longer than what they stand for. Where the token is not understood, all of it is the answer.
pub(crate) fn within(text: &str, token: &Range<usize>, value: &str, part: &Range<usize>) -> Range<usize> {
    match text.get(token.clone()).and_then(|raw| starts(raw, value)) {
        // A word at the very end of the text is marked by the closing quote.
        Some(starts) if part.end <= value.len() && part.start <= part.end => {
            let start = token.start + starts[part.start];
            let end = token.start + starts[part.end];
            start..end.max(start)
        }
        _ => token.clone(),
    }
}

/// For each byte of the value, and for its end, where it starts in the token.
fn starts(raw: &str, value: &str) -> Option<Vec<usize>> {
    let quote = ["\"\"\"", "'''", "\"", "'"]
        .into_iter()
        .find(|quote| raw.len() >= 2 * quote.len() && raw.starts_with(quote) && raw.ends_with(quote))?;
    let escapes = quote.starts_with('"');
    let inside = &raw[..raw.len() - quote.len()];
    let mut at = quote.len();
    // A line break right after the opening quotes is no part of the value.
    if quote.len() == 3 {
        at += inside[at..].strip_prefix("\r\n").map_or(usize::from(inside[at..].starts_with('\n')), |_| 2);
    }
    let mut starts = Vec::with_capacity(value.len() + 1);
    while at < inside.len() {
        let rest = &inside[at..];
        let (bytes, read) = if escapes && rest.starts_with('\\') {
            escape(rest)?
        } else {
            let character = rest.chars().next()?.len_utf8();
            (character, character)
        };
        starts.extend((0..bytes).map(|k| if bytes == read { at + k } else { at }));
        at += read;
    }
    starts.push(inside.len());
    (starts.len() == value.len() + 1).then_some(starts)
}

/// How many bytes the escape at the start of `rest` stands for, and how many it is written with.
fn escape(rest: &str) -> Option<(usize, usize)> {
    let digits = match rest[1..].chars().next()? {
        'b' | 't' | 'n' | 'f' | 'r' | 'e' | '"' | '\\' => return Some((1, 2)),
        'x' => 2,
        'u' => 4,
        'U' => 8,
        // The end of a line: what is blank up to the next text is left out.
        c if c.is_ascii_whitespace() => {
            let blank = rest[1..].len() - rest[1..].trim_start_matches([' ', '\t', '\n', '\r']).len();
            return Some((0, 1 + blank));
        }
        _ => return None,
    };
    let code = u32::from_str_radix(rest.get(2..2 + digits)?, 16).ok()?;
    Some((char::from_u32(code)?.len_utf8(), 2 + digits))
}

#[cfg(test)]
mod tests {
    use super::within;

    /// The text of the file that stands for the part of the value where `word` is.
    fn found(token: &str, value: &str, word: &str) -> String {
        let text = format!("x = {token} # end");
        let start = value.find(word).expect("it is there");
        let span = within(&text, &(4..4 + token.len()), value, &(start..start + word.len()));
        text[span].to_owned()
    }

    #[test]
    fn escapes_are_longer_than_what_they_stand_for() {
        assert_eq!(found(r#""nodes vecto""#, "nodes vecto", "vecto"), "vecto");
        assert_eq!(found("'nodes vecto'", "nodes vecto", "vecto"), "vecto");
        assert_eq!(found(r#""a\tb\u00e9\U0001F600 vecto""#, "a\tb\u{e9}\u{1f600} vecto", "vecto"), "vecto");
        assert_eq!(found(r#""a \u00e9x""#, "a \u{e9}x", "\u{e9}x"), r"\u00e9x");
        assert_eq!(found(r#""\x41\e b""#, "A\u{1b} b", "b"), "b");
        assert_eq!(found(r#""\u0041\U00000042 c""#, "AB c", "c"), "c");
        assert_eq!(found("\"\"\"\nnodes \\\n   vecto\"\"\"", "nodes vecto", "vecto"), "vecto");
        assert_eq!(found("'''\r\nno\\t vecto'''", "no\\t vecto", "vecto"), "vecto");
        assert_eq!(found("\"\u{e9} vecto\"", "\u{e9} vecto", "vecto"), "vecto");
        // The end of the value is the closing quote, and the whole value all between the quotes.
        assert_eq!(within("x = \"ab\"", &(4..8), "ab", &(2..2)), 7..7);
        assert_eq!(within("x = \"ab\"", &(4..8), "ab", &(0..2)), 5..7);
    }

    #[test]
    fn a_token_that_is_not_understood_is_marked_whole() {
        for token in [r#""a\qb""#, "bare", "\"", "\"other\""] {
            let text = format!("x = {token}");
            let span = 4..4 + token.len();
            assert_eq!(within(&text, &span, "a value", &(2..7)), span, "{token}");
        }
    }
}
