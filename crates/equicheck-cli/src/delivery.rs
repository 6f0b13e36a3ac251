//! Where a report or a comparison goes, and in which form.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use clap::ValueEnum;
use equicheck::report::{
    Comparison, ExitStatus, Report, comparison_to_json, comparison_to_markdown, comparison_to_text, to_json,
    to_markdown, to_text,
};
use equicheck::sentence;

use crate::{CouldNotRun, Host, shown};

#[derive(Debug, clap::Args)]
pub(crate) struct Delivery {
    #[command(flatten)]
    form: Form,
    /// Exit with 0 when the verdict is `NEEDS_ATTENTION`
    #[arg(long)]
    allow_attention: bool,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Form {
    /// text, markdown or json [default: by the ending of --output, else text]
    #[arg(long, value_enum, hide_possible_values = true)]
    format: Option<Format>,
    /// Write the report to this file and only the verdict to standard output
    #[arg(long, value_name = "PATH")]
    output: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    Text,
    Markdown,
    Json,
}

/// What can be delivered.
pub(crate) trait Written {
    fn render(&self, format: Format) -> String;

    /// What standard output says when the rest goes to a file.
    fn headline(&self, file: &str) -> String;
}

impl Written for Report {
    fn render(&self, format: Format) -> String {
        match format {
            Format::Text => to_text(self),
            Format::Markdown => to_markdown(self),
            Format::Json => to_json(self),
        }
    }

    fn headline(&self, file: &str) -> String {
        format!("OVERALL VERDICT: {} (report in {file})\n", self.verdict)
    }
}

impl Written for Comparison {
    fn render(&self, format: Format) -> String {
        match format {
            Format::Text => comparison_to_text(self),
            Format::Markdown => comparison_to_markdown(self),
            Format::Json => comparison_to_json(self),
        }
    }

    fn headline(&self, file: &str) -> String {
        let result = if self.regressed { "REGRESSION" } else { "no regression" };
        format!("RESULT: {result} (comparison in {file})\n")
    }
}

impl Format {
    fn of_ending(path: &Path) -> Option<Self> {
        match path.extension()?.to_str()?.to_ascii_lowercase().as_str() {
            "txt" => Some(Format::Text),
            "md" => Some(Format::Markdown),
            "json" => Some(Format::Json),
            _ => None,
        }
    }
}

impl Delivery {
    /// Makes a report, delivers it, and says how the command ends.
    pub(crate) fn of(
        &self,
        host: &mut dyn Host,
        make: impl FnOnce(&mut dyn Host) -> Result<Report, CouldNotRun>,
    ) -> Result<ExitStatus, CouldNotRun> {
        let report = self.form.of(host, make)?;
        Ok(ExitStatus::of(report.verdict, self.allow_attention))
    }
}

impl Form {
    /// Makes what is wanted and delivers it. An audit may take minutes: what can be known to fail afterwards fails before.
    pub(crate) fn of<W: Written>(
        &self,
        host: &mut dyn Host,
        make: impl FnOnce(&mut dyn Host) -> Result<W, CouldNotRun>,
    ) -> Result<W, CouldNotRun> {
        let format = self.format()?;
        if let Some(path) = &self.output {
            check(path)?;
        }
        let made = make(host)?;
        self.deliver(&made, format, host)?;
        Ok(made)
    }

    fn format(&self) -> Result<Format, CouldNotRun> {
        match (self.format, &self.output) {
            (Some(format), _) => Ok(format),
            (None, None) => Ok(Format::Text),
            (None, Some(path)) => Format::of_ending(path).ok_or_else(|| {
                CouldNotRun::Failed(format!(
                    "the ending of `{}` is none of .txt, .md, .json: say which format with --format",
                    shown(path)
                ))
            }),
        }
    }

    fn deliver(&self, made: &impl Written, format: Format, host: &mut dyn Host) -> Result<(), CouldNotRun> {
        let rendered = made.render(format);
        let Some(path) = &self.output else { return print(host, &rendered) };
        match fs::write(path, &rendered) {
            Ok(()) => print(host, &made.headline(&shown(path))),
            Err(error) => {
                // What was computed is not lost with the file.
                print(host, &rendered)?;
                Err(cannot_write(path, &sentence(&error)))
            }
        }
    }
}

/// Fails if the file certainly cannot be written; it is not touched.
pub(crate) fn check(path: &Path) -> Result<(), CouldNotRun> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    if path.is_dir() {
        Err(cannot_write(path, "it is a directory"))
    } else if folder.is_some_and(|folder| !folder.is_dir()) {
        Err(cannot_write(path, "its directory does not exist"))
    } else {
        Ok(())
    }
}

pub(crate) fn cannot_write(path: &Path, why: &str) -> CouldNotRun {
    CouldNotRun::Failed(format!("cannot write `{}`: {why}", shown(path)))
}

pub(crate) fn print(host: &mut dyn Host, text: &str) -> Result<(), CouldNotRun> {
    let stdout = host.stdout();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(CouldNotRun::Failed(format!("cannot write to standard output: {}", sentence(&error))))
        }
        _ => Ok(()),
    }
}
