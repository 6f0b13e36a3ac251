//! The `equicheck` command, apart from the process that hosts it.
//!
//! The binary of this crate and the Python wheel's console script are the same command: both call [`run`], each with
//! its own [`Host`], which is all that differs between a process with and without Python.

use std::ffi::OsString;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand, ValueEnum};
use equicheck::report::{ExitStatus, Report, from_json, to_json, to_markdown, to_text};

/// What the process around the command provides.
pub trait Host {
    /// Calls the Python function that `target` names and returns the report that it returned.
    ///
    /// `target` is `FILE.py:FUNCTION` or `package.module:FUNCTION`, both halves present.
    ///
    /// # Errors
    /// [`CouldNotRun`], for whatever kept the function from returning a report, any exception included.
    fn run_python(&mut self, target: &str) -> Result<Report, CouldNotRun>;

    /// Where reports, help and the version go.
    fn stdout(&mut self) -> &mut dyn Write;

    /// Where error messages go.
    fn stderr(&mut self) -> &mut dyn Write;
}

/// Why there is no report.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CouldNotRun {
    /// For a reason, in one lowercase sentence without a final full stop; further lines may hold a traceback.
    #[error("{0}")]
    Failed(String),
    /// Interrupted from the keyboard (in Python: `KeyboardInterrupt`).
    #[error("interrupted")]
    Interrupted,
}

/// Runs and shows equivariance audits.
#[derive(Debug, Parser)]
#[command(name = "equicheck", version, arg_required_else_help = false)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Call a Python function that returns a report, and show that report
    Run {
        /// `FILE.py:FUNCTION` or `package.module:FUNCTION`
        target: String,
        #[command(flatten)]
        delivery: Delivery,
    },
    /// Show a report that was saved as JSON
    Show {
        /// A file written by `--format json` or `report.save("x.json")`
        report: PathBuf,
        #[command(flatten)]
        delivery: Delivery,
    },
}

#[derive(Debug, clap::Args)]
struct Delivery {
    /// text, markdown or json [default: by the ending of --output, else text]
    #[arg(long, value_enum, hide_possible_values = true)]
    format: Option<Format>,
    /// Write the report to this file and only the verdict to standard output
    #[arg(long, value_name = "PATH")]
    output: Option<PathBuf>,
    /// Exit with 0 when the verdict is `NEEDS_ATTENTION`
    #[arg(long)]
    allow_attention: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    Text,
    Markdown,
    Json,
}

impl Format {
    fn render(self, report: &Report) -> String {
        match self {
            Format::Text => to_text(report),
            Format::Markdown => to_markdown(report),
            Format::Json => to_json(report),
        }
    }

    fn of_ending(path: &Path) -> Option<Self> {
        match path.extension()?.to_str()?.to_ascii_lowercase().as_str() {
            "txt" => Some(Format::Text),
            "md" => Some(Format::Markdown),
            "json" => Some(Format::Json),
            _ => None,
        }
    }
}

/// Runs the command with `args`, the program's name first, and says how it ended.
///
/// Nothing is written except through `host` and to the file that the arguments name. A reader of standard output that
/// goes away (`equicheck show x.json | head`) is no error.
pub fn run(args: impl IntoIterator<Item = OsString>, host: &mut dyn Host) -> ExitStatus {
    let command = Cli::command().after_help(ExitStatus::table_text());
    // Subcommands print the table too: that is where people look for it.
    let command = command.mut_subcommands(|sub| sub.after_help(ExitStatus::table_text()));
    let parsed = command.try_get_matches_from(args).and_then(|matches| Cli::from_arg_matches(&matches));
    let result = match parsed {
        Ok(cli) => execute(cli, host),
        Err(error) if error.use_stderr() => {
            // Nothing can be done about a closed standard error.
            let _ = write!(host.stderr(), "{}", error.render());
            return ExitStatus::CouldNotRun;
        }
        Err(help) => print(host, &help.render().to_string()).map(|()| ExitStatus::Pass),
    };
    match result {
        Ok(status) => status,
        Err(error) => {
            let _ = writeln!(host.stderr(), "equicheck: {error}").and_then(|()| host.stderr().flush());
            match error {
                CouldNotRun::Failed(_) => ExitStatus::CouldNotRun,
                CouldNotRun::Interrupted => ExitStatus::Interrupted,
            }
        }
    }
}

fn execute(cli: Cli, host: &mut dyn Host) -> Result<ExitStatus, CouldNotRun> {
    let (report, delivery, format) = match cli.command {
        Command::Run { target, delivery } => {
            check_target(&target)?;
            // An audit may take minutes: what can be known to fail afterwards fails before.
            let format = delivery.format()?;
            delivery.check()?;
            (host.run_python(&target)?, delivery, format)
        }
        Command::Show { report: path, delivery } => {
            let format = delivery.format()?;
            (read(&path)?, delivery, format)
        }
    };
    delivery.deliver(&report, format, host)?;
    Ok(ExitStatus::of(report.verdict, delivery.allow_attention))
}

fn check_target(target: &str) -> Result<(), CouldNotRun> {
    // The last colon separates: a path may hold others.
    match target.rsplit_once(':') {
        Some((place, function)) if !place.is_empty() && !function.is_empty() => Ok(()),
        _ => Err(CouldNotRun::Failed(format!(
            "`{}` names no function: write FILE.py:FUNCTION or package.module:FUNCTION",
            target.escape_debug()
        ))),
    }
}

fn read(path: &Path) -> Result<Report, CouldNotRun> {
    let failed = |why: String| CouldNotRun::Failed(format!("cannot read `{}`: {why}", shown(path)));
    let text = fs::read_to_string(path).map_err(|error| failed(sentence(&error)))?;
    from_json(&text).map_err(failed)
}

impl Delivery {
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

    /// Fails if the file certainly cannot be written; it is not touched.
    fn check(&self) -> Result<(), CouldNotRun> {
        let Some(path) = &self.output else { return Ok(()) };
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
        if path.is_dir() {
            Err(cannot_write(path, "it is a directory"))
        } else if folder.is_some_and(|folder| !folder.is_dir()) {
            Err(cannot_write(path, "its directory does not exist"))
        } else {
            Ok(())
        }
    }

    fn deliver(&self, report: &Report, format: Format, host: &mut dyn Host) -> Result<(), CouldNotRun> {
        let rendered = format.render(report);
        let Some(path) = &self.output else { return print(host, &rendered) };
        match fs::write(path, &rendered) {
            Ok(()) => {
                let verdict = report.verdict;
                print(host, &format!("OVERALL VERDICT: {verdict} (report in {})\n", shown(path)))
            }
            Err(error) => {
                // What was computed is not lost with the file.
                print(host, &rendered)?;
                Err(cannot_write(path, &sentence(&error)))
            }
        }
    }
}

fn cannot_write(path: &Path, why: &str) -> CouldNotRun {
    CouldNotRun::Failed(format!("cannot write `{}`: {why}", shown(path)))
}

fn print(host: &mut dyn Host, text: &str) -> Result<(), CouldNotRun> {
    let stdout = host.stdout();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(CouldNotRun::Failed(format!("cannot write to standard output: {}", sentence(&error))))
        }
        _ => Ok(()),
    }
}

/// A path on one line.
fn shown(path: &Path) -> String {
    path.to_string_lossy().escape_debug().to_string()
}

/// The system's message within a sentence of ours: lowercase.
fn sentence(error: &io::Error) -> String {
    let message = error.to_string();
    let mut rest = message.chars();
    rest.next().map_or_else(String::new, |first| first.to_lowercase().chain(rest).collect())
}
