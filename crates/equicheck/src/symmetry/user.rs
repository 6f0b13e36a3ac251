//! Representations by the host's own functions: `@name` in a layout.

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::rc::Rc;

use ndarray::{Array1, Array2, ArrayD};

use super::element::Element;
use super::group::{Factor, Group};
use super::lie;
use crate::Error;

/// A linear representation that the host computes: element -> matrix.
pub trait UserRepresentation {
    /// The name after `@`: letters, digits and `_`.
    fn name(&self) -> &str;

    /// `rho(g)`, real, whatever its shape: that is checked. It acts on column vectors, so that
    /// `rho(g.compose(h)) = rho(g) rho(h)`.
    ///
    /// # Errors
    /// The host's own error, as [`Error::Representation`] where the function is to blame.
    fn matrix(&self, element: &Element) -> Result<ArrayD<f64>, Error>;
}

/// Matrices that are kept: an element acts on all tensors of a sample, in two precisions.
const KEPT: usize = 16;

/// A user's representation as a layout holds it: the function, and what is known of it once a layout is bound to a
/// shape. Copies share the function, its latest matrices and its first failure.
#[derive(Clone)]
pub struct User {
    shared: Rc<Shared>,
    /// The power of the function that is meant: -1 where it multiplies in reverse order, 2 where what it describes turns
    /// twice as fast.
    power: i32,
    known: Option<Rc<Known>>,
}

struct Shared {
    source: Rc<dyn UserRepresentation>,
    /// By fingerprint.
    latest: RefCell<VecDeque<(u64, Rc<Array2<f64>>)>>,
    failure: RefCell<Option<Error>>,
    /// What was found last.
    found: RefCell<Option<Found>>,
}

/// What is known for a group and lengths of the axes that it permutes.
struct Found {
    group: Group,
    lengths: BTreeMap<String, usize>,
    power: i32,
    known: Rc<Known>,
}

/// What depends on the group, and on the lengths of the axes that it permutes.
struct Known {
    dimension: usize,
    /// Factors some element of which is not represented by the identity.
    moved_by: Vec<Factor>,
}

impl fmt::Debug for User {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("User").field(&self.name()).finish()
    }
}

impl PartialEq for User {
    /// The same power of the same function.
    fn eq(&self, other: &Self) -> bool {
        Rc::ptr_eq(&self.shared, &other.shared) && self.power == other.power
    }
}

impl User {
    /// A function that no layout uses yet.
    pub fn new(source: Rc<dyn UserRepresentation>) -> Self {
        let shared = Shared {
            source,
            latest: RefCell::default(),
            failure: RefCell::default(),
            found: RefCell::default(),
        };
        Self { shared: Rc::new(shared), power: 1, known: None }
    }

    /// A power of its matrices: a representation again where they commute.
    pub(crate) fn to_the(&self, power: i32) -> Self {
        Self { power: self.power * power, ..self.clone() }
    }

    /// The name after `@`.
    pub fn name(&self) -> &str {
        self.shared.source.name()
    }

    /// Number of components; unknown until the layout is bound to a shape.
    pub fn dimension(&self) -> Option<usize> {
        self.known.as_ref().map(|known| known.dimension)
    }

    /// Whether `factor` moves it, by a look at its matrices.
    pub(crate) fn is_moved_by(&self, factor: &Factor) -> bool {
        self.known.as_ref().is_some_and(|known| known.moved_by.contains(factor))
    }

    fn error(&self, why: String) -> Error {
        Error::Representation { name: self.name().to_owned(), why }
    }

    /// `rho(g)`: square, finite, of the dimension that is known.
    ///
    /// # Errors
    /// The function's own failure, a matrix that does not fit.
    pub fn evaluate(&self, element: &Element) -> Result<Rc<Array2<f64>>, Error> {
        let inverse = (self.power < 0).then(|| element.inverse());
        let element = inverse.as_ref().unwrap_or(element);
        let key = element.fingerprint();
        let kept = self.shared.latest.borrow().iter().find(|(k, _)| *k == key).map(|(_, m)| Rc::clone(m));
        let matrix = if let Some(matrix) = kept {
            matrix
        } else {
            let returned = self.shared.source.matrix(element)?;
            let shape = returned.shape().to_vec();
            let matrix = match returned.into_dimensionality::<ndarray::Ix2>() {
                Ok(matrix) if matrix.is_square() && matrix.nrows() > 0 => matrix,
                _ => {
                    let why = format!("returns shape {shape:?} for {element}: a square matrix is needed");
                    return Err(self.error(why));
                }
            };
            if matrix.iter().any(|v| !v.is_finite()) {
                return Err(self.error(format!("returns entries that are not finite for {element}")));
            }
            let matrix = Rc::new(matrix);
            let mut latest = self.shared.latest.borrow_mut();
            latest.truncate(KEPT - 1);
            latest.push_front((key, Rc::clone(&matrix)));
            matrix
        };
        match self.dimension() {
            Some(d) if d != matrix.nrows() => Err(self.error(format!(
                "returns shape {:?} for {element}, and {:?} for the identity",
                matrix.shape(),
                [d, d]
            ))),
            _ if self.power.abs() == 1 => Ok(matrix),
            _ => {
                let repeated = (1..self.power.unsigned_abs()).fold((*matrix).clone(), |m, _| m.dot(&*matrix));
                Ok(Rc::new(repeated))
            }
        }
    }

    /// `rho(g)`, or `None` where it is exactly the identity. A failure is kept for [`failure`](Self::failure), and the
    /// matrix is then not-a-number.
    pub(crate) fn matrix(&self, element: &Element) -> Option<Array2<f64>> {
        if element.is_identity() {
            // What the function returns there is judged once, and takes no part in any figure.
            return None;
        }
        match self.evaluate(element) {
            Ok(matrix) => (*matrix != Array2::<f64>::eye(matrix.nrows())).then(|| (*matrix).clone()),
            Err(error) => {
                self.shared.failure.borrow_mut().get_or_insert(error);
                let d = self.dimension().unwrap_or(1);
                Some(Array2::from_elem((d, d), f64::NAN))
            }
        }
    }

    /// The first failure of the function while it acted on tensors; it is told once.
    pub(crate) fn failure(&self) -> Option<Error> {
        self.shared.failure.borrow_mut().take()
    }

    /// The same with its dimension, and what moves it, for permuted axes of these lengths.
    ///
    /// # Errors
    /// The function fails.
    pub(crate) fn bound(&self, group: &Group, lengths: &BTreeMap<String, usize>) -> Result<Self, Error> {
        let permuted = lengths.iter().filter(|(axis, _)| group.permutes(axis));
        let axes: BTreeMap<String, usize> = permuted.map(|(axis, n)| (axis.clone(), *n)).collect();
        if let Some(found) = &*self.shared.found.borrow()
            && (&found.group, &found.lengths, found.power) == (group, &axes, self.power)
        {
            return Ok(Self { known: Some(Rc::clone(&found.known)), ..self.clone() });
        }
        let mut identity = Element::identity(group.dimension().unwrap_or(0), &axes);
        if let Some(finite) = group.finite() {
            identity = identity.with_finite(finite.clone(), finite.identity());
        }
        let unbound = Self { known: None, ..self.clone() };
        let neutral = unbound.evaluate(&identity)?;
        let dimension = neutral.nrows();
        let mut bound =
            Self { known: Some(Rc::new(Known { dimension, moved_by: Vec::new() })), ..self.clone() };
        // Differences of a few roundings in single precision, in sums of as many terms, are none.
        let least = 8.0 * dimension as f64 * 2f64.powi(-24);
        let mut moved_by = Vec::new();
        for factor in group.factors() {
            for element in examples(&factor, &identity) {
                let matrix = bound.evaluate(&element)?;
                let size = matrix.iter().chain(neutral.iter()).fold(0.0, |max: f64, v| max.max(v.abs()));
                let differ = |(a, b): (&f64, &f64)| (a - b).abs() > least * size;
                if matrix.iter().zip(neutral.iter()).any(differ) {
                    moved_by.push(factor);
                    break;
                }
            }
        }
        let known = Rc::new(Known { dimension, moved_by });
        *self.shared.found.borrow_mut() =
            Some(Found { group: group.clone(), lengths: axes, power: self.power, known: Rc::clone(&known) });
        bound.known = Some(known);
        Ok(bound)
    }
}

/// Elements of a factor such that a representation is trivial on it if it is trivial on these: generators, or elements
/// at generic parameters.
fn examples(factor: &Factor, identity: &Element) -> Vec<Element> {
    // Incommensurable with turns and with lattices, and all different.
    let generic = |k: usize| (2.0 + k as f64).sqrt() - 0.5;
    let n = identity.linear().nrows();
    let one = identity.clone();
    match factor {
        Factor::Linear { dimension, improper } => {
            let angles: Vec<f64> = (0..dimension * (dimension - 1) / 2).map(generic).collect();
            let mut elements = Vec::new();
            if *dimension > 1 {
                elements.push(one.clone().with_linear(lie::rotation_exp(&angles, *dimension)));
            }
            if *improper {
                let mut mirror = Array2::eye(*dimension);
                mirror[[0, 0]] = -1.0;
                elements.push(one.with_linear(mirror));
            }
            elements
        }
        Factor::Lorentz { improper } => {
            let coordinates = std::array::from_fn(|k| 0.5 * generic(k));
            let mut elements = vec![one.clone().with_lorentz(lie::lorentz_exp(coordinates))];
            if *improper {
                for d in [[1.0, -1.0, -1.0, -1.0], [-1.0, 1.0, 1.0, 1.0]] {
                    let matrix = Array2::from_diag(&Array1::from(d.to_vec()));
                    elements.push(one.clone().with_lorentz(matrix));
                }
            }
            elements
        }
        Factor::Finite(group) => {
            group.generators().iter().map(|g| one.clone().with_finite(group.clone(), *g)).collect()
        }
        Factor::Generated(generators) => {
            generators.matrices.iter().map(|m| one.clone().with_general(m.clone())).collect()
        }
        Factor::Translation(shift) => {
            let step = shift.step as f64;
            if let Some(axis) = &shift.along {
                return vec![one.with_shift(axis, step)];
            }
            let mut elements: Vec<Element> = (0..n)
                .map(|k| {
                    let t = Array1::from_shape_fn(n, |i| if i == k { step } else { 0.0 });
                    one.clone().with_translation(t)
                })
                .collect();
            if shift.step == 1 {
                elements.push(one.with_translation(Array1::from_shape_fn(n, generic)));
            }
            elements
        }
        Factor::Permutation { axis } => {
            let Some(length) = identity.permutation(axis).map(<[usize]>::len) else { return Vec::new() };
            let cycle = (0..length).map(|i| (i + 1) % length).collect();
            let mut swap: Vec<usize> = (0..length).collect();
            if length > 1 {
                swap.swap(0, 1);
            }
            [swap, cycle].into_iter().map(|p| one.clone().with_permutation(axis, p)).collect()
        }
        Factor::Permutations { axis, group } => group
            .generators()
            .iter()
            .filter_map(|g| Some(one.clone().with_permutation(axis, group.permutation(*g)?.to_vec())))
            .collect(),
        Factor::Sign => vec![one.with_sign(-1.0)],
        Factor::Phase => vec![one.with_phase(generic(0))],
        Factor::Scale => vec![one.with_scale(1.0 + generic(0))],
        Factor::Custom(_) => Vec::new(),
    }
}

/// A user's representations by name, for layouts that are parsed.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Representations(Vec<User>);

impl Representations {
    /// A table of them.
    ///
    /// # Errors
    /// A name that cannot stand in a layout.
    pub fn new(sources: impl IntoIterator<Item = Rc<dyn UserRepresentation>>) -> Result<Self, Error> {
        let mut table: Vec<User> = Vec::new();
        for source in sources {
            let name = source.name();
            let fail = |why: &str| Error::Option {
                option: "representations".to_owned(),
                why: format!("{name:?}: {why}"),
            };
            if name.is_empty() || !name.chars().all(|c| c.is_alphanumeric() || c == '_') {
                return Err(fail(
                    "a name is made of letters, digits and `_`; `@` stands before it in layouts alone",
                ));
            }
            if table.iter().any(|user| user.name() == name) {
                return Err(fail("this name is given twice"));
            }
            table.push(User::new(source));
        }
        Ok(Self(table))
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &User> {
        self.0.iter()
    }

    /// The one of this name.
    pub fn get(&self, name: &str) -> Option<&User> {
        self.0.iter().find(|user| user.name() == name)
    }

    /// Tells the first failure of any of them while they acted on tensors.
    ///
    /// # Errors
    /// That failure.
    pub(crate) fn check(&self) -> Result<(), Error> {
        self.0.iter().find_map(User::failure).map_or(Ok(()), Err)
    }
}
