//! The action of every group and representation of the languages: the laws of an action, explicit formulas, the bits
//! that survive, and how the languages print and refuse.

use std::collections::BTreeMap;
use std::sync::Arc;

use equicheck::ParseError;
use equicheck::model::{DType, Tensor};
use equicheck::symmetry::grid::{Domain, Interpolation};
use equicheck::symmetry::{BoundLayout, Element, Factor, Group, Layout, lie};
use half::f16;
use ndarray::{Array1, Array2, ArrayD, Axis, IxDyn, array};
use num_complex::Complex;
use proptest::prelude::*;

fn group(text: &str) -> Group {
    Group::parse(text).unwrap_or_else(|error| panic!("{error}"))
}

fn layout(text: &str, under: &Group) -> Layout {
    Layout::parse(text, under).unwrap_or_else(|error| panic!("{error}"))
}

fn bind(text: &str, under: &Group, shape: &[usize]) -> BoundLayout {
    BoundLayout::new(&layout(text, under), shape, under, "input `x`")
        .unwrap_or_else(|error| panic!("{error}"))
}

/// Splitmix64: the draws of the tests.
struct Draws(u64);

impl Draws {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Uniform on [-1, 1).
    fn uniform(&mut self) -> f64 {
        (self.next() >> 11) as f64 * 2f64.powi(-52) - 1.0
    }

    fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }

    fn sign(&mut self) -> f64 {
        if self.next() & 1 == 0 { 1.0 } else { -1.0 }
    }

    fn permutation(&mut self, n: usize) -> Vec<usize> {
        let mut p: Vec<usize> = (0..n).collect();
        for i in (1..n).rev() {
            p.swap(i, self.below(i + 1));
        }
        p
    }

    /// A product of turns in the coordinate planes, mirrored half of the times.
    fn orthogonal(&mut self, n: usize, improper: bool) -> Array2<f64> {
        let mut g = Array2::eye(n);
        for i in 0..n {
            for j in 0..i {
                let (s, c) = (4.0 * self.uniform()).sin_cos();
                let mut turn = Array2::eye(n);
                (turn[[i, i]], turn[[j, j]], turn[[i, j]], turn[[j, i]]) = (c, c, s, -s);
                g = g.dot(&turn);
            }
        }
        if improper {
            let sign = self.sign();
            g.row_mut(0).mapv_inplace(|v| sign * v);
        }
        g
    }

    /// A symmetry of the square or cubic lattice.
    fn signed_permutation(&mut self, n: usize, improper: bool) -> Array2<f64> {
        let p = self.permutation(n);
        let mut g = Array2::zeros((n, n));
        for (i, j) in p.into_iter().enumerate() {
            g[[i, j]] = self.sign();
        }
        if !improper && determinant(&g) < 0.0 {
            g.row_mut(0).mapv_inplace(|v| 0.0 - v);
        }
        g.mapv(|v| v + 0.0)
    }

    fn lorentz(&mut self, improper: bool) -> Array2<f64> {
        let rotation = self.orthogonal(3, improper);
        let mut turn = Array2::eye(4);
        turn.slice_mut(ndarray::s![1.., 1..]).assign(&rotation);
        if improper {
            turn[[0, 0]] = self.sign();
        }
        turn.dot(&lie::boost([0.6 * self.uniform(), 0.6 * self.uniform(), 0.6 * self.uniform()]))
    }

    fn array(&mut self, shape: &[usize]) -> ArrayD<f64> {
        ArrayD::from_shape_simple_fn(IxDyn(shape), || self.uniform())
    }
}

/// By expansion along the first row.
fn determinant(m: &Array2<f64>) -> f64 {
    let n = m.nrows();
    if n == 0 {
        return 1.0;
    }
    (0..n)
        .map(|j| {
            let minor =
                Array2::from_shape_fn((n - 1, n - 1), |(r, c)| m[[r + 1, if c < j { c } else { c + 1 }]]);
            let sign = if j % 2 == 0 { 1.0 } else { -1.0 };
            sign * m[[0, j]] * determinant(&minor)
        })
        .sum()
}

/// The number of nodes and edges where only values point into them.
const POSITIONS: usize = 6;

/// An element with a part in every factor; `index` is the one of the finite group. Grids get symmetries of the lattice.
fn draw(draws: &mut Draws, group: &Group, bound: &BoundLayout, index: usize) -> Element {
    let sizes: BTreeMap<String, usize> = bound.grid_sizes().map(|(name, n)| (name.to_owned(), n)).collect();
    let mut axes: BTreeMap<String, usize> =
        group.permuted_axes().map(|axis| (axis.to_owned(), POSITIONS)).collect();
    axes.extend(bound.permuted_lengths().map(|(axis, n)| (axis.to_owned(), n)));
    let mut element = Element::identity(group.dimension().unwrap_or(0), &axes);
    for factor in group.factors() {
        element = match factor {
            Factor::Linear { dimension, improper } if sizes.is_empty() => {
                element.with_linear(draws.orthogonal(dimension, improper))
            }
            Factor::Linear { dimension, improper } => {
                element.with_linear(draws.signed_permutation(dimension, improper))
            }
            Factor::Lorentz { improper } => element.with_lorentz(draws.lorentz(improper)),
            Factor::Finite(finite) => element.with_finite(finite, index),
            Factor::Generated(generators) => {
                let mut g = Array2::eye(generators.matrices[0].nrows());
                for _ in 0..3 {
                    let k = draws.below(generators.matrices.len());
                    let letters =
                        if draws.sign() > 0.0 { &generators.matrices } else { &generators.inverses };
                    g = g.dot(&letters[k]);
                }
                element.with_general(g)
            }
            Factor::Translation(shift) => match shift.along {
                Some(axis) => element.with_shift(&axis, (draws.below(7) * shift.step) as f64 - 3.0),
                None if sizes.is_empty() => element
                    .with_translation(Array1::from_shape_simple_fn(shift.dimension, || {
                        3.0 * draws.uniform()
                    })),
                None => element.with_translation(Array1::from_shape_simple_fn(shift.dimension, || {
                    (draws.below(7) * shift.step) as f64 - 3.0
                })),
            },
            Factor::Permutation { axis } => {
                let p = draws.permutation(axes[&axis]);
                element.with_permutation(&axis, p)
            }
            Factor::Permutations { axis, group } => {
                let p = group.permutation(draws.below(group.order())).unwrap().to_vec();
                element.with_permutation(&axis, p)
            }
            Factor::Sign => element.with_sign(draws.sign()),
            Factor::Phase => element.with_phase(3.0 * draws.uniform()),
            Factor::Scale => element.with_scale(draws.uniform().exp()),
            Factor::Custom(name) => panic!("{name} is not drawn here"),
        };
    }
    element
}

/// Group, layout, shape.
type Case = (&'static str, &'static str, &'static [usize]);

const CONTINUOUS: &[Case] = &[
    ("SO(2)", "batch vector", &[4, 2]),
    ("SO(2)", "3xm0+2xm1+1xm3", &[9]),
    ("O(2)", "channel m0 m2", &[3, 1, 2]),
    ("O(2)", "pseudovector", &[2]),
    ("SE(2) x S(nodes)", "nodes point", &[5, 2]),
    ("E(2)", "2*scalar+point+vector", &[6]),
    ("T(2)", "batch point", &[3, 2]),
    ("SO(3)", "pseudovector vector", &[3, 3]),
    ("SO(3)", "batch quaternion", &[4, 4]),
    ("SO(3)", "voigt", &[6]),
    ("SO(3)", "1x1o+2*vector", &[9]),
    ("O(3)", "2*scalar+pseudoscalar+vector+pseudovector", &[9]),
    ("O(3)", "8x0e+4x1o+2x2e", &[30]),
    ("O(3)", "channel 2x0o+1x1e+1x3o+scalar", &[2, 13]),
    ("O(3)", "voigt voigt(strain)", &[6, 6]),
    ("O(3)", "nodes! quaternion", &[2, 4]),
    ("O(3)", "nodes pseudoscalar", &[5]),
    ("O(3)", "nodes pseudoscalar", &[5, 1]),
    ("O(3)", "pseudoscalar", &[]),
    ("O(3)", "... vector", &[2, 2, 3]),
    ("SE(3) x S(nodes)", "nodes nodes channel", &[4, 4, 2]),
    ("SE(3)", "2*vector+point+4*scalar", &[13]),
    ("SE(3) x S(nodes)", "nodes point mod cell", &[5, 3]),
    ("T(3) x S(nodes)", "nodes 2*scalar+fractional(cell)", &[4, 5]),
    ("E(3) x S(nodes)", "nodes point", &[5, 3]),
    ("E(3) x S(nodes)", "batch nodes 2x0e+1x1o", &[2, 4, 5]),
    ("E(3)", "covector vector", &[3, 3]),
    ("SO(4)", "vector covector", &[4, 4]),
    ("O(4)", "pseudovector 2", &[4, 2]),
    ("SE(4)", "point", &[4]),
    ("E(4)", "channel point", &[3, 4]),
    ("SO+(1,3)", "vector covector", &[4, 4]),
    ("SO+(1,3) x T(4) x S(nodes)", "nodes point", &[3, 4]),
    ("O(1,3)", "pseudovector pseudoscalar", &[4]),
    ("O(1,3) x T(4)", "point+scalar+covector", &[9]),
    ("Z2", "channel sign", &[4]),
    ("Z2 x SO(3)", "vector sign", &[3, 2]),
    ("Z2 x SO(3)", "2*sign+vector+sign", &[6]),
    ("Scale", "nodes scale^2", &[3]),
    ("Scale x E(3)", "vector scale^-1", &[3]),
    ("Scale", "scale^-1+2*scale^3+scalar", &[4]),
    ("generated([[1, 1], [0, 1]])", "vector covector", &[2, 2]),
    ("generated([[2, 0], [0, 1]], [[0, -1], [1, 0]])", "pseudovector pseudoscalar", &[2]),
    ("generated([[1, 1], [0, 1]]) x T(2)", "nodes point", &[3, 2]),
    ("generated([[0.6, -0.8], [0.8, 0.6]])", "m1+m3", &[4]),
    ("generated([[0.6, -0.8, 0], [0.8, 0.6, 0], [0, 0, 1]])", "1x1o+1x2e voigt", &[8, 6]),
    ("generated([[0.6, -0.8, 0], [0.8, 0.6, 0], [0, 0, -1]])", "quaternion", &[4]),
    ("generated([[1, 1, 0], [0, 1, 0], [0, 0, 1]])", "voigt", &[6]),
    ("generated(nodes: [1, 0, 2, 3], [0, 2, 3, 1])", "nodes channel", &[4, 2]),
    ("generated(nodes: [1, 2, 3, 0]) x S(edges) x O(3)", "edges nodes vector", &[2, 4, 3]),
];

const FINITE: &[Case] = &[
    ("C4", "batch vector", &[3, 2]),
    ("C4", "regular+quotient(C2)+irrep(1)+irrep(2)+sign+trivial", &[11]),
    ("C4", "sign", &[]),
    ("C5", "2*irrep(2)+regular", &[9]),
    ("D3", "regular+quotient(D1)+irrep(1,1)+irrep(1,0)+sign", &[13]),
    ("D3", "vector 2xm1+m2+pseudoscalar", &[2, 7]),
    ("D4", "2*regular+quotient(C4)+quotient(D2,1)+irrep(0,2)+trivial", &[22]),
    ("D4", "vector pseudovector", &[2, 2]),
    ("D4 x T(2)", "regular point", &[8, 2]),
    ("D4 x Z2 x S(nodes)", "nodes regular sign", &[3, 8]),
    ("D4 @ (0,0,1)", "vector regular", &[3, 8]),
    ("C4v @ (1,1,1)", "vector pseudovector", &[3, 3]),
    ("4mm @ z", "1x1o+1x2e+vector+sign", &[12]),
    ("D3d @ x", "regular+sign+trivial+vector", &[17]),
    ("-3m @ (0,0,1)", "pseudoscalar 1x1e", &[3]),
    ("4/mmm @ (0,0,1), (1,1,0)", "vector voigt", &[3, 6]),
    ("S4 @ (0,0,1)", "quaternion", &[4]),
    ("Cs @ (0,0,1)", "pseudovector", &[3]),
    ("Ci", "vector 1x1e", &[3, 3]),
    ("T", "regular", &[12]),
    ("-43m", "vector", &[3]),
    ("O", "voigt(strain)", &[6]),
    ("Oh", "regular+vector", &[51]),
    ("m-3m x T(3)", "point", &[3]),
    ("Ih", "pseudovector 1x2o", &[3, 5]),
    ("generated([[0, -1], [1, 0]])", "vector covector", &[2, 2]),
    ("generated([[0, -1], [1, -1]])", "vector covector regular", &[2, 2, 3]),
];

const PERIODIC: &[Case] = &[
    ("T(2) x C4", "batch regular height width", &[2, 4, 5, 5]),
    ("T(2) x D4", "irrep(1,1)+trivial width channel height", &[3, 4, 2, 4]),
    ("2T(2)", "height width", &[4, 6]),
    ("T(1) @ height", "height width", &[4, 3]),
    ("T(1) @ width x T(1) @ depth", "depth height width channel", &[3, 2, 5, 2]),
    ("SE(2)", "vector height width", &[2, 5, 5]),
    ("E(2) x S(nodes)", "nodes vector height width", &[3, 2, 4, 4]),
    ("T(3) x Oh", "vector depth height width", &[3, 3, 3, 3]),
    ("T(3) x D4 @ (1,0,0)", "regular depth height width", &[8, 3, 3, 3]),
    ("T(1)", "length channel", &[7, 2]),
    ("E(3)", "1x1e depth height width", &[3, 4, 4, 4]),
];

const OPEN: &[Case] = &[
    ("C4", "regular height width", &[4, 5, 5]),
    ("D4", "height width pseudovector", &[4, 4, 2]),
    ("O(2)", "channel height width", &[2, 3, 3]),
    ("Oh", "depth height width", &[3, 3, 3]),
    ("SO(3)", "vector depth height width", &[3, 2, 2, 2]),
    ("generated([[-1]])", "length vector", &[5, 1]),
];

const COMPLEX: &[Case] = &[
    ("U(1)", "channel charge^2", &[4]),
    ("U(1)", "charge^-3", &[]),
    ("U(1)", "channel charge^2", &[4, 2]),
    ("U(1)", "2*scalar+charge^1+charge^3 channel", &[4, 2]),
    ("U(1) x SE(3)", "vector charge^-1", &[3]),
    ("U(1) x SE(3)", "channel point", &[2, 3]),
    ("U(1) x C4 x T(2)", "regular height width charge^1", &[4, 3, 3]),
];

const INDICES: &[Case] = &[
    ("S(nodes) x S(edges)", "2 edges : nodes | -1", &[2, 7]),
    ("S(nodes)", "nodes 3 : nodes", &[5, 3]),
    ("generated(nodes: [1, 2, 0, 3, 5, 4])", "channel : nodes | 99", &[9]),
];

#[track_caller]
fn close(a: &ArrayD<f64>, b: &ArrayD<f64>, tolerance: f64, what: &str) {
    assert_eq!(a.shape(), b.shape(), "{what}");
    for (index, v) in a.indexed_iter() {
        let w = b[&index];
        assert!((v - w).abs() <= tolerance, "{what}, entry {index:?}: {v} and {w}");
    }
}

fn dot(a: &ArrayD<f64>, b: &ArrayD<f64>) -> f64 {
    a.iter().zip(b).map(|(x, y)| x * y).sum()
}

/// What the bound of rounding errors grows by: boosts stretch by `e^rapidity`, shears by their largest entry.
fn stretch(g: &Element) -> f64 {
    let inverse = g.linear_inverse();
    let largest = g.linear().iter().chain(&inverse).fold(1.0, |m: f64, v| m.max(v.abs()));
    largest * largest * g.scale().max(1.0 / g.scale()).powi(6)
}

/// Whether matrices of the representations are orthogonal.
fn is_orthogonal(under: &Group, text: &str) -> bool {
    let factors_are = under.factors().iter().all(|factor| match factor {
        Factor::Lorentz { .. } | Factor::Generated(_) | Factor::Scale => false,
        Factor::Finite(group) => (0..group.order()).all(|g| {
            group
                .matrix(g)
                .is_none_or(|m| (m.t().dot(m) - Array2::<f64>::eye(m.nrows())).iter().all(|v| v.abs() < 1e-9))
        }),
        _ => true,
    });
    factors_are && !["point", "fractional", "voigt"].iter().any(|word| text.contains(word))
}

fn laws(case: &Case, domain: Domain, complex: bool) {
    let (group_text, text, shape) = *case;
    let under = group(group_text);
    let what = format!("`{text}` under `{under}`");
    let bound = bind(text, &under, shape).on_grid(domain, Interpolation::Linear, &BTreeMap::new());
    let mut draws = Draws(shape.len() as u64 + text.len() as u64);
    let real_shape: Vec<usize> = if complex { [shape, &[2]].concat() } else { shape.to_vec() };
    let tensor = |values: ArrayD<f64>| {
        Tensor::from_real(values, if complex { DType::Complex128 } else { DType::Float64 })
    };
    let x = tensor(draws.array(&real_shape));
    let y = draws.array(&real_shape);
    let zero = tensor(ArrayD::zeros(IxDyn(&real_shape)));
    let up_to_sign = text.contains("quaternion");
    let same = |g: &Element, a: &Tensor, b: &Tensor, tolerance: f64, what: &str| {
        let (a, b) = (a.to_real(), b.to_real());
        if up_to_sign {
            close(&bound.difference(g, &a, &b), &ArrayD::zeros(a.raw_dim()), tolerance, what);
        } else {
            close(&a, &b, tolerance, what);
        }
    };
    let order = under.finite().map_or(1, |finite| finite.order());
    let mut pairs: Vec<(usize, usize)> = match order {
        1 => vec![(0, 0); 12],
        n if n <= 12 => (0..n * n).map(|k| (k / n, k % n)).collect(),
        n => (0..n).map(|k| (k, draws.below(n))).collect(),
    };
    pairs.truncate(200);
    let mut moved = false;
    for (a, b) in pairs {
        let (g, h) = (draw(&mut draws, &under, &bound, a), draw(&mut draws, &under, &bound, b));
        let tolerance = 1e-12 * stretch(&g) * stretch(&h) * 4.0;
        let hx = bound.act(&h, &x);
        let gx = bound.act(&g, &x);
        moved |= !gx.same_bits(&x);
        same(&g, &bound.act(&g.compose(&h), &x), &bound.act(&g, &hx), tolerance, &format!("{what}: product"));
        let back = bound.act(&g.inverse(), &gx);
        same(&g, &back, &x, tolerance, &format!("{what}: inverse"));
        assert_eq!(bound.act_on_real(&g, &x.to_real()), gx.to_real(), "{what}: real values");
        let linear = gx.to_real() - bound.act(&g, &zero).to_real();
        let (left, right) = (dot(&linear, &y), dot(&x.to_real(), &bound.act_transposed(&g, &y)));
        assert!(
            (left - right).abs() <= tolerance * (x.len() as f64 + 1.0),
            "{what}: transposed by {g}: {left} and {right}"
        );
        if is_orthogonal(&under, text) {
            let (before, after) = (dot(&x.to_real(), &x.to_real()), dot(&gx.to_real(), &gx.to_real()));
            assert!((before - after).abs() <= 1e-12 * before.max(1.0), "{what}: norm under {g}");
        }
        // What follows the identity keeps its bits.
        let e = g.compose(&g.inverse());
        same(&g, &bound.act(&e, &x), &x, tolerance, &format!("{what}: g g^-1"));
    }
    assert!(moved, "{what}: nothing moved it");
    assert!(under.factors().iter().any(|f| bound.is_moved_by(f)), "{what}: no factor moves it");
    assert_ne!(bound.describe(&under), "not moved", "{what}");
    let identity = Element::identity(under.dimension().unwrap_or(0), &BTreeMap::new());
    assert!(bound.act(&identity, &x).same_bits(&x), "{what}: identity");
    if let Some(finite) = under.finite() {
        let e = identity.with_finite(Arc::clone(finite), finite.identity());
        assert!(e.is_identity() && bound.act(&e, &x).same_bits(&x), "{what}: identity");
    }
}

#[test]
fn continuous_groups_act() {
    for case in CONTINUOUS {
        laws(case, Domain::Open, false);
    }
}

#[test]
fn finite_groups_act_by_all_their_elements() {
    for case in FINITE {
        laws(case, Domain::Open, false);
    }
}

#[test]
fn groups_act_on_periodic_grids() {
    for case in PERIODIC {
        laws(case, Domain::Periodic, false);
    }
}

#[test]
fn groups_act_on_open_grids() {
    for case in OPEN {
        laws(case, Domain::Open, false);
    }
}

#[test]
fn groups_act_on_complex_values() {
    for case in COMPLEX {
        laws(case, Domain::Periodic, true);
    }
}

#[test]
fn matrices_that_a_representation_does_not_see_do_not_move_it() {
    for (under, text, shape) in [
        ("generated([[1, 1], [0, 1]])", "channel pseudoscalar", &[3][..]),
        ("C4", "irrep(0)", &[1]),
        ("C4", "pseudoscalar", &[]),
        ("Ci", "pseudovector", &[3]),
        ("SO(3)", "8x0o", &[8]),
        ("SO+(1,3)", "pseudoscalar", &[]),
        ("T(3)", "vector", &[3]),
        ("2T(1) @ width", "height", &[4]),
    ] {
        let under = group(under);
        let bound = bind(text, &under, shape);
        assert!(!under.factors().iter().any(|f| bound.is_moved_by(f)), "`{text}` under `{under}`");
        assert_eq!(bound.describe(&under), "not moved", "`{text}` under `{under}`");
    }
}

#[test]
fn permutations_act_on_index_values() {
    let mut draws = Draws(5);
    for (group_text, text, shape) in INDICES {
        let under = group(group_text);
        let bound = bind(text, &under, shape);
        let positions = if text.starts_with("nodes") { shape[0] } else { POSITIONS };
        let sentinel = layout(text, &under).values().unwrap().sentinel.unwrap_or(0);
        let x = Tensor::Int64(ArrayD::from_shape_simple_fn(IxDyn(shape), || {
            if draws.below(4) == 0 { sentinel } else { draws.below(positions) as i64 }
        }));
        for _ in 0..10 {
            let (g, h) = (draw(&mut draws, &under, &bound, 0), draw(&mut draws, &under, &bound, 0));
            let gx = bound.act(&g, &x);
            assert_eq!(bound.act(&g.compose(&h), &x), bound.act(&g, &bound.act(&h, &x)), "{text}");
            assert_eq!(bound.act(&g.inverse(), &gx), x, "{text}");
            assert_eq!(bound.act_on_real(&g, &x.to_real()), gx.to_real(), "{text}");
            // A tensor along the axis, looked up by the values, is what it was: `t'[v'] = t[v]`.
            let p = g.permutation("nodes").unwrap();
            let (Tensor::Int64(before), Tensor::Int64(after)) = (&x, &gx) else { panic!("{text}") };
            if *text == "channel : nodes | 99" {
                for (v, w) in before.iter().zip(after) {
                    if *v == 99 {
                        assert_eq!(*w, 99);
                    } else {
                        assert_eq!(p[*w as usize], *v as usize);
                    }
                }
            }
        }
    }
}

fn element(under: &Group) -> Element {
    Element::identity(under.dimension().unwrap_or(0), &BTreeMap::new())
}

/// Acts with one element on f64 values.
fn act(under: &str, text: &str, g: impl Fn(Element, &Group) -> Element, x: &ArrayD<f64>) -> ArrayD<f64> {
    let under = group(under);
    bind(text, &under, x.shape()).act(&g(element(&under), &under), &Tensor::Float64(x.clone())).to_real()
}

#[test]
fn tensors_of_space_follow_their_formulas() {
    let mut draws = Draws(1);
    for improper in [false, true] {
        let mut r = draws.orthogonal(3, false);
        if improper {
            r.row_mut(0).mapv_inplace(|v| -v);
        }
        let det = determinant(&r);
        assert!((det - if improper { -1.0 } else { 1.0 }).abs() < 1e-14);
        let turn = |e: Element, _: &Group| e.with_linear(r.clone());
        // Stress: s -> R s R^T, as `vector vector` and as six components; strain with doubled shears.
        let half = draws.array(&[3, 3]).into_dimensionality::<ndarray::Ix2>().unwrap();
        let s = &half + &half.t();
        let turned = r.dot(&s).dot(&r.t());
        close(
            &act("O(3)", "vector vector", turn, &s.clone().into_dyn()),
            &turned.clone().into_dyn(),
            1e-13,
            "stress",
        );
        let six = |s: &Array2<f64>, shear: f64| {
            array![s[[0, 0]], s[[1, 1]], s[[2, 2]], shear * s[[1, 2]], shear * s[[0, 2]], shear * s[[0, 1]]]
                .into_dyn()
        };
        close(&act("O(3)", "voigt", turn, &six(&s, 1.0)), &six(&turned, 1.0), 1e-13, "voigt");
        close(&act("O(3)", "voigt(strain)", turn, &six(&s, 2.0)), &six(&turned, 2.0), 1e-13, "strain");
        // A cross product of vectors is a pseudovector, their triple product a pseudoscalar.
        let cross = |a: &ArrayD<f64>, b: &ArrayD<f64>| {
            array![a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]].into_dyn()
        };
        let (a, b, c) = (draws.array(&[3]), draws.array(&[3]), draws.array(&[3]));
        let v = |x: &ArrayD<f64>| act("O(3)", "vector", turn, x);
        close(&act("O(3)", "pseudovector", turn, &cross(&a, &b)), &cross(&v(&a), &v(&b)), 1e-13, "cross");
        let triple = |a: &ArrayD<f64>, b: &ArrayD<f64>, c: &ArrayD<f64>| {
            ArrayD::from_elem(IxDyn(&[]), dot(&cross(a, b), c))
        };
        close(
            &act("O(3)", "pseudoscalar", turn, &triple(&a, &b, &c)),
            &triple(&v(&a), &v(&b), &v(&c)),
            1e-13,
            "triple product",
        );
        close(&act("O(3)", "1x1o", turn, &a), &v(&a), 1e-13, "1o");
        close(&act("O(3)", "1x1e", turn, &a), &act("O(3)", "pseudovector", turn, &a), 1e-13, "1e");
        // `0o` is a pseudoscalar; 1o and 1e above are in the order x, y, z.
        close(
            &act("O(3)", "1x0o", turn, &array![2.0].into_dyn()),
            &array![2.0 * det].into_dyn(),
            1e-15,
            "0o",
        );
        // A point moves by R v + t, a sum block by block.
        let t = array![0.5, -2.0, 3.0];
        let x = draws.array(&[2, 7]);
        let moved =
            act("E(3)", "nodes vector+point+scalar", |e, u| turn(e, u).with_translation(t.clone()), &x);
        for row in 0..2 {
            for i in 0..3 {
                let product = |from: usize| (0..3).map(|j| r[[i, j]] * x[[row, from + j]]).sum::<f64>();
                assert!((moved[[row, i]] - product(0)).abs() < 1e-14);
                assert!((moved[[row, 3 + i]] - product(3) - t[i]).abs() < 1e-14);
            }
            assert_eq!(moved[[row, 6]], x[[row, 6]]);
        }
    }
}

#[test]
fn quaternions_turn_with_what_they_orient() {
    // The attitude (cos a/2, 0, 0, sin a/2) turned by b about z is the one of a + b.
    let (a, b) = (0.7f64, 1.1f64);
    let q = |angle: f64| array![(angle / 2.0).cos(), 0.0, 0.0, (angle / 2.0).sin()].into_dyn();
    let r = array![[b.cos(), -b.sin(), 0.0], [b.sin(), b.cos(), 0.0], [0.0, 0.0, 1.0]];
    let turned = act("SO(3)", "quaternion", |e, _| e.with_linear(r.clone()), &q(a));
    let sign = dot(&turned, &q(a + b)).signum();
    close(&turned.mapv(|v| sign * v), &q(a + b), 1e-15, "quaternion");
    // From the left: about x, then about z, is not the same as the reverse.
    let about_x = array![(0.3f64).cos(), (0.3f64).sin(), 0.0, 0.0].into_dyn();
    let turned = act("SO(3)", "quaternion", |e, _| e.with_linear(r.clone()), &about_x);
    let (c, s) = ((b / 2.0).cos(), (b / 2.0).sin());
    let left = array![c * 0.3f64.cos(), c * 0.3f64.sin(), s * 0.3f64.sin(), s * 0.3f64.cos()].into_dyn();
    let sign = dot(&turned, &left).signum();
    close(&turned.mapv(|v| sign * v), &left, 1e-15, "product from the left");
    // Compared up to sign, each on its own.
    let under = group("SO(3)");
    let bound = bind("batch quaternion", &under, &[2, 4]);
    let x = Draws(3).array(&[2, 4]);
    let mut flipped = x.clone();
    flipped.index_axis_mut(Axis(0), 1).mapv_inplace(|v| -v);
    close(&bound.difference(&element(&under), &flipped, &x), &ArrayD::zeros(x.raw_dim()), 0.0, "up to sign");
}

#[test]
fn what_is_defined_up_to_sign_is_compared_so() {
    let under = group("SO(3) x S(nodes)");
    let x = Draws(4).array(&[3, 3]);
    let mut flipped = x.clone();
    flipped.index_axis_mut(Axis(0), 2).mapv_inplace(|v| -v);
    let e = element(&under);
    let strict = bind("nodes vector", &under, &[3, 3]).difference(&e, &flipped, &x);
    assert_eq!(strict, &flipped - &x);
    let modulo = bind("nodes vector ~ sign", &under, &[3, 3]).difference(&e, &flipped, &x);
    close(&modulo, &ArrayD::zeros(x.raw_dim()), 0.0, "one sign per vector");
    // One sign for the whole vector, not one per component.
    flipped[[0, 0]] = -flipped[[0, 0]];
    let modulo = bind("nodes vector ~ sign", &under, &[3, 3]).difference(&e, &flipped, &x);
    assert!(modulo.iter().any(|v| v.abs() > 1e-3));
}

#[test]
fn covectors_pair_with_vectors() {
    let mut draws = Draws(2);
    let (v, w) = (draws.array(&[4]), draws.array(&[4]));
    let g = draws.lorentz(true);
    let boosted = |text: &str, x: &ArrayD<f64>| act("O(1,3)", text, |e, _| e.with_lorentz(g.clone()), x);
    let (gv, gw) = (boosted("vector", &v), boosted("covector", &w));
    assert!((dot(&gv, &gw) - dot(&v, &w)).abs() < 1e-13);
    close(&gv, &g.dot(&v.clone().into_dimensionality::<ndarray::Ix1>().unwrap()).into_dyn(), 0.0, "g v");
    // The metric lowers an index: eta v transforms as a covector; t is the first component.
    let lower = |x: &ArrayD<f64>| array![x[0], -x[1], -x[2], -x[3]].into_dyn();
    close(&boosted("covector", &lower(&v)), &lower(&gv), 1e-13, "eta v");
    // A boost along z of rapidity 1/2 takes a particle at rest to (cosh, 0, 0, sinh).
    let boost = lie::boost([0.0, 0.0, 0.5]);
    let moving = act(
        "SO+(1,3)",
        "vector",
        |e, _| e.with_lorentz(boost.clone()),
        &array![1.0, 0.0, 0.0, 0.0].into_dyn(),
    );
    close(&moving, &array![0.5f64.cosh(), 0.0, 0.0, 0.5f64.sinh()].into_dyn(), 1e-15, "boost");
    // A shear: g^-T = [[1, 0], [-1, 1]].
    let shear = "generated([[1, 1], [0, 1]])";
    let by = |e: Element, _: &Group| e.with_general(array![[1.0, 1.0], [0.0, 1.0]]);
    let x = array![2.0, 5.0].into_dyn();
    assert_eq!(act(shear, "vector", by, &x), array![7.0, 5.0].into_dyn());
    assert_eq!(act(shear, "covector", by, &x), array![2.0, 3.0].into_dyn());
    let x = array![2.0, 5.0].into_dyn();
    let stretch = |e: Element, _: &Group| e.with_general(array![[-2.0, 0.0], [0.0, 1.0]]);
    let dilations = "generated([[-2, 0], [0, 1]])";
    assert_eq!(act(dilations, "covector", stretch, &x), array![-1.0, 5.0].into_dyn());
    assert_eq!(act(dilations, "pseudovector", stretch, &x), array![8.0, -10.0].into_dyn());
}

#[test]
fn weights_and_frequencies_follow_their_formulas() {
    let x = array![1.5, -2.0, 0.25].into_dyn();
    let dilated = |text: &str| act("Scale", text, |e, _| e.with_scale(3.0), &x);
    close(&dilated("channel scale^2"), &x.mapv(|v| 9.0 * v), 1e-14, "scale^2");
    close(&dilated("scale^-1+2*scale^3"), &array![0.5, -54.0, 6.75].into_dyn(), 1e-14, "sum");
    assert_eq!(dilated("channel scale^0"), x);
    let flip = |text: &str, x: &ArrayD<f64>| act("Z2", text, |e, _| e.with_sign(-1.0), x);
    assert_eq!(flip("channel sign", &x), -x.clone());
    assert_eq!(flip("scalar+2*sign", &x), array![1.5, 2.0, -0.25].into_dyn());
    // Frequencies: by m times the angle; a reflection about x conjugates.
    let a = 0.4f64;
    let turn = |e: Element, _: &Group| e.with_linear(array![[a.cos(), -a.sin()], [a.sin(), a.cos()]]);
    let unit = |angle: f64| array![angle.cos(), angle.sin()].into_dyn();
    close(&act("SO(2)", "m3", turn, &unit(0.1)), &unit(0.1 + 3.0 * a), 1e-14, "m3");
    close(&act("SO(2)", "m1", turn, &unit(0.1)), &act("SO(2)", "vector", turn, &unit(0.1)), 1e-15, "m1");
    let mirror = |e: Element, _: &Group| e.with_linear(array![[1.0, 0.0], [0.0, -1.0]]);
    close(&act("O(2)", "m2", mirror, &unit(0.3)), &unit(-0.3), 1e-15, "mirror");
    // Charges: exp(i k theta) z; and points of a complex tensor move in their real parts alone.
    let under = group("U(1) x T(1)");
    let g = element(&under).with_phase(0.3).with_translation(array![2.0]);
    let z = |r: f64, angle: f64| Complex::from_polar(r, angle);
    let tensor = Tensor::Complex128(array![z(2.0, 0.1), z(1.0, -1.0)].into_dyn());
    let wanted = Tensor::Complex128(array![z(2.0, -0.5), z(1.0, -1.6)].into_dyn());
    let charged = bind("channel charge^-2", &under, &[2]).act(&g, &tensor);
    close(&charged.to_real(), &wanted.to_real(), 1e-15, "charge");
    let charged = bind("charge^-2+scalar", &under, &[2]).act(&g, &tensor);
    let wanted = Tensor::Complex128(array![z(2.0, -0.5), z(1.0, -1.0)].into_dyn());
    close(&charged.to_real(), &wanted.to_real(), 1e-15, "charge in a sum");
    let shifted = bind("channel point", &under, &[2, 1]);
    let column = Tensor::Complex128(array![[z(2.0, 0.1)], [z(1.0, -1.0)]].into_dyn());
    let Tensor::Complex128(after) = shifted.act(&g, &column) else { panic!("complex stays complex") };
    assert!((after[[0, 0]] - z(2.0, 0.1) - 2.0).norm() < 1e-15);
}

/// `rot90(m, 1)` of numpy.
fn rot90<T: Copy>(m: &Array2<T>) -> Array2<T> {
    let n = m.ncols();
    Array2::from_shape_fn((n, m.nrows()), |(i, j)| m[[j, n - 1 - i]])
}

#[test]
fn a_quarter_turn_of_a_feature_map_turns_pixels_and_rolls_channels() {
    let under = group("C4");
    let quarter = element(&under).with_finite(Arc::clone(under.finite().unwrap()), 1);
    assert_eq!(*quarter.linear(), array![[0.0, -1.0], [1.0, 0.0]]);
    let maps: Vec<Array2<i64>> =
        (0..4).map(|c| Array2::from_shape_fn((3, 3), |(i, j)| (100 * c + 10 * i + j) as i64)).collect();
    let views: Vec<_> = maps.iter().map(|m| m.view()).collect();
    let x = ndarray::stack(Axis(0), &views).unwrap().into_dyn();
    let bound = bind("regular height width", &under, &[4, 3, 3]);
    let Tensor::Int64(turned) = bound.act(&quarter, &Tensor::Int64(x)) else { panic!("integers stay") };
    for c in 0..4 {
        // Channel h goes to channel g h.
        assert_eq!(turned.index_axis(Axis(0), c), rot90(&maps[(c + 3) % 4]).into_dyn(), "channel {c}");
    }
    // A vector field: rot90 of the pixels, and (vx, vy) to (-vy, vx).
    let x = Draws(8).array(&[2, 3, 3]);
    let field =
        bind("vector height width", &under, &[2, 3, 3]).act(&quarter, &Tensor::Float64(x.clone())).to_real();
    let plane = |c: usize| x.index_axis(Axis(0), c).to_owned().into_dimensionality::<ndarray::Ix2>().unwrap();
    assert_eq!(field.index_axis(Axis(0), 0), rot90(&plane(1)).mapv(|v| -v).into_dyn());
    assert_eq!(field.index_axis(Axis(0), 1), rot90(&plane(0)).into_dyn());
}

#[test]
fn shifts_of_grids_are_rolls() {
    let x = Array2::from_shape_fn((4, 5), |(i, j)| (10 * i + j) as i64);
    // roll(x, (down, right), (0, 1))
    let roll = |down: usize, right: usize| {
        Array2::from_shape_fn((4, 5), |(i, j)| x[[(i + 4 - down) % 4, (j + 5 - right) % 5]]).into_dyn()
    };
    let periodic = |under: &str, g: &dyn Fn(Element) -> Element| {
        let under = group(under);
        let bound = bind("height width", &under, &[4, 5]);
        let bound = bound.on_grid(Domain::Periodic, Interpolation::Linear, &BTreeMap::new());
        match bound.act(&g(element(&under)), &Tensor::Int64(x.clone().into_dyn())) {
            Tensor::Int64(moved) => moved,
            other => panic!("became {:?}", other.dtype()),
        }
    };
    // (x, y): to the right, and up, against the height index.
    assert_eq!(periodic("T(2)", &|e| e.with_translation(array![2.0, 0.0])), roll(0, 2));
    assert_eq!(periodic("T(2)", &|e| e.with_translation(array![0.0, 1.0])), roll(3, 0));
    // Along one axis: towards higher indices.
    assert_eq!(periodic("T(1) @ height", &|e| e.with_shift("height", 1.0)), roll(1, 0));
    assert_eq!(periodic("T(1) @ width", &|e| e.with_shift("width", 3.0)), roll(0, 3));
    // Half the resolution: a shift by two pixels of the reference is one here.
    let under = group("2T(1) @ height");
    let reference = BTreeMap::from([("height".to_owned(), 8), ("width".to_owned(), 5)]);
    let bound =
        bind("height width", &under, &[4, 5]).on_grid(Domain::Periodic, Interpolation::Linear, &reference);
    let moved = bound.act(&element(&under).with_shift("height", 2.0), &Tensor::Int64(x.clone().into_dyn()));
    assert_eq!(moved, Tensor::Int64(roll(1, 0)));
    // On an open grid what comes from outside is 0, and is not compared.
    let under = group("T(2)");
    let bound = bind("height width", &under, &[4, 5]);
    let right = element(&under).with_translation(array![2.0, 0.0]);
    let moved = bound.act(&right, &Tensor::Int64(x.clone().into_dyn())).to_real();
    for ((i, j), v) in x.indexed_iter() {
        if j + 2 < 5 {
            assert_eq!(moved[[i, j + 2]], *v as f64);
        }
    }
    let difference =
        bound.difference(&right, &ArrayD::from_elem(IxDyn(&[4, 5]), 1.0), &ArrayD::zeros(IxDyn(&[4, 5])));
    for ((i, j), _) in x.indexed_iter() {
        assert_eq!(difference[[i, j]], if j < 2 { 0.0 } else { 1.0 }, "pixel {i} {j}");
    }
}

#[test]
fn permutations_select_and_relabel() {
    let under = group("S(nodes)");
    let axes = BTreeMap::from([("nodes".to_owned(), 3)]);
    let g = Element::identity(0, &axes).with_permutation("nodes", vec![2, 0, 1]);
    let x = array![[10.0, 11.0], [20.0, 21.0], [30.0, 31.0]].into_dyn();
    let moved = bind("nodes channel", &under, &[3, 2]).act(&g, &Tensor::Float64(x)).to_real();
    assert_eq!(moved, array![[30.0, 31.0], [10.0, 11.0], [20.0, 21.0]].into_dyn());
    // Both axes of a matrix, and values to where their entry went: 0 is now at 1, 1 at 2, 2 at 0.
    let a = array![[0.0, 1.0, 2.0], [3.0, 4.0, 5.0], [6.0, 7.0, 8.0]].into_dyn();
    let moved = bind("nodes nodes", &under, &[3, 3]).act(&g, &Tensor::Float64(a)).to_real();
    assert_eq!(moved, array![[8.0, 6.0, 7.0], [2.0, 0.0, 1.0], [5.0, 3.0, 4.0]].into_dyn());
    let edges = Tensor::Int64(array![[0, 1, -1], [2, 7, 1]].into_dyn());
    let moved = bind("2 edges : nodes | -1", &under, &[2, 3]).act(&g, &edges);
    assert_eq!(moved, Tensor::Int64(array![[1, 2, -1], [0, 7, 2]].into_dyn()));
    // A sentinel stays even where it would be a position.
    let moved = bind("channel : nodes | 1", &under, &[3]).act(&g, &Tensor::Int64(array![0, 1, 2].into_dyn()));
    assert_eq!(moved, Tensor::Int64(array![1, 1, 0].into_dyn()));
}

#[test]
fn entries_that_only_move_keep_their_bits() {
    // Not-a-numbers with a payload, negative zero, subnormals: each bit pattern once.
    let odd = [0x7e01_u16, 0xfe55, 0x8000, 0x0001, 0x7c00, 0x3c00, 0x0000, 0xfc00];
    let halves = |shape: &[usize]| {
        let mut k = 0;
        ArrayD::from_shape_simple_fn(IxDyn(shape), || {
            k += 1;
            f16::from_bits(odd[(k * 5) % 8])
        })
    };
    for (under, text, shape, domain) in [
        ("T(2) x D4", "regular height width", vec![8, 4, 4], Domain::Periodic),
        ("D4", "quotient(D2,1)+regular height width", vec![10, 3, 3], Domain::Open),
        ("T(3) x Oh", "depth height width", vec![2, 2, 2], Domain::Periodic),
        ("O x S(nodes)", "nodes regular", vec![3, 24], Domain::Open),
        ("generated(nodes: [1, 2, 0])", "nodes channel", vec![3, 5], Domain::Open),
    ] {
        let under = group(under);
        let bound = bind(text, &under, &shape).on_grid(domain, Interpolation::Linear, &BTreeMap::new());
        let x = halves(&shape);
        let integers = Tensor::Int64(x.mapv(|v| (1 << 60) + i64::from(v.to_bits())));
        let x = Tensor::Float16(x);
        let sorted = |t: &Tensor| {
            let Tensor::Float16(a) = t else { panic!("{text}: became {:?}", t.dtype()) };
            let mut bits: Vec<u16> = a.iter().map(|v| v.to_bits()).collect();
            bits.sort_unstable();
            bits
        };
        let mut draws = Draws(9);
        for g in 0..under.finite().map_or(3, |finite| finite.order()) {
            let g = draw(&mut draws, &under, &bound, g);
            let moved = bound.act(&g, &x);
            assert_eq!(sorted(&moved), sorted(&x), "{text}");
            assert!(bound.act(&g.inverse(), &moved).same_bits(&x), "{text}");
            let there = bound.act(&g, &integers);
            assert_eq!(there.dtype(), DType::Int64);
            assert!(bound.act(&g.inverse(), &there).same_bits(&integers), "{text}");
        }
    }
}

#[test]
fn single_precision_is_rounded_once() {
    let mut draws = Draws(11);
    let r = draws.orthogonal(3, true);
    let x = draws.array(&[3, 3]).mapv(|v| v as f32);
    let under = group("O(3)");
    let acted = bind("vector vector", &under, &[3, 3])
        .act(&element(&under).with_linear(r.clone()), &Tensor::Float32(x.clone()));
    let Tensor::Float32(acted) = acted else { panic!("single precision stays") };
    let double = x.mapv(f64::from).into_dimensionality::<ndarray::Ix2>().unwrap();
    let wanted = r.dot(&double).dot(&r.t());
    for (a, b) in acted.iter().zip(&wanted) {
        assert!((f64::from(*a) - b).abs() <= b.abs() * 2f64.powi(-24) * (1.0 + 1e-6), "{a} and {b}");
    }
}

/// Every kind of term, as written and as printed.
const PRINTED: &[(&str, &str)] = &[
    ("SO(2)", "SO(2)"),
    ("SO+( 1 , 3 )", "SO+(1,3)"),
    ("O(1,3)×T(4)", "O(1,3) x T(4)"),
    ("2T(2) * C4", "2T(2) x C4"),
    ("1T(3)", "T(3)"),
    ("T(1)@height", "T(1) @ height"),
    ("3T(1) @ width x T(1) @ depth", "3T(1) @ width x T(1) @ depth"),
    ("C1", "C1"),
    ("D12", "D12"),
    ("D4 @ z", "D4 @ (0,0,1)"),
    ("D4 @ (0, 0, 2.5) x S(nodes)", "D4 @ (0,0,1) x S(nodes)"),
    ("C4v @ (0.5, 1, -0)", "C4v @ (1,2,0)"),
    ("4mm@(0,0,1)", "C4v @ (0,0,1)"),
    ("4/mmm @ (0,0,1), (1,1,0)", "D4h @ (0,0,1), (1,1,0)"),
    ("D3d @ (0.3, 0.5, 0.7)", "D3d @ (3,5,7)"),
    ("-42m @ x, y", "D2d @ (1,0,0), (0,1,0)"),
    ("S4 @ (0,0,-1)", "S4 @ (0,0,-1)"),
    ("Oh", "Oh"),
    ("m-3m", "Oh"),
    ("-43m", "Td"),
    ("Ih x Z2", "Ih x Z2"),
    ("Ci", "Ci"),
    ("T x T(3)", "T x T(3)"),
    ("Z2 x U(1) x Scale", "Z2 x U(1) x Scale"),
    ("U( 1 )", "U(1)"),
    ("generated([[0,-1],[1,0]])", "generated([[0, -1], [1, 0]])"),
    ("generated([[1,1],[0,1]],[[1.5e0,0],[0,1e-3]])", "generated([[1, 1], [0, 1]], [[1.5, 0], [0, 0.001]])"),
    ("generated( nodes :[1,0,2] ) x E(3)", "generated(nodes: [1, 0, 2]) x E(3)"),
    ("S(nodes)xO(3)", "S(nodes) x O(3)"),
    ("C4xT(2)xZ2", "C4 x T(2) x Z2"),
    ("m-3mxS(nodes)xScale", "Oh x S(nodes) x Scale"),
];

#[test]
fn groups_print_in_one_form_and_parse_again() {
    for (text, canonical) in PRINTED {
        let read = group(text);
        assert_eq!(read.to_string(), *canonical, "{text}");
        assert_eq!(group(canonical).to_string(), *canonical);
        let again = group(canonical);
        assert_eq!(again.factors().len(), read.factors().len());
        for (a, b) in again.factors().iter().zip(read.factors()) {
            match (a, &b) {
                // A direction that is not written in whole numbers is one rounding away.
                (Factor::Finite(a), Factor::Finite(b)) => {
                    assert_eq!((a.order(), a.name()), (b.order(), b.name()), "{text}");
                    for g in 0..a.order() {
                        let (m, n) = (a.matrix(g).unwrap(), b.matrix(g).unwrap());
                        assert!((m - n).iter().all(|v| v.abs() < 1e-14), "{text}: element {g}");
                    }
                }
                (a, b) => assert_eq!(a, b, "{text}"),
            }
        }
        assert_eq!(group(&again.to_string()), again, "{text}");
    }
}

#[test]
fn layouts_print_in_one_form_and_parse_again() {
    let tables = [CONTINUOUS, FINITE, PERIODIC, OPEN, COMPLEX, INDICES];
    for (under, text, _) in tables.into_iter().flatten() {
        let under = group(under);
        let read = layout(text, &under);
        assert_eq!(layout(&read.to_string(), &under), read, "{text}");
        assert_eq!(group(&under.to_string()), under);
    }
    for (under, text, canonical) in [
        ("C4", "4 * regular", "4*regular"),
        ("C4", "irrep( 1 ) + 2*quotient( C2 )", "irrep(1)+2*quotient(C2)"),
        ("D4", "irrep(1 , 1) height width", "irrep(1,1) height width"),
        ("D4", "quotient(D2, 1)+quotient(D2,0)", "quotient(D2,1)+quotient(D2)"),
        ("SO(2)", "m1", "1xm1"),
        ("SO(2)", "3xm0 + 2*m1", "3xm0+2xm1"),
        ("O(3)", "voigt(stress) voigt(strain)", "voigt voigt(strain)"),
        ("O(3)", "8x0e + 4x1o + vector", "8x0e+4x1o+vector"),
        ("Scale", "nodes scale^-2", "nodes scale^-2"),
        ("O(3)", "vector~sign", "vector ~ sign"),
        ("S(nodes)", "2 edges:nodes|-1~sign", "2 edges : nodes | -1 ~ sign"),
    ] {
        let under = group(under);
        let read = layout(text, &under);
        assert_eq!(read.to_string(), canonical, "{text}");
        assert_eq!(layout(canonical, &under), read);
    }
}

/// The text that an error marks.
fn marked(error: &ParseError) -> &str {
    &error.text[error.span.clone()]
}

#[test]
fn group_errors_point_at_the_new_words() {
    for (text, mark, message, help) in [
        ("C4v", "C4v", "`C4v` needs the axis that it turns about", "`C4v @ (0,0,1)`"),
        ("E(3) x 4mm", "4mm", "needs the axis", "@ (0,0,1)"),
        ("D4 @ (0,0,0)", "0,0,0", "a direction is three numbers, not all zero", "`D4 @ (0,0,1)`"),
        ("D4 @ (0,1)", "0,1", "a direction is three numbers", "`D4 @ (0,0,1)`"),
        ("D4 @ w", "w", "expected a direction in space", "`D4 @ (0,0,1)`"),
        ("T(2) @ height", "height", "`T(2)` shifts 2 axes, `@ height` names one", "`T(1) @ height`"),
        ("T(1) @ heigth", "heigth", "expected an axis of a grid", "did you mean `height`?"),
        ("0T(2)", "0T", "is no number of pixels", "`2T(2)`"),
        ("SO(1,3)", "SO(1,3)", "turns time around", "`SO+(1,3)`"),
        ("O(1,2)", "2", "1 + 3 dimensions", "`O(1,3)`"),
        ("SO+(3)", "SO+(3)", "1 + 3 dimensions", "`SO+(1,3)`"),
        ("SO+", "SO+", "needs an argument", "`SO+(1,3)`"),
        ("U(2)", "2", "`U(1)` alone", "`U(1)`"),
        ("U1", "U1", "not a group", "did you mean `U(1)`?"),
        ("scale", "scale", "not a group", "did you mean `Scale`?"),
        ("S(4)", "4", "the name of the axis", "`S4 @ (0,0,1)`"),
        ("S(vector)", "vector", "is a word of the layout language", "`nodes`"),
        ("generated([[1,2]])", "[[1,2]]", "generators are square matrices", "row by row"),
        ("generated([[1,2],[2,4]])", "[[1,2],[2,4]]", "", ""),
        ("generated(nodes: [0,0])", "nodes: [0,0]", "", ""),
        ("generated(4: [0])", "4", "expected the name of an axis", "generated(nodes"),
        ("generated([[1,0],[0,1]", "generated([[1,0],[0,1]", "expected `)`", "generated("),
        ("C4 x D4 @ (0,0,1)", "D4 @ (0,0,1)", "act on spaces of different dimensions", "one space"),
        ("Z2 x Z2", "Z2", "are the same group", "keep one"),
        ("T(1) @ height x C4", "C4", "turns mix the axes", "`T(2)`"),
        (
            "S(nodes) x generated(nodes: [1, 0])",
            "generated(nodes: [1, 0])",
            "permute the same axis",
            "keep one",
        ),
    ] {
        let error = match Group::parse(text) {
            Ok(read) => panic!("`{text}` was read as `{read}`"),
            Err(error) => error,
        };
        assert_eq!(marked(&error), mark, "{error}");
        assert!(error.message.contains(message), "{error}");
        assert!(error.help.as_ref().unwrap().contains(help), "{error}");
    }
}

#[test]
fn layout_errors_point_at_the_new_words() {
    for (under, text, mark, message, help) in [
        ("C4", "irrep(9)", "irrep(9)", "irrep", ""),
        ("C4", "nodes regular+irep(1)", "irep(1)", "unknown word", ""),
        ("C4", "regualr", "regualr", "unknown word", "did you mean `regular`?"),
        ("C4", "quotient(C3)", "quotient(C3)", "", ""),
        ("C4", "quotient", "quotient", "needs a subgroup", "quotient(C2)"),
        ("SO(3)", "m1", "m1", "`m1` is an irrep of O(2), and `SO(3)` acts in dimension 3", "O(2)"),
        (
            "SO(3)",
            "nodes 2*regular",
            "regular",
            "representation of a finite group, and `SO(3)` holds none",
            "C4",
        ),
        ("SO(3)", "vector sign", "sign", "of `Z2` or of a finite group", "`pseudoscalar`"),
        ("Scale", "scale^x", "scale^x", "needs a whole number", "`scale^2`"),
        ("U(1)", "charge^1.5", "charge^1.5", "needs a whole number", "`charge^2`"),
        ("U(1)", "charge", "charge", "unknown word `charge`", "charge"),
        ("generated([[1, 1], [0, 1]])", "m1", "m1", "needs orthogonal matrices", "`covector`"),
        (
            "generated([[0, -1, 0], [1, -1, 0], [0, 0, 1]])",
            "scalar+1x1o",
            "1x1o",
            "needs orthogonal matrices",
            "`covector`",
        ),
        ("SO(2)", "voigt", "voigt", "three-dimensional space", "dimension 3"),
        ("O(3)", "voight", "voight", "unknown word", "did you mean `voigt`?"),
        ("SO(4)", "quaternion", "quaternion", "three-dimensional space", "dimension 3"),
        ("SO(3)", "2*vectr+scalar", "vectr", "unknown word", "did you mean `vector`?"),
        ("SO(3)", "99999999999*vector", "99999999999", "too many copies", ""),
        ("SO(3)", "vector ~ scale", "scale", "not supported", "`~ sign`, `~ phase` and `~ S(axis)` are"),
        ("SO(3)", "vector ~", "~", "not supported", "`~ sign`"),
    ] {
        let under = group(under);
        let error = match Layout::parse(text, &under) {
            Ok(read) => panic!("`{text}` was read as `{read}`"),
            Err(error) => error,
        };
        assert_eq!(marked(&error), mark, "{error}");
        assert!(error.message.contains(message), "{error}");
        assert!(error.help.as_ref().is_some_and(|h| h.contains(help)), "{error}");
    }
}

#[test]
fn a_planar_group_at_vectors_of_space_offers_the_groups_in_space() {
    let message = |under: &str, text: &str, shape: &[usize]| {
        let under = group(under);
        let bound = BoundLayout::new(&layout(text, &under), shape, &under, "input `x`");
        bound.expect_err("a length that does not fit").to_string()
    };
    let text = message("D4", "nodes vector", &[5, 3]);
    for part in ["`vector` needs length 2, axis 1 has 3", "`D4 @ (0,0,1)`", "`C4v @ (0,0,1)`"] {
        assert!(text.contains(part), "{text}");
    }
    // What is offered is read, and fits.
    for offered in ["D4 @ (0,0,1)", "C4v @ (0,0,1)"] {
        bind("nodes vector", &group(offered), &[5, 3]);
    }
    let text = message("C4 x T(2)", "nodes point", &[5, 3]);
    assert!(text.contains("`C4 @ (0,0,1)`") && !text.contains("C4v"), "{text}");
    for (under, words, shape) in [
        ("D4", "vector", &[4][..]),
        ("SO(2)", "vector", &[3]),
        ("D4", "regular", &[3]),
        ("C4 @ z", "vector", &[2]),
    ] {
        let text = message(under, words, shape);
        assert!(!text.contains("in space write"), "{text}");
    }
}

fn one_term() -> impl Strategy<Value = String> {
    let name = prop::sample::select(vec!["nodes", "edges", "Öl", "a_1"]);
    let numbers = prop::collection::vec(-2.0..2.0f64, 4);
    let direction = (-3i32..=3, -3i32..=3, 1i32..=3);
    let family = prop::sample::select(vec!["C4v", "D3", "S4", "C2h", "D3d", "mm2", "-42m", "6/mmm", "-3m"]);
    let fixed = prop::sample::select(vec!["T", "Td", "Oh", "m-3", "432", "Ih", "Ci", "Z2", "U(1)", "Scale"]);
    prop_oneof![
        (prop::sample::select(vec!["SO", "O", "SE", "E"]), 2usize..65).prop_map(|(g, n)| format!("{g}({n})")),
        (1usize..4, 1usize..5).prop_map(|(k, n)| format!("{k}T({n})")),
        (1usize..4, prop::sample::select(vec!["height", "width", "depth", "length"]))
            .prop_map(|(k, axis)| format!("{k}T(1) @ {axis}")),
        (prop::sample::select(vec!["C", "D"]), 1usize..13).prop_map(|(g, n)| format!("{g}{n}")),
        (family, direction).prop_map(|(g, (x, y, z))| format!("{g} @ ({x},{y},{z})")),
        fixed.prop_map(str::to_owned),
        prop::sample::select(vec!["SO+(1,3)", "O(1,3)"]).prop_map(str::to_owned),
        name.prop_map(|axis| format!("S({axis})")),
        Just(vec![0usize, 1, 2, 3]).prop_shuffle().prop_map(|p| format!("generated(nodes: {p:?})")),
        numbers.prop_map(|v| format!("generated([[{:?}, {:?}], [{:?}, {:?}]])", v[0], v[1], v[2], v[3])),
    ]
}

const GROUP_TOKENS: [&str; 40] = [
    "SO",
    "O",
    "SE",
    "E",
    "T",
    "S",
    "U",
    "SO+",
    "generated",
    "Z2",
    "Scale",
    "C4",
    "D4",
    "C4v",
    "Oh",
    "m-3m",
    "-42m",
    "4/mmm",
    "(",
    ")",
    "[",
    "]",
    "[[0, -1], [1, 0]]",
    ",",
    ":",
    "@",
    " ",
    " x ",
    "×",
    "*",
    "1",
    "3",
    "0",
    "-1",
    "1e308",
    "nodes",
    "height",
    "z",
    "é",
    "(0,0,1)",
];

const LAYOUT_TOKENS: [&str; 54] = [
    "vector",
    "point",
    "pseudovector",
    "pseudoscalar",
    "covector",
    "scalar",
    "regular",
    "trivial",
    "sign",
    "quotient",
    "irrep",
    "(C2)",
    "(D2,1)",
    "(1)",
    "(1,1)",
    "voigt",
    "point mod cell",
    " mod ",
    "fractional",
    "(cell)",
    "phase",
    "S(edges)",
    "(strain)",
    "quaternion",
    "scale",
    "charge",
    "^",
    "^2",
    "m",
    "m2",
    "xm1",
    "8x0e",
    "1o",
    "+",
    "*",
    "2*",
    "3",
    "99999999999999999999",
    " ",
    "  ",
    "batch",
    "...",
    "nodes",
    "edges",
    "height",
    "width",
    ":",
    "|",
    "-1",
    "~",
    "(",
    ")",
    "!",
    "ß",
];

fn text_of(tokens: &'static [&'static str]) -> impl Strategy<Value = String> {
    prop::collection::vec(prop::sample::select(tokens), 0..9).prop_map(|words| words.concat())
}

/// An error's mark lies within its text, on the borders of characters, and it can be shown.
fn is_shown(error: &ParseError) {
    assert!(error.text.get(error.span.clone()).is_some(), "{:?} in {:?}", error.span, error.text);
    assert!(error.to_string().contains(&error.message));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn products_of_terms_print_and_parse_again(terms in prop::collection::vec(one_term(), 1..4)) {
        let text = terms.join(" x ");
        match Group::parse(&text) {
            // Rounded directions and generators are settled after one reading.
            Ok(read) => {
                let again = group(&read.to_string());
                prop_assert_eq!(again.to_string(), read.to_string());
                prop_assert_eq!(again.factors().len(), read.factors().len());
                prop_assert_eq!(&group(&again.to_string()), &again);
                if !text.contains('@') {
                    prop_assert_eq!(again, read);
                }
            }
            Err(error) => {
                is_shown(&error);
                // Single terms are all read, but for generators that are not invertible enough and poor directions.
                prop_assert!(terms.len() > 1 || text.starts_with("generated") || text.contains('@'), "{}", error);
            }
        }
    }

    #[test]
    fn texts_of_the_groups_own_tokens_are_read_or_refused(text in text_of(&GROUP_TOKENS)) {
        match Group::parse(&text) {
            Ok(read) => prop_assert_eq!(&group(&read.to_string()).to_string(), &read.to_string()),
            Err(error) => is_shown(&error),
        }
    }

    #[test]
    fn texts_of_the_layouts_own_tokens_are_read_or_refused(
        text in text_of(&LAYOUT_TOKENS),
        under in prop::sample::select(vec![
            "C4", "D4 x S(nodes)", "O(3) x S(nodes)", "SE(2)", "Z2 x U(1) x Scale", "SO+(1,3)", "Oh",
        ]),
        shape in prop::collection::vec(0usize..9, 0..4),
    ) {
        let under = group(under);
        match Layout::parse(&text, &under) {
            Ok(read) => {
                let again = layout(&read.to_string(), &under);
                prop_assert_eq!(&again, &read, "{}", text);
                if let Ok(bound) = BoundLayout::new(&read, &shape, &under, "input `x`") {
                    let g = draw(&mut Draws(1), &under, &bound, 1);
                    let x = Draws(2).array(&shape);
                    prop_assert!(bound.act_on_real(&g, &x).shape() == &shape[..]);
                    prop_assert!(bound.act_transposed(&g, &x).shape() == &shape[..]);
                    bound.describe(&under);
                }
            }
            Err(error) => is_shown(&error),
        }
    }
}
