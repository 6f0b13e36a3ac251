//! One-parameter subgroups `exp(t X)`: a basis of the Lie algebra of a group's continuous factors.

use ndarray::{Array1, Array2};

use super::element::Element;
use super::group::{Factor, Group};
use super::lie;

/// One element X of the basis. Turns are counted in radian, boosts in rapidity, translations in `length`, a unit that
/// the caller chooses, dilations in powers of e.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Generator {
    factor: Factor,
    /// Position in the basis of the factor's algebra.
    number: usize,
    /// Unit of translations.
    length: f64,
}

impl Generator {
    /// A basis for `group`, in the order of its factors; nothing of finite groups, nor of shifts by more than a pixel.
    pub(crate) fn basis(group: &Group, length: f64) -> Vec<Self> {
        let of = |factor: Factor| {
            let count = match &factor {
                Factor::Linear { dimension, .. } => dimension * dimension.saturating_sub(1) / 2,
                Factor::Lorentz { .. } => 6,
                Factor::Translation(shift) if shift.step > 1 => 0,
                Factor::Translation(shift) => shift.dimension,
                Factor::Phase | Factor::Scale => 1,
                _ => 0,
            };
            (0..count).map(move |number| Self { factor: factor.clone(), number, length })
        };
        group.factors().into_iter().flat_map(of).collect()
    }

    /// The factor that it is of.
    pub(crate) fn factor(&self) -> &Factor {
        &self.factor
    }

    /// `exp(t X)`; what it does not concern is as in `identity`.
    pub(crate) fn element(&self, identity: &Element, t: f64) -> Element {
        let element = identity.clone();
        let coordinates = |count: usize| -> Vec<f64> {
            (0..count).map(|k| if k == self.number { t } else { 0.0 }).collect()
        };
        match &self.factor {
            Factor::Linear { dimension: n, .. } => {
                element.with_linear(lie::rotation_exp(&coordinates(n * (n - 1) / 2), *n))
            }
            Factor::Lorentz { .. } => {
                let mut c = [0.0; 6];
                c[self.number] = t;
                element.with_lorentz(lie::lorentz_exp(c))
            }
            Factor::Translation(shift) => match &shift.along {
                Some(axis) => element.with_shift(axis, t * self.length),
                None => element.with_translation(self.translation(shift.dimension) * t),
            },
            Factor::Phase => element.with_phase(t),
            Factor::Scale => element.with_scale(t.exp()),
            _ => element,
        }
    }

    /// X on vectors of space: the derivative of the defining representation, `n x n`; `None` where it turns nothing.
    pub(crate) fn matrix(&self) -> Option<Array2<f64>> {
        match &self.factor {
            Factor::Linear { dimension, .. } => lie::so_generators(*dimension).into_iter().nth(self.number),
            Factor::Lorentz { .. } => lie::lorentz_generators().into_iter().nth(self.number),
            _ => None,
        }
    }

    /// The velocity of points at the origin, length `n`.
    pub(crate) fn translation(&self, n: usize) -> Array1<f64> {
        let along = |k: usize| k == self.number && matches!(self.factor, Factor::Translation(_));
        (0..n).map(|k| if along(k) { self.length } else { 0.0 }).collect()
    }
}
