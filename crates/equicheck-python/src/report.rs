//! The report, as Python sees it.

use std::fs;
use std::path::PathBuf;

use equicheck::diagnosis;
use equicheck::model::{DType, Tensor};
use equicheck::report::{
    Break, ExitStatus, OutputResult, Report as Record, Verdict, from_json, to_json, to_markdown, to_text,
};
use ndarray::ArrayD;
use pyo3::exceptions::{PyAssertionError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList};

use crate::dlpack::Buffer;
use crate::errors::EquicheckWarning;

/// What an audit found. `print(report)` shows it whole.
#[pyclass(frozen, module = "equicheck")]
pub(crate) struct Report {
    record: Record,
}

impl Report {
    pub(crate) fn new(record: Record) -> Self {
        Self { record }
    }

    pub(crate) fn record(&self) -> &Record {
        &self.record
    }
}

/// Where symmetry is lost.
#[pyclass(frozen, module = "equicheck", name = "Break")]
pub(crate) struct PyBreak(Break);

#[pymethods]
impl PyBreak {
    #[getter]
    fn location(&self) -> &str {
        &self.0.location
    }

    #[getter]
    fn call(&self) -> usize {
        self.0.call
    }

    #[getter]
    fn class_(&self) -> &str {
        &self.0.class
    }

    #[getter]
    fn kind(&self) -> String {
        self.0.kind.to_string()
    }

    #[getter]
    fn between(&self) -> Option<(String, String)> {
        self.0.between.clone()
    }

    #[getter]
    fn source(&self) -> Option<&str> {
        self.0.source.as_deref()
    }

    #[getter]
    fn own_error(&self) -> Option<f64> {
        self.0.own_error
    }

    #[getter]
    fn remaining(&self) -> f64 {
        self.0.remaining
    }

    #[getter]
    fn factor(&self) -> &str {
        &self.0.factor
    }

    #[getter]
    fn confidence(&self) -> String {
        self.0.confidence.to_string()
    }

    fn __repr__(&self) -> String {
        format!("<Break at {} ({}), confidence {}>", self.0.location, self.0.kind, self.0.confidence)
    }
}

/// A numpy array of the caller's own.
fn array<'py>(py: Python<'py>, tensor: &Tensor) -> PyResult<Bound<'py, PyAny>> {
    let tensor = match tensor.dtype() {
        // numpy has no such type; single precision holds all its values.
        DType::BFloat16 => tensor.cast(DType::Float32),
        _ => tensor.clone(),
    };
    let buffer = Bound::new(py, Buffer::new(tensor))?;
    py.import("numpy")?.call_method1("from_dlpack", (buffer,))?.call_method0("copy")
}

/// Plain Python data (dicts, lists, numbers) of a part of the record, as in the JSON form.
pub(crate) fn plain<'py>(py: Python<'py>, value: &impl serde::Serialize) -> PyResult<Bound<'py, PyAny>> {
    let text = serde_json::to_string(value).map_err(|error| PyValueError::new_err(error.to_string()))?;
    py.import("json")?.call_method1("loads", (text,))
}

#[pymethods]
impl Report {
    /// `"PASS"`, `"FAIL"` or `"NEEDS_ATTENTION"`.
    #[getter]
    fn verdict(&self) -> String {
        self.record.verdict.to_string()
    }

    /// 0 PASS, 1 FAIL, 2 `NEEDS_ATTENTION`.
    #[getter]
    fn exit_status(&self) -> u8 {
        ExitStatus::of(self.record.verdict, false).code()
    }

    /// The group, in canonical form.
    #[getter]
    fn group(&self) -> String {
        self.record.group.clone()
    }

    /// Results by output path.
    #[getter]
    fn outputs<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let outputs = PyDict::new(py);
        for output in &self.record.outputs {
            outputs.set_item(&output.name, Bound::new(py, OutputReport(output.clone()))?)?;
        }
        Ok(outputs)
    }

    /// Outputs that were returned and not audited.
    #[getter]
    fn not_audited(&self) -> Vec<String> {
        self.record.not_audited.clone()
    }

    /// Whether entries of a batch depend on each other: status and rows.
    #[getter]
    fn composition<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        plain(py, &self.record.composition)
    }

    /// Inputs at the edge of what the model is used on: status and rows.
    #[getter]
    fn stress<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        plain(py, &self.record.stress)
    }

    /// The layer-wise stage: status, and where it ran its rows.
    #[getter]
    fn layers<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        plain(py, &self.record.layers)
    }

    /// Where symmetry is first lost.
    #[getter]
    fn first_break(&self) -> Option<PyBreak> {
        self.record.layers.layers()?.breaks.first().cloned().map(PyBreak)
    }

    /// All places that are needed to explain the error.
    #[getter]
    fn breaks(&self) -> Vec<PyBreak> {
        let found = self.record.layers.layers().map(|layers| layers.breaks.clone());
        found.unwrap_or_default().into_iter().map(PyBreak).collect()
    }

    /// What was asked of the model because outputs break.
    #[getter]
    fn inquiries<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        plain(py, &self.record.inquiries)
    }

    /// Gradients: status and rows.
    #[getter]
    fn gradients<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        plain(py, &self.record.gradients)
    }

    /// What is wrong, the most severe first.
    #[getter]
    fn findings<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        let findings = self.record.findings.iter().map(|finding| Finding(finding.clone()));
        PyList::new(py, findings.map(|f| Bound::new(py, f)).collect::<PyResult<Vec<_>>>()?)
    }

    /// What to do, the most urgent first.
    #[getter]
    fn recommendations(&self) -> Vec<String> {
        self.record.recommendations.clone()
    }

    /// How good the audit was: `overall` and `dimensions`; `None` in what an earlier version wrote.
    #[getter]
    fn quality<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        plain(py, &self.record.quality)
    }

    /// Remarks that are neither findings nor figures.
    #[getter]
    fn notes(&self) -> Vec<String> {
        self.record.notes.clone()
    }

    /// How each tensor is transformed: dicts with role, name, layout, shape, dtype, description.
    #[getter]
    fn transforms<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        plain(py, &self.record.transforms)
    }

    /// What was executed: seed, samples, transformations, pairs, calls.
    #[getter]
    fn plan<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        plain(py, &self.record.plan)
    }

    /// Versions, threads, platform.
    #[getter]
    fn environment<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        plain(py, &self.record.environment)
    }

    /// Seconds in all and inside the model's calls; `None` in a report read from a file without them.
    #[getter]
    fn timings<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        plain(py, &self.record.timings)
    }

    /// The pair with the largest error of an output (or of the worst one), to compute with: a dict of `output`,
    /// `sample` (its index), `element` (in words), `inputs` and `transformed` (x and T x: arrays by path), `expected`
    /// (T' f(x), float64) and `returned` (f(T x), float64; `None` where the model raises). Complex outputs have a last
    /// axis of real and imaginary part; bfloat16 inputs come as float32. `None` where no error was seen, or in a report
    /// that was read from a file or merged. Raises `ValueError` for an output that was not audited.
    #[pyo3(signature = (output = None))]
    fn replay<'py>(&self, py: Python<'py>, output: Option<&str>) -> PyResult<Option<Bound<'py, PyDict>>> {
        let names: Vec<&str> = self.record.outputs.iter().map(|o| o.name.as_str()).collect();
        let name = match output {
            Some(name) if !names.contains(&name) => {
                let known = names.join(", ");
                return Err(PyValueError::new_err(format!(
                    "no output `{name}` was audited; outputs: {known}"
                )));
            }
            Some(name) => Some(name),
            None => self.record.worst_output().map(|worst| worst.name.as_str()),
        };
        let Some(replay) = self.record.replays.iter().find(|replay| Some(replay.output.as_str()) == name)
        else {
            return Ok(None);
        };
        let named = |tensors: &[(String, Tensor)]| {
            let dict = PyDict::new(py);
            for (name, tensor) in tensors {
                dict.set_item(name, array(py, tensor)?)?;
            }
            Ok::<_, PyErr>(dict)
        };
        let values = |values: &ArrayD<f64>| array(py, &Tensor::Float64(values.clone()));
        let dict = PyDict::new(py);
        dict.set_item("output", &replay.output)?;
        dict.set_item("sample", replay.sample)?;
        dict.set_item("element", replay.element.to_string())?;
        dict.set_item("inputs", named(&replay.inputs)?)?;
        dict.set_item("transformed", named(&replay.transformed)?)?;
        dict.set_item("expected", values(&replay.expected)?)?;
        dict.set_item("returned", replay.returned.as_ref().map(values).transpose()?)?;
        Ok(Some(dict))
    }

    /// The text form.
    fn to_text(&self) -> String {
        to_text(&self.record)
    }

    /// The Markdown form.
    fn to_markdown(&self) -> String {
        to_markdown(&self.record)
    }

    /// The JSON form: every figure, plan and environment; equal plans give equal bytes, so timings are left out
    /// unless asked for.
    #[pyo3(signature = (*, timings = false))]
    fn to_json(&self, timings: bool) -> String {
        if timings || self.record.timings.is_none() {
            return to_json(&self.record);
        }
        let mut record = self.record.clone();
        record.timings = None;
        to_json(&record)
    }

    /// Reads what `to_json` wrote. Raises `ValueError`.
    #[staticmethod]
    fn from_json(text: &str) -> PyResult<Self> {
        from_json(text).map(Self::new).map_err(PyValueError::new_err)
    }

    /// Writes the report; the ending (`.json`, `.txt`, `.md`) decides the form. Raises `ValueError`, `OSError`.
    fn save(&self, path: PathBuf) -> PyResult<()> {
        let text = match path.extension().and_then(|ending| ending.to_str()) {
            Some("json") => self.to_json(false),
            Some("txt") => self.to_text(),
            Some("md") => self.to_markdown(),
            _ => {
                return Err(PyValueError::new_err(format!(
                    "`{}`: the ending decides the form: .json, .txt or .md",
                    path.display()
                )));
            }
        };
        Ok(fs::write(path, text)?)
    }

    /// Raises `AssertionError` if the verdict is `on` or worse, with the report as text and as its attribute `report`; a
    /// `NEEDS_ATTENTION` that does not raise issues an `EquicheckWarning`.
    #[pyo3(signature = (on = "FAIL"))]
    fn raise_for_failure(slf: &Bound<'_, Self>, on: &str) -> PyResult<()> {
        let (this, py) = (slf.get(), slf.py());
        let threshold = match on {
            "FAIL" => Verdict::Fail,
            "NEEDS_ATTENTION" => Verdict::NeedsAttention,
            other => {
                return Err(PyValueError::new_err(format!(
                    "`on`: `{other}` is neither \"FAIL\" nor \"NEEDS_ATTENTION\""
                )));
            }
        };
        if this.record.verdict >= threshold {
            let error = PyAssertionError::new_err(format!("\n{}", to_text(&this.record)));
            // `equicheck run` takes it from there.
            error.value(py).setattr("report", slf)?;
            return Err(error);
        }
        if this.record.verdict == Verdict::NeedsAttention {
            let reasons: Vec<String> = this
                .record
                .outputs
                .iter()
                .filter(|output| output.verdict == Verdict::NeedsAttention)
                .map(|output| format!("{}: {}", output.name, output.reason))
                .chain(this.record.findings.iter().map(|f| format!("{}: {}", f.location, f.message)))
                .collect();
            let message = std::ffi::CString::new(format!(
                "equivariance audit: NEEDS_ATTENTION ({})",
                reasons.first().map_or("see the report", String::as_str)
            ))?;
            PyErr::warn(py, &py.get_type::<EquicheckWarning>(), &message, 1)?;
        }
        Ok(())
    }

    fn __str__(&self) -> String {
        self.to_text()
    }

    fn __repr__(&self) -> String {
        let outputs: Vec<String> = self
            .record
            .outputs
            .iter()
            .map(|o| format!("{}: {} {}", o.name, o.classification, o.verdict))
            .collect();
        format!(
            "<equicheck.Report {} under {} ({})>",
            self.record.verdict,
            self.record.group,
            outputs.join("; ")
        )
    }

    fn _repr_markdown_(&self) -> String {
        self.to_markdown()
    }
}

/// Everything that was found about one output.
#[pyclass(frozen, module = "equicheck")]
pub(crate) struct OutputReport(OutputResult);

#[pymethods]
impl OutputReport {
    #[getter]
    fn name(&self) -> String {
        self.0.name.clone()
    }

    #[getter]
    fn layout(&self) -> String {
        self.0.layout.clone()
    }

    /// `"Invariant"` or `"Equivariant"`.
    #[getter]
    fn symmetry_type(&self) -> String {
        self.0.symmetry_type.to_string()
    }

    /// `"exact"`, `"consistent"`, `"approximate"`, `"broken"` or `"undetermined"`.
    #[getter]
    fn classification(&self) -> String {
        self.0.classification.to_string()
    }

    #[getter]
    fn verdict(&self) -> String {
        self.0.verdict.to_string()
    }

    /// `"perfect"`, `"excellent"`, `"approximate"` or `"broken"`: band of the raw error.
    #[getter]
    fn level(&self) -> String {
        self.0.level.to_string()
    }

    /// Why this class and verdict, in one sentence.
    #[getter]
    fn reason(&self) -> String {
        self.0.reason.clone()
    }

    #[getter]
    fn mean_absolute(&self) -> f64 {
        self.0.absolute.mean
    }

    #[getter]
    fn max_absolute(&self) -> f64 {
        self.0.absolute.max
    }

    #[getter]
    fn mean_relative(&self) -> f64 {
        self.0.relative.mean
    }

    #[getter]
    fn max_relative(&self) -> f64 {
        self.0.relative.max
    }

    /// Largest error relative to the output's scale over the run; the level is read off it.
    #[getter]
    fn scaled_max(&self) -> f64 {
        self.0.scaled_max
    }

    /// Median norm of the output over the base inputs.
    #[getter]
    fn scale(&self) -> f64 {
        self.0.scale
    }

    /// Rows (nodes, pixels) apart: largest 99.9 % quantile of their relative errors; `None` without rows.
    #[getter]
    fn row_quantile(&self) -> Option<f64> {
        self.0.row_quantile
    }

    /// Largest `||T'^-1 f(Tx) - f(x)||`, relative, where T' changes lengths; `None` elsewhere.
    #[getter]
    fn pulled_back(&self) -> Option<f64> {
        self.0.pulled_back
    }

    /// What remains after rounding is accounted for.
    #[getter]
    fn violation(&self) -> f64 {
        self.0.violation
    }

    /// Measured noise floor of the precision under audit, relative.
    #[getter]
    fn noise(&self) -> f64 {
        self.0.noise
    }

    #[getter]
    fn tolerance(&self) -> Option<f64> {
        self.0.tolerance
    }

    /// Mean, standard deviation, median, 95 % quantile and maximum of the absolute error.
    #[getter]
    fn absolute<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        plain(py, &self.0.absolute)
    }

    /// The same of the relative error.
    #[getter]
    fn relative<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        plain(py, &self.0.relative)
    }

    /// The largest error: sample, index, element, factor, kind, block.
    #[getter]
    fn worst<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        plain(py, &self.0.worst)
    }

    /// Errors by factor of the group, alone and jointly.
    #[getter]
    fn factors<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        plain(py, &self.0.factors)
    }

    /// Errors under planned elements, by kind.
    #[getter]
    fn planned<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        plain(py, &self.0.planned)
    }

    /// The double-precision comparison; `status` is `available`, `unavailable`, `void` or `not_requested`.
    #[getter]
    fn float64<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        plain(py, &self.0.float64)
    }

    /// Differences of repeated calls: seeded, unseeded, drift.
    #[getter]
    fn repeatability<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        plain(py, &self.0.repeatability)
    }

    /// Sensitivity and discrimination by factor.
    #[getter]
    fn vacuity<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        plain(py, &self.0.vacuity)
    }

    /// The comparison of laws, for a random output with `randomness="distribution"`.
    #[getter]
    fn distribution<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        plain(py, &self.0.distribution)
    }

    /// The control for elements that interpolate a grid: model, control, pairs, `receptive_field`, note.
    #[getter]
    fn interpolation<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        plain(py, &self.0.interpolation)
    }

    fn __repr__(&self) -> String {
        format!(
            "<equicheck.OutputReport {}: {}, {}, max relative {:.2e}>",
            self.0.name, self.0.classification, self.0.verdict, self.0.relative.max
        )
    }
}

/// One thing that is wrong.
#[pyclass(frozen, module = "equicheck")]
pub(crate) struct Finding(diagnosis::Finding);

#[pymethods]
impl Finding {
    /// Stable id of the failure mode.
    #[getter]
    fn mode(&self) -> &'static str {
        self.0.mode.id()
    }

    #[getter]
    fn location(&self) -> String {
        self.0.location.clone()
    }

    #[getter]
    fn class_(&self) -> Option<&str> {
        self.0.class.as_deref()
    }

    #[getter]
    fn source(&self) -> Option<&str> {
        self.0.source.as_deref()
    }

    /// `"low"`, `"medium"` or `"high"`.
    #[getter]
    fn confidence(&self) -> String {
        self.0.confidence.to_string()
    }

    /// `"High"`, `"Medium"` or `"Low"`.
    #[getter]
    fn severity(&self) -> String {
        self.0.severity.to_string()
    }

    #[getter]
    fn message(&self) -> String {
        self.0.message.clone()
    }

    #[getter]
    fn evidence(&self) -> Vec<String> {
        self.0.evidence.clone()
    }

    #[getter]
    fn effects(&self) -> Vec<String> {
        self.0.effects.clone()
    }

    #[getter]
    fn fix(&self) -> String {
        self.0.fix.clone()
    }

    #[getter]
    fn code(&self) -> Option<&str> {
        self.0.code.as_deref()
    }

    #[getter]
    fn verify(&self) -> String {
        self.0.verify.clone()
    }

    fn __repr__(&self) -> String {
        format!("<equicheck.Finding {} at {} ({})>", self.0.mode, self.0.location, self.0.severity)
    }
}
