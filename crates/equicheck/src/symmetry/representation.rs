//! Representations that act along one axis of a tensor, and their direct sums.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use ndarray::Array2;

use super::basis::InBasis;
use super::element::Element;
use super::finite::FiniteRepresentation;
use super::group::{Factor, Group};
use super::irreps::{Irreps, Parity};
use super::tensors::{self, Voigt};
use super::user::User;

/// A representation by its word in the layout language.
#[derive(Debug, Clone, PartialEq)]
pub enum Representation {
    /// `scalar`: not at all.
    Scalar,
    /// `vector`: `g v`.
    Vector,
    /// `point`: `g v + t`.
    Point,
    /// `point mod cell`: the same, as an output compared modulo the lattice that this input holds.
    PointModulo(String),
    /// `fractional(cell)`: coordinates in the lattice that this input holds, moved by `t C^-1`, compared modulo 1.
    Fractional(String),
    /// `pseudovector`: `det(g) g v`.
    Pseudovector,
    /// `pseudoscalar`: `det(g) s`.
    Pseudoscalar,
    /// `covector`: `g^-T v`.
    Covector,
    /// Irreps of O(3), e3nn's notation, basis and order.
    Irreps(Irreps),
    /// `m2`: the irrep of SO(2) or O(2) of this frequency; 2 x 2, 1 x 1 for `m0`.
    Frequency(usize),
    /// `regular`, `irrep(1)` and so on of the finite group, escnn's order and basis.
    Finite(FiniteRepresentation),
    /// `sign` under `Z2`.
    Sign,
    /// `scale^k`: `s^k` under dilation by `s`.
    Scale(i32),
    /// `charge^k`: `exp(i k theta)` under U(1); complex values.
    Charge(i32),
    /// `voigt`, `voigt(strain)`: symmetric rank 2, components xx yy zz yz xz xy.
    Voigt(Voigt),
    /// `quaternion`: an orientation as a unit quaternion (w, x, y, z), multiplied from the left, known up to sign.
    Quaternion,
    /// `@name`: by a user's own function.
    User(User),
    /// `basis#(...)`: a sum of others in a basis of its own, as hidden tensors may have one.
    InBasis(InBasis),
}

impl Representation {
    /// Number of components; `None`: whatever the tensor has, as the group does not act on space.
    ///
    /// # Errors
    /// What does not exist under this group, in words.
    pub fn dimension(&self, group: &Group) -> Result<Option<usize>, String> {
        let space = |needed: usize, what: &str| match group.dimension() {
            Some(n) if n != needed => Err(format!("`{self}` is {what}, and `{group}` acts in dimension {n}")),
            _ => Ok(Some(needed)),
        };
        if matches!(self, Self::Irreps(_) | Self::Frequency(_) | Self::Quaternion) && !group.is_orthogonal() {
            return Err(format!("`{self}` needs orthogonal matrices, and `{group}` holds others"));
        }
        match self {
            Self::Scalar | Self::Pseudoscalar | Self::Sign | Self::Scale(_) | Self::Charge(_) => Ok(Some(1)),
            Self::Vector
            | Self::Point
            | Self::PointModulo(_)
            | Self::Fractional(_)
            | Self::Pseudovector
            | Self::Covector => Ok(group.dimension()),
            Self::Irreps(irreps) => Ok(Some(irreps.dim())),
            Self::Frequency(0) => space(2, "an irrep of O(2)").map(|_| Some(1)),
            Self::Frequency(_) => space(2, "an irrep of O(2)"),
            Self::Finite(representation) => match group.finite() {
                Some(finite) => finite.dimension_of(representation).map(Some).map_err(|e| e.to_string()),
                None => Err(format!(
                    "`{self}` is a representation of a finite group, and `{group}` holds none: add one such as `C4`"
                )),
            },
            Self::Voigt(_) => space(3, "a tensor of three-dimensional space").map(|_| Some(6)),
            Self::Quaternion => space(3, "an orientation in three-dimensional space").map(|_| Some(4)),
            // Known once the layout is bound to a shape.
            Self::User(user) => Ok(user.dimension()),
            Self::InBasis(basis) => Ok(Some(basis.dimension())),
        }
    }

    /// Whether it may stand without an axis of its own: a number that every entry is multiplied by.
    pub(crate) fn is_weight(&self) -> bool {
        match self {
            Self::Scalar | Self::Pseudoscalar | Self::Sign | Self::Scale(_) | Self::Charge(_) => true,
            Self::Finite(representation) => {
                matches!(representation, FiniteRepresentation::Trivial | FiniteRepresentation::Sign)
            }
            _ => false,
        }
    }

    /// Whether coordinates of space are meant: where it occurs twice in a tensor, `point` has no meaning.
    pub(crate) fn is_spatial(&self) -> bool {
        match self {
            Self::Vector
            | Self::Point
            | Self::PointModulo(_)
            | Self::Fractional(_)
            | Self::Pseudovector
            | Self::Pseudoscalar
            | Self::Covector
            | Self::Irreps(_)
            | Self::Frequency(_)
            | Self::Voigt(_)
            | Self::Quaternion
            | Self::User(_)
            | Self::InBasis(_) => true,
            Self::Finite(_) | Self::Scalar | Self::Sign | Self::Scale(_) | Self::Charge(_) => false,
        }
    }

    /// Whether translations act on it.
    pub(crate) fn is_affine(&self) -> bool {
        matches!(self, Self::Point | Self::PointModulo(_) | Self::Fractional(_))
    }

    /// The input that holds the lattice which it refers to.
    pub(crate) fn cell(&self) -> Option<&str> {
        match self {
            Self::PointModulo(cell) | Self::Fractional(cell) => Some(cell),
            _ => None,
        }
    }

    /// Whether `factor` can move it.
    pub(crate) fn is_moved_by(&self, factor: &Factor) -> bool {
        if let Self::User(user) = self {
            return user.is_moved_by(factor);
        }
        if let Self::InBasis(basis) = self {
            return basis.parts().any(|part| part.is_moved_by(factor));
        }
        match factor {
            Factor::Linear { dimension, improper } => match self {
                Self::Scalar
                | Self::Sign
                | Self::Scale(_)
                | Self::Charge(_)
                | Self::Finite(_)
                | Self::Fractional(_) => false,
                Self::Pseudoscalar => *improper,
                Self::Frequency(m) => *m > 0,
                Self::Irreps(irreps) => irreps
                    .blocks()
                    .iter()
                    .any(|b| b.irrep.l() > 0 || (*improper && b.irrep.parity() == Parity::Odd)),
                _ => *dimension > 0,
            },
            Factor::Lorentz { improper } => match self {
                Self::Vector | Self::Point | Self::PointModulo(_) | Self::Pseudovector | Self::Covector => {
                    true
                }
                Self::Pseudoscalar => *improper,
                _ => false,
            },
            Factor::Finite(group) => {
                // Without a matrix it is the identity there.
                group.generators().iter().any(|g| {
                    let element = Element::default().with_finite(Arc::clone(group), *g);
                    self.matrix(&element).is_some_and(|m| !is_near_identity(&m))
                })
            }
            Factor::Generated(generators) => generators.matrices.iter().any(|g| {
                let element = Element::default().with_general(g.clone());
                self.matrix(&element).is_some_and(|m| !is_near_identity(&m))
            }),
            Factor::Translation(shift) => self.is_affine() && shift.along.is_none(),
            Factor::Sign => *self == Self::Sign,
            Factor::Phase => matches!(self, Self::Charge(k) if *k != 0),
            Factor::Scale => matches!(self, Self::Scale(k) if *k != 0),
            Factor::Permutation { .. } | Factor::Permutations { .. } | Factor::Custom(_) => false,
        }
    }

    /// Its matrix for an element, acting on column vectors; `None` where it is the identity, as for what the element
    /// does not concern. A charge is complex and not among them.
    pub fn matrix(&self, element: &Element) -> Option<Array2<f64>> {
        let one = |value: f64| (value != 1.0).then(|| Array2::from_elem((1, 1), value));
        match self {
            Self::Scalar | Self::Charge(_) | Self::Fractional(_) => None,
            Self::Sign => one(element.sign()),
            Self::Scale(k) => one(tensors::scale_weight(element.scale(), f64::from(*k))),
            Self::Finite(representation) => {
                let (group, g) = element.finite()?;
                group.representation_at(representation, g).ok()
            }
            Self::User(user) => user.matrix(element),
            Self::InBasis(basis) => basis.matrix(element),
            _ if !element.turns() => None,
            Self::Vector | Self::Point | Self::PointModulo(_) => Some(element.linear().clone()),
            Self::Pseudovector => Some(element.linear() * element.determinant()),
            Self::Pseudoscalar => one(element.determinant()),
            Self::Covector => Some(element.linear_inverse().reversed_axes()),
            Self::Irreps(irreps) => Some(irreps.dense(&element.linear().view())),
            Self::Frequency(m) => Some(tensors::frequency(element.linear(), *m)),
            Self::Voigt(kind) => Some(tensors::voigt(element.linear(), *kind)),
            Self::Quaternion => {
                // Orientations know no reflections: an improper element turns by its proper part.
                Some(tensors::quaternion(&(element.linear() * element.determinant())))
            }
        }
    }
}

fn is_near_identity(m: &Array2<f64>) -> bool {
    m.indexed_iter().all(|((i, j), v)| (v - f64::from(u8::from(i == j))).abs() <= 1e-9)
}

impl fmt::Display for Representation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Scalar => f.write_str("scalar"),
            Self::Vector => f.write_str("vector"),
            Self::Point => f.write_str("point"),
            Self::PointModulo(cell) => write!(f, "point mod {cell}"),
            Self::Fractional(cell) => write!(f, "fractional({cell})"),
            Self::Pseudovector => f.write_str("pseudovector"),
            Self::Pseudoscalar => f.write_str("pseudoscalar"),
            Self::Covector => f.write_str("covector"),
            Self::Irreps(irreps) => write!(f, "{irreps}"),
            Self::Frequency(m) => write!(f, "m{m}"),
            Self::Finite(representation) => write!(f, "{representation}"),
            Self::Sign => f.write_str("sign"),
            Self::Scale(k) => write!(f, "scale^{k}"),
            Self::Charge(k) => write!(f, "charge^{k}"),
            Self::Voigt(Voigt::Stress) => f.write_str("voigt"),
            Self::Voigt(Voigt::Strain) => f.write_str("voigt(strain)"),
            Self::Quaternion => f.write_str("quaternion"),
            Self::User(user) => write!(f, "@{}", user.name()),
            Self::InBasis(basis) => write!(f, "{basis}"),
        }
    }
}

/// A representation, some times over.
#[derive(Debug, Clone, PartialEq)]
pub struct Summand {
    /// How many copies.
    pub multiplicity: usize,
    /// Of what.
    pub representation: Representation,
}

/// A direct sum along one axis: `8*scalar+2*vector`.
#[derive(Debug, Clone, PartialEq)]
pub struct DirectSum(pub Vec<Summand>);

impl From<Representation> for DirectSum {
    fn from(representation: Representation) -> Self {
        Self(vec![Summand { multiplicity: 1, representation }])
    }
}

impl fmt::Display for DirectSum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (k, summand) in self.0.iter().enumerate() {
            if k > 0 {
                f.write_str("+")?;
            }
            write!(f, "{summand}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Summand {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.multiplicity, &self.representation) {
            (n, Representation::Frequency(m)) => write!(f, "{n}xm{m}"),
            (1, representation) => write!(f, "{representation}"),
            (n, representation) => write!(f, "{n}*{representation}"),
        }
    }
}

/// A run of equal representations along an axis.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Segment {
    /// Components along the axis.
    pub(crate) range: Range<usize>,
    /// Components of one copy.
    pub(crate) dimension: usize,
    /// From one component of a copy to its next: 1, or the number of copies where these are the last index.
    pub(crate) stride: usize,
    /// What acts on each copy.
    pub(crate) representation: Representation,
    /// Its text.
    pub(crate) name: String,
}

impl Segment {
    /// Where the copies start.
    pub(crate) fn starts(&self) -> std::iter::StepBy<Range<usize>> {
        let start = self.range.start;
        if self.stride > 1 {
            return (start..start + self.stride).step_by(1);
        }
        self.range.clone().step_by(self.dimension.max(1))
    }
}

impl DirectSum {
    /// The sum's one representation, if it is but one.
    pub fn single(&self) -> Option<&Representation> {
        match &self.0[..] {
            [Summand { multiplicity: 1, representation }] => Some(representation),
            _ => None,
        }
    }

    /// Number of components; `None` where the group leaves it open.
    ///
    /// # Errors
    /// A representation that the group does not have.
    pub(crate) fn dimension(&self, group: &Group) -> Result<Option<usize>, String> {
        self.0.iter().try_fold(Some(0usize), |sum, summand| {
            let own = summand.representation.dimension(group)?;
            Ok(sum.zip(own).and_then(|(sum, own)| own.checked_mul(summand.multiplicity)?.checked_add(sum)))
        })
    }

    /// Whether it may stand without an axis of its own.
    pub(crate) fn is_weight(&self) -> bool {
        self.single().is_some_and(Representation::is_weight)
    }

    /// The runs of equal representations along an axis of `length` entries.
    ///
    /// # Errors
    /// A length that does not fit, a representation that the group does not have.
    pub(crate) fn segments(&self, group: &Group, length: usize) -> Result<Vec<Segment>, String> {
        let mut segments = Vec::new();
        let mut start = 0usize;
        for summand in &self.0 {
            let name = summand.to_string();
            let dimension = match summand.representation.dimension(group)? {
                Some(dimension) => dimension,
                // Without space nothing is turned, whatever the number of coordinates.
                None if self.0.len() == 1 => length / summand.multiplicity.max(1),
                None => {
                    return Err(format!(
                        "how many components `{name}` has is unknown, as `{group}` does not act on space"
                    ));
                }
            };
            if let Representation::Irreps(irreps) = &summand.representation {
                let arrangement = irreps.arrangement();
                for b in irreps.blocks() {
                    let range = b.range();
                    let arranged = |multiplicity: usize| {
                        let irreps = Irreps::new([(multiplicity, b.irrep)]).map_err(|e| e.to_string())?;
                        Ok::<_, String>(irreps.arranged(arrangement))
                    };
                    segments.push(Segment {
                        range: start + range.start..start + range.end,
                        dimension: b.irrep.dim(),
                        stride: if arrangement.copies_last { b.multiplicity.max(1) } else { 1 },
                        representation: Representation::Irreps(arranged(1)?),
                        name: arranged(b.multiplicity)?.to_string(),
                    });
                }
                start += irreps.dim();
                continue;
            }
            let total = dimension
                .checked_mul(summand.multiplicity)
                .and_then(|total| start.checked_add(total))
                .ok_or_else(|| format!("`{self}` has too many components"))?;
            segments.push(Segment {
                range: start..total,
                dimension,
                stride: 1,
                representation: summand.representation.clone(),
                name,
            });
            start = total;
        }
        if start != length {
            return Err(format!("`{self}` needs length {start}"));
        }
        Ok(segments)
    }
}
