//! Generated inputs are what their kind says, and each sample can be made alone.

use std::collections::BTreeSet;
use std::f64::consts::TAU;
use std::path::Path;

use equicheck::model::{DType, Samples, Tensor};
use equicheck::spec::NoStructures;
use nalgebra::DMatrix;
use ndarray::{ArrayD, Axis};
use num_complex::Complex;

use crate::{generated, parsed, samples, second};

/// Input `x` of this kind, of the first samples.
fn made(sizes: &str, generate: &str, count: usize) -> Vec<Tensor> {
    let mut samples = samples(&generated(sizes, "false", generate));
    assert_eq!(samples.count(), None);
    (0..count).map(|k| second(&mut samples, k)).collect()
}

fn one(generate: &str) -> Tensor {
    made("nodes = 4", generate, 1).remove(0)
}

fn set<T: Ord>(values: impl IntoIterator<Item = T>) -> BTreeSet<T> {
    values.into_iter().collect()
}

fn integers(tensor: &Tensor) -> Vec<i64> {
    tensor.to_real().iter().map(|x| *x as i64).collect()
}

/// Mean and standard deviation are those of the distribution up to five of their own standard errors.
fn has_moments(values: impl IntoIterator<Item = f64>, mean: f64, std: f64, kurtosis: f64) {
    let values: Vec<f64> = values.into_iter().collect();
    let n = values.len() as f64;
    let found = values.iter().sum::<f64>() / n;
    let variance = values.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / n;
    assert!((found - mean).abs() < 5.0 * std / n.sqrt(), "mean {found}, not {mean}");
    let error = std * std * ((kurtosis - 1.0) / n).sqrt();
    assert!((variance - std * std).abs() < 5.0 * error, "variance {variance}, not {}", std * std);
}

#[test]
fn normal() {
    let x = one("{ kind = 'normal', shape = [100, 50], mean = 2, std = 3, dtype = 'float64' }");
    assert_eq!((x.shape(), x.dtype()), (&[100, 50][..], DType::Float64));
    has_moments(x.to_real(), 2.0, 3.0, 3.0);
    let x = one("{ kind = 'normal', shape = [100, 50], dtype = 'complex64' }");
    assert_eq!((x.shape(), x.dtype()), (&[100, 50][..], DType::Complex64));
    has_moments(x.to_real(), 0.0, 1.0, 3.0);
    assert_eq!(one("{ kind = 'normal', shape = [] }").dtype(), DType::Float32);
}

#[test]
fn uniform() {
    let x = one("{ kind = 'uniform', shape = [5000], low = -1, high = 3 }").to_real();
    assert!(x.iter().all(|x| (-1.0..=3.0).contains(x)));
    has_moments(x, 1.0, 4.0 / 12f64.sqrt(), 1.8);
}

#[test]
fn integers_below_a_bound() {
    let x = one("{ kind = 'integers', shape = [1000], low = -2, high = 3 }");
    assert_eq!(x.dtype(), DType::Int64);
    assert_eq!(set(integers(&x)), set(-2..3));
    // Positions along an axis whose length differs from sample to sample.
    let mut samples = samples(&generated(
        "nodes = [1, 9]",
        "false",
        "{ kind = 'integers', shape = [300], high = 'nodes' }",
    ));
    let mut lengths = BTreeSet::new();
    for k in 0..60 {
        let sample = samples.get(k).expect("it is made");
        let nodes = sample[0].shape()[0];
        lengths.insert(nodes);
        assert_eq!(set(integers(&sample[1])), set(0..nodes as i64));
    }
    assert_eq!(lengths, set(1..=9), "both ends of a size are drawn");
}

#[test]
fn positive() {
    let x = one("{ kind = 'positive', shape = [5000], scale = 3, std = 0.4, dtype = 'float64' }").to_real();
    has_moments(x.iter().map(|x| (x / 3.0).ln()), 0.0, 0.4, 3.0);
    for dtype in ["float16", "bfloat16", "float32"] {
        for scale in ["1e-300", "1e300"] {
            let x =
                one(&format!("{{ kind = 'positive', shape = [100], scale = {scale}, dtype = '{dtype}' }}"))
                    .to_real();
            assert!(x.iter().all(|x| *x > 0.0 && x.is_finite()), "{dtype} {scale}");
        }
    }
}

#[test]
fn unit_vectors() {
    let x = one("{ kind = 'unit_vectors', shape = [500, 2, 3], dtype = 'float64' }").to_real();
    for v in x.lanes(Axis(2)) {
        // Three squares, a root and three divisions, each rounded once.
        assert!((v.iter().map(|x| x * x).sum::<f64>() - 1.0).abs() < 8.0 * f64::EPSILON);
    }
    // Of uniform direction: each component has variance 1/3, and E x^4 = 1/5.
    has_moments(x, 0.0, 3f64.sqrt().recip(), 9.0 / 5.0);
}

#[test]
fn one_hot() {
    let x = one("{ kind = 'one_hot', shape = [400, 5] }");
    assert_eq!(x.dtype(), DType::Float32);
    let x = x.to_real();
    assert!(x.iter().all(|x| *x == 0.0 || *x == 1.0));
    assert!(x.sum_axis(Axis(1)).iter().all(|sum| *sum == 1.0));
    assert!(x.sum_axis(Axis(0)).iter().all(|count| (count - 80.0).abs() < 5.0 * (400f64 * 0.2 * 0.8).sqrt()));
    assert_eq!(one("{ kind = 'one_hot', shape = [4, 5], dtype = 'bool' }").dtype(), DType::Bool);
}

/// The amplitude of a wave in a periodic field.
fn wave(field: &ArrayD<f64>, k: &[i64]) -> f64 {
    let sum: Complex<f64> = field
        .indexed_iter()
        .map(|(x, value)| {
            let phase: f64 = k
                .iter()
                .enumerate()
                .map(|(axis, k)| (*k * x[axis] as i64) as f64 / field.shape()[axis] as f64)
                .sum();
            Complex::cis(-TAU * phase) * value
        })
        .sum();
    sum.norm() / field.len() as f64
}

#[test]
fn smooth_images_hold_few_waves_and_wrap_around() {
    // The largest number of waves that is there: as asked for, and below what the grid can hold.
    for (shape, grid, waves) in [
        (vec![11], "grid = 1", vec![3]),
        (vec![9, 12], "waves = 2", vec![2, 2]),
        (vec![4, 16], "waves = 3", vec![1, 3]),
        (vec![6, 5, 8], "grid = 3, waves = 2", vec![2, 2, 2]),
    ] {
        let generate = format!("{{ kind = 'smooth_image', shape = {shape:?}, dtype = 'float64', {grid} }}");
        let field = one(&generate).to_real();
        let size = wave(&field, &vec![0; shape.len()]) + field.iter().map(|x| x.abs()).fold(0.0, f64::max);
        let mut most = vec![0; shape.len()];
        for index in ndarray::indices(shape.clone()) {
            let signed = |axis: usize| {
                let (k, n) = (index[axis] as i64, shape[axis] as i64);
                if 2 * k > n { k - n } else { k }
            };
            let k: Vec<i64> = (0..shape.len()).map(signed).collect();
            // A sum over the field rounds as often as it has pixels, times the error of a cosine.
            if wave(&field, &k) > 4.0 * f64::EPSILON * size * field.len() as f64 {
                for (most, k) in most.iter_mut().zip(&k) {
                    *most = (*most).max(k.abs());
                }
            }
        }
        assert_eq!(most, waves, "{generate}");
    }
    let x = made("nodes = 4", "{ kind = 'smooth_image', shape = [2, 8, 10], mean = 2, std = 3 }", 1500);
    assert_eq!(x[0].shape(), [2, 8, 10]);
    // One pixel of each image: pixels of one image are not independent.
    for pixel in [[0, 0, 0], [1, 3, 9]] {
        has_moments(x.iter().map(|x| x.to_real()[&pixel[..]]), 2.0, 3.0, 3.0);
    }
    let channels = x[0].to_real();
    assert_ne!(channels.index_axis(Axis(0), 0), channels.index_axis(Axis(0), 1));
}

/// Edges as pairs.
fn edges(tensor: &Tensor) -> Vec<(i64, i64)> {
    assert_eq!((tensor.dtype(), tensor.shape()[0]), (DType::Int64, 2));
    let values = integers(tensor);
    let (sources, targets) = values.split_at(values.len() / 2);
    sources.iter().copied().zip(targets.iter().copied()).collect()
}

#[test]
fn random_graphs() {
    for (edges_key, expected) in [
        ("degree = 3", (|n: usize| 2 * (n as f64 * 1.5).round() as usize) as fn(usize) -> usize),
        ("degree = 100", |n| n * (n - 1)),
        ("complete = true", |n| n * (n - 1)),
        ("edges = 12", |_| 12),
    ] {
        let text = generated(
            "nodes = [5, 12]",
            "\"2 edges : nodes\"",
            &format!("{{ kind = 'random_graph', {edges_key} }}"),
        );
        let mut samples = samples(&text);
        for k in 0..40 {
            let sample = samples.get(k).expect("it is made");
            let n = sample[0].shape()[0];
            let listed = edges(&sample[1]);
            let all = set(listed.clone());
            assert_eq!(all.len(), listed.len(), "no edge comes twice");
            assert_eq!(listed.len(), expected(n), "{edges_key} {n}");
            for (i, j) in listed {
                assert!(i != j && (0..n as i64).contains(&i) && all.contains(&(j, i)), "{i} {j}");
            }
        }
    }
}

#[test]
fn every_pair_is_joined_equally_often() {
    let mut counts = [[0.0; 5]; 5];
    let graphs = made("nodes = 5", "{ kind = 'random_graph', degree = 1.6 }", 1000);
    for (i, j) in graphs.iter().flat_map(edges) {
        counts[i as usize][j as usize] += 1.0;
    }
    // Four of ten pairs.
    for (i, j) in (0..5).flat_map(|i| (0..i).map(move |j| (i, j))) {
        let count: f64 = counts[i][j];
        assert!((count - 400.0).abs() < 5.0 * (1000f64 * 0.4 * 0.6).sqrt(), "{i} {j} {count}");
    }
}

#[test]
fn edges_of_a_graph_are_a_size() {
    let text = generated("nodes = [5, 12]", "\"2 edges : nodes\"", "{ kind = 'random_graph', degree = 2.5 }").replace(
        "[outputs]",
        "[inputs.weight]\nlayout = \"edges\"\ngenerate = { kind = \"positive\", shape = [\"edges\"] }\n[outputs]",
    );
    let mut read = samples(&text);
    for k in 0..10 {
        let sample = read.get(k).expect("it is made");
        assert_eq!(sample[1].shape()[1..], *sample[2].shape());
    }
    let text = text.replace(", degree = 2.5", "").replace("nodes = [5, 12]", "nodes = [5, 12]\nedges = 14");
    assert_eq!(samples(&text).get(3).expect("it is made")[2].shape(), [14]);
}

#[test]
fn segments() {
    let mut samples = samples(&generated(
        "nodes = [6, 12]\ngraphs = [1, 6]",
        "false",
        "{ kind = 'segments', count = 'graphs' }",
    ));
    let mut counts = BTreeSet::new();
    for k in 0..60 {
        let sample = samples.get(k).expect("it is made");
        let labels = integers(&sample[1]);
        assert_eq!(labels.len(), sample[0].shape()[0]);
        assert!(
            labels[0] == 0 && labels.windows(2).all(|pair| (0..=1).contains(&(pair[1] - pair[0]))),
            "{labels:?}"
        );
        counts.insert(labels[labels.len() - 1] + 1);
    }
    assert_eq!(counts, set(1..=6));
}

#[test]
fn edges_of_a_batch_join_nodes_of_one_graph() {
    for (edges_key, most) in [("complete = true", f64::INFINITY), ("degree = 1", 1.0)] {
        let text = generated(
            "nodes = [6, 12]\ngraphs = [1, 4]",
            "\"2 edges : nodes\"",
            &format!("{{ kind = 'random_graph', {edges_key}, segments = 'batch' }}"),
        );
        let text = text.replace(
            "[outputs]",
            "[inputs.batch]\nlayout = \"nodes\"\ngenerate = { kind = \"segments\", count = \"graphs\" }\n\
             [inputs.weight]\nlayout = \"edges\"\ngenerate = { kind = \"positive\", shape = [\"edges\"] }\n[outputs]",
        );
        let mut samples = samples(&text);
        for k in 0..40 {
            let sample = samples.get(k).expect("it is made");
            let labels = integers(&sample[2]);
            let listed = edges(&sample[1]);
            assert_eq!(sample[3].shape(), [listed.len()], "the number of edges is a size");
            let all = set(listed.clone());
            assert_eq!(all.len(), listed.len(), "no edge comes twice");
            // All that there are, or as many as were asked for.
            let pairs = (0..labels.len()).flat_map(|i| (0..labels.len()).map(move |j| (i, j)));
            let inside = pairs.filter(|(i, j)| i != j && labels[*i] == labels[*j]).count();
            let wanted = 2.0 * (most * labels.len() as f64 / 2.0).round();
            assert_eq!(listed.len() as f64, wanted.min(inside as f64), "{edges_key} {labels:?}");
            for (i, j) in listed {
                assert!(i != j && labels[i as usize] == labels[j as usize], "{i} {j} {labels:?}");
                assert!(all.contains(&(j, i)));
            }
        }
    }
}

#[test]
fn lorentz_vectors_are_on_their_shell() {
    let x = one("{ kind = 'lorentz_vectors', shape = [500, 4], mass = [1, 2], std = 5, dtype = 'float64' }")
        .to_real();
    let masses: Vec<f64> = x
        .rows()
        .into_iter()
        .map(|p| {
            assert!(p[0] > 0.0);
            (p[0] * p[0] - p[1] * p[1] - p[2] * p[2] - p[3] * p[3]).sqrt()
        })
        .collect();
    // What is left of t² after the squares: a few roundings of t², over twice a mass of at least 1.
    let rounding = x.rows().into_iter().map(|p| 8.0 * f64::EPSILON * p[0] * p[0]).fold(0.0, f64::max);
    assert!(masses.iter().all(|m| (1.0 - rounding..=2.0 + rounding).contains(m)));
    has_moments(masses, 1.5, 12f64.sqrt().recip(), 1.8);
    has_moments(x.rows().into_iter().flat_map(|p| [p[1], p[2], p[3]]), 0.0, 5.0, 3.0);
}

#[test]
fn cells_are_right_handed_and_well_conditioned() {
    let x = made("nodes = 4", "{ kind = 'cell', scale = 4, dtype = 'float64' }", 300);
    assert_eq!(x[0].shape(), [3, 3]);
    let mut first = Vec::new();
    for cell in x.iter().map(Tensor::to_real) {
        let matrix = DMatrix::from_fn(3, 3, |i, j| cell[[i, j]]);
        let singular = matrix.clone().svd(false, false).singular_values;
        assert!(matrix.determinant() > 0.0);
        assert!(singular.max() <= 4.0 * 1.6 && singular.min() >= 4.0 * 0.4, "{singular}");
        first.push(cell[[0, 0]].signum());
    }
    // Of any orientation: half of the first vectors point backwards.
    has_moments(first, 0.0, 1.0, 1.0 + 1e-3);
    let many = one("{ kind = 'cell', shape = [5, 2, 2] }");
    assert_eq!(many.shape(), [5, 2, 2]);
}

#[test]
fn constants() {
    let x = one("{ kind = 'constant', shape = ['nodes', 2], value = 2, dtype = 'int32' }");
    assert_eq!((x.dtype(), integers(&x)), (DType::Int32, vec![2; 8]));
    let x = one("{ kind = 'constant', shape = [2], value = 0.5, dtype = 'complex64' }");
    assert_eq!(x.to_real().into_raw_vec_and_offset().0, [0.5, 0.0, 0.5, 0.0]);
}

#[test]
fn a_large_graph_of_few_edges_is_made() {
    let edges =
        made("nodes = 4\nmany = 200000", "{ kind = 'random_graph', nodes = 'many', degree = 0.1 }", 1);
    assert_eq!(edges[0].shape(), [2, 20000]);
}

#[test]
fn a_seed_can_be_put_in_place_of_the_files() {
    let text = generated("nodes = 4", "false", "{ kind = 'normal', shape = [3] }");
    let mut read = parsed(&text);
    read.run.seed.set(1);
    let mut set = read.samples(Path::new("."), &mut NoStructures).expect("it is right");
    let said = second(&mut samples(&format!("{text}[run]\nseed = 1\n")), 0);
    assert!(second(&mut set, 0).same_bits(&said) && !second(&mut samples(&text), 0).same_bits(&said));
    assert_eq!(read.options().expect("it is right").seed, 1);
}

/// Kinds with what else they need.
const ALL: [&str; 12] = [
    "kind = 'normal', shape = ['nodes', 2]",
    "kind = 'uniform', shape = ['nodes', 2]",
    "kind = 'integers', shape = ['nodes', 2], high = 1000",
    "kind = 'positive', shape = ['nodes', 2]",
    "kind = 'unit_vectors', shape = ['nodes', 3]",
    "kind = 'one_hot', shape = ['nodes', 9]",
    "kind = 'smooth_image', shape = [5, 6]",
    "kind = 'random_graph', degree = 3",
    "kind = 'segments', count = 3",
    "kind = 'lorentz_vectors', shape = ['nodes', 4]",
    "kind = 'cell'",
    "kind = 'constant', shape = [2], value = 1",
];

#[test]
fn a_sample_depends_on_seed_name_and_index_alone() {
    for generate in ALL {
        let text = generated("nodes = [10, 12]", "false", &format!("{{ {generate} }}"));
        let mut first = samples(&text);
        let values: Vec<Tensor> = (0..4).map(|k| second(&mut first, k)).collect();
        assert!(second(&mut samples(&text), 3).same_bits(&values[3]), "{generate}: made alone");
        let more = text
            .replace("[outputs]", "[inputs.a]\nlayout = false\ngenerate = { kind = \"cell\" }\n[outputs]");
        let more = more.replace("nodes = [10, 12]", "aaa = [2, 9]\nnodes = [10, 12]");
        assert!(second(&mut samples(&more), 3).same_bits(&values[3]), "{generate}: beside another input");
        if generate.contains("constant") {
            continue;
        }
        assert!(!values[2].same_bits(&values[3]), "{generate}: samples differ");
        let seed = format!("{text}[run]\nseed = 1\n");
        assert!(!second(&mut samples(&seed), 3).same_bits(&values[3]), "{generate}: seeds differ");
        let name = text.replace("inputs.x", "inputs.z");
        assert!(!second(&mut samples(&name), 3).same_bits(&values[3]), "{generate}: names differ");
    }
}

#[test]
fn streams_are_apart_from_each_other() {
    // Two inputs of one kind and shape, and two sizes of one range, with names of one length.
    let text =
        generated("nodes = [2, 60]\natoms = [2, 60]", "false", "{ kind = 'normal', shape = ['atoms', 3] }")
            .replace("inputs.x", "inputs.vel");
    let mut samples = samples(&text);
    let differ = (0..10).filter(|k| {
        let sample = samples.get(*k).expect("it is made");
        let first = |x: &Tensor| x.to_real()[[0, 0]];
        assert_ne!(first(&sample[0]), first(&sample[1]));
        sample[0].shape() != sample[1].shape()
    });
    assert!(differ.count() > 5);
}
