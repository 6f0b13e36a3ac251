//! The size of an error: per output, per block, per row.

use ndarray::{ArrayD, Axis, Slice};

use crate::symmetry::BoundLayout;

/// Floor of a block's denominator, as a share of the block's median norm over the base inputs (METHOD 7).
const FLOOR: f64 = 1e-3;

/// The size of one error.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Error {
    /// Norm over the whole output.
    pub(crate) absolute: f64,
    /// Worst block or row, over `max(norm of the block, 1e-3 of its scale)` (METHOD 7).
    pub(crate) relative: f64,
    /// Worst block or row, over `max(norm of the block, its scale)`. A scalar that happens to pass through zero
    /// makes `relative` large by chance; this figure does not move, so rounding and noise are compared in it.
    pub(crate) scaled: f64,
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
            for (k, block) in split(layout, values).into_iter().enumerate() {
                if blocks.len() <= k {
                    blocks.push(Vec::new());
                }
                blocks[k].push(norm(&block.values));
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
            for (typical, block) in spread.iter_mut().zip(split(layout, change)) {
                *typical = typical.max(norm(&block.values));
            }
        }
        scales
    }

    /// Size of a difference per block, over the block's own scale: name and size.
    pub(crate) fn by_block(
        &self,
        layout: &BoundLayout,
        difference: &ArrayD<f64>,
        reference: &ArrayD<f64>,
    ) -> Vec<(String, f64)> {
        let references = split(layout, reference);
        split(layout, difference)
            .into_iter()
            .zip(references)
            .zip(&self.blocks)
            .map(|((error, reference), scale)| {
                (error.name, ratio(norm(&error.values), norm(&reference.values).max(*scale)))
            })
            .collect()
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
        let mut worst =
            Error { absolute: norm(difference), relative: 0.0, scaled: 0.0, place: String::new() };
        let references = split(layout, reference);
        for (k, (error, reference)) in split(layout, difference).into_iter().zip(references).enumerate() {
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
            let whole = capped(own.max(scale));
            worst.take(ratio(size, floor), ratio(size, whole), || error.name.clone());
            let Some(axis) = error.rows else { continue };
            let row_errors = rows(&error.values, axis);
            let row_sizes = rows(&reference.values, axis);
            let count = row_errors.len().max(1) as f64;
            // A row is compared with the larger of itself and the root mean square row: one bad node in 10,000
            // shows in full, a node whose force vanishes by chance does not blow rounding up.
            let (floor, whole) = (floor / count.sqrt(), whole / count.sqrt());
            for (i, (row_error, row_size)) in row_errors.iter().zip(&row_sizes).enumerate() {
                let denominator =
                    |typical: f64| if spread.is_some() { typical } else { typical.max(*row_size) };
                worst.take(
                    ratio(*row_error, denominator(floor)),
                    ratio(*row_error, denominator(whole)),
                    || {
                        let block =
                            if error.name.is_empty() { String::new() } else { format!("{}, ", error.name) };
                        format!("{block}row {i}")
                    },
                );
            }
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

/// 0 / 0 is no error.
fn ratio(error: f64, denominator: f64) -> f64 {
    if error == 0.0 { 0.0 } else { error / denominator }
}

struct Part {
    name: String,
    values: ArrayD<f64>,
    /// Axis along which rows are judged one by one.
    rows: Option<usize>,
    scalar: bool,
}

fn split(layout: &BoundLayout, values: &ArrayD<f64>) -> Vec<Part> {
    let rows = layout.row_axis();
    layout
        .blocks()
        .into_iter()
        .map(|block| {
            let values = match &block.range {
                None => values.clone(),
                Some((axis, range)) => values.slice_axis(Axis(*axis), Slice::from(range.clone())).to_owned(),
            };
            Part { name: block.name, values, rows, scalar: block.scalar }
        })
        .collect()
}

fn rows(values: &ArrayD<f64>, axis: usize) -> Vec<f64> {
    values.axis_iter(Axis(axis)).map(|row| row.iter().map(|v| v * v).sum::<f64>().sqrt()).collect()
}

/// Euclidean norm, safe against overflow and underflow of the squares.
pub(crate) fn norm(values: &ArrayD<f64>) -> f64 {
    let largest = values.iter().fold(0.0, |m: f64, v| m.max(v.abs()));
    if largest == 0.0 || !largest.is_finite() {
        return if values.iter().any(|v| v.is_nan()) { f64::NAN } else { largest };
    }
    largest * values.iter().map(|v| (v / largest).powi(2)).sum::<f64>().sqrt()
}

/// Median; 0 of nothing.
pub(crate) fn median(values: &mut [f64]) -> f64 {
    quantile(values, 0.5)
}

/// Quantile by linear interpolation between order statistics; 0 of nothing.
pub(crate) fn quantile(values: &mut [f64], share: f64) -> f64 {
    if values.is_empty() {
        return 0.0;
    }
    values.sort_by(f64::total_cmp);
    let position = share * (values.len() - 1) as f64;
    let (below, above) = (position.floor() as usize, position.ceil() as usize);
    if below == above || !values[above].is_finite() {
        return values[above];
    }
    values[below] + (position - below as f64) * (values[above] - values[below])
}
