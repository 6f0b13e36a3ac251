//! Symmetries that the host's own functions carry out.

use super::Tensor;
use crate::Error;

/// An element of a custom action, by the keys of the elements that the host draws.
///
/// The element of a key is a pure function of the key: the host may draw it again whenever it is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CustomElement {
    /// The identity; asked for only if [`CustomAction::has_identity`].
    Identity,
    /// The element drawn with this key.
    Drawn(u64),
    /// Its inverse; asked for only if [`CustomAction::has_inverse`].
    Inverse(u64),
    /// `compose(T, S)` of the elements with the keys `T` and `S`: `S` acts first, then `T`. Asked for only if
    /// [`CustomAction::has_compose`].
    Product(u64, u64),
}

/// A symmetry given by functions instead of a group and layouts: `T` acts on all inputs of a sample at once, and on
/// all outputs at once.
///
/// Tensors come and go in double precision (complex ones too; integers in their own type, outputs as `int64`) and
/// keep their shapes.
pub trait CustomAction {
    /// What the report calls the group.
    fn name(&self) -> String;

    /// Whether the identity is known.
    fn has_identity(&self) -> bool {
        false
    }

    /// Whether inverses are known.
    fn has_inverse(&self) -> bool {
        false
    }

    /// Whether products are known.
    fn has_compose(&self) -> bool {
        false
    }

    /// `T x` for the tensors of sample `sample`, in the order of the specification's inputs.
    ///
    /// # Errors
    /// The host's own error, as [`Error::CustomAction`] where one of its functions is to blame.
    fn act_on_inputs(
        &self,
        element: CustomElement,
        sample: usize,
        inputs: &[Tensor],
    ) -> Result<Vec<Tensor>, Error>;

    /// `T' y` for the audited outputs, with their paths, in the model's order.
    ///
    /// # Errors
    /// As for [`act_on_inputs`](CustomAction::act_on_inputs).
    fn act_on_outputs(
        &self,
        element: CustomElement,
        outputs: &[(&str, Tensor)],
    ) -> Result<Vec<Tensor>, Error>;

    /// The element in a few words, for the report.
    fn describe(&self, element: CustomElement) -> String {
        match element {
            CustomElement::Identity => "identity".to_owned(),
            CustomElement::Drawn(key) => format!("element drawn with key {key}"),
            CustomElement::Inverse(key) => format!("inverse of the element drawn with key {key}"),
            CustomElement::Product(t, s) => format!("product of the elements drawn with keys {t} and {s}"),
        }
    }
}
