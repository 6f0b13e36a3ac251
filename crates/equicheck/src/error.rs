//! Errors: what, where, what to do.

use std::fmt;
use std::ops::Range;

use thiserror::Error;

/// A text in one of the small languages (groups, layouts, irreps) that does not parse; points at the word.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParseError {
    /// What the text is, e.g. "group" or "layout of input `pos`".
    pub subject: String,
    /// The whole text.
    pub text: String,
    /// The offending bytes of it.
    pub span: Range<usize>,
    /// What is wrong.
    pub message: String,
    /// What to do.
    pub help: Option<String>,
}

impl ParseError {
    /// The same error with another subject.
    #[must_use]
    pub fn about(mut self, subject: impl Into<String>) -> Self {
        self.subject = subject.into();
        self
    }
}

impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A tab or a line break would move the marks away from what they mark.
        let text = self.text.replace(char::is_control, " ");
        let before = self.text[..self.span.start].chars().count();
        let marked = self.text[self.span.clone()].chars().count().max(1);
        write!(
            f,
            "{}: {}\n    {}\n    {}{}",
            self.subject,
            self.message,
            text,
            " ".repeat(before),
            "^".repeat(marked)
        )?;
        if let Some(help) = &self.help {
            write!(f, "\n{help}")?;
        }
        Ok(())
    }
}

impl std::error::Error for ParseError {}

/// Why an audit could not be specified or run.
#[derive(Debug, Clone, PartialEq, Error)]
pub enum Error {
    /// A group or layout that does not parse.
    #[error("{0}")]
    Parse(#[from] ParseError),

    /// A tensor's shape does not fit its layout.
    #[error("{tensor}: layout `{layout}` does not fit shape {shape:?}: {why}")]
    Shape {
        /// e.g. "input `pos`".
        tensor: String,
        /// The layout.
        layout: String,
        /// The shape.
        shape: Vec<usize>,
        /// What does not fit.
        why: String,
    },

    /// Two tensors disagree on the length of an axis that the group permutes.
    #[error(
        "axis `{axis}` has length {first} in {first_tensor} and {second} in {second_tensor}: tensors that share a \
         permuted axis must agree on its length"
    )]
    AxisLength {
        /// The axis.
        axis: String,
        /// One length.
        first: usize,
        /// Where it was seen.
        first_tensor: String,
        /// The other length.
        second: usize,
        /// Where that was seen.
        second_tensor: String,
    },

    /// The group permutes an axis that no input's layout mentions.
    #[error(
        "the group permutes `{axis}`, but no input's layout has an axis `{axis}`: name it in a layout, or drop \
         `S({axis})` from the group"
    )]
    AxisNotMentioned {
        /// The axis.
        axis: String,
    },

    /// A factor of the group moves no input.
    #[error("factor `{factor}` of the group moves no input, so nothing about it can be tested: {help}")]
    FactorMovesNothing {
        /// The factor.
        factor: String,
        /// What to do.
        help: String,
    },

    /// A declared output that the model does not return.
    #[error("the model returned no output `{name}`; it returned {returned}")]
    MissingOutput {
        /// The declared name.
        name: String,
        /// What was returned, in words.
        returned: String,
    },

    /// No output has a layout.
    #[error("no output has a layout, so there is nothing to audit; the model returned {returned}")]
    NothingToAudit {
        /// What was returned, in words.
        returned: String,
    },

    /// An option is out of its range.
    #[error("`{option}`: {why}")]
    Option {
        /// The option's name.
        option: String,
        /// What is wrong with it, and what is expected.
        why: String,
    },

    /// The model fails on an input as it was given, so there is nothing to compare with.
    #[error("the model fails on sample {sample} as it was given: {why}")]
    ModelFails {
        /// The sample.
        sample: usize,
        /// The model's own error.
        why: String,
    },

    /// An export fails on every sample that its source answers, so there is nothing to compare.
    #[error("the export could not be run on sample {sample}, which its source answers: {why}")]
    ExportFails {
        /// The sample.
        sample: usize,
        /// The export's own error.
        why: String,
    },

    /// A function of a custom action raised, or what it returns does not fit or breaks the laws of a group.
    #[error("custom action: {what}: {why}")]
    CustomAction {
        /// The function or the law, e.g. "`output(y, T)`".
        what: String,
        /// What is wrong with it, and what is expected.
        why: String,
    },

    /// A user's representation raised, or what it returns does not fit or is none of the group.
    #[error("representation `@{name}`: {why}")]
    Representation {
        /// The name after `@`.
        name: String,
        /// What is wrong with it, and what is expected.
        why: String,
    },

    /// The host could not give what the engine asked for.
    #[error("{0}")]
    Host(String),

    /// The user interrupted the audit.
    #[error("interrupted")]
    Interrupted,
}

/// The system's message within a sentence of ours: lowercase.
pub fn sentence(error: &std::io::Error) -> String {
    let message = error.to_string();
    let mut rest = message.chars();
    rest.next().map_or_else(String::new, |first| first.to_lowercase().chain(rest).collect())
}

/// The candidate that is most like `word`, however little that is: by Jaro and Winkler, who weigh beginnings. `None` of
/// none.
pub fn most_alike<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    candidates
        .into_iter()
        .max_by(|a, b| strsim::jaro_winkler(a, word).total_cmp(&strsim::jaro_winkler(b, word)))
}

/// The nearest of `candidates` to `word`, when it is near enough to be a slip of the finger.
pub(crate) fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let lower = word.to_lowercase();
    candidates
        .into_iter()
        .map(|c| (strsim::damerau_levenshtein(&lower, &c.to_lowercase()), c))
        .min_by_key(|(distance, _)| *distance)
        .filter(|(distance, c)| *distance * 2 <= c.chars().count().max(2))
        .map(|(_, c)| c)
}
