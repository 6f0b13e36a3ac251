//! `audit`: options in, report out.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt::Display;
use std::rc::Rc;
use std::str::FromStr;
use std::time::Duration;

use equicheck::audit::{NoiseLayouts, Options, Precision, Progress, Randomness, Specification};
use equicheck::report::{Levels, Shard};
use equicheck::symmetry::grid::{Domain, Interpolation};
use equicheck::symmetry::{BoundLayout, Group, Layout, Representations};
use pyo3::exceptions::{PyException, PyValueError};
use pyo3::prelude::*;

use crate::adapter::{PyModel, PySamples, Raised};
use crate::custom::PyAction;
use crate::element::PyRepresentation;
use crate::errors::{SpecificationError, to_python};
use crate::report::Report;

type Layouts = Vec<(String, Option<String>)>;
type Functions = BTreeMap<String, Py<PyAny>>;

/// Options as the Python package hands them over, already of the right types.
#[derive(FromPyObject)]
#[expect(clippy::struct_excessive_bools, reason = "one switch for each stage and habit, all independent")]
pub(crate) struct PyOptions {
    #[pyo3(item)]
    samples: Option<usize>,
    #[pyo3(item)]
    transforms: Option<usize>,
    #[pyo3(item)]
    budget: f64,
    #[pyo3(item)]
    seed: u64,
    #[pyo3(item)]
    translation_scale: Option<f64>,
    #[pyo3(item)]
    levels: Option<(f64, f64, f64)>,
    #[pyo3(item)]
    tolerance: Option<f64>,
    #[pyo3(item)]
    tolerances: BTreeMap<String, f64>,
    #[pyo3(item)]
    precision: String,
    #[pyo3(item)]
    segments: BTreeMap<String, String>,
    #[pyo3(item)]
    domain: Option<String>,
    #[pyo3(item)]
    domains: BTreeMap<String, String>,
    #[pyo3(item)]
    interpolation: String,
    #[pyo3(item)]
    rapidity: f64,
    #[pyo3(item)]
    shard: (usize, usize),
    #[pyo3(item)]
    early_stop: bool,
    #[pyo3(item)]
    batch: String,
    #[pyo3(item)]
    randomness: String,
    #[pyo3(item)]
    noise_layouts: Option<PyNoise>,
    #[pyo3(item)]
    stress: bool,
    #[pyo3(item)]
    cutoff: Option<f64>,
    #[pyo3(item)]
    layers: bool,
    #[pyo3(item)]
    hidden_layouts: Vec<(String, String, String, String)>,
    #[pyo3(item)]
    gradients: bool,
    #[pyo3(item)]
    loss: bool,
}

/// One layout for all draws, or one for each.
#[derive(FromPyObject)]
enum PyNoise {
    All(String),
    Each(Vec<Option<String>>),
}

/// A word of the library's, or why it is none.
fn word<T: FromStr<Err: Display>>(text: &str) -> PyResult<T> {
    text.parse().map_err(|error: T::Err| SpecificationError::new_err(error.to_string()))
}

impl PyOptions {
    fn options(self) -> PyResult<Options> {
        let precision = match self.precision.as_str() {
            "both" => Precision::Both,
            "as_is" => Precision::AsIs,
            "float64" => Precision::Float64,
            other => {
                return Err(SpecificationError::new_err(format!(
                    "`precision`: `{other}` is none of \"both\", \"as_is\", \"float64\""
                )));
            }
        };
        if self.budget.is_nan() || self.budget <= 0.0 {
            return Err(SpecificationError::new_err("`budget`: a positive number of seconds is needed"));
        }
        let randomness = match (self.randomness.as_str(), self.noise_layouts) {
            ("fixed", None) => Randomness::Fixed,
            ("distribution", None) => Randomness::Distribution,
            ("transform", layouts) => Randomness::Transform(match layouts {
                None => NoiseLayouts::NotGiven,
                Some(PyNoise::All(layout)) => NoiseLayouts::All(layout),
                Some(PyNoise::Each(layouts)) => NoiseLayouts::Each(layouts),
            }),
            ("fixed" | "distribution", Some(_)) => {
                return Err(SpecificationError::new_err(
                    "`noise_layouts` say how recorded draws are transformed: they go with randomness=\"transform\"",
                ));
            }
            (other, _) => {
                return Err(SpecificationError::new_err(format!(
                    "`randomness`: `{other}` is none of \"fixed\", \"transform\", \"distribution\""
                )));
            }
        };
        Ok(Options {
            samples: self.samples,
            transforms: self.transforms,
            // A budget beyond what a clock can hold is none.
            budget: Duration::try_from_secs_f64(self.budget).ok(),
            seed: self.seed,
            translation_scale: self.translation_scale,
            levels: self.levels.map_or_else(Levels::default, |(perfect, excellent, approximate)| Levels {
                perfect,
                excellent,
                approximate,
            }),
            tolerance: self.tolerance,
            tolerances: self.tolerances,
            precision,
            segments: self.segments,
            domain: self.domain.as_deref().map(word).transpose()?,
            domains: self
                .domains
                .into_iter()
                .map(|(tensor, domain)| Ok((tensor, word(&domain)?)))
                .collect::<PyResult<_>>()?,
            interpolation: word(&self.interpolation)?,
            rapidity: self.rapidity,
            shard: Shard { index: self.shard.0, count: self.shard.1 },
            early_stop: self.early_stop,
            batch: (self.batch.parse())
                .map_err(|why: String| SpecificationError::new_err(format!("`batch`: {why}")))?,
            randomness,
            stress: self.stress,
            cutoff: self.cutoff,
            layers: self.layers,
            hidden_layouts: self
                .hidden_layouts
                .into_iter()
                .map(|(module, side, leaf, layout)| ((module, side, leaf), layout))
                .collect(),
            gradients: self.gradients,
            loss: self.loss,
        })
    }
}

/// Parses the group and layouts without running anything; raises `SpecificationError`.
#[pyfunction]
#[expect(clippy::needless_pass_by_value, reason = "extracted from Python")]
pub(crate) fn check(
    py: Python<'_>,
    group: &str,
    inputs: Layouts,
    outputs: Layouts,
    representations: Functions,
) -> PyResult<()> {
    let parsed = Representations::new(PyRepresentation::all(representations, &Raised::default()))
        .and_then(|representations| Specification::parse_with(group, &inputs, &outputs, representations));
    parsed.map(drop).map_err(|error| to_python(py, &error, None))
}

/// How a tensor of this shape is transformed, in words; raises `SpecificationError`.
#[pyfunction]
#[expect(clippy::needless_pass_by_value, reason = "extracted from Python")]
pub(crate) fn describe(
    py: Python<'_>,
    group: &str,
    layout: &str,
    shape: Vec<usize>,
    domain: Option<&str>,
    representations: Functions,
) -> PyResult<String> {
    let domain = domain.map_or(Ok(Domain::Open), word)?;
    let raised = Raised::default();
    let words = || -> Result<String, equicheck::Error> {
        let group = Group::parse(group)?;
        let representations = Representations::new(PyRepresentation::all(representations, &raised))?;
        let layout = Layout::parse_with(layout, &group, &representations, None)?;
        let bound = BoundLayout::new(&layout, &shape, &group, "the tensor")?;
        Ok(bound.on_grid(domain, Interpolation::Linear, &BTreeMap::new()).describe(&group))
    };
    let result = words();
    result.map_err(|error| to_python(py, &error, raised.take()))
}

/// The report of the whole from those of all shards; raises `ValueError`.
#[pyfunction]
#[expect(clippy::needless_pass_by_value, reason = "extracted from Python")]
pub(crate) fn merge(reports: Vec<PyRef<'_, Report>>) -> PyResult<Report> {
    let records: Vec<_> = reports.iter().map(|report| report.record().clone()).collect();
    equicheck::audit::merge(&records).map(Report::new).map_err(PyValueError::new_err)
}

/// Runs an audit; with `custom` (`equicheck._custom.Host`) the group is its, and `outputs` are left out.
#[pyfunction]
#[expect(clippy::needless_pass_by_value, reason = "extracted from Python")]
#[expect(clippy::too_many_arguments, reason = "one argument per thing that Python hands over")]
pub(crate) fn audit(
    py: Python<'_>,
    adapter: Py<PyAny>,
    samples: Py<PyAny>,
    group: &str,
    inputs: Layouts,
    outputs: Layouts,
    options: PyOptions,
    progress: Option<Py<PyAny>>,
    custom: Option<Py<PyAny>>,
    representations: Functions,
) -> PyResult<Report> {
    let options = options.options()?;
    let raised: Raised = Rc::new(RefCell::new(None));
    let specification = if let Some(host) = custom {
        let names = |tensors: &Layouts| tensors.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>();
        let action = PyAction::new(py, host, Rc::clone(&raised))?;
        Specification::custom(action, &names(&inputs), &names(&outputs))
    } else {
        Representations::new(PyRepresentation::all(representations, &raised))
            .and_then(|representations| Specification::parse_with(group, &inputs, &outputs, representations))
            .map_err(|error| to_python(py, &error, None))?
    };
    let mut model = PyModel::new(adapter, Rc::clone(&raised));
    let mut source = PySamples::new(samples, Rc::clone(&raised));
    let mut broken = false;
    let mut show = |step: Progress| {
        if let Some(callback) = &progress
            && !broken
            && let Err(error) =
                callback.call1(py, (step.done, step.planned, step.expected.map(|e| e.as_secs_f64())))
        {
            // A broken progress callback costs the display, not the audit; an interruption inside it ends the audit
            // at the next call.
            if error.is_instance_of::<PyException>(py) {
                error.write_unraisable(py, None);
                broken = true;
            } else {
                *raised.borrow_mut() = Some(error);
            }
        }
    };
    let result = equicheck::audit(&specification, &options, &mut model, &mut source, &mut show);
    let last = raised.borrow_mut().take();
    match result {
        Ok(record) => Ok(Report::new(record)),
        Err(error) => Err(to_python(py, &error, last)),
    }
}
