//! ONNX models through both backends.

mod audits;
mod damage;
mod double;
mod errors;
mod files;
mod layers;
mod models;
mod state;
