//! The comparison of two audits, as Python sees it.

use equicheck::report::{
    Comparison as Record, compare as compared, comparison_to_json, comparison_to_markdown, comparison_to_text,
};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

use crate::report::{Report, plain};

/// What became of a model between two audits. `print(comparison)` shows it whole.
#[pyclass(frozen, module = "equicheck")]
pub(crate) struct Comparison(Record);

#[pymethods]
impl Comparison {
    /// Whether a verdict got worse, or a violation grew beyond what noise explains.
    #[getter]
    fn regressed(&self) -> bool {
        self.0.regressed
    }

    /// What got worse, one sentence each.
    #[getter]
    fn regressions(&self) -> Vec<String> {
        self.0.regressions.clone()
    }

    /// The verdict before and after.
    #[getter]
    fn verdict<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        plain(py, &self.0.verdict)
    }

    /// By output: violation, level, class and verdict, before and after.
    #[getter]
    fn outputs<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        plain(py, &self.0.outputs)
    }

    /// By module call: own and propagated error and verdict, before and after.
    #[getter]
    fn layers<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        plain(py, &self.0.layers)
    }

    /// By row of the gradient stage: error, outcome and verdict, before and after.
    #[getter]
    fn gradients<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        plain(py, &self.0.gradients)
    }

    /// Findings that went, stayed and came.
    #[getter]
    fn findings<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        plain(py, &self.0.findings)
    }

    /// What to know when reading the figures.
    #[getter]
    fn notes(&self) -> Vec<String> {
        self.0.notes.clone()
    }

    /// The text form.
    fn to_text(&self) -> String {
        comparison_to_text(&self.0)
    }

    /// The Markdown form.
    fn to_markdown(&self) -> String {
        comparison_to_markdown(&self.0)
    }

    /// The JSON form.
    fn to_json(&self) -> String {
        comparison_to_json(&self.0)
    }

    fn __str__(&self) -> String {
        self.to_text()
    }

    fn __repr__(&self) -> String {
        let result = if self.0.regressed { "REGRESSION" } else { "no regression" };
        format!("<equicheck.Comparison {result}, {} -> {}>", self.0.verdict.before, self.0.verdict.after)
    }

    fn _repr_markdown_(&self) -> String {
        self.to_markdown()
    }
}

/// Compares an audit with an earlier one; raises `ValueError` where they did not ask the same.
#[pyfunction]
pub(crate) fn compare(before: &Report, after: &Report) -> PyResult<Comparison> {
    compared(before.record(), after.record()).map(Comparison).map_err(PyValueError::new_err)
}
