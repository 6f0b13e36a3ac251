//! `equicheck parity`: does an exported ONNX model equal its source?

use std::cell::RefCell;
use std::fmt::Write as _;
use std::path::PathBuf;
use std::rc::Rc;

use equicheck::audit::Parity;
use equicheck::model::Samples;
use equicheck::report::{ExitStatus, Verdict};
use equicheck::spec::AuditFile;
use equicheck_onnx::OnnxModel;

use crate::audit::{Runtime, Shared, marked};
use crate::delivery::print;
use crate::host::precision;
use crate::{CouldNotRun, Host, PythonModel, check_target, folder_of, init, shown};

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// The exported model
    model: PathBuf,
    /// Its source: `package.module:FACTORY` or `FILE.py:FACTORY`, a function that takes a dtype and returns the model
    source: String,
    /// An audit file whose inputs serve as samples; without it they are drawn by the model's shapes
    #[arg(long, value_name = "FILE")]
    inputs: Option<PathBuf>,
    /// Method of the source to call
    #[arg(long, default_value = "forward")]
    method: String,
    /// Samples to compare, at most
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u16).range(1..))]
    samples: u16,
    /// Seed of all random draws
    #[arg(long, default_value_t = 0)]
    seed: u64,
    #[command(flatten)]
    runtime: Runtime,
    /// Exit with 0 when the verdict is `NEEDS_ATTENTION`
    #[arg(long)]
    allow_attention: bool,
}

pub(crate) fn execute(arguments: &Arguments, host: &mut dyn Host) -> Result<ExitStatus, CouldNotRun> {
    check_target(&arguments.source)?;
    let mut export = arguments.runtime.open(&arguments.model, None, None, host)?;
    let (text, folder) = match &arguments.inputs {
        Some(path) => (None, folder_of(path).to_owned()),
        // Drawn as `init` would write it down.
        None => (Some(init::sampled(export.description())), PathBuf::from(".")),
    };
    let file = match (&arguments.inputs, &text) {
        (Some(path), _) => AuditFile::load(path),
        (None, text) => AuditFile::parse(text.as_deref().unwrap_or_default(), "the model's shapes"),
    };
    let file = file.map_err(|error| marked(&error, host))?;
    let mut structures = host.structures();
    let samples = file.samples(&folder, structures.as_mut()).map_err(|error| marked(&error, host))?;
    let samples: Rc<RefCell<dyn Samples>> = Rc::new(RefCell::new(samples.with_seed(arguments.seed)));
    let names: Vec<String> = file.inputs.iter().map(|(name, _)| name.clone()).collect();
    let known: Vec<String> = export.inputs().iter().map(|port| port.name.clone()).collect();
    if names != known {
        return Err(CouldNotRun::Failed(format!(
            "the inputs {} of the audit file are not those of the model, {}, in the same order",
            names.join(", "),
            known.join(", ")
        )));
    }
    let mut source = host.python_model(PythonModel {
        target: arguments.source.clone(),
        folder: PathBuf::from("."),
        method: arguments.method.clone(),
        mode: "eval".to_owned(),
        inputs: names,
        flat: true,
        dtype: precision(&mut Shared(Rc::clone(&samples)))?,
        outputs: Vec::new(),
        samples: Rc::clone(&samples),
    })?;
    let parity = equicheck::audit::parity(
        source.as_mut(),
        &mut export,
        &mut Shared(samples),
        usize::from(arguments.samples),
        arguments.seed,
    );
    let parity = parity.map_err(|error| match (error, &arguments.inputs) {
        (equicheck::Error::ModelFails { why, .. }, inputs) => CouldNotRun::Failed(format!(
            "the source fails on what the export takes, {}: {why}{}",
            known.join(", "),
            if inputs.is_none() { "; if drawn values do not suit it, give --inputs AUDIT.toml" } else { "" }
        )),
        (error, _) => error.into(),
    })?;
    print(host, &rendered(arguments, &export, &parity))?;
    // A difference on other samples is one, whatever the runtime lacks.
    if let (Some((sample, why)), true) = (parity.failures.first(), parity.verdict != Verdict::Fail) {
        return Err(CouldNotRun::Failed(format!(
            "the export could not be run on {} of {} samples, which its source answers; on sample {sample}: {why}",
            parity.failures.len(),
            parity.failures.len() + parity.samples
        )));
    }
    Ok(ExitStatus::of(parity.verdict, arguments.allow_attention))
}

fn rendered(arguments: &Arguments, export: &OnnxModel, parity: &Parity) -> String {
    let mut text = format!(
        "Export:  {} (by {})\nSource:  {}\nSamples: {}\n",
        shown(&arguments.model),
        export.backend(),
        arguments.source.escape_debug(),
        parity.samples
    );
    if let Err(why) = &parity.double {
        let _ = writeln!(text, "The source's rounding in double precision is not known: {why}");
    }
    for row in &parity.rows {
        let name = |name: &str| if name.is_empty() { "(none)".to_owned() } else { format!("`{name}`") };
        let (export, source) = (name(&row.export), name(&row.source));
        let _ = writeln!(text, "\nOutput {export} of the export, {source} of the source");
        if row.max_relative.is_finite() {
            let _ = write!(
                text,
                "  max absolute difference  {:.2e}\n  max relative difference  {:.2e}\n  rounding explains        {:.2e}\n",
                row.max_absolute,
                row.max_relative,
                equicheck::audit::MARGIN * row.noise
            );
        }
        let _ = writeln!(text, "  {}: {}", row.verdict, row.reason);
    }
    if !parity.failures.is_empty() {
        let _ = writeln!(text, "\nNot compared, since the export could not be run");
    }
    for (sample, why) in &parity.failures {
        let _ = writeln!(text, "  sample {sample}: {why}");
    }
    if parity.failures.is_empty() || parity.verdict == Verdict::Fail {
        let _ = writeln!(text, "\nOVERALL VERDICT: {}", parity.verdict);
    }
    text
}
