//! Exit status of every command: the one table, in code and in the documentation.

use std::fmt::Write as _;

use super::Verdict;

/// What a command tells the shell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ExitStatus {
    /// The verdict is `PASS`.
    Pass,
    /// The verdict is `FAIL`.
    Fail,
    /// The verdict is `NEEDS_ATTENTION`.
    NeedsAttention,
    /// There is no verdict: the audit could not be run, or the report could not be read or written.
    CouldNotRun,
    /// There is no verdict: interrupted from the keyboard (128 + SIGINT, as shells report it).
    Interrupted,
}

impl ExitStatus {
    /// All of them, by code.
    pub const ALL: [Self; 5] =
        [Self::Pass, Self::Fail, Self::NeedsAttention, Self::CouldNotRun, Self::Interrupted];

    /// Status of a command that reached a verdict; `allow_attention` turns `NEEDS_ATTENTION` into success.
    pub fn of(verdict: Verdict, allow_attention: bool) -> Self {
        match verdict {
            Verdict::Pass => Self::Pass,
            Verdict::NeedsAttention if allow_attention => Self::Pass,
            Verdict::NeedsAttention => Self::NeedsAttention,
            Verdict::Fail => Self::Fail,
        }
    }

    /// The number that the shell sees.
    pub const fn code(self) -> u8 {
        match self {
            Self::Pass => 0,
            Self::Fail => 1,
            Self::NeedsAttention => 2,
            Self::CouldNotRun => 3,
            Self::Interrupted => 130,
        }
    }

    /// Short name, as the report prints it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Pass => "PASS",
            Self::Fail => "FAIL",
            Self::NeedsAttention => "NEEDS_ATTENTION",
            Self::CouldNotRun => "could not run",
            Self::Interrupted => "interrupted",
        }
    }

    /// When it is returned.
    pub const fn meaning(self) -> &'static str {
        match self {
            Self::Pass => "the symmetry holds, an export equals its source, no regression; init, --help",
            Self::Fail => "the symmetry does not hold, an export differs from its source, a regression",
            Self::NeedsAttention => "a person must look; 0 under --allow-attention (init: contradictions)",
            Self::CouldNotRun => "bad usage, an unreadable or unwritable file, any exception raised",
            Self::Interrupted => "Ctrl-C",
        }
    }

    /// The table as aligned text, for `--help`.
    pub fn table_text() -> String {
        let mut text = String::from("Exit status:\n");
        for status in Self::ALL {
            let (code, name, meaning) = (status.code(), status.name(), status.meaning());
            let _ = writeln!(text, "  {code:>3}  {name:<15}  {meaning}");
        }
        text
    }

    /// The table as a Markdown page, for the documentation.
    pub fn table_markdown() -> String {
        let mut text = String::from(
            "# Exit status\n\n\
             Every command of equicheck ends with one of these. This page is generated from the table in the code.\n\n\
             | code | name | when |\n| ---: | --- | --- |\n",
        );
        for status in Self::ALL {
            let (code, name, meaning) = (status.code(), status.name(), status.meaning());
            let _ = writeln!(text, "| {code} | {name} | {meaning} |");
        }
        text
    }
}
