//! Inputs at the edge of what a model is used on, derived from a test sample by its layouts alone.

use std::collections::BTreeMap;

use ndarray::{ArrayD, Axis as NdAxis};

use crate::model::Tensor;
use crate::report::StressKind;
use crate::symmetry::{Axis, BoundLayout, Factor, Group, Representation};

use super::noise;
use super::sampling::Draws;
use super::subset::{self, Members, Sample, Torn};

/// How many spreads away, how many times smaller and larger: single precision keeps four of its seven digits.
const FAR: f64 = 1e3;
/// Relative distance from the cutoff, and a coarse one, a thousand times as large.
pub(crate) const NEAR_CUTOFF: f64 = 1e-6;
pub(crate) const OFF_CUTOFF: f64 = 1e-3;

/// What inputs are derived from.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Source<'a> {
    pub(crate) sample: Sample<'a>,
    pub(crate) group: &'a Group,
    /// Permuted axis -> input with the labels of its segments.
    pub(crate) segments: &'a BTreeMap<String, String>,
    /// Root mean square distance of the points from their centroid.
    pub(crate) spread: f64,
    /// The model's cutoff, where it was given.
    pub(crate) cutoff: Option<f64>,
}

/// The kinds that have a meaning for these layouts, applicable to the sample or not.
pub(crate) fn kinds(source: &Source<'_>) -> Vec<StressKind> {
    use StressKind as Kind;
    let runs = |wanted: &dyn Fn(&Representation) -> bool| {
        source.sample.described().any(|(.., layout)| {
            layout.component_runs().any(|(at, run)| at.is_some() && wanted(&run.representation))
        })
    };
    let lorentz = source.group.is_lorentz();
    let dimension = source.group.dimension().unwrap_or(0);
    let points = runs(&|r| *r == Representation::Point);
    let vectors = runs(&|r| *r == Representation::Vector);
    let geometric = (points || vectors) && !lorentz && dimension > 1;
    let mut kinds = Vec::new();
    if points {
        kinds.push(Kind::FarFromOrigin);
    }
    if source.sample.described().any(|(k, ..)| scalable(source, k)) {
        kinds.extend([Kind::TinyScale, Kind::HugeScale]);
    }
    if set_axis(source).is_some() {
        kinds.extend([Kind::OneNode, Kind::TwoNodes]);
        if geometric {
            kinds.push(Kind::Coincident);
        }
    }
    if geometric {
        kinds.push(Kind::Collinear);
        if dimension > 2 {
            kinds.extend([Kind::AlongY, Kind::AlongZ, Kind::Planar]);
        }
    }
    if source.sample.described().any(|(_, _, tensor, layout)| !turned_runs(source, tensor, layout).is_empty())
    {
        kinds.push(Kind::ZeroVectors);
    }
    if geometric && set_axis(source).is_some() {
        kinds.extend([Kind::BelowCutoff, Kind::AtCutoff, Kind::AboveCutoff, Kind::AcrossCutoff]);
    }
    if source.sample.described().any(|(.., layout)| !layout.grid_positions().is_empty()) {
        kinds.extend([Kind::ConstantImage, Kind::CentrePixel, Kind::BorderPixel]);
    }
    if lorentz && vectors {
        kinds.extend([Kind::LightLike, Kind::AtRest, Kind::CollinearMomenta]);
    }
    if source.sample.described().any(|(.., layout)| !layout.positions("batch").is_empty()) {
        kinds.push(Kind::BatchOfOne);
    }
    kinds
}

/// The inputs of this kind.
///
/// # Errors
/// In words, why there are none for this sample.
pub(crate) fn derive(
    source: &Source<'_>,
    kind: StressKind,
    draws: &mut Draws,
) -> Result<Vec<Tensor>, String> {
    use StressKind as Kind;
    let dimension = source.group.dimension().unwrap_or(0);
    let derived = match kind {
        Kind::FarFromOrigin => {
            let far = direction(dimension, draws).into_iter().map(|u| FAR * source.spread * u);
            let far: Vec<f64> = far.collect();
            Ok(on_lanes(source, &|r| *r == Representation::Point, false, &|v| {
                v.iter_mut().zip(&far).for_each(|(v, t)| *v += t);
            }))
        }
        Kind::TinyScale => Ok(scaled(source, 1.0 / FAR)),
        Kind::HugeScale => Ok(scaled(source, FAR)),
        Kind::OneNode => {
            let axis = reducible(source, 1)?;
            let (node, _) = pair(source, axis).unwrap_or((0, 0));
            keep(source, axis, vec![node])
        }
        Kind::TwoNodes => {
            let axis = reducible(source, 2)?;
            let (a, b) = pair(source, axis)?;
            keep(source, axis, vec![a.min(b), a.max(b)])
        }
        Kind::Coincident => moved_pair(source, true, &|from, to| to.copy_from_slice(from)),
        Kind::Collinear => Ok(projected(source, &direction(dimension, draws), false)),
        Kind::Planar => Ok(projected(source, &direction(dimension, draws), true)),
        Kind::AlongY => Ok(on_axis(source, 1)),
        Kind::AlongZ => Ok(on_axis(source, dimension - 1)),
        Kind::ZeroVectors => Ok(zero_vectors(source)),
        Kind::BelowCutoff => at_distance(source, 1.0 - NEAR_CUTOFF),
        Kind::AtCutoff => at_distance(source, 1.0),
        Kind::AboveCutoff | Kind::AcrossCutoff => at_distance(source, 1.0 + NEAR_CUTOFF),
        Kind::ConstantImage => Ok(on_grids(source, &|values, axes| {
            let mut mean = values.clone();
            for at in axes {
                if let Some(average) = mean.mean_axis(NdAxis(*at)) {
                    mean = average.insert_axis(NdAxis(*at));
                }
            }
            if let Some(whole) = mean.broadcast(values.raw_dim()) {
                let whole = whole.to_owned();
                values.assign(&whole);
            }
        })),
        Kind::CentrePixel => Ok(one_pixel(source, |size| size / 2)),
        Kind::BorderPixel => Ok(one_pixel(source, |_| 0)),
        Kind::LightLike => Ok(on_lanes(source, &is_vector, false, &|v| {
            v[0] = v[1..].iter().map(|p| p * p).sum::<f64>().sqrt().copysign(v[0]);
        })),
        Kind::AtRest => Ok(on_lanes(source, &is_vector, false, &|v| v[1..].fill(0.0))),
        Kind::CollinearMomenta => {
            let u = direction(3, draws);
            Ok(on_lanes(source, &is_vector, false, &|v| {
                let size = v[1..].iter().map(|p| p * p).sum::<f64>().sqrt();
                let along: f64 = v[1..].iter().zip(&u).map(|(p, u)| p * u).sum();
                v[1..].iter_mut().zip(&u).for_each(|(p, u)| *p = size.copysign(along) * u);
            }))
        }
        Kind::BatchOfOne => subset::take(source.sample, &[("batch".to_owned(), vec![0])].into()),
    }?;
    for ((name, before), after) in source.sample.names.iter().zip(source.sample.tensors).zip(&derived) {
        let finite = |t: &Tensor| t.to_real().iter().all(|v| v.is_finite());
        if before.dtype().is_inexact() && finite(before) && !finite(after) {
            return Err(format!(
                "the values of input `{name}` would leave the range of {}",
                before.dtype().name()
            ));
        }
    }
    Ok(derived)
}

/// Two elements of the set at `factor` times the cutoff.
///
/// # Errors
/// In words, why there are none.
pub(crate) fn at_distance(source: &Source<'_>, factor: f64) -> Result<Vec<Tensor>, String> {
    let cutoff = source.cutoff.ok_or("what distance the model cuts off at is not known: give `cutoff=`")?;
    moved_pair(source, false, &|from, to| {
        let difference: Vec<f64> = to.iter().zip(from).map(|(a, b)| a - b).collect();
        let length = difference.iter().map(|d| d * d).sum::<f64>().sqrt();
        for (k, slot) in to.iter_mut().enumerate() {
            // Two elements at one place part along the first axis.
            let unit = match length {
                0.0 => f64::from(u8::from(k == 0)),
                length => difference[k] / length,
            };
            *slot = from[k] + factor * cutoff * unit;
        }
    })
}

fn is_vector(representation: &Representation) -> bool {
    *representation == Representation::Vector
}

/// A unit vector in a random direction.
fn direction(dimension: usize, draws: &mut Draws) -> Vec<f64> {
    let v: Vec<f64> = (0..dimension).map(|_| draws.normal()).collect();
    let length = v.iter().map(|v| v * v).sum::<f64>().sqrt();
    v.into_iter().map(|v| v / length).collect()
}

/// The axis of the set whose elements can be left out: permuted, or called `nodes`; not an axis of edges.
pub(crate) fn set_axis<'a>(source: &Source<'a>) -> Option<&'a str> {
    let of_edges = |axis: &str| {
        source
            .sample
            .described()
            .any(|(.., layout)| layout.layout().values().is_some() && layout.axis_names().contains(&axis))
    };
    let known =
        |axis: &&str| source.sample.described().any(|(.., layout)| layout.axis_names().contains(axis));
    let permuted = source.group.permuted_axes().filter(known);
    let named: Vec<&str> = permuted.chain(Some("nodes").filter(|axis| known(axis))).collect();
    named.iter().copied().find(|axis| !of_edges(axis)).or(named.first().copied())
}

fn reducible<'a>(source: &Source<'a>, least: usize) -> Result<&'a str, String> {
    let axis = set_axis(source).ok_or("no input has an axis of nodes")?;
    let fixed = source
        .group
        .factors()
        .iter()
        .any(|factor| matches!(factor, Factor::Permutations { axis: own, .. } if own == axis));
    if fixed {
        return Err(format!("the permutations of `{axis}` that were given have a length of their own"));
    }
    let length = subset::length_of(source.sample, axis);
    if length < least {
        return Err(format!("the sample has {length} entries along `{axis}`"));
    }
    Ok(axis)
}

/// Two elements of one segment that an edge joins, if there are edges.
fn pair(source: &Source<'_>, axis: &str) -> Result<(usize, usize), String> {
    let positions = subset::length_of(source.sample, axis);
    for (_, _, tensor, layout) in source.sample.described() {
        let Some(values) = layout.layout().values().filter(|values| values.axis == axis) else { continue };
        let words = layout.words();
        let Some((ends, _)) = words.iter().find(|(_, word)| **word == Axis::Size(2)) else { continue };
        let real = layout.expand(&tensor.to_real());
        for edge in real.lanes(NdAxis(*ends)) {
            let end = |k: usize| subset::position(edge[k], positions, values.sentinel);
            if let (Some(a), Some(b)) = (end(0), end(1))
                && a != b
            {
                return Ok((a, b));
            }
        }
    }
    let label = source.segments.get(axis).and_then(|input| {
        let k = source.sample.names.iter().position(|name| name == input)?;
        Some(source.sample.tensors[k].to_real().iter().copied().collect::<Vec<f64>>())
    });
    let same = |a: usize, b: usize| label.as_ref().is_none_or(|label| label.get(a) == label.get(b));
    (0..positions)
        .find_map(|a| (a + 1..positions).find(|b| same(a, *b)).map(|b| (a, b)))
        .ok_or_else(|| format!("the sample has no two entries along `{axis}` that belong together"))
}

fn keep(source: &Source<'_>, axis: &str, kept: Vec<usize>) -> Result<Vec<Tensor>, String> {
    let start: Members = [(axis.to_owned(), kept)].into();
    let members = subset::complete(source.sample, start, Torn::Drop)?;
    subset::take(source.sample, &members)
}

/// Changes vectors of the wanted representation; `sets` leaves tensors out that have no axis of elements, such as
/// lattices.
fn on_lanes(
    source: &Source<'_>,
    wanted: &dyn Fn(&Representation) -> bool,
    sets: bool,
    change: &dyn Fn(&mut [f64]),
) -> Vec<Tensor> {
    let mut result = source.sample.tensors.to_vec();
    for (k, _, tensor, layout) in source.sample.described() {
        if !tensor.dtype().is_inexact() || (sets && layout.axis_names().is_empty()) {
            continue;
        }
        let runs: Vec<_> = layout
            .component_runs()
            .filter(|(_, run)| wanted(&run.representation))
            .filter_map(|(at, run)| Some((at?, run.range.clone(), run.dimension)))
            .collect();
        if runs.is_empty() {
            continue;
        }
        result[k] = layout.edit(tensor, |values| {
            for (at, range, dimension) in runs {
                for mut lane in values.lanes_mut(NdAxis(at)) {
                    for start in range.clone().step_by(dimension.max(1)) {
                        let mut vector: Vec<f64> = (0..dimension).map(|i| lane[start + i]).collect();
                        change(&mut vector);
                        (0..dimension).for_each(|i| lane[start + i] = vector[i]);
                    }
                }
            }
        });
    }
    result
}

/// Mean of all points.
fn centroid(source: &Source<'_>, dimension: usize) -> Vec<f64> {
    let sums = std::cell::RefCell::new((vec![0.0; dimension], 0usize));
    on_lanes(source, &|r| *r == Representation::Point, true, &|v| {
        let mut sums = sums.borrow_mut();
        sums.0.iter_mut().zip(v).for_each(|(sum, v)| *sum += *v);
        sums.1 += 1;
    });
    let (sum, count) = sums.into_inner();
    sum.into_iter().map(|sum| sum / count.max(1) as f64).collect()
}

/// Points and vectors on the line along `u`, or in the plane at right angles to it, through the points' centroid.
fn projected(source: &Source<'_>, u: &[f64], plane: bool) -> Vec<Tensor> {
    let centre = centroid(source, u.len());
    let project = |v: &mut [f64], centre: &[f64]| {
        let along: f64 = v.iter().zip(centre).zip(u).map(|((v, c), u)| (v - c) * u).sum();
        for ((v, c), u) in v.iter_mut().zip(centre).zip(u) {
            *v = if plane { *v - along * u } else { c + along * u };
        }
    };
    let points = on_lanes(source, &|r| *r == Representation::Point, true, &|v| project(v, &centre));
    let sample = Sample { tensors: &points, ..source.sample };
    let zero = vec![0.0; u.len()];
    on_lanes(&Source { sample, ..*source }, &is_vector, true, &|v| project(v, &zero))
}

/// Points and vectors on a coordinate axis.
fn on_axis(source: &Source<'_>, axis: usize) -> Vec<Tensor> {
    let wanted = |r: &Representation| is_vector(r) || *r == Representation::Point;
    on_lanes(source, &wanted, true, &|v| {
        v.iter_mut().enumerate().filter(|(k, _)| *k != axis).for_each(|(_, v)| *v = 0.0);
    })
}

/// Changes where the second of two elements is, given where the first is: in all tensors of positions, or in the
/// first alone.
fn moved_pair(
    source: &Source<'_>,
    all: bool,
    change: &dyn Fn(&[f64], &mut [f64]),
) -> Result<Vec<Tensor>, String> {
    let axis = reducible(source, 2)?;
    let (first, second) = pair(source, axis)?;
    let mut result = source.sample.tensors.to_vec();
    // Where nothing is declared as a point, vectors per element are positions about a centre that is meant.
    for wanted in [Representation::Point, Representation::Vector] {
        let mut found = false;
        for (k, _, tensor, layout) in source.sample.described() {
            let run = layout.component_runs().find(|(_, run)| run.representation == wanted);
            let (Some((Some(at), run)), [set]) = (run, &layout.positions(axis)[..]) else { continue };
            if !tensor.dtype().is_inexact() || (found && !all) {
                continue;
            }
            found = true;
            let lane_axis = NdAxis(at - usize::from(*set < at));
            result[k] = layout.edit(tensor, |values| {
                let from = values.index_axis(NdAxis(*set), first).to_owned();
                let mut to = values.index_axis_mut(NdAxis(*set), second);
                for (from, mut to) in from.lanes(lane_axis).into_iter().zip(to.lanes_mut(lane_axis)) {
                    for start in run.range.clone().step_by(run.dimension.max(1)) {
                        let components = start..start + run.dimension;
                        let own: Vec<f64> = components.clone().map(|i| from[i]).collect();
                        let mut other: Vec<f64> = components.clone().map(|i| to[i]).collect();
                        change(&own, &mut other);
                        components.zip(other).for_each(|(i, v)| to[i] = v);
                    }
                }
            });
        }
        if found {
            return Ok(result);
        }
    }
    Err(format!("no input holds a point or a vector for each entry along `{axis}`"))
}

/// Runs that the group turns or multiplies, but for points and orientations; none of a lattice, which no zero is.
fn turned_runs(
    source: &Source<'_>,
    tensor: &Tensor,
    layout: &BoundLayout,
) -> Vec<(usize, std::ops::Range<usize>)> {
    let lattice = layout
        .words()
        .iter()
        .any(|(_, word)| matches!(word, Axis::Size(n) if Some(*n) == source.group.dimension()));
    if lattice || !tensor.dtype().is_inexact() || !layout.grid_positions().is_empty() {
        return Vec::new();
    }
    let factors = source.group.factors();
    layout
        .component_runs()
        .filter(|(_, run)| {
            !matches!(run.representation, Representation::Point | Representation::Quaternion)
                && factors.iter().any(|factor| run.representation.is_moved_by(factor))
        })
        .filter_map(|(at, run)| Some((at?, run.range.clone())))
        .collect()
}

fn zero_vectors(source: &Source<'_>) -> Vec<Tensor> {
    let mut result = source.sample.tensors.to_vec();
    for (k, _, tensor, layout) in source.sample.described() {
        let runs = turned_runs(source, tensor, layout);
        if runs.is_empty() {
            continue;
        }
        result[k] = layout.edit(tensor, |values| {
            for (at, range) in runs {
                values.slice_axis_mut(NdAxis(at), range.into()).fill(0.0);
            }
        });
    }
    result
}

/// Whether the tensor takes part in a change of scale: what the group turns; where it turns nothing, what it permutes.
fn scalable(source: &Source<'_>, k: usize) -> bool {
    let Some(layout) = &source.sample.layouts[k] else { return false };
    let tensor = &source.sample.tensors[k];
    let spatial = |layout: &BoundLayout| {
        layout.is_spatial()
            && !layout.component_runs().any(|(_, r)| r.representation == Representation::Quaternion)
    };
    let some = source.sample.described().any(|(.., layout)| spatial(layout));
    let moved = source.group.factors().iter().any(|factor| layout.is_moved_by(factor));
    tensor.dtype().is_inexact()
        && (spatial(layout) || (!some && moved))
        && !noise::holds_labels(tensor, layout.is_spatial())
}

fn scaled(source: &Source<'_>, factor: f64) -> Vec<Tensor> {
    let mut result = source.sample.tensors.to_vec();
    let centre = centroid(source, source.group.dimension().unwrap_or(0));
    let factors = source.group.factors();
    for (k, _, tensor, layout) in source.sample.described() {
        if !scalable(source, k) {
            continue;
        }
        let runs: Vec<_> = layout.component_runs().collect();
        result[k] = layout.edit(tensor, |values| {
            if !layout.grid_positions().is_empty()
                || !layout.is_spatial()
                || runs.iter().any(|(at, _)| at.is_none())
            {
                *values *= factor;
                return;
            }
            for (at, run) in &runs {
                let Some(at) = at else { continue };
                if !factors.iter().any(|f| run.representation.is_moved_by(f)) {
                    continue;
                }
                let about = run.representation == Representation::Point;
                for mut lane in values.lanes_mut(NdAxis(*at)) {
                    for i in run.range.clone() {
                        let c =
                            if about { centre[(i - run.range.start) % run.dimension.max(1)] } else { 0.0 };
                        lane[i] = c + factor * (lane[i] - c);
                    }
                }
            }
        });
    }
    result
}

/// Changes the values of grids, given the positions of their axes.
fn on_grids(source: &Source<'_>, change: &dyn Fn(&mut ArrayD<f64>, &[usize])) -> Vec<Tensor> {
    let mut result = source.sample.tensors.to_vec();
    for (k, _, tensor, layout) in source.sample.described() {
        let axes = layout.grid_positions();
        if !axes.is_empty() && tensor.dtype().is_inexact() {
            result[k] = layout.edit(tensor, |values| change(values, &axes));
        }
    }
    result
}

/// One pixel keeps its values, all others are zero.
fn one_pixel(source: &Source<'_>, place: fn(usize) -> usize) -> Vec<Tensor> {
    on_grids(source, &|values, axes| {
        let pixel: Vec<usize> = axes.iter().map(|at| place(values.len_of(NdAxis(*at)))).collect();
        for (index, value) in values.indexed_iter_mut() {
            if axes.iter().zip(&pixel).any(|(at, place)| index[*at] != *place) {
                *value = 0.0;
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use ndarray::{Array2, array};

    use super::*;
    use crate::audit::sampling::Purpose;
    use crate::symmetry::Layout;

    /// The inputs of one kind, or why there are none.
    fn derived(
        group: &str,
        tensors: &[(&str, Tensor)],
        cutoff: Option<f64>,
        kind: StressKind,
    ) -> Result<Vec<Tensor>, String> {
        with_source(group, tensors, cutoff, |source| {
            derive(source, kind, &mut Draws::new(3, 0, 0, Purpose::Stress))
        })
    }

    fn with_source<T>(
        group: &str,
        tensors: &[(&str, Tensor)],
        cutoff: Option<f64>,
        use_it: impl FnOnce(&Source<'_>) -> T,
    ) -> T {
        let group = Group::parse(group).unwrap();
        let bound = |(text, tensor): &(&str, Tensor)| {
            let layout = Layout::parse(text, &group).unwrap();
            Some(BoundLayout::new(&layout, tensor.shape(), &group, "input").unwrap())
        };
        let layouts: Vec<_> = tensors.iter().map(bound).collect();
        let names: Vec<String> = (0..tensors.len()).map(|k| k.to_string()).collect();
        let values: Vec<Tensor> = tensors.iter().map(|(_, tensor)| tensor.clone()).collect();
        let sample = Sample { names: &names, tensors: &values, layouts: &layouts };
        use_it(&Source { sample, group: &group, segments: &BTreeMap::new(), spread: 2.0, cutoff })
    }

    const GROUP: &str = "E(3) x S(nodes)";

    fn points() -> Tensor {
        Tensor::Float64(
            array![[1.0, 2.0, 3.0], [4.0, -1.0, 0.5], [0.3, 0.2, -0.9], [-2.0, 1.1, 0.7]].into_dyn(),
        )
    }

    fn cloud() -> Vec<(&'static str, Tensor)> {
        let velocities = Tensor::Float64(
            Array2::from_shape_fn((4, 3), |(i, j)| ((3 * i + 5 * j) as f64).sin()).into_dyn(),
        );
        let edges = Tensor::Int64(array![[2, 3, 1], [2, 1, 3]].into_dyn());
        let cell = Tensor::Float64((Array2::eye(3) * 9.0).into_dyn());
        vec![
            ("nodes point", points()),
            ("nodes vector", velocities),
            ("2 edges : nodes", edges),
            ("3 vector", cell),
        ]
    }

    fn rows(tensor: &Tensor) -> Vec<Vec<f64>> {
        tensor.to_real().outer_iter().map(|row| row.iter().copied().collect()).collect()
    }

    fn sub(a: &[f64], b: &[f64]) -> Vec<f64> {
        a.iter().zip(b).map(|(a, b)| a - b).collect()
    }

    fn dot(a: &[f64], b: &[f64]) -> f64 {
        a.iter().zip(b).map(|(a, b)| a * b).sum()
    }

    /// Rank of the differences of the rows, by Gram and Schmidt.
    fn rank(rows: &[Vec<f64>]) -> usize {
        let mut basis: Vec<Vec<f64>> = Vec::new();
        for row in &rows[1..] {
            let mut rest = sub(row, &rows[0]);
            for unit in &basis {
                let along = dot(&rest, unit);
                rest = rest.iter().zip(unit).map(|(r, u)| r - along * u).collect();
            }
            let length = dot(&rest, &rest).sqrt();
            if length > 1e-9 {
                basis.push(rest.iter().map(|r| r / length).collect());
            }
        }
        basis.len()
    }

    #[test]
    fn far_is_a_thousand_spreads_away_for_points_alone() {
        let moved = derived(GROUP, &cloud(), None, StressKind::FarFromOrigin).unwrap();
        let shift = sub(&rows(&moved[0])[0], &rows(&points())[0]);
        assert!((dot(&shift, &shift).sqrt() - 2e3).abs() < 1e-6);
        assert!(shift.iter().all(|t| t.abs() > 1.0), "a generic direction: {shift:?}");
        let again = sub(&rows(&moved[0])[3], &rows(&points())[3]);
        assert!(sub(&shift, &again).iter().all(|d| d.abs() < 1e-9), "all alike");
        assert_eq!(moved[1..], cloud().into_iter().map(|(_, t)| t).collect::<Vec<_>>()[1..]);
    }

    #[test]
    fn scales_keep_the_centroid_and_take_lattices_along() {
        for (kind, factor) in [(StressKind::TinyScale, 1e-3), (StressKind::HugeScale, 1e3)] {
            let moved = derived(GROUP, &cloud(), None, kind).unwrap();
            let (before, after) = (rows(&points()), rows(&moved[0]));
            let scaled = sub(&after[0], &after[2]);
            let expected: Vec<f64> = sub(&before[0], &before[2]).iter().map(|d| d * factor).collect();
            assert!(sub(&scaled, &expected).iter().all(|d| d.abs() < 1e-9));
            for k in 0..3 {
                let sum = |rows: &[Vec<f64>]| rows.iter().map(|row| row[k]).sum::<f64>();
                assert!((sum(&before) - sum(&after)).abs() < 1e-9);
            }
            assert_eq!(moved[3].to_real()[[1, 1]], 9.0 * factor);
            assert_eq!(moved[2], cloud()[2].1, "positions in the edge list");
        }
        // Under permutations alone features are scaled, labels are not.
        let features =
            [("nodes channel", points()), ("nodes", Tensor::Float64(array![1.0, 6.0, 8.0, 1.0].into_dyn()))];
        let moved = derived("S(nodes)", &features, None, StressKind::HugeScale).unwrap();
        assert_eq!(rows(&moved[0])[1], [4e3, -1e3, 500.0]);
        assert_eq!(moved[1], features[1].1);
    }

    #[test]
    fn what_leaves_the_range_of_the_type_is_not_tried() {
        let half = [("nodes vector", points().cast(crate::model::DType::Float16))];
        assert!(derived(GROUP, &half, None, StressKind::HugeScale).is_ok());
        let large =
            [("nodes vector", Tensor::from_real(points().to_real() * 100.0, crate::model::DType::Float16))];
        let why = derived(GROUP, &large, None, StressKind::HugeScale).unwrap_err();
        assert_eq!(why, "the values of input `0` would leave the range of float16");
    }

    #[test]
    fn two_nodes_are_those_of_the_first_edge_with_two_ends() {
        let two = derived(GROUP, &cloud(), None, StressKind::TwoNodes).unwrap();
        assert_eq!(rows(&two[0]), [rows(&points())[1].clone(), rows(&points())[3].clone()]);
        assert_eq!(two[2], Tensor::Int64(array![[1, 0], [0, 1]].into_dyn()), "3 -> 1 and back");
        let one = derived(GROUP, &cloud(), None, StressKind::OneNode).unwrap();
        assert_eq!((one[0].shape(), one[2].shape()), (&[1, 3][..], &[2, 0][..]));
        assert_eq!(one[3], cloud()[3].1);
        let single = [("nodes point", Tensor::Float64(array![[1.0, 2.0, 3.0]].into_dyn()))];
        let why = derived(GROUP, &single, None, StressKind::TwoNodes).unwrap_err();
        assert_eq!(why, "the sample has 1 entries along `nodes`");
    }

    #[test]
    fn pairs_meet_and_part_at_the_cutoff() {
        let met = rows(&derived(GROUP, &cloud(), None, StressKind::Coincident).unwrap()[0]);
        assert_eq!(met[1], met[3]);
        assert_eq!(met[3], rows(&points())[3], "the first of them stays");
        for (kind, factor) in [
            (StressKind::BelowCutoff, 1.0 - 1e-6),
            (StressKind::AtCutoff, 1.0),
            (StressKind::AboveCutoff, 1.0 + 1e-6),
        ] {
            let moved = rows(&derived(GROUP, &cloud(), Some(5.0), kind).unwrap()[0]);
            let d = sub(&moved[1], &moved[3]);
            assert!((dot(&d, &d).sqrt() - 5.0 * factor).abs() < 1e-12);
        }
        let why = derived(GROUP, &cloud(), None, StressKind::AtCutoff).unwrap_err();
        assert!(why.ends_with("give `cutoff=`"), "{why}");
    }

    #[test]
    fn lines_and_planes() {
        let of = |kind| {
            let moved = derived(GROUP, &cloud(), None, kind).unwrap();
            assert_eq!(moved[3], cloud()[3].1, "a lattice is none of it");
            (rows(&moved[0]), rows(&moved[1]))
        };
        for (kind, expected) in [(StressKind::Collinear, 1), (StressKind::Planar, 2)] {
            let (points, vectors) = of(kind);
            assert_eq!((rank(&points), rank(&vectors)), (expected, expected), "{kind}");
            // Vectors lie in the same line or plane.
            let mut both: Vec<Vec<f64>> = vec![vec![0.0; 3]];
            both.extend(points.iter().map(|p| sub(p, &points[0])));
            both.extend(vectors);
            assert_eq!(rank(&both), expected, "{kind}");
            assert!(points[1].iter().all(|v| v.abs() > 1e-3), "generic");
        }
        for (kind, axis) in [(StressKind::AlongY, 1), (StressKind::AlongZ, 2)] {
            let (points, vectors) = of(kind);
            let on_axis = |v: &Vec<f64>| (0..3).all(|k| k == axis || v[k] == 0.0);
            assert!(points.iter().chain(&vectors).all(on_axis));
            assert_eq!(rank(&points), 1);
        }
    }

    #[test]
    fn zero_is_for_what_turns_but_points_and_lattices() {
        let zero = derived(GROUP, &cloud(), None, StressKind::ZeroVectors).unwrap();
        assert_eq!(zero[0], points());
        assert!(zero[1].to_real().iter().all(|v| *v == 0.0));
        assert_eq!(zero[3], cloud()[3].1);
        let irreps = [("nodes 2x0e+1o", Tensor::Float64(Array2::ones((2, 5)).into_dyn()))];
        let zero = derived("O(3)", &irreps, None, StressKind::ZeroVectors).unwrap();
        assert_eq!(rows(&zero[0])[0], [1.0, 1.0, 0.0, 0.0, 0.0]);
    }

    #[test]
    fn images() {
        let image = Tensor::Float64(array![[[1.0, 2.0], [3.0, 6.0]], [[5.0, 0.0], [1.0, 2.0]]].into_dyn());
        let of = |kind| derived("C4", &[("channel height width", image.clone())], None, kind).unwrap();
        let flat = |kind| of(kind)[0].to_real().into_iter().collect::<Vec<f64>>();
        assert_eq!(flat(StressKind::ConstantImage), [3.0, 3.0, 3.0, 3.0, 2.0, 2.0, 2.0, 2.0]);
        assert_eq!(flat(StressKind::BorderPixel), [1.0, 0.0, 0.0, 0.0, 5.0, 0.0, 0.0, 0.0]);
        assert_eq!(flat(StressKind::CentrePixel), [0.0, 0.0, 0.0, 6.0, 0.0, 0.0, 0.0, 2.0]);
    }

    #[test]
    fn four_vectors() {
        let momenta = [(
            "particles! vector",
            Tensor::Float64(array![[5.0, 1.0, 2.0, 2.0], [-4.0, 0.0, -3.0, 1.0]].into_dyn()),
        )];
        let of = |kind| rows(&derived("O(1,3)", &momenta, None, kind).unwrap()[0]);
        let mass = |p: &[f64]| p[0] * p[0] - dot(&p[1..], &p[1..]);
        for (before, after) in rows(&momenta[0].1).iter().zip(of(StressKind::LightLike)) {
            assert!(mass(&after).abs() < 1e-12);
            assert_eq!(after[0].signum(), before[0].signum());
        }
        assert!(of(StressKind::AtRest).iter().all(|p| p[1..] == [0.0, 0.0, 0.0]));
        let line = of(StressKind::CollinearMomenta);
        for (before, after) in rows(&momenta[0].1).iter().zip(&line) {
            assert!((mass(before) - mass(after)).abs() < 1e-12);
        }
        let three: Vec<Vec<f64>> =
            std::iter::once(vec![0.0; 3]).chain(line.iter().map(|p| p[1..].to_vec())).collect();
        assert_eq!(rank(&three), 1);
    }

    #[test]
    fn kinds_go_by_the_layouts() {
        use StressKind as Kind;
        let of = |group: &str, tensors: &[(&str, Tensor)]| with_source(group, tensors, None, kinds);
        assert_eq!(
            of(
                "S(nodes)",
                &[("batch nodes channel", Tensor::Float64(ArrayD::from_elem(vec![2, 3, 4], 0.5)))]
            ),
            [Kind::TinyScale, Kind::HugeScale, Kind::OneNode, Kind::TwoNodes, Kind::BatchOfOne]
        );
        let momenta = [("particles! vector", Tensor::Float64(ArrayD::ones(vec![2, 4])))];
        let lorentz = of("SO+(1,3)", &momenta);
        assert!(lorentz.contains(&Kind::LightLike) && !lorentz.contains(&Kind::Collinear), "{lorentz:?}");
        let of_cloud = of(GROUP, &cloud());
        let expected: Vec<Kind> = Kind::ALL[..15].to_vec();
        assert_eq!(of_cloud, expected, "no grid, no four-vectors, no batch");
    }
}
