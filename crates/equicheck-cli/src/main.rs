//! `equicheck` without Python: shows saved reports, and says where `run` is to be had.

use std::io::{self, Write};
use std::process::ExitCode;

use equicheck::report::Report;
use equicheck_cli::{CouldNotRun, Host, run};

struct Process {
    stdout: io::Stdout,
    stderr: io::Stderr,
}

impl Host for Process {
    fn run_python(&mut self, _target: &str) -> Result<Report, CouldNotRun> {
        Err(CouldNotRun::Failed("`run` needs Python: pip install equicheck".to_owned()))
    }

    fn stdout(&mut self) -> &mut dyn Write {
        &mut self.stdout
    }

    fn stderr(&mut self) -> &mut dyn Write {
        &mut self.stderr
    }
}

fn main() -> ExitCode {
    let mut process = Process { stdout: io::stdout(), stderr: io::stderr() };
    ExitCode::from(run(std::env::args_os(), &mut process).code())
}
