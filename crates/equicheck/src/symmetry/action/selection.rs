//! Tensors with fewer entries along some of their axes, and the axes by name.

use ndarray::{ArrayD, Axis as NdAxis};

use crate::model::Tensor;

use super::super::layout::Axis;
use super::super::representation::Segment;
use super::BoundLayout;

/// An axis of the expanded shape, and the entries of it that are taken, in their new order.
pub(crate) type Selection = (usize, Vec<usize>);

impl BoundLayout {
    /// The words that have an axis, with its position in the expanded shape.
    pub(crate) fn words(&self) -> Vec<(usize, &Axis)> {
        let bare = self.moved.iter().any(|(at, _)| at.is_none());
        let words: Vec<&Axis> = self.layout.axes().iter().flat_map(Axis::parts).collect();
        let named: Vec<&Axis> = words
            .into_iter()
            .filter(|axis| **axis != Axis::Ellipsis && !(bare && axis.is_weight()))
            .collect();
        let start = self.expanded.len() - named.len();
        named.into_iter().enumerate().map(|(k, axis)| (start + k, axis)).collect()
    }

    /// Positions of the axes of this name.
    pub(crate) fn positions(&self, name: &str) -> Vec<usize> {
        self.words().into_iter().filter(|(_, axis)| name_of(axis) == Some(name)).map(|(at, _)| at).collect()
    }

    /// Names of its axes, each once, in order; sizes and components have none.
    pub(crate) fn axis_names(&self) -> Vec<&str> {
        let mut names = Vec::new();
        for name in self.words().into_iter().filter_map(|(_, axis)| name_of(axis)) {
            if !names.contains(&name) {
                names.push(name);
            }
        }
        names
    }

    /// Whether some axis of the tensor is several in one.
    pub(crate) fn is_flattened(&self) -> bool {
        self.shape != self.expanded
    }

    /// Position in the tensor's own shape of the axis that is `batch` and nothing else, where there is one.
    pub(crate) fn whole_batch_axis(&self) -> Option<usize> {
        if self.positions("batch").len() != 1 {
            return None;
        }
        let bare = self.moved.iter().any(|(at, _)| at.is_none());
        let held = |axis: &&Axis| **axis != Axis::Ellipsis && !(bare && axis.is_weight());
        let behind = self.layout.axes().iter().rev().filter(held).position(|axis| *axis == Axis::Batch)?;
        Some(self.shape.len() - 1 - behind)
    }

    /// Positions of the grid's axes in the expanded shape.
    pub(crate) fn grid_positions(&self) -> Vec<usize> {
        self.grid.as_ref().map_or_else(Vec::new, |grid| grid.axes.clone())
    }

    /// Runs of representations with the position of their axis.
    pub(crate) fn component_runs(&self) -> impl Iterator<Item = (Option<usize>, &Segment)> {
        self.moved.iter().flat_map(|(at, moved)| moved.segments().iter().map(move |segment| (*at, segment)))
    }

    /// The tensor with the selected entries alone; its shape has changed, so that it must be bound anew.
    pub(crate) fn take(&self, tensor: &Tensor, selections: &[Selection]) -> Tensor {
        let mut taken = tensor.reshape(&self.expanded);
        for (at, index) in selections {
            taken = taken.select(*at, index);
        }
        let shape = self.flat_shape(taken.shape());
        taken.reshape(&shape)
    }

    /// The same for values, possibly with a last axis of length 2 for complex numbers.
    pub(crate) fn take_real(&self, values: &ArrayD<f64>, selections: &[Selection]) -> ArrayD<f64> {
        let mut taken = self.expand(values);
        for (at, index) in selections {
            taken = taken.select(NdAxis(*at), index);
        }
        let rank = self.expanded.len();
        let mut shape = self.flat_shape(&taken.shape()[..rank]);
        shape.extend(&taken.shape()[rank..]);
        let data = taken.iter().copied().collect();
        ArrayD::from_shape_vec(shape, data).expect("flattening keeps the number of entries")
    }

    /// Two tensors of this layout one behind the other along an axis of the expanded shape; `None` where types or other
    /// lengths differ.
    pub(crate) fn join(&self, first: &Tensor, second: &Tensor, at: usize) -> Option<Tensor> {
        let others: usize =
            self.expanded.iter().enumerate().filter(|(k, _)| *k != at).map(|(_, n)| *n).product();
        let apart = |tensor: &Tensor| {
            let mut shape = self.expanded.clone();
            shape[at] = tensor.len().checked_div(others)?;
            (self.flat_shape(&shape) == tensor.shape()).then(|| tensor.reshape(&shape))
        };
        let joined = apart(first)?.concatenate(&apart(second)?, at)?;
        Some(joined.reshape(&self.flat_shape(joined.shape())))
    }

    /// A floating tensor of the same shape and type whose values, flattened axes taken apart, were changed.
    pub(crate) fn edit(&self, tensor: &Tensor, change: impl FnOnce(&mut ArrayD<f64>)) -> Tensor {
        let mut values = self.expand(&tensor.to_real());
        change(&mut values);
        Tensor::from_real(self.flatten(&values), tensor.dtype())
    }

    /// The tensor's shape for a given expanded one.
    fn flat_shape(&self, expanded: &[usize]) -> Vec<usize> {
        let bare = self.moved.iter().any(|(at, _)| at.is_none());
        let start = expanded.len() - self.words().len();
        let mut shape = expanded[..start].to_vec();
        let mut at = start;
        for axis in self.layout.axes() {
            if *axis == Axis::Ellipsis || (bare && axis.is_weight()) {
                continue;
            }
            let parts = axis.parts().len();
            shape.push(expanded[at..at + parts].iter().product());
            at += parts;
        }
        shape
    }
}

/// The name of an axis by which tensors share it.
fn name_of(axis: &Axis) -> Option<&str> {
    match axis {
        Axis::Permuted(name) | Axis::Plain { name, .. } | Axis::Grid(name) => Some(name),
        Axis::Batch => Some("batch"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use ndarray::Array;

    use super::*;
    use crate::symmetry::{Group, Layout};

    fn bound(layout: &str, shape: &[usize], group: &str) -> BoundLayout {
        let group = Group::parse(group).unwrap();
        BoundLayout::new(&Layout::parse(layout, &group).unwrap(), shape, &group, "input `x`").unwrap()
    }

    fn counted(shape: &[usize]) -> Tensor {
        let n: usize = shape.iter().product();
        Tensor::Float32(Array::from_iter((0..n).map(|v| v as f32)).into_shape_with_order(shape).unwrap())
    }

    #[test]
    fn axes_are_found_by_name_behind_leading_ones_and_beside_weights_without_an_axis() {
        let all = "E(3) x S(nodes) x Scale";
        assert_eq!(bound("... nodes vector", &[2, 7, 5, 3], all).positions("nodes"), [2]);
        assert_eq!(bound("nodes nodes", &[4, 4], all).positions("nodes"), [0, 1]);
        assert_eq!(bound("scale^1 batch nodes", &[6, 5], all).positions("batch"), [0]);
        assert_eq!(bound("scale^1 batch nodes", &[1, 6, 5], all).positions("batch"), [1]);
        assert_eq!(bound("(batch 2) vector", &[6, 3], all).positions("batch"), [0]);
        assert_eq!(bound("2 edges bins! vector", &[2, 6, 4, 3], all).axis_names(), ["edges", "bins"]);
    }

    #[test]
    fn a_batch_is_whole_where_it_is_an_axis_of_its_own_and_the_only_one() {
        let all = "E(3) x S(nodes) x Scale";
        assert_eq!(bound("... batch (nodes vector)", &[2, 7, 12], all).whole_batch_axis(), Some(1));
        assert_eq!(bound("scale^1 batch channel", &[6, 5], all).whole_batch_axis(), Some(0));
        assert_eq!(bound("scale^1 batch channel", &[1, 6, 5], all).whole_batch_axis(), Some(1));
        assert_eq!(bound("nodes batch vector", &[5, 6, 3], all).whole_batch_axis(), Some(1));
        for (layout, shape) in
            [("(batch 2) vector", &[6, 3][..]), ("batch batch", &[4, 4]), ("nodes vector", &[4, 3])]
        {
            assert_eq!(bound(layout, shape, all).whole_batch_axis(), None, "{layout}");
        }
        assert_eq!(bound("batch vector", &[4, 3], "O(3) x S(batch)").whole_batch_axis(), None, "permuted");
    }

    #[test]
    fn entries_of_flattened_axes_are_taken_apart_and_put_together_again() {
        let layout = bound("(2 batch) vector", &[6, 3], "O(3)");
        let x = counted(&[6, 3]);
        let taken = layout.take(&x, &[(1, vec![2, 0])]);
        assert_eq!(taken.shape(), [4, 3]);
        let rows: Vec<f64> = taken.to_real().column(0).to_vec();
        assert_eq!(rows, [6.0, 0.0, 15.0, 9.0], "entries 2 and 0 of each half");
        assert_eq!(layout.take_real(&x.to_real(), &[(1, vec![2, 0])]), taken.to_real());
        let rest = layout.take(&x, &[(1, vec![1])]);
        let joined = layout.join(&taken, &rest, 1).unwrap();
        assert_eq!(joined, layout.take(&x, &[(1, vec![2, 0, 1])]));
        assert_eq!(layout.join(&taken, &counted(&[3, 3]), 1), None, "three rows are no two halves");
        assert_eq!(layout.join(&taken, &counted(&[2, 4]), 1), None);
    }

    trait Column {
        fn column(&self, k: usize) -> ndarray::Array1<f64>;
    }

    impl Column for ArrayD<f64> {
        fn column(&self, k: usize) -> ndarray::Array1<f64> {
            self.index_axis(NdAxis(1), k).to_owned().into_dimensionality().unwrap()
        }
    }
}
