//! ONNX models for equicheck, in process: a graph in a file as [`equicheck::model::Model`].
//!
//! [`OnnxModel::open`] reads a file and gives it to a [`Backend`]: tract, which is compiled in, or ONNX Runtime, whose
//! library is loaded from where it is installed. [`Description::read`] needs neither.

#![cfg_attr(
    not(all(feature = "tract", feature = "onnxruntime")),
    allow(dead_code, reason = "some of it serves one backend alone")
)]

mod anatomy;
mod backend;
mod double;
mod error;
mod graph;
mod guard;
mod layers;
mod lower;
mod model;
mod port;
mod proto;
mod schema;
mod tensor;

pub use backend::Backend;
pub use error::OnnxError;
pub use model::{OnnxModel, OpenOptions};
pub use port::{Description, Dim, Port};
