//! The command line, hosted by Python.

use std::ffi::OsString;
use std::io::{self, Write};

use equicheck_cli::{CouldNotRun, Host};
use pyo3::exceptions::PyKeyboardInterrupt;
use pyo3::prelude::*;

use crate::adapter::one_line;
use crate::report::Report;

struct PythonHost<'py> {
    py: Python<'py>,
    load: Bound<'py, PyAny>,
    stdout: io::Stdout,
    stderr: io::Stderr,
}

impl Host for PythonHost<'_> {
    fn run_python(&mut self, target: &str) -> Result<equicheck::report::Report, CouldNotRun> {
        let report = self.load.call1((target,)).and_then(|report| {
            let report = report.cast_into::<Report>()?;
            Ok(report.borrow().record().clone())
        });
        report.map_err(|error| {
            if error.is_instance_of::<PyKeyboardInterrupt>(self.py) {
                CouldNotRun::Interrupted
            } else {
                // The traceback is the user's own code: it says where to look. (`print` would leave the process by a
                // SystemExit, with a status that is not ours.)
                error.display(self.py);
                CouldNotRun::Failed(format!("`{target}` failed: {}", one_line(self.py, &error)))
            }
        })
    }

    fn stdout(&mut self) -> &mut dyn Write {
        &mut self.stdout
    }

    fn stderr(&mut self) -> &mut dyn Write {
        &mut self.stderr
    }
}

/// Runs the command with these arguments (program name first) and returns its exit status. `load` turns a target of
/// `equicheck run` into a report.
#[pyfunction]
pub(crate) fn command(py: Python<'_>, arguments: Vec<OsString>, load: Bound<'_, PyAny>) -> u8 {
    let mut host = PythonHost { py, load, stdout: io::stdout(), stderr: io::stderr() };
    equicheck_cli::run(arguments, &mut host).code()
}
