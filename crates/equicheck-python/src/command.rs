//! The command line, hosted by Python.

use std::cell::RefCell;
use std::ffi::OsString;
use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use equicheck::model::Model;
use equicheck::spec::{Structure, Structures};
use equicheck_cli::{CouldNotRun, Host, PythonDescription, PythonModel};
use pyo3::exceptions::{PyAssertionError, PyKeyboardInterrupt, PyRuntimeError};
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::adapter::{PyModel, one_line};
use crate::dlpack::{Buffer, read};
use crate::report::Report;

struct PythonHost<'py> {
    py: Python<'py>,
    /// `equicheck._host`.
    module: Bound<'py, PyAny>,
    stdout: io::Stdout,
    stderr: io::Stderr,
}

impl PythonHost<'_> {
    /// The report of an audit that `raise_for_failure` ended: an answer, and no accident.
    fn raised_for_failure(&self, error: &PyErr) -> Option<equicheck::report::Report> {
        let own = error.is_instance_of::<PyAssertionError>(self.py);
        let report = error.value(self.py).getattr("report").ok().filter(|_| own)?;
        Some(report.cast::<Report>().ok()?.borrow().record().clone())
    }

    /// An exception of the user's own code: the traceback says where to look. (`print` would leave the process by a
    /// `SystemExit`, with a status that is not ours.)
    fn failed(&self, target: &str, error: &PyErr) -> CouldNotRun {
        if error.is_instance_of::<PyKeyboardInterrupt>(self.py) {
            return CouldNotRun::Interrupted;
        }
        if self
            .module
            .call_method1("is_of_user", (error.value(self.py), error.traceback(self.py)))
            .and_then(|own| own.extract())
            .unwrap_or(true)
        {
            error.display(self.py);
        }
        CouldNotRun::Failed(format!("`{target}` failed: {}", one_line(self.py, error)))
    }
}

impl Host for PythonHost<'_> {
    fn run_python(&mut self, target: &str) -> Result<equicheck::report::Report, CouldNotRun> {
        let report = self.module.call_method1("load", (target,)).and_then(|report| {
            let report = report.cast_into::<Report>()?;
            Ok(report.borrow().record().clone())
        });
        report.or_else(|error| match self.raised_for_failure(&error) {
            Some(report) => Ok(report),
            None => Err(self.failed(target, &error)),
        })
    }

    fn python_model(&mut self, wanted: PythonModel) -> Result<Box<dyn Model>, CouldNotRun> {
        let PythonModel { target, folder, method, mode, inputs, flat, dtype, outputs, samples } = wanted;
        let made = Bound::new(self.py, SampleFunction(samples)).and_then(|sample| {
            let arguments = (&target, folder, method, mode, dtype, inputs, flat, sample, outputs);
            let adapter = self.module.call_method1("model", arguments)?;
            PyModel::entered(&adapter)
        });
        let model = made.map_err(|error| self.failed(&target, &error))?;
        Ok(Box::new(model))
    }

    fn describe_python(&mut self, target: &str, folder: &Path) -> Result<PythonDescription, CouldNotRun> {
        let described = self.module.call_method1("describe", (target, folder, "forward"));
        let (name, parameters, metadata, layers) = described
            .and_then(|described| described.extract())
            .map_err(|error| self.failed(target, &error))?;
        Ok(PythonDescription { name, parameters, metadata, layers })
    }

    fn site_packages(&mut self) -> Vec<PathBuf> {
        let path = self.py.import("sys").and_then(|sys| sys.getattr("path")).and_then(|path| path.extract());
        let path: Vec<PathBuf> = path.unwrap_or_default();
        path.into_iter().filter(|folder| folder.is_dir() && !folder.as_os_str().is_empty()).collect()
    }

    fn structures(&mut self) -> Box<dyn Structures> {
        Box::new(Ase(self.module.clone().unbind()))
    }

    fn interruption(&mut self) -> Rc<dyn Fn() -> bool> {
        Rc::new(|| Python::attach(|py| py.check_signals().is_err()))
    }

    fn is_interactive(&self) -> bool {
        io::stdin().is_terminal() && self.stderr.is_terminal()
    }

    fn read_line(&mut self) -> Result<Option<String>, CouldNotRun> {
        // Python's own reading ends at Ctrl-C.
        let line = self
            .py
            .import("sys")
            .and_then(|sys| sys.getattr("stdin")?.call_method0("readline")?.extract::<String>());
        match line {
            Ok(line) if line.is_empty() => Ok(None),
            Ok(line) => Ok(Some(line.trim_end_matches(['\n', '\r']).to_owned())),
            Err(error) if error.is_instance_of::<PyKeyboardInterrupt>(self.py) => {
                Err(CouldNotRun::Interrupted)
            }
            Err(_) => Ok(None),
        }
    }

    fn stdout(&mut self) -> &mut dyn Write {
        &mut self.stdout
    }

    fn stderr(&mut self) -> &mut dyn Write {
        &mut self.stderr
    }
}

/// The tensors of a sample of the audit file, by its number.
#[pyclass(unsendable)]
struct SampleFunction(Rc<RefCell<dyn equicheck::model::Samples>>);

#[pymethods]
impl SampleFunction {
    fn __call__(&self, py: Python<'_>, index: usize) -> PyResult<Vec<Py<Buffer>>> {
        let tensors = self.0.borrow_mut().get(index);
        let tensors = tensors.map_err(|error| PyRuntimeError::new_err(error.to_string()))?;
        tensors.into_iter().map(|tensor| Py::new(py, Buffer::new(tensor))).collect()
    }
}

/// Structures by ASE.
struct Ase(Py<PyAny>);

impl Structures for Ase {
    fn read(&mut self, path: &Path) -> Result<Vec<Structure>, String> {
        Python::attach(|py| {
            let found = self.0.bind(py).call_method1("structures", (path,)).and_then(|frames| {
                let frames: Vec<Bound<'_, PyDict>> = frames.extract()?;
                frames
                    .iter()
                    .map(|frame| {
                        frame.iter().map(|(name, array)| Ok((name.extract()?, read(&array)?))).collect()
                    })
                    .collect::<PyResult<Vec<Structure>>>()
            });
            found.map_err(|error| one_line(py, &error))
        })
    }
}

/// Runs the command with these arguments (program name first) and returns its exit status. `host` is `equicheck._host`,
/// which does what is asked of Python.
#[pyfunction]
pub(crate) fn command(py: Python<'_>, arguments: Vec<OsString>, host: Bound<'_, PyAny>) -> u8 {
    let mut host = PythonHost { py, module: host, stdout: io::stdout(), stderr: io::stderr() };
    equicheck_cli::run(arguments, &mut host).code()
}
