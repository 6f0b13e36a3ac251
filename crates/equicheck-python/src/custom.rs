//! The engine's custom action on top of a Python one (`equicheck._custom.Host`).

use std::rc::Rc;

use equicheck::Error;
use equicheck::model::{CustomAction, CustomElement, Tensor};
use pyo3::exceptions::PyException;
use pyo3::prelude::*;
use pyo3::types::PyList;

use crate::adapter::{Raised, one_line};
use crate::dlpack::{Buffer, read};
use crate::errors::SpecificationError;

/// A Python host of functions as a [`CustomAction`].
pub(crate) struct PyAction {
    host: Py<PyAny>,
    raised: Raised,
    name: String,
    identity: bool,
    inverse: bool,
    compose: bool,
}

impl PyAction {
    pub(crate) fn new(py: Python<'_>, host: Py<PyAny>, raised: Raised) -> PyResult<Rc<Self>> {
        let (name, identity, inverse, compose) = host.bind(py).call_method0("info")?.extract()?;
        Ok(Rc::new(Self { host, raised, name, identity, inverse, compose }))
    }

    fn error(&self, py: Python<'_>, error: PyErr) -> Error {
        let doing: String =
            self.host.bind(py).getattr("doing").and_then(|doing| doing.extract()).unwrap_or_default();
        let result = if !error.is_instance_of::<PyException>(py) {
            Error::Interrupted
        } else if error.is_instance_of::<SpecificationError>(py) {
            // The host's own word on what was returned.
            Error::CustomAction { what: format!("`{doing}`"), why: error.value(py).to_string() }
        } else {
            Error::CustomAction { what: format!("`{doing}` raises"), why: one_line(py, &error) }
        };
        *self.raised.borrow_mut() = Some(error);
        result
    }
}

/// Kind and keys, as the Python side takes an element.
fn element_for_python(element: CustomElement) -> (&'static str, u64, u64) {
    match element {
        CustomElement::Identity => ("identity", 0, 0),
        CustomElement::Drawn(key) => ("drawn", key, 0),
        CustomElement::Inverse(key) => ("inverse", key, 0),
        CustomElement::Product(t, s) => ("product", t, s),
    }
}

fn buffers(py: Python<'_>, tensors: impl Iterator<Item = Tensor>) -> PyResult<Bound<'_, PyList>> {
    let buffers = tensors.map(|tensor| Bound::new(py, Buffer::new(tensor))).collect::<PyResult<Vec<_>>>()?;
    PyList::new(py, buffers)
}

fn read_all(returned: &Bound<'_, PyAny>) -> PyResult<Vec<Tensor>> {
    let tensors: Vec<Bound<'_, PyAny>> = returned.extract()?;
    tensors.iter().map(read).collect()
}

impl CustomAction for PyAction {
    fn name(&self) -> String {
        self.name.clone()
    }

    fn has_identity(&self) -> bool {
        self.identity
    }

    fn has_inverse(&self) -> bool {
        self.inverse
    }

    fn has_compose(&self) -> bool {
        self.compose
    }

    fn act_on_inputs(
        &self,
        element: CustomElement,
        sample: usize,
        inputs: &[Tensor],
    ) -> Result<Vec<Tensor>, Error> {
        Python::attach(|py| {
            let attempt = || {
                let tensors = buffers(py, inputs.iter().cloned())?;
                let arguments = (element_for_python(element), sample, tensors);
                read_all(&self.host.bind(py).call_method1("act_on_inputs", arguments)?)
            };
            attempt().map_err(|error| self.error(py, error))
        })
    }

    fn act_on_outputs(
        &self,
        element: CustomElement,
        outputs: &[(&str, Tensor)],
    ) -> Result<Vec<Tensor>, Error> {
        Python::attach(|py| {
            let attempt = || {
                let names: Vec<&str> = outputs.iter().map(|(name, _)| *name).collect();
                let tensors = buffers(py, outputs.iter().map(|(_, tensor)| tensor.clone()))?;
                let arguments = (element_for_python(element), names, tensors);
                read_all(&self.host.bind(py).call_method1("act_on_outputs", arguments)?)
            };
            attempt().map_err(|error| self.error(py, error))
        })
    }

    fn describe(&self, element: CustomElement) -> String {
        Python::attach(|py| {
            let attempt = || -> PyResult<String> {
                self.host.bind(py).call_method1("describe", (element_for_python(element),))?.extract()
            };
            attempt().unwrap_or_else(|_| "an element that cannot be shown".to_owned())
        })
    }
}
