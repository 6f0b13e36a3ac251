//! The size of an error: per output, per block, per row.

use ndarray::{ArrayBase, ArrayD, Axis, Data, IxDyn, Slice};
use serde::{Deserialize, Serialize};

use crate::report::figure;
use crate::symmetry::BoundLayout;

/// Floor of a block's denominator, as a share of the block's median norm over the base inputs (METHOD 7).
const FLOOR: f64 = 1e-3;

/// The size of one error.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Error {
    /// Norm over the whole output.
    #[serde(with = "figure")]
    pub(crate) absolute: f64,
    /// Worst block or row, over `max(norm of the block, 1e-3 of its scale)` (METHOD 7).
    #[serde(with = "figure")]
    pub(crate) relative: f64,
    /// Worst block or row, over `max(norm of the block, its scale)`. A scalar that happens to pass through zero
    /// makes `relative` large by chance; this figure does not move, so rounding and noise are compared in it.
    #[serde(with = "figure")]
    pub(crate) scaled: f64,
    /// The 99.9 % quantile over rows of their relative errors, in the worst block; `None` without rows.
    #[serde(with = "figure::optional")]
    pub(crate) row_quantile: Option<f64>,
    /// `||T'^-1 f(Tx) - f(x)||` in the same units, where T' preserves no norm: there the error itself depends on how far T'
    /// stretches it.
    #[serde(with = "figure::optional")]
    pub(crate) pulled_back: Option<f64>,
    /// Where `relative` is worst.
    pub(crate) place: String,
}

impl Error {
    /// An error that no number describes: a raise, a changed shape, a value that is not finite.
    pub(crate) fn infinite(place: &str) -> Self {
        Self {
            absolute: f64::INFINITY,
            relative: f64::INFINITY,
            scaled: f64::INFINITY,
            row_quantile: None,
            pulled_back: None,
            place: place.to_owned(),
        }
    }
}

/// Norms that errors of one output are compared with, fixed from f(x) before any element is drawn.
#[derive(Debug, Clone, Default)]
pub(crate) struct Scales {
    /// Median norm of the whole output.
    pub(crate) whole: f64,
    /// Median norm per block.
    blocks: Vec<f64>,
    /// For scalar blocks: how much it varies, per block, under a change of the inputs that is no symmetry and
    /// as large as the transformations. An energy of -1e4 that varies by 1 is judged by the 1.
    spread: Option<Vec<f64>>,
}

impl Scales {
    /// From f(x) of all base inputs.
    pub(crate) fn new<'a>(base: impl Iterator<Item = (&'a BoundLayout, &'a ArrayD<f64>)>) -> Self {
        let mut whole = Vec::new();
        let mut blocks: Vec<Vec<f64>> = Vec::new();
        for (layout, values) in base {
            whole.push(norm(values));
            for part in split(layout, values) {
                if blocks.len() <= part.block {
                    blocks.resize(part.block + 1, Vec::new());
                }
                blocks[part.block].push(norm(&part.values));
            }
        }
        Self {
            whole: median(&mut whole),
            blocks: blocks.iter_mut().map(|b| median(b)).collect(),
            spread: None,
        }
    }

    /// Takes up how much scalar blocks vary, from differences f(x~) - f(x).
    pub(crate) fn set_spread<'a>(
        &mut self,
        changes: impl Iterator<Item = (&'a BoundLayout, &'a ArrayD<f64>)>,
    ) {
        let spread = Self::new(changes).blocks;
        if !spread.is_empty() {
            self.spread = Some(spread);
        }
    }

    /// The same for one input, whose scalar blocks changed by `change`: the larger of that and the typical change
    /// counts, so that an input of unusual size is judged by its own variation.
    pub(crate) fn with_change(&self, layout: &BoundLayout, change: &ArrayD<f64>) -> Self {
        let mut scales = self.clone();
        if let Some(spread) = &mut scales.spread {
            let parts = split(layout, change);
            for (k, typical) in spread.iter_mut().enumerate() {
                // Entries of a batch vary together or not: their median counts.
                let mut sizes: Vec<f64> =
                    parts.iter().filter(|part| part.block == k).map(|part| norm(&part.values)).collect();
                *typical = typical.max(median(&mut sizes));
            }
        }
        scales
    }

    /// The same for an output of the same kind with `share` times as many entries.
    pub(crate) fn resized(&self, share: f64) -> Self {
        let mut scales = self.clone();
        // Norms grow with the root of the number of entries.
        scales.whole *= share.sqrt();
        scales.blocks.iter_mut().for_each(|block| *block *= share.sqrt());
        scales
    }

    /// The same, with the scales of `other` for blocks that are zero here.
    pub(crate) fn or(mut self, other: &Self) -> Self {
        for (own, other) in self.blocks.iter_mut().zip(&other.blocks) {
            if *own == 0.0 {
                *own = *other;
            }
        }
        self
    }

    /// Size of a difference per block, over the block's own scale: name and size.
    pub(crate) fn by_block(
        &self,
        layout: &BoundLayout,
        difference: &ArrayD<f64>,
        reference: &ArrayD<f64>,
    ) -> Vec<(String, f64)> {
        let references = split(layout, reference);
        let names: Vec<String> = layout.blocks().into_iter().map(|block| block.name).collect();
        let mut sizes: Vec<Vec<f64>> = vec![Vec::new(); names.len()];
        for (error, reference) in split(layout, difference).into_iter().zip(references) {
            let scale = self.blocks.get(error.block).copied().unwrap_or(0.0);
            sizes[error.block].push(ratio(norm(&error.values), norm(&reference.values).max(scale)));
        }
        names.into_iter().zip(&mut sizes).map(|(name, sizes)| (name, median(sizes))).collect()
    }

    /// Measures `difference` against `reference`, which has the layout bound in `layout`.
    pub(crate) fn measure(
        &self,
        layout: &BoundLayout,
        difference: &ArrayD<f64>,
        reference: &ArrayD<f64>,
    ) -> Error {
        if difference.iter().any(|v| !v.is_finite()) {
            return Error::infinite("a value that is not finite");
        }
        let mut worst = Error {
            absolute: norm(difference),
            relative: 0.0,
            scaled: 0.0,
            row_quantile: None,
            pulled_back: None,
            place: String::new(),
        };
        let references = split(layout, reference);
        for (error, reference) in split(layout, difference).into_iter().zip(references) {
            let k = error.block;
            let scale = self.blocks.get(k).copied().unwrap_or(0.0);
            let own = norm(&reference.values);
            let spread = self
                .spread
                .as_ref()
                .filter(|_| error.scalar)
                .and_then(|s| s.get(k))
                .copied()
                .filter(|s| *s > 0.0);
            let capped = |denominator: f64| spread.map_or(denominator, |s| denominator.min(s));
            let size = norm(&error.values);
            let floor = capped(own.max(FLOOR * scale));
            // Rounding is relative to what is computed, offset included: the spread is for violations alone.
            let whole = own.max(scale);
            worst.take(ratio(size, floor), ratio(size, whole), || error.name.clone());
            if error.rows.is_empty() {
                continue;
            }
            let row_errors = rows(&error.values, &error.rows);
            let row_sizes = rows(&reference.values, &error.rows);
            let count = row_errors.len().max(1) as f64;
            // A row is compared with the larger of itself and the root mean square row: one bad node in 10,000
            // shows in full, a node whose force vanishes by chance does not blow rounding up.
            let (floor, whole) = (floor / count.sqrt(), whole / count.sqrt());
            let mut ratios = Vec::with_capacity(row_errors.len());
            for (i, (row_error, row_size)) in row_errors.iter().zip(&row_sizes).enumerate() {
                let own_floor = if spread.is_some() { floor } else { floor.max(*row_size) };
                let own = ratio(*row_error, own_floor);
                ratios.push(own);
                worst.take(own, ratio(*row_error, whole.max(*row_size)), || {
                    let block =
                        if error.name.is_empty() { String::new() } else { format!("{}, ", error.name) };
                    format!("{block}{}", layout.row_name(i))
                });
            }
            let usual = quantile(&mut ratios, 0.999);
            worst.row_quantile = Some(worst.row_quantile.map_or(usual, |other| other.max(usual)));
        }
        worst
    }
}

impl Error {
    fn take(&mut self, relative: f64, scaled: f64, place: impl Fn() -> String) {
        if relative > self.relative {
            self.relative = relative;
            self.place = place();
        }
        self.scaled = self.scaled.max(scaled);
    }
}

/// 0 / 0 is no error; what overflows on both sides is one.
fn ratio(error: f64, denominator: f64) -> f64 {
    if error == 0.0 {
        return 0.0;
    }
    let ratio = error / denominator;
    if ratio.is_nan() { f64::INFINITY } else { ratio }
}

struct Part {
    /// Which block it is of, whatever the batch entry.
    block: usize,
    name: String,
    values: ArrayD<f64>,
    /// Axes along which rows are judged one by one.
    rows: Vec<usize>,
    scalar: bool,
}

/// Blocks of every independent sample: the entries of a batch are never averaged over. Parts of one block follow each
/// other at a distance of the number of blocks.
fn split(layout: &BoundLayout, values: &ArrayD<f64>) -> Vec<Part> {
    let values = &layout.expand(values);
    let rows = layout.row_axes();
    let blocks = layout.blocks();
    let entries: Vec<ArrayD<f64>> = match layout.batch_axis() {
        None => vec![values.clone()],
        Some(axis) => values.axis_chunks_iter(Axis(axis), 1).map(|entry| entry.to_owned()).collect(),
    };
    let several = entries.len() > 1;
    let mut parts = Vec::new();
    for (i, entry) in entries.iter().enumerate() {
        for (k, block) in blocks.iter().enumerate() {
            let values = match &block.range {
                None => entry.clone(),
                Some((axis, range)) => entry.slice_axis(Axis(*axis), Slice::from(range.clone())).to_owned(),
            };
            let comma = if block.name.is_empty() { "" } else { ", " };
            let name =
                if several { format!("{}{comma}batch entry {i}", block.name) } else { block.name.clone() };
            parts.push(Part { block: k, name, values, rows: rows.clone(), scalar: block.scalar });
        }
    }
    parts
}

/// Norms of the rows along these axes, the last of which counts fastest.
fn rows(values: &ArrayD<f64>, axes: &[usize]) -> Vec<f64> {
    let others = (0..values.ndim()).filter(|axis| !axes.contains(axis));
    let order: Vec<usize> = axes.iter().copied().chain(others).collect();
    let count: usize = axes.iter().map(|axis| values.shape()[*axis]).product();
    let data: Vec<f64> = values.view().permuted_axes(IxDyn(&order)).iter().copied().collect();
    if data.is_empty() {
        return vec![0.0; count];
    }
    data.chunks_exact(data.len() / count).map(norm_of).collect()
}

/// Euclidean norm, safe against overflow and underflow of the squares.
pub(crate) fn norm<S: Data<Elem = f64>>(values: &ArrayBase<S, IxDyn>) -> f64 {
    match values.as_slice() {
        Some(values) => norm_of(values),
        None => norm_of(&values.iter().copied().collect::<Vec<_>>()),
    }
}

fn norm_of(values: &[f64]) -> f64 {
    let largest = values.iter().fold(0.0, |m: f64, v| m.max(v.abs()));
    if largest == 0.0 || !largest.is_finite() {
        return if values.iter().any(|v| v.is_nan()) { f64::NAN } else { largest };
    }
    largest * values.iter().map(|v| (v / largest).powi(2)).sum::<f64>().sqrt()
}

/// Root mean square; 0 of nothing.
pub(crate) fn root_mean_square<S: Data<Elem = f64>>(values: &ArrayBase<S, IxDyn>) -> f64 {
    norm(values) / (values.len().max(1) as f64).sqrt()
}

/// Median; 0 of nothing.
pub(crate) fn median(values: &mut [f64]) -> f64 {
    quantile(values, 0.5)
}

/// Quantile by linear interpolation between order statistics; 0 of nothing. NaN sorts last, of either sign (the NaN
/// of an invalid operation is negative on some processors).
pub(crate) fn quantile(values: &mut [f64], share: f64) -> f64 {
    if values.is_empty() {
        return 0.0;
    }
    values.sort_by(|a, b| a.is_nan().cmp(&b.is_nan()).then(a.total_cmp(b)));
    let position = share * (values.len() - 1) as f64;
    let (below, above) = (position.floor() as usize, position.ceil() as usize);
    if below == above || !values[above].is_finite() {
        return values[above];
    }
    values[below] + (position - below as f64) * (values[above] - values[below])
}

#[cfg(test)]
mod tests {
    use ndarray::{Array2, arr0, array};

    use super::*;
    use crate::symmetry::{Group, Layout};

    fn bound(layout: &str, shape: &[usize], group: &str) -> BoundLayout {
        let group = Group::parse(group).unwrap();
        BoundLayout::new(&Layout::parse(layout, &group).unwrap(), shape, &group, "output `y`").unwrap()
    }

    /// Measures `moved - reference` with scales from `reference` alone.
    fn measured(layout: &BoundLayout, moved: &ArrayD<f64>, reference: &ArrayD<f64>) -> Error {
        let scales = Scales::new([(layout, reference)].into_iter());
        scales.measure(layout, &(moved - reference), reference)
    }

    const ALL: &str = "E(3) x S(nodes)";

    #[test]
    fn one_bad_row_among_ten_thousand_shows_in_full() {
        let n = 10_000;
        let layout = bound("nodes vector", &[n, 3], ALL);
        let reference =
            Array2::from_shape_fn((n, 3), |(i, k)| ((3 * i + k) as f64 * 0.7).sin() + 2.0).into_dyn();
        let mut moved = reference.clone();
        moved.index_axis_mut(Axis(0), 4321).fill(0.0);
        let error = measured(&layout, &moved, &reference);
        // The row is as long as the root mean square row up to a factor of 2, so its loss is an error near 1; over
        // the whole output it would be 1 / 100 of that.
        assert!(error.relative > 0.5 && error.relative <= 1.0, "{error:?}");
        assert_eq!(error.relative, error.scaled);
        assert_eq!(error.place, "row 4321");
        assert!(error.absolute / norm(&reference) < 0.02, "the whole hides it");
        // A row that happens to be near zero is judged by its neighbours.
        let mut small = reference.clone();
        small.index_axis_mut(Axis(0), 7).fill(1e-9);
        let mut moved = small.clone();
        moved.index_axis_mut(Axis(0), 7).fill(2e-9);
        assert!(measured(&layout, &moved, &small).relative < 1e-8);
        // A row far larger than the others is judged by itself.
        let mut large = reference.clone();
        large.index_axis_mut(Axis(0), 7).fill(1e6);
        let mut moved = large.clone();
        moved.index_axis_mut(Axis(0), 7).fill(1e6 * (1.0 + 1e-5));
        let error = measured(&layout, &moved, &large);
        assert!((error.relative - 1e-5).abs() < 1e-9, "{error:?}");
    }

    #[test]
    fn rows_are_those_of_the_permuted_axis() {
        let layout = bound("3 nodes", &[3, 4], ALL);
        let reference = ArrayD::ones(ndarray::IxDyn(&[3, 4]));
        let mut moved = reference.clone();
        moved.index_axis_mut(Axis(1), 2).fill(1.5);
        let error = measured(&layout, &moved, &reference);
        assert_eq!(error.place, "row 2");
        assert!((error.relative - 0.5).abs() < 1e-15, "{error:?}");
        assert_eq!(
            measured(
                &bound("3 3", &[3, 3], ALL),
                &Array2::eye(3).into_dyn(),
                &Array2::ones((3, 3)).into_dyn()
            )
            .place,
            ""
        );
    }

    #[test]
    fn one_bad_pixel_among_thousands_shows_in_full() {
        let group = "C4";
        let layout = bound("batch channel height width", &[2, 3, 40, 50], group);
        assert_eq!(layout.row_axes(), [2, 3]);
        let reference =
            ArrayD::from_shape_fn(vec![2, 3, 40, 50], |i| ((i[0] + i[1] + 7 * i[2] + 3 * i[3]) as f64).sin());
        let mut moved = reference.clone();
        moved[[1, 0, 39, 0]] += 1.0;
        moved[[1, 1, 39, 0]] -= 1.0;
        let error = measured(&layout, &moved, &reference);
        assert_eq!(error.place, "batch entry 1, pixel (39, 0)");
        assert!(error.relative > 0.5 && error.relative < 2.0, "{error:?}");
        assert_eq!(error.row_quantile, Some(0.0), "all the others are right");
        // Half of the pixels wrong is nobody's accident.
        let moved = reference.mapv(|v| if v > 0.0 { v * 1.1 } else { v });
        assert!(measured(&layout, &moved, &reference).row_quantile.unwrap() > 0.03);
        // Nodes that carry a picture each.
        let layout = bound("nodes height width", &[3, 4, 4], "C4 x S(nodes)");
        let mut moved = ArrayD::ones(vec![3, 4, 4]);
        moved[[2, 1, 3]] = 2.0;
        assert_eq!(measured(&layout, &moved, &ArrayD::ones(vec![3, 4, 4])).place, "row 2, pixel (1, 3)");
    }

    #[test]
    fn an_energy_with_an_offset_is_judged_by_how_much_it_varies() {
        let layout = bound("", &[], ALL);
        let (reference, moved) = (arr0(-1e4).into_dyn(), arr0(-1e4 + 0.37).into_dyn());
        assert!(
            (measured(&layout, &moved, &reference).relative - 3.7e-5).abs() < 1e-12,
            "the offset hides it"
        );
        let mut scales = Scales::new([(&layout, &reference)].into_iter());
        let changes = [0.5, -1.0, 7.0].map(|v| arr0(v).into_dyn());
        scales.set_spread(changes.iter().map(|change| (&layout, change)));
        let error = scales.measure(&layout, &(&moved - &reference), &reference);
        assert!((error.relative - 0.37).abs() < 1e-9, "over the median change, 1: {error:?}");
        assert!(error.scaled < 1e-4);
        // The worse of both figures decides: a value far smaller than its changes is judged by itself.
        let (reference, moved) = (arr0(0.1).into_dyn(), arr0(0.15).into_dyn());
        let mut scales = Scales::new([(&layout, &reference)].into_iter());
        scales.set_spread(changes.iter().map(|change| (&layout, change)));
        let error = scales.measure(&layout, &(&moved - &reference), &reference);
        assert!((error.relative - 0.5).abs() < 1e-12, "{error:?}");
        // An output that does not change at all has no spread to be judged by.
        let mut scales = Scales::new([(&layout, &reference)].into_iter());
        scales.set_spread([arr0(0.0).into_dyn()].iter().map(|change| (&layout, change)));
        assert!((scales.measure(&layout, &(&moved - &reference), &reference).relative - 0.5).abs() < 1e-12);
    }

    #[test]
    fn energies_per_node_too() {
        let layout = bound("nodes", &[4], ALL);
        let reference = array![-1e4, -1e4 + 1.0, -1e4 - 1.0, -1e4].into_dyn();
        let mut moved = reference.clone();
        moved[2] += 0.5;
        let mut scales = Scales::new([(&layout, &reference)].into_iter());
        let change = array![1.0, -1.0, 1.0, 1.0].into_dyn();
        scales.set_spread([(&layout, &change)].into_iter());
        let error = scales.measure(&layout, &(&moved - &reference), &reference);
        assert!((error.relative - 0.5).abs() < 1e-9, "half of what a node varies by: {error:?}");
        assert_eq!(error.place, "row 2");
    }

    #[test]
    fn what_turns_is_not_judged_by_its_spread() {
        let layout = bound("vector", &[3], ALL);
        let (reference, moved) = (array![3.0, 4.0, 0.0].into_dyn(), array![3.0, 4.0, 0.5].into_dyn());
        let mut scales = Scales::new([(&layout, &reference)].into_iter());
        scales.set_spread([(&layout, &array![1e-3, 0.0, 0.0].into_dyn())].into_iter());
        let error = scales.measure(&layout, &(&moved - &reference), &reference);
        assert!((error.relative - 0.1).abs() < 1e-12, "{error:?}");
        // Unless the group holds nothing that would turn it.
        for (layout, shape, group, turned) in [
            ("vector", 3, "SO(3)", true),
            ("vector", 3, "T(3)", false),
            ("point", 3, "T(3)", true),
            ("2x0e", 2, "O(3)", false),
            ("2x0o", 2, "O(3)", true),
            ("2x0o", 2, "SO(3)", false),
            ("1e", 3, "SO(3)", true),
            ("1e", 3, "S(nodes)", false),
            ("3", 3, "O(3)", false),
        ] {
            let scalar: Vec<bool> =
                bound(layout, &[shape], group).blocks().iter().map(|b| b.scalar).collect();
            assert_eq!(scalar, [!turned], "`{layout}` under {group}");
        }
        let mixed = bound("0e+1o vector", &[4, 3], "O(3)").blocks();
        assert!(mixed.iter().all(|block| !block.scalar), "the second axis turns both");
    }

    #[test]
    fn blocks_of_irreps_are_not_mixed() {
        let layout = bound("nodes 2x0e+1o", &[2, 5], ALL);
        // Scalars near 1e6 and a vector near 1: the vector is wrong by 10 %.
        let reference = array![[1e6, 2e6, 0.0, 1.0, 0.0], [3e6, 1e6, 1.0, 0.0, 0.0]].into_dyn();
        let mut moved = reference.clone();
        moved[[1, 2]] += 0.1;
        let error = measured(&layout, &moved, &reference);
        assert!((error.relative - 0.1).abs() < 1e-12, "{error:?}");
        assert_eq!(error.place, "1x1o, row 1");
        // The other way round: scalars wrong, the vector not.
        let mut moved = reference.clone();
        moved[[0, 1]] *= 1.0 + 1e-3;
        assert!(measured(&layout, &moved, &reference).place.starts_with("2x0e"));
    }

    #[test]
    fn a_block_near_zero_is_judged_by_its_scale_over_the_inputs() {
        let layout = bound("vector", &[3], ALL);
        let base =
            [[1.0, 0.0, 0.0], [0.0, 2.0, 0.0], [0.0, 0.0, 0.0]].map(|v| array![v[0], v[1], v[2]].into_dyn());
        let scales = Scales::new(base.iter().map(|values| (&layout, values)));
        assert_eq!(scales.whole, 1.0, "the median");
        let error = scales.measure(&layout, &array![1e-6, 0.0, 0.0].into_dyn(), &base[2]);
        assert!((error.relative - 1e-3).abs() < 1e-15, "1e-6 over the floor of 1e-3: {error:?}");
        assert!((error.scaled - 1e-6).abs() < 1e-18, "1e-6 over 1");
        assert_eq!(scales.measure(&layout, &array![0.0, 0.0, 0.0].into_dyn(), &base[2]).relative, 0.0);
        // Zero everywhere: any error at all is infinite.
        let zero = Scales::new([(&layout, &base[2])].into_iter());
        assert_eq!(
            zero.measure(&layout, &array![1e-9, 0.0, 0.0].into_dyn(), &base[2]).relative,
            f64::INFINITY
        );
    }

    #[test]
    fn what_is_not_finite_is_infinitely_wrong() {
        let layout = bound("nodes vector", &[2, 3], ALL);
        let reference = ArrayD::ones(ndarray::IxDyn(&[2, 3]));
        for bad in [f64::NAN, -f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
            let mut difference = ArrayD::zeros(ndarray::IxDyn(&[2, 3]));
            difference[[1, 1]] = bad;
            let scales = Scales::new([(&layout, &reference)].into_iter());
            let error = scales.measure(&layout, &difference, &reference);
            assert_eq!([error.absolute, error.relative, error.scaled], [f64::INFINITY; 3]);
        }
        // Norms too large for a number on both sides are no agreement.
        let huge = ArrayD::from_elem(ndarray::IxDyn(&[2, 3]), f64::MAX);
        let error = measured(&layout, &(&huge * 0.25), &huge);
        assert_eq!(error.relative, f64::INFINITY, "{error:?}");
    }

    #[test]
    fn norms_and_rows_neither_overflow_nor_underflow() {
        for scale in [1e200, 1e-200, 1.0] {
            assert!((norm(&(array![3.0, 4.0].into_dyn() * scale)) / scale - 5.0).abs() < 1e-14);
            let layout = bound("nodes vector", &[3, 3], ALL);
            let reference = Array2::<f64>::ones((3, 3)).into_dyn() * scale;
            let mut moved = reference.clone();
            moved.index_axis_mut(Axis(0), 1).fill(0.0);
            let error = measured(&layout, &moved, &reference);
            assert!((error.relative - 1.0).abs() < 1e-14 && error.place == "row 1", "{scale:e}: {error:?}");
        }
        assert_eq!(norm(&array![0.0, -0.0].into_dyn()), 0.0);
        assert_eq!(norm(&array![f64::NEG_INFINITY, 1.0].into_dyn()), f64::INFINITY);
        assert!(norm(&array![0.0, f64::NAN].into_dyn()).is_nan());
        assert!(norm(&array![f64::INFINITY, f64::NAN, 1.0].into_dyn()).is_nan());
        assert_eq!(norm(&ArrayD::zeros(ndarray::IxDyn(&[0, 3]))), 0.0);
    }
}
