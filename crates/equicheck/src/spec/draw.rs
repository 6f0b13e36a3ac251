//! Values of generated inputs. Each is a function of (seed, name of the input, sample), so that any sample can be made
//! alone and none changes when an input or a sample is added.

use std::collections::{BTreeMap, BTreeSet};
use std::f64::consts::TAU;

use ndarray::{Array2, ArrayD, IxDyn};
use num_complex::Complex;

use crate::audit::sampling::{Draws, Purpose};
use crate::model::{DType, Tensor};

use super::cast::{finite_range, from_integers};
use super::check::{EDGES, NODES};
use super::generators::{
    Bound, Cell, Generate, Integers, LorentzVectors, Positive, RandomGraph, Segments, SmoothImage,
};
use super::read::{Named, Said};
use super::tables::{Length, Size};

/// Largest number of waves along an axis of a smooth image, unless told otherwise.
const WAVES: usize = 3;
/// Entries of a cell before its turn, in units of its scale: diagonal 1 +- this, off it at most twice this in all. The
/// symmetric part then has eigenvalues of at least 1 - 3 * 0.2 = 0.4, and no row or column sums to more than 1.6 in
/// absolute value: singular values are between 0.4 and 1.6, the condition number is at most 4.
const CELL_SPREAD: f64 = 0.2;

/// FNV-1a: a number for a name that is the same everywhere.
fn number_of(name: &str) -> u64 {
    name.bytes()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

/// Sizes of one sample by name, those of edges that graphs decide included.
pub(crate) fn sizes<'a>(
    named: &Named<Size>,
    graphs: impl Iterator<Item = (&'a RandomGraph, Option<Labels<'a>>)>,
    seed: u64,
    sample: usize,
) -> BTreeMap<String, usize> {
    let mut result: BTreeMap<String, usize> = named
        .iter()
        .filter_map(|(name, size)| {
            let size = size.get()?;
            let mut draws = Draws::new(seed, sample, number_of(name), Purpose::Sizes);
            Some((name.to_owned(), size.smallest + draws.below(size.largest - size.smallest + 1)))
        })
        .collect();
    for (graph, labels) in graphs {
        let name = match graph.edges.get() {
            None => EDGES,
            Some(Length::Name(name)) => name,
            Some(Length::Number(_)) => continue,
        };
        if !result.contains_key(name) {
            let edges = 2 * pairs(graph, &blocks(graph, labels, &result, seed, sample), &result);
            result.insert(name.to_owned(), edges);
        }
    }
    result
}

/// The length that is meant; 1 for a name that is none, which was refused before.
fn length(said: &Said<Length>, default: &str, sizes: &BTreeMap<String, usize>) -> usize {
    match said.get() {
        Some(Length::Number(n)) => *n,
        Some(Length::Name(name)) => sizes.get(name).copied().unwrap_or(1),
        None => sizes.get(default).copied().unwrap_or(1),
    }
}

/// The input that labels the nodes of a graph: its name and how it is made.
pub(crate) type Labels<'a> = (&'a str, &'a Segments);

/// How many nodes there are of each label; all of them together where there are no labels.
fn blocks(
    graph: &RandomGraph,
    labels: Option<Labels<'_>>,
    sizes: &BTreeMap<String, usize>,
    seed: u64,
    sample: usize,
) -> Vec<usize> {
    let n = length(&graph.nodes, NODES, sizes);
    let Some((name, table)) = labels else { return vec![n] };
    let labels =
        segments(table, n, sizes, &mut Draws::new(seed, sample, number_of(name), Purpose::Generated));
    let mut counts = vec![0; labels.last().map_or(0, |last| *last as usize + 1)];
    for label in &labels {
        counts[*label as usize] += 1;
    }
    counts
}

/// How many pairs of nodes of these blocks a graph joins.
fn pairs(graph: &RandomGraph, blocks: &[usize], sizes: &BTreeMap<String, usize>) -> usize {
    let n: usize = blocks.iter().sum();
    let all = blocks.iter().map(|n| n * (n - 1) / 2).sum();
    let given = match graph.edges.get() {
        Some(Length::Number(edges)) => Some(edges / 2),
        Some(Length::Name(name)) => sizes.get(name).map(|edges| edges / 2),
        None => sizes.get(EDGES).map(|edges| edges / 2),
    };
    match (given, graph.degree.get()) {
        (Some(pairs), _) => pairs.min(all),
        (None, Some(degree)) => ((n as f64 * degree / 2.0).round() as usize).min(all),
        (None, None) => all,
    }
}

/// The shape that an input has for these sizes.
pub(crate) fn shape(generate: &Generate, sizes: &BTreeMap<String, usize>) -> Vec<usize> {
    match generate {
        // It knows its own by what is drawn.
        Generate::RandomGraph(_) => Vec::new(),
        Generate::Segments(table) => vec![length(&table.nodes, NODES, sizes)],
        other => match other.shape().and_then(Said::get) {
            Some(shape) => shape.0.iter().map(|said| length(said, "", sizes)).collect(),
            // Of a cell.
            None => vec![3, 3],
        },
    }
}

/// The values of an input for one sample, whose sizes are these.
///
/// # Errors
/// Whole numbers that the element type does not hold.
pub(crate) fn values(
    generate: &Generate,
    name: &str,
    labels: Option<Labels<'_>>,
    sizes: &BTreeMap<String, usize>,
    seed: u64,
    sample: usize,
) -> Result<Tensor, String> {
    let draws = &mut Draws::new(seed, sample, number_of(name), Purpose::Generated);
    let shape = shape(generate, sizes);
    let dtype = generate.dtype().unwrap_or(DType::Float32);
    let whole = generate.dtype().unwrap_or(DType::Int64);
    let or = |said: &Said<f64>, default: f64| said.get().copied().unwrap_or(default);
    Ok(match generate {
        Generate::Normal(t) => {
            let (mean, std) = (or(&t.mean, 0.0), or(&t.std, 1.0));
            reals(&shape, dtype, || mean + std * draws.normal())
        }
        Generate::Uniform(t) => {
            let (low, high) = (or(&t.low, 0.0), or(&t.high, 1.0));
            // Convex, so that neither end overflows.
            reals(&shape, dtype, || {
                let u = draws.uniform();
                low * (1.0 - u) + high * u
            })
        }
        Generate::Positive(t) => positive(t, &shape, dtype, draws),
        Generate::UnitVectors(_) => {
            let n = shape.last().copied().unwrap_or(1);
            rows(&shape, dtype, n, |row| {
                loop {
                    row.fill_with(|| draws.normal());
                    let norm = row.iter().map(|x| x * x).sum::<f64>().sqrt();
                    if norm > 0.0 {
                        for x in row.iter_mut() {
                            *x /= norm;
                        }
                        break;
                    }
                }
            })
        }
        Generate::LorentzVectors(t) => four_vectors(t, &shape, dtype, draws),
        Generate::Cell(t) => cells(t, &shape, dtype, draws),
        Generate::SmoothImage(t) => smooth(t, &shape, dtype, draws),
        Generate::Integers(t) => return from_integers(&integers(t, &shape, sizes, draws), whole),
        Generate::RandomGraph(t) => {
            let blocks = blocks(t, labels, sizes, seed, sample);
            return from_integers(&graph(&blocks, pairs(t, &blocks, sizes), draws), whole);
        }
        Generate::Segments(t) => return from_integers(&segments(t, shape[0], sizes, draws), whole),
        Generate::OneHot(_) => {
            let classes = shape.last().copied().unwrap_or(1);
            let mut values = ArrayD::zeros(IxDyn(&shape));
            for row in slices(&mut values, classes) {
                row[draws.below(classes)] = 1;
            }
            return from_integers(&values, dtype);
        }
        Generate::Constant(t) => {
            let value = or(&t.value, 0.0);
            match dtype {
                DType::Complex64 | DType::Complex128 => {
                    let values = ArrayD::from_elem(IxDyn(&shape), Complex::new(value, 0.0));
                    match dtype {
                        DType::Complex64 => {
                            Tensor::Complex64(values.mapv(|z| Complex::new(z.re as f32, 0.0)))
                        }
                        _ => Tensor::Complex128(values),
                    }
                }
                _ if dtype.is_inexact() => Tensor::from_real(ArrayD::from_elem(IxDyn(&shape), value), dtype),
                _ => return from_integers(&ArrayD::from_elem(IxDyn(&shape), value as i64), dtype),
            }
        }
    })
}

/// Independent numbers; of a complex type, both parts.
fn reals(shape: &[usize], dtype: DType, mut draw: impl FnMut() -> f64) -> Tensor {
    let mut shape = shape.to_vec();
    if dtype.is_complex() {
        shape.push(2);
    }
    Tensor::from_real(ArrayD::from_shape_simple_fn(IxDyn(&shape), &mut draw), dtype)
}

/// The entries of a row-major array, `n` at a time.
fn slices<T>(values: &mut ArrayD<T>, n: usize) -> impl Iterator<Item = &mut [T]> {
    values.as_slice_mut().expect("made row-major").chunks_exact_mut(n)
}

/// Rows of `n` entries, filled one after the other.
fn rows(shape: &[usize], dtype: DType, n: usize, mut fill: impl FnMut(&mut [f64])) -> Tensor {
    let mut values = ArrayD::zeros(IxDyn(shape));
    slices(&mut values, n).for_each(&mut fill);
    Tensor::from_real(values, dtype)
}

fn positive(table: &Positive, shape: &[usize], dtype: DType, draws: &mut Draws) -> Tensor {
    let scale = table.scale.get().copied().unwrap_or(1.0);
    let std = table.std.get().copied().unwrap_or(0.5);
    // What rounds to zero or infinity would be no positive number any more.
    let (smallest, largest) = finite_range(dtype);
    reals(shape, dtype, || (scale * (std * draws.normal()).exp()).clamp(smallest, largest))
}

fn integers(
    table: &Integers,
    shape: &[usize],
    sizes: &BTreeMap<String, usize>,
    draws: &mut Draws,
) -> ArrayD<i64> {
    let low = table.low.get().copied().unwrap_or(0);
    let high = match table.high.get() {
        Some(Bound::Number(high)) => *high,
        Some(Bound::Name(name)) => sizes.get(name).map_or(1, |n| *n as i64),
        None => 1,
    };
    let count = high.abs_diff(low).max(1) as usize;
    ArrayD::from_shape_simple_fn(IxDyn(shape), || low.wrapping_add_unsigned(draws.below(count) as u64))
}

/// `pairs` pairs of nodes of one block, each once and in both directions, in the order of sources and then targets.
fn graph(blocks: &[usize], pairs: usize, draws: &mut Draws) -> ArrayD<i64> {
    let all: usize = blocks.iter().map(|n| n * (n - 1) / 2).sum();
    // Every set of so many pairs is equally likely (Floyd's method; Bentley, Communications of the ACM 30, 1987).
    let mut chosen = BTreeSet::new();
    for last in all - pairs..all {
        let pick = draws.below(last + 1);
        if !chosen.insert(pick) {
            chosen.insert(last);
        }
    }
    let mut edges = Vec::with_capacity(2 * pairs);
    // For each node the end of its block. Pairs (i, j > i) are numbered row by row.
    let ends: Vec<usize> = blocks
        .iter()
        .scan(0, |end, n| {
            *end += n;
            Some(vec![*end; *n])
        })
        .flatten()
        .collect();
    let (mut i, mut first) = (0, 0);
    for number in chosen {
        while number >= first + (ends[i] - 1 - i) {
            first += ends[i] - 1 - i;
            i += 1;
        }
        let j = i + 1 + (number - first);
        edges.extend([(i as i64, j as i64), (j as i64, i as i64)]);
    }
    edges.sort_unstable();
    let values = edges.iter().map(|edge| edge.0).chain(edges.iter().map(|edge| edge.1)).collect();
    ArrayD::from_shape_vec(IxDyn(&[2, edges.len()]), values).expect("two entries per edge")
}

/// Ascending labels, each at least once.
fn segments(table: &Segments, n: usize, sizes: &BTreeMap<String, usize>, draws: &mut Draws) -> ArrayD<i64> {
    let count = length(&table.count, "", sizes).min(n);
    // Where a new label starts: distinct places after the first.
    let mut starts: Vec<usize> = (1..n).collect();
    draws.shuffle(&mut starts);
    starts.truncate(count - 1);
    let starts: BTreeSet<usize> = starts.into_iter().collect();
    let mut label = 0;
    let labels = (0..n).map(|k| {
        label += i64::from(starts.contains(&k));
        label
    });
    ArrayD::from_shape_vec(IxDyn(&[n]), labels.collect()).expect("one label each")
}

fn four_vectors(table: &LorentzVectors, shape: &[usize], dtype: DType, draws: &mut Draws) -> Tensor {
    let std = table.std.get().copied().unwrap_or(1.0);
    let (smallest, largest) = table.mass.get().map_or((0.5, 1.5), |m| (m.smallest, m.largest));
    rows(shape, dtype, 4, |p| {
        let mass = smallest + (largest - smallest) * draws.uniform();
        p[1..].fill_with(|| std * draws.normal());
        p[0] = p[1..].iter().fold(mass, |norm, x| norm.hypot(*x));
    })
}

fn cells(table: &Cell, shape: &[usize], dtype: DType, draws: &mut Draws) -> Tensor {
    let scale = table.scale.get().copied().unwrap_or(1.0);
    let n = shape.last().copied().unwrap_or(1);
    rows(shape, dtype, n * n, |cell| {
        let off = 2.0 * CELL_SPREAD / (n.max(2) - 1) as f64;
        let matrix = Array2::from_shape_fn((n, n), |(i, j)| {
            let u = 2.0 * draws.uniform() - 1.0;
            if i == j { 1.0 + CELL_SPREAD * u } else { off * u }
        });
        let turned = matrix.dot(&draws.orthogonal(n, false));
        for (value, entry) in cell.iter_mut().zip(&turned) {
            *value = scale * entry;
        }
    })
}

/// The real part of a sum of waves with independent normal amplitudes: of equal distribution at every pixel, and periodic.
fn smooth(table: &SmoothImage, shape: &[usize], dtype: DType, draws: &mut Draws) -> Tensor {
    let waves = table.waves.get().map_or(WAVES, |count| count.0);
    let grid = &shape[shape.len() - table.grid.get().map_or(2, |count| count.0).min(shape.len())..];
    let (mean, std) = (table.mean.get().copied().unwrap_or(0.0), table.std.get().copied().unwrap_or(1.0));
    // Numbers of waves below the grid's own limit, at which a wave and its reverse are the same.
    let limits: Vec<usize> = grid.iter().map(|n| waves.min((n - 1) / 2)).collect();
    let modes: usize = limits.iter().map(|k| 2 * k + 1).product();
    let pixels: usize = grid.iter().product();
    rows(shape, dtype, pixels, |image| {
        let mut field: Vec<Complex<f64>> =
            (0..modes).map(|_| Complex::new(draws.normal(), draws.normal())).collect();
        // One axis after the other: the last one of what is left becomes the first, as pixels in place of waves.
        for (limit, n) in limits.iter().zip(grid).rev() {
            let count = 2 * limit + 1;
            let turns: Vec<Complex<f64>> =
                (0..*n).map(|x| Complex::cis(TAU * x as f64 / *n as f64)).collect();
            let others = field.len() / count;
            field = (0..*n)
                .flat_map(|x| {
                    let (field, turns) = (&field, &turns);
                    (0..others).map(move |other| {
                        let row = &field[other * count..(other + 1) * count];
                        // Wave k - limit; whole turns are left out.
                        row.iter().enumerate().map(|(k, c)| c * turns[(k + n - limit) * x % n]).sum()
                    })
                })
                .collect();
        }
        for (value, z) in image.iter_mut().zip(&field) {
            *value = mean + std * z.re / (modes as f64).sqrt();
        }
    })
}
