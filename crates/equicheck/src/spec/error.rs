//! What is wrong with an audit file, and where.

use std::fmt::{self, Write as _};
use std::ops::Range;
use std::sync::Arc;

use miette::{Diagnostic, LabeledSpan, MietteSpanContents, SourceCode, SourceSpan, SpanContents};
use thiserror::Error;

/// The text of an audit file and what it is called.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Source {
    pub(crate) name: String,
    pub(crate) text: String,
}

impl SourceCode for Source {
    fn read_span<'a>(
        &'a self,
        span: &SourceSpan,
        before: usize,
        after: usize,
    ) -> Result<Box<dyn SpanContents<'a> + 'a>, miette::MietteError> {
        let inner = self.text.read_span(span, before, after)?;
        Ok(Box::new(
            MietteSpanContents::new_named(
                self.name.clone(),
                inner.data(),
                *inner.span(),
                inner.line(),
                inner.column(),
                inner.line_count(),
            )
            .with_language("TOML"),
        ))
    }
}

/// One thing that is wrong with an audit file.
#[derive(Debug, Clone, PartialEq, Eq, Error, Diagnostic)]
#[error("{message}")]
pub struct Problem {
    /// What is wrong.
    pub message: String,
    /// The bytes of the file that it is about.
    pub span: Option<Range<usize>>,
    /// What is to be seen there.
    pub mark: String,
    /// What to do.
    #[help]
    pub help: Option<String>,
    #[label(collection)]
    labels: Vec<LabeledSpan>,
}

impl Problem {
    /// A problem at a place.
    pub(crate) fn at(span: Range<usize>, message: impl Into<String>) -> Self {
        let labels = vec![LabeledSpan::new_primary_with_span(None, span.clone())];
        Self { message: message.into(), span: Some(span), mark: String::new(), help: None, labels }
    }

    /// A problem of the file as a whole.
    pub(crate) fn general(message: impl Into<String>) -> Self {
        Self { message: message.into(), span: None, mark: String::new(), help: None, labels: Vec::new() }
    }

    /// A problem at a place, if there is one.
    pub(crate) fn maybe_at(span: Option<Range<usize>>, message: impl Into<String>) -> Self {
        match span {
            Some(span) => Self::at(span, message),
            None => Self::general(message),
        }
    }

    /// What is to be seen at the place.
    #[must_use]
    pub(crate) fn mark(mut self, mark: impl Into<String>) -> Self {
        self.mark = mark.into();
        if let Some(span) = self.span.clone() {
            self.labels = vec![LabeledSpan::new_primary_with_span(Some(self.mark.clone()), span)];
        }
        self
    }

    /// What to do.
    #[must_use]
    pub(crate) fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }
}

/// Why an audit file cannot be used: everything that is wrong with it, as far as that can be told at once.
///
/// As a [`miette::Diagnostic`] it carries the file's text, so that any handler can show the places.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SpecError {
    source: Arc<Source>,
    problems: Vec<Problem>,
}

impl SpecError {
    /// An error of at least one problem, in the order of the file.
    pub(crate) fn new(source: &Arc<Source>, mut problems: Vec<Problem>) -> Self {
        problems.sort_by_key(|problem| problem.span.as_ref().map_or(0, |span| span.start));
        Self { source: Arc::clone(source), problems }
    }

    /// What is wrong, in the order of the file.
    pub fn problems(&self) -> &[Problem] {
        &self.problems
    }

    /// The file's name.
    pub fn name(&self) -> &str {
        &self.source.name
    }

    /// The file's text; empty if it could not be read.
    pub fn text(&self) -> &str {
        &self.source.text
    }

    /// All problems as lines `name:line:column: message`, each with its help below it, for readers without a
    /// diagnostic handler. Columns count characters; both are counted from 1.
    pub fn to_text(&self) -> String {
        let mut result = String::new();
        for (k, problem) in self.problems.iter().enumerate() {
            if k > 0 {
                result.push('\n');
            }
            result.push_str(&self.source.name);
            if let Some(span) = &problem.span {
                let before = self.source.text.get(..span.start).unwrap_or_default();
                let line = before.matches('\n').count() + 1;
                let column = before.chars().rev().take_while(|c| *c != '\n').count() + 1;
                // Writing to a string does not fail.
                let _ = write!(result, ":{line}:{column}");
            }
            let _ = write!(result, ": {}", problem.message);
            if let Some(help) = &problem.help {
                let _ = write!(result, "\n  {help}");
            }
        }
        result
    }

    /// The one problem, where there is no other.
    fn only(&self) -> Option<&Problem> {
        match self.problems.as_slice() {
            [one] => Some(one),
            _ => None,
        }
    }
}

impl fmt::Display for SpecError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.only() {
            Some(problem) => f.write_str(&problem.message),
            None => write!(f, "{} things are wrong in `{}`", self.problems.len(), self.source.name),
        }
    }
}

impl std::error::Error for SpecError {}

impl Diagnostic for SpecError {
    fn help<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        self.only().and_then(Diagnostic::help)
    }

    fn source_code(&self) -> Option<&dyn SourceCode> {
        let of_a_place = |problem: &Problem| problem.span.is_some();
        self.problems.iter().any(of_a_place).then_some(&*self.source as &dyn SourceCode)
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        self.only().and_then(Diagnostic::labels)
    }

    fn related<'a>(&'a self) -> Option<Box<dyn Iterator<Item = &'a dyn Diagnostic> + 'a>> {
        match self.only() {
            Some(_) => None,
            None => Some(Box::new(self.problems.iter().map(|problem| problem as &dyn Diagnostic))),
        }
    }
}
