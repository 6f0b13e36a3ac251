//! Logarithms and exponentials against other software (`data/make_lie.py`) and against their definition.

use std::f64::consts::PI;

use equicheck::symmetry::lie::{
    boost, is_lorentz, is_orthochronous, is_proper, lorentz_exp, lorentz_generators, lorentz_inverse,
    lorentz_log, metric, rapidity, rotation_exp, rotation_log, so_generators, split_improper, split_lorentz,
};
use ndarray::{Array1, Array2, array, s};
use proptest::prelude::*;
use serde_json::Value;

fn reference() -> Value {
    serde_json::from_str(include_str!("data/lie.json")).expect("the reference data are JSON")
}

fn numbers(value: &Value) -> Vec<f64> {
    value.as_array().unwrap().iter().map(|x| x.as_f64().unwrap()).collect()
}

fn matrix(value: &Value) -> Array2<f64> {
    let rows: Vec<Vec<f64>> = value.as_array().unwrap().iter().map(numbers).collect();
    Array2::from_shape_fn((rows.len(), rows[0].len()), |(i, j)| rows[i][j])
}

/// Largest difference, relative to the largest of `b`.
fn relative(a: &[f64], b: &[f64]) -> f64 {
    assert_eq!(a.len(), b.len());
    let difference: Vec<f64> = a.iter().zip(b).map(|(x, y)| x - y).collect();
    largest(&difference) / largest(b).max(f64::MIN_POSITIVE)
}

fn largest<'a>(values: impl IntoIterator<Item = &'a f64>) -> f64 {
    values.into_iter().fold(0.0, |m, v| if v.abs() <= m { m } else { v.abs() })
}

fn distance(a: &Array2<f64>, b: &Array2<f64>) -> f64 {
    assert_eq!(a.dim(), b.dim());
    largest(&(a - b))
}

/// Powers of a matrix, summed as they come: the definition, good for small ones.
fn series(x: &Array2<f64>) -> Array2<f64> {
    let mut term = Array2::eye(x.nrows());
    let mut sum = term.clone();
    for k in 1..60 {
        term = term.dot(x) / f64::from(k);
        sum += &term;
    }
    sum
}

fn combine(coordinates: &[f64], generators: &[Array2<f64>]) -> Array2<f64> {
    assert_eq!(coordinates.len(), generators.len());
    let zero = Array2::zeros(generators[0].dim());
    coordinates.iter().zip(generators).fold(zero, |sum, (c, g)| sum + g * *c)
}

fn planes(n: usize) -> usize {
    n * (n - 1) / 2
}

/// Block diagonal turns by `angles`, in a basis with nothing special about it.
fn turns(angles: &[f64], n: usize, basis: &[f64]) -> Array2<f64> {
    let mut blocks = Array2::eye(n);
    for (k, angle) in angles.iter().enumerate() {
        let (s, c) = angle.sin_cos();
        // sin(pi) is not zero in floating point: exactly pi is meant.
        let s = if *angle == PI { 0.0 } else { s };
        blocks.slice_mut(s![2 * k..2 * k + 2, 2 * k..2 * k + 2]).assign(&array![[c, -s], [s, c]]);
    }
    let basis = rotation_exp(basis, n);
    basis.dot(&blocks).dot(&basis.t())
}

/// Angles where a formula could lose digits, and all others.
fn angle() -> impl Strategy<Value = f64> {
    prop_oneof![
        4 => -PI..PI,
        1 => Just(0.0),
        1 => Just(1e-12),
        1 => Just(-1e-7),
        1 => Just(PI / 2.0),
        1 => Just(PI - 1e-4),
        1 => Just(PI - 1e-9),
        1 => Just(PI - 1e-13),
        1 => Just(PI),
    ]
}

fn direction() -> impl Strategy<Value = [f64; 3]> {
    let generic = prop::array::uniform3(-1.0..1.0_f64)
        .prop_filter("a direction needs a length", |a| largest(a) > 0.1)
        .prop_map(|a| a.map(|c| c / a[0].hypot(a[1]).hypot(a[2])));
    prop_oneof![
        6 => generic,
        1 => Just([1.0, 0.0, 0.0]),
        1 => Just([0.0, 0.0, -1.0]),
        1 => Just([0.6, 0.0, 0.8]),
    ]
}

fn coordinates(n: usize) -> impl Strategy<Value = Vec<f64>> {
    prop::collection::vec(-1.5..1.5_f64, planes(n))
}

#[test]
fn rotation_vectors_agree_with_scipy() {
    for case in reference()["rotation_vectors"].as_array().unwrap() {
        let (vector, m) = (numbers(&case["vector"]), matrix(&case["matrix"]));
        assert!(distance(&rotation_exp(&vector, 3), &m) < 1e-15, "{vector:?}");
        let error = relative(&rotation_log(&m), &vector);
        assert!(error < 2e-15, "{vector:?}: {error:e}");
    }
}

#[test]
fn rotations_in_any_dimension_agree_with_mpmath() {
    for case in reference()["rotations"].as_array().unwrap() {
        let n = case["n"].as_u64().unwrap() as usize;
        let (coordinates, m) = (numbers(&case["coordinates"]), matrix(&case["matrix"]));
        let error = distance(&rotation_exp(&coordinates, n), &m);
        assert!(error < 1e-14, "so({n}): {error:e}");
        let error = relative(&rotation_log(&m), &coordinates);
        assert!(error < 1e-14, "so({n}), {coordinates:?}: {error:e}");
    }
}

#[test]
fn lorentz_matrices_agree_with_mpmath() {
    for case in reference()["lorentz"].as_array().unwrap() {
        let (c, m) = (numbers(&case["coordinates"]), matrix(&case["matrix"]));
        let c: [f64; 6] = c.try_into().unwrap();
        // Rounding of the entries, amplified by the products that cancel.
        let bar = 2e-15 * (2.0 * rapidity(&m)).exp();
        assert!(is_lorentz(&m, 1e-15));
        let error = distance(&lorentz_exp(c), &m) / m[[0, 0]];
        assert!(error < 2e-15 * m[[0, 0]], "{c:?}: {error:e}");
        let error = relative(&lorentz_log(&m), &c);
        assert!(error < bar, "{c:?}: {error:e} above {bar:e}");
    }
}

#[test]
fn boosts_agree_with_pylorentz() {
    for case in reference()["boosts"].as_array().unwrap() {
        let [before, after] = ["before", "after"].map(|key| Array1::from_vec(numbers(&case[key])));
        let eta: [f64; 3] = numbers(&case["rapidity"]).try_into().unwrap();
        let ours = boost(eta).dot(&before);
        // pylorentz takes the velocity from sqrt(1 - 1/gamma^2), which loses digits when it is small.
        let error = largest(&(&ours - &after)) / largest(&after);
        assert!(error < 1e-12, "{eta:?}: {error:e}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 512, ..ProptestConfig::default() })]

    #[test]
    fn planar_rotations_go_round(a in angle()) {
        let m = rotation_exp(&[a], 2);
        let log = rotation_log(&m);
        prop_assert!((log[0] - a).abs() <= 1e-15 * a.abs().max(1e-300) + 2e-16 * f64::from(u8::from(a.abs() > 0.1)),
            "{a:e} came back as {:e}", log[0]);
    }

    #[test]
    fn rotation_vectors_go_round(axis in direction(), a in angle()) {
        let vector = axis.map(|c| c * a.abs());
        let log = rotation_log(&rotation_exp(&vector, 3));
        let error = largest(&(Array1::from_vec(log.clone()) - Array1::from_vec(vector.to_vec())));
        let opposite = largest(&(Array1::from_vec(log.clone()) + Array1::from_vec(vector.to_vec())));
        // Within rounding of a half turn both axes are right.
        let error = if PI - a.abs() < 1e-14 { error.min(opposite) } else { error };
        prop_assert!(error <= 3e-15 * a.abs(), "{vector:?} came back as {log:?}");
    }

    #[test]
    fn exponential_of_the_logarithm_is_the_rotation(
        n in 4..8_usize,
        angles in prop::collection::vec(angle(), 3),
        basis in coordinates(7),
    ) {
        let m = turns(&angles[..n / 2], n, &basis[..planes(n)]);
        let log = rotation_log(&m);
        let error = distance(&rotation_exp(&log, n), &m);
        prop_assert!(error < 1e-14 * n as f64, "{error:e}");
        // Not only some logarithm: its angles are those of the rotation.
        let size = log.iter().map(|c| c * c).sum::<f64>().sqrt();
        let expected = angles[..n / 2].iter().map(|a| a * a).sum::<f64>().sqrt();
        prop_assert!((size - expected).abs() < 1e-13, "{size} is not {expected}");
    }

    /// The logarithm is the inverse of the exponential, not only up to other branches, and to a relative error.
    #[test]
    fn logarithm_of_the_exponential_gives_the_coordinates(n in 4..8_usize, all in coordinates(7), scale in -12..-1_i32) {
        let small: Vec<f64> = all[..planes(n)].iter().map(|c| c * 10.0_f64.powi(scale)).collect();
        let log = rotation_log(&rotation_exp(&small, n));
        let error = log.iter().zip(&small).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
        prop_assert!(error < 1e-15 * n as f64 * largest(&small), "{error:e}");
    }

    #[test]
    fn exponentials_follow_the_definition(n in 2..7_usize, all in coordinates(6)) {
        let c = &all[..planes(n)];
        let error = distance(&rotation_exp(c, n), &series(&combine(c, &so_generators(n))));
        prop_assert!(error < 1e-13, "{error:e}");
    }

    #[test]
    fn lorentz_exponentials_follow_the_definition(c in prop::array::uniform6(-2.0..2.0_f64)) {
        let m = lorentz_exp(c);
        let error = distance(&m, &series(&combine(&c, &lorentz_generators()))) / m[[0, 0]];
        prop_assert!(error < 1e-13, "{error:e}");
        prop_assert!(is_lorentz(&m, 1e-14) && is_proper(&m) && is_orthochronous(&m));
    }

    #[test]
    fn lorentz_coordinates_go_round(
        axis in direction(), a in angle(), along in direction(), size in 0.0..5.0_f64, tiny in prop::bool::ANY,
    ) {
        let size = if tiny { size * 1e-12 } else { size };
        let c: [f64; 6] = std::array::from_fn(|k| if k < 3 { axis[k] * a.abs() } else { along[k - 3] * size });
        let m = lorentz_exp(c);
        let log = lorentz_log(&m);
        // The matrix always comes back ...
        let again = lorentz_exp(log);
        let scale = (2.0 * rapidity(&m)).exp();
        prop_assert!(distance(&again, &m) < 2e-15 * scale * m[[0, 0]], "{c:?} came back as {log:?}");
        // ... and the coordinates, where the logarithm is unique: the angle, which is the imaginary part of
        // sqrt(w.w), below pi.
        if PI - a.abs() > 0.1 && size < 2.0 {
            let error = log.iter().zip(&c).map(|(x, y)| (x - y).abs()).fold(0.0, f64::max);
            prop_assert!(error < 1e-14 * scale, "{c:?} came back as {log:?}");
        }
    }

    #[test]
    fn tiny_lorentz_coordinates_keep_their_digits(c in prop::array::uniform6(-1.0..1.0_f64), scale in -15..-3_i32) {
        let c = c.map(|x| x * 10.0_f64.powi(scale));
        let log = lorentz_log(&lorentz_exp(c));
        let error = log.iter().zip(&c).map(|(x, y)| (x - y).abs()).fold(0.0, f64::max);
        prop_assert!(error <= 4e-15 * largest(&c), "{c:?} came back as {log:?}");
    }

    #[test]
    fn boosts_along_one_direction_add_their_rapidities(along in direction(), a in -2.5..2.5_f64, b in -2.5..2.5_f64) {
        let (one, two) = (boost(along.map(|c| c * a)), boost(along.map(|c| c * b)));
        let sum = boost(along.map(|c| c * (a + b)));
        prop_assert!(distance(&one.dot(&two), &sum) < 1e-15 * ((a.abs() + b.abs()) * 2.0).exp());
        prop_assert!((rapidity(&sum) - (a + b).abs()).abs() < 1e-14);
        prop_assert!((rapidity(&sum) - sum[[0, 0]].acosh()).abs() < 1e-7);
        let expected = lorentz_exp([0.0, 0.0, 0.0, along[0] * a, along[1] * a, along[2] * a]);
        prop_assert!(distance(&one, &expected) < 1e-15 * (2.0 * a.abs()).exp());
    }

    #[test]
    fn lorentz_inverse_undoes(c in prop::array::uniform6(-1.5..1.5_f64), flips in 0..4_u8) {
        let (parity, reversal) = (flips & 1 == 1, flips & 2 == 2);
        let time = if reversal { -metric() } else { Array2::eye(4) };
        let space = if parity { metric() } else { Array2::eye(4) };
        let p = lorentz_exp(c);
        let m = p.dot(&space).dot(&time);
        prop_assert!(is_lorentz(&m, 1e-14));
        prop_assert_eq!(is_proper(&m), parity == reversal);
        prop_assert_eq!(is_orthochronous(&m), !reversal);
        prop_assert_eq!(split_lorentz(&m), (p, parity, reversal));
        let size = (2.0 * rapidity(&m)).exp();
        prop_assert!(distance(&lorentz_inverse(&m).dot(&m), &Array2::eye(4)) < 1e-14 * size);
    }
}

/// All signed permutation matrices of determinant 1: shifts that are all zero, eigenvalues of every multiplicity.
#[test]
fn lattice_rotations_go_round() {
    for n in 2..6_usize {
        let mut proper = 0;
        let mut permutation: Vec<usize> = (0..n).collect();
        loop {
            for signs in 0..1_u32 << n {
                let m = Array2::from_shape_fn((n, n), |(i, j)| {
                    let sign = if signs >> i & 1 == 1 { -1.0 } else { 1.0 };
                    if permutation[i] == j { sign } else { 0.0 }
                });
                let (p, reflected) = split_improper(&m);
                let again = distance(&rotation_exp(&rotation_log(&p), n), &p);
                assert!(again < 1e-14 * n as f64, "{again:e} for {p}");
                proper += u32::from(!reflected);
            }
            // The next permutation in lexicographic order.
            let Some(i) = (1..n).rev().find(|&i| permutation[i - 1] < permutation[i]) else { break };
            let j = (i..n).rev().find(|&j| permutation[j] > permutation[i - 1]).unwrap();
            permutation.swap(i - 1, j);
            permutation[i..].reverse();
        }
        assert_eq!(proper, [4, 24, 192, 1920][n - 2]);
    }
}

#[test]
fn half_turns_and_small_turns_are_exact() {
    let half = |axis: [f64; 3]| {
        let v = Array1::from_vec(axis.to_vec());
        Array2::from_shape_fn((3, 3), |(i, j)| 2.0 * v[i] * v[j] - f64::from(u8::from(i == j)))
    };
    assert_eq!(rotation_log(&half([1.0, 0.0, 0.0])), [PI, 0.0, 0.0]);
    assert_eq!(rotation_log(&half([0.0, -1.0, 0.0])), [0.0, PI, 0.0]);
    let log = rotation_log(&half([-0.6, 0.0, 0.8]));
    assert!((log[0] - 0.6 * PI).abs() < 1e-15 && (log[2] + 0.8 * PI).abs() < 1e-15, "{log:?}");
    assert_eq!(rotation_log(&Array2::eye(3)), [0.0; 3]);
    assert_eq!(rotation_log(&Array2::eye(6)), [0.0; 15]);
    assert_eq!(rotation_log(&array![[0.0, -1.0], [1.0, 0.0]]), [PI / 2.0]);
    // Products that underflow are no reason to lose a turn.
    assert_eq!(rotation_log(&rotation_exp(&[0.0, 1e-200, 0.0], 3)), [0.0, 1e-200, 0.0]);
}

#[test]
fn generators_turn_the_first_axis_towards_the_second() {
    let [x, y, z] = <[Array2<f64>; 3]>::try_from(so_generators(3)).unwrap();
    assert_eq!(x.dot(&y) - y.dot(&x), z);
    assert_eq!(z.dot(&array![1.0, 0.0, 0.0]), array![0.0, 1.0, 0.0]);
    assert_eq!(so_generators(2)[0].dot(&array![1.0, 0.0]), array![0.0, 1.0]);
    let four = so_generators(4);
    assert_eq!(four.len(), 6);
    assert_eq!(four[1].dot(&array![1.0, 0.0, 0.0, 0.0]), array![0.0, 0.0, 1.0, 0.0]);
    let log = rotation_log(&rotation_exp(&[0.0, 0.0, 0.0, 0.0, 0.0, 0.5], 4));
    assert!((log[5] - 0.5).abs() < 1e-14 && largest(&log[..5]) < 1e-14, "{log:?}");

    // [K_x, K_y] = -J_z: the sign that makes Thomas precession, and tells so(1,3) from so(4).
    let g = lorentz_generators();
    assert_eq!(g[3].dot(&g[4]) - g[4].dot(&g[3]), -&g[2]);
    assert_eq!(g[0].dot(&g[4]) - g[4].dot(&g[0]), g[5]);
    for generator in &g {
        assert_eq!(generator.t().dot(&metric()) + metric().dot(generator), Array2::<f64>::zeros((4, 4)));
    }
}

#[test]
fn a_boost_gives_a_particle_at_rest_its_velocity() {
    let p = boost([0.6, 0.0, -0.8]).dot(&array![2.0, 0.0, 0.0, 0.0]);
    let velocity = 1.0_f64.tanh();
    assert!((p[1] / p[0] - 0.6 * velocity).abs() < 1e-15);
    assert!((p[3] / p[0] + 0.8 * velocity).abs() < 1e-15);
    assert_eq!(boost([0.0; 3]), Array2::<f64>::eye(4));
    assert_eq!(rapidity(&boost([0.0, 1e-12, 0.0])), 1e-12);
}

#[test]
fn reflections_are_split_off() {
    for n in 1..6 {
        let mut m = rotation_exp(&vec![0.3; planes(n)], n);
        assert_eq!(split_improper(&m), (m.clone(), false));
        m.column_mut(0).mapv_inplace(|x| -x);
        let (proper, reflected) = split_improper(&m);
        assert!(reflected);
        let mut reflection = Array2::<f64>::eye(n);
        if n % 2 == 1 {
            reflection *= -1.0;
        } else {
            reflection[[n - 1, n - 1]] = -1.0;
        }
        assert_eq!(proper.dot(&reflection), m);
        assert!(rotation_log(&proper).iter().all(|c| c.is_finite()));
    }
}

#[test]
fn what_is_not_in_the_group_has_no_logarithm() {
    for n in 2..6 {
        let mut reflection = Array2::<f64>::eye(n);
        reflection[[0, 0]] = -1.0;
        let stretch = Array2::<f64>::eye(n) * 1.001;
        for m in [reflection, stretch, Array2::from_elem((n, n), f64::NAN), Array2::zeros((n, n))] {
            let log = rotation_log(&m);
            assert_eq!(log.len(), planes(n));
            assert!(log.iter().all(|c| c.is_nan()), "{log:?}");
        }
    }
    let euclidean = series(&(&so_generators(4)[0] * 0.5));
    for m in [metric(), -metric(), -Array2::<f64>::eye(4), euclidean, Array2::from_elem((4, 4), f64::NAN)] {
        assert!(lorentz_log(&m).iter().all(|c| c.is_nan()));
    }
    assert!(!is_lorentz(&(Array2::<f64>::eye(4) * 1.001), 1e-4));
    assert!(is_lorentz(&(-Array2::<f64>::eye(4)), 0.0));
    assert!(!is_lorentz(&Array2::from_elem((4, 4), f64::INFINITY), 1.0));
}

/// Single precision is enough to be taken for a rotation.
#[test]
fn rounded_rotations_have_a_logarithm() {
    for n in 2..7 {
        let coordinates: Vec<f64> = (0..planes(n)).map(|k| 0.7 - 0.11 * k as f64).collect();
        let m = rotation_exp(&coordinates, n).mapv(|x| f64::from(x as f32));
        assert!(distance(&rotation_exp(&rotation_log(&m), n), &m) < 1e-6);
    }
    let m = lorentz_exp([0.3, -0.2, 0.5, 1.0, -2.0, 0.4]).mapv(|x| f64::from(x as f32));
    assert!(distance(&lorentz_exp(lorentz_log(&m)), &m) < 1e-5 * m[[0, 0]]);
}
