//! What is said where a file is wrong.

use std::path::Path;

use equicheck::spec::{AuditFile, NoStructures, SpecError};
use proptest::prelude::*;

use crate::{drawn, file, generated, parsed, samples_in};

const COMPLETE: &str = include_str!("../data/spec/complete.toml");

/// What is wrong with a file, up to its samples.
fn wrong(text: &str) -> SpecError {
    let read = |text: &str| -> Result<(), SpecError> {
        let file = AuditFile::parse(text, "equicheck.toml")?;
        file.options()?;
        file.samples(Path::new("nowhere"), &mut NoStructures).map(drop)
    };
    read(text).expect_err(text)
}

#[test]
fn what_is_wrong_is_shown_where_it_is() {
    let group = |group: &str, rest: &str| file(rest).replace("E(3) x S(nodes)", group);
    let pos = "[sizes]\nnodes = 3\n[inputs.pos]\nlayout = \"nodes point\"\n\
               generate = { kind = \"normal\", shape = [\"nodes\", 3] }\n";
    let cases = [
        ("no_toml", "group = \n[model\nx = [1,".to_owned()),
        ("nothing", String::new()),
        (
            "keys",
            "spec_version = 2\nseed = 3\ngroop = \"SO(3)\"\n[model]\nbudget = 3\n[inputs]\n[outputs]\n[run]\nsample = \
             3\nmethod = \"f\"\nrepresentations = {}\nlayers = true\nup_to = {}\n"
                .to_owned(),
        ),
        (
            "types",
            file(&format!(
                "{pos}domain = true\n[run]\nsamples = \"many\"\ntransforms = 0\nbudget = \"2 weeks\"\nthorough = 1\nseed = \
                 -1\nlevels = [1, 2]\ntolerance = nan\nprecision = \"float46\"\nsegments = []\nshard = [2, \
                 2]\nearly_stop = 1979-05-27\nbatch = 0\nrandomness = 3\nnoise_layouts = 1.5\nrapidity = {{}}\n"
            )),
        ),
        (
            "layouts",
            file(
                "[inputs.pos]\nlayout = \"nodes \\u0070oint vecto\"\nfile = \"x.npz\"\n[inputs.\"a \
                 b\"]\nlayout = '''\nnodes \n  poit'''\nfile = \"x.npz\"\n",
            )
            .replace("y = \"\"", "y = \"vector ~ sing\"\nz = { layout = \"vector\", up_to = \"sing\" }\nw = \"0e+1\""),
        ),
        ("group", group("E(3) x S(nodes", pos)),
        ("axis", group("SO(3) x S( x )", &pos.replace("point", "vector"))),
        ("lattice", file(&format!("{pos}[inputs.cell]\nlayout = false\ngenerate = {{ kind = \"cell\" }}\n[inputs.f]\nlayout = \"nodes fractional(cell)\"\ngenerate = {{ kind = \"uniform\", shape = [\"nodes\", 3] }}"))),
        (
            "models",
            file("").replace("[outputs]", "method = \"g\"\nmode = \"eval\"\npython = \"no_function\"\n[inputs]\n[outputs]"),
        ),
        (
            "other_model",
            file("").replace("[outputs]", "onnxruntime = \"x.so\"\nbackend = \"tract\"\nmode = \"evla\"\n[inputs]\n[outputs]"),
        ),
        (
            "sources",
            file(
                "[inputs.a]\nlayout = \"\"\n[inputs.b]\nlayout = \"\"\nfile = \"x.npz\"\ngenerate = { kind = \"cell\" \
                 }\n[inputs.c]\nlayout = \"\"\nkey = \"c\"\nstacked = true\ndtype = \"float32\"\ngenerate = { kind = \
                 \"cell\" }\n[inputs.d.e]\nlayout = \"\"\n[inputs.f]\nlayout = \"\"\nkind = \"normal\"\nfile = []\n",
            ),
        ),
        (
            "outputs",
            file(pos).replace(
                "y = \"\"",
                "a = { layout = false, tolerance = 1, up_to = \"sign\" }\nb = { layout = \"vector ~ sign\", up_to = \
                 \"sign\" }\nc = { tolerance = -1 }\nd = true\ne = [1]",
            ),
        ),
        (
            "kinds",
            file(
                "[sizes]\nnodes = [12, 5]\nrows = 0\n[inputs.a]\nlayout = false\ngenerate = { kind = \"norml\" \
                 }\n[inputs.b]\nlayout = false\ngenerate = { shape = [3] }\n[inputs.c]\nlayout = false\ngenerate = { kind \
                 = \"normal\", shape = [\"node\", 0, true], degree = 3, std = -1, dtype = \"int64\" }\n[inputs.d]\nlayout \
                 = false\ngenerate = { kind = \"lorentz_vectors\", shape = [4], mass = [2, 1] }\n[inputs.e]\nlayout = \
                 false\ngenerate = { kind = \"constant\", shape = [4], value = 0.5, dtype = \"bool\" }\n",
            ),
        ),
        (
            "options",
            file(&format!(
                "{pos}[run]\ncutoff = 3\nnoise_layouts = \"vector\"\ntranslation_scale = 0\n"
            )),
        ),
        ("range", file(&format!("{pos}[run]\nrapidity = 9\n"))),
        ("segments", file(&format!("{pos}[run]\nsegments = {{ nodes = \"batch\" }}\n"))),
        ("missing_file", file("[inputs.pos]\nlayout = \"nodes point\"\nfile = [\"x.npz\", \"*.npz\"]\n")),
        ("structures", file("[inputs.pos]\nlayout = \"nodes point\"\nfile = \"x.xyz\"\n")),
    ];
    for (name, text) in cases {
        let error = wrong(&text);
        insta::assert_snapshot!(name, drawn(&error));
        for problem in error.problems() {
            let inside = problem.span.as_ref().is_none_or(|span| text.get(span.clone()).is_some());
            assert!(inside, "{name}: {problem:?}");
        }
    }
}

/// The one problem of a generated input, in the words that follow the path.
fn refused(sizes: &str, layout: &str, generate: &str) -> String {
    let error = wrong(&generated(sizes, layout, generate));
    error.to_text()
}

#[test]
fn what_cannot_be_generated_is_refused() {
    let nodes = "nodes = [5, 12]";
    for (sizes, layout, generate, why) in [
        (
            nodes,
            "\"nodes vector\"",
            "{ kind = 'normal', shape = ['nodes'] }",
            "has 2 axes, and the shape has 1",
        ),
        (
            nodes,
            "\"nodes vector\"",
            "{ kind = 'normal', shape = [5, 3] }",
            "`nodes` of the layout `nodes vector` is 5",
        ),
        (
            "nodes = [5, 12]\natoms = 4",
            "\"nodes\"",
            "{ kind = 'normal', shape = ['atoms'] }",
            "is `atoms` in the shape",
        ),
        (nodes, "\"nodes vector\"", "{ kind = 'normal', shape = ['nodes', 4] }", "does not fit shape"),
        (nodes, "false", "{ kind = 'normal', shape = [100000, 100000] }", "more than 268435456 entries"),
        (nodes, "false", "{ kind = 'random_graph' }", "not said how many edges"),
        (
            "nodes = 5\nmany = 9223372036854775807",
            "false",
            "{ kind = 'random_graph', nodes = 'many', edges = 2 }",
            "nodes",
        ),
        (
            "nodes = 5\nmany = 99999",
            "false",
            "{ kind = 'random_graph', nodes = 'many', complete = true }",
            "entries",
        ),
        (nodes, "false", "{ kind = 'random_graph', edges = 3 }", "3 is odd"),
        (nodes, "false", "{ kind = 'random_graph', edges = 22 }", "5 nodes have fewer than 22 edges"),
        (nodes, "false", "{ kind = 'random_graph', edges = 4, degree = 2 }", "said twice"),
        (
            nodes,
            "false",
            "{ kind = 'random_graph', complete = true, degree = 2 }",
            "a complete graph has every edge",
        ),
        ("nodes = 5\nedges = [2, 4]", "false", "{ kind = 'random_graph' }", "one even number"),
        (nodes, "false", "{ kind = 'random_graph', degree = 2, nodes = 'atoms' }", "no size `atoms`"),
        (
            "nodes = 5\nn = 4",
            "\"2 edges : nodes\"",
            "{ kind = 'random_graph', degree = 2, nodes = 'n' }",
            "on `n`",
        ),
        (nodes, "false", "{ kind = 'random_graph', degree = 2, segments = 'y' }", "there is no input `y`"),
        (nodes, "false", "{ kind = 'random_graph', edges = 4, segments = 'x' }", "depends on their sizes"),
        (
            nodes,
            "false",
            "{ kind = 'random_graph', degree = 2, segments = 'x' }",
            "not generated as segments",
        ),
        (nodes, "false", "{ kind = 'segments', count = 6 }", "6 labels do not fit 5 entries"),
        (nodes, "false", "{ kind = 'integers', shape = [2], high = 'node' }", "did you mean `nodes`"),
        (
            nodes,
            "false",
            "{ kind = 'integers', shape = [2], low = 5, high = 'nodes' }",
            "at least 5 and below 5",
        ),
        (
            nodes,
            "false",
            "{ kind = 'integers', shape = [2], high = 257, dtype = 'int8' }",
            "int8 does not hold 256",
        ),
        (nodes, "false", "{ kind = 'integers', shape = [2], low = 3, high = 3 }", "at least 3 and below 3"),
        (nodes, "false", "{ kind = 'lorentz_vectors', shape = [4, 3] }", "the last axis has length 4"),
        (nodes, "false", "{ kind = 'cell', shape = [2, 3] }", "the last two axes are equal"),
        (nodes, "false", "{ kind = 'cell', shape = [3] }", "the last two axes are equal"),
        (nodes, "false", "{ kind = 'unit_vectors', shape = [] }", "no last axis"),
        (nodes, "false", "{ kind = 'smooth_image', shape = [8] }", "fewer axes than the grid, which has 2"),
        (nodes, "false", "{ kind = 'smooth_image', shape = [8, 8, 8, 8], grid = 4 }", "1, 2 or 3"),
        (nodes, "false", "{ kind = 'uniform', shape = [8], low = 2 }", "`low` = 2 is above `high` = 1"),
        (nodes, "false", "{ kind = 'positive', shape = [8], scale = 0 }", "a positive, finite number"),
        (nodes, "false", "{ kind = 'cell', dtype = 'complex64' }", "complex64 holds no real numbers"),
        (
            nodes,
            "false",
            "{ kind = 'random_graph', degree = 2, dtype = 'float32' }",
            "float32 holds no positions",
        ),
    ] {
        let text = refused(sizes, layout, generate);
        assert!(text.contains(why), "{generate}: {text}");
    }
}

#[test]
fn open_questions_are_read_and_named() {
    let text = "spec_version = 1\ngroup = \"?\"\nmodel = \"?\"\n[inputs]\na = \"?\"\n[inputs.pos]\nlayout = \"?\"\ngenerate = \
                { kind = \"?\", shape = \"?\" }\n[inputs.\"b.c\"]\nlayout = \"?\"\nfile = [\"x.npz\", \"?\"]\ndtype = \
                \"?\"\n[outputs]\ny = \"?\"\nz = { layout = \"vector\", tolerance = \"?\" }\n[sizes]\nnodes = \
                \"?\"\n[run]\nsamples = \"?\"\nsegments = { nodes = \"?\" }\n";
    let file = parsed(text);
    let questions = file.open_questions();
    let paths: Vec<&str> = questions.iter().map(|question| question.path.as_str()).collect();
    assert_eq!(
        paths,
        [
            "group",
            "model",
            "inputs.a",
            "inputs.pos.layout",
            "inputs.pos.generate.kind",
            "inputs.pos.generate.shape",
            "inputs.\"b.c\".layout",
            "inputs.\"b.c\".file.1",
            "inputs.\"b.c\".dtype",
            "outputs.y",
            "outputs.z.tolerance",
            "sizes.nodes",
            "run.samples",
            "run.segments.nodes",
        ]
    );
    for question in &questions {
        assert_eq!(&text[question.span.clone()], "\"?\"", "{}", question.path);
    }
    for refusal in [
        file.specification().err(),
        file.options().err(),
        file.samples(Path::new("."), &mut NoStructures).err(),
    ] {
        let error = refusal.expect("nothing is answered");
        let named: Vec<String> =
            questions.iter().map(|question| format!("`{}` has yet to be answered", question.path)).collect();
        let messages: Vec<&str> = error.problems().iter().map(|problem| problem.message.as_str()).collect();
        assert_eq!(messages, named);
    }
}

#[test]
fn an_error_as_text_says_line_and_column() {
    let error = wrong(
        "spec_version = 1\n# \u{e9}\n\u{22}\u{e9}\u{22} = 1\ngroup = 3\n[model]\nonnx = 1\n[inputs]\n[outputs]\n",
    );
    let text = error.to_text();
    assert!(text.contains("equicheck.toml:3:1: `\"\u{e9}\"` is no key of the file"), "{text}");
    assert!(text.contains("equicheck.toml:4:9: `group` is a string, found a whole number"), "{text}");
    assert_eq!(error.to_string(), "3 things are wrong in `equicheck.toml`");
    let missing = AuditFile::load(Path::new("nowhere/equicheck.toml")).expect_err("it is not there");
    assert!(missing.to_string().starts_with("cannot read `nowhere/equicheck.toml`: "), "{missing}");
    assert!(!drawn(&missing).is_empty());
}

/// Pieces that files are made of, and some that they are not.
const PIECES: [&str; 32] = [
    "\"?\"",
    "[",
    "]",
    "{",
    "}",
    "=",
    "\n",
    "\"",
    "'",
    "\"\"\"",
    "'''",
    "\\u00e9",
    "\\",
    "[inputs.pos]",
    "[[run]]",
    "nodes",
    "9223372036854775808",
    "-1",
    "1e999",
    "nan",
    "1979-05-27",
    "true",
    "false",
    ".",
    ",",
    "\u{1f600}",
    "\0",
    "\r\n",
    "kind = \"random_graph\"",
    "shape = [99999999999, 99999999999]",
    "layout = \"\\u00e9 ( x : ~\"",
    "[sizes]\nnodes = 1\n",
];

proptest! {
    /// Whatever is done to a file, it is read or refused, every place is one of the text, and every error can be drawn.
    #[test]
    fn no_file_is_too_odd(
        cuts in prop::collection::vec((any::<prop::sample::Index>(), 0..40usize, prop::sample::select(&PIECES[..])), 1..4)
    ) {
        let mut text = COMPLETE.to_owned();
        for (at, length, piece) in cuts {
            let boundaries: Vec<usize> = (0..=text.len()).filter(|k| text.is_char_boundary(*k)).collect();
            let start = at.index(boundaries.len());
            let end = (start + length).min(boundaries.len() - 1);
            text.replace_range(boundaries[start]..boundaries[end], piece);
        }
        let read = || -> Result<(), SpecError> {
            let file = AuditFile::parse(&text, "equicheck.toml")?;
            for question in file.open_questions() {
                assert_eq!(&text[question.span.clone()].trim_matches(['"', '\'', '\n', '\r']), &"?", "{text}");
            }
            file.options()?;
            samples_in(Path::new("nowhere"), &text).map(drop)
        };
        if let Err(error) = read() {
            for problem in error.problems() {
                prop_assert!(problem.span.as_ref().is_none_or(|span| text.get(span.clone()).is_some()));
            }
            prop_assert!(!error.problems().is_empty());
            prop_assert!(!drawn(&error).is_empty());
            prop_assert!(!error.to_text().is_empty());
        }
    }
}
