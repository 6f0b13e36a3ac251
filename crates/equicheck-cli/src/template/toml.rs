//! The audit file.

use std::fmt::Write as _;

use equicheck::spec::AuditFile;

use super::tensors::{Declared, Length, Size, Tensor, Values};
use super::{Framework, Source};
use crate::CouldNotRun;
use crate::init::{key, quoted};

/// Where the small network is expected: another template holds it.
const EXAMPLE: &str = "network.py:build";

/// # Errors
/// What an audit file refuses.
pub(super) fn file(
    declared: &Declared,
    source: &Source,
    framework: Framework,
) -> Result<String, CouldNotRun> {
    let mut text = String::from(
        "# What equicheck audits, and how: `equicheck audit` runs it. Every key is explained in docs/audit-file.md.\n\
         spec_version = 1\n",
    );
    let _ = writeln!(text, "group = {}\n\n[model]", quoted(&declared.group));
    match source {
        Source::Example => {
            let numpy = if framework == Framework::Numpy { " --framework numpy" } else { "" };
            let _ = writeln!(
                text,
                "# `equicheck template script{numpy} -o network.py` writes this small network; put yours in its place.\n\
                 python = {}",
                quoted(EXAMPLE)
            );
        }
        Source::Python { target, .. } => {
            let _ = writeln!(text, "python = {}", quoted(target));
        }
        Source::Onnx(path) => {
            let _ = writeln!(text, "onnx = {}", quoted(path));
        }
    }
    for (k, tensor) in declared.inputs.iter().enumerate() {
        // Said once.
        let own = if k == 0 { "# Or values of your own: file = \"data/*.npz\"\n" } else { "" };
        let layout = tensor.layout.as_deref().map_or_else(|| "false".to_owned(), quoted);
        let _ = writeln!(
            text,
            "\n[inputs.{}]\nlayout = {layout}\n{own}generate = {{ {} }}",
            key(&tensor.name),
            generate(declared, tensor, framework)
        );
    }
    text += "\n[outputs]\n";
    for (name, layout) in &declared.outputs {
        let layout = layout.as_deref().map_or_else(|| "false".to_owned(), quoted);
        let _ = writeln!(text, "{} = {layout}", key(name));
    }
    if !declared.sizes.is_empty() {
        text += "\n# A whole number, or [smallest, largest], drawn anew for every sample.\n[sizes]\n";
    }
    for (name, size) in &declared.sizes {
        let size = match size {
            Size::Fixed(n) => n.to_string(),
            Size::Between(least, most) => format!("[{least}, {most}]"),
        };
        let _ = writeln!(text, "{} = {size}", key(name));
    }
    text += "\n# More samples and transformations find rarer violations.\n[run]\nsamples = 20\ntransforms = 20\nseed = 0\n";
    if declared.shifts_grids {
        text += "# What lies beyond the edge of grids: \"periodic\", the opposite edge, or \"open\".\ndomain = \"periodic\"\n";
    }
    AuditFile::parse(&text, "the template")
        .and_then(|file| file.specification().map(drop))
        .map_err(|error| CouldNotRun::Failed(error.to_text()))?;
    Ok(text)
}

fn generate(declared: &Declared, tensor: &Tensor, framework: Framework) -> String {
    let length = |length: &Length| match length {
        Length::Named(name) => quoted(name),
        Length::Fixed(_) | Length::Product(_) => declared.least(length).to_string(),
    };
    let shape: Vec<String> = tensor.shape.iter().map(length).collect();
    let shape = format!("shape = [{}]", shape.join(", "));
    let (real, complex) = match framework {
        Framework::Torch => ("float32", "complex64"),
        Framework::Numpy => ("float64", "complex128"),
    };
    match &tensor.values {
        Values::Complex => format!("kind = \"normal\", {shape}, dtype = \"{complex}\""),
        Values::Uniform => format!("kind = \"uniform\", {shape}, dtype = \"{real}\""),
        Values::Positions(axis) => format!("kind = \"integers\", {shape}, high = {}", quoted(axis)),
        Values::Pairs(nodes, edges) => format!(
            "kind = \"random_graph\", nodes = {}, complete = true, edges = {}",
            quoted(nodes),
            quoted(edges)
        ),
        Values::Unit => format!("kind = \"unit_vectors\", {shape}, dtype = \"{real}\""),
        Values::Cell if tensor.shape.iter().all(|length| declared.least(length) == 3) => {
            format!("kind = \"cell\", scale = 4.0, {shape}, dtype = \"{real}\"")
        }
        Values::Normal | Values::Cell => format!("kind = \"normal\", {shape}, dtype = \"{real}\""),
        Values::Momenta => format!("kind = \"lorentz_vectors\", {shape}, dtype = \"{real}\""),
        Values::Constant => format!("kind = \"constant\", value = 1.0, {shape}, dtype = \"{real}\""),
    }
}
