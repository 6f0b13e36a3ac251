//! The command as its users meet it: arguments in, streams, files and a status out.

#[path = "../../equicheck/tests/report/fixtures.rs"]
#[allow(dead_code, reason = "another test uses the rest")]
mod fixtures;

use std::collections::VecDeque;
use std::ffi::OsString;
use std::fs;
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::{Command, Stdio};

use equicheck::diagnosis::{Mode, page};
use equicheck::report::{
    ExitStatus, Report, Verdict, compare, comparison_to_json, comparison_to_markdown, comparison_to_text,
    from_json, modes_to_text, page_to_text, to_json, to_markdown, to_text,
};
use equicheck_cli::{CouldNotRun, Host, run};

/// A host with a Python function that does what the test says.
struct Fake {
    python: Result<Report, CouldNotRun>,
    targets: Vec<String>,
    /// What a person types, line by line; `None` where none sits there.
    answers: Option<VecDeque<String>>,
    stdout: Vec<u8>,
    stderr: Vec<u8>,
}

impl Host for Fake {
    fn run_python(&mut self, target: &str) -> Result<Report, CouldNotRun> {
        self.targets.push(target.to_owned());
        self.python.clone()
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
    targets: Vec<String>,
}

fn with_python(python: Result<Report, CouldNotRun>, args: &[&str]) -> Ended {
    let mut host = Fake { python, targets: vec![], answers: None, stdout: vec![], stderr: vec![] };
    let status = run(std::iter::once("equicheck").chain(args.iter().copied()).map(OsString::from), &mut host);
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Ended { status, stdout: text(host.stdout), stderr: text(host.stderr), targets: host.targets }
}

fn without_python(args: &[&str]) -> Ended {
    with_python(Err(CouldNotRun::Failed("no function is called here".to_owned())), args)
}

fn verdict(verdict: Verdict) -> Report {
    Report { verdict, ..fixtures::passing() }
}

/// A directory of this test's own.
fn directory(test: &str) -> PathBuf {
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(test);
    let _ = fs::remove_dir_all(&path);
    fs::create_dir_all(&path).unwrap();
    path
}

fn saved(test: &str, report: &Report) -> String {
    let path = directory(test).join("report.json");
    fs::write(&path, to_json(report)).unwrap();
    path.to_str().unwrap().to_owned()
}

/// One sentence, lowercase, from equicheck.
fn assert_sentence(stderr: &str) {
    let message = stderr.strip_prefix("equicheck: ").unwrap_or_else(|| panic!("{stderr:?}"));
    assert!(message.starts_with(|c: char| c.is_lowercase() || c == '`'), "{stderr}");
    assert_eq!(message.matches('\n').count(), 1, "{stderr}");
    assert!(message.ends_with('\n') && !message.ends_with(".\n"), "{stderr}");
}

#[test]
fn every_status_is_reached() {
    for expected in ExitStatus::ALL {
        // Exhaustive: a new status needs a way to reach it.
        let python = match expected {
            ExitStatus::Pass => Ok(verdict(Verdict::Pass)),
            ExitStatus::Fail => Ok(verdict(Verdict::Fail)),
            ExitStatus::NeedsAttention => Ok(verdict(Verdict::NeedsAttention)),
            ExitStatus::CouldNotRun => Err(CouldNotRun::Failed("audit.py raised ValueError: no".to_owned())),
            ExitStatus::Interrupted => Err(CouldNotRun::Interrupted),
        };
        let ended = with_python(python, &["run", "audit.py:audit"]);
        assert_eq!(ended.status, expected);
        assert_eq!(ended.targets, ["audit.py:audit"]);
        assert_eq!(ended.stdout.is_empty(), !ended.stderr.is_empty());
        if !ended.stderr.is_empty() {
            assert_sentence(&ended.stderr);
        }
    }
}

#[test]
fn allow_attention_turns_only_attention_into_success() {
    for (given, expected) in [
        (Verdict::Pass, ExitStatus::Pass),
        (Verdict::NeedsAttention, ExitStatus::Pass),
        (Verdict::Fail, ExitStatus::Fail),
    ] {
        let ended = with_python(Ok(verdict(given)), &["run", "m:f", "--allow-attention"]);
        assert_eq!(ended.status, expected, "{given}");
        let path = saved("allow_attention", &verdict(given));
        assert_eq!(without_python(&["show", &path, "--allow-attention"]).status, expected, "{given}");
    }
}

#[test]
fn show_renders_a_saved_report_and_exits_with_its_status() {
    let report = fixtures::failing();
    let path = saved("show", &report);
    for (format, expected) in
        [("text", to_text(&report)), ("markdown", to_markdown(&report)), ("json", to_json(&report))]
    {
        let ended = without_python(&["show", &path, "--format", format]);
        assert_eq!(ended.stdout, expected);
        assert_eq!((ended.status, ended.stderr.as_str()), (ExitStatus::Fail, ""));
    }
    assert_eq!(without_python(&["show", &path]).stdout, to_text(&report));
}

#[test]
fn output_is_written_in_the_format_of_its_ending() {
    let report = fixtures::passing();
    let folder = directory("endings");
    for (file, extra, expected) in [
        ("report.txt", vec![], to_text(&report)),
        ("report.MD", vec![], to_markdown(&report)),
        ("report.json", vec![], to_json(&report)),
        ("report.json", vec!["--format", "text"], to_text(&report)),
        ("report", vec!["--format", "markdown"], to_markdown(&report)),
    ] {
        let path = folder.join(file);
        let mut args = vec!["run", "m:f", "--output", path.to_str().unwrap()];
        args.extend(extra);
        let ended = with_python(Ok(report.clone()), &args);
        assert_eq!(ended.status, ExitStatus::Pass, "{}", ended.stderr);
        assert_eq!(fs::read_to_string(&path).unwrap(), expected);
        assert!(ended.stdout.starts_with("OVERALL VERDICT: PASS ("), "{}", ended.stdout);
    }
}

#[test]
fn a_doomed_output_is_refused_before_the_audit() {
    let folder = directory("doomed");
    let absent = folder.join("absent/report.txt");
    for (path, expected) in [
        (absent.as_path(), "does not exist"),
        (folder.as_path(), "--format"),
        (&folder.join("x.pdf"), "--format"),
    ] {
        let ended = with_python(Ok(fixtures::passing()), &["run", "m:f", "--output", path.to_str().unwrap()]);
        assert_eq!(ended.status, ExitStatus::CouldNotRun);
        assert!(ended.targets.is_empty(), "the audit ran");
        assert!(ended.stderr.contains(expected), "{}", ended.stderr);
        assert_sentence(&ended.stderr);
    }
    let ended = with_python(
        Ok(fixtures::passing()),
        &["run", "m:f", "--format", "text", "--output", folder.to_str().unwrap()],
    );
    assert!(ended.targets.is_empty() && ended.stderr.contains("is a directory"), "{}", ended.stderr);
}

/// A directory that appears while the audit runs makes the file unwritable for any user.
#[test]
fn a_report_that_cannot_be_written_is_printed() {
    struct Spoiler(Fake, PathBuf);
    impl Host for Spoiler {
        fn run_python(&mut self, target: &str) -> Result<Report, CouldNotRun> {
            fs::create_dir(&self.1).unwrap();
            self.0.run_python(target)
        }
        fn stdout(&mut self) -> &mut dyn Write {
            self.0.stdout()
        }
        fn stderr(&mut self) -> &mut dyn Write {
            self.0.stderr()
        }
    }
    let path = directory("unwritable").join("report.txt");
    let report = fixtures::passing();
    let fake =
        Fake { python: Ok(report.clone()), targets: vec![], answers: None, stdout: vec![], stderr: vec![] };
    let mut host = Spoiler(fake, path.clone());
    let args = ["equicheck", "run", "m:f", "--output", path.to_str().unwrap()].map(OsString::from);
    assert_eq!(run(args, &mut host), ExitStatus::CouldNotRun);
    assert_eq!(String::from_utf8(host.0.stdout).unwrap(), to_text(&report));
    let stderr = String::from_utf8(host.0.stderr).unwrap();
    assert!(stderr.contains("cannot write `"), "{stderr}");
    assert_sentence(&stderr);
}

#[test]
fn what_cannot_be_shown_says_why() {
    let folder = directory("unreadable");
    let write = |name: &str, bytes: &[u8]| {
        let path = folder.join(name);
        fs::write(&path, bytes).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let newer = to_json(&fixtures::passing()).replacen("\"format_version\": 1", "\"format_version\": 2", 1);
    for (path, expected) in [
        (folder.join("absent.json").to_str().unwrap().to_owned(), "no such file"),
        (folder.to_str().unwrap().to_owned(), "is a directory"),
        (write("cut.json", b"{\"format_version\": 1,"), "not a JSON file"),
        (write("other.json", b"{}"), "not an equicheck report"),
        (write("newer.json", newer.as_bytes()), "format version 2"),
        (write("latin1.json", b"\xe9"), "valid UTF-8"),
    ] {
        let ended = without_python(&["show", &path]);
        assert_eq!(ended.status, ExitStatus::CouldNotRun);
        assert!(ended.stderr.contains(expected) && ended.stderr.contains(&path), "{}", ended.stderr);
        assert_sentence(&ended.stderr);
        assert_eq!(ended.stdout, "");
    }
}

#[test]
fn usage_errors_are_not_verdicts() {
    for args in [
        &["--no-such-flag"][..],
        &[],
        &["no-such-command"],
        &["show"],
        &["show", "x.json", "--format", "html"],
        &["run", "m:f", "extra"],
    ] {
        let ended = without_python(args);
        assert_eq!(ended.status, ExitStatus::CouldNotRun, "{args:?}");
        assert!(!ended.stderr.is_empty() && ended.stdout.is_empty(), "{args:?}");
    }
    for target in ["audit.py", ":f", "audit.py:", "", "line\nbreak"] {
        let ended = with_python(Ok(fixtures::passing()), &["run", target]);
        assert_eq!(ended.status, ExitStatus::CouldNotRun, "{target}");
        assert!(ended.targets.is_empty(), "{target}");
        assert_sentence(&ended.stderr);
    }
}

#[test]
fn help_and_version_succeed_and_help_ends_with_the_table() {
    for args in [
        &["--help"][..],
        &["-h"],
        &["run", "--help"],
        &["compare", "--help"],
        &["explain", "--help"],
        &["show", "--help"],
        &["help"],
    ] {
        let ended = without_python(args);
        assert_eq!((ended.status, ended.stderr.as_str()), (ExitStatus::Pass, ""), "{args:?}");
        assert!(ended.stdout.trim_end().ends_with(ExitStatus::table_text().trim_end()), "{}", ended.stdout);
        assert!(ended.stdout.lines().all(|line| line.len() <= 100), "{}", ended.stdout);
    }
    let ended = without_python(&["--version"]);
    assert_eq!(ended.status, ExitStatus::Pass);
    assert_eq!(ended.stdout, format!("equicheck {}\n", env!("CARGO_PKG_VERSION")));
}

/// A standard output that fails as told.
struct Closed(Vec<u8>, io::ErrorKind);

impl Write for Closed {
    fn write(&mut self, _: &[u8]) -> io::Result<usize> {
        Err(self.1.into())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn only_a_closed_pipe_is_quiet() {
    struct Piped(Closed);
    impl Host for Piped {
        fn run_python(&mut self, _: &str) -> Result<Report, CouldNotRun> {
            Ok(fixtures::failing())
        }
        fn stdout(&mut self) -> &mut dyn Write {
            &mut self.0
        }
        fn stderr(&mut self) -> &mut dyn Write {
            &mut self.0.0
        }
    }
    for (kind, status, quiet) in [
        (io::ErrorKind::BrokenPipe, ExitStatus::Fail, true),
        (io::ErrorKind::StorageFull, ExitStatus::CouldNotRun, false),
    ] {
        let mut host = Piped(Closed(vec![], kind));
        assert_eq!(run(["equicheck", "run", "m:f"].map(OsString::from), &mut host), status);
        let stderr = String::from_utf8(host.0.0).unwrap();
        assert_eq!(stderr.is_empty(), quiet, "{stderr}");
        if !quiet {
            assert_sentence(&stderr);
        }
    }
}

#[test]
fn explain_lists_modes_and_shows_their_pages() {
    let ended = without_python(&["explain"]);
    assert_eq!((ended.status, ended.stdout), (ExitStatus::Pass, modes_to_text()));
    for mode in Mode::ALL {
        let ended = without_python(&["explain", mode.id()]);
        assert_eq!((ended.status, ended.stdout), (ExitStatus::Pass, page_to_text(page(*mode), None)));
    }
    for written in ["PARITY", "Parity", " parity "] {
        let ended = without_python(&["explain", written]);
        assert_eq!(ended.stdout, page_to_text(page(Mode::Parity), None), "{written}");
    }
    let ended = without_python(&["explain", "padding-boundary", "--markdown"]);
    assert_eq!(ended.stdout, page(Mode::PaddingBoundary).text);
    let ended = without_python(&["explain", "parity", "--library", "E3NN"]);
    let expected = page_to_text(page(Mode::Parity), Some(equicheck::diagnosis::Library::E3nn));
    assert_eq!((ended.status, ended.stdout), (ExitStatus::Pass, expected));
}

#[test]
fn explain_names_the_nearest_mode() {
    for (args, said) in [
        (&["explain", "pariti"][..], "`pariti` is no failure mode: did you mean `parity`?"),
        (&["explain", "xyzzy"], "`xyzzy` is no failure mode: `equicheck explain` lists them"),
        (&["explain", "parity", "--library", "e2nn"], "did you mean `e3nn`?"),
        (&["explain", "--library", "e3nn"], "<MODE>"),
        (&["explain", "parity", "--markdown", "--library", "e3nn"], "cannot be used with"),
    ] {
        let ended = without_python(args);
        assert_eq!((ended.status, ended.stdout.as_str()), (ExitStatus::CouldNotRun, ""), "{args:?}");
        assert!(ended.stderr.contains(said), "{}", ended.stderr);
    }
}

#[test]
fn compare_says_whether_a_change_helped() {
    let folder = directory("compare");
    let write = |name: &str, report: &Report| {
        let path = folder.join(name);
        fs::write(&path, to_json(report)).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let (bad, good) = (write("bad.json", &fixtures::failing()), write("good.json", &fixtures::passing()));
    let helped = compare(&fixtures::failing(), &fixtures::passing()).unwrap();
    let spoilt = compare(&fixtures::passing(), &fixtures::failing()).unwrap();
    for (before, after, status, expected) in [
        (&bad, &good, ExitStatus::Pass, &helped),
        (&good, &bad, ExitStatus::Fail, &spoilt),
        // FAIL before and after: nothing got worse.
        (&bad, &bad, ExitStatus::Pass, &compare(&fixtures::failing(), &fixtures::failing()).unwrap()),
    ] {
        let ended = without_python(&["compare", before, after]);
        assert_eq!((ended.status, ended.stderr.as_str()), (status, ""));
        assert_eq!(ended.stdout, comparison_to_text(expected));
        let json = without_python(&["compare", before, after, "--format", "json"]);
        assert_eq!((json.status, json.stdout), (status, comparison_to_json(expected)));
        let path = folder.join("comparison.md");
        let file = without_python(&["compare", before, after, "--output", path.to_str().unwrap()]);
        assert_eq!(file.status, status);
        let result = if status == ExitStatus::Fail { "REGRESSION" } else { "no regression" };
        assert!(file.stdout.starts_with(&format!("RESULT: {result} (comparison in ")), "{}", file.stdout);
        assert_eq!(fs::read_to_string(&path).unwrap(), comparison_to_markdown(expected));
    }
}

#[test]
fn what_cannot_be_compared_says_why() {
    let folder = directory("incomparable");
    let write = |name: &str, text: &str| {
        let path = folder.join(name);
        fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let good = write("good.json", &to_json(&fixtures::passing()));
    let other = write("other.json", &to_json(&fixtures::cut_by_budget()));
    let absent = folder.join("absent.json").to_str().unwrap().to_owned();
    for (before, after, said) in [
        (&good, &absent, "absent.json`: no such file"),
        (&absent, &good, "absent.json`: no such file"),
        (&good, &write("no.json", "{}"), "no.json`: not an equicheck report"),
        (&good, &other, "the group is `E(3) x S(nodes)` before and `SO(3)` after"),
    ] {
        let ended = without_python(&["compare", before, after]);
        assert_eq!((ended.status, ended.stdout.as_str()), (ExitStatus::CouldNotRun, ""));
        assert!(ended.stderr.contains(said), "{}", ended.stderr);
        assert_sentence(&ended.stderr);
    }
    assert_eq!(without_python(&["compare", &good]).status, ExitStatus::CouldNotRun);
}

fn binary() -> Command {
    Command::new(env!("CARGO_BIN_EXE_equicheck"))
}

#[test]
fn the_process_exits_with_the_code() {
    for (given, code) in [(Verdict::Pass, 0), (Verdict::Fail, 1), (Verdict::NeedsAttention, 2)] {
        let path = saved("process", &verdict(given));
        let output = binary().args(["show", &path, "--format", "json"]).output().unwrap();
        assert_eq!(output.status.code(), Some(code));
        let shown = from_json(std::str::from_utf8(&output.stdout).unwrap()).unwrap();
        assert_eq!(shown, verdict(given));
    }
    assert_eq!(binary().arg("--no-such-flag").output().unwrap().status.code(), Some(3));
    assert_eq!(binary().arg("--version").output().unwrap().status.code(), Some(0));
}

#[test]
fn the_process_without_python_names_the_wheel() {
    let output = binary().args(["run", "audit.py:audit"]).output().unwrap();
    assert_eq!(output.status.code(), Some(3));
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(stderr, "equicheck: `run` needs Python: pip install equicheck\n");
}

/// The reader goes away before the report, larger than a pipe's buffer, is through.
#[test]
fn the_process_survives_a_closed_pipe() {
    let mut report = fixtures::failing();
    report.notes = vec!["a long note ".repeat(100); 1000];
    let path = saved("pipe", &report);
    let mut child =
        binary().args(["show", &path]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!(String::from_utf8(output.stderr).unwrap(), "");
    assert_eq!(output.status.code(), Some(1));
}

/// Set `EQUICHECK_UPDATE_DOCS` to write the page instead of comparing it.
#[test]
fn the_documented_table_is_the_code_s() {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../docs/exit-status.md");
    if std::env::var_os("EQUICHECK_UPDATE_DOCS").is_some() {
        fs::write(&path, ExitStatus::table_markdown()).unwrap();
    }
    let page = fs::read_to_string(&path).unwrap();
    assert_eq!(page, ExitStatus::table_markdown(), "run this test with EQUICHECK_UPDATE_DOCS=1");
}
