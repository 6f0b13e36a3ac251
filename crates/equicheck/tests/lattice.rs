//! Coordinates in a lattice and modulo it, and outputs that are defined up to a phase or to the order of their rows.

use std::collections::BTreeMap;

use equicheck::audit::Specification;
use equicheck::model::{DType, Tensor};
use equicheck::symmetry::lie::rotation_exp;
use equicheck::symmetry::tensors::{cartesian_to_fractional, fractional_to_cartesian, wrap_difference};
use equicheck::symmetry::{
    Axis, BoundLayout, Element, Group, Lattice, Layout, Representation, Representations, UpTo,
};
use ndarray::{Array1, Array2, ArrayD, IxDyn, array};
use num_complex::Complex64;
use proptest::prelude::*;

fn group(text: &str) -> Group {
    Group::parse(text).unwrap_or_else(|error| panic!("{error}"))
}

fn bind(text: &str, under: &str, shape: &[usize]) -> BoundLayout {
    let under = group(under);
    let layout = Layout::parse(text, &under).unwrap_or_else(|error| panic!("{error}"));
    BoundLayout::new(&layout, shape, &under, "input `x`").unwrap_or_else(|error| panic!("{error}"))
}

/// The lattice of input `cell`, `3 vector` or `graphs 3 vector`.
fn lattice(values: &ArrayD<f64>, under: &str) -> Lattice {
    let text = if values.ndim() == 3 { "graphs 3 vector" } else { "3 vector" };
    let layout = bind(text, under, values.shape());
    Lattice::new("cell", &Tensor::Float64(values.clone()), Some(&layout)).unwrap()
}

fn in_cell(text: &str, under: &str, shape: &[usize], cell: &Array2<f64>) -> BoundLayout {
    let lattices = BTreeMap::from([("cell".to_owned(), lattice(&cell.clone().into_dyn(), under))]);
    bind(text, under, shape).in_lattices(&lattices, &BTreeMap::new(), "input `x`").unwrap()
}

fn largest(values: &ArrayD<f64>) -> f64 {
    values.iter().fold(0.0, |m: f64, v| m.max(v.abs()))
}

fn matrix(values: &ArrayD<f64>) -> Array2<f64> {
    values.clone().into_dimensionality().unwrap()
}

#[test]
fn words_on_lattices_are_read_and_printed() {
    let axis = Axis::of;
    let modulo = |cell: &str| axis(Representation::PointModulo(cell.to_owned()));
    let fractional = |cell: &str| axis(Representation::Fractional(cell.to_owned()));
    for (text, last, printed) in [
        ("nodes point mod cell", modulo("cell"), "nodes point mod cell"),
        ("nodes  point\tmod   batch.cell ", modulo("batch.cell"), "nodes point mod batch.cell"),
        ("nodes fractional(cell)", fractional("cell"), "nodes fractional(cell)"),
        ("nodes fractional ( 0.cell )", fractional("0.cell"), "nodes fractional(0.cell)"),
        ("fractional(b-c)", fractional("b-c"), "fractional(b-c)"),
    ] {
        let under = group("SE(3) x S(nodes)");
        let Ok(read) = Layout::parse(text, &under) else {
            // A space before the parenthesis starts another word, as it does everywhere.
            assert!(text.contains("fractional ("), "{text}");
            continue;
        };
        assert_eq!(read.axes().last(), Some(&last), "{text}");
        assert_eq!(read.to_string(), printed);
        assert_eq!(read.cells().count(), 1);
        assert_eq!(Layout::parse(printed, &under).unwrap(), read);
    }
    // Parts of direct sums and of flattened axes.
    let under = group("SE(3)");
    for text in
        ["2*scalar+point mod cell", "point mod cell+2*scalar", "2*point mod cell", "(graphs point mod cell)"]
    {
        let read = Layout::parse(text, &under).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!((read.to_string().as_str(), read.cells().collect::<Vec<_>>()), (text, vec!["cell"]));
    }
    for (text, up_to) in [
        ("vector ~ phase", UpTo::Phase),
        ("edges vector ~ S(edges)", UpTo::Order("edges".to_owned())),
        ("pairs! ~  S( pairs )", UpTo::Order("pairs".to_owned())),
        ("2 edges : nodes ~ S(edges)", UpTo::Order("edges".to_owned())),
    ] {
        let under = group("SO(3) x S(nodes)");
        let read = Layout::parse(text, &under).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(read.up_to(), Some(&up_to), "{text}");
        assert_eq!(Layout::parse(&read.to_string(), &under).unwrap(), read);
    }
}

#[test]
fn errors_point_at_the_words() {
    let lattice = "the input that holds the lattice vectors is not named";
    let affine = "cannot be combined with another axis";
    for (text, mark, message, help) in [
        ("nodes point mod", "point mod", lattice, "example: `point mod cell`"),
        ("nodes point mod 3+2", "3", "no input `3`", "inputs: pos, cell, batch.cell"),
        ("nodes fractional", "fractional", lattice, "example: `fractional(cell)`"),
        ("nodes fractional()", "fractional()", lattice, "example: `fractional(cell)`"),
        ("nodes fractional(a b)", "fractional(a b)", lattice, "example"),
        ("nodes fractional(cell", "fractional(cell", lattice, "example"),
        ("nodes fractional(cel)", "cel", "no input `cel`", "did you mean `cell`?"),
        ("nodes point mod batch.cel", "batch.cel", "no input `batch.cel`", "did you mean `batch.cell`?"),
        (
            "nodes fractional(lattice)",
            "lattice",
            "no input `lattice`",
            "lattice vectors as rows; inputs: pos",
        ),
        ("nodes fractionl(cell)", "fractionl(cell)", "unknown word", "did you mean `fractional(cell)`?"),
        ("nodes mod cell", "mod", "unknown word `mod`", ""),
        ("vector point mod cell", "point mod cell", affine, "`vector`"),
        ("fractional(cell) vector", "fractional(cell)", affine, "`vector`"),
        ("point mod cell ~ sign", "sign", "not up to a sign as well", "drop one"),
        ("fractional(cell) ~ phase", "phase", "not up to a phase as well", "drop one"),
        ("edges vector ~ S(edge)", "S(edge)", "no plain axis `edge`", "did you mean `~ S(edges)`?"),
        ("edges vector ~ S(pairs)", "S(pairs)", "no plain axis `pairs`", "plain axes of the layout: edges"),
        ("vector ~ S(edges)", "S(edges)", "no plain axis `edges`", "example: `edges vector ~ S(edges)`"),
        ("edges vector ~ S()", "S()", "no plain axis ``", ""),
        ("edges vector ~ S(edges", "S(edges", "no plain axis ``", ""),
        ("nodes vector ~ S(nodes)", "S(nodes)", "the group permutes `nodes`", "drop the clause"),
        ("edges edges ~ S(edges)", "S(edges)", "`edges` stands for several axes", "`edges2!`"),
        ("edges vector ~ edges", "edges", "not supported", "`~ sign`, `~ phase` and `~ S(axis)` are"),
        ("edges vector ~ S", "S", "not supported", "`~ S(axis)`"),
    ] {
        let under = group("SE(3) x S(nodes)");
        let error = match Layout::parse_with(
            text,
            &under,
            &Representations::default(),
            Some(&["pos", "cell", "batch.cell"]),
        ) {
            Ok(read) => panic!("`{text}` was read as `{read}`"),
            Err(error) => error,
        };
        assert_eq!(&text[error.span.clone()], mark, "{error}");
        assert!(error.message.contains(message), "{error}");
        assert!(error.help.as_ref().is_some_and(|h| h.contains(help)), "{error}");
    }
}

#[test]
fn what_holds_no_lattice_is_refused() {
    let refused = |values: ArrayD<f64>, dtype: DType| {
        let tensor = Tensor::from_real(values, dtype);
        Lattice::new("cell", &tensor, None).expect_err("no lattice").to_string()
    };
    let cubic = Array2::<f64>::eye(3).into_dyn();
    for (values, why) in [
        (ArrayD::ones(IxDyn(&[3])), "give the lattice vectors as rows, shape (n, n)"),
        (ArrayD::ones(IxDyn(&[9])), "shape (n, n)"),
        (ArrayD::ones(IxDyn(&[3, 2])), "shape (n, n)"),
        (ArrayD::ones(IxDyn(&[0, 0])), "shape (n, n)"),
        (ArrayD::ones(IxDyn(&[])), "shape (n, n)"),
        (ArrayD::ones(IxDyn(&[3, 3])), "the cell is singular: give linearly independent vectors"),
        (&cubic * f64::NAN, "the cell is not finite"),
        (ndarray::stack![ndarray::Axis(0), cubic, &cubic * 0.0].into_dyn(), "cell 1 is singular"),
    ] {
        let text = refused(values, DType::Float64);
        assert!(text.contains("input `cell`") && text.contains(why), "{text}");
    }
    let pairs = ArrayD::ones(IxDyn(&[3, 3, 2]));
    assert!(refused(pairs, DType::Complex128).contains("lattice vectors are real"));
    // A cell of the plane for coordinates of space.
    let plane = Lattice::new("cell", &Tensor::Float64(Array2::eye(2).into_dyn()), None).unwrap();
    let error = bind("nodes fractional(cell)", "SE(3)", &[4, 3])
        .in_lattices(&BTreeMap::from([("cell".to_owned(), plane)]), &BTreeMap::new(), "output `y`")
        .unwrap_err()
        .to_string();
    assert!(error.contains("output `y`") && error.contains("is 2 x 2, and it has 3 coordinates"), "{error}");
}

#[test]
fn a_lattice_turns_with_what_lies_in_it() {
    let specify = |group: &str, cell: Option<&str>| {
        let inputs = [("frac", Some("nodes fractional(cell)")), ("cell", cell)];
        let owned = |(name, text): (&str, Option<&str>)| (name.to_owned(), text.map(str::to_owned));
        Specification::parse(group, &inputs.map(owned), &[("output".to_owned(), Some("nodes".to_owned()))])
    };
    for (under, cell) in [
        ("SE(3)", Some("3 vector")),
        ("E(3) x Scale", Some("3 vector scale^1")),
        ("SE(3)", Some("graphs 3 vector")),
        ("T(3)", Some("3 3")),
        ("T(3)", None),
    ] {
        specify(under, cell).unwrap_or_else(|error| panic!("{error}"));
    }
    for (cell, written) in [(Some("3 3"), "`3 3`"), (None, "None"), (Some("vector 3"), "`vector 3`")] {
        let error = specify("SE(3)", cell).unwrap_err().to_string();
        for part in ["input `cell`", "`SE(3)` turns", written, "write `3 vector`"] {
            assert!(error.contains(part), "{error}");
        }
    }
    let missing = specify("SE(3)", Some("3 vector"));
    assert!(missing.is_ok());
    let inputs = [("frac".to_owned(), Some("nodes fractional(cel)".to_owned()))];
    let error = Specification::parse("T(3)", &inputs, &[]).unwrap_err().to_string();
    assert!(error.contains("layout of input `frac`: no input `cel`"), "{error}");
}

#[test]
fn fractional_coordinates_move_by_the_translation_in_the_cell() {
    // Twice as long along x, so that half as much of it is travelled.
    let cell = array![[2.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 1.0, 1.0]];
    let bound = in_cell("nodes fractional(cell)", "T(3)", &[1, 3], &cell);
    let t = Element::identity(3, &BTreeMap::new()).with_translation(array![1.0, 3.0, 1.0]);
    let f = array![[0.25, 0.5, 0.75]].into_dyn();
    // t = 0.5 a + 2 b + 1 c.
    assert_eq!(bound.act_on_real(&t, &f), array![[0.75, 2.5, 1.75]].into_dyn());
    assert_eq!(bound.act_transposed(&t, &f), f, "the linear part is 1");
    let apart = bound.difference(&t, &array![[0.99, 0.5, -3.25]].into_dyn(), &f);
    assert!(largest(&(apart - array![[-0.26, 0.0, 0.0]].into_dyn())) < 1e-15);
    // Entries keep their bits where nothing is wrapped.
    let near = bound.difference(&t, &array![[0.25 + 1e-17, 0.5, 0.7]].into_dyn(), &f);
    assert_eq!(near, array![[0.0, 0.0, 0.7 - 0.75]].into_dyn());
}

#[test]
fn words_tell_what_is_done_without_a_cell() {
    let words = |text: &str, under: &str, shape: &[usize]| bind(text, under, shape).describe(&group(under));
    assert_eq!(
        words("nodes fractional(cell)", "SE(3)", &[5, 3]),
        "axis 1 moved by t C^-1, C being the lattice vectors in `cell`; compared modulo 1"
    );
    assert_eq!(words("nodes fractional(cell)", "O(3)", &[5, 3]), "not moved; compared modulo 1");
    assert_eq!(
        words("nodes point mod cell", "SE(3)", &[5, 3]),
        "axis 1 turned and translated as a point (g v + t); compared modulo the lattice of `cell`"
    );
    assert_eq!(
        words("edges vector ~ S(edges)", "SO(3)", &[5, 3]),
        "axis 1 turned as a vector (g v), not translated; compared up to the order of rows along `edges`"
    );
    assert!(words("vector ~ phase", "SO(3)", &[3]).ends_with("compared up to phase"));
}

#[test]
fn several_cells_belong_to_an_axis_or_to_segments() {
    let cells = array![
        [[2.0, 0.0, 0.0], [0.0, 2.0, 0.0], [0.0, 0.0, 2.0]],
        [[4.0, 0.0, 0.0], [1.0, 5.0, 0.0], [0.0, 1.0, 8.0]]
    ]
    .into_dyn();
    let t = array![1.0, 2.0, 4.0];
    let shift = |k: usize| {
        let cell: Array2<f64> = matrix(&cells.index_axis(ndarray::Axis(0), k).to_owned());
        cartesian_to_fractional(&t.clone().insert_axis(ndarray::Axis(0)), &cell).unwrap().row(0).to_owned()
    };
    let labels = BTreeMap::from([("nodes".to_owned(), vec![1, 0, 1])]);
    // By an axis that both layouts name.
    let under = "T(3) x S(graphs)";
    let named = BTreeMap::from([("cell".to_owned(), lattice(&cells, under))]);
    let bound = bind("nodes graphs fractional(cell)", under, &[3, 2, 3]);
    let bound = bound.in_lattices(&named, &BTreeMap::new(), "input `x`").unwrap();
    let identity = Element::identity(3, &BTreeMap::from([("graphs".to_owned(), 2)]));
    let element = identity.clone().with_translation(t.clone());
    let zero = ArrayD::zeros(IxDyn(&[3, 2, 3]));
    let moved = bound.act_on_real(&element, &zero);
    for (index, v) in moved.indexed_iter() {
        assert!((v - shift(index[1])[index[2]]).abs() < 1e-15);
    }
    // A permutation of the structures takes their cells along.
    let swapped = bound.act_on_real(&element.with_permutation("graphs", vec![1, 0]), &zero);
    for (index, v) in swapped.indexed_iter() {
        assert!((v - shift(1 - index[1])[index[2]]).abs() < 1e-15);
    }
    // By the labels of segments.
    let under = "T(3) x S(nodes)";
    let named = BTreeMap::from([("cell".to_owned(), lattice(&cells, under))]);
    let bound =
        bind("nodes fractional(cell)", under, &[3, 3]).in_lattices(&named, &labels, "input `x`").unwrap();
    let identity = Element::identity(3, &BTreeMap::from([("nodes".to_owned(), 3)]));
    let element = identity.with_translation(t.clone());
    let moved = bound.act_on_real(&element, &ArrayD::zeros(IxDyn(&[3, 3])));
    for (index, v) in moved.indexed_iter() {
        assert!((v - shift([1, 0, 1][index[0]])[index[1]]).abs() < 1e-15);
    }
    let points =
        bind("nodes point mod cell", under, &[3, 3]).in_lattices(&named, &labels, "output `y`").unwrap();
    let there = ArrayD::zeros(IxDyn(&[3, 3]));
    // (0, 0, 2) is a lattice vector of the first structure alone.
    let here = array![[0.0, 0.0, 2.0], [0.0, 0.0, 2.0], [4.0, 0.0, 0.0]].into_dyn();
    let apart = points.difference(&element, &here, &there);
    assert!(largest(&(apart - array![[0.0, 0.0, 2.0], [0.0, 0.0, 0.0], [0.0, 0.0, 0.0]].into_dyn())) < 1e-12);
    // Stacked on top of each other, as PyG does.
    let stacked = bind("(graphs 3) vector", under, &[6, 3]);
    let tensor = Tensor::Float64(cells.to_shape(IxDyn(&[6, 3])).unwrap().to_owned());
    let named = BTreeMap::from([("cell".to_owned(), Lattice::new("cell", &tensor, Some(&stacked)).unwrap())]);
    let bound =
        bind("nodes fractional(cell)", under, &[3, 3]).in_lattices(&named, &labels, "input `x`").unwrap();
    assert_eq!(bound.act_on_real(&element, &ArrayD::zeros(IxDyn(&[3, 3]))), moved);
    let bound =
        bind("graphs fractional(cell)", under, &[2, 3]).in_lattices(&named, &BTreeMap::new(), "input `x`");
    let both = bound.unwrap().act_on_real(&element, &ArrayD::zeros(IxDyn(&[2, 3])));
    assert_eq!(both.index_axis(ndarray::Axis(0), 1), moved.index_axis(ndarray::Axis(0), 0));
    // One cell of a batch of one serves all.
    let one = cells.slice_axis(ndarray::Axis(0), (..1).into()).to_owned();
    let single = BTreeMap::from([("cell".to_owned(), lattice(&one, under))]);
    bind("nodes fractional(cell)", under, &[3, 3])
        .in_lattices(&single, &BTreeMap::new(), "input `x`")
        .unwrap();
    // Nothing says which is which.
    for (segments, why) in [
        (BTreeMap::new(), "holds 2 cells, and nothing says which entry lies in which"),
        (BTreeMap::from([("nodes".to_owned(), vec![0, 2, 1])]), "not all within 0..2"),
        (BTreeMap::from([("nodes".to_owned(), vec![0, -1, 1])]), "not all within 0..2"),
    ] {
        let bound = bind("nodes fractional(cell)", under, &[3, 3]);
        let error = bound.in_lattices(&named, &segments, "input `x`").unwrap_err().to_string();
        for part in ["input `x`", why, "one structure per sample", "segments={"] {
            assert!(error.contains(part), "{error}");
        }
    }
}

/// Complex vectors as pairs of reals.
fn pairs(values: &[Complex64]) -> ArrayD<f64> {
    ArrayD::from_shape_fn(IxDyn(&[values.len() / 3, 3, 2]), |i| {
        let z = values[3 * i[0] + i[1]];
        if i[2] == 0 { z.re } else { z.im }
    })
}

#[test]
fn one_phase_is_left_open_per_vector() {
    let z: Vec<Complex64> =
        (0..6).map(|k| Complex64::new(f64::from(k).sin(), f64::from(2 * k + 1).cos())).collect();
    let phases = [Complex64::cis(0.7), Complex64::cis(-2.1)];
    let turned: Vec<Complex64> = z.iter().enumerate().map(|(k, z)| phases[k / 3] * z).collect();
    let e = Element::identity(3, &BTreeMap::new());
    let bound = bind("graphs vector ~ phase", "SO(3)", &[2, 3]);
    assert!(largest(&bound.difference(&e, &pairs(&turned), &pairs(&z))) < 1e-15);
    // Not one per component, and no conjugation.
    let mut other = turned.clone();
    other[1] *= Complex64::cis(1.0);
    assert!(largest(&bound.difference(&e, &pairs(&other), &pairs(&z))) > 0.1);
    let conjugate: Vec<Complex64> = z.iter().map(Complex64::conj).collect();
    assert!(largest(&bound.difference(&e, &pairs(&conjugate), &pairs(&z))) > 0.1);
    // A sign alone does not make up for it; the phase that is taken makes the difference least.
    let signs = bind("graphs vector ~ sign", "SO(3)", &[2, 3]);
    assert!(largest(&signs.difference(&e, &pairs(&turned), &pairs(&z))) > 0.1);
    let size = |d: &ArrayD<f64>| d.iter().map(|v| v * v).sum::<f64>();
    let least = size(&bound.difference(&e, &pairs(&other), &pairs(&z)));
    for k in 0..100 {
        let phase = Complex64::cis(f64::from(k) * 0.063);
        let tried: Vec<Complex64> = z.iter().map(|z| phase * z).collect();
        let difference = pairs(&other) - pairs(&tried);
        let first = size(&difference.slice_axis(ndarray::Axis(0), (..1).into()).to_owned());
        let second = size(
            &bound
                .difference(&e, &pairs(&other), &pairs(&z))
                .slice_axis(ndarray::Axis(0), (1..).into())
                .to_owned(),
        );
        assert!(first + second >= least * (1.0 - 1e-12));
    }
    // Nothing to turn.
    let zero = ArrayD::zeros(IxDyn(&[2, 3, 2]));
    assert_eq!(bound.difference(&e, &zero, &pairs(&z)), -pairs(&z));
}

#[test]
fn rows_are_compared_in_any_order() {
    let e = Element::identity(3, &BTreeMap::new());
    let x = array![
        [[0.0, 1.0, 2.0], [3.0, 1.0, 0.0], [5.0, 5.0, 5.0]],
        [[1.0, 1.0, 1.0], [2.0, 2.0, 2.0], [9.0, 0.0, 0.0]]
    ];
    let mut y = x.clone();
    for (graph, order) in [[2, 0, 1], [1, 0, 2]].iter().enumerate() {
        for (row, from) in order.iter().enumerate() {
            y.slice_mut(ndarray::s![graph, row, ..]).assign(&x.slice(ndarray::s![graph, *from, ..]));
        }
    }
    y[[0, 0, 1]] += 0.25;
    let (x, y) = (x.into_dyn(), y.into_dyn());
    let bound = bind("graphs edges vector ~ S(edges)", "SO(3)", &[2, 3, 3]);
    let mut wanted = ArrayD::zeros(IxDyn(&[2, 3, 3]));
    wanted[[0, 2, 1]] = 0.25;
    assert_eq!(bound.difference(&e, &y, &x), wanted, "in the order of what is expected, one for each graph");
    assert_eq!(bound.change(&e, &y, &x), wanted);
    let strict = bind("graphs edges vector", "SO(3)", &[2, 3, 3]);
    assert_eq!(strict.difference(&e, &y, &x), &y - &x);
    // Both ends of an edge belong to one row, on whichever side they stand.
    let edges = array![[0.0, 1.0, 2.0], [1.0, 2.0, 0.0]].into_dyn();
    let moved = array![[2.0, 0.0, 1.0], [0.0, 1.0, 2.0]].into_dyn();
    let crossed = array![[2.0, 0.0, 1.0], [1.0, 2.0, 0.0]].into_dyn();
    let bound = bind("2 edges ~ S(edges)", "SO(3)", &[2, 3]);
    assert_eq!(largest(&bound.difference(&e, &moved, &edges)), 0.0);
    assert!(largest(&bound.difference(&e, &crossed, &edges)) > 0.5);
    // Samples of a batch have orders of their own on either side.
    let bound = bind("edges batch ~ S(edges)", "SO(3)", &[3, 2]);
    let transposed = |x: &ArrayD<f64>| x.t().to_owned();
    assert_eq!(largest(&bound.difference(&e, &transposed(&crossed), &transposed(&edges))), 0.0);
    // Each node its own neighbours.
    let bound = bind("nodes bins! ~ S(bins)", "SO(3)", &[2, 3]);
    assert_eq!(largest(&bound.difference(&e, &crossed, &edges)), 0.0);
}

#[test]
fn rows_in_any_order_of_what_is_modulo_itself() {
    let cell = array![[4.0, 0.0, 0.0], [1.0, 3.0, 0.0], [0.0, 0.5, 5.0]];
    let e = Element::identity(3, &BTreeMap::new());
    let x = array![[0.1, 0.2, 0.3], [3.9, 0.1, 0.2], [2.0, 2.0, 2.0]];
    let mut y = array![[2.0, 2.0, 2.0], [0.1, 0.2, 0.3], [3.9, 0.1, 0.2]];
    // A row a lattice vector away stays nearest to itself.
    y.row_mut(1).scaled_add(1.0, &cell.row(2));
    y.row_mut(2).scaled_add(-1.0, &cell.row(0));
    let bound = in_cell("bins! point mod cell ~ S(bins)", "SE(3)", &[3, 3], &cell);
    assert!(largest(&bound.difference(&e, &y.clone().into_dyn(), &x.clone().into_dyn())) < 1e-14);
    // Orientations, of either sign.
    let q = array![[1.0, 0.0, 0.0, 0.0], [0.6, 0.8, 0.0, 0.0], [0.0, 0.0, 0.6, 0.8]].into_dyn();
    let p = array![[0.0, 0.0, -0.6, -0.8], [1.0, 0.0, 0.0, 0.0], [-0.6, -0.8, 0.0, 0.0]].into_dyn();
    let bound = bind("bins! quaternion ~ S(bins)", "SO(3)", &[3, 4]);
    assert_eq!(largest(&bound.difference(&e, &p, &q)), 0.0);
}

#[test]
fn many_rows_do_not_take_long() {
    let n = 20_000;
    let x = ArrayD::from_shape_fn(IxDyn(&[n, 3]), |i| ((3 * i[0] + i[1]) as f64 * 0.754_877_666).fract());
    let y = x.select(ndarray::Axis(0), &(0..n).map(|i| i * 7 % n).collect::<Vec<_>>());
    let bound = bind("edges vector ~ S(edges)", "SO(3)", &[n, 3]);
    let e = Element::identity(3, &BTreeMap::new());
    assert_eq!(largest(&bound.difference(&e, &y, &x)), 0.0);
}

fn cell() -> impl Strategy<Value = Array2<f64>> {
    prop::array::uniform9(-1.0..1.0_f64)
        .prop_map(|v| Array2::from_shape_fn((3, 3), |(i, j)| v[3 * i + j] + if i == j { 3.0 } else { 0.0 }))
}

fn element() -> impl Strategy<Value = Element> {
    let turn = prop::array::uniform3(-3.0..3.0_f64);
    (turn, prop::array::uniform3(-5.0..5.0_f64), any::<bool>()).prop_map(|(turn, t, mirrored)| {
        let g = rotation_exp(&turn, 3) * if mirrored { -1.0 } else { 1.0 };
        Element::identity(3, &BTreeMap::new()).with_linear(g).with_translation(Array1::from_vec(t.to_vec()))
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(64) })]

    #[test]
    fn fractional_coordinates_are_those_of_the_moved_points(cell in cell(), g in element(), h in element(), f in prop::collection::vec(-2.0..2.0_f64, 6)) {
        let f = Array2::from_shape_vec((2, 3), f).unwrap();
        let text = "nodes fractional(cell)";
        let vectors = bind("3 vector", "E(3)", &[3, 3]);
        let act = |g: &Element, f: &ArrayD<f64>, cell: &Array2<f64>| in_cell(text, "E(3)", &[2, 3], cell).act_on_real(g, f);
        let turned = |g: &Element, cell: &Array2<f64>| matrix(&vectors.act_on_real(g, &cell.clone().into_dyn()));
        // The points move, the cell turns: what are their coordinates in it?
        let points = fractional_to_cartesian(&f, &cell).unwrap().dot(&g.linear().t()) + g.translation();
        let wanted = cartesian_to_fractional(&points, &turned(&g, &cell)).unwrap();
        let moved = act(&g, &f.clone().into_dyn(), &cell);
        prop_assert!(largest(&(&moved - &wanted.into_dyn())) < 1e-11);
        // A homomorphism, each in the cell as it stands then.
        let at_once = act(&g.compose(&h), &f.clone().into_dyn(), &cell);
        let in_turn = act(&g, &act(&h, &f.clone().into_dyn(), &cell), &turned(&h, &cell));
        prop_assert!(largest(&(&at_once - &in_turn)) < 1e-11);
        // Whole numbers are nothing.
        let bound = in_cell(text, "E(3)", &[2, 3], &cell);
        let other = &moved + &array![[1.0, -3.0, 0.0], [0.0, 7.0, 2.0]].into_dyn();
        prop_assert!(largest(&bound.difference(&g, &other, &moved)) < 1e-11);
        prop_assert!(largest(&bound.change(&g, &other, &moved)) < 1e-11);
        prop_assert!(largest(&bound.difference(&g, &(&other + 0.3), &moved)) > 0.29);
    }

    #[test]
    fn points_are_compared_modulo_the_turned_lattice(cell in cell(), g in element(), h in element(), v in prop::collection::vec(-4.0..4.0_f64, 6), n in prop::collection::vec(-3..4_i32, 6)) {
        let text = "nodes point mod cell";
        let (bound, plain) = (in_cell(text, "E(3)", &[2, 3], &cell), bind("nodes point", "E(3)", &[2, 3]));
        let x = ArrayD::from_shape_vec(IxDyn(&[2, 3]), v).unwrap();
        let n = Array2::from_shape_fn((2, 3), |(i, j)| f64::from(n[3 * i + j]));
        // As `point`, and with its transpose.
        let moved = bound.act_on_real(&g, &x);
        prop_assert_eq!(&moved, &plain.act_on_real(&g, &x));
        prop_assert_eq!(bound.act_transposed(&g, &x), plain.act_transposed(&g, &x));
        let (at_once, in_turn) = (bound.act_on_real(&g.compose(&h), &x), bound.act_on_real(&g, &bound.act_on_real(&h, &x)));
        prop_assert!(largest(&(at_once - in_turn)) < 1e-12 * 50.0);
        // Other images of the same points, before or after they were moved.
        let images = bound.act_on_real(&g, &(&x + &n.dot(&cell).into_dyn()));
        prop_assert!(largest(&bound.difference(&g, &images, &moved)) < 1e-11);
        let wrapped = wrap_difference(&matrix(&moved), &cell.dot(&g.linear().t())).unwrap();
        prop_assert!(largest(&bound.difference(&g, &wrapped.into_dyn(), &moved)) < 1e-11);
        // The lattice as it was before the turn is another one.
        let stale = &moved + &array![[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]].dot(&cell).into_dyn();
        let apart = bound.difference(&g, &stale, &moved);
        let by_hand = wrap_difference(&matrix(&(&stale - &moved)), &cell.dot(&g.linear().t())).unwrap();
        prop_assert!(largest(&(apart - by_hand.into_dyn())) < 1e-12);
    }
}
