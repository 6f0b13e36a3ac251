//! What the keys of an audit file must be to each other.

use std::ops::Range;

use crate::error::nearest;
use crate::model::DType;

use super::cast::holds;
use super::error::Problem;
use super::generators::{Bound, Generate};
use super::read::{Said, shown};
use super::tables::{Backend, Declared, Length, RandomnessWord};
use super::{AuditFile, SPEC_VERSION};

/// What a random graph calls its number of edges unless told otherwise.
pub(crate) const EDGES: &str = "edges";
/// What the axis of nodes is called unless told otherwise.
pub(crate) const NODES: &str = "nodes";

/// Adds a problem at a value, if it is there and does not hold.
fn expect<T: Copy>(
    problems: &mut Vec<Problem>,
    path: &str,
    said: &Said<T>,
    holds: impl Fn(T) -> bool,
    why: &str,
) {
    if let (Some(value), Some(span)) = (said.get(), said.span())
        && !holds(*value)
    {
        problems.push(Problem::at(span, format!("`{path}`: {why}")));
    }
}

/// Adds a problem at a value that must not be there.
fn exclude<T>(problems: &mut Vec<Problem>, said: &Said<T>, message: impl Into<String>, help: &str) {
    if let Some(span) = said.span() {
        problems.push(Problem::at(span, message).help(help));
    }
}

impl AuditFile {
    /// Whether a path is open itself.
    fn is_open(&self, path: &str) -> bool {
        self.open.iter().any(|question| question.path == path)
    }

    /// Where the table at a path is.
    pub(super) fn place(&self, path: &str) -> Option<Range<usize>> {
        self.places.get(path).cloned()
    }

    pub(super) fn check(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        expect(
            &mut problems,
            "spec_version",
            &self.spec_version,
            |version| version == SPEC_VERSION,
            &format!("this version of equicheck reads spec_version = {SPEC_VERSION} alone"),
        );
        self.check_model(&mut problems);
        self.check_inputs(&mut problems);
        self.check_outputs(&mut problems);
        self.check_run(&mut problems);
        problems
    }

    fn check_model(&self, problems: &mut Vec<Problem>) {
        let model = &self.model;
        let Some(place) = self.place("model") else { return };
        if self.is_open("model") {
            return;
        }
        match (model.onnx.span(), model.python.span()) {
            (None, None) => problems.push(
                Problem::at(place, "[model] names no model")
                    .help("write onnx = \"net.onnx\", or python = \"package.module:function\""),
            ),
            (Some(_), Some(span)) => problems.push(
                Problem::at(span, "`model.python` and `model.onnx` are given: one model is audited")
                    .help("leave one of them out"),
            ),
            _ => {}
        }
        if model.onnx.is_present() && !model.python.is_present() {
            let help = "leave it out, or give `python`";
            exclude(problems, &model.method, "`model.method` goes with `python`, not with `onnx`", help);
            exclude(problems, &model.mode, "`model.mode` goes with `python`, not with `onnx`", help);
        }
        if model.python.is_present() && !model.onnx.is_present() {
            let help = "leave it out, or give `onnx`";
            exclude(problems, &model.backend, "`model.backend` goes with `onnx`, not with `python`", help);
            exclude(
                problems,
                &model.onnxruntime,
                "`model.onnxruntime` goes with `onnx`, not with `python`",
                help,
            );
        } else if model.backend.get() == Some(&Backend::Tract) {
            exclude(
                problems,
                &model.onnxruntime,
                "`model.onnxruntime` goes with backend = \"onnxruntime\"",
                "leave it out, or choose that backend",
            );
        }
        if let (Some(target), Some(span)) = (model.python.get(), model.python.span()) {
            // The last colon separates: a path may hold others.
            let halves = target.rsplit_once(':');
            if !halves.is_some_and(|(place, name)| !place.is_empty() && !name.is_empty()) {
                problems.push(
                    Problem::at(span, "`model.python` names no function")
                        .help("write \"package.module:function\" or \"file.py:function\""),
                );
            }
        }
    }

    fn check_inputs(&self, problems: &mut Vec<Problem>) {
        for (name, input) in &self.inputs {
            let path = format!("inputs.{}", shown(name));
            if self.is_open(&path) {
                continue;
            }
            match (input.file.span(), input.generate.span()) {
                (None, None) => problems.push(
                    Problem::maybe_at(
                        self.place(&path),
                        format!(
                            "input `{}` has no values: neither `file` nor `generate` is given",
                            shown(name)
                        ),
                    )
                    .help(
                        "write file = \"x.npz\", or generate = { kind = \"normal\", shape = [\"nodes\", 3] }",
                    ),
                ),
                (Some(_), Some(span)) => problems.push(
                    Problem::at(span, format!("input `{}` has both `file` and `generate`", shown(name)))
                        .help("leave one of them out"),
                ),
                (Some(_), None) => {}
                (None, Some(_)) => {
                    let help = "leave it out, or give `file`";
                    exclude(problems, &input.key, format!("`{path}.key` goes with `file`"), help);
                    exclude(problems, &input.stacked, format!("`{path}.stacked` goes with `file`"), help);
                    exclude(
                        problems,
                        &input.dtype,
                        format!("`{path}.dtype` goes with `file`"),
                        "a generated input's is part of `generate`: generate = { ..., dtype = \"float32\" }",
                    );
                }
            }
            if let Some(generate) = input.generate.get() {
                self.check_names(generate, &format!("{path}.generate"), problems);
                check_parameters(generate, &format!("{path}.generate"), problems);
            }
        }
    }

    fn check_outputs(&self, problems: &mut Vec<Problem>) {
        for (name, output) in &self.outputs {
            let path = format!("outputs.{}", shown(name));
            expect(
                problems,
                &format!("{path}.tolerance"),
                &output.tolerance,
                |tolerance| tolerance >= 0.0,
                "a relative error of at least 0 is expected",
            );
            match output.layout.get() {
                Some(Declared::No) => {
                    let help = "give it a layout, or leave this out";
                    let message = |key: &str| format!("`{path}.{key}`: the output is not audited");
                    exclude(problems, &output.tolerance, message("tolerance"), help);
                    exclude(problems, &output.up_to, message("up_to"), help);
                }
                Some(Declared::Layout(text)) if text.contains('~') => exclude(
                    problems,
                    &output.up_to,
                    format!("`{path}.up_to`: the layout says it already"),
                    "leave one of them out",
                ),
                _ => {}
            }
        }
    }

    fn check_run(&self, problems: &mut Vec<Problem>) {
        let run = &self.run;
        let positive = |x: f64| x > 0.0 && x.is_finite();
        let why = "a positive, finite length is expected";
        expect(problems, "run.translation_scale", &run.translation_scale, positive, why);
        expect(problems, "run.cutoff", &run.cutoff, positive, why);
        expect(
            problems,
            "run.tolerance",
            &run.tolerance,
            |tolerance| tolerance >= 0.0,
            "a relative error of at least 0 is expected",
        );
        if !run.stress.is_open() && run.stress.get() != Some(&true) {
            exclude(
                problems,
                &run.cutoff,
                "`run.cutoff` is for the stress inputs, which are not asked for",
                "write stress = true, or leave it out",
            );
        }
        if !run.randomness.is_open() && run.randomness.get() != Some(&RandomnessWord::Transform) {
            exclude(
                problems,
                &run.noise_layouts,
                "`run.noise_layouts` say how recorded draws are transformed, which is not asked for",
                "write randomness = \"transform\", or leave them out",
            );
        }
    }

    /// Names of edges that random graphs give a length to.
    pub(super) fn edge_names(&self) -> impl Iterator<Item = &str> {
        self.inputs.iter().filter_map(|(_, input)| match input.generate.get() {
            Some(Generate::RandomGraph(graph)) => match graph.edges.get() {
                None => Some(EDGES),
                Some(Length::Name(name)) => Some(name),
                Some(Length::Number(_)) => None,
            },
            _ => None,
        })
    }

    /// Names must be those of sizes.
    fn check_names(&self, generate: &Generate, path: &str, problems: &mut Vec<Problem>) {
        if self.is_open("sizes") {
            return;
        }
        let known: Vec<&str> = self.sizes.iter().map(|(name, _)| name).chain(self.edge_names()).collect();
        let mut check = |name: &str, span: Option<Range<usize>>, key: &str| {
            if known.contains(&name) {
                return;
            }
            let shown_name = shown(name);
            let problem = Problem::maybe_at(
                span,
                format!("`{path}.{key}`: no size `{}` is given", name.escape_debug()),
            );
            let help = match nearest(name, known.iter().copied()) {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("give one: [sizes] {shown_name} = [5, 12]"),
            };
            problems.push(problem.help(help));
        };
        if let Some(shape) = generate.shape().and_then(Said::get) {
            for length in &shape.0 {
                if let Some(Length::Name(name)) = length.get() {
                    check(name, length.span(), "shape");
                }
            }
        }
        let place = || self.place(path.trim_end_matches(".generate"));
        match generate {
            Generate::Integers(table) => {
                if let Some(Bound::Name(name)) = table.high.get() {
                    check(name, table.high.span(), "high");
                }
            }
            Generate::RandomGraph(graph) => match graph.nodes.get() {
                Some(Length::Name(name)) => check(name, graph.nodes.span(), "nodes"),
                None if !graph.nodes.is_open() => check(NODES, place(), "nodes"),
                _ => {}
            },
            Generate::Segments(table) => {
                match table.nodes.get() {
                    Some(Length::Name(name)) => check(name, table.nodes.span(), "nodes"),
                    None if !table.nodes.is_open() => check(NODES, place(), "nodes"),
                    _ => {}
                }
                if let Some(Length::Name(name)) = table.count.get() {
                    check(name, table.count.span(), "count");
                }
            }
            _ => {}
        }
    }
}

/// The element type must hold what a kind makes.
fn check_dtype(generate: &Generate, path: &str, problems: &mut Vec<Problem>) {
    let said = match generate {
        Generate::Normal(t) => &t.dtype,
        Generate::Uniform(t) => &t.dtype,
        Generate::Integers(t) => &t.dtype,
        Generate::Positive(t) => &t.dtype,
        Generate::UnitVectors(t) => &t.dtype,
        Generate::OneHot(t) => &t.dtype,
        Generate::SmoothImage(t) => &t.dtype,
        Generate::RandomGraph(t) => &t.dtype,
        Generate::Segments(t) => &t.dtype,
        Generate::LorentzVectors(t) => &t.dtype,
        Generate::Cell(t) => &t.dtype,
        Generate::Constant(t) => &t.dtype,
    };
    let Some(dtype) = said.get().copied() else { return };
    let why = match generate {
        Generate::Normal(_) | Generate::Uniform(_) if !dtype.is_inexact() => {
            "holds no fractions: choose a floating-point type, or kind = \"integers\"".to_owned()
        }
        Generate::Positive(_)
        | Generate::UnitVectors(_)
        | Generate::SmoothImage(_)
        | Generate::LorentzVectors(_)
        | Generate::Cell(_)
            if !dtype.is_inexact() || dtype.is_complex() =>
        {
            "holds no real numbers: choose a floating-point type".to_owned()
        }
        Generate::RandomGraph(_) | Generate::Segments(_) if dtype.is_inexact() || dtype == DType::Bool => {
            "holds no positions: choose an integer type".to_owned()
        }
        Generate::Constant(t) => match t.value.get() {
            Some(value) if !(dtype.is_inexact() || value.fract() == 0.0 && holds(dtype, *value as i64)) => {
                format!("does not hold {value}")
            }
            _ => return,
        },
        Generate::Integers(t) => {
            let low = t.low.get().copied().unwrap_or(0);
            let high = match t.high.get() {
                Some(Bound::Number(high)) => high.saturating_sub(1),
                _ => low,
            };
            match [low, high].into_iter().find(|value| !holds(dtype, *value)) {
                Some(value) => format!("does not hold {value}"),
                None => return,
            }
        }
        _ => return,
    };
    let message = format!("`{path}.dtype`: {} {why}", dtype.name());
    problems.push(Problem::maybe_at(said.span(), message));
}

/// Parameters of a kind must be in their ranges.
fn check_parameters(generate: &Generate, path: &str, problems: &mut Vec<Problem>) {
    check_dtype(generate, path, problems);
    let spread = |x: f64| x >= 0.0 && x.is_finite();
    let positive = |x: f64| x > 0.0 && x.is_finite();
    let (at_least, above) =
        ("a finite number of at least 0 is expected", "a positive, finite number is expected");
    let finite = "a finite number is expected";
    match generate {
        Generate::Normal(t) => {
            expect(problems, &format!("{path}.mean"), &t.mean, f64::is_finite, finite);
            expect(problems, &format!("{path}.std"), &t.std, spread, at_least);
        }
        Generate::Uniform(t) => {
            expect(problems, &format!("{path}.low"), &t.low, f64::is_finite, finite);
            expect(problems, &format!("{path}.high"), &t.high, f64::is_finite, finite);
            let (low, high) = (t.low.get().copied().unwrap_or(0.0), t.high.get().copied().unwrap_or(1.0));
            if low > high && !t.low.is_open() && !t.high.is_open() {
                let place = t.high.span().or(t.low.span());
                let message = format!("`{path}`: `low` = {low} is above `high` = {high}");
                problems.push(Problem::maybe_at(place, message));
            }
        }
        Generate::Integers(t) => {
            let low = t.low.get().copied().unwrap_or(0);
            if let (Some(Bound::Number(high)), Some(span)) = (t.high.get(), t.high.span())
                && low >= *high
            {
                problems.push(
                    Problem::at(
                        span,
                        format!("`{path}`: no whole number is at least {low} and below {high}"),
                    )
                    .help("`high` itself does not come"),
                );
            }
        }
        Generate::Positive(t) => {
            expect(problems, &format!("{path}.scale"), &t.scale, positive, above);
            expect(problems, &format!("{path}.std"), &t.std, spread, at_least);
        }
        Generate::SmoothImage(t) => {
            expect(problems, &format!("{path}.mean"), &t.mean, f64::is_finite, finite);
            expect(problems, &format!("{path}.std"), &t.std, spread, at_least);
            expect(problems, &format!("{path}.grid"), &t.grid, |n| n.0 <= 3, "1, 2 or 3 is expected");
            let grid = t.grid.get().map_or(2, |n| n.0);
            if let (Some(shape), Some(span)) = (t.shape.get(), t.shape.span())
                && shape.0.len() < grid
            {
                let message = format!("`{path}.shape` has fewer axes than the grid, which has {grid}");
                problems.push(
                    Problem::at(span, message).help("`grid` says how many of the last axes are the grid"),
                );
            }
        }
        Generate::RandomGraph(t) => {
            expect(problems, &format!("{path}.degree"), &t.degree, positive, above);
            if t.complete.get() == Some(&true) {
                exclude(
                    problems,
                    &t.degree,
                    format!("`{path}.degree`: a complete graph has every edge"),
                    "leave out `degree` or `complete`",
                );
            }
            if let (Some(Length::Number(n)), Some(span)) = (t.edges.get(), t.edges.span())
                && n % 2 == 1
            {
                problems.push(
                    Problem::at(span, format!("`{path}.edges`: {n} is odd"))
                        .help("each edge comes in both directions: an even number is expected"),
                );
            }
        }
        Generate::LorentzVectors(t) => {
            expect(problems, &format!("{path}.std"), &t.std, spread, at_least);
            let masses = |m: super::Interval| m.smallest >= 0.0 && m.largest.is_finite();
            expect(
                problems,
                &format!("{path}.mass"),
                &t.mass,
                masses,
                "finite masses of at least 0 are expected",
            );
        }
        Generate::Cell(t) => expect(problems, &format!("{path}.scale"), &t.scale, positive, above),
        Generate::Constant(t) => expect(problems, &format!("{path}.value"), &t.value, f64::is_finite, finite),
        Generate::UnitVectors(_) | Generate::OneHot(_) | Generate::Segments(_) => {}
    }
}
