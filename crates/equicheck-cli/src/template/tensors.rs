//! Shapes and values that fit layouts, for inputs to be drawn.

use std::collections::BTreeMap;

use equicheck::audit::Specification;
use equicheck::symmetry::{Axis, BoundLayout, DirectSum, Factor, Group, Layout, Representation};

use crate::CouldNotRun;

/// The length of an axis.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Length {
    Fixed(usize),
    Named(String),
    /// Of a flattened axis.
    Product(Vec<Length>),
}

/// The length that a name stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Size {
    Fixed(usize),
    /// From the first to the second, by sample.
    Between(usize, usize),
}

/// What is drawn.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Values {
    Normal,
    /// Normal complex numbers.
    Complex,
    /// Between 0 and 1.
    Uniform,
    /// Positions along an axis.
    Positions(String),
    /// All pairs of distinct positions along the first axis; how many there are has the second name.
    Pairs(String, String),
    /// Vectors of length 1.
    Unit,
    /// Lattice vectors as rows.
    Cell,
    /// Four-vectors of mass 1.
    Momenta,
    /// One number, to be replaced.
    Constant,
}

/// A tensor that is declared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Tensor {
    pub(super) name: String,
    /// As the user wrote it.
    pub(super) layout: Option<String>,
    pub(super) shape: Vec<Length>,
    pub(super) values: Values,
}

/// Everything that templates say of the symmetry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Declared {
    pub(super) group: String,
    pub(super) inputs: Vec<Tensor>,
    pub(super) outputs: Vec<(String, Option<String>)>,
    /// In the order in which inputs mention them, but for numbers of pairs.
    pub(super) sizes: Vec<(String, Size)>,
    /// Whether what lies beyond the edge of grids has to be said.
    pub(super) shifts_grids: bool,
}

impl Declared {
    /// # Errors
    /// A layout that no shape fits.
    pub(super) fn new(
        specification: &Specification,
        group: &str,
        inputs: &[(String, Option<String>)],
        outputs: &[(String, Option<String>)],
    ) -> Result<Self, CouldNotRun> {
        let symmetry = specification.group();
        let layouts: Vec<&Layout> =
            specification.inputs().iter().filter_map(|(_, layout)| layout.as_ref()).collect();
        let cells: Vec<&str> = layouts.iter().flat_map(|layout| layout.cells()).collect();
        let drawn = inputs.iter().zip(specification.inputs()).map(|((name, text), (_, layout))| {
            let shape =
                layout.as_ref().map_or_else(|| vec![Length::Fixed(1)], |layout| shape(layout, symmetry));
            let values = match layout {
                None => Values::Constant,
                Some(_) if cells.contains(&name.as_str()) => Values::Cell,
                Some(layout) => values(layout, symmetry),
            };
            Tensor { name: name.clone(), layout: text.clone(), shape, values }
        });
        let mut declared = Self {
            group: group.to_owned(),
            inputs: drawn.collect(),
            outputs: outputs.to_vec(),
            sizes: vec![],
            shifts_grids: symmetry.factors().iter().any(|factor| matches!(factor, Factor::Translation(_)))
                && layouts
                    .iter()
                    .any(|layout| layout.axes().iter().any(|axis| matches!(axis, Axis::Grid(_)))),
        };
        declared.sizes = declared.sizes(symmetry);
        declared.check(specification)?;
        Ok(declared)
    }

    /// Names of lengths, with what they are.
    fn sizes(&self, group: &Group) -> Vec<(String, Size)> {
        let mut sizes: Vec<(String, Size)> = Vec::new();
        let mut mention = |name: &str, fixed: bool| {
            let size = size(name, group);
            let size = match (size, fixed) {
                (Size::Between(least, _), true) => Size::Fixed(least),
                _ => size,
            };
            match sizes.iter_mut().find(|(known, _)| known == name) {
                Some((_, known)) if fixed => *known = size,
                Some(_) => {}
                None => sizes.push((name.to_owned(), size)),
            }
        };
        for tensor in &self.inputs {
            match &tensor.values {
                Values::Pairs(nodes, _) => {
                    mention(nodes, false);
                    continue;
                }
                Values::Positions(axis) => mention(axis, false),
                _ => {}
            }
            for length in &tensor.shape {
                match length {
                    Length::Fixed(_) => {}
                    Length::Named(name) => mention(name, false),
                    // An audit file has no products of lengths that vary.
                    Length::Product(parts) => parts.iter().for_each(|part| {
                        if let Length::Named(name) = part {
                            mention(name, true);
                        }
                    }),
                }
            }
        }
        sizes.retain(|(name, _)| !self.pairs().any(|(_, edges)| edges == name));
        sizes
    }

    /// Axes all pairs along which are listed, and the name of how many there are.
    pub(super) fn pairs(&self) -> impl Iterator<Item = (&str, &str)> {
        self.inputs.iter().filter_map(|tensor| match &tensor.values {
            Values::Pairs(nodes, edges) => Some((nodes.as_str(), edges.as_str())),
            _ => None,
        })
    }

    /// The least that a length can be.
    pub(super) fn least(&self, length: &Length) -> usize {
        let named = |name: &str| match self.sizes.iter().find(|(known, _)| known == name) {
            Some((_, Size::Fixed(n) | Size::Between(n, _))) => *n,
            None => 1,
        };
        match length {
            Length::Fixed(n) => *n,
            Length::Named(name) => match self.pairs().find(|(_, edges)| edges == name) {
                Some((nodes, _)) => named(nodes) * (named(nodes) - 1),
                None => named(name),
            },
            Length::Product(parts) => parts.iter().map(|part| self.least(part)).product(),
        }
    }

    /// Every input must fit its layout.
    fn check(&self, specification: &Specification) -> Result<(), CouldNotRun> {
        let known: BTreeMap<String, usize> = self
            .sizes
            .iter()
            .map(|(name, _)| (name.clone(), self.least(&Length::Named(name.clone()))))
            .collect();
        for (tensor, (_, layout)) in self.inputs.iter().zip(specification.inputs()) {
            let Some(layout) = layout else { continue };
            let shape: Vec<usize> = tensor.shape.iter().map(|length| self.least(length)).collect();
            let subject = format!("input `{}`", tensor.name);
            BoundLayout::with_lengths(layout, &shape, specification.group(), &subject, &known)?;
        }
        Ok(())
    }
}

/// How long an axis of this name is.
fn size(name: &str, group: &Group) -> Size {
    let permutations = group.factors().into_iter().find_map(|factor| match factor {
        Factor::Permutations { axis, group } if axis == name => group.permutation(0).map(<[usize]>::len),
        _ => None,
    });
    match (permutations, name) {
        (Some(n), _) => Size::Fixed(n),
        // Even, so that strides divide it.
        (None, "length" | "depth" | "height" | "width") => Size::Fixed(16),
        (None, "batch" | "graphs" | "heads") => Size::Fixed(2),
        (None, "channel" | "features") => Size::Fixed(8),
        (None, _) if group.permutes(name) => Size::Between(4, 8),
        (None, _) => Size::Fixed(6),
    }
}

/// The shape of a tensor of this layout.
fn shape(layout: &Layout, group: &Group) -> Vec<Length> {
    layout.axes().iter().filter_map(|axis| length(axis, group)).collect()
}

fn length(axis: &Axis, group: &Group) -> Option<Length> {
    Some(match axis {
        Axis::Plain { name, .. } | Axis::Permuted(name) | Axis::Grid(name) => Length::Named(name.clone()),
        Axis::Batch => Length::Named("batch".to_owned()),
        Axis::Size(n) => Length::Fixed(*n),
        // There may be any number of them, none too.
        Axis::Ellipsis => return None,
        Axis::Components(sum) if stands_alone(sum) => return None,
        Axis::Components(sum) => Length::Fixed(components(sum, group)),
        Axis::Flattened(parts) => {
            Length::Product(parts.iter().filter_map(|part| length(part, group)).collect())
        }
    })
}

/// A number that every entry is multiplied by, which has no axis of its own.
fn stands_alone(sum: &DirectSum) -> bool {
    use Representation::{Charge, Pseudoscalar, Scalar, Scale, Sign};
    match sum.0.as_slice() {
        [only] => {
            only.multiplicity == 1
                && matches!(only.representation, Scalar | Pseudoscalar | Sign | Scale(_) | Charge(_))
        }
        _ => false,
    }
}

fn components(sum: &DirectSum, group: &Group) -> usize {
    // Where a group does not act on space, any dimension will do.
    let of = |representation: &Representation| representation.dimension(group).ok().flatten().unwrap_or(3);
    sum.0.iter().map(|summand| summand.multiplicity * of(&summand.representation)).sum()
}

/// What to draw for a tensor of this layout.
fn values(layout: &Layout, group: &Group) -> Values {
    if let Some(values) = layout.values() {
        return match layout.axes() {
            [Axis::Size(2), Axis::Plain { name, .. }] if *name != values.axis => {
                Values::Pairs(values.axis.clone(), name.clone())
            }
            _ => Values::Positions(values.axis.clone()),
        };
    }
    let sums = || layout.axes().iter().filter_map(Axis::components).flat_map(|sum| &sum.0);
    if sums().any(|summand| matches!(summand.representation, Representation::Charge(_))) {
        return Values::Complex;
    }
    let last = layout.axes().last().and_then(Axis::components).map(|sum| sum.0.as_slice());
    match last {
        Some([only]) if only.multiplicity == 1 => match only.representation {
            Representation::Quaternion => Values::Unit,
            Representation::Fractional(_) => Values::Uniform,
            Representation::Vector if group.is_lorentz() => Values::Momenta,
            _ => Values::Normal,
        },
        _ => Values::Normal,
    }
}
