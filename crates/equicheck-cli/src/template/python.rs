//! Test code in Python: the parts, and what is made of them.

use std::fmt::Write as _;
use std::path::Path;

use super::notebook::{Cell, notebook};
use super::tensors::{Declared, Length, Size, Tensor, Values};
use super::{Framework, Source, example};
use crate::CouldNotRun;
use crate::init::quoted;

/// What no name may be.
const KEYWORDS: [&str; 35] = [
    "False", "None", "True", "and", "as", "assert", "async", "await", "break", "class", "continue", "def",
    "del", "elif", "else", "except", "finally", "for", "from", "global", "if", "import", "in", "is",
    "lambda", "nonlocal", "not", "or", "pass", "raise", "return", "try", "while", "with", "yield",
];

/// Names that a template uses itself.
const TAKEN: [&str; 16] = [
    "seed",
    "random",
    "torch",
    "np",
    "sys",
    "pytest",
    "equicheck",
    "build",
    "sample",
    "audit",
    "report",
    "p",
    "q",
    "GROUP",
    "IN_LAYOUTS",
    "OUT_LAYOUTS",
];

/// What a template is made of.
pub(super) struct Parts<'a> {
    pub(super) declared: &'a Declared,
    pub(super) source: &'a Source,
    pub(super) framework: Framework,
}

/// An entry of nested dicts and tuples.
enum Node {
    Leaf(String),
    Inner(Vec<(String, Node)>),
}

impl Parts<'_> {
    pub(super) fn pytest(&self) -> Result<String, CouldNotRun> {
        let first = "\"\"\"Tests that the model respects its symmetry: run them with pytest.\"\"\"";
        let head = self.head(first, &["pytest"])?;
        let body = self.body()?;
        // `sorted` would lose the order in which outputs were declared.
        let audited: Vec<String> = self
            .declared
            .outputs
            .iter()
            .filter(|(_, layout)| layout.is_some())
            .map(|(name, _)| quoted(name))
            .collect();
        Ok(format!(
            "{head}\n\n{body}\n
@pytest.fixture(scope=\"module\")
def report() -> equicheck.Report:
    \"\"\"Audit the model, once for all tests.\"\"\"
    return audit()


def test_symmetry(report: equicheck.Report) -> None:
    \"\"\"A violation of 1 % or more fails with the whole report; a smaller one warns.\"\"\"
    report.raise_for_failure()


@pytest.mark.parametrize(\"output\", [{}])
def test_output(report: equicheck.Report, output: str) -> None:
    \"\"\"Each output says by itself why it fails.\"\"\"
    found = report.outputs[output]
    assert found.verdict != \"FAIL\", found.reason
",
            audited.join(", ")
        ))
    }

    pub(super) fn script(&self) -> Result<String, CouldNotRun> {
        let first = "\"\"\"Audits the model: run it with python, or by `equicheck run FILE.py:audit`.\"\"\"";
        let head = self.head(first, &["sys"])?;
        let body = self.body()?;
        Ok(format!(
            "{head}\n\n{body}\n
if __name__ == \"__main__\":
    report = audit()
    print(report)
    # 0 PASS, 1 FAIL, 2 NEEDS_ATTENTION
    sys.exit(report.exit_status)
"
        ))
    }

    pub(super) fn notebook(&self) -> Result<String, CouldNotRun> {
        let imports = self.imports(&[])?;
        let mut cells = vec![
            Cell::Markdown(format!(
                "# Does the model respect its symmetry?\n\nAn audit by equicheck of `f(T x) = T' f(x)` for `T` in `{}`.",
                self.declared.group.replace('`', "'")
            )),
            Cell::Code(imports),
        ];
        if *self.source == Source::Example {
            cells.push(Cell::Code(example::network(self.framework).to_owned()));
        }
        cells.extend([
            Cell::Markdown(
                "How each axis of each tensor transforms, and what the model is tried on:".to_owned(),
            ),
            Cell::Code(self.declarations()?),
            Cell::Code(self.sample()?),
            Cell::Code(self.audit()),
            Cell::Markdown("The audit. The last line shows the whole report:".to_owned()),
            Cell::Code("report = audit()\nreport".to_owned()),
            Cell::Markdown(
                "Where symmetry is lost, and what to do. `equicheck explain MODE` says more on a mode."
                    .to_owned(),
            ),
            Cell::Code(
                "print(report.first_break)\nfor finding in report.findings:\n    \
                 print(f\"[{finding.mode}] {finding.location}: {finding.message}\\n    {finding.fix}\")"
                    .to_owned(),
            ),
            Cell::Markdown(
                "Kept, so that `equicheck compare before.json after.json` can say whether a change helped:"
                    .to_owned(),
            ),
            Cell::Code("report.save(\"before.json\")".to_owned()),
        ]);
        Ok(notebook(&cells))
    }

    /// Docstring and imports of a file.
    fn head(&self, docstring: &str, standard: &[&str]) -> Result<String, CouldNotRun> {
        Ok(format!("{docstring}\n\nfrom __future__ import annotations\n\n{}", self.imports(standard)?))
    }

    fn imports(&self, modules: &[&str]) -> Result<String, CouldNotRun> {
        let mut standard: Vec<&str> = modules.iter().copied().filter(|module| *module != "pytest").collect();
        let mut lines = Vec::new();
        let model = match self.source {
            Source::Example | Source::Onnx(_) => None,
            Source::Python { target, place, name } => Some(import(target, place, name)?),
        };
        if model.as_ref().is_some_and(|(folder, _)| folder.is_some()) && !standard.contains(&"sys") {
            standard.push("sys");
        }
        lines.extend(standard.iter().map(|module| format!("import {module}")));
        if self.framework == Framework::Numpy && *self.source == Source::Example {
            lines.push("from collections.abc import Callable".to_owned());
        }
        if !lines.is_empty() {
            lines.push(String::new());
        }
        if self.framework == Framework::Numpy {
            lines.push("import numpy as np".to_owned());
        }
        if modules.contains(&"pytest") {
            lines.push("import pytest".to_owned());
        }
        if self.framework == Framework::Torch {
            lines.push("import torch".to_owned());
        }
        lines.push("\nimport equicheck".to_owned());
        if let Some((folder, line)) = model {
            lines.push(String::new());
            if let Some(folder) = folder {
                lines.push(format!(
                    "# Where the model's file is, as seen from where this runs.\nsys.path.insert(0, {})",
                    quoted(&folder)
                ));
            }
            let takes = match self.framework {
                Framework::Torch => "a function that takes a dtype and returns the model",
                Framework::Numpy => "a function that returns the model",
            };
            lines.push(format!("{line}  # {takes}"));
        }
        Ok(lines.join("\n") + "\n")
    }

    /// From the model to a function that audits it.
    fn body(&self) -> Result<String, CouldNotRun> {
        let mut parts = vec![self.declarations()?];
        if *self.source == Source::Example {
            parts.push(example::network(self.framework).to_owned());
        }
        parts.extend([self.sample()?, self.audit()]);
        Ok(parts.iter().map(|part| part.trim_end()).collect::<Vec<_>>().join("\n\n\n") + "\n")
    }

    fn declarations(&self) -> Result<String, CouldNotRun> {
        let text = |layout: &Option<String>| layout.as_deref().map_or_else(|| "None".to_owned(), quoted);
        let inputs: Vec<(String, String)> =
            self.declared.inputs.iter().map(|tensor| (tensor.name.clone(), text(&tensor.layout))).collect();
        let outputs: Vec<(String, String)> =
            self.declared.outputs.iter().map(|(name, layout)| (name.clone(), text(layout))).collect();
        let outputs = match outputs.as_slice() {
            [(name, layout)] if name == "output" => layout.clone(),
            _ => nested("output", &outputs)?.render(0),
        };
        Ok(format!(
            "GROUP = {}\n# One word per axis says how it transforms; None: not at all, or not audited.\n\
             IN_LAYOUTS = {}\nOUT_LAYOUTS = {outputs}\n",
            quoted(&self.declared.group),
            nested("input", &inputs)?.render(0)
        ))
    }

    fn sample(&self) -> Result<String, CouldNotRun> {
        let names = Names::of(self.declared);
        let values: Vec<(String, String)> = self
            .declared
            .inputs
            .iter()
            .map(|tensor| (tensor.name.clone(), self.drawn(tensor, &names)))
            .collect();
        let values = nested("input", &values)?;
        if let Node::Inner(entries) = &values
            && !is_tuple(entries)
            && let Some((name, _)) = entries.iter().find(|(name, _)| !is_identifier(name))
        {
            return Err(CouldNotRun::Failed(format!(
                "input `{}` cannot be the name of a parameter in Python: give the names that the model's parameters \
                 have, or 0, 1, ... for inputs by position",
                name.escape_debug()
            )));
        }
        let mut text =
            String::from("def sample(seed: int) -> object:\n    \"\"\"Draw one input of the model.\"\"\"\n");
        text += match self.framework {
            Framework::Torch => "    random = torch.Generator().manual_seed(seed)\n",
            Framework::Numpy => "    random = np.random.default_rng(seed)\n",
        };
        for (name, size) in &self.declared.sizes {
            let size = match size {
                Size::Fixed(n) => n.to_string(),
                Size::Between(least, most) => format!("{least} + seed % {}", most - least + 1),
            };
            let _ = writeln!(text, "    {} = {size}", names.of_axis(name));
        }
        for (nodes, edges) in self.declared.pairs() {
            let (nodes, edges) = (names.of_axis(nodes), names.of_axis(edges));
            let used = |tensor: &Tensor| {
                !matches!(tensor.values, Values::Pairs(..))
                    && tensor
                        .shape
                        .iter()
                        .any(|length| names.length(length).split(" * ").any(|name| name == edges))
            };
            if self.declared.inputs.iter().any(used) {
                let _ = writeln!(text, "    {edges} = {nodes} * ({nodes} - 1)");
            }
        }
        let _ = writeln!(text, "    return {}", values.render(1));
        Ok(text)
    }

    /// The expression that draws a tensor.
    fn drawn(&self, tensor: &Tensor, names: &Names) -> String {
        let lengths: Vec<String> = tensor.shape.iter().map(|length| names.length(length)).collect();
        let size = |lengths: &[String]| match lengths {
            [one] => format!("({one},)"),
            _ => format!("({})", lengths.join(", ")),
        };
        let shape = size(&lengths);
        // Momenta have three components, and the energy that belongs to them.
        let spatial = size(&[&lengths[..lengths.len().saturating_sub(1)], &["3".to_owned()]].concat());
        let rank = lengths.len();
        // numpy draws plain numbers where there are no axes.
        let array = |drawn: String| if rank == 0 { format!("np.asarray({drawn})") } else { drawn };
        match (self.framework, &tensor.values) {
            (Framework::Torch, Values::Normal) => format!("torch.randn({shape}, generator=random)"),
            (Framework::Torch, Values::Complex) => {
                format!("torch.randn({shape}, dtype=torch.complex64, generator=random)")
            }
            (Framework::Torch, Values::Uniform) => format!("torch.rand({shape}, generator=random)"),
            (Framework::Torch, Values::Positions(axis)) => {
                format!("torch.randint({}, {shape}, generator=random)", names.of_axis(axis))
            }
            (Framework::Torch, Values::Pairs(nodes, _)) => {
                format!("(1 - torch.eye({})).nonzero().T", names.of_axis(nodes))
            }
            (Framework::Torch, Values::Unit) => {
                format!("torch.nn.functional.normalize(torch.randn({shape}, generator=random), dim=-1)")
            }
            (Framework::Torch, Values::Cell) if rank == 2 => {
                format!("4 * torch.eye{shape} + 0.3 * torch.randn({shape}, generator=random)")
            }
            (Framework::Torch, Values::Cell) => format!("4 * torch.randn({shape}, generator=random)"),
            (Framework::Torch, Values::Momenta) => format!(
                "torch.cat([(1 + (p := torch.randn({spatial}, generator=random)).square().sum(-1, keepdim=True)).sqrt(), p], -1)"
            ),
            (Framework::Torch, Values::Constant) => "torch.ones(1)".to_owned(),
            (Framework::Numpy, Values::Normal) => array(format!("random.normal(size={shape})")),
            (Framework::Numpy, Values::Complex) => {
                array(format!("random.normal(size={shape}) + 1j * random.normal(size={shape})"))
            }
            (Framework::Numpy, Values::Uniform) => array(format!("random.uniform(size={shape})")),
            (Framework::Numpy, Values::Positions(axis)) => {
                array(format!("random.integers({}, size={shape})", names.of_axis(axis)))
            }
            (Framework::Numpy, Values::Pairs(nodes, _)) => {
                format!("np.argwhere(1 - np.eye({})).T", names.of_axis(nodes))
            }
            (Framework::Numpy, Values::Unit) => {
                format!("(q := random.normal(size={shape})) / np.linalg.norm(q, axis=-1, keepdims=True)")
            }
            (Framework::Numpy, Values::Cell) if rank == 2 => {
                format!("4 * np.eye{shape} + 0.3 * random.normal(size={shape})")
            }
            (Framework::Numpy, Values::Cell) => format!("4 * random.normal(size={shape})"),
            (Framework::Numpy, Values::Momenta) => format!(
                "np.concatenate([np.sqrt(1 + ((p := random.normal(size={spatial})) ** 2).sum(-1, keepdims=True)), p], -1)"
            ),
            (Framework::Numpy, Values::Constant) => "np.ones(1)".to_owned(),
        }
    }

    fn audit(&self) -> String {
        let build = match self.source {
            Source::Python { name, .. } => own(name),
            Source::Example | Source::Onnx(_) => "build",
        };
        let model = match self.framework {
            Framework::Torch => format!("{build}(torch.float32)"),
            Framework::Numpy => format!("{build}()"),
        };
        let mut options = String::new();
        if self.framework == Framework::Torch {
            // Built again in double precision, where rounding is told from violations.
            let _ = write!(options, "\n        factory={build},  # builds it in double precision too");
        }
        if self.declared.shifts_grids {
            options += "\n        domain=\"periodic\",  # what lies beyond the edge of grids; else \"open\"";
        }
        format!(
            "def audit() -> equicheck.Report:
    \"\"\"Audit the model; more samples and transformations find rarer violations.\"\"\"
    return equicheck.audit(
        {model},
        sample,
        group=GROUP,
        in_layouts=IN_LAYOUTS,
        out_layouts=OUT_LAYOUTS,{options}
        samples=20,
        transforms=20,
    )
"
        )
    }
}

/// Variables for lengths.
struct Names(Vec<(String, String)>);

impl Names {
    fn of(declared: &Declared) -> Self {
        let axes = declared.sizes.iter().map(|(name, _)| name.as_str());
        let axes: Vec<&str> = axes.chain(declared.pairs().map(|(_, edges)| edges)).collect();
        let mut names: Vec<(String, String)> = Vec::new();
        for axis in axes {
            let mut variable = if is_identifier(axis) { axis.to_owned() } else { format!("n_{axis}") };
            while TAKEN.contains(&variable.as_str()) || names.iter().any(|(_, other)| *other == variable) {
                variable.push('_');
            }
            names.push((axis.to_owned(), variable));
        }
        Self(names)
    }

    fn of_axis<'a>(&'a self, axis: &'a str) -> &'a str {
        self.0.iter().find(|(name, _)| name == axis).map_or(axis, |(_, variable)| variable)
    }

    fn length(&self, length: &Length) -> String {
        match length {
            Length::Fixed(n) => n.to_string(),
            Length::Named(name) => self.of_axis(name).to_owned(),
            Length::Product(parts) => {
                parts.iter().map(|part| self.length(part)).collect::<Vec<_>>().join(" * ")
            }
        }
    }
}

impl Node {
    fn render(&self, depth: usize) -> String {
        let Node::Inner(entries) = self else {
            let Node::Leaf(text) = self else { return String::new() };
            return text.clone();
        };
        let (inside, end) = ("    ".repeat(depth + 1), "    ".repeat(depth));
        let tuple = is_tuple(entries);
        let lines: String = entries
            .iter()
            .map(|(name, node)| {
                let value = node.render(depth + 1);
                if tuple {
                    format!("{inside}{value},\n")
                } else {
                    format!("{inside}{}: {value},\n", quoted(name))
                }
            })
            .collect();
        if tuple { format!("(\n{lines}{end})") } else { format!("{{\n{lines}{end}}}") }
    }
}

/// Whether names are positions, from 0 on.
fn is_tuple(entries: &[(String, Node)]) -> bool {
    entries.iter().enumerate().all(|(k, (name, _))| *name == k.to_string())
}

/// Paths such as `aux.0` as dicts and tuples in each other.
fn nested(role: &str, entries: &[(String, String)]) -> Result<Node, CouldNotRun> {
    let mut root: Vec<(String, Node)> = Vec::new();
    for (path, text) in entries {
        let mut level = &mut root;
        let mut steps = path.split('.').peekable();
        while let Some(step) = steps.next() {
            let place = level.iter().position(|(name, _)| name == step);
            if steps.peek().is_none() {
                if place.is_some() {
                    return Err(inside(role, path));
                }
                level.push((step.to_owned(), Node::Leaf(text.clone())));
                break;
            }
            let place = place.unwrap_or_else(|| {
                level.push((step.to_owned(), Node::Inner(vec![])));
                level.len() - 1
            });
            match &mut level[place].1 {
                Node::Leaf(_) => return Err(inside(role, path)),
                Node::Inner(below) => level = below,
            }
        }
    }
    Ok(Node::Inner(root))
}

fn inside(role: &str, path: &str) -> CouldNotRun {
    CouldNotRun::Failed(format!("{role} `{path}` is a tensor, and another {role} is inside it or holds it"))
}

/// The line that imports a function, and the folder of its file if it is in one.
fn import(target: &str, place: &str, name: &str) -> Result<(Option<String>, String), CouldNotRun> {
    let path = Path::new(place);
    let (folder, module) = if path.extension().is_some_and(|ending| ending == "py") {
        let folder = path.parent().map(|folder| folder.to_string_lossy().into_owned()).unwrap_or_default();
        let stem = path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
        (Some(if folder.is_empty() { ".".to_owned() } else { folder }), stem)
    } else {
        (None, place.to_owned())
    };
    if !module.split('.').all(is_identifier)
        || !is_identifier(name)
        || (folder.is_some() && module.contains('.'))
    {
        return Err(CouldNotRun::Failed(format!(
            "`{}` cannot be imported by its name: write package.module:FACTORY or FILE.py:FACTORY with names of \
             letters, digits and `_`",
            target.escape_debug()
        )));
    }
    let renamed = if own(name) == name { String::new() } else { format!(" as {}", own(name)) };
    Ok((folder, format!("from {module} import {name}{renamed}")))
}

/// What the function that builds the model is called here: a name that the template uses itself means something else.
fn own(name: &str) -> &str {
    if TAKEN.contains(&name) { "build" } else { name }
}

fn is_identifier(name: &str) -> bool {
    let mut letters = name.chars();
    letters.next().is_some_and(|first| first == '_' || first.is_alphabetic())
        && letters.all(|c| c == '_' || c.is_alphanumeric())
        && !KEYWORDS.contains(&name)
}
