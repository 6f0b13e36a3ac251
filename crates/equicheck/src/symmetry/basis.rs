//! Representations in a basis that is nobody's convention: `B^-1 D(g) B` with an invertible B (METHOD 13).

use std::fmt;
use std::rc::Rc;

use nalgebra::DMatrix;
use ndarray::{Array2, s};

use super::{DirectSum, Element, Representation};

/// `B^-1 D(g) B`, where D is a direct sum; found by the engine, and no word of the layout language.
#[derive(Debug, Clone, PartialEq)]
pub struct InBasis(Rc<Basis>);

#[derive(Debug, PartialEq)]
struct Basis {
    /// D, whose representations have fixed dimensions.
    sum: DirectSum,
    /// By block of D: what acts, and where it starts.
    blocks: Vec<(Representation, usize)>,
    forth: Array2<f64>,
    back: Array2<f64>,
}

impl InBasis {
    /// `rows` are those of B, one matrix `[dimension, components]` for each block of D in turn; `None` where B has no
    /// inverse.
    pub(crate) fn new(rows: &[(Representation, Array2<f64>)]) -> Option<Self> {
        let views: Vec<_> = rows.iter().map(|(_, rows)| rows.view()).collect();
        let forth = ndarray::concatenate(ndarray::Axis(0), &views).ok()?;
        let (n, m) = forth.dim();
        if n != m {
            return None;
        }
        let inverse = DMatrix::from_fn(n, m, |i, j| forth[[i, j]]).try_inverse()?;
        let back = Array2::from_shape_fn((n, n), |(i, j)| inverse[(i, j)]);
        let mut blocks: Vec<(Representation, usize)> = Vec::new();
        let mut sum = DirectSum(Vec::new());
        let mut start = 0;
        for (representation, rows) in rows {
            match sum.0.last_mut() {
                Some(last) if last.representation == *representation => last.multiplicity += 1,
                _ => sum.0.extend(DirectSum::from(representation.clone()).0),
            }
            blocks.push((representation.clone(), start));
            start += rows.nrows();
        }
        Some(Self(Rc::new(Basis { sum, blocks, forth, back })))
    }

    /// Number of components.
    pub(crate) fn dimension(&self) -> usize {
        self.0.forth.nrows()
    }

    /// By how much the basis may enlarge rounding: the condition number of B in the Frobenius norm, over that of an
    /// orthogonal one.
    pub(crate) fn condition(&self) -> f64 {
        let norm = |m: &Array2<f64>| m.iter().map(|v| v * v).sum::<f64>().sqrt();
        norm(&self.0.forth) * norm(&self.0.back) / self.dimension() as f64
    }

    /// What it is the sum of.
    pub(crate) fn parts(&self) -> impl Iterator<Item = &Representation> {
        self.0.blocks.iter().map(|(representation, _)| representation)
    }

    /// Whether its matrix keeps lengths, to half of the digits or to the tolerance; `None` where D does not.
    pub(crate) fn is_orthogonal(&self, element: &Element, tolerance: f64) -> Option<bool> {
        let tolerance = tolerance.max(f64::EPSILON.sqrt());
        let keeps = |m: &Array2<f64>| {
            let away = m.t().dot(m) - Array2::<f64>::eye(m.nrows());
            away.iter().all(|v| v.abs() <= tolerance)
        };
        let kept = self.parts().filter_map(|part| part.matrix(element)).all(|m| keeps(&m));
        kept.then(|| self.matrix(element).is_none_or(|m| keeps(&m)))
    }

    /// `B^-1 D(g) B`; `None` where D is the identity.
    pub(crate) fn matrix(&self, element: &Element) -> Option<Array2<f64>> {
        let Basis { blocks, forth, back, .. } = &*self.0;
        let mut turned = Array2::eye(forth.nrows());
        let mut moves = false;
        for (representation, start) in blocks {
            if let Some(matrix) = representation.matrix(element) {
                let over = *start..start + matrix.nrows();
                turned.slice_mut(s![over.clone(), over]).assign(&matrix);
                moves = true;
            }
        }
        moves.then(|| back.dot(&turned).dot(forth))
    }
}

impl fmt::Display for InBasis {
    /// The mark `#` is no character of the layout language.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "basis#({})", self.0.sum)
    }
}
