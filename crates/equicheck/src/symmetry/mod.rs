//! Groups, their elements, representations, and how an element acts on a tensor.
//!
//! Conventions, everywhere: actions are active; a permutation acts as `x'[i] = x[p[i]]`; irreps are in e3nn's real
//! basis and component order.

mod action;
mod alternatives;
mod basis;
mod element;
pub mod finite;
mod generator;
pub mod grid;
mod group;
mod irreps;
mod lattice;
mod layout;
pub mod lie;
mod order;
mod representation;
pub mod tensors;
mod user;
mod wigner;

pub use action::BoundLayout;
pub(crate) use action::{Sampled, Selection, permuted_lengths};
pub(crate) use alternatives::{Other, alternatives, orders, positions, relabelled, transformed};
pub use basis::InBasis;
pub use element::Element;
pub(crate) use generator::Generator;
pub(crate) use group::GRID_AXES;
pub use group::{Factor, Generators, Group, LARGEST_LISTED, Shift, Term};
pub use irreps::{
    Arrangement, BlockMatrix, Irrep, Irreps, IrrepsBlock, IrrepsError, IrrepsErrorKind, IrrepsMatrices,
    Parity, proper_part,
};
pub use lattice::Lattice;
pub use layout::{Axis, IndexValues, Layout, PLAIN_WORDS, UpTo};
pub use representation::{DirectSum, Representation, Summand};
pub use user::{Representations, User, UserRepresentation};
pub use wigner::{L_MAX, WignerMatrices, flat_len, flat_offset, wigner_d, wigner_d_into, wigner_d_up_to};
