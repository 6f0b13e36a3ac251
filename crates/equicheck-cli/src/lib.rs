//! The `equicheck` command, apart from the process that hosts it.
//!
//! The binary of this crate and the Python wheel's console script are the same command: both call [`run`], each with
//! its own [`Host`], which is all that differs between a process with and without Python.

mod audit;
mod delivery;
mod host;
mod init;
mod parity;
mod template;

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};
use clap_complete::Shell;
use equicheck::diagnosis::{Library, Mode, page};
use equicheck::report::{ExitStatus, Report, from_json, modes_to_text, page_to_text};
use equicheck::sentence;

use delivery::{Delivery, Form, print};
pub use host::{CouldNotRun, Host, PythonDescription, PythonModel, read_line};

/// Tests whether a neural network respects the symmetry that it claims
#[derive(Debug, Parser)]
#[command(name = "equicheck", version, arg_required_else_help = false)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Write an audit file for an ONNX model or a Python factory
    Init(init::Arguments),
    /// Audit what an audit file describes
    Audit(audit::Arguments),
    /// Join the reports of all shards of one audit into the report of the whole
    Merge {
        /// Reports that `equicheck audit --shard i/n --format json` wrote
        #[arg(required = true, value_name = "REPORT")]
        reports: Vec<PathBuf>,
        #[command(flatten)]
        delivery: Delivery,
    },
    /// Compare an exported ONNX model with its source in Python
    Parity(parity::Arguments),
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
    /// Say whether a change of the model helped: compare two saved reports
    Compare {
        /// The report before the change, as JSON
        before: PathBuf,
        /// The report after it
        after: PathBuf,
        #[command(flatten)]
        form: Form,
    },
    /// Say what a failure mode is, how it is recognised, and what mends it
    Explain {
        /// Its id, as findings print it in brackets; without it all are listed
        #[arg(value_parser = |text: &str| text.parse::<Mode>())]
        mode: Option<Mode>,
        /// Only the fix for torch, e3nn, escnn, torch-geometric, jax or onnx
        #[arg(long, requires = "mode", value_parser = |text: &str| text.parse::<Library>())]
        library: Option<Library>,
        /// Print the page as Markdown
        #[arg(long, requires = "mode", conflicts_with = "library")]
        markdown: bool,
    },
    /// Print test code for your group and tensors: pytest, script, audit file, notebook
    Template(template::Arguments),
    /// Print a completion script for a shell
    Completions {
        /// For bash: `equicheck completions bash > /etc/bash_completion.d/equicheck`
        shell: Shell,
    },
}

/// What a user reads first.
const FIRST_STEPS: &str = "\
From a bare ONNX file to a verdict:
  equicheck init net.onnx     # asks for the group and how each tensor transforms
  equicheck audit --plan      # says what that means, and how long it takes
  equicheck audit             # prints the report

The same with a function that takes a dtype and returns the model, in Python:
  equicheck init package.module:factory

`equicheck run FILE.py:FUNCTION` shows the report that a script of yours returns.

Test code in Python:
  equicheck template pytest   # an example that runs; --group, --input, ... make it yours

From a finding to its end:
  equicheck explain parity                  # what a finding's mode means, and what mends it
  equicheck compare before.json after.json  # whether the change helped
";

/// Runs the command with `args`, the program's name first, and says how it ended.
///
/// Nothing is written except through `host`, to the file that the arguments name, and as a progress bar to a terminal. A
/// reader of standard output that goes away (`equicheck show x.json | head`) is no error.
pub fn run(args: impl IntoIterator<Item = OsString>, host: &mut dyn Host) -> ExitStatus {
    let parsed = command().try_get_matches_from(args).and_then(|matches| Cli::from_arg_matches(&matches));
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

fn command() -> clap::Command {
    // Subcommands print the table too: that is where people look for it.
    Cli::command()
        .after_help(format!("{FIRST_STEPS}\n{}", ExitStatus::table_text()))
        .mut_subcommands(|sub| sub.after_help(ExitStatus::table_text()))
}

fn execute(cli: Cli, host: &mut dyn Host) -> Result<ExitStatus, CouldNotRun> {
    match cli.command {
        Command::Init(arguments) => init::execute(&arguments, host),
        Command::Audit(arguments) => audit::execute(&arguments, host),
        Command::Parity(arguments) => parity::execute(&arguments, host),
        Command::Merge { reports, delivery } => delivery.of(host, |_| {
            let reports = reports.iter().map(|path| read(path)).collect::<Result<Vec<_>, _>>()?;
            equicheck::audit::merge(&reports).map_err(CouldNotRun::Failed)
        }),
        Command::Run { target, delivery } => {
            check_target(&target)?;
            delivery.of(host, |host| host.run_python(&target))
        }
        Command::Show { report, delivery } => delivery.of(host, |_| read(&report)),
        Command::Compare { before, after, form } => {
            let comparison = form.of(host, |_| {
                equicheck::report::compare(&read(&before)?, &read(&after)?).map_err(CouldNotRun::Failed)
            })?;
            Ok(if comparison.regressed { ExitStatus::Fail } else { ExitStatus::Pass })
        }
        Command::Explain { mode, library, markdown } => {
            let text = match mode {
                None => modes_to_text(),
                Some(mode) if markdown => page(mode).text.to_owned(),
                Some(mode) => page_to_text(page(mode), library),
            };
            print(host, &text)?;
            Ok(ExitStatus::Pass)
        }
        Command::Template(arguments) => template::execute(&arguments, host),
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut command(), "equicheck", &mut script);
            print(host, &String::from_utf8_lossy(&script))?;
            Ok(ExitStatus::Pass)
        }
    }
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

/// The folder that paths in a file begin at.
fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// A path on one line.
fn shown(path: &Path) -> String {
    path.to_string_lossy().escape_debug().to_string()
}
