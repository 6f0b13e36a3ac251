//! Representations by the host's own functions, from Rust.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::rc::Rc;

use equicheck::audit::Specification;
use equicheck::model::Tensor;
use equicheck::symmetry::{
    BoundLayout, Element, Group, Layout, Representations, User, UserRepresentation, lie,
};
use equicheck::{Error, ParseError};
use ndarray::{Array2, ArrayD, IxDyn, array};

/// Symmetric tensors in two dimensions (xx, xy, yx, yy) sheared into another basis: not orthogonal.
struct Tensors {
    calls: Cell<usize>,
}

fn basis() -> Array2<f64> {
    array![[1.0, 0.5, 0.0, 0.0], [0.0, 1.0, -2.0, 0.0], [0.0, 0.0, 1.0, 1.0], [0.25, 0.0, 0.0, 1.0]]
}

/// Of [`basis`], by elimination on paper.
fn inverse() -> Array2<f64> {
    let b = basis();
    let mut rows: Vec<Vec<f64>> = (0..4)
        .map(|i| (0..8).map(|j| if j < 4 { b[[i, j]] } else { f64::from(u8::from(j - 4 == i)) }).collect())
        .collect();
    for k in 0..4 {
        let pivot = rows[k][k];
        rows[k].iter_mut().for_each(|v| *v /= pivot);
        let row = rows[k].clone();
        for (i, other) in rows.iter_mut().enumerate().filter(|(i, _)| *i != k) {
            let factor = other[k];
            assert!(i < 4);
            other.iter_mut().zip(&row).for_each(|(v, r)| *v -= factor * r);
        }
    }
    Array2::from_shape_fn((4, 4), |(i, j)| rows[i][4 + j])
}

fn kron(g: &Array2<f64>) -> Array2<f64> {
    Array2::from_shape_fn((4, 4), |(i, j)| g[[i / 2, j / 2]] * g[[i % 2, j % 2]])
}

impl UserRepresentation for Tensors {
    fn name(&self) -> &'static str {
        "sheared"
    }

    fn matrix(&self, element: &Element) -> Result<ArrayD<f64>, Error> {
        self.calls.set(self.calls.get() + 1);
        Ok(basis().dot(&kron(element.linear())).dot(&inverse()).into_dyn())
    }
}

fn table() -> (Rc<Tensors>, Representations) {
    let source = Rc::new(Tensors { calls: Cell::new(0) });
    let table = Representations::new([Rc::clone(&source) as Rc<dyn UserRepresentation>]).unwrap();
    (source, table)
}

fn bound(text: &str, group: &str, shape: &[usize], table: &Representations) -> BoundLayout {
    let group = Group::parse(group).unwrap();
    let layout = Layout::parse_with(text, &group, table, None).unwrap_or_else(|error| panic!("{error}"));
    BoundLayout::new(&layout, shape, &group, "x").unwrap_or_else(|error| panic!("{error}"))
}

fn values(shape: &[usize], seed: f64) -> ArrayD<f64> {
    let mut k = seed;
    ArrayD::from_shape_fn(IxDyn(shape), |_| {
        k += 1.0;
        (k * k * 0.7).sin()
    })
}

fn turn(angle: f64) -> Element {
    Element::identity(2, &BTreeMap::new()).with_linear(lie::rotation_exp(&[angle], 2))
}

#[test]
fn it_acts_by_its_matrix_and_its_transpose_is_exact() {
    let (_, table) = table();
    let layout = bound("channel 2*@sheared+vector", "O(2)", &[3, 10], &table);
    let (g, x, y) = (turn(0.7), values(&[3, 10], 0.0), values(&[3, 10], 50.0));
    let gx = layout.act(&g, &Tensor::Float64(x.clone())).to_real();
    let matrix = basis().dot(&kron(g.linear())).dot(&inverse());
    for channel in 0..3 {
        for (start, m) in [(0, &matrix), (4, &matrix), (8, g.linear())] {
            for i in 0..m.nrows() {
                let wanted: f64 = (0..m.nrows()).map(|j| m[[i, j]] * x[[channel, start + j]]).sum();
                assert!((gx[[channel, start + i]] - wanted).abs() < 1e-13);
            }
        }
    }
    let dot = |a: &ArrayD<f64>, b: &ArrayD<f64>| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
    let (left, right) = (dot(&gx, &y), dot(&x, &layout.act_transposed(&g, &y)));
    assert!((left - right).abs() < 1e-12, "{left} {right}");
    // It is no rotation of this basis: the transpose is not the inverse.
    let back = layout.act_transposed(&g, &gx);
    assert!((&back - &x).iter().any(|v| v.abs() > 0.1));
}

#[test]
fn the_identity_keeps_every_bit_and_one_element_is_computed_once() {
    let (source, table) = table();
    let layout = bound("@sheared", "O(2)", &[4], &table);
    let x = Tensor::Float64(array![-0.0, f64::NAN, 1e-310, 3.0].into_dyn());
    assert!(layout.act(&turn(0.0), &x).same_bits(&x));
    let before = source.calls.get();
    for _ in 0..5 {
        layout.act(&turn(0.3), &x);
    }
    assert_eq!(source.calls.get(), before + 1);
}

#[test]
fn what_moves_it_is_found_and_said() {
    let (_, table) = table();
    let group = Group::parse("E(2) x S(nodes) x Z2").unwrap();
    let layout = bound("nodes @sheared", "E(2) x S(nodes) x Z2", &[5, 4], &table);
    let moved: Vec<String> =
        group.factors().iter().filter(|f| layout.is_moved_by(f)).map(ToString::to_string).collect();
    assert_eq!(moved, ["O(2)", "S(nodes)"]);
    let alone = bound("@sheared", "E(2) x S(nodes) x Z2", &[4], &table);
    let moved: Vec<String> =
        group.factors().iter().filter(|f| alone.is_moved_by(f)).map(ToString::to_string).collect();
    assert_eq!(moved, ["O(2)"]);
    assert_eq!(
        layout.describe(&group),
        "axis 0 permuted with `nodes`; axis 1 transformed by `@sheared`, a user's own representation of dimension 4"
    );
}

#[test]
fn it_prints_and_parses_again() {
    let (_, table) = table();
    let group = Group::parse("O(2) x S(nodes)").unwrap();
    for (text, printed) in [
        ("nodes 4 * @sheared + vector", "nodes 4*@sheared+vector"),
        ("(nodes @sheared)  3", "(nodes @sheared) 3"),
        ("@sheared @sheared", "@sheared @sheared"),
        ("2x@sheared", "2*@sheared"),
    ] {
        let layout = Layout::parse_with(text, &group, &table, None).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(layout.to_string(), printed);
        assert_eq!(Layout::parse_with(printed, &group, &table, None).unwrap(), layout);
        assert!(layout.users().all(|user| user.name() == "sheared"));
        assert_ne!(layout.users().count(), 0);
    }
}

#[test]
fn errors_point_at_the_word() {
    let (_, table) = table();
    let group = Group::parse("O(2)").unwrap();
    let parse = |text: &str| -> ParseError { Layout::parse_with(text, &group, &table, None).unwrap_err() };
    let error = parse("3 vector+2*@shared");
    assert_eq!(&error.text[error.span.clone()], "@shared");
    assert_eq!(error.help.as_deref(), Some("did you mean `@sheared`?"));
    let error = parse("3 2*sheared");
    assert_eq!(&error.text[error.span.clone()], "sheared");
    assert_eq!(error.help.as_deref(), Some("did you mean `@sheared`?"));
    assert!(parse("@").to_string().contains("no representation `@` is given"));
    assert!(parse("@sheared point").to_string().contains("`point` is affine"));
    let error = Layout::parse("@sheared", &group).unwrap_err();
    assert!(error.help.unwrap().contains("representations={\"sheared\": function}"));
}

#[test]
fn the_specification_wants_each_of_them_used() {
    let (_, table) = table();
    let named = |name: &str, layout: &str| (name.to_owned(), Some(layout.to_owned()));
    let specification = |input: &str| {
        Specification::parse_with("O(2)", &[named("x", input)], &[named("y", "vector")], table.clone())
    };
    assert_eq!(specification("@sheared").unwrap().representations().iter().count(), 1);
    assert_ne!(specification("@sheared").unwrap(), specification("2 @sheared").unwrap());
    assert!(specification("vector").unwrap_err().to_string().contains("no layout uses `@sheared`"));
}

/// Fails for all turns.
struct Failing(&'static str);

impl UserRepresentation for Failing {
    fn name(&self) -> &str {
        self.0
    }

    fn matrix(&self, element: &Element) -> Result<ArrayD<f64>, Error> {
        if element.is_identity() {
            return Ok(Array2::eye(2).into_dyn());
        }
        Err(Error::Representation { name: self.0.to_owned(), why: "fails".to_owned() })
    }
}

#[test]
fn names_are_words_and_failures_come_out() {
    for name in ["", "a b", "@a", "a+b", "a!"] {
        let error = Representations::new([Rc::new(Failing(name)) as Rc<dyn UserRepresentation>]).unwrap_err();
        assert!(error.to_string().contains("a name is made of letters"), "{name}: {error}");
    }
    let twice = || Rc::new(Failing("a")) as Rc<dyn UserRepresentation>;
    assert!(Representations::new([twice(), twice()]).unwrap_err().to_string().contains("given twice"));
    let table = Representations::new([twice()]).unwrap();
    let group = Group::parse("SO(2)").unwrap();
    let layout = Layout::parse_with("@a", &group, &table, None).unwrap();
    let error = BoundLayout::new(&layout, &[2], &group, "x").unwrap_err();
    assert_eq!(error.to_string(), "representation `@a`: fails");
    let user: &User = table.get("a").unwrap();
    assert!(user.evaluate(&turn(1.0)).is_err());
    assert!(user.evaluate(&turn(0.0)).is_ok());
}
