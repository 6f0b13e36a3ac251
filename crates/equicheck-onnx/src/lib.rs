//! ONNX models for equicheck, in process: a graph in a file as [`equicheck::model::Model`].
//!
//! [`OnnxModel::open`] reads a file and gives it to a [`Backend`]: tract, which is compiled in, or ONNX Runtime, whose
//! library is loaded from where it is installed. Reading needs neither.

mod backend;
mod double;
mod error;
mod graph;
mod guard;
mod lower;
mod model;
mod port;
mod proto;
mod schema;
mod tensor;

pub use backend::Backend;
pub use error::OnnxError;
pub use model::{OnnxModel, OpenOptions};
pub use port::{Dim, Port};
