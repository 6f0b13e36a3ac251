//! Wigner-D matrices against other software (`data/make_wigner.py`) and against their definition.

use equicheck::symmetry::{
    L_MAX, WignerMatrices, flat_len, flat_offset, wigner_d, wigner_d_into, wigner_d_up_to,
};
use ndarray::{Array2, array};
use proptest::prelude::*;
use serde_json::Value;

fn reference() -> Value {
    serde_json::from_str(include_str!("data/wigner.json")).expect("the reference data are JSON")
}

fn matrix3(value: &Value) -> Array2<f64> {
    Array2::from_shape_fn((3, 3), |(i, j)| value[i][j].as_f64().unwrap())
}

fn largest(a: &Array2<f64>) -> f64 {
    a.iter().fold(0.0, |m, v| if v.abs() <= m { m } else { v.abs() })
}

/// Rodrigues' formula; `axis` need not be normalised.
fn turn(axis: [f64; 3], angle: f64) -> Array2<f64> {
    let norm = axis.iter().map(|a| a * a).sum::<f64>().sqrt();
    let [x, y, z] = axis.map(|a| a / norm);
    let cross = array![[0.0, -z, y], [z, 0.0, -x], [-y, x, 0.0]];
    // 1 - cos, without cancellation.
    let versine = 2.0 * (angle / 2.0).sin().powi(2);
    Array2::eye(3) + &cross * angle.sin() + cross.dot(&cross) * versine
}

fn axis_angle() -> impl Strategy<Value = ([f64; 3], f64)> {
    let axis = prop::array::uniform3(-1.0..1.0_f64)
        .prop_filter("an axis needs a length", |a| a.iter().map(|c| c * c).sum::<f64>() > 0.01);
    (axis, -std::f64::consts::PI..std::f64::consts::PI)
}

/// What is asked for. The sources deviate from the 40-digit values by at most 2e-15 (scipy), 5e-15
/// (spherical) and 5.4e-14 (e3nn), as `make_wigner.py` prints.
const BAR: f64 = 1e-13;

#[test]
fn agrees_with_mpmath_scipy_spherical_and_e3nn() {
    let reference = reference();
    let unit = reference["unit"].as_f64().unwrap();
    let cases = reference["wigner"].as_array().unwrap();
    assert!(cases.len() >= 12);
    let mut worst = [0.0_f64; 4];
    for case in cases {
        let ours = wigner_d_up_to(L_MAX, &matrix3(&case["matrix"]).view());
        let degrees = case["degrees"].as_array().unwrap();
        assert_eq!(degrees.last().unwrap().as_u64(), Some(L_MAX as u64));
        for (index, l) in degrees.iter().enumerate() {
            let l = l.as_u64().unwrap() as usize;
            let ours = &ours[l];
            assert_eq!(ours.dim(), (2 * l + 1, 2 * l + 1));
            let exact = case["mpmath"][index].as_array().unwrap();
            assert_eq!(exact.len(), ours.len());
            for (source, worst) in ["mpmath", "scipy", "spherical", "e3nn"].iter().zip(&mut worst) {
                let values = case[*source][index].as_array().unwrap();
                assert_eq!(values.len(), ours.len());
                for (entry, our) in ours.iter().enumerate() {
                    let mut value = values[entry].as_i64().unwrap();
                    if *source != "mpmath" {
                        value += exact[entry].as_i64().unwrap();
                    }
                    let error = (our - value as f64 * unit).abs();
                    assert!(error <= BAR, "{}, l = {l}, entry {entry}: {error:e} off {source}", case["name"]);
                    *worst = worst.max(error);
                }
            }
        }
    }
}

#[test]
fn degree_one_is_the_rotation_itself() {
    let rotation = turn([0.3, -1.2, 0.5], 2.1);
    assert_eq!(wigner_d(0, &rotation.view()), array![[1.0]]);
    assert_eq!(wigner_d(1, &rotation.view()), rotation);
}

/// e3nn's l = 2 basis as symmetric traceless matrices: `y(v)_k = Σ B_k[i,j] v_i v_j`, so that
/// `D_kn = Σ B_k · (R B_n R^T)` for an orthonormal basis.
#[test]
fn degree_two_acts_on_symmetric_traceless_matrices() {
    let (h, s) = (0.5_f64.sqrt(), 6.0_f64.sqrt().recip());
    let basis = [
        array![[0.0, 0.0, h], [0.0, 0.0, 0.0], [h, 0.0, 0.0]],
        array![[0.0, h, 0.0], [h, 0.0, 0.0], [0.0, 0.0, 0.0]],
        array![[-s, 0.0, 0.0], [0.0, 2.0 * s, 0.0], [0.0, 0.0, -s]],
        array![[0.0, 0.0, 0.0], [0.0, 0.0, h], [0.0, h, 0.0]],
        array![[-h, 0.0, 0.0], [0.0, 0.0, 0.0], [0.0, 0.0, h]],
    ];
    let rotation = turn([0.3, -1.2, 0.5], 2.1);
    let expected = Array2::from_shape_fn((5, 5), |(k, n)| {
        (rotation.dot(&basis[n]).dot(&rotation.t()) * &basis[k]).sum()
    });
    assert!(largest(&(wigner_d(2, &rotation.view()) - expected)) < 1e-14);
}

#[test]
fn identity_goes_to_the_identity() {
    for (l, d) in wigner_d_up_to(L_MAX, &Array2::eye(3).view()).iter().enumerate() {
        assert!(largest(&(d - Array2::<f64>::eye(2 * l + 1))) < 1e-14);
    }
}

proptest! {
    // Without a file of past failures, which would be sought beside a lib.rs.
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn is_a_homomorphism((a, s) in axis_angle(), (b, t) in axis_angle()) {
        let (r, q) = (turn(a, s), turn(b, t));
        let product = wigner_d_up_to(L_MAX, &r.dot(&q).view());
        let pairs = wigner_d_up_to(L_MAX, &r.view()).into_iter().zip(wigner_d_up_to(L_MAX, &q.view()));
        for (l, (x, y)) in pairs.enumerate() {
            let error = largest(&(x.dot(&y) - &product[l]));
            prop_assert!(error < 1e-12, "l = {l}: {error:e}");
        }
    }

    #[test]
    fn is_orthogonal_and_the_inverse_is_the_transpose((axis, angle) in axis_angle()) {
        let rotation = turn(axis, angle);
        let inverse = wigner_d_up_to(L_MAX, &rotation.t());
        for (l, d) in wigner_d_up_to(L_MAX, &rotation.view()).iter().enumerate() {
            let error = largest(&(d.dot(&d.t()) - Array2::<f64>::eye(2 * l + 1)));
            prop_assert!(error < 1e-12, "l = {l}: {error:e}");
            let error = largest(&(&d.t() - &inverse[l]));
            prop_assert!(error < 1e-12, "l = {l}: {error:e}");
        }
    }

    /// The trace is `sin((2l+1) a/2) / sin(a/2) = 1 + 2 Σ cos(k a)`, whatever the axis; the sum is
    /// the form without cancellation.
    #[test]
    fn trace_is_the_character((axis, angle) in axis_angle()) {
        for (l, d) in wigner_d_up_to(L_MAX, &turn(axis, angle).view()).iter().enumerate() {
            let character = 1.0 + 2.0 * (1..=l).map(|k| (k as f64 * angle).cos()).sum::<f64>();
            let error = (d.diag().sum() - character).abs();
            prop_assert!(error < 1e-12, "l = {l}: {error:e}");
            if angle.abs() > 0.1 {
                let ratio = ((2 * l + 1) as f64 * angle / 2.0).sin() / (angle / 2.0).sin();
                prop_assert!((d.diag().sum() - ratio).abs() < 1e-12);
            }
        }
    }

    /// Around the polar axis, the pair of components ±m turns by m times the angle.
    #[test]
    fn about_y_the_pairs_turn_by_m_times_the_angle(angle in -3.2..3.2_f64) {
        for (l, d) in wigner_d_up_to(L_MAX, &turn([0.0, 1.0, 0.0], angle).view()).iter().enumerate() {
            let expected = Array2::from_shape_fn((2 * l + 1, 2 * l + 1), |(i, j)| {
                let (m, n) = (i as f64 - l as f64, j as f64 - l as f64);
                if i == j {
                    (m * angle).cos()
                } else if m == -n {
                    // R(y) takes z to x: for m = -1 (x), n = 1 (z) the entry is sin.
                    (n * angle).sin()
                } else {
                    0.0
                }
            });
            let error = largest(&(d - expected));
            prop_assert!(error < 1e-13, "l = {l}: {error:e}");
        }
    }
}

#[test]
fn the_buffer_holds_the_matrices_in_order_and_can_be_reused() {
    assert_eq!([0, 1, 2, 3].map(flat_offset), [0, 1, 10, 35]);
    assert_eq!(flat_len(8), 969);
    let (first, second) = (turn([1.0, 2.0, 3.0], 0.7), turn([-1.0, 0.4, 0.0], 2.9));
    let mut matrices = WignerMatrices::new(8, &first.view());
    matrices.update(&second.view());
    assert_eq!(matrices, WignerMatrices::new(8, &second.view()));
    assert_eq!(matrices.lmax(), 8);

    let rows = std::array::from_fn(|i| std::array::from_fn(|j| second[[i, j]]));
    let mut buffer = vec![f64::NAN; flat_len(8)];
    wigner_d_into(8, &rows, &mut buffer);
    for l in 0..=8 {
        let range = flat_offset(l)..flat_offset(l + 1);
        assert!(matrices.get(l).iter().eq(&buffer[range]));
        // What is computed does not depend on how far the recursion goes on.
        assert_eq!(matrices.get(l), wigner_d(l, &second.view()));
    }
}

#[test]
#[should_panic(expected = "degree 13 is not supported: the largest is 12")]
fn refuses_a_degree_above_the_largest() {
    let _ = wigner_d(13, &Array2::eye(3).view());
}

#[test]
#[should_panic(expected = "a proper rotation is needed, but the determinant is -1")]
fn refuses_a_reflection() {
    let _ = wigner_d(1, &(-Array2::eye(3)).view());
}

#[test]
#[should_panic(expected = "a proper rotation is needed, but the determinant is NaN")]
fn refuses_nan() {
    let _ = wigner_d(1, &Array2::from_elem((3, 3), f64::NAN).view());
}

#[test]
#[should_panic(expected = "a 3x3 matrix is needed")]
fn refuses_another_shape() {
    let _ = wigner_d(1, &Array2::eye(2).view());
}
