//! Exceptions and warnings.

use equicheck::Error;
use pyo3::create_exception;
use pyo3::exceptions::{PyException, PyKeyboardInterrupt, PyUserWarning};
use pyo3::prelude::*;

create_exception!(
    equicheck,
    EquicheckError,
    PyException,
    "Base of equicheck's errors: the audit could not be run."
);
create_exception!(
    equicheck,
    SpecificationError,
    EquicheckError,
    "The group, a layout or an option is wrong, or does not fit the tensors."
);
create_exception!(equicheck, ModelError, EquicheckError, "The model fails on an input as it was given.");
create_exception!(equicheck, EquicheckWarning, PyUserWarning, "Something that a person should look at.");

/// The exception for an engine error; `raised` is what the model itself raised last.
pub(crate) fn to_python(py: Python<'_>, error: &Error, raised: Option<PyErr>) -> PyErr {
    match error {
        Error::Interrupted => raised.unwrap_or_else(|| PyKeyboardInterrupt::new_err(())),
        Error::ModelFails { .. } => {
            let outer = ModelError::new_err(error.to_string());
            outer.set_cause(py, raised);
            outer
        }
        Error::CustomAction { .. } | Error::Representation { .. } => {
            let outer = SpecificationError::new_err(error.to_string());
            outer.set_cause(py, raised);
            outer
        }
        // A sample generator or adapter raised: its own exception says it best.
        Error::Host(message) => raised.unwrap_or_else(|| EquicheckError::new_err(message.clone())),
        _ => SpecificationError::new_err(error.to_string()),
    }
}
