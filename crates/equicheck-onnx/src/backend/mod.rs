//! Who computes: an embedded runtime, or a library that is installed.

#[cfg(feature = "onnxruntime")]
mod onnxruntime;
#[cfg(feature = "tract")]
mod tract;

use std::fmt;
use std::str::FromStr;

use equicheck::model::Tensor;

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
        format!("; --backend {} may", self.other())
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

/// Gives a graph to the backend.
#[cfg_attr(
    not(any(feature = "tract", feature = "onnxruntime")),
    expect(unused_variables, reason = "there is no backend")
)]
pub(crate) fn start(model: &ModelProto, options: &OpenOptions) -> Result<Box<dyn Runner>, OnnxError> {
    match options.backend {
        #[cfg(feature = "tract")]
        Backend::Tract => tract::start(model),
        #[cfg(feature = "onnxruntime")]
        Backend::OnnxRuntime => onnxruntime::start(model, options),
        #[cfg(not(all(feature = "tract", feature = "onnxruntime")))]
        backend => Err(OnnxError::NotBuilt { backend }),
    }
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
