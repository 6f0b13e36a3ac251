//! Does a model respect the symmetry that it claims: `f(T x) = T' f(x)` for every `T` in a group?
//!
//! The engine: groups and representations ([`symmetry`]), what is asked of a model ([`model`]), the audit itself
//! ([`audit()`]), what its findings mean ([`diagnosis`]) and how they are shown ([`report`]). Frameworks are adapters behind
//! [`model::Model`].

pub mod audit;
pub mod diagnosis;
mod error;
pub mod model;
pub mod report;
pub mod spec;
pub mod symmetry;

pub use audit::audit;
pub use error::{Error, ParseError, most_alike, sentence};
