//! The schema and the documentation say what the code does.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use equicheck::audit::{BatchSize, NoiseLayouts, Options, Randomness, Specification};
use equicheck::model::Samples;
use equicheck::report::{Levels, Shard};
use equicheck::spec::{AuditFile, KINDS, NoStructures, json_schema, keys};
use equicheck::symmetry::grid::{Domain, Interpolation};

use crate::{file, parsed};

fn docs() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs")
}

#[test]
fn the_schema_is_current() {
    let path = docs().join("equicheck.schema.json");
    let current = format!("{}\n", serde_json::to_string_pretty(&json_schema()).expect("it is JSON"));
    if std::env::var_os("EQUICHECK_WRITE_SCHEMA").is_some() {
        fs::write(&path, &current).expect("it can be written");
    }
    let committed = fs::read_to_string(&path).unwrap_or_default();
    assert!(
        committed == current,
        "docs/equicheck.schema.json is behind: EQUICHECK_WRITE_SCHEMA=1 cargo test -p equicheck --test spec schema"
    );
}

#[test]
fn every_key_is_documented() {
    let text = fs::read_to_string(docs().join("audit-file.md")).expect("it is committed");
    for (table, keys) in keys() {
        for key in keys {
            assert!(
                text.contains(&format!("`{key}`")),
                "docs/audit-file.md does not name `{key}` of {table}"
            );
        }
    }
    for kind in KINDS {
        assert!(text.contains(&format!("| `{kind}` |")), "docs/audit-file.md has no row for `{kind}`");
    }
}

#[test]
fn examples_of_the_documentation_are_right() {
    let text = fs::read_to_string(docs().join("audit-file.md")).expect("it is committed");
    let blocks: Vec<&str> =
        text.split("```toml\n").skip(1).map(|rest| rest.split("```").next().expect("it ends")).collect();
    let (whole, parts): (Vec<&str>, Vec<&str>) =
        blocks.into_iter().partition(|block| block.contains("spec_version"));
    assert_eq!(whole.len(), 1);
    assert!(parts.len() > 3);
    let read = AuditFile::parse(whole[0], "example").unwrap_or_else(|error| panic!("{}", error.to_text()));
    read.options().unwrap_or_else(|error| panic!("{}", error.to_text()));
    let mut samples =
        read.samples(Path::new("."), &mut NoStructures).unwrap_or_else(|e| panic!("{}", e.to_text()));
    assert!(samples.get(0).is_ok());
    // Parts are tables to be put behind the rest of a file.
    for part in parts {
        let rest = if part.contains("[outputs]") {
            file("").replace("[outputs]\ny = \"\"\n", part)
        } else {
            file(part)
        };
        let rest =
            if part.contains("[model]") { rest.replace("[model]\nonnx = \"net.onnx\"\n", "") } else { rest };
        let rest = if part.contains("[inputs") { rest } else { format!("{rest}[inputs]\n") };
        let rest = if part.contains("[sizes]") { rest } else { format!("{rest}[sizes]\nnodes = [5, 12]\n") };
        AuditFile::parse(&rest, "part").unwrap_or_else(|error| panic!("{rest}\n{}", error.to_text()));
    }
}

#[test]
fn a_file_says_what_python_says() {
    let read = parsed(include_str!("../data/spec/complete.toml"));
    let named = |name: &str, layout: Option<&str>| (name.to_owned(), layout.map(str::to_owned));
    let expected = Specification::parse(
        "E(3) x S(nodes)",
        &[
            named("pos", Some("nodes point")),
            named("edge_index", Some("2 edges : nodes")),
            named("edge_attr", Some("edges features")),
            named("batch", Some("nodes")),
            named("image", None),
        ],
        &[named("energy", Some("")), named("forces", Some("nodes vector ~ sign")), named("other", None)],
    );
    assert_eq!(read.specification().expect("it is right"), expected.expect("it is right"));
    let text = |text: &str| text.to_owned();
    let expected = Options {
        samples: Some(10),
        transforms: Some(20),
        budget: Some(Duration::from_mins(2)),
        seed: 7,
        translation_scale: Some(1.5),
        levels: Levels { perfect: 1e-7, excellent: 1e-5, approximate: 1e-3 },
        tolerance: Some(1e-4),
        tolerances: [(text("forces"), 1e-3)].into(),
        segments: [(text("nodes"), text("batch"))].into(),
        domain: Some(Domain::Periodic),
        domains: [(text("pos"), Domain::Open), (text("forces"), Domain::Open)].into(),
        interpolation: Interpolation::Cubic,
        rapidity: 1.0,
        batch: BatchSize::Pairs(4),
        shard: Shard { index: 1, count: 3 },
        randomness: Randomness::Transform(NoiseLayouts::Each(vec![Some(text("nodes vector")), None])),
        stress: true,
        cutoff: Some(4.0),
        ..Options::default()
    };
    assert_eq!(read.options().expect("it is right"), expected);
    let small = "[inputs.pos]\nlayout = \"nodes point\"\nfile = \"x.npz\"\n";
    assert_eq!(parsed(&file(small)).options().expect("it is right"), Options::default());
    for (budget, expected) in [
        ("budget = \"120s\"", Some(120.0)),
        ("budget = \"1.5h\"", Some(5400.0)),
        ("budget = \"500ms\"", Some(0.5)),
        ("budget = 2.5", Some(2.5)),
        ("budget = \"1e3\"", Some(1000.0)),
        ("budget = \"inf\"", None),
        ("budget = inf", None),
        ("thorough = true", None),
        ("thorough = true\nbudget = 3", Some(3.0)),
    ] {
        let options = parsed(&file(&format!("{small}[run]\n{budget}"))).options().expect("it is right");
        assert_eq!(options.budget.map(|budget| budget.as_secs_f64()), expected, "{budget}");
    }
}

#[test]
fn inputs_and_outputs_keep_their_order() {
    let text = file(
        "[inputs.b]\nlayout = \"nodes point\"\nfile = \"x.npz\"\n[sizes]\nnodes = 3\n[inputs.a]\nlayout = false\nfile = \
         \"x.npz\"\n[inputs.\"c.d\"]\nlayout = false\nfile = \"x.npz\"",
    )
    .replace("y = \"\"", "z = \"\"\ny = false\n\"a.b\" = \"vector\"");
    let read = parsed(&text);
    let names: Vec<&str> = read.inputs.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["b", "a", "c.d"]);
    let names: Vec<&str> = read.outputs.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["z", "y", "a.b"]);
}
