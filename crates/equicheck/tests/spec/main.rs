//! The audit file: what it says, and what is said where it is wrong.

use equicheck::spec::AuditFile;
use miette::{GraphicalReportHandler, GraphicalTheme};

const COMPLETE: &str = r#"
spec_version = 1
group = "E(3) x S(nodes)"
[model]
onnx = "net.onnx"
[inputs.pos]
layout = "nodes point"
generate = { kind = "normal", shape = ["nodes", 3], dtype = "float32" }
[inputs.edge_index]
layout = "2 edges : nodes"
file = "x.npz"
[inputs.aside]
layout = false
file = "x.npz"
[outputs]
energy = ""
forces = { layout = "nodes vector", tolerance = 1e-3 }
other = false
[sizes]
nodes = [5, 12]
[run]
seed = 0
budget = "120s"
levels = [1e-6, 1e-4, 1e-2]
"#;

fn drawn(text: &str) -> String {
    let error = AuditFile::parse(text, "equicheck.toml")
        .and_then(|file| file.options().map(drop))
        .expect_err("it is wrong");
    let mut result = String::new();
    GraphicalReportHandler::new_themed(GraphicalTheme::unicode_nocolor())
        .with_width(100)
        .render_report(&mut result, &error)
        .expect("a string takes everything");
    result
}

#[test]
fn smoke() {
    let file = AuditFile::parse(COMPLETE, "equicheck.toml").unwrap();
    file.options().unwrap();
    println!(
        "{}",
        drawn(
            "spec_version = 1\n seed = 3\ngroop = 3\n[model]\n[inputs.pos]\nlayout = 3\n[inputs.b.c]\nx=1\n[run]\nsamples='a'\ntransforms=0"
        )
    );
    println!(
        "{}",
        drawn(
            "spec_version = 1\ngroup = \"E(3\"\n[model]\nonnx='x'\n[inputs.pos]\nlayout='a'\nfile='b'\n[outputs]\n"
        )
    );
    println!(
        "{}",
        drawn(
            "spec_version = 1\ngroup = \"E(3)\"\n[model]\nonnx='x'\n[inputs.pos]\nlayout='nodes vecto'\nfile='b'\n[outputs]\na='\\'\nb={layout=\"vector\",up_to=\"sig\"}\nc=\"\\u00e9 poin\""
        )
    );
    println!("{}", drawn("x = = \n y = [\n[a\n"));
}
