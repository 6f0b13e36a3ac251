//! Actions on grids against other software (`data/make_grid.py`) and against their mathematics.

use equicheck::model::{DType, Tensor};
use equicheck::symmetry::grid::{Domain, GridError, GridWarp, Interpolation};
use half::f16;
use ndarray::{Array2, ArrayD, Axis, IxDyn, array};
use num_complex::Complex;
use proptest::prelude::*;
use serde_json::Value;
use std::f64::consts::{FRAC_PI_2, PI, TAU};

use Domain::{Open, Periodic};
use Interpolation::{Cubic, Fourier, Linear};

fn warp(
    sizes: &[usize],
    domain: Domain,
    interpolation: Interpolation,
    linear: &Array2<f64>,
    t: &[f64],
) -> GridWarp {
    GridWarp::new(sizes, domain, interpolation, linear, t).expect("a valid transformation")
}

fn turn(angle: f64) -> Array2<f64> {
    array![[angle.cos(), -angle.sin()], [angle.sin(), angle.cos()]]
}

fn all_axes(n: usize) -> Vec<usize> {
    (0..n).collect()
}

/// Numbers without a pattern.
fn noise(shape: &[usize], seed: u64) -> ArrayD<f64> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    ArrayD::from_shape_simple_fn(IxDyn(shape), || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 11) as f64 / 2f64.powi(53) - 0.5
    })
}

fn dot(a: &ArrayD<f64>, b: &ArrayD<f64>) -> f64 {
    a.iter().zip(b).map(|(x, y)| x * y).sum()
}

fn norm(a: &ArrayD<f64>) -> f64 {
    dot(a, a).sqrt()
}

fn largest(values: impl Iterator<Item = f64>) -> f64 {
    values.fold(0.0, |m, v| if v.abs() <= m { m } else { v.abs() })
}

fn numbers(value: &Value) -> Vec<f64> {
    value.as_array().unwrap().iter().map(|v| v.as_f64().unwrap_or(f64::NAN)).collect()
}

#[test]
fn agrees_with_numpy_scipy_escnn_and_keys() {
    let reference: Value =
        serde_json::from_str(include_str!("data/grid.json")).expect("the reference data are JSON");
    let cases = reference["cases"].as_array().unwrap();
    assert!(cases.len() >= 100);
    for case in cases {
        let name = format!("{}: {} ({})", case["source"], case["name"], case["domain"]);
        let shape: Vec<usize> =
            case["shape"].as_array().unwrap().iter().map(|v| v.as_u64().unwrap() as usize).collect();
        let n = shape.len();
        let linear = Array2::from_shape_fn((n, n), |(i, j)| case["linear"][i][j].as_f64().unwrap());
        let domain = case["domain"].as_str().unwrap().parse().unwrap();
        let interpolation = case["interpolation"].as_str().unwrap().parse().unwrap();
        let warp = warp(&shape, domain, interpolation, &linear, &numbers(&case["translation"]));

        let moves = ["numpy", "escnn"].contains(&case["source"].as_str().unwrap());
        assert_eq!(warp.is_exact(), moves, "{name}");
        let input = ArrayD::from_shape_vec(IxDyn(&shape), numbers(&case["input"])).unwrap();
        let ours = warp.apply(&input, &all_axes(n));
        let expected = numbers(&case["output"]);
        let defined: Vec<bool> = expected.iter().map(|v| !v.is_nan()).collect();
        assert_eq!(warp.mask(), defined, "{name}");
        assert!(defined.contains(&true), "{name}");
        for ((our, expected), defined) in ours.iter().zip(expected).zip(defined) {
            let expected = if defined { expected } else { 0.0 };
            let bar = if moves { 0.0 } else { 1e-14 * 5.0 };
            assert!((our - expected).abs() <= bar, "{name}: {our} is not {expected}");
        }
    }
}

/// Elements of O(n) that permute the axes, as signed permutation matrices.
fn lattice_symmetry(n: usize) -> impl Strategy<Value = Array2<f64>> + Clone {
    (Just(all_axes(n)).prop_shuffle(), prop::collection::vec(prop::bool::ANY, n)).prop_map(
        move |(p, flip)| {
            Array2::from_shape_fn((n, n), |(i, j)| {
                if p[i] != j {
                    0.0
                } else if flip[i] {
                    -1.0
                } else {
                    1.0
                }
            })
        },
    )
}

/// A linear part and a translation.
type Affine = (Array2<f64>, Vec<f64>);

fn exact_pair() -> impl Strategy<Value = (usize, usize, [Affine; 2])> {
    (1..=3_usize, 1..=5_usize).prop_flat_map(|(n, size)| {
        let element = (lattice_symmetry(n), prop::collection::vec((-7..=7_i32).prop_map(f64::from), n));
        (Just(n), Just(size), [element.clone(), element])
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// W(g) W(h) = W(g h): bit for bit on the torus, and where all three are defined on an open domain.
    #[test]
    fn exact_maps_are_a_homomorphism((n, size, [(a, s), (b, t)]) in exact_pair(), seed in any::<u64>()) {
        let sizes = vec![size; n];
        let values = noise(&sizes, seed);
        let shift = ndarray::Array1::from(t.clone());
        let moved: Vec<f64> = (a.dot(&shift) + ndarray::Array1::from(s.clone())).to_vec();
        let axes = all_axes(n);
        for domain in [Periodic, Open] {
            let g = warp(&sizes, domain, Linear, &a, &s);
            let h = warp(&sizes, domain, Linear, &b, &t);
            let gh = warp(&sizes, domain, Linear, &a.dot(&b), &moved);
            prop_assert!(g.is_exact() && h.is_exact() && gh.is_exact());
            let in_turn = g.apply(&h.apply(&values, &axes), &axes);
            let at_once = gh.apply(&values, &axes);
            if domain == Periodic {
                prop_assert_eq!(g.defined_share(), 1.0);
                prop_assert_eq!(&in_turn, &at_once);
            }
            for (pixel, (x, y)) in in_turn.iter().zip(&at_once).enumerate() {
                let via = g.source(pixel).and_then(|p| h.source(p));
                if let Some(source) = via {
                    prop_assert_eq!(x, y);
                    prop_assert_eq!(gh.source(pixel), Some(source));
                } else {
                    prop_assert_eq!(*x, 0.0);
                }
            }
        }
    }

    /// <W x, y> = <x, W^T y>, axes in any place and order.
    #[test]
    fn the_transpose_is_the_adjoint(
        n in 1..=3_usize,
        sizes in prop::array::uniform3(2..=6_usize),
        entries in prop::array::uniform9(-1.5..1.5_f64),
        (symmetry, translation) in (lattice_symmetry(3), prop::array::uniform3(-4.0..4.0_f64)),
        (open, lattice, whole) in (any::<bool>(), any::<bool>(), any::<bool>()),
        order in Just(all_axes(5)).prop_shuffle(),
        seed in any::<u64>(),
    ) {
        let domain = if open { Open } else { Periodic };
        let (linear, sizes) = if lattice || !open {
            // The same size all around, so that axes can be exchanged.
            let signs = Array2::from_shape_fn((n, n), |(i, j)| symmetry[(i, j)]);
            let valid = signs.rows().into_iter().all(|row| row.iter().any(|v| *v != 0.0));
            (if valid { signs } else { -Array2::eye(n) }, vec![sizes[0]; n])
        } else {
            let near_one = |(i, j): (usize, usize)| entries[3 * i + j] + if i == j { 3.0 } else { 0.0 };
            (Array2::from_shape_fn((n, n), near_one) / 3.0, sizes[..n].to_vec())
        };
        let translation: Vec<f64> =
            translation[..n].iter().map(|t| if whole { t.round() } else { *t }).collect();
        // The grid's axes are axes order[0..n] of the array, two channels beside them.
        let mut shape = vec![0; n + 2];
        let order: Vec<usize> = order.into_iter().filter(|a| *a < n + 2).collect();
        for (k, axis) in order.iter().enumerate() {
            shape[*axis] = if k < n { sizes[k] } else { k - n + 2 };
        }
        for interpolation in [Linear, Cubic, Fourier] {
            let Ok(warp) = GridWarp::new(&sizes, domain, interpolation, &linear, &translation) else {
                return Err(TestCaseError::reject("not invertible"));
            };
            let (x, y) = (noise(&shape, seed), noise(&shape, seed ^ 0xabcd));
            let there = warp.apply(&x, &order[..n]);
            let back = warp.apply_transposed(&y, &order[..n]);
            prop_assert_eq!(there.shape(), &shape[..]);
            let scale = norm(&there) * norm(&y) + norm(&x) * norm(&back);
            prop_assert!((dot(&there, &y) - dot(&x, &back)).abs() <= 1e-14 * scale);
            // Channels are independent, wherever the axes are.
            let channel = |a: &ArrayD<f64>| {
                let axes: Vec<usize> = order[n..].iter().chain(&order[..n]).copied().collect();
                let moved = a.view().permuted_axes(IxDyn(&axes));
                moved.index_axis(Axis(0), 1).index_axis(Axis(0), 2).as_standard_layout().into_owned()
            };
            let alone = warp.apply(&channel(&x), &all_axes(n));
            prop_assert_eq!(alone, channel(&there));
            for (pixel, defined) in warp.mask().iter().enumerate() {
                if !defined {
                    prop_assert_eq!(channel(&there).as_slice().unwrap()[pixel], 0.0);
                }
            }
        }
    }

    /// Linear interpolation keeps what is of degree 1 in each coordinate, cubic what is of degree 2.
    #[test]
    fn polynomials_are_exact_inside_the_mask(
        angle in -PI..PI,
        shift in prop::array::uniform2(-1.0..1.0_f64),
        scale in 0.7..1.4_f64,
        c in prop::array::uniform9(-1.0..1.0_f64),
    ) {
        let linear = turn(angle) * scale;
        for (interpolation, degree) in [(Linear, 1), (Cubic, 2)] {
            let f = |x: f64, y: f64| {
                let mut sum = 0.0;
                for i in 0..=degree {
                    for j in 0..=degree {
                        sum += c[3 * i + j] * x.powi(i as i32) * y.powi(j as i32);
                    }
                }
                sum
            };
            let (error, defined) = warping_error([9, 10], Open, interpolation, &linear, shift, 1.0, f);
            prop_assert!(defined > 0);
            prop_assert!(error <= 1e-11, "{error:e}");
        }
    }

    /// On a torus Fourier shifts are exact on band-limited signals, and shifts compose.
    #[test]
    fn fourier_shifts_are_exact_on_band_limited_signals(
        shift in prop::array::uniform2(-9.0..9.0_f64),
        phases in prop::array::uniform6(0.0..TAU),
    ) {
        let sizes = [7, 8];
        let f = |x: f64, y: f64| {
            let (kx, ky) = (TAU / 8.0, TAU / 7.0);
            (3.0 * kx * x + phases[0]).sin() * (3.0 * ky * y + phases[1]).cos()
                + (2.0 * kx * x - ky * y + phases[2]).sin()
                + (3.0 * kx * x + 2.0 * ky * y + phases[3]).cos()
        };
        let (error, defined) = warping_error(sizes, Periodic, Fourier, &Array2::eye(2), shift, 1.0, f);
        prop_assert_eq!(defined, 56);
        prop_assert!(error <= 1e-12, "{error:e}");
        let (error, _) = warping_error([8, 8], Periodic, Fourier, &turn(FRAC_PI_2), shift, 1.0, |x, y| {
            (TAU * (3.0 * x + 2.0 * y) / 8.0 + phases[4]).sin() + (TAU * (x - y) / 8.0 + phases[5]).cos()
        });
        prop_assert!(error <= 1e-12, "{error:e}");
    }
}

/// Samples f at pixels `spacing` apart, warps the samples, and compares with f at the points that T takes to the
/// pixels: the largest error over defined pixels, and their number. `shift` is in pixels.
fn warping_error(
    [height, width]: [usize; 2],
    domain: Domain,
    interpolation: Interpolation,
    linear: &Array2<f64>,
    shift: [f64; 2],
    spacing: f64,
    f: impl Fn(f64, f64) -> f64,
) -> (f64, usize) {
    let point =
        |i: usize, j: usize| (j as f64 - (width - 1) as f64 / 2.0, (height - 1) as f64 / 2.0 - i as f64);
    let sampled = ArrayD::from_shape_fn(IxDyn(&[height, width]), |at| {
        let (x, y) = point(at[0], at[1]);
        f(spacing * x, spacing * y)
    });
    let warp = warp(&[height, width], domain, interpolation, linear, &shift);
    let det = linear[(0, 0)] * linear[(1, 1)] - linear[(0, 1)] * linear[(1, 0)];
    let expected = ArrayD::from_shape_fn(IxDyn(&[height, width]), |at| {
        let (x, y) = point(at[0], at[1]);
        let (x, y) = (x - shift[0], y - shift[1]);
        let source_x = (linear[(1, 1)] * x - linear[(0, 1)] * y) / det;
        let source_y = (linear[(0, 0)] * y - linear[(1, 0)] * x) / det;
        f(spacing * source_x, spacing * source_y)
    });
    let ours = warp.apply(&sampled, &[0, 1]);
    let errors = ours.iter().zip(&expected).zip(warp.mask()).filter(|(_, ok)| **ok).map(|((a, b), _)| a - b);
    (largest(errors), warp.mask().iter().filter(|ok| **ok).count())
}

/// Halving the pixel divides the error by 2^order.
#[test]
fn linear_is_of_second_and_cubic_of_third_order() {
    let f = |x: f64, y: f64| (2.0 * x + 0.3).sin() * (1.5 * y - 0.2).cos() + (x - 2.0 * y).cos();
    for (interpolation, order) in [(Linear, 2.0), (Cubic, 3.0)] {
        for domain in [Open, Periodic] {
            let errors: Vec<f64> = [96, 192, 384]
                .map(|size: usize| {
                    let spacing = TAU / size as f64;
                    let sizes = [size; 2];
                    if domain == Open {
                        warping_error(sizes, Open, interpolation, &turn(0.37), [0.21, 0.4], spacing, f).0
                    } else {
                        let periodic =
                            |x: f64, y: f64| (2.0 * x + 0.3).sin() * (3.0 * y).cos() + (x - y).cos();
                        let one = Array2::eye(2);
                        warping_error(sizes, Periodic, interpolation, &one, [0.3, 0.4], spacing, periodic).0
                    }
                })
                .to_vec();
            for pair in errors.windows(2) {
                let seen = (pair[0] / pair[1]).log2();
                assert!(
                    (seen - order).abs() < 0.2,
                    "{interpolation}, {domain}: order {seen:.2}, errors {errors:?}"
                );
            }
        }
    }
}

#[test]
fn a_fourier_turn_of_a_blob_is_exact_inside_the_disc() {
    let blob = |x: f64, y: f64| (-((x - 1.5).powi(2) + (y + 1.0).powi(2)) / 8.0).exp();
    let (error, defined) = warping_error([33, 33], Open, Fourier, &turn(0.7), [0.0, 0.0], 1.0, blob);
    assert!(error < 1e-8, "{error:e}");
    // The inscribed disc.
    let share = defined as f64 / (33.0 * 33.0);
    assert!((share - PI * (16.0_f64 / 33.0).powi(2)).abs() < 0.01, "{share}");
    // The same points are defined after any turn about the centre.
    let masks =
        [0.3, 1.0, 2.5].map(|a| warp(&[32, 32], Open, Fourier, &turn(a), &[0.0, 0.0]).mask().to_vec());
    assert!(masks[0] == masks[1] && masks[1] == masks[2]);
}

#[test]
fn exact_warps_move_the_bits_of_every_type() {
    let flip = array![[-1.0, 0.0], [0.0, 1.0]];
    let quarter = turn(FRAC_PI_2);
    // A signalling NaN: arithmetic and conversions would make it a quiet one.
    let nan = f32::from_bits(0x7f81_2345);
    let float = Tensor::Float32(array![[[nan, -0.0], [1.0, f32::MIN_POSITIVE / 4.0]]].into_dyn());
    let turned = Tensor::Float32(array![[[-0.0, f32::MIN_POSITIVE / 4.0], [nan, 1.0]]].into_dyn());
    let warp2 = warp(&[2, 2], Open, Cubic, &quarter, &[0.0, 0.0]);
    assert!(warp2.apply_tensor(&float, &[1, 2]).same_bits(&turned));
    let double =
        warp2.apply_tensor(&Tensor::Float64(array![[f64::NAN, -0.0], [1.0, 2.0]].into_dyn()), &[0, 1]);
    let Tensor::Float64(double) = double else { panic!("the type is kept") };
    assert_eq!(double[[0, 0]].to_bits(), (-0.0_f64).to_bits());
    assert_eq!(double[[1, 0]].to_bits(), f64::NAN.to_bits());

    // Bits of halves, read as integers so that NaNs compare.
    let bits: [u16; 4] = [0x7e01, 0x8000, 0x3c00, 0x0001];
    let half = ArrayD::from_shape_vec(IxDyn(&[2, 2]), bits.map(f16::from_bits).to_vec()).unwrap();
    let Tensor::Float16(half) = warp2.apply_tensor(&Tensor::Float16(half), &[0, 1]) else {
        panic!("the type is kept")
    };
    assert_eq!(half.mapv(f16::to_bits).into_raw_vec_and_offset().0, [0x8000, 0x0001, 0x7e01, 0x3c00]);

    // An integer beyond 2^53 would not survive f64.
    let big = (1_i64 << 53) + 1;
    let long = Tensor::Int64(array![[big, 2, 3], [4, 5, i64::MIN]].into_dyn());
    let warp23 = warp(&[2, 3], Periodic, Fourier, &flip, &[0.0, 0.0]);
    assert_eq!(
        warp23.apply_tensor(&long, &[0, 1]),
        Tensor::Int64(array![[3, 2, big], [i64::MIN, 5, 4]].into_dyn())
    );
    // Grid axes in another order in the array: width first.
    let swapped = Tensor::Bool(array![[true, false], [false, false], [false, true]].into_dyn());
    let expected = Tensor::Bool(array![[false, true], [false, false], [true, false]].into_dyn());
    assert_eq!(warp23.apply_tensor(&swapped, &[1, 0]), expected);

    // What comes from outside is 0.
    let shifted = warp(&[3], Open, Linear, &Array2::eye(1), &[1.0]);
    let z = Complex::new(1.0_f32, -0.0);
    let complex = Tensor::Complex64(array![z, z * 2.0, z * 3.0].into_dyn());
    let zero = Complex::new(0.0_f32, 0.0);
    assert_eq!(shifted.apply_tensor(&complex, &[0]), Tensor::Complex64(array![zero, z, z * 2.0].into_dyn()));
    assert_eq!(shifted.mask(), [false, true, true]);
    assert_eq!(shifted.defined_share(), 2.0 / 3.0);
    assert_eq!([0, 1, 2, 3].map(|p| shifted.source(p)), [None, Some(0), Some(1), None]);
}

#[test]
fn interpolated_tensors_keep_inexact_types_and_widen_integers() {
    let half_shift = warp(&[4], Periodic, Linear, &Array2::eye(1), &[0.5]);
    assert!(!half_shift.is_exact());
    assert_eq!(half_shift.source(0), None);
    let single = half_shift.apply_tensor(&Tensor::Float32(array![0.0_f32, 1.0, 3.0, 6.0].into_dyn()), &[0]);
    assert_eq!(single, Tensor::Float32(array![3.0_f32, 0.5, 2.0, 4.5].into_dyn()));
    let integers = half_shift.apply_tensor(&Tensor::Int32(array![0, 1, 3, 6].into_dyn()), &[0]);
    assert_eq!(integers, Tensor::Float64(array![3.0, 0.5, 2.0, 4.5].into_dyn()));
    let complex = Tensor::Complex128(array![[Complex::new(0.0, 2.0), Complex::new(1.0, 4.0)]].into_dyn());
    let pair = warp(&[2], Periodic, Fourier, &Array2::eye(1), &[0.5]);
    let Tensor::Complex128(pair) = pair.apply_tensor(&complex, &[1]) else { panic!("the type is kept") };
    // The Nyquist mode, halfway, is 0: the mean remains.
    assert!(pair.iter().all(|z| (z - Complex::new(0.5, 3.0)).norm() < 1e-15));
    assert_eq!(
        half_shift.apply_tensor(&Tensor::Float16(noise(&[4], 1).mapv(f16::from_f64)), &[0]).dtype(),
        DType::Float16
    );
}

#[test]
fn rounding_in_a_matrix_or_shift_is_forgiven_and_small_turns_are_not() {
    let off = 1e-14;
    let nearly = turn(FRAC_PI_2) + array![[off, -off], [0.0, off]];
    let exact = warp(&[5, 5], Open, Linear, &nearly, &[1.0 + off, -2.0 + off]);
    assert!(exact.is_exact());
    let small = warp(&[5, 5], Open, Linear, &turn(1e-9), &[0.0, 0.0]);
    assert!(!small.is_exact());
    // On even sizes the centre lies between pixels and a flip about it is exact; about a pixel's row it needs a shift.
    assert!(warp(&[4], Open, Linear, &array![[-1.0]], &[0.0]).is_exact());
    assert!(!warp(&[4], Open, Linear, &array![[-1.0]], &[0.5]).is_exact());
    // An edge pixel that comes from the edge is defined, although its source is rounded.
    let third = array![[1.0, 0.0], [0.0, 1.0]] * (1.0 / 3.0 * 3.0 + 2e-16);
    assert_eq!(warp(&[5, 5], Open, Linear, &third, &[0.0, 0.0]).defined_share(), 1.0);
    let stretched = warp(&[7], Open, Cubic, &array![[1.0 / 3.0]], &[0.0]);
    assert_eq!(stretched.mask(), [false, false, true, true, true, false, false]);
    assert_eq!(
        stretched.apply(&noise(&[7], 3), &[0]).as_slice().unwrap()[2..5],
        [0, 3, 6].map(|i| noise(&[7], 3)[[i]])
    );
    // A shift so large that all is lost, and one that wraps a million times.
    let lost = warp(&[3], Open, Fourier, &Array2::eye(1), &[-1e300]);
    assert_eq!(lost.defined_share(), 0.0);
    assert_eq!(warp(&[3, 3], Open, Linear, &turn(0.3), &[1e300, 1e308]).defined_share(), 0.0);
    assert_eq!(warp(&[3], Periodic, Linear, &Array2::eye(1), &[3e6 + 1.0]).source(0), Some(2));
    assert_eq!(lost.apply(&noise(&[3], 1), &[0]), ArrayD::<f64>::zeros(IxDyn(&[3])));
}

#[test]
fn nan_reaches_only_pixels_that_read_it() {
    let mut values = noise(&[6, 6], 5);
    values[[0, 0]] = f64::NAN;
    let moved = warp(&[6, 6], Open, Linear, &Array2::eye(2), &[0.5, 0.0]).apply(&values, &[0, 1]);
    assert_eq!(moved.iter().filter(|v| v.is_nan()).count(), 1);
    assert!(moved[[0, 1]].is_nan());
}

fn error(
    sizes: &[usize],
    domain: Domain,
    interpolation: Interpolation,
    linear: &Array2<f64>,
    t: &[f64],
) -> String {
    GridWarp::new(sizes, domain, interpolation, linear, t)
        .expect_err("not a valid transformation")
        .to_string()
}

#[test]
fn errors_say_what_to_do() {
    let one = Array2::eye(2);
    let quarter = turn(FRAC_PI_2);
    assert_eq!(
        error(&[4, 6], Open, Linear, &quarter, &[0.0, 0.0]),
        "height (4 pixels) and width (6 pixels) are exchanged by this transformation: a rotation by 90 degrees (or a \
         diagonal reflection) needs equal height and width; crop or pad the grid to equal sizes, or use a group \
         without it (C2, flips)"
    );
    assert_eq!(
        error(&[6, 6], Periodic, Linear, &turn(PI / 6.0), &[0.0, 0.0]),
        "a periodic domain has only the symmetries of its lattice (shifts, flips and rotations by 90 degrees), and \
         the matrix [[0.866, -0.500], [0.500, 0.866]] is none of them: use domain=\"open\", or a group such as C4, \
         D4 or T(2)"
    );
    assert_eq!(
        error(&[257, 256], Open, Fourier, &turn(0.3), &[0.0, 0.0]),
        "Fourier interpolation of a grid of shape [257, 256] takes 4.33e9 multiplications per channel, the limit is \
         4.29e9 (a turn of 256 x 256 pixels): use interpolation=\"bicubic\", or a smaller grid"
    );
    // A shift goes axis by axis, at a fraction of the cost.
    assert!(GridWarp::new(&[512, 512], Periodic, Fourier, &one, &[0.3, 0.0]).is_ok());
    assert!(matches!(
        GridWarp::new(&[1 << 17], Periodic, Fourier, &Array2::eye(1), &[0.5]),
        Err(GridError::FourierCost { .. })
    ));
    for (sizes, linear, t, why) in [
        (vec![4, 4], Array2::eye(3), vec![0.0, 0.0], "its matrix is 3 x 3, expected 2 x 2"),
        (vec![4, 4], one.clone(), vec![0.0], "its translation has 1 components, expected 2"),
        (vec![4, 4], one.clone(), vec![0.0, f64::NAN], "entries that are not finite"),
        (vec![4, 4], array![[1.0, 2.0], [2.0, 4.0]], vec![0.0, 0.0], "has no inverse"),
        (vec![4, 4], Array2::zeros((2, 2)), vec![0.0, 0.0], "has no inverse"),
        (vec![4, 0], one.clone(), vec![0.0, 0.0], "an axis is empty"),
        (vec![], one.clone(), vec![], "expected 1 (length)"),
        (vec![2; 4], Array2::eye(4), vec![0.0; 4], "expected 1 (length)"),
        (vec![1 << 40, 1 << 40], one.clone(), vec![0.0; 2], "more than 2^31 pixels"),
    ] {
        let message = error(&sizes, Open, Linear, &linear, &t);
        assert!(message.contains(why), "{message}");
    }
}

#[test]
fn words_parse_and_print() {
    for (words, value) in
        [(["linear", "bilinear"], Linear), (["cubic", "bicubic"], Cubic), (["fourier", "fourier"], Fourier)]
    {
        assert!(words.iter().all(|word| word.parse() == Ok(value)));
        assert_eq!(value.to_string().parse(), Ok(value));
    }
    for value in [Periodic, Open] {
        assert_eq!(value.to_string().parse(), Ok(value));
    }
    let unknown = |text: &str| text.parse::<Interpolation>().expect_err("no such word").to_string();
    assert_eq!(unknown("bicubik"), "interpolation: unknown word `bicubik`: did you mean `bicubic`?");
    assert_eq!(
        "torus".parse::<Domain>().expect_err("no such word").to_string(),
        "domain: unknown word `torus`: expected one of periodic, open"
    );
}
