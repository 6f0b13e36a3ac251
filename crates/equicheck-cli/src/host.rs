//! What a process with and without Python has to offer.

use std::cell::RefCell;
use std::io::{BufRead, Write};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use equicheck::model::{DType, Model, Samples, Tensor};
use equicheck::report::Report;
use equicheck::spec::{NoStructures, Structures};

/// What the process around the command provides.
pub trait Host {
    /// Calls the Python function that `target` names and returns the report that it returned.
    ///
    /// `target` is `FILE.py:FUNCTION` or `package.module:FUNCTION`, both halves present.
    ///
    /// # Errors
    /// [`CouldNotRun`], for whatever kept the function from returning a report, any exception included.
    fn run_python(&mut self, _target: &str) -> Result<Report, CouldNotRun> {
        Err(needs_python("`run`"))
    }

    /// Builds a model in Python.
    ///
    /// # Errors
    /// [`CouldNotRun`], for whatever kept the factory from returning a model, any exception included.
    fn python_model(&mut self, _wanted: PythonModel) -> Result<Box<dyn Model>, CouldNotRun> {
        Err(needs_python("`python = ...`"))
    }

    /// Builds a model in Python and says what can be said without calling it.
    ///
    /// # Errors
    /// As [`python_model`](Self::python_model).
    fn describe_python(&mut self, _target: &str, _folder: &Path) -> Result<PythonDescription, CouldNotRun> {
        Err(needs_python("a model in Python"))
    }

    /// Folders that Python packages are installed in, where ONNX Runtime may be.
    fn site_packages(&mut self) -> Vec<PathBuf> {
        Vec::new()
    }

    /// What reads files of atomic structures.
    fn structures(&mut self) -> Box<dyn Structures> {
        Box::new(NoStructures)
    }

    /// Asked between calls of a model: did the user press Ctrl-C?
    fn interruption(&mut self) -> Rc<dyn Fn() -> bool> {
        Rc::new(|| false)
    }

    /// Whether a person sits at standard input and standard error.
    fn is_interactive(&self) -> bool {
        false
    }

    /// Reads a line from standard input, without its end; `None` where there is no more.
    ///
    /// # Errors
    /// The user interrupted.
    fn read_line(&mut self) -> Result<Option<String>, CouldNotRun> {
        Ok(None)
    }

    /// Where reports, help and the version go.
    fn stdout(&mut self) -> &mut dyn Write;

    /// Where error messages, questions and progress go.
    fn stderr(&mut self) -> &mut dyn Write;
}

/// Why there is no report.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CouldNotRun {
    /// For a reason, in one lowercase sentence without a final full stop; further lines may hold a traceback, or mark
    /// the places of a file.
    #[error("{0}")]
    Failed(String),
    /// Interrupted from the keyboard (in Python: `KeyboardInterrupt`).
    #[error("interrupted")]
    Interrupted,
}

impl From<equicheck::Error> for CouldNotRun {
    fn from(error: equicheck::Error) -> Self {
        match error {
            equicheck::Error::Interrupted => CouldNotRun::Interrupted,
            other => CouldNotRun::Failed(other.to_string()),
        }
    }
}

/// A model in Python, as an audit file names it.
pub struct PythonModel {
    /// `FILE.py:NAME` or `package.module:NAME` of a function that returns a model, with a dtype as its argument or
    /// without, or of a model.
    pub target: String,
    /// Where imports and paths begin.
    pub folder: PathBuf,
    /// Method of the module to call.
    pub method: String,
    /// `eval`, `train` or `as_is`.
    pub mode: String,
    /// Inputs by name or path.
    pub inputs: Vec<String>,
    /// Whether a dot in them is part of a name, as in ONNX graphs, and no step into a dict.
    pub flat: bool,
    /// The precision to build the model in, by numpy's name: that of the floating-point inputs.
    pub dtype: String,
    /// Declared outputs by path, with their layouts.
    pub outputs: Vec<(String, Option<String>)>,
    /// The tensors of a sample, in the order of `inputs`: arguments are built like them.
    pub samples: Rc<RefCell<dyn Samples>>,
}

/// What is known of a model in Python before it is called.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PythonDescription {
    /// Its class.
    pub name: String,
    /// Parameters that have no default.
    pub parameters: Vec<String>,
    /// Layouts that its library's metadata names, by attribute: `irreps_in`, `out_type`, ...
    pub metadata: Vec<(String, String)>,
    /// Its modules: dotted name and class.
    pub layers: Vec<(String, String)>,
}

/// The precision that floating-point inputs come in; `float32` where there are none.
pub(crate) fn precision(samples: &mut dyn Samples) -> Result<String, CouldNotRun> {
    let sample = samples.get(0)?;
    let floating = |tensor: &Tensor| tensor.dtype().is_inexact() && !tensor.dtype().is_complex();
    let dtype = sample.iter().find(|tensor| floating(tensor)).map_or(DType::Float32, Tensor::dtype);
    Ok(dtype.name().to_owned())
}

fn needs_python(what: &str) -> CouldNotRun {
    CouldNotRun::Failed(format!("{what} needs Python: pip install equicheck"))
}

/// A line of input without its end; `None` where there is no more, or what there is is no text.
pub fn read_line(input: &mut dyn BufRead) -> Option<String> {
    let mut line = String::new();
    match input.read_line(&mut line) {
        Ok(0) | Err(_) => None,
        Ok(_) => Some(line.trim_end_matches(['\n', '\r']).to_owned()),
    }
}
