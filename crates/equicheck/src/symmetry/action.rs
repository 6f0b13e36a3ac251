//! The action of an element on a tensor: the product of the actions on its axes.
//!
//! Arithmetic is in f64 with one rounding into the tensor's type at the end.

use std::collections::BTreeMap;

use ndarray::{Array2, ArrayD, IxDyn};

use crate::error::Error;
use crate::model::{DType, Tensor};

use super::element::{Element, inverse_permutation};
use super::group::{Factor, Group};
use super::irreps::{Irrep, Irreps, Parity};
use super::layout::{Axis, IndexValues, Layout};

/// A layout bound to a shape: one meaning per axis of the tensor.
#[derive(Debug, Clone, PartialEq)]
pub struct BoundLayout {
    layout: Layout,
    shape: Vec<usize>,
    /// Position in the shape, and the axis; plain ones left out.
    moved: Vec<(usize, Axis)>,
    /// Whether the group's matrices may be improper; `None` when it has none.
    improper: Option<bool>,
}

/// Components `start..end` of the one axis that irreps or vectors live on, which turn among themselves.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Block {
    /// e.g. `2x1o`, or empty when there is but one block.
    pub(crate) name: String,
    /// Axis of the tensor, and the range along it; `None`: the whole tensor.
    pub(crate) range: Option<(usize, std::ops::Range<usize>)>,
    /// Whether nothing in the group turns or shifts it (it may still be permuted): an invariant, which may hide in a
    /// large offset.
    pub(crate) scalar: bool,
}

impl BoundLayout {
    /// Binds `layout` to `shape`; `tensor` names it in errors, e.g. "input `pos`".
    ///
    /// # Errors
    /// A rank or a length that does not fit.
    pub fn new(layout: &Layout, shape: &[usize], group: &Group, tensor: &str) -> Result<Self, Error> {
        let fail = |why: String| Error::Shape {
            tensor: tensor.to_owned(),
            layout: layout.to_string(),
            shape: shape.to_vec(),
            why,
        };
        let axes = layout.axes();
        let leading = axes.first() == Some(&Axis::Ellipsis);
        let named = if leading { &axes[1..] } else { axes };
        if leading && shape.len() < named.len() {
            return Err(fail(format!(
                "it names {} axes after `...`, the tensor has {}",
                named.len(),
                shape.len()
            )));
        }
        if !leading && shape.len() != named.len() {
            return Err(fail(format!("it names {} axes, the tensor has {}", named.len(), shape.len())));
        }
        let offset = shape.len() - named.len();
        let mut moved = Vec::new();
        for (k, axis) in named.iter().enumerate() {
            let length = shape[offset + k];
            let expected = match axis {
                Axis::Size(n) => Some(*n),
                Axis::Vector | Axis::Point | Axis::Pseudovector => group.dimension(),
                Axis::Irreps(irreps) => Some(irreps.dim()),
                _ => None,
            };
            if let Some(n) = expected.filter(|n| *n != length) {
                return Err(fail(format!("`{axis}` needs length {n}, axis {} has {length}", offset + k)));
            }
            if axis.is_spatial() && group.dimension().is_some() || matches!(axis, Axis::Permuted(_)) {
                moved.push((offset + k, axis.clone()));
            }
        }
        let improper = group.factors().iter().find_map(|factor| match factor {
            Factor::Linear { improper, .. } => Some(*improper),
            _ => None,
        });
        Ok(Self { layout: layout.clone(), shape: shape.to_vec(), moved, improper })
    }

    /// The layout.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// The shape it is bound to.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// Permuted axes and their lengths.
    pub fn permuted_lengths(&self) -> impl Iterator<Item = (&str, usize)> {
        self.moved.iter().filter_map(|(at, axis)| match axis {
            Axis::Permuted(name) => Some((name.as_str(), self.shape[*at])),
            _ => None,
        })
    }

    /// Whether `factor` can move a tensor of this layout. Irreps `0e` alone, say, are moved by nothing.
    pub fn is_moved_by(&self, factor: &Factor) -> bool {
        match factor {
            Factor::Linear { improper, .. } => self.moved.iter().any(|(_, axis)| match axis {
                Axis::Irreps(irreps) => irreps.blocks().iter().any(|b| turns(b.irrep, *improper)),
                axis => axis.is_spatial(),
            }),
            Factor::Translation { .. } => self.moved.iter().any(|(_, axis)| *axis == Axis::Point),
            Factor::Permutation { axis } => self.layout.permuted_axes().any(|name| name == axis),
        }
    }

    /// How it transforms, in words, one clause per moving axis.
    pub fn describe(&self, group: &Group) -> String {
        let improper = group.factors().iter().any(|f| matches!(f, Factor::Linear { improper: true, .. }));
        let turns = group.factors().iter().any(|f| matches!(f, Factor::Linear { .. }));
        let shifts = group.factors().iter().any(|f| matches!(f, Factor::Translation { .. }));
        let mut clauses: Vec<String> = Vec::new();
        for (at, axis) in &self.moved {
            let clause = match axis {
                Axis::Permuted(name) => Some(format!("permuted with `{name}`")),
                Axis::Vector if turns => Some("turned as a vector (g v), not translated".to_owned()),
                Axis::Point if turns && shifts => {
                    Some("turned and translated as a point (g v + t)".to_owned())
                }
                Axis::Point if turns => Some("turned as a point (g v)".to_owned()),
                Axis::Point if shifts => Some("translated as a point (v + t)".to_owned()),
                Axis::Pseudovector if improper => Some("turned as an axial vector (det(g) g v)".to_owned()),
                Axis::Pseudovector if turns => Some("turned as a vector (g v)".to_owned()),
                Axis::Irreps(irreps) if turns => {
                    let rule = if improper { "Wigner D with parity" } else { "Wigner D" };
                    Some(format!("turned by {rule} of {irreps}, e3nn basis"))
                }
                _ => None,
            };
            if let Some(clause) = clause {
                clauses.push(format!("axis {at} {clause}"));
            }
        }
        if let Some(values) = self.layout.values() {
            let kept = values.sentinel.map_or(String::new(), |s| format!(", {s} kept"));
            clauses.push(format!("values relabelled as positions along `{}`{kept}", values.axis));
        }
        if clauses.is_empty() { "not moved".to_owned() } else { clauses.join("; ") }
    }

    /// Plain axes whose length is the dimension of space, in a tensor that the group's matrix does not touch: the
    /// usual slip of writing `3` for `vector`.
    pub fn suspicious_axes(&self, group: &Group) -> Vec<String> {
        let Some(dimension) = group.dimension() else { return Vec::new() };
        if self.layout.axes().iter().any(Axis::is_spatial) || self.layout.values().is_some() {
            return Vec::new();
        }
        self.layout
            .axes()
            .iter()
            .filter_map(|axis| match axis {
                Axis::Size(n) if *n == dimension => Some(axis.to_string()),
                _ => None,
            })
            .collect()
    }

    /// Acts on a tensor of this shape. The identity returns the same bits.
    pub fn act(&self, element: &Element, tensor: &Tensor) -> Tensor {
        let mut result = self.permute(element, tensor);
        if self.moves_values(element) {
            let real = self.act_on_components(element, &result.to_real());
            let dtype = if result.dtype().is_inexact() { result.dtype() } else { DType::Float64 };
            result = Tensor::from_real(real, dtype);
        }
        result
    }

    /// The same on f64 values, possibly with a last axis of length 2 for complex numbers.
    pub fn act_on_real(&self, element: &Element, values: &ArrayD<f64>) -> ArrayD<f64> {
        let Tensor::Float64(permuted) = self.permute(element, &Tensor::Float64(values.clone())) else {
            unreachable!("a permutation keeps the element type")
        };
        let permuted = self.relabel(element, &permuted);
        if self.moves_values(element) { self.act_on_components(element, &permuted) } else { permuted }
    }

    fn moves_values(&self, element: &Element) -> bool {
        let n = element.linear().nrows();
        let spatial = self.moved.iter().any(|(_, axis)| axis.is_spatial());
        spatial
            && (*element.linear() != Array2::<f64>::eye(n) || element.translation().iter().any(|t| *t != 0.0))
    }

    fn permute(&self, element: &Element, tensor: &Tensor) -> Tensor {
        let mut result = tensor.clone();
        for (at, axis) in &self.moved {
            if let Axis::Permuted(name) = axis
                && let Some(p) = element.permutation(name)
            {
                result = result.select(*at, p);
            }
        }
        if let Some(relabel) = self.relabelling(element)
            && let Some(relabelled) = result.map_integers(relabel)
        {
            result = relabelled;
        }
        result
    }

    /// What becomes of a value that is a position along a permuted axis.
    fn relabelling(&self, element: &Element) -> Option<impl Fn(i64) -> i64> {
        let values = self.layout.values()?;
        let inverse = inverse_permutation(element.permutation(&values.axis)?);
        let sentinel = values.sentinel;
        // Padding and sentinels lie outside 0..n and stay as they are (METHOD 1).
        Some(move |v: i64| match usize::try_from(v).ok().and_then(|v| inverse.get(v)) {
            Some(&target) if sentinel != Some(v) => target as i64,
            _ => v,
        })
    }

    /// Relabels positions held as floating values, as outputs are once they are read as f64.
    fn relabel(&self, element: &Element, values: &ArrayD<f64>) -> ArrayD<f64> {
        match self.relabelling(element) {
            Some(relabel) => values.mapv(|v| if v.fract() == 0.0 { relabel(v as i64) as f64 } else { v }),
            None => values.clone(),
        }
    }

    fn act_on_components(&self, element: &Element, values: &ArrayD<f64>) -> ArrayD<f64> {
        let shape = values.shape().to_vec();
        let mut data: Vec<f64> = values.iter().copied().collect();
        // A translation alone must not touch vectors: 0 times an infinite component is nan.
        let turns = *element.linear() != Array2::<f64>::eye(element.linear().nrows());
        for (at, axis) in &self.moved {
            let length = self.shape[*at];
            let inner: usize = shape[at + 1..].iter().product();
            let mut blocks = Blocks { data: &mut data, length, inner };
            match axis {
                Axis::Vector if turns => blocks.apply(0, element.linear()),
                Axis::Pseudovector if turns => {
                    blocks.apply(0, &(element.linear() * element.determinant()));
                }
                Axis::Point => {
                    if turns {
                        blocks.apply(0, element.linear());
                    }
                    // A complex number's imaginary part does not move: it has an inner axis of length 2.
                    let real_parts_only = shape.len() > self.shape.len();
                    blocks.shift(element.translation().as_slice().unwrap_or(&[]), real_parts_only);
                }
                Axis::Irreps(irreps) if turns => blocks.apply_irreps(irreps, element),
                _ => {}
            }
        }
        ArrayD::from_shape_vec(IxDyn(&shape), data).expect("the action keeps the shape")
    }

    /// The blocks of an output that are judged apart: its irreps by type; one block otherwise.
    pub(crate) fn blocks(&self) -> Vec<Block> {
        for (at, axis) in &self.moved {
            if let Axis::Irreps(irreps) = axis {
                let mut blocks: Vec<Block> = Vec::new();
                let others = self.moved.iter().any(|(other, axis)| other != at && self.transforms(axis));
                for b in irreps.blocks() {
                    blocks.push(Block {
                        name: format!("{}x{}", b.multiplicity, b.irrep),
                        range: Some((*at, b.range())),
                        scalar: !others && !self.improper.is_some_and(|improper| turns(b.irrep, improper)),
                    });
                }
                blocks.retain(|b| b.range.as_ref().is_none_or(|(_, r)| !r.is_empty()));
                if !blocks.is_empty() {
                    return blocks;
                }
            }
        }
        let scalar = !self.moved.iter().any(|(_, axis)| self.transforms(axis));
        vec![Block { name: String::new(), range: None, scalar }]
    }

    /// By block: whether `factor` moves it.
    pub(crate) fn blocks_moved_by(&self, factor: &Factor) -> Vec<bool> {
        let irreps = self.moved.iter().find_map(|(_, axis)| match axis {
            Axis::Irreps(irreps) => Some(irreps),
            _ => None,
        });
        match (factor, irreps) {
            // Other spatial axes turn every block.
            (Factor::Linear { improper, .. }, Some(irreps))
                if self.moved.iter().filter(|(_, axis)| axis.is_spatial()).count() == 1 =>
            {
                let blocks = irreps.blocks().iter().filter(|b| !b.range().is_empty());
                blocks.map(|b| turns(b.irrep, *improper)).collect()
            }
            _ => vec![self.is_moved_by(factor); self.blocks().len()],
        }
    }

    /// Whether the group's matrix or translations act on some axis.
    pub(crate) fn is_spatial(&self) -> bool {
        self.moved.iter().any(|(_, axis)| axis.is_spatial())
    }

    /// Whether some block is a scalar.
    pub(crate) fn has_scalars(&self) -> bool {
        self.blocks().iter().any(|block| block.scalar)
    }

    /// Whether the group turns or shifts components along this axis.
    fn transforms(&self, axis: &Axis) -> bool {
        match axis {
            Axis::Point => true,
            Axis::Vector | Axis::Pseudovector => self.improper.is_some(),
            Axis::Irreps(irreps) => {
                self.improper.is_some_and(|improper| irreps.blocks().iter().any(|b| turns(b.irrep, improper)))
            }
            _ => false,
        }
    }

    /// Position of the axis that is permuted under this name.
    pub(crate) fn position_of(&self, name: &str) -> Option<usize> {
        let permuted = Axis::Permuted(name.to_owned());
        self.moved.iter().find(|(_, axis)| *axis == permuted).map(|(at, _)| *at)
    }

    /// Position of the `point` axis.
    pub(crate) fn point_axis(&self) -> Option<usize> {
        self.moved.iter().find(|(_, axis)| *axis == Axis::Point).map(|(at, _)| *at)
    }

    /// Position of the first `vector` axis.
    pub(crate) fn vector_axis(&self) -> Option<usize> {
        self.moved.iter().find(|(_, axis)| *axis == Axis::Vector).map(|(at, _)| *at)
    }

    /// Position of the `batch` axis, or of `graphs` that nothing permutes: its entries are samples of their own.
    pub(crate) fn batch_axis(&self) -> Option<usize> {
        let axes = self.layout.axes();
        let offset = self.shape.len() - axes.iter().filter(|axis| **axis != Axis::Ellipsis).count();
        let named = axes.iter().filter(|axis| **axis != Axis::Ellipsis);
        let batch = |axis: &Axis| match axis {
            Axis::Batch => true,
            Axis::Plain { name, marked: false } => name == "graphs",
            _ => false,
        };
        named.enumerate().find(|(_, axis)| batch(axis)).map(|(k, _)| offset + k)
    }

    /// Position of the first permuted axis: its entries are the rows judged one by one.
    pub(crate) fn row_axis(&self) -> Option<usize> {
        self.moved.iter().find(|(_, axis)| matches!(axis, Axis::Permuted(_))).map(|(at, _)| *at)
    }
}

/// Whether rotations, or improper elements where there are any, move an irrep.
fn turns(irrep: Irrep, improper: bool) -> bool {
    irrep.l() > 0 || (improper && irrep.parity() == Parity::Odd)
}

/// Row-major data seen as `[outer, length, inner]`.
struct Blocks<'a> {
    data: &'a mut [f64],
    length: usize,
    inner: usize,
}

impl Blocks<'_> {
    /// Applies `matrix` (m x m) to the components `start..start + m` along the axis.
    fn apply(&mut self, start: usize, matrix: &Array2<f64>) {
        let m = matrix.nrows();
        let stride = self.inner;
        let mut before = vec![0.0; m];
        for outer in self.data.chunks_exact_mut((self.length * stride).max(1)) {
            for i in 0..stride {
                for (k, slot) in before.iter_mut().enumerate() {
                    *slot = outer[(start + k) * stride + i];
                }
                for (row, matrix_row) in matrix.outer_iter().enumerate() {
                    outer[(start + row) * stride + i] =
                        matrix_row.iter().zip(&before).map(|(a, b)| a * b).sum();
                }
            }
        }
    }

    fn shift(&mut self, translation: &[f64], real_parts_only: bool) {
        let stride = self.inner;
        let step = if real_parts_only { 2 } else { 1 };
        for outer in self.data.chunks_exact_mut((self.length * stride).max(1)) {
            for (k, t) in translation.iter().enumerate() {
                for i in (0..stride).step_by(step) {
                    outer[k * stride + i] += t;
                }
            }
        }
    }

    /// `D(g) = p(det g) D^l(det(g) g)` on each irrep, `p(-1) = -1` for odd parity.
    fn apply_irreps(&mut self, irreps: &Irreps, element: &Element) {
        let determinant = element.determinant();
        let proper = element.linear() * determinant;
        for block in irreps.matrices(&proper.view(), determinant < 0.0).blocks() {
            let matrix = &block.wigner * block.sign;
            let (offset, dim) = (block.block.offset, block.block.irrep.dim());
            for copy in 0..block.block.multiplicity {
                self.apply(offset + copy * dim, &matrix);
            }
        }
    }
}

/// Lengths of the permuted axes over all tensors of a sample.
///
/// # Errors
/// Two tensors that disagree, a sentinel that is also a position.
pub(crate) fn permuted_lengths<'a>(
    tensors: impl IntoIterator<Item = (&'a str, &'a BoundLayout)>,
) -> Result<BTreeMap<String, usize>, Error> {
    let mut lengths: BTreeMap<String, (usize, String)> = BTreeMap::new();
    let mut sentinels = Vec::new();
    for (tensor, layout) in tensors {
        if let Some(IndexValues { axis, sentinel: Some(sentinel) }) = layout.layout.values() {
            sentinels.push((tensor, layout, axis, *sentinel));
        }
        for (axis, length) in layout.permuted_lengths() {
            match lengths.get(axis) {
                None => {
                    lengths.insert(axis.to_owned(), (length, tensor.to_owned()));
                }
                Some((first, first_tensor)) if *first != length => {
                    return Err(Error::AxisLength {
                        axis: axis.to_owned(),
                        first: *first,
                        first_tensor: first_tensor.clone(),
                        second: length,
                        second_tensor: tensor.to_owned(),
                    });
                }
                Some(_) => {}
            }
        }
    }
    for (tensor, layout, axis, sentinel) in sentinels {
        let Some((length, _)) = lengths.get(axis) else { continue };
        // Another entry would be relabelled to it, and no inverse could tell the two apart.
        if usize::try_from(sentinel).is_ok_and(|s| s < *length) {
            return Err(Error::Shape {
                tensor: tensor.to_owned(),
                layout: layout.layout.to_string(),
                shape: layout.shape.clone(),
                why: format!(
                    "{sentinel} is also a position along `{axis}`, which has length {length}: mark what is no \
                     position with a value outside 0..{length}"
                ),
            });
        }
    }
    Ok(lengths.into_iter().map(|(axis, (length, _))| (axis, length)).collect())
}
