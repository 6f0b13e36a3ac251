//! Does a model respect the symmetry it claims: `f(T x) = T' f(x)` for every `T` in a group?

pub mod diagnosis;
pub mod report;
