//! The lattices that `fractional(cell)` and `point mod cell` refer to: one cell for a sample, or one per structure.

use std::collections::BTreeMap;

use ndarray::{Array2, ArrayD};

use crate::error::Error;
use crate::model::Tensor;

use super::action::BoundLayout;
use super::element::Element;
use super::layout::Axis;
use super::representation::{Representation, Segment};
use super::tensors::{cartesian_to_fractional, wrap_difference};

/// What an input holds that others refer to as a cell: lattice vectors as rows, `(n, n)`, or one such matrix per
/// structure, `(k, n, n)`, also flattened: `(graphs 3) vector`.
#[derive(Debug, Clone, PartialEq)]
pub struct Lattice {
    /// As the input holds them: row-major, cell by cell.
    values: ArrayD<f64>,
    layout: Option<BoundLayout>,
    dimension: usize,
    /// Number of cells; `None` if they have no axis of their own.
    count: Option<usize>,
}

impl Lattice {
    /// Reads the cells of an untransformed sample. `layout` says how the element moves them.
    ///
    /// # Errors
    /// A shape other than `(n, n)` or `(k, n, n)`, values that are not finite or complex, a singular cell.
    pub fn new(input: &str, tensor: &Tensor, layout: Option<&BoundLayout>) -> Result<Self, Error> {
        let fail = |why: String| Error::Shape {
            tensor: format!("input `{input}`"),
            layout: layout.map_or_else(|| "None".to_owned(), |layout| layout.layout().to_string()),
            shape: tensor.shape().to_vec(),
            why: format!("other layouts refer to it as a lattice: {why}"),
        };
        let shape = layout.map_or(tensor.shape(), BoundLayout::expanded_shape);
        let n = shape.last().copied().unwrap_or(0);
        if !matches!(shape.len(), 2 | 3) || n == 0 || shape[shape.len() - 2] != n {
            return Err(fail(
                "give the lattice vectors as rows, shape (n, n), or (k, n, n) for k structures".to_owned(),
            ));
        }
        if tensor.dtype().is_complex() {
            return Err(fail(format!(
                "its values are {}, and lattice vectors are real",
                tensor.dtype().name()
            )));
        }
        let count = (shape.len() == 3).then_some(shape[0]);
        let lattice = Self { values: tensor.to_real(), layout: layout.cloned(), dimension: n, count };
        for (k, cell) in lattice.cells(&Element::default()).iter().enumerate() {
            let which = if shape.len() == 3 { format!("cell {k}") } else { "the cell".to_owned() };
            if cell.iter().any(|v| !v.is_finite()) {
                return Err(fail(format!("{which} is not finite")));
            }
            if cartesian_to_fractional(&Array2::zeros((1, n)), cell).is_err() {
                return Err(fail(format!(
                    "{which} is singular: give linearly independent vectors, also along directions that are not \
                     periodic"
                )));
            }
        }
        Ok(lattice)
    }

    /// Dimension of space.
    pub(crate) fn dimension(&self) -> usize {
        self.dimension
    }

    /// The cells as the element turns them, in the order in which the sample lists them.
    fn cells(&self, element: &Element) -> Vec<Array2<f64>> {
        let values = match &self.layout {
            Some(layout) => layout.act_on_components(element, &self.values),
            None => self.values.clone(),
        };
        let n = self.dimension;
        let flat: Vec<f64> = values.iter().copied().collect();
        flat.chunks_exact((n * n).max(1))
            .map(|cell| Array2::from_shape_vec((n, n), cell.to_vec()).expect("a chunk has n n entries"))
            .collect()
    }
}

/// Axis of a tensor (of the expanded shape), and the number of the cell that each of its entries lies in.
type Entries = (usize, Vec<usize>);

/// A lattice as one tensor refers to it.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Cells {
    lattice: Lattice,
    /// `None`: there is but one.
    entries: Option<Entries>,
}

impl BoundLayout {
    /// The same in the lattices of a sample, by the input that holds them; until then the lattice is the unit cube.
    /// Several cells belong to an axis that the layouts share (`graphs`, `batch`), or to the segments of a permuted
    /// axis: `segments` holds a label per entry, the number of its cell.
    ///
    /// # Errors
    /// A cell of another dimension, several cells that no axis and no labels assign. `tensor` names it in errors.
    pub fn in_lattices(
        mut self,
        lattices: &BTreeMap<String, Lattice>,
        segments: &BTreeMap<String, Vec<i64>>,
        tensor: &str,
    ) -> Result<Self, Error> {
        let names: Vec<String> = self.layout().cells().map(str::to_owned).collect();
        for name in names {
            let Some(lattice) = lattices.get(&name) else { continue };
            let fail = |why: String| Error::Shape {
                tensor: tensor.to_owned(),
                layout: self.layout().to_string(),
                shape: self.shape().to_vec(),
                why,
            };
            let of_cell = |s: &&Segment| s.representation.cell() == Some(name.as_str());
            if let Some(segment) = self.segments().find(of_cell)
                && segment.dimension != lattice.dimension
            {
                let (n, m) = (lattice.dimension, segment.dimension);
                return Err(fail(format!(
                    "the cell in input `{name}` is {n} x {n}, and it has {m} coordinates"
                )));
            }
            let entries = match lattice.count {
                None | Some(1) => None,
                Some(count) => Some(self.entries(lattice, count, segments).map_err(|why| {
                    fail(format!(
                        "input `{name}` holds {count} cells, {why}: give one structure per sample, or {HELP}"
                    ))
                })?),
            };
            self.lattices.insert(name, Cells { lattice: lattice.clone(), entries });
        }
        Ok(self)
    }

    /// The axis whose entries lie in different cells, and which of them each lies in.
    fn entries(
        &self,
        lattice: &Lattice,
        count: usize,
        segments: &BTreeMap<String, Vec<i64>>,
    ) -> Result<Entries, String> {
        let axes = lattice.layout.iter().flat_map(|layout| layout.layout().axes()).flat_map(Axis::parts);
        if let Some(word @ (Axis::Plain { .. } | Axis::Batch | Axis::Permuted(_))) = axes.take(1).next()
            && let Some(at) = self.position_where(|axis| axis == word)
            && self.length(at) == count
        {
            return Ok((at, (0..count).collect()));
        }
        for (axis, labels) in segments {
            let Some(at) = self.position_of(axis).filter(|at| self.length(*at) == labels.len()) else {
                continue;
            };
            let numbers: Option<Vec<usize>> =
                labels.iter().map(|l| usize::try_from(*l).ok().filter(|l| *l < count)).collect();
            return match numbers {
                Some(numbers) => Ok((at, numbers)),
                None => Err(format!("and the labels along `{axis}` are not all within 0..{count}")),
            };
        }
        Err("and nothing says which entry lies in which".to_owned())
    }

    /// Moves fractional coordinates by `t C^-1`, C being the cell as the element turns it.
    pub(super) fn move_fractional(
        &self,
        element: &Element,
        segment: &Segment,
        at: usize,
        shape: &[usize],
        data: &mut [f64],
    ) {
        let Representation::Fractional(name) = &segment.representation else { return };
        let translation = element.translation();
        let n = translation.len();
        if n != segment.dimension {
            return;
        }
        let row = translation.to_shape((1, n)).expect("a vector is a row").to_owned();
        let (cells, numbers) = self.cells_under(element, name, n);
        // What is not invertible was refused when the sample was bound.
        let shifts: Vec<Array2<f64>> = cells
            .iter()
            .map(|cell| {
                cartesian_to_fractional(&row, cell).unwrap_or_else(|_| Array2::from_elem((1, n), f64::NAN))
            })
            .collect();
        for copy in copies(segment, at, shape) {
            let shift = &shifts[copy.number(shape, numbers.as_ref())];
            for k in 0..n {
                data[copy.start + k * copy.stride] += shift[[0, k]];
            }
        }
    }

    /// Brings coordinates into the home cell, fractional ones into [0, 1), if the element wraps and they are in or
    /// modulo a lattice.
    pub(super) fn wrap_into_cell(
        &self,
        element: &Element,
        segment: &Segment,
        at: usize,
        shape: &[usize],
        data: &mut [f64],
    ) {
        let (true, Some(name)) = (element.wraps(), segment.representation.cell()) else { return };
        let n = segment.dimension;
        let modulo = matches!(segment.representation, Representation::PointModulo(_));
        let (cells, numbers) = self.cells_under(element, name, n);
        for copy in copies(segment, at, shape) {
            let own = Array2::from_shape_fn((1, n), |(_, k)| data[copy.start + k * copy.stride]);
            let cell = &cells[copy.number(shape, numbers.as_ref())];
            // What is not invertible was refused when the sample was bound.
            let fractional = if modulo { cartesian_to_fractional(&own, cell).ok() } else { Some(own) };
            let Some(whole) = fractional.map(|f| f.mapv(f64::floor)) else { continue };
            let by = if modulo { whole.dot(cell) } else { whole };
            for k in 0..n {
                data[copy.start + k * copy.stride] -= by[[0, k]];
            }
        }
    }

    /// Takes lattice vectors off the differences of coordinates that are compared modulo a lattice, as the element
    /// turns it: the shortest remain; in fractional coordinates those of -1/2 to 1/2.
    pub(super) fn wrap(&self, element: &Element, difference: &mut ArrayD<f64>) {
        let segments: Vec<(usize, Segment)> = self
            .segments_with_positions()
            .filter(|(_, segment)| segment.representation.cell().is_some())
            .map(|(at, segment)| (at, segment.clone()))
            .collect();
        if segments.is_empty() {
            return;
        }
        let shape = difference.shape().to_vec();
        let mut data: Vec<f64> = difference.iter().copied().collect();
        for (at, segment) in &segments {
            let n = segment.dimension;
            let Representation::PointModulo(name) = &segment.representation else {
                for copy in copies(segment, *at, &shape) {
                    for k in 0..n {
                        let entry = &mut data[copy.start + k * copy.stride];
                        *entry -= entry.round();
                    }
                }
                continue;
            };
            let (cells, numbers) = self.cells_under(element, name, n);
            let mut by_cell: Vec<Vec<Copy>> = vec![Vec::new(); cells.len()];
            for copy in copies(segment, *at, &shape) {
                by_cell[copy.number(&shape, numbers.as_ref())].push(copy);
            }
            for (cell, copies) in cells.iter().zip(by_cell) {
                let rows = Array2::from_shape_fn((copies.len(), n), |(i, k)| {
                    data[copies[i].start + k * copies[i].stride]
                });
                let wrapped =
                    wrap_difference(&rows, cell).unwrap_or_else(|_| Array2::from_elem(rows.dim(), f64::NAN));
                for (copy, row) in copies.iter().zip(wrapped.rows()) {
                    for (k, value) in row.iter().enumerate() {
                        data[copy.start + k * copy.stride] = *value;
                    }
                }
            }
        }
        *difference = ArrayD::from_shape_vec(shape, data).expect("as many entries as before");
    }

    /// Cells as the element turns them, and which of them each entry of an axis lies in after it.
    fn cells_under(&self, element: &Element, name: &str, n: usize) -> (Vec<Array2<f64>>, Option<Entries>) {
        let Some(Cells { lattice, entries }) = self.lattices.get(name) else {
            return (vec![Array2::eye(n)], None);
        };
        let numbers = entries.as_ref().map(|(at, numbers)| {
            let permutation = self.name_of_permuted(*at).and_then(|axis| element.permutation(axis));
            let moved = match permutation {
                Some(p) => p.iter().map(|from| numbers[*from]).collect(),
                None => numbers.clone(),
            };
            (*at, moved)
        });
        (lattice.cells(element), numbers)
    }

    /// Fractional coordinates of this layout as Cartesian ones, row by row; `None` where it holds none.
    pub(crate) fn cartesian(&self, values: &ArrayD<f64>) -> Option<Vec<Vec<f64>>> {
        let (at, segment) = self
            .segments_with_positions()
            .find(|(_, segment)| matches!(segment.representation, Representation::Fractional(_)))?;
        let (cells, numbers) =
            self.cells_under(&Element::default(), segment.representation.cell()?, segment.dimension);
        let shape = values.shape().to_vec();
        let data: Vec<f64> = values.iter().copied().collect();
        let rows = copies(segment, at, &shape).map(|copy| {
            let cell = &cells[copy.number(&shape, numbers.as_ref())];
            let own: Vec<f64> = (0..segment.dimension).map(|k| data[copy.start + k * copy.stride]).collect();
            (0..cell.ncols()).map(|j| own.iter().zip(cell.column(j)).map(|(f, c)| f * c).sum()).collect()
        });
        Some(rows.collect())
    }
}

/// What to do with several cells.
const HELP: &str = "name the axis of the structures in both layouts (`graphs 3 vector` and `graphs nodes point mod cell`), or give \
                    the numbers of the cells by `segments={\"nodes\": \"batch\"}` under a group that permutes `nodes`";

/// One copy of a representation in row-major data: its components are `start + k stride`.
#[derive(Debug, Clone)]
struct Copy {
    start: usize,
    stride: usize,
}

impl Copy {
    /// Which cell it lies in.
    fn number(&self, shape: &[usize], entries: Option<&Entries>) -> usize {
        let Some((at, numbers)) = entries else { return 0 };
        let inner: usize = shape[at + 1..].iter().product();
        numbers[self.start / inner.max(1) % shape[*at]]
    }
}

/// All copies of a segment along axis `at` of data of this shape.
fn copies(segment: &Segment, at: usize, shape: &[usize]) -> impl Iterator<Item = Copy> + use<> {
    let (length, stride): (usize, usize) = (shape[at], shape[at + 1..].iter().product());
    let outer: usize = shape[..at].iter().product();
    let (range, dimension) = (segment.range.clone(), segment.dimension.max(1));
    (0..outer).flat_map(move |o| {
        range.clone().step_by(dimension).flat_map(move |first| {
            (0..stride).map(move |i| Copy { start: (o * length + first) * stride + i, stride })
        })
    })
}
