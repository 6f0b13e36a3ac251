//! From an ONNX file to a verdict, with and without a person at the terminal.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use equicheck::report::{ExitStatus, Verdict, from_json};
use equicheck_cli::{CouldNotRun, Host, run};

/// A process with or without a person who types.
#[derive(Default)]
struct Terminal {
    answers: Option<VecDeque<String>>,
    stdout: Vec<u8>,
    stderr: Vec<u8>,
}

impl Host for Terminal {
    fn site_packages(&mut self) -> Vec<PathBuf> {
        let library = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../.venv/lib");
        let versions = fs::read_dir(library).into_iter().flatten().flatten();
        versions.map(|version| version.path().join("site-packages")).collect()
    }

    fn is_interactive(&self) -> bool {
        self.answers.is_some()
    }

    fn read_line(&mut self) -> Result<Option<String>, CouldNotRun> {
        Ok(self.answers.as_mut().and_then(VecDeque::pop_front))
    }

    fn stdout(&mut self) -> &mut dyn Write {
        &mut self.stdout
    }

    fn stderr(&mut self) -> &mut dyn Write {
        &mut self.stderr
    }
}

struct Ended {
    status: ExitStatus,
    stdout: String,
    stderr: String,
}

fn ended(host: Terminal, args: &[&str]) -> Ended {
    let mut host = host;
    let status = run(std::iter::once("equicheck").chain(args.iter().copied()).map(OsString::from), &mut host);
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Ended { status, stdout: text(host.stdout), stderr: text(host.stderr) }
}

fn alone(args: &[&str]) -> Ended {
    ended(Terminal::default(), args)
}

fn with_answers(answers: &[&str], args: &[&str]) -> Ended {
    let answers = Some(answers.iter().map(|&answer| answer.to_owned()).collect());
    ended(Terminal { answers, ..Terminal::default() }, args)
}

/// A directory of this test's own, with a model of equicheck-onnx's tests in it.
fn directory(test: &str, model: &str) -> (PathBuf, String) {
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("onnx-{test}"));
    let _ = fs::remove_dir_all(&path);
    fs::create_dir_all(&path).unwrap();
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../equicheck-onnx/tests/data").join(model);
    fs::copy(source, path.join(model)).unwrap();
    let target = path.join(model).to_str().unwrap().to_owned();
    (path, target)
}

fn file(folder: &Path) -> String {
    folder.join("equicheck.toml").to_str().unwrap().to_owned()
}

/// Answers for the exported EGNN: the group, three inputs, two outputs.
const EGNN: [&str; 6] = ["E(3) x S(nodes)", "nodes point", "nodes channel", "1", "nodes point", "\"\""];

#[test]
fn a_person_answers_and_the_audit_passes_on_both_backends() {
    let (folder, model) = directory("answers", "egnn.onnx");
    let written = with_answers(&EGNN, &["init", &model, "--output", &file(&folder)]);
    assert_eq!(written.status, ExitStatus::Pass, "{}", written.stderr);
    assert!(written.stdout.contains("`equicheck audit` runs it"), "{}", written.stdout);
    insta::assert_snapshot!("egnn_session", written.stderr);
    insta::assert_snapshot!("egnn_file", fs::read_to_string(file(&folder)).unwrap());
    for backend in ["tract", "onnxruntime"] {
        let report = folder.join(format!("{backend}.json"));
        let args = ["audit", &file(&folder), "--samples", "4", "--transforms", "6", "--backend", backend];
        let done = alone(&[&args[..], &["--output", report.to_str().unwrap()]].concat());
        assert_eq!(done.status, ExitStatus::Pass, "{backend}: {}{}", done.stdout, done.stderr);
        let report = from_json(&fs::read_to_string(report).unwrap()).unwrap();
        assert_eq!(report.verdict, Verdict::Pass);
        assert!(report.environment.contains_key(backend), "{:?}", report.environment);
    }
}

#[test]
fn a_leak_fails() {
    let (folder, model) = directory("leak", "egnn_leak.onnx");
    with_answers(&EGNN, &["init", &model, "--output", &file(&folder)]);
    let done = alone(&["audit", &file(&folder), "--samples", "4", "--transforms", "6"]);
    assert_eq!(done.status, ExitStatus::Fail, "{}", done.stderr);
    assert!(done.stdout.contains("OVERALL VERDICT: FAIL"));
    assert_eq!(done.stdout.matches("- equicheck: ").count(), 1, "{}", done.stdout);
}

#[test]
fn without_a_person_every_question_is_named() {
    let (folder, model) = directory("open", "egnn.onnx");
    let written = alone(&["init", &model, "--output", &file(&folder)]);
    assert_eq!(written.status, ExitStatus::Pass);
    assert!(written.stdout.contains("6 answers are open"), "{}", written.stdout);
    let refused = alone(&["audit", &file(&folder)]);
    assert_eq!((refused.status, refused.stdout.as_str()), (ExitStatus::CouldNotRun, ""));
    for path in ["group", "inputs.pos.layout", "inputs.features.layout", "inputs.edges.layout"] {
        assert!(refused.stderr.contains(path), "{path}: {}", refused.stderr);
    }
    let again = alone(&["init", &model, "--output", &file(&folder)]);
    assert!(again.stderr.contains("is there already"), "{}", again.stderr);
}

/// The first half of the answers, then nothing: what was said stays.
#[test]
fn the_end_of_input_leaves_the_rest_open() {
    let (folder, model) = directory("end", "egnn.onnx");
    let written = with_answers(&EGNN[..3], &["init", &model, "--output", &file(&folder)]);
    assert!(written.stdout.contains("3 answers are open"), "{}", written.stdout);
    let text = fs::read_to_string(file(&folder)).unwrap();
    assert!(text.contains("layout = \"nodes point\"") && text.contains("x = \"?\""), "{text}");
}

#[test]
fn slips_are_explained_and_asked_again() {
    let (folder, model) = directory("slips", "egnn.onnx");
    let answers =
        ["Q(3)", "E(3) x S(nodes)", "nodes pont", "nodes point vector", "nodes point", "9", "", "-", "", ""];
    let written = with_answers(&answers, &["init", &model, "--output", &file(&folder)]);
    assert_eq!(written.status, ExitStatus::Pass);
    for said in ["is not a group known here", "did you mean `point`?", "does not fit shape"] {
        assert!(written.stderr.contains(said), "{said}: {}", written.stderr);
    }
    let text = fs::read_to_string(file(&folder)).unwrap();
    assert!(text.contains("layout = false"), "{text}");
}

#[test]
fn the_plan_is_said_and_nothing_more() {
    let (folder, model) = directory("plan", "circular.onnx");
    let answers =
        ["T(2)", "batch channel height width", "periodic", "batch channel height width", "batch channel"];
    let written = with_answers(&answers, &["init", &model, "--output", &file(&folder)]);
    assert_eq!(written.status, ExitStatus::Pass, "{}", written.stderr);
    let plan = alone(&["audit", &file(&folder), "--plan", "--samples", "2", "--transforms", "5"]);
    assert_eq!(plan.status, ExitStatus::Pass, "{}", plan.stderr);
    assert!(plan.stdout.contains("Group: T(2)") && plan.stdout.contains("of 2 samples"), "{}", plan.stdout);
    let done = alone(&["audit", &file(&folder), "--samples", "2", "--transforms", "5"]);
    assert_eq!(done.status, ExitStatus::Pass, "{}", done.stdout);
}

#[test]
fn what_is_wrong_with_the_model_is_one_sentence() {
    let (folder, model) = directory("damaged", "egnn.onnx");
    let whole = fs::read(&model).unwrap();
    with_answers(&EGNN, &["init", &model, "--output", &file(&folder)]);
    let audit = |bytes: &[u8]| {
        fs::write(&model, bytes).unwrap();
        alone(&["audit", &file(&folder), "--samples", "2", "--transforms", "2"])
    };
    for bytes in [&whole[..whole.len() / 2], b"", b"no model at all"] {
        let refused = audit(bytes);
        assert_eq!(
            (refused.status, refused.stdout.as_str()),
            (ExitStatus::CouldNotRun, ""),
            "{}",
            refused.stderr
        );
        assert!(
            refused.stderr.starts_with("equicheck: ") && refused.stderr.contains("egnn.onnx"),
            "{}",
            refused.stderr
        );
    }
    let (folder, unknown) = directory("unknown", "unknown.onnx");
    alone(&["init", &unknown, "--output", &file(&folder), "--group", "Z2"]);
    let text = fs::read_to_string(file(&folder)).unwrap().replace("\"?\"", "\"...\"");
    fs::write(file(&folder), text).unwrap();
    let refused = alone(&["audit", &file(&folder)]);
    assert_eq!(refused.status, ExitStatus::CouldNotRun);
    assert!(refused.stderr.contains("at node `"), "{}", refused.stderr);
}

#[test]
fn inputs_that_do_not_fit_the_graph_are_named() {
    let (folder, model) = directory("names", "egnn.onnx");
    with_answers(&EGNN, &["init", &model, "--output", &file(&folder)]);
    let text = fs::read_to_string(file(&folder)).unwrap();
    for (from, to, said) in [
        ("[inputs.pos]", "[inputs.position]", "has no input `position`; its inputs are pos, features, edges"),
        ("x = \"nodes point\"", "y = \"nodes point\"", "returned no output `y`"),
        ("energy = \"\"", "energy = \"\"\nnothing = false", "returned no output `nothing`"),
        ("dtype = \"float32\"", "dtype = \"float64\"", "input `pos` is float64, and the model takes float32"),
    ] {
        fs::write(file(&folder), text.replace(from, to)).unwrap();
        let refused = alone(&["audit", &file(&folder)]);
        assert_eq!(refused.status, ExitStatus::CouldNotRun);
        assert!(refused.stderr.contains(said), "{}", refused.stderr);
        // The place is shown, where the file has one.
        let line = to.lines().last().unwrap();
        assert!(said.contains("has no input") || refused.stderr.contains(line), "{}", refused.stderr);
    }
}

#[test]
fn a_library_beside_the_backend_that_does_not_use_it_is_refused() {
    let (folder, model) = directory("library", "egnn.onnx");
    with_answers(&EGNN, &["init", &model, "--output", &file(&folder), "--backend", "tract"]);
    for (more, said) in
        [(&[][..], "backend = \"tract\" of the audit file"), (&["--backend", "tract"], "--backend tract")]
    {
        let refused = alone(&[&["audit", &file(&folder), "--onnxruntime", "lib.so"][..], more].concat());
        assert_eq!(refused.status, ExitStatus::CouldNotRun);
        assert!(refused.stderr.contains(&format!("that {said} does not use")), "{}", refused.stderr);
    }
}

#[test]
fn labels_of_graphs_are_asked_for() {
    let (folder, model) = directory("segments", "embedding.onnx");
    let answers = ["S(nodes)", "nodes", "nodes", "y", "nodes channel", "nodes"];
    let written = with_answers(&answers, &["init", &model, "--output", &file(&folder)]);
    assert_eq!(written.status, ExitStatus::Pass, "{}", written.stderr);
    let question = "Does `numbers` say which graph of a batch each entry of `nodes` belongs to?";
    assert!(written.stderr.contains(question), "{}", written.stderr);
    let text = fs::read_to_string(file(&folder)).unwrap();
    assert!(text.contains("segments = { nodes = \"numbers\" }"), "{text}");
    let done = alone(&["audit", &file(&folder), "--samples", "2", "--transforms", "4"]);
    assert_ne!(done.status, ExitStatus::CouldNotRun, "{}", done.stderr);
}

/// The engine knows inputs by their place in the audit file, the graph by its own.
#[test]
fn inputs_may_be_listed_in_another_order_than_the_graph_s() {
    let (folder, model) = directory("order", "egnn.onnx");
    with_answers(&EGNN, &["init", &model, "--output", &file(&folder)]);
    let text = fs::read_to_string(file(&folder)).unwrap();
    let start = text.find("[inputs.pos]").unwrap();
    let (next, end) = (text.find("[inputs.features]").unwrap(), text.find("[outputs]").unwrap());
    let other = [&text[..start], &text[next..end], &text[start..next], &text[end..]].concat();
    assert_ne!(other, text);
    fs::write(file(&folder), other).unwrap();
    let done = alone(&["audit", &file(&folder), "--samples", "2", "--transforms", "4"]);
    assert_eq!(done.status, ExitStatus::Pass, "{}{}", done.stdout, done.stderr);
}

/// A seed on the command line draws other samples too.
#[test]
fn a_seed_draws_other_samples() {
    let (folder, model) = directory("seed", "egnn.onnx");
    with_answers(&EGNN, &["init", &model, "--output", &file(&folder)]);
    let norm = |seed: &str| {
        let args = [
            "audit",
            &file(&folder),
            "--samples",
            "1",
            "--transforms",
            "1",
            "--seed",
            seed,
            "--format",
            "json",
        ];
        let report = from_json(&alone(&args).stdout).unwrap();
        report.outputs.iter().map(|output| output.scale).collect::<Vec<f64>>()
    };
    assert_eq!(norm("1"), norm("1"));
    assert_ne!(norm("1"), norm("2"));
}

#[test]
fn a_plan_has_no_report_to_deliver() {
    let refused = alone(&["audit", "x.toml", "--plan", "--output", "x.json"]);
    assert_eq!(refused.status, ExitStatus::CouldNotRun);
    assert!(refused.stderr.contains("--output"), "{}", refused.stderr);
}

#[test]
fn models_in_python_need_python() {
    let (folder, model) = directory("python", "egnn.onnx");
    for args in [
        &["init", "package.module:factory", "--output", &file(&folder)][..],
        &["parity", &model, "package.module:factory"],
    ] {
        let refused = alone(args);
        assert_eq!(refused.status, ExitStatus::CouldNotRun);
        assert!(refused.stderr.contains("needs Python: pip install equicheck"), "{}", refused.stderr);
    }
}

#[test]
fn every_shell_has_completions() {
    for shell in ["bash", "zsh", "fish", "powershell", "elvish"] {
        let script = alone(&["completions", shell]);
        assert_eq!(script.status, ExitStatus::Pass);
        assert!(script.stdout.contains("equicheck") && script.stdout.contains("parity"), "{shell}");
    }
}
