//! Test samples: bound to their layouts, evaluated once, measured for what the sampling needs.

use std::collections::BTreeMap;
use std::sync::Arc;

use ndarray::{Array1, Axis as NdAxis};

use crate::Error;
use crate::model::{DType, Model, Samples, Tensor};
use crate::symmetry::grid::Domain;
use crate::symmetry::{Axis, BoundLayout, Factor, Lattice, permuted_lengths};

use super::super::help_for_idle;
use super::super::measure::median;
use super::super::sampling::{self, Draws, Part, Purpose, Space};
use super::{Case, EndToEnd};

impl EndToEnd<'_> {
    pub(super) fn bind_inputs(&self, inputs: &[Tensor]) -> Result<Vec<Option<BoundLayout>>, Error> {
        let group = self.specification.group();
        let known = self.named_lengths(inputs);
        self.specification
            .inputs()
            .iter()
            .zip(inputs)
            .map(|((name, layout), tensor)| {
                let Some(layout) = layout else { return Ok(None) };
                let what = format!("input `{name}`");
                let bound = BoundLayout::with_lengths(layout, tensor.shape(), group, &what, &known)?;
                let fail = |why: String| Error::Shape {
                    tensor: what.clone(),
                    layout: layout.to_string(),
                    shape: tensor.shape().to_vec(),
                    why,
                };
                if let Some(why) = bound.refuses(tensor.dtype()) {
                    return Err(fail(why));
                }
                if !tensor.dtype().is_inexact() && bound.computes() {
                    return Err(fail(format!(
                        "{} values cannot be turned: give floating values, or None to leave the input alone",
                        tensor.dtype().name()
                    )));
                }
                if layout.values().is_some() && tensor.map_integers(|v| v).is_none() {
                    return Err(fail(format!(
                        "`:` says that values are positions, and {} values are no integers",
                        tensor.dtype().name()
                    )));
                }
                Ok(Some(bound))
            })
            .collect()
    }

    /// Evaluates f(x) for one more sample.
    pub(super) fn case(
        &mut self,
        index: usize,
        model: &mut dyn Model,
        samples: &mut dyn Samples,
    ) -> Result<Case, Error> {
        let inputs = samples.get(index)?;
        self.case_of(index, index, inputs, model)
    }

    /// The same for the given tensors, in place of those of sample `source`.
    pub(super) fn case_of(
        &mut self,
        index: usize,
        source: usize,
        inputs: Vec<Tensor>,
        model: &mut dyn Model,
    ) -> Result<Case, Error> {
        self.calls.sources.push(source);
        self.bound_case("base", index, inputs, model)
    }

    /// The same for inputs that take the place of a sample.
    pub(super) fn bound_case(
        &mut self,
        purpose: &str,
        index: usize,
        inputs: Vec<Tensor>,
        model: &mut dyn Model,
    ) -> Result<Case, Error> {
        let source = self.calls.source(index);
        let layouts = self.bind_inputs(&inputs)?;
        let names: Vec<String> = self.input_names().iter().map(|n| format!("input `{n}`")).collect();
        let grid: BTreeMap<String, usize> = layouts
            .iter()
            .flatten()
            .find(|layout| layout.grid_sizes().count() > 0)
            .map(|layout| layout.grid_sizes().map(|(name, n)| (name.to_owned(), n)).collect())
            .unwrap_or_default();
        let layouts: Vec<Option<BoundLayout>> = layouts
            .into_iter()
            .zip(self.input_names())
            .map(|(layout, name)| layout.map(|layout| self.on_grid(&name, layout, &grid)))
            .collect();
        let bound = names.iter().zip(&layouts).filter_map(|(n, l)| Some((n.as_str(), l.as_ref()?)));
        let axes = permuted_lengths(bound)?;
        for ((what, layout), tensor) in names.iter().zip(&layouts).zip(&inputs) {
            let Some(values) = layout.as_ref().and_then(|layout| layout.layout().values()) else { continue };
            let positions = axes.get(&values.axis).copied().unwrap_or(0);
            if tensor.largest_integer().is_some_and(|largest| largest < positions as i64 - 1) {
                return Err(Error::Shape {
                    tensor: what.clone(),
                    layout: layout.as_ref().map_or_else(String::new, |layout| layout.layout().to_string()),
                    shape: tensor.shape().to_vec(),
                    why: format!(
                        "{} cannot hold all {positions} positions along `{}`: give int64",
                        tensor.dtype().name(),
                        values.axis
                    ),
                });
            }
        }
        let mut space = Space {
            dimension: self.specification.group().dimension().unwrap_or(0),
            axes,
            periodic: self.is_periodic(&layouts),
            rapidity: self.options.rapidity,
            order: self.options.seed ^ (index as u64).rotate_left(32),
            grid,
            ..Space::default()
        };
        self.check_permutations(&space)?;
        for (what, layout) in names.iter().zip(&layouts) {
            if let Some(layout) = layout {
                self.check_grid(what, layout, &space)?;
            }
        }
        self.read_segments(&inputs, &mut space)?;
        let lattices = self.lattices(&inputs, &layouts)?;
        let layouts = names
            .iter()
            .zip(layouts)
            .map(|(what, layout)| {
                layout.map(|layout| layout.in_lattices(&lattices, &space.segments, what)).transpose()
            })
            .collect::<Result<Vec<_>, Error>>()?;
        space.directions = directions(&inputs, &layouts);
        space.wraps = finds_images(&inputs, &layouts);
        let base = self
            .calls
            .evaluate(purpose, model, index, &inputs)?
            .map_err(|why| Error::ModelFails { sample: index, why })?;
        let known = self.named_lengths(&inputs);
        self.bind_noise(index, &known, &space)?;
        let outputs = self
            .outputs()
            .iter()
            .zip(&base)
            .map(|((name, layout), value)| {
                let shape = if value.dtype.is_complex() {
                    &value.values.shape()[..value.shape.len()]
                } else {
                    &value.shape[..]
                };
                let what = format!("output `{name}`");
                let bound =
                    BoundLayout::with_lengths(layout, shape, self.specification.group(), &what, &known)?;
                let bound = self.on_grid(name, bound, &space.grid);
                let bound = bound.in_lattices(&lattices, &space.segments, &what)?;
                self.check_grid(&what, &bound, &space)?;
                if let Some(why) = bound.refuses(value.dtype) {
                    let (layout, shape) = (layout.to_string(), shape.to_vec());
                    return Err(Error::Shape { tensor: what, layout, shape, why });
                }
                for (axis, length) in bound.permuted_lengths() {
                    if let Some(expected) = space.axes.get(axis).filter(|n| **n != length) {
                        return Err(Error::AxisLength {
                            axis: axis.to_owned(),
                            first: *expected,
                            first_tensor: "the inputs".to_owned(),
                            second: length,
                            second_tensor: what,
                        });
                    }
                }
                Ok(bound)
            })
            .collect::<Result<Vec<_>, Error>>()?;
        Ok(Case { source, inputs, layouts, space, base, outputs, double: None })
    }

    /// Lattices of a sample by the input that holds them.
    pub(super) fn lattices(
        &self,
        inputs: &[Tensor],
        layouts: &[Option<BoundLayout>],
    ) -> Result<BTreeMap<String, Lattice>, Error> {
        let names = self.input_names();
        self.specification
            .cells()
            .filter_map(|(name, _)| Some((name, names.iter().position(|input| input == name)?)))
            .map(|(name, k)| {
                let dimension = self.specification.group().dimension();
                let lattice = Lattice::new(name, &inputs[k], layouts[k].as_ref())?;
                let n = lattice.dimension();
                if let Some(dimension) = dimension.filter(|dimension| *dimension != n) {
                    return Err(Error::Shape {
                        tensor: format!("input `{name}`"),
                        layout: layouts[k]
                            .as_ref()
                            .map_or_else(|| "None".to_owned(), |l| l.layout().to_string()),
                        shape: inputs[k].shape().to_vec(),
                        why: format!(
                            "the cell is {n} x {n}, and `{}` acts in dimension {dimension}",
                            self.specification.group()
                        ),
                    });
                }
                Ok((name.to_owned(), lattice))
            })
            .collect()
    }

    /// Labels of the segments within which axes are permuted.
    fn read_segments(&self, inputs: &[Tensor], space: &mut Space) -> Result<(), Error> {
        for (axis, input) in &self.options.segments {
            let position = self.specification.inputs().iter().position(|(name, _)| name == input);
            let labels: Vec<i64> = position
                .and_then(|k| inputs.get(k))
                .filter(|tensor| tensor.map_integers(|v| v).is_some())
                .map(|tensor| tensor.to_real().iter().map(|v| *v as i64).collect())
                .unwrap_or_default();
            if labels.len() != space.axes.get(axis).copied().unwrap_or(0) {
                return Err(Error::Option {
                    option: "segments".to_owned(),
                    why: format!(
                        "input `{input}` must hold one integer label per entry of `{axis}`: {} labels for {} entries",
                        labels.len(),
                        space.axes.get(axis).copied().unwrap_or(0)
                    ),
                });
            }
            space.segments.insert(axis.clone(), labels);
        }
        Ok(())
    }

    /// Lengths of named axes that the inputs tell: what takes flattened axes apart.
    pub(super) fn named_lengths(&self, inputs: &[Tensor]) -> BTreeMap<String, usize> {
        let mut known = BTreeMap::new();
        for ((_, layout), tensor) in self.specification.inputs().iter().zip(inputs) {
            let Some(layout) = layout else { continue };
            // Named axes are counted from the back, up to the first word that may have no axis.
            let words = layout.axes().iter().rev().take_while(|axis| !axis.may_lack_axis());
            for (axis, length) in words.zip(tensor.shape().iter().rev()) {
                if matches!(axis, Axis::Permuted(_) | Axis::Plain { .. } | Axis::Grid(_) | Axis::Batch) {
                    known.entry(axis.to_string()).or_insert(*length);
                }
            }
        }
        known
    }

    /// Whether all grids of the inputs wrap around: then shifts go as far as the grid does.
    fn is_periodic(&self, layouts: &[Option<BoundLayout>]) -> bool {
        let names = self.input_names();
        let grids = layouts
            .iter()
            .zip(&names)
            .filter(|(layout, _)| layout.as_ref().is_some_and(|layout| layout.grid_sizes().count() > 0));
        let mut domains = grids.map(|(_, name)| self.options.domain_of(name)).peekable();
        domains.peek().is_some() && domains.all(|domain| domain == Some(Domain::Periodic))
    }

    pub(super) fn on_grid(
        &self,
        tensor: &str,
        layout: BoundLayout,
        reference: &BTreeMap<String, usize>,
    ) -> BoundLayout {
        let domain = self.options.domain_of(tensor).unwrap_or(Domain::Open);
        layout.on_grid(domain, self.options.interpolation, reference)
    }

    /// A grid must admit the group: a domain where it is shifted, sides that turn into each other, whole pixels.
    fn check_grid(&self, what: &str, layout: &BoundLayout, space: &Space) -> Result<(), Error> {
        if layout.grid_sizes().count() == 0 {
            return Ok(());
        }
        let group = self.specification.group();
        let fail = |why: String| Error::Shape {
            tensor: what.to_owned(),
            layout: layout.layout().to_string(),
            shape: layout.shape().to_vec(),
            why,
        };
        let shifted =
            |factor: &Factor| matches!(factor, Factor::Translation(_)) && layout.is_moved_by(factor);
        let name = what.split('`').nth(1).unwrap_or_default();
        if self.options.domain_of(name).is_none() && group.factors().iter().any(shifted) {
            return Err(Error::Option {
                option: "domain".to_owned(),
                why: format!(
                    "translations act on the grid of {what}: say \"periodic\" if it wraps around, or \"open\" if it \
                     ends at its border"
                ),
            });
        }
        layout.check_shifts(group).map_err(fail)?;
        for factor in group.factors() {
            let elements = match &factor {
                Factor::Finite(finite) => {
                    (0..finite.order()).map(|g| space.identity().with_finite(Arc::clone(finite), g)).collect()
                }
                Factor::Linear { .. } | Factor::Generated(_) => {
                    let mut draws = Draws::new(0, 0, 0, Purpose::NearIdentity);
                    vec![sampling::haar(group, &Part::Alone(factor.clone()), space, None, &mut draws)]
                }
                _ => continue,
            };
            for element in &elements {
                layout.admits(element).map_err(fail)?;
            }
        }
        Ok(())
    }

    /// Permutations that were given as generators have a length of their own.
    fn check_permutations(&self, space: &Space) -> Result<(), Error> {
        for factor in self.specification.group().factors() {
            let Factor::Permutations { axis, group } = &factor else { continue };
            let (own, length) =
                (group.permutation(0).map_or(0, <[usize]>::len), space.axes.get(axis).copied().unwrap_or(0));
            if own != length {
                return Err(Error::AxisLength {
                    axis: axis.clone(),
                    first: own,
                    first_tensor: format!("`{factor}`"),
                    second: length,
                    second_tensor: "the inputs".to_owned(),
                });
            }
        }
        Ok(())
    }

    /// Every factor must be able to move some input.
    pub(super) fn check_factors(&self) -> Result<(), Error> {
        let group = self.specification.group();
        for factor in group.factors() {
            let moved = |case: &Case| case.layouts.iter().flatten().any(|layout| layout.is_moved_by(&factor));
            if !self.cases.iter().any(moved) {
                let help = help_for_idle(&factor, group);
                return Err(Error::FactorMovesNothing { factor: factor.to_string(), help });
            }
        }
        Ok(())
    }

    /// Spread of the points: root mean square distance from their centroid, median over samples.
    pub(super) fn set_translation_scale(&mut self) -> f64 {
        let scale = self.options.translation_scale.unwrap_or_else(|| {
            let mut spreads: Vec<f64> =
                self.cases.iter().filter_map(|case| spread_of_points(&case.inputs, &case.layouts)).collect();
            let spread = median(&mut spreads);
            if spread > 0.0 && spread.is_finite() { spread } else { 1.0 }
        });
        for case in &mut self.cases {
            case.space.translation_scale = scale;
        }
        scale
    }
}

/// Entries along a `point` axis, or fractional coordinates as points, as vectors; empty for complex or integer tensors.
pub(super) fn points(tensor: &Tensor, layout: &BoundLayout) -> Vec<Array1<f64>> {
    if tensor.dtype().is_complex() {
        return Vec::new();
    }
    let values = layout.expand(&tensor.to_real());
    match layout.point_axis() {
        Some(axis) => values.lanes(NdAxis(axis)).into_iter().map(|lane| lane.to_owned()).collect(),
        None => layout.cartesian(&values).unwrap_or_default().into_iter().map(Array1::from).collect(),
    }
}

/// Root mean square distance of the sample's points from their centroid.
pub(super) fn spread_of_points(inputs: &[Tensor], layouts: &[Option<BoundLayout>]) -> Option<f64> {
    let points: Vec<Array1<f64>> = inputs
        .iter()
        .zip(layouts)
        .filter_map(|(tensor, layout)| Some(points(tensor, layout.as_ref()?)))
        .flatten()
        .collect();
    centroid_and_spread(&points).map(|(_, spread)| spread)
}

/// The centroid of points, and their root mean square distance from it where that is not 0.
pub(super) fn centroid_and_spread(points: &[Array1<f64>]) -> Option<(Array1<f64>, f64)> {
    let first = points.first()?;
    let n = points.len() as f64;
    let centroid: Array1<f64> = points.iter().fold(Array1::<f64>::zeros(first.len()), |sum, p| sum + p) / n;
    let squares: f64 = points.iter().map(|p| (p - &centroid).iter().map(|v| v * v).sum::<f64>()).sum();
    let spread = (squares / n).sqrt();
    (spread > 0.0).then_some((centroid, spread))
}

/// Whether the model must find for itself which images of points in a lattice are neighbours. Whole numbers that are not
/// one per point may be edges, which come with the images that they cross into, and those nothing here moves along; truth
/// values, one per direction, may say along which of them the lattice repeats.
fn finds_images(inputs: &[Tensor], layouts: &[Option<BoundLayout>]) -> bool {
    let held = inputs.iter().zip(layouts).filter_map(|(tensor, layout)| Some((tensor, layout.as_ref()?)));
    let in_lattice = held.clone().find(|(_, layout)| layout.layout().cells().next().is_some());
    let Some((coordinates, _)) = in_lattice else { return false };
    let dimension = coordinates.shape().last().copied().unwrap_or(1).max(1);
    let points = coordinates.len() / dimension;
    let labels = |tensor: &Tensor| {
        let flags = tensor.dtype() == DType::Bool && tensor.len().is_multiple_of(dimension);
        tensor.dtype().is_inexact() || (tensor.len() == points && !flags)
    };
    inputs.iter().all(labels) && held.clone().all(|(_, layout)| layout.layout().values().is_none())
}

/// Unit vectors between points of the sample, or of its vectors when it has no points: what planned turns bring
/// onto the poles.
fn directions(inputs: &[Tensor], layouts: &[Option<BoundLayout>]) -> Vec<Array1<f64>> {
    let unit = |v: Array1<f64>| {
        let length = v.dot(&v).sqrt();
        (length > 0.0 && length.is_finite()).then(|| v / length)
    };
    for (tensor, layout) in inputs.iter().zip(layouts) {
        let Some(layout) = layout else { continue };
        let points = points(tensor, layout);
        if points.len() > 1 {
            return points.windows(2).filter_map(|pair| unit(&pair[1] - &pair[0])).take(2).collect();
        }
        if let Some(axis) = layout.vector_axis()
            && tensor.dtype().is_inexact()
            && !tensor.dtype().is_complex()
        {
            let values = layout.expand(&tensor.to_real());
            return values
                .lanes(NdAxis(axis))
                .into_iter()
                .filter_map(|l| unit(l.to_owned()))
                .take(2)
                .collect();
        }
    }
    Vec::new()
}
