//! `equicheck audit`: what an audit file describes.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use clap::builder::TypedValueParser;
use equicheck::audit::{BatchSize, Options, Plan, Precision, Progress, Specification};
use equicheck::model::{
    Call, CallError, Differentiation, Model, ModelInfo, Patch, Pullback, PullbackError, Returned, Samples,
    StateTensor, Tensor, Trace, Tracing, Unavailable,
};
use equicheck::report::{ExitStatus, Report, Shard};
use equicheck::spec::{self, AuditFile, Budget, SpecError};
use equicheck_onnx::{Backend, OnnxModel, OpenOptions};
use indicatif::{ProgressBar, ProgressStyle};
use miette::{GraphicalReportHandler, GraphicalTheme, NamedSource};

use crate::delivery::{Delivery, print};
use crate::host::precision;
use crate::{CouldNotRun, Host, PythonModel, folder_of};

#[derive(Debug, clap::Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is a switch of the command")]
pub(crate) struct Arguments {
    /// The audit file
    #[arg(default_value = "equicheck.toml")]
    file: PathBuf,
    #[command(flatten)]
    delivery: Delivery,
    /// Seed of all random draws
    #[arg(long)]
    seed: Option<u64>,
    /// Test samples, at most
    #[arg(long, value_name = "N", value_parser = at_least_one())]
    samples: Option<usize>,
    /// Random elements of the group per sample
    #[arg(long, value_name = "N", value_parser = at_least_one())]
    transforms: Option<usize>,
    /// Pairs that one call of the model evaluates, at most, along axes called `batch`; `auto` finds it by timing
    #[arg(long, value_name = "N", value_parser = |text: &str| text.parse::<BatchSize>())]
    batch: Option<BatchSize>,
    /// Limit of time, such as 120s, 5min or inf
    #[arg(long, value_name = "TIME", value_parser = |text: &str| Budget::parse(text))]
    budget: Option<Budget>,
    /// No limit of time, unless --budget is given
    #[arg(long)]
    thorough: bool,
    #[command(flatten)]
    runtime: Runtime,
    /// Do the i-th of n equal parts, counted from 0; `equicheck merge` joins their reports
    #[arg(long, value_name = "I/N", value_parser = shard)]
    shard: Option<Shard>,
    /// Say what would be audited and how long it would take, and stop
    #[arg(long, conflicts_with_all = ["output", "format", "allow_attention"])]
    plan: bool,
    /// Do not look into the model's layers
    #[arg(long)]
    no_layers: bool,
    /// Do not audit gradients, whatever the file says
    #[arg(long)]
    no_gradients: bool,
    /// No progress bar on a terminal
    #[arg(long)]
    no_progress: bool,
}

/// What runs ONNX files.
#[derive(Debug, Clone, Default, clap::Args)]
pub(crate) struct Runtime {
    /// What runs an ONNX file: tract (built in) or onnxruntime (installed) [default: tract]
    #[arg(long, value_parser = |text: &str| text.parse::<Backend>())]
    pub(crate) backend: Option<Backend>,
    /// The shared library of ONNX Runtime; else it is looked for in an installed `onnxruntime`
    #[arg(long, value_name = "PATH")]
    pub(crate) onnxruntime: Option<PathBuf>,
}

fn at_least_one() -> impl TypedValueParser<Value = usize> {
    clap::value_parser!(u64).range(1..).map(|n| usize::try_from(n).unwrap_or(usize::MAX))
}

fn shard(text: &str) -> Result<Shard, String> {
    let parts =
        text.split_once('/').and_then(|(i, n)| Some((i.trim().parse().ok()?, n.trim().parse().ok()?)));
    match parts {
        Some((index, count)) if index < count => Ok(Shard { index, count }),
        _ => Err("expected I/N with I from 0 to N - 1, such as 0/4".to_owned()),
    }
}

impl Runtime {
    /// Opens an ONNX file; the command line comes before the audit file.
    pub(crate) fn open(
        &self,
        path: &Path,
        declared: Option<spec::Backend>,
        library: Option<PathBuf>,
        host: &mut dyn Host,
    ) -> Result<OnnxModel, CouldNotRun> {
        let declared = declared.map(|backend| match backend {
            spec::Backend::Tract => Backend::Tract,
            spec::Backend::OnnxRuntime => Backend::OnnxRuntime,
        });
        if self.onnxruntime.is_some() && self.backend.or(declared) == Some(Backend::Tract) {
            let who = if self.backend.is_some() {
                "--backend tract"
            } else {
                "backend = \"tract\" of the audit file"
            };
            return Err(CouldNotRun::Failed(format!(
                "--onnxruntime names a library that {who} does not use: leave it out, or add --backend onnxruntime"
            )));
        }
        // Who names the library wants it.
        let named = self.onnxruntime.as_ref().or(library.as_ref()).map(|_| Backend::OnnxRuntime);
        let options = OpenOptions {
            backend: self.backend.or(declared).or(named).unwrap_or_default(),
            onnxruntime: self.onnxruntime.clone().or(library),
            search: host.site_packages(),
        };
        OnnxModel::open(path, &options).map_err(|error| CouldNotRun::Failed(error.to_string()))
    }
}

/// What an audit file stands for, ready to run.
struct Ready {
    specification: Specification,
    options: Options,
    model: Box<dyn Model>,
    samples: Shared,
    file: AuditFile,
}

impl Ready {
    /// An error of the engine, marked where it has a place in the audit file.
    fn marked(&self, error: equicheck::Error, host: &dyn Host) -> CouldNotRun {
        self.file.located(&error).map_or_else(|| error.into(), |error| marked(&error, host))
    }
}

pub(crate) fn execute(arguments: &Arguments, host: &mut dyn Host) -> Result<ExitStatus, CouldNotRun> {
    if arguments.plan {
        let mut ready = ready(arguments, host)?;
        let plan = equicheck::audit::plan(
            &ready.specification,
            &ready.options,
            ready.model.as_mut(),
            &mut ready.samples,
        );
        let plan = plan.map_err(|error| ready.marked(error, host))?;
        print(host, &announced(&plan, &ready.options))?;
        return Ok(ExitStatus::Pass);
    }
    arguments.delivery.of(host, |host| audit(arguments, host))
}

fn ready(arguments: &Arguments, host: &mut dyn Host) -> Result<Ready, CouldNotRun> {
    let file = AuditFile::load(&arguments.file).map_err(|error| marked(&error, host))?;
    let folder = folder_of(&arguments.file).to_owned();
    let mut ready = prepare(file, &folder, arguments, host)?;
    let options = &mut ready.options;
    options.seed = arguments.seed.unwrap_or(options.seed);
    options.samples = arguments.samples.or(options.samples);
    options.transforms = arguments.transforms.or(options.transforms);
    options.batch = arguments.batch.unwrap_or(options.batch);
    options.shard = arguments.shard.unwrap_or(options.shard);
    options.layers &= !arguments.no_layers;
    options.gradients &= !arguments.no_gradients;
    match &arguments.budget {
        // A budget beyond what a clock can hold is none.
        Some(budget) => options.budget = Duration::try_from_secs_f64(budget.0).ok(),
        None if arguments.thorough => options.budget = None,
        None => {}
    }
    Ok(ready)
}

/// Everything that an audit file names.
fn prepare(
    file: AuditFile,
    folder: &Path,
    arguments: &Arguments,
    host: &mut dyn Host,
) -> Result<Ready, CouldNotRun> {
    let runtime = &arguments.runtime;
    let mut structures = host.structures();
    let parts = file.specification().and_then(|specification| {
        let options = file.options()?;
        let samples = file.samples(folder, structures.as_mut())?;
        Ok((specification, options, samples))
    });
    let (specification, options, samples) = parts.map_err(|error| marked(&error, host))?;
    // Generated inputs are random draws too.
    let samples = match arguments.seed {
        Some(seed) => samples.with_seed(seed),
        None => samples,
    };
    let samples = Shared(Rc::new(RefCell::new(samples)));
    let names: Vec<String> = specification.inputs().iter().map(|(name, _)| name.clone()).collect();
    let model: Box<dyn Model> = match (file.model.onnx.get(), file.model.python.get()) {
        (Some(onnx), _) => {
            let library = file.model.onnxruntime.get().map(|path| folder.join(path));
            let model = runtime.open(&folder.join(onnx), file.model.backend.get().copied(), library, host)?;
            check_outputs(&file, &specification, &model, host)?;
            // A double-precision copy takes what it is given in double precision.
            if options.precision != Precision::Float64 {
                check_dtypes(&file, &model, &names, &mut samples.clone(), host)?;
            }
            Box::new(Ordered::new(model, &names, host.interruption())?)
        }
        (None, Some(target)) => {
            if runtime.backend.is_some() || runtime.onnxruntime.is_some() {
                let why =
                    "--backend and --onnxruntime are for ONNX models, and the audit file names one in Python";
                return Err(CouldNotRun::Failed(why.to_owned()));
            }
            host.python_model(PythonModel {
                target: target.clone(),
                folder: folder.to_owned(),
                method: file.model.method.get().cloned().unwrap_or_else(|| "forward".to_owned()),
                mode: file.model.mode.get().map_or("eval", |mode| mode.name()).to_owned(),
                inputs: names,
                flat: false,
                dtype: precision(&mut samples.clone())?,
                outputs: specification
                    .outputs()
                    .iter()
                    .map(|(name, layout)| (name.clone(), layout.as_ref().map(ToString::to_string)))
                    .collect(),
                samples: Rc::clone(&samples.0),
            })?
        }
        (None, None) => return Err(CouldNotRun::Failed("the audit file names no model".to_owned())),
    };
    Ok(Ready { specification, options, model, samples, file })
}

/// Outputs that are left out must be there too: the graph knows all of its own.
fn check_outputs(
    file: &AuditFile,
    specification: &Specification,
    model: &OnnxModel,
    host: &dyn Host,
) -> Result<(), CouldNotRun> {
    let known: Vec<&str> = model.outputs().iter().map(|port| port.name.as_str()).collect();
    match specification.outputs().iter().find(|(name, _)| !known.contains(&name.as_str())) {
        None => Ok(()),
        Some((name, _)) => {
            let returned = known.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
            let error = equicheck::Error::MissingOutput { name: name.clone(), returned };
            Err(file.located(&error).map_or_else(|| error.into(), |error| marked(&error, host)))
        }
    }
}

/// The first sample must have the element types that the graph takes.
fn check_dtypes(
    file: &AuditFile,
    model: &OnnxModel,
    names: &[String],
    samples: &mut Shared,
    host: &dyn Host,
) -> Result<(), CouldNotRun> {
    let sample = samples.get(0)?;
    let of = |(name, tensor): (&String, &Tensor)| {
        let port = model.inputs().iter().find(|port| port.name == *name)?;
        let given = tensor.dtype();
        (given.name() != port.dtype).then(|| (name.clone(), given, port.dtype.clone()))
    };
    let wrong: Vec<_> = names.iter().zip(&sample).filter_map(of).collect();
    if wrong.is_empty() { Ok(()) } else { Err(marked(&file.wrong_dtypes(&wrong), host)) }
}

fn audit(arguments: &Arguments, host: &mut dyn Host) -> Result<Report, CouldNotRun> {
    let mut ready = ready(arguments, host)?;
    let bar = (host.is_interactive() && !arguments.no_progress).then(bar);
    let mut show = |step: Progress| {
        let Some(bar) = &bar else { return };
        bar.set_length(step.planned as u64);
        bar.set_position(step.done as u64);
    };
    let report = equicheck::audit(
        &ready.specification,
        &ready.options,
        ready.model.as_mut(),
        &mut ready.samples,
        &mut show,
    );
    if let Some(bar) = bar {
        bar.finish_and_clear();
    }
    report.map_err(|error| ready.marked(error, host))
}

fn bar() -> ProgressBar {
    let style = ProgressStyle::with_template("{bar:32} {pos}/{len} pairs  {elapsed} of about {duration}");
    let bar = ProgressBar::new(0);
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    bar
}

fn announced(plan: &Plan, options: &Options) -> String {
    let mut text = format!("Model: {}\nGroup: {}\n\n", plan.model.name, plan.group);
    let wide = plan.transforms.iter().map(|row| row.name.chars().count()).max().unwrap_or(0);
    for row in &plan.transforms {
        let shape: Vec<String> = row.shape.iter().map(ToString::to_string).collect();
        let _ = writeln!(
            text,
            "{:6}  {:wide$}  {} [{}]  {}",
            row.role,
            row.name,
            row.dtype,
            shape.join(", "),
            row.description
        );
    }
    let _ = write!(text, "\n{} pairs (sample, transformation) of {} samples", plan.pairs, plan.samples);
    if let Some(expected) = plan.expected {
        let _ = write!(text, ": about {:.3} s by the first calls", expected.as_secs_f64());
        if let Some(budget) = options.budget.filter(|budget| *budget < expected) {
            let _ = write!(text, "; the budget of {:.3} s cuts them evenly", budget.as_secs_f64());
        }
    }
    if options.batch != BatchSize::default() {
        let _ = write!(
            text,
            "\nUp to batch={} of them share a call, if entries of a batch are seen not to influence each other.",
            options.batch
        );
    }
    text + "\nMeasuring noise, precision and what else an audit must know takes some calls more.\n"
}

/// The places of an audit file that are wrong, marked, in colours on a terminal.
pub(crate) fn marked(error: &SpecError, host: &dyn Host) -> CouldNotRun {
    if error.problems().iter().all(|problem| problem.span.is_none()) {
        return CouldNotRun::Failed(error.to_text());
    }
    let theme =
        if host.is_interactive() { GraphicalTheme::unicode() } else { GraphicalTheme::unicode_nocolor() };
    let handler = GraphicalReportHandler::new_themed(theme).with_width(110);
    let name = error.name().escape_debug();
    let mut text = match error.problems().len() {
        1 => format!("`{name}` cannot be used:\n"),
        count => format!("`{name}` cannot be used for {count} reasons:\n"),
    };
    for problem in error.problems() {
        let source = NamedSource::new(error.name(), error.text().to_owned());
        let problem = miette::Report::new(problem.clone()).with_source_code(source);
        // Writing to a string does not fail.
        let _ = handler.render_report(&mut text, problem.as_ref());
    }
    CouldNotRun::Failed(text.trim_end().to_owned())
}

/// One source of samples for the engine and for a model that builds its arguments by them.
#[derive(Clone)]
pub(crate) struct Shared(pub(crate) Rc<RefCell<dyn Samples>>);

impl Samples for Shared {
    fn count(&self) -> Option<usize> {
        self.0.borrow().count()
    }

    fn get(&mut self, index: usize) -> Result<Vec<Tensor>, equicheck::Error> {
        self.0.borrow_mut().get(index)
    }
}

/// An ONNX model whose inputs an audit file lists in an order of its own, and between whose calls the user can stop the
/// audit: nothing of Python's runs that would.
struct Ordered {
    model: Box<dyn Model>,
    /// For each input of the graph, its place in the audit file.
    places: Vec<usize>,
    interrupted: Rc<dyn Fn() -> bool>,
}

impl Ordered {
    fn new(
        model: OnnxModel,
        names: &[String],
        interrupted: Rc<dyn Fn() -> bool>,
    ) -> Result<Self, CouldNotRun> {
        let known: Vec<&str> = model.inputs().iter().map(|port| port.name.as_str()).collect();
        let listed = known.join(", ");
        if let Some(unknown) = names.iter().find(|name| !known.contains(&name.as_str())) {
            return Err(CouldNotRun::Failed(format!(
                "the model has no input `{}`; its inputs are {listed}",
                unknown.escape_debug()
            )));
        }
        let place = |name: &&str| {
            names.iter().position(|own| own == name).ok_or_else(|| {
                CouldNotRun::Failed(format!(
                    "the audit file does not say what input `{name}` of the model is: add a table [inputs.{name}]"
                ))
            })
        };
        let places = known.iter().map(place).collect::<Result<_, _>>()?;
        Ok(Self { model: Box::new(model), places, interrupted })
    }

    fn of(&self, model: Box<dyn Model>) -> Box<dyn Model> {
        Box::new(Self { model, places: self.places.clone(), interrupted: Rc::clone(&self.interrupted) })
    }
}

impl Model for Ordered {
    fn info(&self) -> ModelInfo {
        self.model.info()
    }

    fn environment(&self) -> BTreeMap<String, String> {
        self.model.environment()
    }

    fn shares_arguments(&mut self, first: usize, second: usize) -> bool {
        self.model.shares_arguments(first, second)
    }

    fn forward(&mut self, call: &Call<'_>) -> Result<Returned, CallError> {
        if (self.interrupted)() {
            return Err(CallError::Interrupted);
        }
        let inputs: Vec<Tensor> = self.places.iter().map(|place| call.inputs[*place].clone()).collect();
        let mut returned = self.model.forward(&Call { inputs: &inputs, ..*call })?;
        returned.written_inputs.iter_mut().for_each(|input| *input = self.places[*input]);
        Ok(returned)
    }

    fn double(&mut self) -> Result<Box<dyn Model>, Unavailable> {
        self.model.double().map(|model| self.of(model))
    }

    fn state(&mut self) -> Result<Vec<StateTensor>, Unavailable> {
        self.model.state()
    }

    fn with_state(&mut self, values: &[(usize, Tensor)]) -> Result<Box<dyn Model>, Unavailable> {
        self.model.with_state(values).map(|model| self.of(model))
    }

    fn pullback(&mut self, call: &Call<'_>, wanted: &Differentiation<'_>) -> Result<Pullback, PullbackError> {
        // There are no gradients that would have to be put in order: the reason is what comes back.
        self.model.pullback(call, wanted)
    }

    fn tracing(&mut self) -> Result<&mut dyn Tracing, Unavailable> {
        self.model.tracing()?;
        Ok(self)
    }
}

impl Tracing for Ordered {
    fn trace(
        &mut self,
        call: &Call<'_>,
        patches: &[Patch],
        limit: usize,
        keep: bool,
    ) -> Result<Trace, CallError> {
        if (self.interrupted)() {
            return Err(CallError::Interrupted);
        }
        let inputs: Vec<Tensor> = self.places.iter().map(|place| call.inputs[*place].clone()).collect();
        let tracing = self.model.tracing().map_err(|why| CallError::Raised(why.0))?;
        tracing.trace(&Call { inputs: &inputs, ..*call }, patches, limit, keep)
    }

    fn replay(&mut self, position: usize, inputs: &[Tensor]) -> Result<Vec<Tensor>, CallError> {
        if (self.interrupted)() {
            return Err(CallError::Interrupted);
        }
        self.model.tracing().map_err(|why| CallError::Raised(why.0))?.replay(position, inputs)
    }

    fn forget(&mut self) {
        if let Ok(tracing) = self.model.tracing() {
            tracing.forget();
        }
    }
}
