//! Who computes: an embedded runtime, or a library that is installed.

#[cfg(feature = "onnxruntime")]
mod onnxruntime;
#[cfg(feature = "tract")]
mod tract;

use std::fmt;
use std::str::FromStr;

use equicheck::model::Tensor;

use crate::graph::{node_name, operator_name, try_nodes};
use crate::guard::one_line;
use crate::proto::{ModelProto, NodeProto};
use crate::{OnnxError, OpenOptions};

/// Who computes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash)]
pub enum Backend {
    /// tract: embedded, in Rust.
    #[default]
    Tract,
    /// ONNX Runtime: a library that is installed beside this program; more operators, and faster.
    OnnxRuntime,
}

impl Backend {
    /// All of them.
    pub const ALL: [Backend; 2] = [Backend::Tract, Backend::OnnxRuntime];

    /// The word for it: what [`FromStr`] takes.
    pub fn word(self) -> &'static str {
        match self {
            Backend::Tract => "tract",
            Backend::OnnxRuntime => "onnxruntime",
        }
    }

    /// Whether this program was built with it.
    pub fn is_built(self) -> bool {
        match self {
            Backend::Tract => cfg!(feature = "tract"),
            Backend::OnnxRuntime => cfg!(feature = "onnxruntime"),
        }
    }

    /// How sentences speak of it.
    pub(crate) fn title(self) -> &'static str {
        match self {
            Backend::Tract => "the embedded backend (tract)",
            Backend::OnnxRuntime => "ONNX Runtime",
        }
    }

    pub(crate) fn other(self) -> Self {
        match self {
            Backend::Tract => Backend::OnnxRuntime,
            Backend::OnnxRuntime => Backend::Tract,
        }
    }

    /// What to try where this one refuses a graph.
    pub(crate) fn other_may(self) -> String {
        format!("; --backend {} may run it", self.other())
    }
}

impl fmt::Display for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

impl FromStr for Backend {
    type Err = OnnxError;

    fn from_str(word: &str) -> Result<Self, OnnxError> {
        if let Some(backend) = Self::ALL.into_iter().find(|backend| backend.word() == word) {
            return Ok(backend);
        }
        // "ort" and the like are nearer to the library's name than letters say.
        let nearest = equicheck::most_alike(word, Self::ALL.into_iter().map(Backend::word))
            .expect("there are backends");
        Err(OnnxError::UnknownBackend { word: word.to_owned(), nearest })
    }
}

/// A graph that a backend has taken.
pub(crate) trait Runner {
    /// Its outputs in the graph's order; `None` for what is no tensor.
    fn run(&mut self, inputs: &[Tensor]) -> Result<Vec<Option<Tensor>>, OnnxError>;

    /// The backend's version.
    fn version(&self) -> String;
}

/// How far a backend may change a graph before it runs it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Optimisation {
    /// As it likes.
    Full,
    /// Not at all: a node computes the same wherever it stands.
    None,
}

/// Gives a graph to the backend.
#[cfg_attr(
    not(any(feature = "tract", feature = "onnxruntime")),
    expect(unused_variables, reason = "there is no backend")
)]
pub(crate) fn start(
    model: &ModelProto,
    options: &OpenOptions,
    optimisation: Optimisation,
) -> Result<Box<dyn Runner>, OnnxError> {
    match options.backend {
        #[cfg(feature = "tract")]
        Backend::Tract => tract::start(model, optimisation),
        #[cfg(feature = "onnxruntime")]
        Backend::OnnxRuntime => onnxruntime::start(model, options, optimisation),
        #[cfg(not(all(feature = "tract", feature = "onnxruntime")))]
        backend => Err(OnnxError::NotBuilt { backend }),
    }
}

/// A failed run with the node that it failed at, where the backend's message names one of the graph: the one whose
/// name is longest, since backends derive names of their own from these. tract writes `#7 "NAME" OPERATOR`, and ONNX
/// Runtime `running OPERATOR node. Name:'NAME' Status Message: WHY`.
pub(crate) fn located(model: &ModelProto, error: OnnxError) -> OnnxError {
    let OnnxError::Run { backend, at: None, why } = error else { return error };
    let named: Option<&str> = match backend {
        // The innermost of several is where it happened; quotes that are no names fit no node.
        Backend::Tract => why.rsplit_once('#').and_then(|(_, rest)| rest.split('"').nth(1)),
        Backend::OnnxRuntime => why
            .split_once(" Name:'")
            .and_then(|(_, rest)| rest.split_once("' Status Message:"))
            .map(|(n, _)| n),
    };
    let mut at: Option<(String, String)> = None;
    if let Some(named) = named {
        let _ = try_nodes(model, &mut |node| -> Result<(), ()> {
            let name = node_name(node);
            let derived = named.strip_prefix(name).is_some_and(|rest| {
                !rest.starts_with(|c: char| c.is_alphanumeric() || c == '_') && !name.is_empty()
            });
            if derived && at.as_ref().is_none_or(|(_, other)| other.len() < name.len()) {
                at = Some((operator_name(node), name.to_owned()));
            }
            Ok(())
        });
    }
    let at = at.map(|(operator, node)| (one_line(&operator), one_line(&node)));
    // What the sentence says already.
    let why = match (&at, why.split_once("' Status Message: ")) {
        (Some(_), Some((_, rest))) if backend == Backend::OnnxRuntime => rest.to_owned(),
        _ => why,
    };
    OnnxError::Run { backend, at, why }
}

/// What to do where a backend lacks an operator.
fn remedy(model: &ModelProto, backend: Backend, node: &NodeProto) -> String {
    let known = crate::schema::knows(node) || model.functions.iter().any(|f| f.name == node.op_type);
    match backend {
        _ if !known => "it is none of the standard's operators: export the model without it".to_owned(),
        Backend::Tract if Backend::OnnxRuntime.is_built() => "--backend onnxruntime may run it".to_owned(),
        Backend::Tract => "a build with the Cargo feature `onnxruntime` may run it".to_owned(),
        Backend::OnnxRuntime => "a newer ONNX Runtime or --backend tract may".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::GraphProto;

    /// As tract 0.23 prints nodes; it derives names of its own from those of the graph.
    #[test]
    fn the_innermost_node_that_tract_names_is_found_in_the_graph() {
        let node = |op_type: &str, name: &str| NodeProto {
            op_type: op_type.to_owned(),
            name: name.to_owned(),
            ..NodeProto::default()
        };
        let node = vec![node("Conv", "first"), node("Reshape", "first_1"), node("Gemm", "last")];
        let graph = Some(GraphProto { node, ..GraphProto::default() });
        let model = ModelProto { graph, ..ModelProto::default() };
        for (why, wanted) in [
            ("Evaluating #4 \"first_1.fix_c\" Reshape: volumes differ", Some(("Reshape", "first_1"))),
            ("Translating node #3 \"last\" Gemm: Wiring #1 \"first\" Conv: no", Some(("Conv", "first"))),
            ("Evaluating #4 \"first_2\" Add: no", None),
            ("it panicked: range start index 594 out of range", None),
        ] {
            let error = OnnxError::Run { backend: Backend::Tract, at: None, why: why.to_owned() };
            let OnnxError::Run { at, .. } = located(&model, error) else { panic!("it is another error") };
            let wanted = wanted.map(|(operator, node)| (operator.to_owned(), node.to_owned()));
            assert_eq!(at, wanted, "{why}");
        }
    }
}
