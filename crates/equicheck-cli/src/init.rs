//! `equicheck init`: an audit file for a model, with what can be read off it, and questions for the rest.

mod ask;
mod designed;
mod suggest;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use equicheck::report::ExitStatus;
use equicheck::sentence;
use equicheck::spec::AuditFile;
use equicheck::symmetry::Group;
use equicheck_onnx::{Backend, Description, Dim};

use crate::audit::marked;
use crate::delivery::{cannot_write, print};
use crate::{CouldNotRun, Host, PythonDescription, check_target, folder_of, shown};

/// An answer that is still open.
const OPEN: &str = "?";

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// An ONNX file, or `package.module:FACTORY` or `FILE.py:FACTORY`, a function that takes a dtype and returns the
    /// model
    target: String,
    /// Where to write the audit file
    #[arg(long, value_name = "PATH", default_value = "equicheck.toml")]
    output: PathBuf,
    /// Write over a file that is there
    #[arg(long)]
    force: bool,
    /// The group, such as "E(3) x S(nodes)"
    #[arg(long)]
    group: Option<String>,
    /// A specification from the design of the model, as TOML: `group`, tables `[inputs]`, `[outputs]` and `[layers]`
    /// (name = layout or type); what the model contradicts is listed
    #[arg(long, value_name = "FILE")]
    from_spec: Option<PathBuf>,
    /// What is to run an ONNX file: tract (built in) or onnxruntime (installed)
    #[arg(long, value_parser = |text: &str| text.parse::<Backend>())]
    backend: Option<Backend>,
}

/// A tensor of the model.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Tensor {
    pub(crate) name: String,
    /// numpy's name of its type; empty if it is not known.
    pub(crate) dtype: String,
    /// `None` if not even the number of axes is known.
    pub(crate) dims: Option<Vec<Length>>,
    /// `None`: not asked yet. An empty layout is a scalar's.
    pub(crate) layout: Option<Answer>,
    /// A line of the audit file that says where values come from, for inputs whose shape says nothing of it.
    pub(crate) source: Option<String>,
}

/// The length of an axis.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Length {
    Fixed(usize),
    Named(String),
}

/// What a tensor is declared to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Answer {
    Layout(String),
    /// An input that is not transformed, an output that is not audited.
    No,
}

/// The audit file in the making.
#[derive(Debug)]
pub(crate) struct Draft {
    /// Lines of `[model]`.
    model: Vec<String>,
    pub(crate) group: Option<String>,
    pub(crate) inputs: Vec<Tensor>,
    pub(crate) outputs: Vec<Tensor>,
    /// `periodic` or `open`, where shifts of grids need it.
    pub(crate) domain: Option<String>,
    /// A permuted axis, and the input that says which graph each entry belongs to.
    pub(crate) segments: Option<(String, String)>,
    /// Layouts that the library's metadata names, by attribute.
    pub(crate) metadata: Vec<(String, String)>,
    /// Layers by name and type, where they are known.
    layers: Option<Vec<(String, String)>>,
}

pub(crate) fn execute(arguments: &Arguments, host: &mut dyn Host) -> Result<ExitStatus, CouldNotRun> {
    let path = &arguments.output;
    if path.exists() && !arguments.force {
        return Err(CouldNotRun::Failed(format!(
            "`{}` is there already: --force writes over it, --output names another file",
            shown(path)
        )));
    }
    if !folder_of(path).is_dir() {
        return Err(cannot_write(path, "its directory does not exist"));
    }
    let designed = arguments.from_spec.as_deref().map(designed::read).transpose()?;
    let mut draft = draft(arguments, host)?;
    if let Some(group) = &arguments.group {
        Group::parse(group).map_err(|error| CouldNotRun::Failed(error.to_string()))?;
        draft.group = Some(group.clone());
    }
    let contradictions = designed.map_or_else(Vec::new, |designed| designed.apply(&mut draft));
    if host.is_interactive() {
        ask::everything(&mut draft, host)?;
    }
    let text = draft.text();
    let open =
        AuditFile::parse(&text, &shown(path)).map_err(|error| marked(&error, host))?.open_questions().len();
    fs::write(path, &text).map_err(|error| cannot_write(path, &sentence(&error)))?;
    for line in &contradictions {
        print(host, &format!("contradiction: {line}\n"))?;
    }
    let next = match open {
        0 => "`equicheck audit` runs it".to_owned(),
        1 => "1 answer is open: replace its \"?\", then `equicheck audit`".to_owned(),
        _ => format!("{open} answers are open: replace each \"?\", then `equicheck audit`"),
    };
    print(host, &format!("wrote {}; {next}\n", shown(path)))?;
    Ok(if contradictions.is_empty() { ExitStatus::Pass } else { ExitStatus::NeedsAttention })
}

fn draft(arguments: &Arguments, host: &mut dyn Host) -> Result<Draft, CouldNotRun> {
    let target = &arguments.target;
    let folder = folder_of(&arguments.output);
    if Path::new(target).extension().is_some_and(|ending| ending.eq_ignore_ascii_case("onnx")) {
        let model =
            Description::read(Path::new(target)).map_err(|error| CouldNotRun::Failed(error.to_string()))?;
        let mut lines = vec![format!("onnx = {}", quoted(&relative(Path::new(target), folder)))];
        if let Some(backend) = arguments.backend {
            lines.push(format!("backend = {}", quoted(backend.word())));
        }
        if let Some(port) = model.inputs.iter().find(|port| !is_tensor_type(&port.dtype)) {
            return Err(CouldNotRun::Failed(format!(
                "input `{}` of `{}` holds {}: audits take tensors of numbers",
                port.name.escape_debug(),
                shown(Path::new(target)),
                port.dtype
            )));
        }
        if model.inputs.is_empty() {
            return Err(CouldNotRun::Failed(format!(
                "`{}` has no inputs, so nothing about it can be transformed",
                shown(Path::new(target))
            )));
        }
        return Ok(of_onnx(&model, lines));
    }
    if !target.contains(':') {
        return Err(CouldNotRun::Failed(format!(
            "`{}` is no model: write the path of a file that ends in .onnx, package.module:FACTORY or FILE.py:FACTORY",
            target.escape_debug()
        )));
    }
    check_target(target)?;
    if arguments.backend.is_some() {
        return Err(CouldNotRun::Failed(
            "--backend is for ONNX models, and this one is in Python".to_owned(),
        ));
    }
    let description = host.describe_python(target, Path::new("."))?;
    // The audit file's paths begin at its own folder.
    let named = match target.rsplit_once(':') {
        Some((file, name)) if Path::new(file).extension().is_some_and(|ending| ending == "py") => {
            format!("{}:{name}", relative(Path::new(file), folder))
        }
        _ => target.clone(),
    };
    Ok(of_python(&named, description))
}

/// A path as seen from the folder of the audit file, with `/` between its parts.
fn relative(path: &Path, folder: &Path) -> String {
    let (Ok(path), Ok(folder)) = (path.canonicalize(), folder.canonicalize()) else {
        return path.to_string_lossy().into_owned();
    };
    let shared = path.components().zip(folder.components()).take_while(|(a, b)| a == b).count();
    let up = folder.components().skip(shared).map(|_| "..".to_owned());
    let down = path.components().skip(shared).map(|part| part.as_os_str().to_string_lossy().into_owned());
    up.chain(down).collect::<Vec<_>>().join("/")
}

fn of_onnx(model: &Description, lines: Vec<String>) -> Draft {
    let tensor = |port: &equicheck_onnx::Port| Tensor {
        name: port.name.clone(),
        dtype: port.dtype.clone(),
        dims: port.dims.as_ref().map(|dims| {
            let length = |(k, dim): (usize, &Dim)| match dim {
                Dim::Fixed(n) => Length::Fixed(*n),
                Dim::Symbol(name) => Length::Named(name.clone()),
                Dim::Unknown => Length::Named(format!("{}_{k}", port.name)),
            };
            dims.iter().enumerate().map(length).collect()
        }),
        layout: None,
        source: None,
    };
    Draft {
        model: lines,
        group: None,
        inputs: model.inputs.iter().map(tensor).collect(),
        outputs: model.outputs.iter().map(tensor).collect(),
        domain: None,
        segments: None,
        metadata: Vec::new(),
        layers: None,
    }
}

fn of_python(target: &str, description: PythonDescription) -> Draft {
    let tensor = |name: String| Tensor { name, dtype: String::new(), dims: None, layout: None, source: None };
    Draft {
        model: vec![format!("python = {}", quoted(target))],
        group: None,
        inputs: description.parameters.into_iter().map(tensor).collect(),
        outputs: vec![tensor("output".to_owned())],
        domain: None,
        segments: None,
        metadata: description.metadata,
        layers: Some(description.layers),
    }
}

/// The inputs of a model as an audit file draws them, without any symmetry.
pub(crate) fn sampled(model: &Description) -> String {
    let mut draft = of_onnx(model, vec!["onnx = \"model.onnx\"".to_owned()]);
    draft.group = Some("Z2".to_owned());
    for tensor in draft.inputs.iter_mut().chain(&mut draft.outputs) {
        tensor.layout = Some(Answer::No);
    }
    draft.text()
}

impl Draft {
    /// Whether an input holds positions, two per edge: there are rows for them to point at, of another number.
    fn is_edge_list(&self, tensor: &Tensor) -> bool {
        let edges = tensor.dims.as_ref().and_then(|dims| dims.get(1));
        let pointed_at = |other: &Tensor| {
            let rows = other.dims.as_ref().and_then(|dims| dims.first());
            other.is_floating() && rows.is_some() && rows != edges
        };
        tensor.has_shape_of_edges() && self.inputs.iter().any(pointed_at)
    }

    /// The axis of nodes: the first that the group permutes, else the first named one of the inputs.
    pub(crate) fn nodes(&self) -> String {
        let group = self.group.as_deref().and_then(|group| Group::parse(group).ok());
        let permuted = group.as_ref().and_then(|group| group.permuted_axes().next().map(str::to_owned));
        permuted.or_else(|| self.named_lengths().into_iter().next()).unwrap_or_else(|| "nodes".to_owned())
    }

    /// Names of lengths in the inputs, in order, those of edges last.
    fn named_lengths(&self) -> Vec<String> {
        let mut names: Vec<String> = Vec::new();
        let (edges, others): (Vec<&Tensor>, Vec<&Tensor>) =
            self.inputs.iter().partition(|tensor| self.is_edge_list(tensor));
        for tensor in others.into_iter().chain(edges) {
            for length in tensor.dims.iter().flatten() {
                if let Length::Named(name) = length
                    && !names.contains(name)
                {
                    names.push(name.clone());
                }
            }
        }
        names
    }

    /// Sizes of named lengths, but for those that the number of generated edges decides.
    fn sizes(&self) -> BTreeMap<String, String> {
        let mut sizes: BTreeMap<String, String> = BTreeMap::new();
        for tensor in self.inputs.iter().filter(|tensor| tensor.source.is_none()) {
            let dims = tensor.dims.as_deref().unwrap_or_default();
            for (k, length) in dims.iter().enumerate() {
                let Length::Named(name) = length else { continue };
                let image = dims.len() >= 3 && k + 2 >= dims.len() && tensor.is_floating();
                let text = match () {
                    () if is_batch(name) || (k == 0 && tensor.is_image()) => "2",
                    () if image && tensor.is_image() => "64",
                    () => "[5, 12]",
                };
                sizes.entry(name.clone()).or_insert_with(|| text.to_owned());
            }
        }
        let edges = self.inputs.iter().filter(|tensor| self.is_edge_list(tensor));
        for name in edges.filter_map(|tensor| match tensor.dims.as_deref() {
            Some([_, Length::Named(name)]) => Some(name),
            _ => None,
        }) {
            sizes.remove(name);
        }
        if self.inputs.iter().any(|tensor| self.is_edge_list(tensor) && tensor.source.is_none()) {
            sizes.entry(self.nodes()).or_insert_with(|| "[5, 12]".to_owned());
        }
        sizes
    }

    /// The file.
    fn text(&self) -> String {
        let open = || quoted(OPEN);
        let mut text = String::from(
            "# What equicheck audits, and how. Each \"?\" is a question; every key is explained in docs/audit-file.md.\n\
             spec_version = 1\n\n",
        );
        if self.group.is_none() {
            text += "# Such as \"E(3) x S(nodes)\" for molecules, \"SO(3)\", \"C4\" for images, \"T(2)\" for their shifts.\n";
        }
        let _ = writeln!(text, "group = {}", self.group.as_deref().map_or_else(open, quoted));
        text += "\n[model]\n";
        for line in &self.model {
            let _ = writeln!(text, "{line}");
        }
        for tensor in &self.inputs {
            let _ = writeln!(text, "\n[inputs.{}]{}", key(&tensor.name), remark(tensor));
            if tensor.layout.is_none() {
                text += "# One word per axis, such as \"nodes point\"; false for an input that is not transformed.\n";
            }
            let _ = writeln!(text, "layout = {}", answer(tensor));
            let _ = writeln!(text, "{}", self.source(tensor));
        }
        text += "\n[outputs]\n";
        if self.outputs.iter().any(|tensor| tensor.layout.is_none()) {
            text += "# As above; \"\" for an invariant number, false for an output that is not audited.\n";
        }
        for tensor in &self.outputs {
            let _ = writeln!(text, "{} = {}{}", key(&tensor.name), answer(tensor), remark(tensor));
        }
        let sizes = self.sizes();
        if !sizes.is_empty() {
            text += "\n# A whole number, or [smallest, largest], drawn anew for every sample.\n[sizes]\n";
            for (name, size) in sizes {
                let _ = writeln!(text, "{} = {size}", key(&name));
            }
        }
        text += "\n[run]\nseed = 0\nbudget = \"120s\"\n";
        if let Some(domain) = &self.domain {
            let _ = writeln!(text, "domain = {}", quoted(domain));
        }
        if let Some((axis, labels)) = &self.segments {
            let _ = writeln!(text, "segments = {{ {} = {} }}", key(axis), quoted(labels));
        }
        text
    }

    /// Where the values of an input come from.
    fn source(&self, tensor: &Tensor) -> String {
        if let Some(source) = &tensor.source {
            return source.clone();
        }
        let Some(dims) = &tensor.dims else {
            return format!(
                "# Or values that are drawn: generate = {{ kind = \"normal\", shape = [\"nodes\", 3] }}\nfile = {}",
                quoted(OPEN)
            );
        };
        let labels = self.segments.as_ref().filter(|(_, labels)| *labels == tensor.name);
        if let (Some(_), [nodes]) = (labels, dims.as_slice()) {
            let nodes = match nodes {
                Length::Fixed(n) => n.to_string(),
                Length::Named(name) => quoted(name),
            };
            return format!(
                "generate = {{ kind = \"segments\", nodes = {nodes}, count = 3, dtype = {} }}",
                quoted(&tensor.dtype)
            );
        }
        if self.is_edge_list(tensor) {
            let edges = match (&dims[1], &self.segments) {
                (Length::Named(name), Some((_, labels))) => {
                    format!(", degree = 2.0, edges = {}, segments = {}", quoted(name), quoted(labels))
                }
                (Length::Named(name), None) => format!(", degree = 4.0, edges = {}", quoted(name)),
                (Length::Fixed(n), _) => format!(", edges = {n}"),
            };
            return format!(
                "generate = {{ kind = \"random_graph\", nodes = {}{edges} }}",
                quoted(&self.nodes())
            );
        }
        let shape: Vec<String> = dims
            .iter()
            .map(|length| match length {
                Length::Fixed(n) => n.to_string(),
                Length::Named(name) => quoted(name),
            })
            .collect();
        let (kind, more) = match tensor.dtype.as_str() {
            "bool" => ("integers", ", high = 2"),
            dtype if dtype.contains("int") => ("integers", ", high = 10"),
            _ if tensor.is_image() => ("smooth_image", ""),
            _ => ("normal", ""),
        };
        format!(
            "generate = {{ kind = \"{kind}\", shape = [{}]{more}, dtype = {} }}",
            shape.join(", "),
            quoted(&tensor.dtype)
        )
    }
}

impl Tensor {
    fn is_floating(&self) -> bool {
        self.dtype.contains("float")
    }

    /// Whether whole numbers of this shape can be positions, two per edge.
    pub(crate) fn has_shape_of_edges(&self) -> bool {
        let edges = |dims: &Vec<Length>| match dims.as_slice() {
            [Length::Fixed(2), Length::Fixed(count)] => count % 2 == 0,
            [Length::Fixed(2), Length::Named(_)] => true,
            _ => false,
        };
        self.dtype.starts_with("int") && self.dims.as_ref().is_some_and(edges)
    }

    /// At least three axes, the last two of which can be those of a picture.
    pub(crate) fn is_image(&self) -> bool {
        let large = |length: &Length| !matches!(length, Length::Fixed(n) if *n < 8);
        self.dims.as_ref().is_some_and(|dims| {
            dims.len() >= 3 && self.is_floating() && dims.iter().rev().take(2).all(large) && dims.len() <= 5
        })
    }

    /// `float32 [nodes, 3]`.
    pub(crate) fn shape_text(&self) -> String {
        let dims = self.dims.as_ref().map(|dims| {
            let dims = dims.iter().map(|length| match length {
                Length::Fixed(n) => n.to_string(),
                Length::Named(name) => name.clone(),
            });
            format!("[{}]", dims.collect::<Vec<_>>().join(", "))
        });
        [self.dtype.clone(), dims.unwrap_or_default()].join(" ").trim().to_owned()
    }
}

/// Whether audits know tensors of this type, by numpy's name.
fn is_tensor_type(dtype: &str) -> bool {
    let numbers = ["bool", "uint8", "int8", "int16", "int32", "int64", "complex64", "complex128"];
    numbers.contains(&dtype) || dtype.contains("float")
}

/// Whether a length is called like that of a batch.
pub(crate) fn is_batch(name: &str) -> bool {
    name.to_ascii_lowercase().contains("batch") || name == "N"
}

fn remark(tensor: &Tensor) -> String {
    let shape: String = tensor.shape_text().chars().filter(|c| !c.is_control()).collect();
    if shape.is_empty() { shape } else { format!("  # {shape}") }
}

fn answer(tensor: &Tensor) -> String {
    match &tensor.layout {
        None => quoted(OPEN),
        Some(Answer::Layout(text)) => quoted(text),
        Some(Answer::No) => "false".to_owned(),
    }
}

/// A string of TOML, which Python reads alike.
pub(crate) fn quoted(text: &str) -> String {
    let mut result = String::from("\"");
    for c in text.chars() {
        match c {
            '"' => result.push_str("\\\""),
            '\\' => result.push_str("\\\\"),
            c if c.is_control() => {
                let _ = write!(result, "\\u{:04X}", u32::from(c));
            }
            c => result.push(c),
        }
    }
    result.push('"');
    result
}

/// A key of TOML, quoted where it has to be.
pub(crate) fn key(name: &str) -> String {
    let bare = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    if !name.is_empty() && name.chars().all(bare) { name.to_owned() } else { quoted(name) }
}
