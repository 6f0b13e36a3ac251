//! The audit file: what it says, what is said where it is wrong, and the inputs that it makes and reads.

mod documents;
mod errors;
mod generators;
#[cfg(feature = "files")]
mod readers;

use std::path::Path;

use equicheck::model::{Samples, Tensor};
use equicheck::spec::{AuditFile, NoStructures, SpecError, SpecSamples};
use miette::{GraphicalReportHandler, GraphicalTheme};

/// A file under E(3) x S(nodes) with these tables behind it.
fn file(rest: &str) -> String {
    format!(
        "spec_version = 1\ngroup = \"E(3) x S(nodes)\"\n[model]\nonnx = \"net.onnx\"\n{rest}\n[outputs]\ny = \"\"\n"
    )
}

/// A file with one input that is generated, besides what the group needs.
fn generated(sizes: &str, layout: &str, generate: &str) -> String {
    file(&format!(
        "[sizes]\n{sizes}\n[inputs.pos]\nlayout = \"nodes point\"\ngenerate = {{ kind = \"normal\", shape = [\"nodes\", 3] \
         }}\n[inputs.x]\nlayout = {layout}\ngenerate = {generate}"
    ))
}

fn parsed(text: &str) -> AuditFile {
    AuditFile::parse(text, "equicheck.toml").unwrap_or_else(|error| panic!("{text}\n{}", error.to_text()))
}

fn samples_in(folder: &Path, text: &str) -> Result<SpecSamples, SpecError> {
    AuditFile::parse(text, "equicheck.toml")?.samples(folder, &mut NoStructures)
}

fn samples(text: &str) -> SpecSamples {
    samples_in(Path::new("."), text).unwrap_or_else(|error| panic!("{text}\n{}", error.to_text()))
}

/// The input `x` of one sample.
fn second(samples: &mut SpecSamples, index: usize) -> Tensor {
    samples.get(index).expect("it is made").swap_remove(1)
}

/// As a terminal without colours shows it.
fn drawn(error: &SpecError) -> String {
    let mut result = String::new();
    GraphicalReportHandler::new_themed(GraphicalTheme::unicode_nocolor())
        .with_width(110)
        .render_report(&mut result, error)
        .expect("a string takes everything");
    // Lines of handlers end in blanks.
    let lines: Vec<&str> = result.lines().map(str::trim_end).collect();
    lines.join("\n")
}
