//! Errors: what, where, what to do.

use std::path::PathBuf;

use thiserror::Error;

use crate::Backend;

/// Why an ONNX model cannot be opened or run.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum OnnxError {
    /// The file cannot be read.
    #[error("{}: the file cannot be read: {why}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's message.
        why: String,
    },

    /// The file holds something else, or its end is missing, or bytes of it are damaged.
    #[error(
        "{}: this is no whole ONNX model: {why}; export the model again, or check that the file was copied whole",
        path.display()
    )]
    NotOnnx {
        /// The file.
        path: PathBuf,
        /// What was seen.
        why: String,
    },

    /// A tensor in the file contradicts itself, or has values of a type that no backend computes with.
    #[error("{}: tensor `{tensor}`: {why}", path.display())]
    Tensor {
        /// The file.
        path: PathBuf,
        /// Its name, or the node's that holds it.
        tensor: String,
        /// What is wrong.
        why: String,
    },

    /// Values that are kept in a file of their own cannot be taken from there.
    #[error(
        "tensor `{tensor}` has its values in `{location}`: {why}; files beside the model must lie in the model's \
         own folder"
    )]
    ExternalData {
        /// The tensor.
        tensor: String,
        /// The file as the model names it.
        location: String,
        /// What is wrong.
        why: String,
    },

    /// Values in files of their own, together with the graph, are more than one ONNX message can hold.
    #[error("{}: the model holds {bytes} bytes: more than 2 GiB cannot be run", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// Size of the whole.
        bytes: u64,
    },

    /// A word that names no backend.
    #[error("unknown backend `{word}`: did you mean `{nearest}`? There are `tract` and `onnxruntime`")]
    UnknownBackend {
        /// The word.
        word: String,
        /// The valid one that is nearest.
        nearest: &'static str,
    },

    /// The backend was left out when this program was built.
    #[error(
        "this program was built without the backend `{backend}`: build it with the Cargo feature `{backend}`, or use \
         another backend"
    )]
    NotBuilt {
        /// The backend.
        backend: Backend,
    },

    /// No library of ONNX Runtime was found.
    #[error(
        "ONNX Runtime was not found: `pip install onnxruntime`, or say where its library is with --onnxruntime PATH or \
         in ORT_DYLIB_PATH; looked in {}",
        looked_in(searched)
    )]
    LibraryNotFound {
        /// Folders in which it was looked for.
        searched: Vec<PathBuf>,
    },

    /// The library of ONNX Runtime cannot be used.
    #[error(
        "{}: this library of ONNX Runtime cannot be loaded: {why}; 1.17 or newer is needed: `pip install onnxruntime`, \
         or name another one with --onnxruntime PATH",
        path.display()
    )]
    Library {
        /// The library.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },

    /// Another library of ONNX Runtime is in use.
    #[error(
        "{}: this process has loaded ONNX Runtime from {} already, and can hold one of them",
        asked.display(), loaded.display()
    )]
    OtherLibrary {
        /// The one that was asked for.
        asked: PathBuf,
        /// The one that is in use.
        loaded: PathBuf,
    },

    /// The backend lacks an operator, or computes another one in its place.
    #[error("`{operator}` at node `{node}`: {} {why}; {remedy}", backend.title())]
    Operator {
        /// The operator, with its domain where that is not the standard's.
        operator: String,
        /// The node, or the first tensor that it makes.
        node: String,
        /// The backend.
        backend: Backend,
        /// What it lacks, as the end of a sentence about it.
        why: String,
        /// What to do.
        remedy: String,
    },

    /// The backend refuses the graph.
    #[error("{} cannot take the model: {why}{}", backend.title(), backend.other_may())]
    Refused {
        /// The backend.
        backend: Backend,
        /// Its own message, in one line.
        why: String,
    },

    /// The backend failed on inputs that fit the graph.
    #[error("{}{}: {}{}", backend.title(), at.as_ref().map_or(String::new(), at_node), shortened(why), backend.other_may())]
    Run {
        /// The backend.
        backend: Backend,
        /// The operator and the node that it failed at, where its message names a node of the graph.
        at: Option<(String, String)>,
        /// Its own message, in one line.
        why: String,
    },

    /// An input does not fit the graph.
    #[error("input `{input}`: {why}")]
    Input {
        /// Its name.
        input: String,
        /// What is wrong.
        why: String,
    },

    /// Another number of inputs than the graph has.
    #[error("{given} inputs were given, and the graph has {}: {}", names.len(), names.join(", "))]
    InputCount {
        /// How many were given.
        given: usize,
        /// Those of the graph.
        names: Vec<String>,
    },

    /// No node makes such a tensor.
    #[error("no node makes a tensor `{name}`{}", nearest.as_ref().map_or(String::new(), |n| format!(": did you mean `{n}`?")))]
    UnknownTensor {
        /// The name.
        name: String,
        /// The nearest of those that are made.
        nearest: Option<String>,
    },
}

fn at_node((operator, node): &(String, String)) -> String {
    format!(" fails at `{operator}`, node `{node}`")
}

/// The beginning of a runtime's own message: some print half of the graph.
fn shortened(why: &str) -> String {
    const SHOWN: usize = 300;
    let mut characters = why.chars();
    let beginning: String = characters.by_ref().take(SHOWN).collect();
    if characters.next().is_some() { beginning + " ..." } else { beginning }
}

fn looked_in(searched: &[PathBuf]) -> String {
    if searched.is_empty() {
        return "no folder: none was given".to_owned();
    }
    searched.iter().map(|folder| folder.display().to_string()).collect::<Vec<_>>().join(", ")
}
