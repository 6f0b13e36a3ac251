//! `equicheck template`: what it writes, and what it refuses. `tests/test_templates.py` runs what it writes.

use std::ffi::OsString;
use std::fs;
use std::io::Write;
use std::path::PathBuf;

use equicheck::report::ExitStatus;
use equicheck::spec::AuditFile;
use equicheck_cli::{Host, run};

#[derive(Default)]
struct Streams {
    stdout: Vec<u8>,
    stderr: Vec<u8>,
}

impl Host for Streams {
    fn stdout(&mut self) -> &mut dyn Write {
        &mut self.stdout
    }

    fn stderr(&mut self) -> &mut dyn Write {
        &mut self.stderr
    }
}

fn command(args: &[&str]) -> (ExitStatus, String, String) {
    let mut host = Streams::default();
    let args = ["equicheck", "template"].iter().chain(args).map(OsString::from);
    let status = run(args, &mut host);
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (status, text(host.stdout), text(host.stderr))
}

fn written(args: &[&str]) -> String {
    let (status, stdout, stderr) = command(args);
    assert_eq!((status, stderr.as_str()), (ExitStatus::Pass, ""), "{args:?}");
    stdout
}

fn refused(args: &[&str]) -> String {
    let (status, stdout, stderr) = command(args);
    assert_eq!((status, stdout.as_str()), (ExitStatus::CouldNotRun, ""), "{args:?}\n{stderr}");
    stderr
}

const KINDS: [&str; 4] = ["pytest", "script", "toml", "notebook"];

#[test]
fn without_options() {
    for kind in KINDS {
        for framework in ["torch", "numpy"] {
            insta::assert_snapshot!(
                format!("{kind}_{framework}"),
                written(&[kind, "--framework", framework])
            );
        }
        assert_eq!(written(&[kind]), written(&[kind, "--framework", "torch"]));
    }
}

/// Graphs, crystals, images, momenta, quaternions, charges, flattened axes, one after the other.
const TENSORS: [&[&str]; 8] = [
    &[
        "--group",
        "SE(3) x S(nodes)",
        "--input",
        "pos=nodes point",
        "--input",
        "edge_index=2 edges : nodes",
        "--input",
        "edge_attr=edges features",
        "--input",
        "dtype=false",
        "--output",
        "output=nodes 8x0e+4x1o",
    ],
    &[
        "--group",
        "E(3) x S(atoms)",
        "--input",
        "x=atoms fractional(cell)",
        "--input",
        "cell=3 vector",
        "--output",
        "stress=vector vector",
        "--output",
        "aux.0=atoms",
        "--output",
        "aux.1=false",
    ],
    &["--group", "T(2) x C4", "--input", "0=batch channel height width", "--output", "output=batch classes"],
    &[
        "--group",
        "SO+(1,3) x S(particles)",
        "--input",
        "p=particles vector",
        "--output",
        "0=",
        "--output",
        "1=vector",
    ],
    &[
        "--group",
        "SO(3)",
        "--input",
        "q=nodes quaternion",
        "--input",
        "v=(graphs 3) vector",
        "--output",
        "y=",
    ],
    &[
        "--group",
        "U(1) x Z2",
        "--input",
        "z=channel charge^1",
        "--input",
        "s=features sign",
        "--output",
        "y=",
    ],
    &[
        "--group",
        "S(nodes)",
        "--input",
        "graph.x=nodes features",
        "--input",
        "graph.label=nodes : nodes",
        "--input",
        "t=time",
        "--input",
        "u=",
        "--output",
        "y=(nodes 2)",
    ],
    &["--group", "generated(seed: [1, 2, 3, 0])", "--input", "x=seed features", "--output", "y=seed"],
];

#[test]
fn tensors_of_all_kinds() {
    for (k, tensors) in TENSORS.iter().enumerate() {
        for kind in ["script", "toml"] {
            for framework in ["torch", "numpy"] {
                let args = [&[kind, "--model", "my.module:net", "--framework", framework], *tensors].concat();
                let text = written(&args);
                if framework == "torch" || kind == "script" {
                    insta::assert_snapshot!(format!("tensors_{k}_{kind}_{framework}"), text);
                }
            }
        }
    }
}

#[test]
fn an_audit_file_says_what_was_asked() {
    let onnx = written(&["toml", "--model", "dir/net.onnx"]);
    let file = AuditFile::parse(&onnx, "x").unwrap();
    assert_eq!(file.model.onnx.get().map(String::as_str), Some("dir/net.onnx"));
    let quotes = "nets.py:a\"b\\c";
    let file =
        written(&["toml", "--model", quotes, "--input", "x y=nodes point", "--input", "h=nodes features"]);
    let file = AuditFile::parse(&file, "x").unwrap();
    assert_eq!(file.model.python.get().map(String::as_str), Some(quotes));
    assert_eq!(file.inputs[0].0, "x y");
}

#[test]
fn models_are_imported_by_name() {
    for (model, lines) in [
        (
            "my.module:net",
            "from my.module import net  # a function that takes a dtype and returns the model\n",
        ),
        ("nets.py:net", "sys.path.insert(0, \".\")\nfrom nets import net  #"),
        ("a \"b\"/nets.py:net", "sys.path.insert(0, \"a \\\"b\\\"\")\nfrom nets import net  #"),
        // A name that the template has another use for.
        ("my:audit", "from my import audit as build  #"),
    ] {
        let text = written(&["script", "--model", model]);
        assert!(text.contains(lines), "{text}");
        let name = if model.ends_with("audit") { "build" } else { "net" };
        assert!(text.contains(&format!("        {name}(torch.float32),\n")), "{text}");
        assert!(!text.contains("class Network"), "{text}");
    }
}

#[test]
fn wrong_words_are_errors_as_elsewhere() {
    let model = ["--model", "m:f"];
    for (args, said) in [
        (&["pytest", "--group", "SO(3) x Q(4)"][..], "Q"),
        (&["toml", "--input", "x=nodes pont"], "did you mean `point`?"),
        (&["toml", "--output", "y=nodes vectr"], "layout of output `y`"),
        (&["script", "--group", "E(3) x S(atoms)"], "`atoms`"),
        (&["script", "--input", "x"], "expected NAME=LAYOUT"),
        (&["script", "--input", "=nodes"], "expected NAME=LAYOUT"),
        (&["script", "--input", "x=nodes point", "--input", "x=nodes"], "input `x` is given twice"),
        (
            &["script", "--input", "x y=nodes point"],
            "input `x y` cannot be the name of a parameter in Python",
        ),
        (&["script", "--input", "class=nodes point"], "input `class` cannot be"),
        (&["script", "--input", "x=nodes point", "--output", "a=", "--output", "a.b="], "`a.b` is a tensor"),
    ] {
        let stderr = refused(&[args, &model[..]].concat());
        assert!(stderr.contains(said), "{args:?}\n{stderr}");
    }
    for (args, said) in [
        (&["pytest", "--model", "net.onnx"][..], "`equicheck template toml` is for it"),
        (&["script", "--model", "net"], "names no function"),
        (&["script", "--model", "my-net.py:f"], "cannot be imported by its name"),
        (&["script", "--model", "net.py:lambda"], "cannot be imported by its name"),
        (&["script", "--input", "x=nodes vector"], "name yours with --model"),
        (&["html"], "invalid value 'html'"),
        (&["script", "--framework", "jax"], "invalid value 'jax'"),
        (&["script", "--force"], "--file"),
    ] {
        let stderr = refused(args);
        assert!(stderr.contains(said), "{args:?}\n{stderr}");
    }
}

#[test]
fn a_file_is_written_and_not_written_over() {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("templates");
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder).unwrap();
    let path = folder.join("test_symmetry.py");
    let file = path.to_str().unwrap();
    let said = written(&["pytest", "-o", file]);
    assert_eq!(said, format!("wrote {file}; `pytest {file}` runs it\n"));
    assert_eq!(fs::read_to_string(&path).unwrap(), written(&["pytest"]));
    assert!(refused(&["script", "-o", file]).contains("is there already: --force writes over it"));
    written(&["script", "-o", file, "--force"]);
    assert_eq!(fs::read_to_string(&path).unwrap(), written(&["script"]));
    let absent = folder.join("absent/x.py");
    assert!(refused(&["script", "-o", absent.to_str().unwrap()]).contains("its directory does not exist"));
}
