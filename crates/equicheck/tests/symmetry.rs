//! The action of elements on tensors: the laws of a representation, and every word against loops written by hand.

use std::collections::BTreeMap;

use equicheck::Error;
use equicheck::model::{DType, Tensor};
use equicheck::symmetry::{BoundLayout, Element, Group, Irreps, Layout};
use half::{bf16, f16};
use ndarray::{Array1, Array2, ArrayD, IxDyn, array};
use num_complex::Complex;
use proptest::prelude::*;

const NODES: usize = 5;
const EDGES: usize = 4;
const GROUP: &str = "E(3) x S(nodes) x S(edges)";

/// Layouts of real tensors, with a shape for each.
const REAL: [(&str, &[usize]); 21] = [
    ("", &[]),
    ("vector", &[3]),
    ("point", &[3]),
    ("pseudovector", &[3]),
    ("nodes", &[5]),
    ("nodes vector", &[5, 3]),
    ("nodes point", &[5, 3]),
    ("point nodes", &[3, 5]),
    ("nodes vector vector", &[5, 3, 3]),
    ("nodes vector channel", &[5, 3, 2]),
    ("nodes channel 2x0e+1o+1e+2e+0o+2x3o", &[5, 2, 28]),
    ("2x1o+0x2e+1e time", &[9, 2]),
    ("vector 1o+2e", &[3, 8]),
    ("pseudovector vector", &[3, 3]),
    ("nodes nodes", &[5, 5]),
    ("nodes edges vector", &[5, 4, 3]),
    ("batch heads nodes vector", &[2, 3, 5, 3]),
    ("... nodes vector", &[2, 2, 5, 3]),
    ("... vector", &[3]),
    ("3 vector", &[3, 3]),
    ("edges bins!", &[4, 6]),
];

fn group() -> Group {
    Group::parse(GROUP).unwrap()
}

fn bound_under(group: &Group, layout: &str, shape: &[usize]) -> BoundLayout {
    let layout = Layout::parse(layout, group).unwrap_or_else(|e| panic!("{e}"));
    BoundLayout::new(&layout, shape, group, "input `x`").unwrap_or_else(|e| panic!("{e}"))
}

fn bound(layout: &str, shape: &[usize]) -> BoundLayout {
    bound_under(&group(), layout, shape)
}

fn axes() -> BTreeMap<String, usize> {
    [("nodes".to_owned(), NODES), ("edges".to_owned(), EDGES)].into()
}

fn identity() -> Element {
    Element::identity(3, &axes())
}

/// Rodrigues' formula.
fn rotation(axis: [f64; 3], angle: f64) -> Array2<f64> {
    let norm = axis.iter().map(|a| a * a).sum::<f64>().sqrt();
    let [x, y, z] = axis.map(|a| a / norm);
    let cross = array![[0.0, -z, y], [z, 0.0, -x], [-y, x, 0.0]];
    Array2::eye(3) + &cross * angle.sin() + cross.dot(&cross) * (2.0 * (angle / 2.0).sin().powi(2))
}

/// An element with nothing special about it: improper, no entry zero, no involution.
fn generic() -> Element {
    identity()
        .with_linear(-rotation([0.3, -1.2, 0.5], 2.1))
        .with_translation(array![0.7, -1.9, 3.1])
        .with_permutation("nodes", vec![3, 0, 4, 2, 1])
        .with_permutation("edges", vec![2, 0, 3, 1])
}

/// Fixed, generic values: multiples of the golden ratio modulo 2, less 1.
fn values(shape: &[usize]) -> ArrayD<f64> {
    let n = shape.iter().product();
    let flat = (0..n).map(|k| (f64::from(k as u32 + 1) * 0.618_033_988_749_894_9).fract() * 2.0 - 1.0);
    ArrayD::from_shape_vec(IxDyn(shape), flat.collect()).unwrap()
}

fn act(layout: &str, element: &Element, tensor: &ArrayD<f64>) -> ArrayD<f64> {
    let layout = bound(layout, tensor.shape());
    let acted = layout.act(element, &Tensor::Float64(tensor.clone()));
    assert_eq!(acted.dtype(), DType::Float64);
    let acted = acted.to_real();
    assert_eq!(acted, layout.act_on_real(element, tensor), "both entrances do the same");
    acted
}

fn largest(values: impl IntoIterator<Item = f64>) -> f64 {
    values.into_iter().fold(0.0, |m, v| if v.abs() <= m { m } else { v.abs() })
}

#[track_caller]
fn assert_near(got: &ArrayD<f64>, wanted: &ArrayD<f64>, bar: f64, what: &str) {
    assert_eq!(got.shape(), wanted.shape(), "{what}");
    let error = largest((got - wanted).iter().copied());
    assert!(error <= bar, "{what}: off by {error:e}");
}

fn element() -> impl Strategy<Value = Element> {
    let axis = prop::array::uniform3(-1.0..1.0_f64)
        .prop_filter("an axis needs a length", |a| a.iter().map(|c| c * c).sum::<f64>() > 0.01);
    (
        axis,
        -std::f64::consts::PI..std::f64::consts::PI,
        any::<bool>(),
        prop::array::uniform3(-3.0..3.0_f64),
        Just((0..NODES).collect::<Vec<_>>()).prop_shuffle(),
        Just((0..EDGES).collect::<Vec<_>>()).prop_shuffle(),
    )
        .prop_map(|(axis, angle, improper, t, nodes, edges)| {
            let sign = if improper { -1.0 } else { 1.0 };
            identity()
                .with_linear(rotation(axis, angle) * sign)
                .with_translation(Array1::from(t.to_vec()))
                .with_permutation("nodes", nodes)
                .with_permutation("edges", edges)
        })
}

proptest! {
    // Without a file of past failures, which would be sought beside a lib.rs.
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 64, ..ProptestConfig::default() })]

    /// METHOD 2: homomorphism, inverse and orthogonality to 1e-12, for every word and products of words. Entries are
    /// below 1 + 3 (1 + sqrt 3) < 10, so 1e-12 absolute is 1e-13 relative at worst.
    #[test]
    fn every_layout_is_an_orthogonal_representation(g in element(), h in element()) {
        for (layout, shape) in REAL {
            let x = values(shape);
            let once = act(layout, &g.compose(&h), &x);
            let twice = act(layout, &g, &act(layout, &h, &x));
            assert_near(&once, &twice, 1e-12, &format!("`{layout}`: rho(g h) = rho(g) rho(h)"));
            let back = act(layout, &g.inverse(), &act(layout, &g, &x));
            assert_near(&back, &x, 1e-12, &format!("`{layout}`: rho(g^-1) rho(g) = 1"));
            // Differences of points turn without moving, hence y - x for every layout.
            let y = values(shape).mapv(|v| (7.0 * v).cos());
            let (gx, gy) = (act(layout, &g, &x), act(layout, &g, &y));
            let (before, after) = (&y - &x, &gy - &gx);
            let (before, after) =
                (before.iter().map(|v| v * v).sum::<f64>(), after.iter().map(|v| v * v).sum::<f64>());
            prop_assert!((before - after).abs() <= 1e-12 * before.max(1.0), "`{}`: lengths change", layout);
            if !layout.contains("point") {
                let (dot, turned) = ((&x * &y).sum(), (&gx * &gy).sum());
                prop_assert!((dot - turned).abs() <= 1e-12 * x.len() as f64, "`{}`: not orthogonal", layout);
            }
        }
    }

    #[test]
    fn every_index_layout_is_a_representation(g in element(), h in element()) {
        for (layout, shape, values) in [
            ("2 edges : nodes", &[2, 4][..], vec![0_i64, 1, 2, 3, 4, 4, 0, -1]),
            ("edges 2 : nodes | 9", &[4, 2], vec![0, 1, 2, 3, 4, 2, 9, -7]),
            ("edges edges : nodes | -1", &[4, 4], (0..16).map(|k| k % 7 - 1).collect()),
            (": edges", &[], vec![3]),
        ] {
            let layout = bound(layout, shape);
            let x = Tensor::Int64(ArrayD::from_shape_vec(IxDyn(shape), values).unwrap());
            prop_assert_eq!(layout.act(&g.compose(&h), &x), layout.act(&g, &layout.act(&h, &x)));
            prop_assert_eq!(layout.act(&g.inverse(), &layout.act(&g, &x)), x.clone());
            prop_assert_eq!(layout.act(&identity(), &x), x.clone());
            let real = layout.act_on_real(&g, &x.to_real());
            prop_assert_eq!(real, layout.act(&g, &x).to_real(), "both entrances do the same");
        }
    }

    #[test]
    fn elements_form_a_group(g in element(), h in element(), k in element()) {
        let near = |a: &Element, b: &Element| {
            let linear = largest((a.linear() - b.linear()).iter().copied());
            let shift = largest((a.translation() - b.translation()).iter().copied());
            linear.max(shift) < 1e-13
                && ["nodes", "edges"].iter().all(|axis| a.permutation(axis) == b.permutation(axis))
        };
        prop_assert!(near(&g.compose(&h).compose(&k), &g.compose(&h.compose(&k))));
        prop_assert!(near(&g.compose(&g.inverse()), &identity()));
        prop_assert!(near(&g.inverse().compose(&g), &identity()));
        prop_assert_eq!(&g.compose(&identity()), &g);
        prop_assert_eq!(g.compose(&h).determinant(), g.determinant() * h.determinant());
    }
}

#[test]
fn the_identity_returns_the_same_bits() {
    let odd = [-0.0, 0.0, f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 5e-324, f64::MAX, 1.0 / 3.0, -1e-40];
    for (layout, shape) in REAL {
        let n: usize = shape.iter().product();
        let flat = odd.iter().copied().cycle().take(n).collect();
        let x = ArrayD::from_shape_vec(IxDyn(shape), flat).unwrap();
        for dtype in [DType::Float64, DType::Float32] {
            let x = Tensor::from_real(x.clone(), dtype);
            assert!(bound(layout, shape).act(&identity(), &x).same_bits(&x), "`{layout}` {dtype:?}");
        }
        let same = bound(layout, shape).act_on_real(&identity(), &x);
        assert!(Tensor::Float64(same).same_bits(&Tensor::Float64(x)), "`{layout}`");
    }
}

#[test]
fn a_translation_leaves_what_is_no_point_bit_for_bit() {
    let shift = identity().with_translation(array![1.0, -2.0, 0.5]);
    // An infinite entry (padding) must not become nan by 0 times infinity.
    let x = array![-0.0, f64::INFINITY, 1.5].into_dyn();
    for layout in ["vector", "pseudovector", "1o", "1e"] {
        let moved = bound(layout, &[3]).act_on_real(&shift, &x);
        assert!(Tensor::Float64(moved).same_bits(&Tensor::Float64(x.clone())), "`{layout}`");
    }
    assert_eq!(act("point", &shift, &x), array![1.0, f64::INFINITY, 2.0].into_dyn());
}

#[test]
fn a_permutation_takes_entry_p_of_i_to_i() {
    let g = generic();
    let p = [3, 0, 4, 2, 1];
    let x = values(&[NODES, EDGES]);
    let moved = act("nodes edges", &g, &x);
    let q = [2, 0, 3, 1];
    for i in 0..NODES {
        for j in 0..EDGES {
            assert_eq!(moved[[i, j]], x[[p[i], q[j]]]);
        }
    }
    let letters = array![10.0, 11.0, 12.0, 13.0, 14.0].into_dyn();
    assert_eq!(act("nodes", &g, &letters), array![13.0, 10.0, 14.0, 12.0, 11.0].into_dyn());
}

/// The edges keep their order, their ends are renamed: node `v` has moved to position `p^-1[v]`.
#[test]
fn index_values_follow_the_nodes() {
    let p = vec![3, 0, 4, 2, 1];
    let g = identity().with_permutation("nodes", p);
    let layout = bound("2 edges : nodes | -1", &[2, 4]);
    let edges = array![[0_i64, 1, 2, -1], [3, 4, 5, 0]].into_dyn();
    // x'[i] = x[p[i]]: node 3 is now first, node 0 second, node 4 third, node 2 fourth, node 1 last.
    let wanted = array![[1_i64, 4, 3, -1], [0, 2, 5, 1]].into_dyn();
    assert_eq!(layout.act(&g, &Tensor::Int64(edges.clone())), Tensor::Int64(wanted));
    for dtype in ["int32", "int16", "int8"] {
        let narrow = match dtype {
            "int32" => Tensor::Int32(edges.mapv(|v| v as i32)),
            "int16" => Tensor::Int16(edges.mapv(|v| v as i16)),
            _ => Tensor::Int8(edges.mapv(|v| v as i8)),
        };
        let moved = layout.act(&g, &narrow);
        assert_eq!((moved.dtype().name(), moved.to_real()[[0, 1]]), (dtype, 4.0));
    }
    // A sentinel stays even where it could be a position (in an output; among inputs it is refused).
    let padded = bound("4 : nodes | 0", &[4]);
    let marked = Tensor::Int64(array![0_i64, 1, 2, 0].into_dyn());
    assert_eq!(padded.act(&g, &marked), Tensor::Int64(array![0_i64, 4, 3, 0].into_dyn()));
    // Rows and values of one tensor: parents in a tree, the root marked by 99.
    let tree = bound("nodes : nodes | 99", &[5]);
    let parents = Tensor::Int64(array![99_i64, 0, 1, 2, 3].into_dyn());
    // Rows move by p to (2, 99, 3, 1, 0), then 2 -> 3, 3 -> 0, 1 -> 4, 0 -> 1.
    assert_eq!(tree.act(&g, &parents), Tensor::Int64(array![3_i64, 99, 0, 4, 1].into_dyn()));
}

/// An adjacency matrix built from the permuted edge list is the permuted adjacency matrix, and messages passed along
/// the edges arrive at the permuted nodes.
#[test]
fn nodes_edges_and_adjacency_agree() {
    let pairs = [(0_usize, 1_usize), (1, 4), (2, 0), (3, 3)];
    let adjacency = |index: &Tensor| {
        let index = index.to_real();
        let mut matrix = ArrayD::zeros(IxDyn(&[NODES, NODES]));
        for e in 0..EDGES {
            matrix[[index[[0, e]] as usize, index[[1, e]] as usize]] = 1.0;
        }
        matrix
    };
    let messages = |x: &ArrayD<f64>, index: &Tensor| {
        let index = index.to_real();
        let mut sums = ArrayD::zeros(x.raw_dim());
        for e in 0..EDGES {
            for k in 0..3 {
                sums[[index[[1, e]] as usize, k]] += x[[index[[0, e]] as usize, k]];
            }
        }
        sums
    };
    let list =
        Array2::from_shape_fn(
            (2, EDGES),
            |(end, e)| {
                if end == 0 { pairs[e].0 as i64 } else { pairs[e].1 as i64 }
            },
        );
    let list = Tensor::Int64(list.into_dyn());
    let x = values(&[NODES, 3]);
    // Neither permutation is its own inverse; edges move too, which neither result may notice.
    let g = generic().with_linear(Array2::eye(3)).with_translation(Array1::zeros(3));
    let moved = bound("2 edges : nodes", &[2, EDGES]).act(&g, &list);
    assert_ne!(moved, list);
    assert_eq!(adjacency(&moved), act("nodes nodes", &g, &adjacency(&list)));
    let sums = messages(&act("nodes vector", &g, &x), &moved);
    assert_near(&sums, &act("nodes vector", &g, &messages(&x, &list)), 1e-15, "messages");
}

#[test]
fn vectors_points_and_tensors_by_hand() {
    let element = generic();
    let (g, t) = (element.linear().clone(), element.translation().clone());
    let p = [3, 0, 4, 2, 1];
    let x = values(&[NODES, 3]);
    let mut vector = ArrayD::<f64>::zeros(IxDyn(&[NODES, 3]));
    let mut point = vector.clone();
    for i in 0..NODES {
        for a in 0..3 {
            vector[[i, a]] = (0..3).map(|b| g[[a, b]] * x[[p[i], b]]).sum();
            point[[i, a]] = vector[[i, a]] + t[a];
        }
    }
    assert_near(&act("nodes vector", &element, &x), &vector, 1e-15, "g v");
    assert_near(&act("nodes point", &element, &x), &point, 4e-15, "g v + t");
    let transposed = x.clone().permuted_axes(IxDyn(&[1, 0]));
    let moved = act("point nodes", &element, &transposed.as_standard_layout().into_owned());
    assert_near(&moved.permuted_axes(IxDyn(&[1, 0])), &point, 4e-15, "the axis may come first");

    // A stress per node: g s g^T.
    let s = values(&[NODES, 3, 3]);
    let moved = act("nodes vector vector", &element, &s);
    for (i, &from) in p.iter().enumerate() {
        let block = Array2::from_shape_fn((3, 3), |(a, b)| s[[from, a, b]]);
        let wanted = g.dot(&block).dot(&g.t());
        let got = Array2::from_shape_fn((3, 3), |(a, b)| moved[[i, a, b]]);
        assert_near(&got.into_dyn(), &wanted.into_dyn(), 2e-15, "g s g^T");
    }
}

#[test]
fn pseudovectors_are_cross_products_of_vectors() {
    let cross = |a: &ArrayD<f64>, b: &ArrayD<f64>| {
        array![a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]].into_dyn()
    };
    let (a, b) = (array![0.3, -1.1, 0.8].into_dyn(), array![1.7, 0.2, -0.6].into_dyn());
    let improper = generic();
    let proper = improper.clone().with_linear(-improper.linear());
    let mirror = identity().with_linear(Array2::from_diag(&array![1.0, -1.0, 1.0]));
    assert_eq!([improper.determinant(), proper.determinant(), mirror.determinant()], [-1.0, 1.0, -1.0]);
    for element in [improper, proper, mirror] {
        let moved = cross(&act("vector", &element, &a), &act("vector", &element, &b));
        for layout in ["pseudovector", "1e"] {
            assert_near(&moved, &act(layout, &element, &cross(&a, &b)), 1e-14, layout);
        }
        // A triple product is a pseudoscalar; a dot product is none.
        let triple = |c: &ArrayD<f64>| array![(cross(&a, &b) * c).sum()].into_dyn();
        let c = array![0.4, 0.9, -1.3].into_dyn();
        let turned = array![(&moved * &act("vector", &element, &c)).sum()].into_dyn();
        assert_near(&turned, &act("0o", &element, &triple(&c)), 1e-14, "0o");
        let dot = array![(&a * &b).sum()].into_dyn();
        assert_eq!(act("0e", &element, &dot), dot);
    }
}

/// Solid harmonics of degree 2 in e3nn's order (m = -2..2 about y), as polynomials.
fn harmonics2(v: &ArrayD<f64>) -> [f64; 5] {
    let (x, y, z) = (v[0], v[1], v[2]);
    let root3 = 3.0_f64.sqrt();
    [
        root3 * x * z,
        root3 * x * y,
        y * y - 0.5 * (x * x + z * z),
        root3 * y * z,
        root3 * (z * z - x * x) / 2.0,
    ]
}

#[test]
fn irreps_carry_the_harmonics_of_turned_vectors() {
    let element = generic();
    let v = array![0.9, -0.4, 1.3].into_dyn();
    let turned = act("vector", &element, &v);
    let sum = |v: &ArrayD<f64>| {
        // 0e+2x1o+2e with two different copies of 1o.
        let mut all = vec![(v * v).sum()];
        all.extend(v.iter());
        all.extend(v.iter().map(|c| -2.0 * c));
        all.extend(harmonics2(v));
        ArrayD::from_shape_vec(IxDyn(&[12]), all).unwrap()
    };
    assert_near(&act("0e+2x1o+2e", &element, &sum(&v)), &sum(&turned), 1e-14, "Y(g v) = D(g) Y(v)");
}

/// Strides: irreps between other axes, against the dense matrix (itself tested against e3nn in irreps.rs).
#[test]
fn irreps_act_along_their_own_axis() {
    let element = generic();
    let text = "2x0o+1e+0x4e+2x2o";
    let dense = text.parse::<Irreps>().unwrap().dense(&element.linear().view());
    let x = values(&[NODES, 15, 2]);
    let moved = act(&format!("nodes {text} channel"), &element, &x);
    let p = [3, 0, 4, 2, 1];
    for i in 0..NODES {
        for a in 0..15 {
            for c in 0..2 {
                let wanted: f64 = (0..15).map(|b| dense[[a, b]] * x[[p[i], b, c]]).sum();
                assert!((moved[[i, a, c]] - wanted).abs() < 1e-14, "{i} {a} {c}");
            }
        }
    }
}

/// (g, t)(h, s) = (g h, g s + t), on numbers small enough to check by eye.
#[test]
fn points_compose_as_in_e3() {
    let quarter = array![[0.0, -1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]];
    let g = identity().with_linear(quarter).with_translation(array![10.0, 0.0, 0.0]);
    let h = identity().with_linear(-Array2::<f64>::eye(3)).with_translation(array![1.0, 2.0, 3.0]);
    // h: (1, 0, 0) -> (-1, 0, 0) + (1, 2, 3) = (0, 2, 3); g: turned to (-2, 0, 3), moved to (8, 0, 3).
    let x = array![1.0, 0.0, 0.0].into_dyn();
    let both = g.compose(&h);
    assert_eq!(both.translation(), &array![8.0, 1.0, 3.0]);
    assert_eq!(act("point", &both, &x), array![8.0, 0.0, 3.0].into_dyn());
    assert_eq!(act("vector", &both, &x), array![0.0, -1.0, 0.0].into_dyn());
    // The other order: g: (1, 0, 0) -> (0, 1, 0) + (10, 0, 0); h: (-10, -1, 0) + (1, 2, 3).
    assert_eq!(act("point", &h.compose(&g), &x), array![-9.0, 1.0, 3.0].into_dyn());
    assert_eq!(g.inverse().translation(), &array![0.0, 10.0, 0.0]);
}

#[test]
fn an_axis_that_one_element_lacks_is_not_permuted_by_it() {
    let some = Element::identity(0, &BTreeMap::new()).with_permutation("a", vec![1, 2, 0]);
    let other = Element::identity(0, &BTreeMap::new()).with_permutation("b", vec![1, 0]);
    for product in [some.compose(&other), other.compose(&some)] {
        assert_eq!(product.permutation("a"), Some(&[1, 2, 0][..]));
        assert_eq!(product.permutation("b"), Some(&[1, 0][..]));
    }
    assert_eq!(some.compose(&some).permutation("a"), Some(&[2, 0, 1][..]));
}

#[test]
fn complex_tensors_turn_as_two_real_ones() {
    let element = generic();
    let (re, im) = (values(&[NODES, 3]), values(&[NODES, 3]).mapv(|v| (5.0 * v).sin()));
    let join = |re: &ArrayD<f64>, im: &ArrayD<f64>| {
        let mut z = re.mapv(|v| Complex::new(v, 0.0));
        z.zip_mut_with(im, |z, v| z.im = *v);
        Tensor::Complex128(z)
    };
    for layout in ["nodes vector", "nodes 1e", "nodes pseudovector", "nodes channel"] {
        let moved = bound(layout, &[NODES, 3]).act(&element, &join(&re, &im));
        assert_eq!(moved, join(&act(layout, &element, &re), &act(layout, &element, &im)), "`{layout}`");
    }
    // t is real: it moves the real part alone.
    for (layout, shape) in [("nodes point", [NODES, 3]), ("point edges", [3, EDGES])] {
        let linear = layout.replace("point", "vector");
        let (re, im) = (values(&shape), values(&shape).mapv(|v| (5.0 * v).sin()));
        let moved = bound(layout, &shape).act(&element, &join(&re, &im));
        assert_eq!(moved, join(&act(layout, &element, &re), &act(&linear, &element, &im)), "`{layout}`");
    }
    let single = Tensor::Complex64(re.mapv(|v| Complex::new(v as f32, -v as f32)));
    let moved = bound("nodes vector", &[NODES, 3]).act(&element, &single);
    assert_eq!((moved.dtype(), moved.shape()), (DType::Complex64, &[NODES, 3][..]));
}

/// The number of the type nearest to `v`, ties to even, by looking at the neighbours of a first guess.
fn nearest(v: f64, dtype: DType) -> f64 {
    let (bits, widen): (u32, fn(u32) -> f64) = match dtype {
        DType::Float16 => (f16::from_f64(v).to_bits().into(), |b| f16::from_bits(b as u16).to_f64()),
        DType::BFloat16 => (bf16::from_f64(v).to_bits().into(), |b| bf16::from_bits(b as u16).to_f64()),
        _ => ((v as f32).to_bits(), |b| f32::from_bits(b).into()),
    };
    let candidates = [bits.saturating_sub(1), bits, bits + 1];
    let better = |a: &&u32, b: &&u32| {
        let distance = |b: u32| (widen(b) - v).abs();
        distance(**a).total_cmp(&distance(**b)).then((**a % 2).cmp(&(**b % 2)))
    };
    widen(*candidates.iter().min_by(better).unwrap())
}

#[test]
fn low_precision_is_rounded_once() {
    let element = generic();
    let x = values(&[NODES, 3]);
    for dtype in [DType::Float16, DType::BFloat16, DType::Float32, DType::Float64] {
        let layout = bound("nodes point", &[NODES, 3]);
        let rounded = Tensor::from_real(x.clone(), dtype);
        let moved = layout.act(&element, &rounded);
        assert_eq!(moved.dtype(), dtype);
        let exact = layout.act_on_real(&element, &rounded.to_real());
        for (got, exact) in moved.to_real().iter().zip(&exact) {
            let wanted = if dtype == DType::Float64 { *exact } else { nearest(*exact, dtype) };
            assert_eq!(*got, wanted, "{dtype:?}: {exact}");
        }
    }
    // Just above and below the middle between two numbers, by less than single precision can tell: rounding to
    // single precision on the way would make it a tie.
    for (dtype, u) in [(DType::Float16, 2f64.powi(-11)), (DType::BFloat16, 2f64.powi(-8))] {
        for (shift, wanted) in [
            (u + 2f64.powi(-40), 1.0 + 2.0 * u),
            (u - 2f64.powi(-40), 1.0),
            (u, 1.0),
            (3.0 * u - 2f64.powi(-40), 1.0 + 2.0 * u),
            (3.0 * u, 1.0 + 4.0 * u),
        ] {
            let one = Tensor::from_real(ArrayD::ones(IxDyn(&[3])), dtype);
            let shift = identity().with_translation(Array1::from_elem(3, shift));
            let moved = bound("point", &[3]).act(&shift, &one).to_real();
            assert!(moved.iter().all(|v| *v == wanted), "{dtype:?}: {moved} is not {wanted}");
        }
    }
}

#[test]
fn special_values_survive_the_narrow_types() {
    for dtype in [DType::Float16, DType::BFloat16, DType::Float32] {
        let x = array![-0.0, f64::INFINITY, f64::NEG_INFINITY, f64::NAN, 1e300, -1e300, 1e-300].into_dyn();
        let narrow = Tensor::from_real(x, dtype).to_real();
        assert!(narrow[0] == 0.0 && narrow[0].is_sign_negative(), "{dtype:?}");
        assert_eq!([narrow[1], narrow[2]], [f64::INFINITY, f64::NEG_INFINITY]);
        assert!(narrow[3].is_nan());
        assert_eq!([narrow[4], narrow[5], narrow[6]], [f64::INFINITY, f64::NEG_INFINITY, 0.0]);
    }
    // Every finite number of half precision comes back, subnormal ones included.
    for bits in 0..0x7c00_u16 {
        for sign in [0, 0x8000] {
            let wide = f16::from_bits(bits | sign).to_f64();
            let Tensor::Float16(back) =
                Tensor::from_real(ArrayD::from_elem(IxDyn(&[]), wide), DType::Float16)
            else {
                panic!("the type asked for")
            };
            assert_eq!(back.first().unwrap().to_bits(), bits | sign);
        }
    }
}

#[test]
fn integers_and_masks_are_permuted_and_keep_their_type() {
    let element = generic();
    let p = [3, 0, 4, 2, 1];
    let layout = bound("nodes", &[NODES]);
    let numbers = array![1_i64 << 60, (1 << 60) + 1, -3, 4, i64::MIN].into_dyn();
    let wanted: Vec<i64> = p.iter().map(|&i| numbers[i]).collect();
    assert_eq!(
        layout.act(&element, &Tensor::Int64(numbers.clone())),
        Tensor::Int64(Array1::from(wanted).into_dyn())
    );
    let mask = Tensor::Bool(array![true, false, false, false, true].into_dyn());
    assert_eq!(layout.act(&element, &mask), Tensor::Bool(array![false, true, true, false, false].into_dyn()));
    let bytes = Tensor::UInt8(array![0_u8, 50, 100, 150, 255].into_dyn());
    assert_eq!(layout.act(&element, &bytes), Tensor::UInt8(array![150_u8, 0, 255, 100, 50].into_dyn()));
}

#[test]
fn axes_without_meaning_stay() {
    let element = generic();
    for (layout, shape) in [
        ("", &[][..]),
        ("3", &[3]),
        ("batch channel features time heads classes graphs", &[1, 2, 1, 3, 2, 1, 3]),
        ("...", &[3, 5]),
        ("... atoms!", &[2, 5]),
        ("nodes! 3", &[5, 3]),
        ("4x0e", &[4]),
    ] {
        let x = values(shape);
        assert_eq!(act(layout, &element, &x), x, "`{layout}`");
    }
    // A group that does not act on space turns nothing, one without improper elements keeps pseudovectors vectors.
    let permutations = Group::parse("S(nodes)").unwrap();
    let layout = bound_under(&permutations, "nodes vector 2x1o", &[NODES, 7, 6]);
    let p = Element::identity(0, &axes()).with_permutation("nodes", vec![3, 0, 4, 2, 1]);
    let x = values(&[NODES, 7, 6]);
    let moved = layout.act_on_real(&p, &x);
    assert_eq!(moved[[0, 6, 5]], x[[3, 6, 5]]);
}

#[test]
fn shapes_that_do_not_fit_say_why() {
    let cases = [
        ("nodes vector", &[5][..], "it names 2 axes, the tensor has 1"),
        ("", &[2], "it names 0 axes, the tensor has 1"),
        ("... nodes vector", &[3], "it names 2 axes after `...`, the tensor has 1"),
        ("nodes vector", &[5, 4], "`vector` needs length 3, axis 1 has 4"),
        ("... point", &[5, 2, 2], "`point` needs length 3, axis 2 has 2"),
        ("pseudovector", &[1], "`pseudovector` needs length 3, axis 0 has 1"),
        ("3 vector", &[2, 3], "`3` needs length 3, axis 0 has 2"),
        ("nodes 8x0e + 4x1o", &[5, 21], "`8x0e+4x1o` needs length 20, axis 1 has 21"),
    ];
    for (text, shape, why) in cases {
        let layout = Layout::parse(text, &group()).unwrap();
        let error = BoundLayout::new(&layout, shape, &group(), "input `pos`").unwrap_err();
        let Error::Shape { why: ref got, .. } = error else { panic!("{error}") };
        assert_eq!(got, why);
        let message = error.to_string();
        let start = format!("input `pos`: layout `{layout}` does not fit shape {shape:?}: ");
        assert_eq!(message, start + why);
    }
    let flat = Group::parse("SE(2)").unwrap();
    let layout = Layout::parse("nodes vector", &flat).unwrap();
    let error = BoundLayout::new(&layout, &[5, 3], &flat, "x").unwrap_err();
    assert!(error.to_string().ends_with("`vector` needs length 2, axis 1 has 3"));
}

#[test]
fn which_factors_move_a_layout() {
    let moved = |layout: &str, shape: &[usize], group: &str| {
        let group = Group::parse(group).unwrap();
        let layout = bound_under(&group, layout, shape);
        let names = group.factors().into_iter().filter(|f| layout.is_moved_by(f)).map(|f| f.to_string());
        names.collect::<Vec<_>>().join(" ")
    };
    let all = "E(3) x S(nodes)";
    assert_eq!(moved("nodes point", &[5, 3], all), "O(3) T(3) S(nodes)");
    assert_eq!(moved("nodes vector", &[5, 3], all), "O(3) S(nodes)");
    assert_eq!(moved("pseudovector", &[3], all), "O(3)");
    assert_eq!(moved("4x0e", &[4], all), "");
    assert_eq!(moved("4x0o", &[4], all), "O(3)");
    assert_eq!(moved("4x0o", &[4], "SO(3)"), "");
    assert_eq!(moved("1e", &[3], "SO(3)"), "SO(3)");
    assert_eq!(moved("2 edges : nodes", &[2, 4], all), "S(nodes)");
    assert_eq!(moved("nodes! 3", &[5, 3], all), "");
    assert_eq!(moved("point", &[2], "T(2)"), "T(2)");
}

#[test]
fn layouts_are_described_in_words() {
    let described = |layout: &str, shape: &[usize], group: &str| {
        let group = Group::parse(group).unwrap();
        bound_under(&group, layout, shape).describe(&group)
    };
    let all = "E(3) x S(nodes)";
    assert_eq!(
        described("nodes point", &[5, 3], all),
        "axis 0 permuted with `nodes`; axis 1 turned and translated as a point (g v + t)"
    );
    assert_eq!(described("... vector", &[5, 3], all), "axis 1 turned as a vector (g v), not translated");
    assert_eq!(described("pseudovector", &[3], all), "axis 0 turned as an axial vector (det(g) g v)");
    assert_eq!(described("pseudovector", &[3], "SO(3)"), "axis 0 turned as a vector (g v)");
    assert_eq!(described("2x1o", &[6], all), "axis 0 turned by Wigner D with parity of 2x1o, e3nn basis");
    assert_eq!(described("2x1o", &[6], "SE(3)"), "axis 0 turned by Wigner D of 2x1o, e3nn basis");
    assert_eq!(described("point", &[3], "T(3)"), "axis 0 translated as a point (v + t)");
    assert_eq!(
        described("2 edges : nodes | -1", &[2, 4], all),
        "values relabelled as positions along `nodes`, -1 kept"
    );
    assert_eq!(described("vector", &[3], "T(3)"), "not moved");
    assert_eq!(described("nodes!", &[3], all), "not moved");
}

#[test]
fn a_plain_axis_as_long_as_space_is_suspicious() {
    let suspicious = |layout: &str, shape: &[usize]| bound(layout, shape).suspicious_axes(&group());
    assert_eq!(suspicious("nodes 3", &[5, 3]), ["3"]);
    assert!(suspicious("nodes 4", &[5, 4]).is_empty());
    assert!(suspicious("3 vector", &[3, 3]).is_empty(), "a lattice");
    assert!(suspicious("3 edges : nodes", &[3, 4]).is_empty(), "triplets");
    let permutations = Group::parse("S(nodes)").unwrap();
    assert!(bound_under(&permutations, "nodes 3", &[5, 3]).suspicious_axes(&permutations).is_empty());
}

#[test]
fn elements_are_described_in_words() {
    let described = |linear: Array2<f64>| {
        let n = linear.nrows();
        Element::identity(n, &BTreeMap::new()).with_linear(linear).to_string()
    };
    assert_eq!(identity().to_string(), "identity");
    assert!(identity().is_identity() && !generic().is_identity());
    let turn = rotation([0.0, 0.6, 0.8], 0.5);
    assert_eq!(described(turn.clone()), "rotation by 28.65 degrees about (0.0000, 0.6000, 0.8000)");
    assert_eq!(described(-turn), "rotation by 28.65 degrees about (0.0000, 0.6000, 0.8000), with inversion");
    assert_eq!(described(-Array2::<f64>::eye(3)), "inversion");
    let half = rotation([0.6, 0.0, 0.8], std::f64::consts::PI);
    assert_eq!(described(half), "rotation by 180.00 degrees about (0.6000, 0.0000, 0.8000)");
    // The axis of a small turn is still its axis, and rounding is no inversion.
    let small = rotation([0.0, 1.0, 0.0], 1e-7);
    assert_eq!(described(small), "rotation by 0.00 degrees about (0.0000, 1.0000, 0.0000)");
    let mut rounded = Array2::eye(3);
    rounded[[0, 0]] = 1.0 - f64::EPSILON;
    assert_eq!(described(rounded.clone()), "rotation by 0.00 degrees");
    assert_eq!(described(-rounded), "inversion");
    let (s, c) = 0.5_f64.sin_cos();
    assert_eq!(described(array![[c, -s], [s, c]]), "rotation by 28.65 degrees");
    assert_eq!(described(array![[c, s], [s, -c]]), "reflection in the line at 14.32 degrees");
    assert_eq!(described(-Array2::<f64>::eye(5)), "orthogonal matrix in dimension 5, determinant -1");
    let joint = identity()
        .with_translation(array![1.0, -2.5, 0.0])
        .with_permutation("nodes", (0..20).rev().collect())
        .with_permutation("edges", vec![1, 0]);
    assert_eq!(
        joint.to_string(),
        "translation by (1.0000, -2.5000, 0.0000); permutation of edges [1 0]; \
         permutation of nodes [19 18 17 16 15 14 13 12 11 10 9 8 ...]"
    );
}

/// Flattened axes are taken apart row-major, by the lengths that sizes, representations and other tensors tell.
#[test]
fn flattened_axes_act_as_their_parts() {
    let group = Group::parse("E(3) x S(nodes)").unwrap();
    let layout = |text: &str| Layout::parse(text, &group).unwrap();
    let flat = BoundLayout::new(&layout("(nodes vector) channel"), &[12, 2], &group, "x").unwrap();
    let apart = BoundLayout::new(&layout("nodes vector channel"), &[4, 3, 2], &group, "x").unwrap();
    let g = array![[0.0, -1.0, 0.0], [0.6, 0.0, -0.8], [0.8, 0.0, 0.6]];
    let element = Element::identity(3, &BTreeMap::from([("nodes".to_owned(), 4)]))
        .with_linear(g)
        .with_permutation("nodes", vec![2, 0, 3, 1]);
    let values = ArrayD::from_shape_fn(vec![4, 3, 2], |i| (i[0] * 7 + i[1] * 3 + i[2]) as f64 * 0.37 - 2.0);
    let moved = apart.act_on_real(&element, &values);
    let flattened = values.to_shape(vec![12, 2]).unwrap().to_owned();
    let moved_flat = flat.act_on_real(&element, &flattened);
    assert_ne!(moved_flat, flattened);
    assert_eq!(moved_flat, moved.to_shape(vec![12, 2]).unwrap());
    assert_eq!(flat.act(&element, &Tensor::Float64(flattened)).to_real(), moved_flat);
    let zero = flat.difference(&element, &moved_flat, &moved_flat);
    assert_eq!(zero, ArrayD::<f64>::zeros(vec![12, 2]));
    let known = BTreeMap::from([("graphs".to_owned(), 2)]);
    let two = layout("(graphs channel) vector");
    assert!(BoundLayout::with_lengths(&two, &[6, 3], &group, "x", &known).is_ok());
    let error = BoundLayout::with_lengths(&two, &[7, 3], &group, "x", &known).unwrap_err().to_string();
    assert!(error.contains("7 entries cannot be taken apart as `(graphs=2 channel)`"), "{error}");
    let error = BoundLayout::new(&two, &[6, 3], &group, "x").unwrap_err().to_string();
    assert!(
        error.contains("`graphs` and `channel` in `(graphs channel)` are told by no other tensor"),
        "{error}"
    );
}
