//! Irreps whose numbers come in another order than e3nn's: `ir_mul(...)`, `yzx(...)`.

use std::collections::BTreeMap;
use std::f64::consts::PI;

use equicheck::ParseError;
use equicheck::model::Tensor;
use equicheck::symmetry::{Arrangement, BoundLayout, Element, Group, Irreps, Layout, lie};
use ndarray::{Array1, Array2, ArrayD, IxDyn};

fn group() -> Group {
    Group::parse("O(3)").unwrap()
}

fn bound(text: &str, shape: &[usize]) -> BoundLayout {
    let layout = Layout::parse(text, &group()).unwrap_or_else(|error| panic!("{error}"));
    BoundLayout::new(&layout, shape, &group(), "x").unwrap_or_else(|error| panic!("{error}"))
}

/// Real spherical harmonics about z, m = -l..=l, as tables print them: no Condon-Shortley sign, orthonormal on the
/// sphere. (x, y, z) of any length give them times its power.
fn harmonics(l: usize, [x, y, z]: [f64; 3]) -> Vec<f64> {
    let r2 = x * x + y * y + z * z;
    let c = |square: f64| (square / PI).sqrt();
    match l {
        0 => vec![c(0.25)],
        1 => [y, z, x].map(|v| c(0.75) * v).to_vec(),
        2 => vec![
            c(3.75) * x * y,
            c(3.75) * y * z,
            c(5.0 / 16.0) * (3.0 * z * z - r2),
            c(3.75) * x * z,
            c(15.0 / 16.0) * (x * x - y * y),
        ],
        3 => vec![
            c(35.0 / 32.0) * y * (3.0 * x * x - y * y),
            c(105.0 / 4.0) * x * y * z,
            c(21.0 / 32.0) * y * (5.0 * z * z - r2),
            c(7.0 / 16.0) * (5.0 * z * z - 3.0 * r2) * z,
            c(21.0 / 32.0) * x * (5.0 * z * z - r2),
            c(105.0 / 16.0) * (x * x - y * y) * z,
            c(35.0 / 32.0) * x * (x * x - 3.0 * y * y),
        ],
        _ => panic!("no table for l = {l}"),
    }
}

/// The same about y, as in e3nn: with the axes renamed, so that l = 1 is (x, y, z).
fn harmonics_about_y(l: usize, [x, y, z]: [f64; 3]) -> Vec<f64> {
    harmonics(l, [z, x, y])
}

fn elements() -> Vec<Element> {
    let turns = [[0.3, -1.2, 2.0], [0.0, 0.0, 0.7], [-2.5, 0.1, 0.1], [0.0, PI, 0.0]];
    let signs = [1.0, -1.0];
    turns
        .iter()
        .flat_map(|turn| signs.map(|sign| lie::rotation_exp(turn, 3) * sign))
        .map(|g| Element::identity(3, &BTreeMap::new()).with_linear(g))
        .collect()
}

fn moved(g: &Element, v: [f64; 3]) -> [f64; 3] {
    let v = g.linear().dot(&Array1::from(v.to_vec()));
    [v[0], v[1], v[2]]
}

const POINTS: [[f64; 3]; 3] = [[0.3, -0.8, 1.1], [1.5, 0.2, -0.4], [-0.7, -0.9, 0.05]];

/// A feature of irreps of the harmonics' own parity: copy k of degree l is `Y_l(v_k)`, arranged by the flags.
fn feature(
    terms: &[(usize, usize)],
    copies_last: bool,
    polar_z: bool,
    at: impl Fn(usize) -> [f64; 3],
) -> Vec<f64> {
    let mut values = Vec::new();
    for (multiplicity, l) in terms {
        let copies: Vec<Vec<f64>> = (0..*multiplicity)
            .map(|k| if polar_z { harmonics(*l, at(k)) } else { harmonics_about_y(*l, at(k)) })
            .collect();
        if copies_last {
            values.extend((0..=2 * l).flat_map(|m| copies.iter().map(move |copy| copy[m])));
        } else {
            values.extend(copies.concat());
        }
    }
    values
}

#[test]
fn harmonics_of_turned_points_are_turned_harmonics() {
    let terms = [(2, 0), (1, 1), (3, 2), (2, 3), (2, 1)];
    let irreps = "2x0e+1x1o+3x2e+2x3o+2x1o";
    for (copies_last, polar_z, text) in [
        (false, false, irreps.to_owned()),
        (true, false, format!("ir_mul({irreps})")),
        (false, true, format!("yzx({irreps})")),
        (true, true, format!("ir_mul(yzx({irreps}))")),
    ] {
        let before = feature(&terms, copies_last, polar_z, |k| POINTS[k]);
        let layout = bound(&format!("2 {text} 2"), &[2, before.len(), 2]);
        // Different numbers in all places of the other two axes.
        let weight = |i: usize, j: usize| 1.0 + (i * 2 + j) as f64 / 3.0;
        let tensor = |values: &[f64]| {
            ArrayD::from_shape_fn(IxDyn(&[2, values.len(), 2]), |at| weight(at[0], at[2]) * values[at[1]])
        };
        for g in elements() {
            let wanted = tensor(&feature(&terms, copies_last, polar_z, |k| moved(&g, POINTS[k])));
            let x = tensor(&before);
            let found = layout.act(&g, &Tensor::Float64(x.clone())).to_real();
            let worst = (&found - &wanted).iter().fold(0.0, |max: f64, v| max.max(v.abs()));
            assert!(worst < 1e-13, "{text} under {g}: {worst:e}");
            // Orthogonal: the transpose leads back.
            let back = layout.act_transposed(&g, &found);
            assert!((&back - &x).iter().all(|v| v.abs() < 1e-13), "{text} under {g}");
        }
    }
}

#[test]
fn the_whole_matrix_says_the_same() {
    let g = &elements()[1];
    for text in ["ir_mul(2x1o+3x2e)", "yzx(2x1e+1x3o)", "ir_mul(yzx(2x1o+2x2e))"] {
        let irreps: Irreps = text.parse().unwrap();
        let dense = irreps.dense(&g.linear().view());
        let x = Array1::from_shape_fn(irreps.dim(), |k| (k as f64 * 1.3).sin());
        let layout = bound(text, &[irreps.dim()]);
        let acted = layout.act(g, &Tensor::Float64(x.clone().into_dyn())).to_real();
        assert!((dense.dot(&x).into_dyn() - acted).iter().all(|v| v.abs() < 1e-14), "{text}");
        let excess: Array2<f64> = dense.dot(&dense.t()) - Array2::<f64>::eye(irreps.dim());
        assert!(excess.iter().all(|v| v.abs() < 1e-13));
    }
}

#[test]
fn they_print_and_parse_again() {
    for (text, printed) in [
        ("ir_mul(8x0e+4x1o)", "ir_mul(8x0e+4x1o)"),
        ("nodes ir_mul( 8x0e + 1o )  3", "nodes ir_mul(8x0e+1x1o) 3"),
        ("yzx(ir_mul(2x1o))", "ir_mul(yzx(2x1o))"),
        ("mul_ir(xyz(2x1o))", "2x1o"),
        ("mul_ir(yzx(2x1o))", "yzx(2x1o)"),
        ("2x0e+ir_mul(4x1o+1x2e)+vector+yzx(1x1o)+0e", "2x0e+ir_mul(4x1o+1x2e)+vector+yzx(1x1o)+1x0e"),
        ("(3 ir_mul(4x1o+2x0e)) vector", "(3 ir_mul(4x1o+2x0e)) vector"),
    ] {
        let layout = Layout::parse(text, &group()).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(layout.to_string(), printed, "{text}");
        assert_eq!(Layout::parse(printed, &group()).unwrap(), layout, "{text}");
    }
    let irreps: Irreps = "yzx (ir_mul(2x1o))".parse().unwrap();
    assert_eq!(irreps.arrangement(), Arrangement { copies_last: true, polar_z: true });
    assert_eq!(irreps.to_string().parse::<Irreps>().unwrap(), irreps);
    assert_ne!(irreps, "2x1o".parse::<Irreps>().unwrap());
}

#[test]
fn errors_point_at_the_word() {
    for (text, word, message) in [
        ("nodes! ir_mil(2x1o)", "ir_mil(2x1o)", "did you mean `ir_mul(`?"),
        ("nodes! irmul(2x1o)", "irmul(2x1o)", "did you mean `ir_mul(`?"),
        ("zyx(2x1o)", "zyx(2x1o)", "did you mean `yzx(`?"),
        ("3 ir_mul", "ir_mul", "`ir_mul` stands before irreps in parentheses"),
        ("ir_mul(ir_mul(2x1o))", "ir_mul", "enough"),
        ("yzx(mul_ir(xyz(2x1o)))", "xyz", "enough"),
        ("ir_mul(2x1o", "ir_mul", "lacks a closing `)`"),
        ("3 ir_mul(2x1)", "2x1", "lacks a parity"),
        ("3 vector+ir_mul(2x1o+2x1q)", "q", "is unexpected"),
        ("ir_mul(vector)", "v", "is unexpected"),
        ("ir_mul(2x1o+)", "+", "lacks an irrep on one side"),
        ("ir_mul()", "(", "lacks an irrep"),
        ("2*ir_mul(2x1o)", "ir_mul(2x1o)", "multiplicities inside"),
        ("voigt(stain)", "voigt(stain)", "`voigt(strain)`"),
    ] {
        let error: ParseError = Layout::parse(text, &group()).unwrap_err();
        assert_eq!(&error.text[error.span.clone()], word, "{error}");
        assert!(error.to_string().contains(message), "{error}");
    }
    let flat = Layout::parse("ir_mul(2x1o)", &Group::parse("O(2)").unwrap()).unwrap_err();
    assert!(flat.to_string().contains("acts in dimension 2"), "{flat}");
}

#[test]
fn words_tell_basis_and_order() {
    let words = |text: &str, n: usize| bound(text, &[n]).describe(&group());
    assert_eq!(
        words("ir_mul(2x0e+2x1o)", 8),
        "axis 0 turned by Wigner D with parity of ir_mul(2x0e+2x1o), e3nn basis, `ir_mul`: copies are the last index"
    );
    assert_eq!(
        words("yzx(2x1o)", 6),
        "axis 0 turned by Wigner D with parity of yzx(2x1o), `yzx`: m = -l..l about z"
    );
    assert_eq!(
        words("2x1o+ir_mul(2x0e+1x1o)+0e", 12),
        "axis 0 turned by Wigner D with parity of 2x1o+ir_mul(2x0e+1x1o)+1x0e, e3nn basis, `ir_mul`: copies are the \
         last index"
    );
    assert_eq!(
        words("vector+ir_mul(2x1o)", 9),
        "axis 0 0..3 (vector) turned as a vector (g v), not translated, 3..9 (ir_mul(2x1o)) turned by Wigner D with \
         parity of ir_mul(2x1o), e3nn basis, `ir_mul`: copies are the last index"
    );
    assert_eq!(words("2x1o", 6), "axis 0 turned by Wigner D with parity of 2x1o, e3nn basis");
}
