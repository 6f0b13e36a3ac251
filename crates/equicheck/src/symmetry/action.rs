//! The action of an element on a tensor: the product of the actions on its axes.
//!
//! Arithmetic is in f64 with one rounding into the tensor's type at the end; where an element only moves entries (a
//! permutation, a lattice symmetry of a grid, a regular representation) they keep their bits, whatever their type.

mod sampled;
mod selection;
mod tangent;

use std::collections::BTreeMap;
use std::rc::Rc;

use ndarray::{Array2, ArrayD, Dimension, IxDyn};

use crate::error::Error;
use crate::model::{DType, Tensor};

use super::element::{Element, inverse_permutation};
use super::grid::{Domain, GridWarp, Interpolation};
use super::group::{Factor, GRID_AXES, Group};
use super::irreps::{Arrangement, Irrep, Irreps};
use super::lattice::Cells;
use super::layout::{Axis, IndexValues, Layout, UpTo};
use super::order;
use super::representation::{Representation, Segment};

pub(crate) use sampled::Sampled;
pub(crate) use selection::Selection;

/// A layout bound to a shape: one meaning per axis of the tensor.
#[derive(Debug, Clone, PartialEq)]
pub struct BoundLayout {
    layout: Layout,
    shape: Vec<usize>,
    /// The shape with flattened axes taken apart.
    expanded: Vec<usize>,
    /// Position in the expanded shape, and the axis; plain ones left out. Weights have no position.
    moved: Vec<(Option<usize>, Moved)>,
    grid: Option<Grid>,
    /// Lattices by the input that holds them.
    pub(super) lattices: BTreeMap<String, Cells>,
    /// The rows that come in no definite order.
    rows: Option<Rows>,
    /// The factors of the group.
    factors: Vec<Factor>,
    /// Whether a custom action was seen to move it; its layout says nothing about that.
    moved_by_custom: bool,
}

/// How an axis moves.
#[derive(Debug, Clone, PartialEq)]
enum Moved {
    Permuted(String),
    /// Runs of representations along the axis.
    Components(Vec<Segment>),
}

impl Moved {
    /// The runs of representations; none along a permuted axis.
    fn segments(&self) -> &[Segment] {
        match self {
            Moved::Components(segments) => segments,
            Moved::Permuted(_) => &[],
        }
    }
}

/// Rows that come in no definite order.
#[derive(Debug, Clone, PartialEq)]
struct Rows {
    /// Position in the expanded shape.
    axis: usize,
    /// Axes whose entries have an order of rows each.
    outside: Vec<usize>,
}

/// The axes of a sampled domain.
#[derive(Debug, Clone, PartialEq)]
struct Grid {
    /// Positions in the shape, in the order of the names.
    axes: Vec<usize>,
    /// A tail of depth, height, width; or length.
    names: Vec<String>,
    sizes: Vec<usize>,
    domain: Domain,
    interpolation: Interpolation,
    /// Pixels of the reference grid per pixel here, by axis: 2 behind a stride of 2, 1/2 behind an upsampling.
    strides: Vec<f64>,
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
    /// Binds `layout` to `shape`; `tensor` names it in errors, e.g. "input `pos`". Grids are open and interpolated
    /// linearly unless [`on_grid`](Self::on_grid) says otherwise.
    ///
    /// A weight (`pseudoscalar`, `scale^2`) has no axis where the tensor has one axis per other word, and one of any
    /// length where the tensor has an axis for it too.
    ///
    /// # Errors
    /// A rank or a length that does not fit.
    pub fn new(layout: &Layout, shape: &[usize], group: &Group, tensor: &str) -> Result<Self, Error> {
        Self::with_lengths(layout, shape, group, tensor, &BTreeMap::new())
    }

    /// The same with the lengths of named axes that other tensors tell, which take flattened axes apart.
    ///
    /// # Errors
    /// A rank or a length that does not fit, two parts of a flattened axis whose lengths are unknown.
    pub fn with_lengths(
        layout: &Layout,
        shape: &[usize],
        group: &Group,
        tensor: &str,
        known: &BTreeMap<String, usize>,
    ) -> Result<Self, Error> {
        let fail = |why: String| Error::Shape {
            tensor: tensor.to_owned(),
            layout: layout.to_string(),
            shape: shape.to_vec(),
            why,
        };
        let axes = &layout.bound_axes(group, &own_lengths(layout, shape, known))?[..];
        let leading = axes.first() == Some(&Axis::Ellipsis);
        let named = if leading { &axes[1..] } else { axes };
        let weights = named.iter().filter(|axis| axis.is_weight()).count();
        let without = named.len() - weights;
        let bare = weights > 0 && (leading || shape.len() == without);
        let rank = if bare { without } else { named.len() };
        if leading && shape.len() < rank {
            return Err(fail(format!("it names {rank} axes after `...`, the tensor has {}", shape.len())));
        }
        if !leading && shape.len() != rank {
            return Err(fail(format!("it names {rank} axes, the tensor has {}", shape.len())));
        }
        let start = shape.len() - rank;
        let mut expanded: Vec<usize> = shape[..start].to_vec();
        let mut next = start;
        let mut flat: Vec<&Axis> = Vec::new();
        for axis in named {
            if bare && axis.is_weight() {
                flat.push(axis);
                continue;
            }
            match axis {
                Axis::Flattened(parts) => {
                    expanded.extend(take_apart(axis, parts, shape[next], group, known).map_err(&fail)?);
                    flat.extend(parts);
                }
                axis => {
                    expanded.push(shape[next]);
                    flat.push(axis);
                }
            }
            next += 1;
        }
        let (named, actual, shape) = (flat, shape, &expanded[..]);
        let mut at = start;
        let mut moved = Vec::new();
        let mut grid_axes: Vec<(String, usize)> = Vec::new();
        let rows = Rows::new(layout, &named, start, bare);
        for axis in named {
            if bare && axis.is_weight() {
                let segments =
                    axis.components().map(|sum| sum.segments(group, 1)).transpose().map_err(&fail)?;
                moved.push((None, Moved::Components(segments.unwrap_or_default())));
                continue;
            }
            let length = shape[at];
            match axis {
                Axis::Size(n) if *n != length => {
                    return Err(fail(format!("`{axis}` needs length {n}, axis {at} has {length}")));
                }
                Axis::Permuted(name) => moved.push((Some(at), Moved::Permuted(name.clone()))),
                Axis::Grid(name) => grid_axes.push((name.clone(), at)),
                Axis::Components(sum) => {
                    let mut segments =
                        if axis.is_weight() { sum.segments(group, 1) } else { sum.segments(group, length) }
                            .map_err(|why| {
                            fail(format!("{why}, axis {at} has {length}{}", in_space(group, axis, length)))
                        })?;
                    if axis.is_weight()
                        && let Some(segment) = segments.first_mut()
                    {
                        segment.range = 0..length;
                    }
                    moved.push((Some(at), Moved::Components(segments)));
                }
                _ => {}
            }
            at += 1;
        }
        let factors = group.factors();
        let grid = Grid::new(grid_axes, shape, group).map_err(fail)?;
        let (shape, expanded) = (actual.to_vec(), expanded.clone());
        let bound = Self {
            layout: layout.clone(),
            shape,
            expanded,
            moved,
            grid,
            lattices: BTreeMap::new(),
            rows,
            factors,
            moved_by_custom: false,
        };
        if layout.up_to().is_some() && bound.grid.is_some() {
            return Err(fail("`~` is not supported on grids".to_owned()));
        }
        Ok(bound)
    }

    /// Says whether a custom action moves the tensor.
    pub(crate) fn set_moved_by_custom(&mut self, moved: bool) {
        self.moved_by_custom = moved;
    }

    /// The same with a grid's domain, interpolation, and the sizes of the grid that translations are counted on, by
    /// the names of its axes.
    #[must_use]
    pub fn on_grid(
        mut self,
        domain: Domain,
        interpolation: Interpolation,
        reference: &BTreeMap<String, usize>,
    ) -> Self {
        if let Some(grid) = &mut self.grid {
            grid.domain = domain;
            grid.interpolation = interpolation;
            for (k, name) in grid.names.iter().enumerate() {
                let (own, of) = (grid.sizes[k].max(1) as f64, reference.get(name).map_or(0.0, |n| *n as f64));
                grid.strides[k] = match () {
                    () if of == 0.0 => 1.0,
                    () if of >= own => (of / own).round(),
                    () => 1.0 / (own / of).round(),
                };
            }
        }
        self
    }

    /// The same with another interpolation on its grid.
    #[must_use]
    pub(crate) fn interpolated_by(mut self, interpolation: Interpolation) -> Self {
        if let Some(grid) = &mut self.grid {
            grid.interpolation = interpolation;
        }
        self
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
        self.moved.iter().filter_map(|(at, axis)| match (at, axis) {
            (Some(at), Moved::Permuted(name)) => Some((name.as_str(), self.expanded[*at])),
            _ => None,
        })
    }

    /// Axes of the grid and their sizes.
    pub fn grid_sizes(&self) -> impl Iterator<Item = (&str, usize)> {
        self.grid
            .iter()
            .flat_map(|grid| grid.names.iter().map(String::as_str).zip(grid.sizes.iter().copied()))
    }

    pub(super) fn segments(&self) -> impl Iterator<Item = &Segment> {
        self.moved.iter().flat_map(|(_, moved)| moved.segments())
    }

    /// Segments that have an axis, with its position in the expanded shape.
    pub(super) fn segments_with_positions(&self) -> impl Iterator<Item = (usize, &Segment)> {
        self.component_runs().filter_map(|(at, segment)| Some((at?, segment)))
    }

    /// Whether `factor` can move a tensor of this layout. Irreps `0e` alone, say, are moved by nothing.
    pub fn is_moved_by(&self, factor: &Factor) -> bool {
        if let Factor::Custom(_) = factor {
            return self.moved_by_custom;
        }
        self.is_permuted_by(factor)
            || self.grid_is_moved_by(factor)
            || self.segments().any(|s| s.representation.is_moved_by(factor))
    }

    fn is_permuted_by(&self, factor: &Factor) -> bool {
        factor.permuted_axis().is_some_and(|axis| self.layout.permuted_axes().any(|name| name == axis))
    }

    fn grid_is_moved_by(&self, factor: &Factor) -> bool {
        let Some(grid) = &self.grid else { return false };
        match factor {
            Factor::Translation(shift) => shift.along.as_ref().is_none_or(|axis| grid.names.contains(axis)),
            Factor::Finite(group) => group.order() > 1,
            factor => factor.is_linear(),
        }
    }

    /// How it transforms, in words, one clause per moving axis.
    pub fn describe(&self, group: &Group) -> String {
        let improper = group.has_improper();
        let shifts = self.factors.iter().any(|f| matches!(f, Factor::Translation(s) if s.along.is_none()));
        let turns = self.factors.iter().any(Factor::is_linear);
        let mut clauses: Vec<String> = Vec::new();
        if self.moved_by_custom {
            clauses.push(format!("moved by {group}"));
        }
        for (at, moved) in &self.moved {
            let clause = match moved {
                Moved::Permuted(name) => Some(format!("permuted with `{name}`")),
                Moved::Components(segments) => {
                    let moving: Vec<&Segment> =
                        segments.iter().filter(|s| self.transforms(&s.representation)).collect();
                    let text = |s: &Segment| describe_segment(s, improper, turns, shifts);
                    match moving[..] {
                        [] => None,
                        [Segment { representation: Representation::Irreps(_), .. }, ..]
                            if segments
                                .iter()
                                .all(|s| matches!(s.representation, Representation::Irreps(_))) =>
                        {
                            Some(describe_irreps(segments, improper))
                        }
                        [one] if segments.len() == 1 => Some(text(one)),
                        _ => Some(
                            segments
                                .iter()
                                .map(|s| {
                                    let range = format!("{}..{}", s.range.start, s.range.end);
                                    let words = if self.transforms(&s.representation) {
                                        text(s)
                                    } else {
                                        "not moved".to_owned()
                                    };
                                    format!("{range} ({}) {words}", s.name)
                                })
                                .collect::<Vec<_>>()
                                .join(", "),
                        ),
                    }
                }
            };
            if let Some(clause) = clause {
                clauses.push(match at {
                    Some(at) => format!("axis {at} {clause}"),
                    None => format!("every entry {clause}"),
                });
            }
        }
        if let Some(grid) = &self.grid {
            let moving: Vec<String> =
                self.factors.iter().filter(|f| self.grid_is_moved_by(f)).map(ToString::to_string).collect();
            if !moving.is_empty() {
                let axes: Vec<String> = grid.axes.iter().map(ToString::to_string).collect();
                clauses.push(format!(
                    "axes {} warped as a grid about its centre by {} ({} domain)",
                    axes.join(" "),
                    moving.join(" and "),
                    grid.domain
                ));
            }
        }
        if let Some(values) = self.layout.values() {
            let kept = values.sentinel.map_or(String::new(), |s| format!(", {s} kept"));
            clauses.push(format!("values relabelled as positions along `{}`{kept}", values.axis));
        }
        if clauses.is_empty() {
            clauses.push("not moved".to_owned());
        }
        let mut compared: Vec<String> = self
            .segments()
            .filter_map(|segment| match &segment.representation {
                Representation::Fractional(_) => Some("compared modulo 1".to_owned()),
                Representation::PointModulo(cell) => Some(format!("compared modulo the lattice of `{cell}`")),
                _ => None,
            })
            .collect();
        compared.extend(self.vectors_up_to().map(|up_to| format!("compared up to {up_to}")));
        if let Some(UpTo::Order(axis)) = self.layout.up_to() {
            compared.push(format!("compared up to the order of rows along `{axis}`"));
        }
        compared.dedup();
        clauses.extend(compared);
        clauses.join("; ")
    }

    /// What vectors are compared up to: as declared, or a quaternion's sign.
    fn vectors_up_to(&self) -> Option<UpTo> {
        // Asked of a quaternion that is there: under planar groups there is none, and no matrix for one.
        let turned = |s: &Segment| {
            s.representation == Representation::Quaternion && self.transforms(&s.representation)
        };
        let declared = self.layout.up_to().filter(|up_to| !matches!(up_to, UpTo::Order(_)));
        declared.cloned().or_else(|| self.segments().any(turned).then_some(UpTo::Sign))
    }

    /// Whether some of its components are unit quaternions.
    pub(crate) fn holds_quaternions(&self) -> bool {
        self.segments().any(|s| s.representation == Representation::Quaternion)
    }

    /// What the tensor is compared modulo, in words, if anything: such values have no mean and no distance.
    pub(crate) fn compared_modulo(&self) -> Option<String> {
        if self.layout.cells().next().is_some() {
            return Some("modulo a lattice".to_owned());
        }
        let up_to = self.layout.up_to().cloned().or_else(|| self.vectors_up_to())?;
        Some(format!("up to `{up_to}`"))
    }

    /// Plain axes whose length is the dimension of space, in a tensor that the group's matrix does not touch: the
    /// usual slip of writing `3` for `vector`.
    pub fn suspicious_axes(&self, group: &Group) -> Vec<String> {
        let Some(dimension) = group.dimension().filter(|n| *n > 1) else { return Vec::new() };
        let transforms =
            self.layout.axes().iter().any(|axis| axis.is_spatial() || matches!(axis, Axis::Grid(_)));
        if transforms || self.layout.values().is_some() {
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

    /// Whether the action computes new values, rather than moving entries about: integers then have no place.
    pub(crate) fn computes(&self) -> bool {
        let moves_entries = |s: &Segment| match &s.representation {
            Representation::Finite(representation) => {
                let group = self.factors.iter().find_map(|factor| match factor {
                    Factor::Finite(group) => Some(group),
                    _ => None,
                });
                group.is_none_or(|g| matches!(g.channel_permutation(representation, 0), Ok(Some(_))))
            }
            representation => !self.transforms(representation),
        };
        let interpolated = self.grid.is_some()
            && self.factors.iter().any(|f| matches!(f, Factor::Linear { .. } | Factor::Generated(_)));
        interpolated
            || self.segments().any(|s| !moves_entries(s))
            || self.layout.axes().iter().any(|axis| {
                axis.is_spatial()
                    && self.factors.iter().any(|f| f.is_linear() || matches!(f, Factor::Translation(_)))
            })
    }

    /// Whether values must be complex, or must not be: charges are multiplied by a phase, a phase is left open,
    /// coordinates modulo a lattice are real. The reason why `dtype` has no place, if it has none.
    pub(crate) fn refuses(&self, dtype: DType) -> Option<String> {
        let name = dtype.name();
        let complex = dtype.is_complex();
        if !complex && self.segments().any(|s| s.representation.is_moved_by(&Factor::Phase)) {
            return Some(format!("a charge multiplies by a phase, and {name} values are not complex"));
        }
        if !complex && self.layout.up_to() == Some(&UpTo::Phase) {
            return Some(format!(
                "`~ phase` leaves a phase open, and {name} values are not complex: write `~ sign`"
            ));
        }
        if complex && self.layout.cells().next().is_some() {
            return Some(format!("coordinates in a lattice are real, and {name} values are complex"));
        }
        None
    }

    /// The warp of the grid, if there is one and the element moves it.
    ///
    /// # Errors
    /// What the grid does not admit, in words.
    fn warp(&self, element: &Element) -> Result<Option<Rc<GridWarp>>, String> {
        let Some(grid) = &self.grid else { return Ok(None) };
        let n = grid.names.len();
        let acts = element.linear().nrows() == n;
        let linear = if acts { element.linear().clone() } else { Array2::eye(n) };
        // The translation is (x, y, z); the axes stand in the order depth, height, width.
        let mut shift = vec![0.0; n];
        for (k, name) in grid.names.iter().enumerate() {
            let component = n - 1 - k;
            let along = match name.as_str() {
                "height" | "depth" => -element.shift(name),
                _ => element.shift(name),
            };
            let own = if acts { element.translation()[component] } else { 0.0 };
            shift[component] = (own + along) / grid.strides[k];
        }
        if linear == Array2::<f64>::eye(n) && shift.iter().all(|t| *t == 0.0) {
            return Ok(None);
        }
        GridWarp::kept(&grid.sizes, grid.domain, grid.interpolation, &linear, &shift)
            .map(Some)
            .map_err(|error| error.to_string())
    }

    /// Whether the grid admits the element.
    ///
    /// # Errors
    /// Why it does not, in words.
    pub(crate) fn admits(&self, element: &Element) -> Result<(), String> {
        self.warp(element).map(|_| ())
    }

    /// Whether the element's action has to interpolate between pixels.
    pub(crate) fn interpolates(&self, element: &Element) -> bool {
        self.warp(element).ok().flatten().is_some_and(|warp| !warp.is_exact())
    }

    /// Whole-pixel shifts must stay whole pixels here.
    ///
    /// # Errors
    /// Why they do not, and what to write instead.
    pub(crate) fn check_shifts(&self, group: &Group) -> Result<(), String> {
        let Some(grid) = &self.grid else { return Ok(()) };
        for shift in group.shifts() {
            for (name, stride) in grid.names.iter().zip(&grid.strides) {
                let concerned = shift.along.as_ref().is_none_or(|axis| axis == name);
                if concerned && *stride > 1.0 && (shift.step as f64 / stride).fract() != 0.0 {
                    let along = shift.along.as_ref().map_or(String::new(), |axis| format!(" @ {axis}"));
                    return Err(format!(
                        "its grid has 1/{stride} of the input's resolution along `{name}`, where a shift by {} is no \
                         whole number of pixels: write `{stride}T({}){along}`",
                        shift.step, shift.dimension
                    ));
                }
            }
        }
        Ok(())
    }

    /// Acts on a tensor of this shape. The identity returns the same bits.
    pub fn act(&self, element: &Element, tensor: &Tensor) -> Tensor {
        let mut result = self.permute(element, &tensor.reshape(&self.expanded));
        if let Ok(Some(warp)) = self.warp(element)
            && let Some(grid) = &self.grid
        {
            result = warp.apply_tensor(&result, &grid.axes);
        }
        if self.moves_values(element) {
            let real = self.components(element, &result.to_real(), false);
            let dtype = if result.dtype().is_inexact() { result.dtype() } else { DType::Float64 };
            result = Tensor::from_real(real, dtype);
        }
        result.reshape(&self.shape)
    }

    /// Values with flattened axes taken apart, as positions of axes count them.
    pub(crate) fn expand(&self, values: &ArrayD<f64>) -> ArrayD<f64> {
        reshaped(values, &self.shape, &self.expanded)
    }

    /// The reverse of [`expand`](Self::expand).
    fn flatten(&self, values: &ArrayD<f64>) -> ArrayD<f64> {
        reshaped(values, &self.expanded, &self.shape)
    }

    /// Entries along an axis of the expanded shape in the order given by `index`.
    pub(crate) fn select(&self, tensor: &Tensor, at: usize, index: &[usize]) -> Tensor {
        tensor.reshape(&self.expanded).select(at, index).reshape(&self.shape)
    }

    /// The shape with flattened axes taken apart.
    pub(super) fn expanded_shape(&self) -> &[usize] {
        &self.expanded
    }

    /// Length of an axis of the expanded shape.
    pub(crate) fn length(&self, at: usize) -> usize {
        self.expanded[at]
    }

    /// The same on f64 values, possibly with a last axis of length 2 for complex numbers.
    pub fn act_on_real(&self, element: &Element, values: &ArrayD<f64>) -> ArrayD<f64> {
        let Tensor::Float64(permuted) = self.permute(element, &Tensor::Float64(self.expand(values))) else {
            unreachable!("a permutation keeps the element type")
        };
        let mut result = self.relabel(element, &permuted);
        if let Ok(Some(warp)) = self.warp(element)
            && let Some(grid) = &self.grid
        {
            result = warp.apply(&result, &grid.axes);
        }
        if self.moves_values(element) {
            result = self.components(element, &result, false);
        }
        self.flatten(&result)
    }

    /// The transpose of the action's linear part, exactly: `<act(x), y> = <x, act_transposed(y)>` (METHOD 15). Complex
    /// values are pairs of reals, so that a phase is conjugated.
    pub fn act_transposed(&self, element: &Element, values: &ArrayD<f64>) -> ArrayD<f64> {
        let mut result = self.expand(values);
        if self.moves_values(element) {
            result = self.components(element, &result, true);
        }
        if let Ok(Some(warp)) = self.warp(element)
            && let Some(grid) = &self.grid
        {
            result = warp.apply_transposed(&result, &grid.axes);
        }
        for (at, index) in self.channel_moves(element) {
            result = result.select(ndarray::Axis(at), &inverse_permutation(&index));
        }
        for (at, moved) in &self.moved {
            if let (Some(at), Moved::Permuted(name)) = (at, moved)
                && let Some(p) = element.permutation(name)
            {
                result = result.select(ndarray::Axis(*at), &inverse_permutation(p));
            }
        }
        self.flatten(&result)
    }

    /// `value - expected` where both are defined: 0 where a grid's entries were moved in from outside, and after the
    /// choice that `~` or a lattice, as the element turns it, leaves open. Rows are in the order of `expected`.
    pub fn difference(&self, element: &Element, value: &ArrayD<f64>, expected: &ArrayD<f64>) -> ArrayD<f64> {
        let mut difference = self.compared(element, value, expected);
        if let Ok(Some(warp)) = self.warp(element)
            && let Some(grid) = &self.grid
            && warp.mask().iter().any(|defined| !defined)
        {
            let sizes = &grid.sizes;
            for (index, entry) in difference.indexed_iter_mut() {
                let pixel =
                    grid.axes.iter().zip(sizes).fold(0, |pixel, (at, size)| pixel * size + index[*at]);
                if !warp.mask()[pixel] {
                    *entry = 0.0;
                }
            }
        }
        self.flatten(&difference)
    }

    /// `after - before` of two outputs on inputs that are both moved by `element`, or both as they were given (the
    /// identity): what [`difference`](Self::difference) is without the edge of a grid.
    pub fn change(&self, element: &Element, after: &ArrayD<f64>, before: &ArrayD<f64>) -> ArrayD<f64> {
        self.flatten(&self.compared(element, after, before))
    }

    /// The same in the expanded shape.
    fn compared(&self, element: &Element, value: &ArrayD<f64>, expected: &ArrayD<f64>) -> ArrayD<f64> {
        let (value, expected) = (&self.expand(value), &self.expand(expected));
        match &self.rows {
            Some(rows) => self.entrywise(element, &self.in_order(element, rows, value, expected), expected),
            None => self.entrywise(element, value, expected),
        }
    }

    /// Entry by entry, in the expanded shape.
    fn entrywise(&self, element: &Element, value: &ArrayD<f64>, expected: &ArrayD<f64>) -> ArrayD<f64> {
        let mut difference = match self.vectors_up_to() {
            Some(_) => self.difference_up_to_phase(value, expected),
            None => value - expected,
        };
        self.wrap(element, &mut difference);
        difference
    }

    /// The axes over which a vector extends that has one sign or phase: those of representations, or the permuted ones
    /// where there is none, or all.
    fn axes_of_vectors(&self) -> Vec<usize> {
        let positions = |wanted: fn(&Moved) -> bool| -> Vec<usize> {
            self.moved.iter().filter(|(_, moved)| wanted(moved)).filter_map(|(at, _)| *at).collect()
        };
        let mut within = positions(|moved| matches!(moved, Moved::Components(_)));
        if within.is_empty() {
            within = positions(|_| true);
        }
        if within.is_empty() {
            within = (0..self.expanded.len()).collect();
        }
        within
    }

    /// Chance level of `~ sign` and `~ phase`: the error, over their length, of vectors that point anywhere, as a root
    /// mean square (METHOD 21). `None` without such a clause.
    pub(crate) fn chance_level(&self, complex: bool) -> Option<f64> {
        let entries: usize = self.axes_of_vectors().iter().map(|at| self.expanded[*at]).product();
        // Mean of |<u, v>| over unit vectors of n real or complex dimensions, from n = 1 (or 2) upwards.
        let overlap = match self.layout.up_to()? {
            UpTo::Order(_) => return None,
            UpTo::Phase => (1..entries).fold(1.0, |mean, n| mean * n as f64 / (n as f64 + 0.5)),
            UpTo::Sign => {
                let n = if complex { 2 * entries } else { entries };
                let first = if n % 2 == 1 { 1.0 } else { std::f64::consts::FRAC_2_PI };
                (1..n).filter(|k| k % 2 == n % 2).fold(first, |mean, k| mean * k as f64 / (k as f64 + 1.0))
            }
        };
        Some((2.0 - 2.0 * overlap).max(0.0).sqrt())
    }

    /// One sign or phase per vector: over the axes of representations, or over the permuted ones where there is none,
    /// the one that makes the difference smallest.
    fn difference_up_to_phase(&self, value: &ArrayD<f64>, expected: &ArrayD<f64>) -> ArrayD<f64> {
        let mut within = self.axes_of_vectors();
        // The parts of a complex number are one entry.
        let complex = value.ndim() > self.expanded.len();
        within.extend(self.expanded.len()..value.ndim());
        let key = |index: &IxDyn| -> Vec<usize> {
            (0..index.ndim()).map(|k| if within.contains(&k) { 0 } else { index[k] }).collect()
        };
        // The imaginary part of a number, or the real part of one times i, up to sign.
        let other = |values: &ArrayD<f64>, index: &IxDyn| {
            let mut other = index.clone();
            let part = &mut other[index.ndim() - 1];
            *part = 1 - *part;
            if *part == 1 { values[&other] } else { -values[&other] }
        };
        let free = complex && self.layout.up_to() == Some(&UpTo::Phase);
        // <expected, value>: its real part, and its imaginary part where a phase is free.
        let mut products: BTreeMap<Vec<usize>, (f64, f64)> = BTreeMap::new();
        for (index, v) in value.indexed_iter() {
            let (re, im) = products.entry(key(&index)).or_insert((0.0, 0.0));
            *re += v * expected[&index];
            if free {
                *im -= v * other(expected, &index);
            }
        }
        let mut difference = value.clone();
        for (index, entry) in difference.indexed_iter_mut() {
            let (re, im) = products[&key(&index)];
            if free {
                let size = re.hypot(im);
                let (c, s) = if size > 0.0 { (re / size, im / size) } else { (1.0, 0.0) };
                *entry -= c * expected[&index] - s * other(expected, &index);
            } else {
                let sign = if re < 0.0 { -1.0 } else { 1.0 };
                *entry -= sign * expected[&index];
            }
        }
        difference
    }

    /// `value` with its rows in the order of `expected`: each row of `expected` in turn takes the nearest that is
    /// left. Exact where errors are smaller than half the distance of any two rows.
    fn in_order(
        &self,
        element: &Element,
        rows: &Rows,
        value: &ArrayD<f64>,
        expected: &ArrayD<f64>,
    ) -> ArrayD<f64> {
        let axis = ndarray::Axis(rows.axis);
        let n = value.len_of(axis);
        let groups: usize = rows.outside.iter().map(|k| value.shape()[*k]).product();
        let group =
            |index: &IxDyn| rows.outside.iter().fold(0, |group, k| group * value.shape()[*k] + index[*k]);
        // By group: which row of `value` each row of `expected` takes.
        let from: Vec<Vec<usize>> = if self.vectors_up_to().is_none() && self.layout.cells().next().is_none()
        {
            let gather = |values: &ArrayD<f64>| {
                let mut gathered = vec![vec![Vec::new(); n]; groups];
                for (index, v) in values.indexed_iter() {
                    gathered[group(&index)][index[rows.axis]].push(*v);
                }
                gathered
            };
            gather(value).iter().zip(gather(expected)).map(|(v, e)| order::matched(v, &e)).collect()
        } else {
            // Where a sign or a lattice is left open, distances are known row by row alone.
            let mut free = vec![(0..n).collect::<Vec<usize>>(); groups];
            let mut from = vec![Vec::with_capacity(n); groups];
            for row in 0..n {
                let wanted = expected.select(axis, &vec![row; n]);
                let mut distances = vec![vec![0.0; n]; groups];
                for (index, d) in self.entrywise(element, value, &wanted).indexed_iter() {
                    distances[group(&index)][index[rows.axis]] += d * d;
                }
                for ((free, from), distances) in free.iter_mut().zip(&mut from).zip(&distances) {
                    let nearest = (0..free.len())
                        .min_by(|a, b| distances[free[*a]].total_cmp(&distances[free[*b]]))
                        .expect("as many rows are left as are to be matched");
                    from.push(free.swap_remove(nearest));
                }
            }
            from
        };
        ArrayD::from_shape_fn(value.raw_dim(), |index| {
            let mut source = index.clone();
            source[rows.axis] = from[group(&index)][index[rows.axis]];
            value[&source]
        })
    }

    fn moves_values(&self, element: &Element) -> bool {
        self.moved.iter().any(|(_, moved)| match moved {
            Moved::Permuted(_) => false,
            Moved::Components(segments) => segments.iter().any(|s| Self::changes(element, &s.representation)),
        })
    }

    /// Whether the element computes with what this acts on.
    fn changes(element: &Element, representation: &Representation) -> bool {
        match representation {
            Representation::Scalar => false,
            Representation::User(user) => user.matrix(element).is_some(),
            Representation::Charge(k) => *k != 0 && element.phase() != 0.0,
            Representation::Sign => element.sign() != 1.0,
            Representation::Scale(k) => *k != 0 && element.scale() != 1.0,
            Representation::Finite(finite) => element.finite().is_some_and(|(group, g)| {
                g != group.identity() && !matches!(group.channel_permutation(finite, g), Ok(Some(_)))
            }),
            Representation::Point => element.turns() || translates(element),
            Representation::PointModulo(_) => element.turns() || translates(element) || element.wraps(),
            Representation::Fractional(_) => translates(element) || element.wraps(),
            _ => element.turns(),
        }
    }

    /// Axes along which a finite group moves whole channels, with where each entry comes from.
    fn channel_moves(&self, element: &Element) -> Vec<(usize, Vec<usize>)> {
        let Some((group, g)) = element.finite().filter(|(group, g)| *g != group.identity()) else {
            return Vec::new();
        };
        let mut moves = Vec::new();
        for (at, moved) in &self.moved {
            let (Some(at), Moved::Components(segments)) = (at, moved) else { continue };
            let mut index: Vec<usize> = (0..self.expanded[*at]).collect();
            for segment in segments {
                let Representation::Finite(representation) = &segment.representation else { continue };
                let Ok(Some(p)) = group.channel_permutation(representation, g) else { continue };
                for start in segment.range.clone().step_by(segment.dimension.max(1)) {
                    for (k, from) in p.iter().enumerate() {
                        index[start + k] = start + from;
                    }
                }
            }
            if index.iter().enumerate().any(|(k, from)| k != *from) {
                moves.push((*at, index));
            }
        }
        moves
    }

    fn permute(&self, element: &Element, tensor: &Tensor) -> Tensor {
        let mut result = tensor.clone();
        for (at, moved) in &self.moved {
            if let (Some(at), Moved::Permuted(name)) = (at, moved)
                && let Some(p) = element.permutation(name)
            {
                result = result.select(*at, p);
            }
        }
        for (at, index) in self.channel_moves(element) {
            result = result.select(at, &index);
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

    /// The action of matrices, weights and translations alone: nothing is permuted.
    pub(super) fn act_on_components(&self, element: &Element, values: &ArrayD<f64>) -> ArrayD<f64> {
        if !self.moves_values(element) {
            return values.clone();
        }
        self.flatten(&self.components(element, &self.expand(values), false))
    }

    fn components(&self, element: &Element, values: &ArrayD<f64>, transposed: bool) -> ArrayD<f64> {
        let shape = values.shape().to_vec();
        let complex = shape.len() > self.expanded.len();
        let mut data: Vec<f64> = values.iter().copied().collect();
        for (at, moved) in &self.moved {
            let Moved::Components(segments) = moved else { continue };
            // A weight acts on every entry.
            let (length, inner) = match at {
                Some(at) => (self.expanded[*at], shape[at + 1..].iter().product()),
                None => (data.len(), 1),
            };
            let mut blocks = Blocks { data: &mut data, length, inner };
            for segment in segments {
                if !Self::changes(element, &segment.representation) {
                    continue;
                }
                let range = if at.is_some() { segment.range.clone() } else { 0..length };
                match &segment.representation {
                    Representation::Charge(k) => {
                        let angle = f64::from(*k) * element.phase();
                        let angle = if transposed { -angle } else { angle };
                        blocks.rotate_complex(range, angle, at.is_none());
                        continue;
                    }
                    Representation::Fractional(_) => {
                        if let (Some(at), false) = (at, transposed) {
                            self.move_fractional(element, segment, *at, &shape, blocks.data);
                            self.wrap_into_cell(element, segment, *at, &shape, blocks.data);
                        }
                        continue;
                    }
                    Representation::Point | Representation::PointModulo(_) if !transposed => {
                        let turn = element.turns().then(|| element.linear().clone());
                        for start in range.step_by(segment.dimension.max(1)) {
                            if let Some(matrix) = &turn {
                                blocks.apply(start, matrix, 1);
                            }
                            // A complex number's imaginary part does not move: it has an inner axis of length 2.
                            blocks.shift(start, element.translation().as_slice().unwrap_or(&[]), complex);
                        }
                        if let Some(at) = at {
                            self.wrap_into_cell(element, segment, *at, &shape, blocks.data);
                        }
                        continue;
                    }
                    _ => {}
                }
                let Some(matrix) = segment.representation.matrix(element) else { continue };
                let matrix = if transposed { matrix.reversed_axes() } else { matrix };
                if matrix.nrows() == 1 {
                    blocks.scale(range, matrix[[0, 0]]);
                    continue;
                }
                for start in segment.starts() {
                    blocks.apply(start, &matrix, segment.stride);
                }
            }
        }
        ArrayD::from_shape_vec(IxDyn(&shape), data).expect("the action keeps the shape")
    }

    /// The blocks of an output that are judged apart: its representations along the first axis that holds several;
    /// one block otherwise.
    pub(crate) fn blocks(&self) -> Vec<Block> {
        for (at, moved) in &self.moved {
            let (Some(at), Moved::Components(segments)) = (at, moved) else { continue };
            let irreps =
                matches!(segments.first(), Some(Segment { representation: Representation::Irreps(_), .. }));
            if segments.len() < 2 && !irreps {
                continue;
            }
            let others = self.segments_off(*at).any(|s| self.transforms(&s.representation));
            let mut blocks: Vec<Block> = segments
                .iter()
                .map(|s| Block {
                    name: s.name.clone(),
                    range: Some((*at, s.range.clone())),
                    scalar: !others && !self.transforms(&s.representation),
                })
                .collect();
            blocks.retain(|b| b.range.as_ref().is_none_or(|(_, r)| !r.is_empty()));
            if !blocks.is_empty() {
                return blocks;
            }
        }
        let scalar = !self.moved_by_custom && !self.segments().any(|s| self.transforms(&s.representation));
        vec![Block { name: String::new(), range: None, scalar }]
    }

    /// Representations along other axes than this one.
    fn segments_off(&self, at: usize) -> impl Iterator<Item = &Segment> {
        self.moved.iter().filter(move |(other, _)| *other != Some(at)).flat_map(|(_, moved)| moved.segments())
    }

    /// By block: whether `factor` moves it.
    pub(crate) fn blocks_moved_by(&self, factor: &Factor) -> Vec<bool> {
        let whole = self.is_permuted_by(factor) || self.grid_is_moved_by(factor);
        self.blocks()
            .iter()
            .map(|block| {
                let Some((at, range)) = &block.range else { return self.is_moved_by(factor) };
                if whole {
                    return self.is_moved_by(factor);
                }
                let own = self.segments_along(*at).filter(|s| s.range == *range);
                let mut all = own.chain(self.segments_off(*at));
                all.any(|s| s.representation.is_moved_by(factor))
            })
            .collect()
    }

    fn segments_along(&self, at: usize) -> impl Iterator<Item = &Segment> {
        self.moved.iter().filter(move |(own, _)| *own == Some(at)).flat_map(|(_, moved)| moved.segments())
    }

    /// Whether the group's matrix or translations act on some axis.
    pub(crate) fn is_spatial(&self) -> bool {
        self.grid.is_some() || self.segments().any(|s| self.transforms(&s.representation))
    }

    /// Whether some block is a scalar.
    pub(crate) fn has_scalars(&self) -> bool {
        self.blocks().iter().any(|block| block.scalar)
    }

    /// Whether the group turns or shifts components.
    fn transforms(&self, representation: &Representation) -> bool {
        self.factors.iter().any(|factor| representation.is_moved_by(factor))
    }

    /// Position of the axis that is permuted under this name.
    pub(crate) fn position_of(&self, name: &str) -> Option<usize> {
        self.moved.iter().find_map(|(at, moved)| match moved {
            Moved::Permuted(own) if own == name => *at,
            _ => None,
        })
    }

    /// Name of the permuted axis at a position.
    pub(super) fn name_of_permuted(&self, position: usize) -> Option<&str> {
        self.moved.iter().find_map(|(at, moved)| match moved {
            Moved::Permuted(name) if *at == Some(position) => Some(name.as_str()),
            _ => None,
        })
    }

    fn position(&self, wanted: impl Fn(&Representation) -> bool) -> Option<usize> {
        self.moved.iter().find_map(|(at, moved)| match moved {
            Moved::Components(segments) if matches!(&segments[..], [s] if wanted(&s.representation)) => *at,
            _ => None,
        })
    }

    /// Position of the first axis of representations, in the expanded shape.
    pub(crate) fn component_axis(&self) -> Option<usize> {
        self.moved.iter().find_map(|(at, moved)| match moved {
            Moved::Components(_) => *at,
            Moved::Permuted(_) => None,
        })
    }

    /// Position of the `point` axis.
    pub(crate) fn point_axis(&self) -> Option<usize> {
        self.position(|r| matches!(r, Representation::Point | Representation::PointModulo(_)))
    }

    /// Position of the first `vector` axis.
    pub(crate) fn vector_axis(&self) -> Option<usize> {
        self.position(|r| *r == Representation::Vector)
    }

    /// Position of the `batch` axis, or of `graphs` that nothing permutes: its entries are samples of their own.
    pub(crate) fn batch_axis(&self) -> Option<usize> {
        self.position_where(|axis| match axis {
            Axis::Batch => true,
            Axis::Plain { name, marked: false } => name == "graphs",
            _ => false,
        })
    }

    /// Position of the first axis that is wanted.
    pub(super) fn position_where(&self, wanted: impl Fn(&Axis) -> bool) -> Option<usize> {
        let axes: Vec<&Axis> = self.layout.axes().iter().flat_map(Axis::parts).collect();
        // Weights without an axis make the positions of what follows uncertain: count from the front.
        let leading = axes.first() == Some(&&Axis::Ellipsis);
        let named: Vec<&Axis> = axes.into_iter().filter(|axis| **axis != Axis::Ellipsis).collect();
        let bare = self.moved.iter().filter(|(at, _)| at.is_none()).count();
        let offset = if leading { self.expanded.len() + bare - named.len() } else { 0 };
        let found = named.iter().position(|axis| wanted(axis))?;
        let before =
            if bare == 0 { 0 } else { named[..found].iter().filter(|axis| axis.is_weight()).count() };
        Some(offset + found - before)
    }

    /// Positions of the axes whose entries are the rows judged one by one: the first permuted axis, or that of rows in no
    /// order, and those of the grid.
    pub(crate) fn row_axes(&self) -> Vec<usize> {
        let permuted = self.moved.iter().find(|(_, moved)| matches!(moved, Moved::Permuted(_)));
        let rows = permuted.and_then(|(at, _)| *at).or_else(|| self.rows.as_ref().map(|rows| rows.axis));
        rows.into_iter().chain(self.grid.iter().flat_map(|grid| grid.axes.iter().copied())).collect()
    }

    /// What the `i`-th row along [`row_axes`](Self::row_axes) is called: `row 17`, `pixel (3, 5)`.
    pub(crate) fn row_name(&self, mut i: usize) -> String {
        let Some(grid) = &self.grid else { return format!("row {i}") };
        let mut pixel: Vec<String> = Vec::new();
        for size in grid.sizes.iter().rev() {
            pixel.insert(0, (i % size.max(&1)).to_string());
            i /= size.max(&1);
        }
        let pixel = format!("pixel ({})", pixel.join(", "));
        if self.row_axes().len() > grid.axes.len() { format!("row {i}, {pixel}") } else { pixel }
    }
}

fn translates(element: &Element) -> bool {
    element.translation().iter().any(|t| *t != 0.0)
}

/// `values` in another shape of as many entries; complex values have a last axis more.
fn reshaped(values: &ArrayD<f64>, from: &[usize], to: &[usize]) -> ArrayD<f64> {
    if from == to {
        return values.clone();
    }
    let mut shape = to.to_vec();
    shape.extend(&values.shape()[from.len()..]);
    let data = values.iter().copied().collect();
    ArrayD::from_shape_vec(IxDyn(&shape), data).expect("both shapes have as many entries")
}

/// Lengths of named axes: those that are known, and those of the tensor's own permuted axes.
fn own_lengths(layout: &Layout, shape: &[usize], known: &BTreeMap<String, usize>) -> BTreeMap<String, usize> {
    let mut lengths = known.clone();
    let words = layout.axes().iter().rev().take_while(|axis| !axis.may_lack_axis());
    for (axis, length) in words.zip(shape.iter().rev()) {
        if let Axis::Permuted(name) = axis {
            lengths.insert(name.clone(), *length);
        }
    }
    lengths
}

/// Lengths of the parts of a flattened axis of `total` entries.
fn take_apart(
    axis: &Axis,
    parts: &[Axis],
    total: usize,
    group: &Group,
    known: &BTreeMap<String, usize>,
) -> Result<Vec<usize>, String> {
    let mut lengths: Vec<Option<usize>> = Vec::new();
    for part in parts {
        lengths.push(match part {
            Axis::Size(n) => Some(*n),
            Axis::Components(sum) => sum.dimension(group)?,
            part => known.get(&part.to_string()).copied(),
        });
    }
    let unknown: Vec<String> =
        parts.iter().zip(&lengths).filter(|(_, n)| n.is_none()).map(|(p, _)| format!("`{p}`")).collect();
    if unknown.len() > 1 {
        return Err(format!(
            "the lengths of {} in `{axis}` are told by no other tensor: write all but one of them as sizes",
            unknown.join(" and ")
        ));
    }
    let product = lengths.iter().flatten().try_fold(1usize, |product, n| product.checked_mul(*n));
    let fits = product.filter(|product| match unknown.len() {
        0 => *product == total,
        _ => *product > 0 && total.is_multiple_of(*product),
    });
    let Some(product) = fits else {
        let told: Vec<String> = parts
            .iter()
            .zip(&lengths)
            .map(|(part, n)| n.map_or_else(|| part.to_string(), |n| format!("{part}={n}")))
            .collect();
        return Err(format!("{total} entries cannot be taken apart as `({})`", told.join(" ")));
    };
    Ok(lengths.into_iter().map(|n| n.unwrap_or_else(|| total / product.max(1))).collect())
}

impl Rows {
    /// `axes` are the words from position `start` on; with `bare`, weights have no position.
    fn new(layout: &Layout, axes: &[&Axis], start: usize, bare: bool) -> Option<Self> {
        let Some(UpTo::Order(wanted)) = layout.up_to() else { return None };
        let mut outside: Vec<usize> = (0..start).collect();
        let mut found = None;
        let placed = axes.iter().filter(|axis| !(bare && axis.is_weight()));
        for (at, axis) in placed.enumerate().map(|(k, axis)| (start + k, axis)) {
            match axis {
                Axis::Plain { name, .. } if name == wanted => found = Some(at),
                // Samples of a batch have nothing to do with each other, wherever they stand.
                Axis::Batch => outside.push(at),
                Axis::Plain { .. } | Axis::Permuted(_) if found.is_none() => outside.push(at),
                _ => {}
            }
        }
        found.map(|axis| Self { axis, outside })
    }
}

impl Grid {
    fn new(named: Vec<(String, usize)>, shape: &[usize], group: &Group) -> Result<Option<Self>, String> {
        if named.is_empty() {
            return Ok(None);
        }
        let along = |name: &str| group.shifts().iter().any(|s| s.along.as_deref() == Some(name));
        if group.dimension().is_none() && !named.iter().any(|(name, _)| along(name)) {
            return Ok(None);
        }
        let mut sorted = named;
        let rank = |name: &str| GRID_AXES.iter().position(|axis| *axis == name);
        sorted.sort_by_key(|(name, _)| rank(name));
        let names: Vec<String> = sorted.iter().map(|(name, _)| name.clone()).collect();
        let text = names.join(" ");
        if !["length", "height width", "depth height width"].contains(&text.as_str()) {
            return Err(format!("a grid is `length`, `height width` or `depth height width`, not `{text}`"));
        }
        if let Some(n) = group.dimension().filter(|n| *n != names.len()) {
            return Err(format!(
                "`{text}` is a grid in dimension {}, and `{group}` acts in dimension {n}",
                names.len()
            ));
        }
        let axes: Vec<usize> = sorted.iter().map(|(_, at)| *at).collect();
        let sizes = axes.iter().map(|at| shape[*at]).collect();
        let strides = vec![1.0; axes.len()];
        let (domain, interpolation) = (Domain::Open, Interpolation::Linear);
        Ok(Some(Self { axes, names, sizes, domain, interpolation, strides }))
    }
}

/// What to write where a planar group meets coordinates of space.
fn in_space(group: &Group, axis: &Axis, length: usize) -> String {
    let Some(finite) =
        group.finite().filter(|g| g.dimension() == Some(2) && axis.is_spatial() && length == 3)
    else {
        return String::new();
    };
    let name = finite.name();
    let number = |letter| name.strip_prefix(letter).filter(|n: &&str| n.bytes().all(|b| b.is_ascii_digit()));
    if let Some(n) = number('D') {
        return format!(
            "; `{name}` acts on the plane: in space write `{name} @ (0,0,1)` (2-fold axes) or `C{n}v @ (0,0,1)` (mirrors)"
        );
    }
    number('C')
        .map_or(String::new(), |_| format!("; `{name}` acts on the plane: in space write `{name} @ (0,0,1)`"))
}

/// An axis of irreps alone, in words.
fn describe_irreps(segments: &[Segment], improper: bool) -> String {
    let mut runs: Vec<(Arrangement, Vec<(usize, Irrep)>)> = Vec::new();
    for segment in segments {
        let Representation::Irreps(irreps) = &segment.representation else { continue };
        let copies = segment.range.len() / segment.dimension.max(1);
        let terms = irreps.blocks().iter().map(|block| (copies, block.irrep));
        match runs.last_mut() {
            Some((arrangement, run)) if *arrangement == irreps.arrangement() => run.extend(terms),
            _ => runs.push((irreps.arrangement(), terms.collect())),
        }
    }
    let rule = if improper { "Wigner D with parity" } else { "Wigner D" };
    let names: Vec<String> = runs
        .iter()
        .filter_map(|(arrangement, run)| {
            Irreps::new(run.iter().copied()).ok().map(|i| i.arranged(*arrangement))
        })
        .map(|irreps| irreps.to_string())
        .collect();
    let of = |which: fn(&Arrangement) -> bool| runs.iter().any(|(arrangement, _)| which(arrangement));
    let mut basis = Vec::new();
    if of(|a| !a.polar_z) {
        basis.push("e3nn basis");
    }
    if of(|a| a.polar_z) {
        basis.push("`yzx`: m = -l..l about z");
    }
    if of(|a| a.copies_last) {
        basis.push("`ir_mul`: copies are the last index");
    }
    format!("turned by {rule} of {}, {}", names.join("+"), basis.join(", "))
}

fn describe_segment(segment: &Segment, improper: bool, turns: bool, shifts: bool) -> String {
    match &segment.representation {
        Representation::Vector => "turned as a vector (g v), not translated".to_owned(),
        Representation::Point | Representation::PointModulo(_) if turns && shifts => {
            "turned and translated as a point (g v + t)".to_owned()
        }
        Representation::Point | Representation::PointModulo(_) if turns => {
            "turned as a point (g v)".to_owned()
        }
        Representation::Point | Representation::PointModulo(_) => "translated as a point (v + t)".to_owned(),
        Representation::Fractional(cell) => {
            format!("moved by t C^-1, C being the lattice vectors in `{cell}`")
        }
        Representation::Pseudovector if improper => "turned as an axial vector (det(g) g v)".to_owned(),
        Representation::Pseudovector => "turned as a vector (g v)".to_owned(),
        Representation::Pseudoscalar => "multiplied by det(g)".to_owned(),
        Representation::Covector => "turned as a covector (g^-T v)".to_owned(),
        Representation::Irreps(_) => describe_irreps(std::slice::from_ref(segment), improper),
        Representation::Frequency(m) => format!("turned by {m} times the angle"),
        Representation::Finite(finite) => format!("transformed by `{finite}`, escnn's order and basis"),
        Representation::Sign => "multiplied by the sign".to_owned(),
        Representation::Scale(k) => format!("multiplied by s^{k} under dilation by s"),
        Representation::Charge(k) => format!("multiplied by exp({k} i theta)"),
        Representation::Voigt(super::tensors::Voigt::Stress) => {
            "turned as a symmetric tensor (g s g^T), components xx yy zz yz xz xy".to_owned()
        }
        Representation::Voigt(super::tensors::Voigt::Strain) => {
            "turned as a strain (g e g^T, engineering shears), components xx yy zz yz xz xy".to_owned()
        }
        Representation::Quaternion => {
            "multiplied from the left by the turn's quaternion (w x y z)".to_owned()
        }
        Representation::User(user) => format!(
            "transformed by `@{}`, a user's own representation of dimension {}",
            user.name(),
            user.dimension().unwrap_or(0)
        ),
        Representation::InBasis(basis) => format!("transformed as {basis}, in a basis of its own"),
        Representation::Scalar => "not moved".to_owned(),
    }
}

/// Row-major data seen as `[outer, length, inner]`.
struct Blocks<'a> {
    data: &'a mut [f64],
    length: usize,
    inner: usize,
}

impl Blocks<'_> {
    /// Applies `matrix` (m x m) to the m components from `start` on, `step` apart along the axis. Entries that are zero
    /// are left out: a component that is not finite stays where the matrix puts it.
    fn apply(&mut self, start: usize, matrix: &Array2<f64>, step: usize) {
        let m = matrix.nrows();
        let stride = self.inner;
        let rows: Vec<Vec<(usize, f64)>> = matrix
            .outer_iter()
            .map(|row| row.iter().copied().enumerate().filter(|(_, v)| *v != 0.0).collect())
            .collect();
        let mut before = vec![0.0; m];
        for outer in self.data.chunks_exact_mut((self.length * stride).max(1)) {
            for i in 0..stride {
                for (k, slot) in before.iter_mut().enumerate() {
                    *slot = outer[(start + k * step) * stride + i];
                }
                for (row, entries) in rows.iter().enumerate() {
                    outer[(start + row * step) * stride + i] =
                        entries.iter().map(|(k, v)| v * before[*k]).sum();
                }
            }
        }
    }

    /// Multiplies entries of the range by a number.
    fn scale(&mut self, range: std::ops::Range<usize>, factor: f64) {
        let stride = self.inner;
        for outer in self.data.chunks_exact_mut((self.length * stride).max(1)) {
            for entry in &mut outer[range.start * stride..range.end * stride] {
                *entry *= factor;
            }
        }
    }

    /// Multiplies complex entries of the range, two neighbouring reals each, by `exp(i angle)`. Where the whole tensor
    /// is one run (`flat`), the range counts reals.
    fn rotate_complex(&mut self, range: std::ops::Range<usize>, angle: f64, flat: bool) {
        let stride = if flat { 1 } else { self.inner };
        let (sine, cosine) = angle.sin_cos();
        for outer in self.data.chunks_exact_mut((self.length * stride).max(1)) {
            for z in outer[range.start * stride..range.end * stride].chunks_exact_mut(2) {
                (z[0], z[1]) = (cosine * z[0] - sine * z[1], sine * z[0] + cosine * z[1]);
            }
        }
    }

    fn shift(&mut self, start: usize, translation: &[f64], real_parts_only: bool) {
        let stride = self.inner;
        let step = if real_parts_only { 2 } else { 1 };
        for outer in self.data.chunks_exact_mut((self.length * stride).max(1)) {
            for (k, t) in translation.iter().enumerate() {
                for i in (0..stride).step_by(step) {
                    outer[(start + k) * stride + i] += t;
                }
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
