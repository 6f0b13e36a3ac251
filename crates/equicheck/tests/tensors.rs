//! Matrices for tensors against other software (`data/make_tensors.py`) and against their laws.

use equicheck::symmetry::lie::{lorentz_exp, lorentz_inverse, metric, rotation_exp, split_improper};
use equicheck::symmetry::tensors::{
    MatrixError, VOIGT_PAIRS, Voigt, canonical_sign, cartesian_to_fractional, complex_phase,
    fractional_to_cartesian, frequency, inverse_transpose, pseudoscalar, quaternion, quaternion_xyzw,
    scale_weight, unit_quaternion, voigt, wrap_difference,
};
use ndarray::{Array1, Array2, ArrayView1, array};
use num_complex::Complex64;
use proptest::prelude::*;
use serde_json::Value;

fn reference() -> Value {
    serde_json::from_str(include_str!("data/tensors.json")).expect("the reference data are JSON")
}

fn cases<'a>(reference: &'a Value, part: &str) -> &'a Vec<Value> {
    let cases = reference[part].as_array().unwrap();
    assert!(!cases.is_empty());
    cases
}

fn vector(value: &Value) -> Array1<f64> {
    value.as_array().unwrap().iter().map(|x| x.as_f64().unwrap()).collect()
}

fn matrix(value: &Value) -> Array2<f64> {
    let rows: Vec<Array1<f64>> = value.as_array().unwrap().iter().map(vector).collect();
    Array2::from_shape_fn((rows.len(), rows[0].len()), |(i, j)| rows[i][j])
}

fn largest<'a>(values: impl IntoIterator<Item = &'a f64>) -> f64 {
    values.into_iter().fold(0.0, |m, v| if v.abs() <= m { m } else { v.abs() })
}

fn distance(a: &Array2<f64>, b: &Array2<f64>) -> f64 {
    assert_eq!(a.dim(), b.dim());
    largest(&(a - b))
}

fn up_to_sign(a: &Array1<f64>, b: &Array1<f64>) -> f64 {
    largest(&(a - b)).min(largest(&(a + b)))
}

fn rotation() -> impl Strategy<Value = Array2<f64>> {
    prop::array::uniform3(-3.0..3.0_f64).prop_map(|c| rotation_exp(&c, 3))
}

fn orthogonal() -> impl Strategy<Value = Array2<f64>> {
    (rotation(), any::<bool>()).prop_map(|(m, improper)| if improper { -m } else { m })
}

fn planar() -> impl Strategy<Value = Array2<f64>> {
    (-3.2..3.2_f64, any::<bool>()).prop_map(|(a, reflected)| {
        let m = rotation_exp(&[a], 2);
        if reflected { m.dot(&array![[1.0, 0.0], [0.0, -1.0]]) } else { m }
    })
}

/// Cells from cubic to badly skewed, as no program writes them and as some do.
fn cell() -> impl Strategy<Value = Array2<f64>> {
    let entries = prop::collection::vec(-1.0..1.0_f64, 9);
    let shears = prop::collection::vec(-4..=4_i32, 3);
    (entries, shears, 0.2..5.0_f64)
        .prop_map(|(e, k, size)| {
            let mut cell = Array2::from_shape_vec((3, 3), e).unwrap() * size;
            for (i, j, k) in [(0, 1, k[0]), (1, 2, k[1]), (2, 0, k[2])] {
                let row = cell.row(j).to_owned();
                cell.row_mut(i).scaled_add(f64::from(k), &row);
            }
            cell
        })
        .prop_filter("a cell needs a volume", |c| {
            let [a, b, c] = [0, 1, 2].map(|i| c.row(i).to_owned());
            let volume = a[0] * (b[1] * c[2] - b[2] * c[1]) - a[1] * (b[0] * c[2] - b[2] * c[0])
                + a[2] * (b[0] * c[1] - b[1] * c[0]);
            let lengths = [a, b, c].map(|v| v.dot(&v).sqrt());
            volume.abs() > 0.01 * lengths.iter().product::<f64>()
        })
}

fn length(v: &ArrayView1<f64>) -> f64 {
    v.dot(v).sqrt()
}

fn tensor_of(components: &[f64], kind: Voigt) -> Array2<f64> {
    let mut tensor = Array2::zeros((3, 3));
    for (&(i, j), c) in VOIGT_PAIRS.iter().zip(components) {
        let c = if kind == Voigt::Strain && i != j { c / 2.0 } else { *c };
        tensor[[i, j]] = c;
        tensor[[j, i]] = c;
    }
    tensor
}

#[test]
fn voigt_matrices_agree_with_ase() {
    let reference = reference();
    for case in cases(&reference, "voigt") {
        let m = matrix(&case["m"]);
        assert!(distance(&voigt(&m, Voigt::Stress), &matrix(&case["stress"])) < 1e-15);
        // ASE's strain passes through 1 + e, where a digit is lost.
        assert!(distance(&voigt(&m, Voigt::Strain), &matrix(&case["strain"])) < 2e-15);
    }
}

#[test]
fn quaternions_agree_with_scipy() {
    let reference = reference();
    for case in cases(&reference, "quaternions") {
        let m = matrix(&case["m"]);
        let error = largest(&(Array1::from_vec(unit_quaternion(&m).to_vec()) - vector(&case["wxyz"])));
        assert!(error < 1e-15, "{}: {error:e}", case["wxyz"]);
        let turned = quaternion(&m).dot(&vector(&case["orientation"]));
        assert!(up_to_sign(&turned, &vector(&case["turned"])) < 1e-15);
        let turned = quaternion_xyzw(&m).dot(&vector(&case["orientation_xyzw"]));
        assert!(up_to_sign(&turned, &vector(&case["turned_xyzw"])) < 1e-15);
    }
}

/// Also through the change of frame between escnn's plane and its irreps, as documented.
#[test]
fn planar_irreps_agree_with_escnn() {
    let reference = reference();
    let mut differ = 0;
    for case in cases(&reference, "planar") {
        let irreps: Vec<Array2<f64>> = case["irreps"].as_array().unwrap().iter().map(matrix).collect();
        let m = &irreps[1];
        assert_eq!(pseudoscalar(m), irreps[0]);
        assert_eq!(pseudoscalar(m)[[0, 0]] < 0.0, case["flip"] == 1);
        assert_eq!(frequency(m, 0), matrix(&case["trivial"]));
        assert_eq!(frequency(m, 0), array![[1.0]]);
        let base = matrix(&case["base"]);
        let axis = case["axis"].as_f64().unwrap();
        for (k, irrep) in irreps.iter().enumerate().skip(1) {
            let error = distance(&frequency(m, k), irrep);
            assert!(error < 1e-14, "frequency {k} of {m}: {error:e}");
            let frame = rotation_exp(&[k as f64 * axis], 2);
            let error = distance(&frequency(&base, k), &frame.dot(irrep).dot(&frame.t()));
            assert!(error < 1e-14, "frequency {k} of {base}: {error:e}");
            differ += u32::from(distance(&frequency(&base, k), irrep) > 0.1);
        }
    }
    // The frames are not one.
    assert!(differ > 20);
}

#[test]
fn lattices_agree_with_ase() {
    let reference = reference();
    for case in cases(&reference, "lattices") {
        let (cell, points) = (matrix(&case["cell"]), matrix(&case["points"]));
        let fractional = cartesian_to_fractional(&points, &cell).unwrap();
        let expected = matrix(&case["fractional"]);
        assert!(distance(&fractional, &expected) < 1e-14 * largest(&expected), "{}", case["name"]);
        assert!(distance(&fractional_to_cartesian(&fractional, &cell).unwrap(), &points) < 1e-12);
        let wrapped = wrap_difference(&points, &cell).unwrap();
        assert!(distance(&wrapped, &matrix(&case["wrapped"])) < 1e-12, "{}", case["name"]);
        for (row, expected) in wrapped.rows().into_iter().zip(vector(&case["lengths"])) {
            assert!((length(&row) - expected).abs() < 1e-12, "{}", case["name"]);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn voigt_is_the_action_on_the_tensor(
        m in orthogonal(), n in orthogonal(), s in prop::array::uniform6(-1.0..1.0_f64), shear in -1.0..1.0_f64,
    ) {
        // Not only for orthogonal matrices.
        let sheared = m.dot(&array![[1.0, shear, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 2.0]]);
        for kind in [Voigt::Stress, Voigt::Strain] {
            for m in [&m, &sheared] {
                let acted = voigt(m, kind).dot(&Array1::from_vec(s.to_vec()));
                let expected = m.dot(&tensor_of(&s, kind)).dot(&m.t());
                let error = distance(&tensor_of(acted.as_slice().unwrap(), kind), &expected);
                prop_assert!(error < 1e-14, "{kind:?}: {error:e}");
            }
            let product = voigt(&m, kind).dot(&voigt(&n, kind));
            prop_assert!(distance(&product, &voigt(&m.dot(&n), kind)) < 1e-14);
        }
    }

    #[test]
    fn work_of_stress_on_strain_is_invariant(
        m in orthogonal(), s in prop::array::uniform6(-1.0..1.0_f64), e in prop::array::uniform6(-1.0..1.0_f64),
    ) {
        let (stress, strain) = (Array1::from_vec(s.to_vec()), Array1::from_vec(e.to_vec()));
        let before = stress.dot(&strain);
        prop_assert!((before - (tensor_of(&s, Voigt::Stress) * tensor_of(&e, Voigt::Strain)).sum()).abs() < 1e-14);
        let after = voigt(&m, Voigt::Stress).dot(&stress).dot(&voigt(&m, Voigt::Strain).dot(&strain));
        prop_assert!((after - before).abs() < 2e-14);
        let inverse = inverse_transpose(&voigt(&m, Voigt::Stress)).unwrap();
        prop_assert!(distance(&inverse, &voigt(&m, Voigt::Strain)) < 1e-14);
    }

    #[test]
    fn quaternions_turn_vectors_and_multiply(m in rotation(), n in rotation(), v in prop::array::uniform3(-1.0..1.0_f64)) {
        let left = quaternion(&m);
        prop_assert!(distance(&left.dot(&left.t()), &Array2::eye(4)) < 1e-15 * 4.0);
        let product = left.dot(&quaternion(&n));
        let whole = quaternion(&m.dot(&n));
        prop_assert!(distance(&product, &whole).min(distance(&product, &-&whole)) < 2e-15);
        // q v q^-1 is the turned vector: right multiplication by q^-1 is conjugated left multiplication by q.
        let conjugate = |q: Array1<f64>| array![q[0], -q[1], -q[2], -q[3]];
        let half = left.dot(&array![0.0, v[0], v[1], v[2]]);
        let turned = conjugate(left.dot(&conjugate(half)));
        let expected = m.dot(&Array1::from_vec(v.to_vec()));
        prop_assert!((1..4).all(|k| (turned[k] - expected[k - 1]).abs() < 4e-15) && turned[0].abs() < 1e-15);
        // Another order of the same components.
        let q = unit_quaternion(&n);
        let (a, b) = (left.dot(&Array1::from_vec(q.to_vec())), quaternion_xyzw(&m).dot(&array![q[1], q[2], q[3], q[0]]));
prop_assert!((0..4).all(|i| (a[(i + 1) % 4] - b[i]).abs() < 4e-16));
    }

    #[test]
    fn planar_irreps_are_representations(m in planar(), n in planar(), k in 0..30_usize) {
        let product = frequency(&m, k).dot(&frequency(&n, k));
        let error = distance(&product, &frequency(&m.dot(&n), k));
        prop_assert!(error < 1e-15 * (k + 4) as f64, "{error:e}");
        prop_assert_eq!(pseudoscalar(&m.dot(&n)), pseudoscalar(&m).dot(&pseudoscalar(&n)));
        prop_assert!(distance(&frequency(&m, 1), &m) < 4e-16);
        if k > 0 {
            let f = frequency(&m, k);
            prop_assert!(distance(&f.dot(&f.t()), &Array2::eye(2)) < 1e-15 * (k + 2) as f64);
            let sign = f[[0, 0]] * f[[1, 1]] - f[[0, 1]] * f[[1, 0]];
            prop_assert!((sign - pseudoscalar(&m)[[0, 0]]).abs() < 1e-13);
        }
    }

    #[test]
    fn phases_and_weights_are_representations(
        q in -20..20_i32, a in -3.0..3.0_f64, b in -3.0..3.0_f64, k in -3.0..3.0_f64, s in 0.1..10.0_f64, t in 0.1..10.0_f64,
    ) {
        prop_assert!((complex_phase(q, a) * complex_phase(q, b) - complex_phase(q, a + b)).norm() < 1e-13);
        prop_assert!((complex_phase(q, std::f64::consts::TAU) - 1.0).norm() < 1e-13);
        for k in [k, k.round()] {
            let (product, whole) = (scale_weight(s, k) * scale_weight(t, k), scale_weight(s * t, k));
            prop_assert!((product - whole).abs() <= 1e-14 * whole);
            prop_assert!((scale_weight(s, k) - (k * s.ln()).exp()).abs() <= 1e-14 * whole.max(scale_weight(s, k)));
        }
    }

    #[test]
    fn covectors_keep_their_pairing(e in prop::collection::vec(-1.0..1.0_f64, 16), n in 1..5_usize) {
        let m = Array2::from_shape_fn((n, n), |(i, j)| e[4 * i + j] + if i == j { 3.0 } else { 0.0 });
        let dual = inverse_transpose(&m).unwrap();
        prop_assert!(distance(&dual.t().dot(&m), &Array2::eye(n)) < 1e-13);
        let orthogonal = rotation_exp(&e[..n * (n - 1) / 2], n);
        prop_assert_eq!(inverse_transpose(&orthogonal).unwrap(), orthogonal);
    }

    #[test]
    fn wrapped_differences_are_the_shortest(
        cell in cell(), f in prop::array::uniform3(-3.0..3.0_f64), n in prop::array::uniform3(-40..40_i32),
    ) {
        let difference = array![[f[0], f[1], f[2]]].dot(&cell);
        let wrapped = wrap_difference(&difference, &cell).unwrap();
        let shortest = length(&wrapped.row(0));
        // The same point of the crystal.
        let shift = cartesian_to_fractional(&(&difference - &wrapped), &cell).unwrap();
        prop_assert!(shift.iter().all(|x| (x - x.round()).abs() < 1e-10), "{shift}");
        // No image is shorter: all within reach of the rounded one, by brute force.
        for (a, b, c) in (-9..=9).flat_map(|a| (-9..=9).flat_map(move |b| (-9..=9).map(move |c| (a, b, c)))) {
            let image = &wrapped + &array![[f64::from(a), f64::from(b), f64::from(c)]].dot(&cell);
            prop_assert!(length(&image.row(0)) >= shortest * (1.0 - 1e-9), "image ({a} {b} {c}) is shorter");
        }
        // Idempotent, and blind to lattice vectors and to the choice of the cell.
        prop_assert_eq!(&wrap_difference(&wrapped, &cell).unwrap(), &wrapped);
        let moved = &difference + &Array1::from_vec(n.map(f64::from).to_vec()).dot(&cell);
        let again = length(&wrap_difference(&moved, &cell).unwrap().row(0));
        prop_assert!((again - shortest).abs() < 1e-10 * (1.0 + shortest));
        let mut other = cell.clone();
        let row = cell.row(2).to_owned();
        other.row_mut(0).scaled_add(f64::from(n[0]), &row);
        let again = length(&wrap_difference(&difference, &other).unwrap().row(0));
        prop_assert!((again - shortest).abs() < 1e-10 * (1.0 + shortest));
        // Turning the crystal turns the length with it.
        let turn = rotation_exp(&[0.3, -0.8, 1.1], 3);
        let turned = wrap_difference(&difference.dot(&turn.t()), &cell.dot(&turn.t())).unwrap();
        prop_assert!((length(&turned.row(0)) - shortest).abs() < 1e-10 * (1.0 + shortest));
    }
}

#[test]
fn voigt_orders_its_components_as_ase() {
    // A quarter turn about z: x to y, y to -x.
    let m = array![[0.0, -1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]];
    let acted = voigt(&m, Voigt::Strain).dot(&array![1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
    assert_eq!(acted, array![2.0, 1.0, 3.0, 5.0, -4.0, -6.0]);
}

#[test]
fn quaternion_signs() {
    assert_eq!(canonical_sign([-0.5, 0.5, -0.5, 0.5]), [0.5, -0.5, 0.5, -0.5]);
    assert_eq!(canonical_sign([0.0, 0.0, -0.6, 0.8]), [0.0, 0.0, 0.6, -0.8]);
    assert_eq!(canonical_sign([-0.0, 0.6, -0.8, 0.0]), [0.0, 0.6, -0.8, 0.0]);
    assert!(canonical_sign([-0.0, 1.0, -0.0, 0.0]).iter().all(|c| c.is_sign_positive()));
    assert_eq!(unit_quaternion(&Array2::eye(3)), [1.0, 0.0, 0.0, 0.0]);
    for improper in [-Array2::<f64>::eye(3), Array2::zeros((3, 3)), Array2::from_elem((3, 3), f64::NAN)] {
        assert!(quaternion(&improper).iter().all(|c| c.is_nan()));
    }
    assert_eq!(quaternion(&split_improper(&-Array2::<f64>::eye(3)).0), Array2::<f64>::eye(4));
}

#[test]
fn lattice_elements_are_exact() {
    let quarter = array![[0.0, -1.0], [1.0, 0.0]];
    for (k, expected) in [
        (1, quarter.clone()),
        (2, array![[-1.0, 0.0], [0.0, -1.0]]),
        (3, array![[0.0, 1.0], [-1.0, 0.0]]),
        (4, array![[1.0, 0.0], [0.0, 1.0]]),
        (101, quarter.clone()),
    ] {
        assert_eq!(frequency(&quarter, k), expected);
    }
    assert_eq!(frequency(&array![[-1.0, 0.0], [0.0, 1.0]], 2), array![[1.0, 0.0], [0.0, -1.0]]);
    assert_eq!(complex_phase(3, 0.0), Complex64::new(1.0, 0.0));
    assert_eq!(complex_phase(2, 0.5), Complex64::new(1.0_f64.cos(), 1.0_f64.sin()));
    assert_eq!(scale_weight(2.0, -3.0), 0.125);
    assert_eq!(scale_weight(4.0, 0.5), 2.0);
}

#[test]
fn covectors_of_matrices_that_are_not_orthogonal() {
    assert_eq!(inverse_transpose(&array![[2.0, 0.0], [0.0, 0.5]]).unwrap(), array![[0.5, 0.0], [0.0, 2.0]]);
    assert_eq!(inverse_transpose(&array![[1.0, 3.0], [0.0, 1.0]]).unwrap(), array![[1.0, 0.0], [-3.0, 1.0]]);
    let m = lorentz_exp([0.2, -0.1, 0.4, 0.3, 0.9, -1.2]);
    let dual = metric().dot(&m).dot(&metric());
    assert_eq!(lorentz_inverse(&m).t(), dual);
    assert!(distance(&inverse_transpose(&m).unwrap(), &dual) < 1e-13);
    // Small, but not singular.
    assert_eq!(inverse_transpose(&array![[1e-200, 0.0], [0.0, 1e200]]).unwrap()[[0, 0]], 1e200);
}

#[test]
fn what_cannot_be_inverted_is_refused() {
    let flat = array![[1.0, 2.0, 3.0], [4.0, 5.0, 6.0], [7.0, 8.0, 9.0]];
    let points = array![[0.1, 0.2, 0.3]];
    for m in [flat.clone(), Array2::zeros((3, 3)), Array2::from_elem((3, 3), f64::NAN)] {
        assert!(matches!(inverse_transpose(&m), Err(MatrixError::Singular { .. })));
        for result in [
            cartesian_to_fractional(&points, &m),
            fractional_to_cartesian(&points, &m),
            wrap_difference(&points, &m),
        ] {
            assert_eq!(
                result.unwrap_err().to_string(),
                "the cell is singular or not finite, so its vectors span no lattice: give linearly independent \
                 lattice vectors as rows, also along directions that are not periodic"
            );
        }
    }
    // A slab without a vector along z, as ASE writes it.
    let slab = array![[3.0, 0.0, 0.0], [0.0, 3.0, 0.0], [0.0, 0.0, 0.0]];
    assert!(wrap_difference(&points, &slab).is_err());
    assert_eq!(
        inverse_transpose(&Array2::zeros((2, 3))).unwrap_err().to_string(),
        "the matrix has shape [2, 3], expected a square matrix"
    );
    assert_eq!(
        wrap_difference(&array![[0.1, 0.2]], &Array2::eye(3)).unwrap_err().to_string(),
        "the array of points has shape [1, 2], expected (N, 3), one row per point in the cell's dimension"
    );
}

#[test]
fn wrapping_leaves_short_differences_alone() {
    let cell = array![[1.0, 0.0, 0.0], [5.3, 1.1, 0.0], [-7.2, 3.4, 0.9]];
    let short = array![[0.1, -0.2, 0.05], [0.0, 0.0, 0.0]];
    assert_eq!(wrap_difference(&short, &cell).unwrap(), short);
    // Rounding alone would keep this one, with fractional coordinates below a half.
    let long = array![[0.4, 0.4, -0.4]].dot(&cell);
    assert!(length(&wrap_difference(&long, &cell).unwrap().row(0)) < 0.6 * length(&long.row(0)));
    // What cannot be wrapped says so.
    for huge in [f64::NAN, f64::INFINITY, 1e300, 1e25] {
        let wrapped = wrap_difference(&array![[huge, 0.0, 0.0], [0.1, 0.0, 0.0]], &cell).unwrap();
        assert!(wrapped.row(0).iter().all(|x| x.is_nan()), "{wrapped}");
        assert_eq!(wrapped.row(1), array![0.1, 0.0, 0.0]);
    }
    // In the plane too.
    let wrapped = wrap_difference(&array![[2.6, 0.9]], &array![[1.0, 0.0], [0.0, 1.0]]).unwrap();
    assert!(distance(&wrapped, &array![[-0.4, -0.1]]) < 1e-15);
}
