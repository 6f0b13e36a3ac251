//! `equicheck template`: test code for the user's group and tensors, ready to run.

mod example;
mod notebook;
mod python;
mod tensors;
mod toml;

use std::fs;
use std::path::{Path, PathBuf};

use clap::ValueEnum;
use equicheck::audit::Specification;
use equicheck::report::ExitStatus;
use equicheck::sentence;

use crate::delivery::{cannot_write, check, print};
use crate::{CouldNotRun, Host, check_target, shown};
use tensors::Declared;

/// What is audited where nothing else is said: the energy and forces of a cloud of points with features.
const GROUP: &str = "E(3) x S(nodes)";
const INPUTS: [(&str, &str); 2] = [("x", "nodes point"), ("h", "nodes features")];
const OUTPUTS: [(&str, &str); 2] = [("energy", ""), ("forces", "nodes vector")];

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// pytest, script, toml or notebook
    #[arg(value_enum, hide_possible_values = true)]
    kind: Kind,
    /// The group
    #[arg(long, default_value = GROUP)]
    group: String,
    /// An input with its layout, false for one that is not transformed; once for each, in the model's order
    /// [default: x="nodes point" h="nodes features"]
    #[arg(long = "input", value_name = "NAME=LAYOUT", value_parser = tensor)]
    inputs: Vec<(String, Option<String>)>,
    /// An output with its layout, false for one that is not audited; `output` is the name of a single tensor
    /// [default: energy="" forces="nodes vector"]
    #[arg(long = "output", value_name = "NAME=LAYOUT", value_parser = tensor)]
    outputs: Vec<(String, Option<String>)>,
    /// `package.module:FACTORY` or `FILE.py:FACTORY`, a function that takes a dtype (numpy: nothing) and returns the
    /// model; for toml an ONNX file too. Without it the template holds a small network
    #[arg(long)]
    model: Option<String>,
    /// What the model computes with: torch or numpy
    #[arg(long, value_enum, default_value = "torch", hide_possible_values = true)]
    framework: Framework,
    /// Write it to this file and not to standard output
    #[arg(short = 'o', long = "file", value_name = "PATH")]
    file: Option<PathBuf>,
    /// Write over a file that is there
    #[arg(long, requires = "file")]
    force: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Kind {
    Pytest,
    Script,
    Toml,
    Notebook,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Framework {
    Torch,
    Numpy,
}

/// Where the model comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Source {
    /// The small network of the template.
    Example,
    /// A function in Python: the module to import, the folder that it lies in if it is a file, the name.
    Python { target: String, place: String, name: String },
    /// An ONNX file.
    Onnx(String),
}

/// `NAME=LAYOUT`.
fn tensor(text: &str) -> Result<(String, Option<String>), String> {
    match text.split_once('=') {
        Some((name, layout)) if !name.trim().is_empty() => {
            let layout = layout.trim();
            Ok((name.trim().to_owned(), (layout != "false").then(|| layout.to_owned())))
        }
        _ => Err("expected NAME=LAYOUT, such as x=\"nodes point\"".to_owned()),
    }
}

pub(crate) fn execute(arguments: &Arguments, host: &mut dyn Host) -> Result<ExitStatus, CouldNotRun> {
    if let Some(path) = &arguments.file {
        if path.exists() && !arguments.force {
            return Err(CouldNotRun::Failed(format!(
                "`{}` is there already: --force writes over it, -o names another file",
                shown(path)
            )));
        }
        check(path)?;
    }
    let text = written(arguments)?;
    match &arguments.file {
        None => print(host, &text)?,
        Some(path) => {
            fs::write(path, &text).map_err(|error| cannot_write(path, &sentence(&error)))?;
            let file = shown(path);
            let next = match arguments.kind {
                Kind::Pytest => format!("`pytest {file}` runs it"),
                Kind::Script => format!("`python {file}` runs it"),
                Kind::Toml => format!("`equicheck audit {file}` runs it"),
                Kind::Notebook => format!("`jupyter lab {file}` opens it"),
            };
            print(host, &format!("wrote {file}; {next}\n"))?;
        }
    }
    Ok(ExitStatus::Pass)
}

fn written(arguments: &Arguments) -> Result<String, CouldNotRun> {
    let owned = |defaults: [(&str, &str); 2]| {
        defaults.map(|(name, layout)| (name.to_owned(), Some(layout.to_owned()))).to_vec()
    };
    let or_default = |given: &[(String, Option<String>)], defaults| {
        if given.is_empty() { owned(defaults) } else { given.to_vec() }
    };
    let inputs = or_default(&arguments.inputs, INPUTS);
    let outputs = or_default(&arguments.outputs, OUTPUTS);
    for (role, tensors) in [("input", &inputs), ("output", &outputs)] {
        for (k, (name, _)) in tensors.iter().enumerate() {
            if tensors[..k].iter().any(|(other, _)| other == name) {
                return Err(CouldNotRun::Failed(format!("{role} `{name}` is given twice")));
            }
        }
    }
    let specification = Specification::parse(&arguments.group, &inputs, &outputs)?;
    let source = source(arguments.model.as_deref())?;
    if source == Source::Example && (inputs != owned(INPUTS) || outputs != owned(OUTPUTS)) {
        return Err(CouldNotRun::Failed(
            "the small network of the template has the default inputs and outputs: name yours with --model \
             package.module:FACTORY or FILE.py:FACTORY"
                .to_owned(),
        ));
    }
    if let (Source::Onnx(path), true) = (&source, arguments.kind != Kind::Toml) {
        return Err(CouldNotRun::Failed(format!(
            "`{path}` is an ONNX file, and scripts audit models in Python: `equicheck template toml` is for it"
        )));
    }
    let declared = Declared::new(&specification, &arguments.group, &inputs, &outputs)?;
    let parts = python::Parts { declared: &declared, source: &source, framework: arguments.framework };
    match arguments.kind {
        Kind::Pytest => parts.pytest(),
        Kind::Script => parts.script(),
        Kind::Notebook => parts.notebook(),
        Kind::Toml => toml::file(&declared, &source, arguments.framework),
    }
}

fn source(model: Option<&str>) -> Result<Source, CouldNotRun> {
    let Some(model) = model else { return Ok(Source::Example) };
    if Path::new(model).extension().is_some_and(|ending| ending.eq_ignore_ascii_case("onnx")) {
        return Ok(Source::Onnx(model.to_owned()));
    }
    check_target(model)?;
    let (place, name) = model.rsplit_once(':').unwrap_or((model, ""));
    Ok(Source::Python { target: model.to_owned(), place: place.to_owned(), name: name.to_owned() })
}
