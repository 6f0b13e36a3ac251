//! The grid of a bound layout, for those who sample fields on it or look at single pixels.

use std::rc::Rc;

use ndarray::{Array2, ArrayD, IxDyn};

use super::super::element::Element;
use super::super::grid::{Domain, GridWarp};
use super::BoundLayout;

/// Where the pixels of a tensor's grid lie.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Sampled {
    /// Their axes in the expanded shape, in the order depth, height, width.
    pub(crate) axes: Vec<usize>,
    /// Names of these axes.
    pub(crate) names: Vec<String>,
    /// Pixels along them.
    pub(crate) sizes: Vec<usize>,
    /// Pixels of the reference grid per pixel here.
    pub(crate) strides: Vec<f64>,
    /// What lies beyond the edge.
    pub(crate) domain: Domain,
}

impl BoundLayout {
    /// The grid, if the layout has one.
    pub(crate) fn sampled(&self) -> Option<Sampled> {
        let grid = self.grid.as_ref()?;
        Some(Sampled {
            axes: grid.axes.clone(),
            names: grid.names.clone(),
            sizes: grid.sizes.clone(),
            strides: grid.strides.clone(),
            domain: grid.domain,
        })
    }

    /// What the element does to the grid; `None` where it leaves it alone or the grid does not admit it.
    pub(crate) fn grid_warp(&self, element: &Element) -> Option<Rc<GridWarp>> {
        self.warp(element).ok().flatten()
    }

    /// The action on everything but the grid: channels and permuted axes.
    pub(crate) fn without_grid(&self) -> Self {
        Self { grid: None, ..self.clone() }
    }

    /// The same layout for tensors of `count` pixels in no order, as [`at_pixels`](Self::at_pixels) gives them.
    pub(crate) fn of_pixels(&self, count: usize) -> Self {
        let mut result = self.clone();
        if let Some(grid) = &mut result.grid {
            let last = grid.axes.len() - 1;
            for (k, axis) in grid.axes.iter().enumerate() {
                grid.sizes[k] = if k == last { count } else { 1 };
                result.expanded[*axis] = grid.sizes[k];
            }
        }
        result.shape.clone_from(&result.expanded);
        result
    }

    /// The values at these pixels (row-major), along the grid's last axis; all values where there is no grid. Complex
    /// values keep their last axis of length 2.
    pub(crate) fn at_pixels(&self, values: &ArrayD<f64>, pixels: &[usize]) -> ArrayD<f64> {
        let Some(grid) = &self.grid else { return self.expand(values) };
        let channels = self.by_channel(values);
        let last = grid.axes.len() - 1;
        let mut shape: Vec<usize> = self.expanded.clone();
        shape.extend(&values.shape()[self.shape.len()..]);
        for (k, axis) in grid.axes.iter().enumerate() {
            shape[*axis] = if k == last { pixels.len() } else { 1 };
        }
        let chosen = channels.select(ndarray::Axis(1), pixels);
        self.with_channels(&chosen, &shape)
    }

    /// Values as channels by pixels: every combination of indices along the other axes, in order, is a channel. One
    /// pixel where there is no grid.
    pub(crate) fn by_channel(&self, values: &ArrayD<f64>) -> Array2<f64> {
        let expanded = self.expand(values);
        let order = self.channels_first(expanded.ndim());
        let pixels: usize = self.grid.iter().flat_map(|grid| &grid.sizes).product();
        let data: Vec<f64> = expanded.permuted_axes(IxDyn(&order)).iter().copied().collect();
        let channels = data.len() / pixels.max(1);
        Array2::from_shape_vec((channels, pixels), data).expect("whole channels")
    }

    /// How many channels [`by_channel`](Self::by_channel) gives.
    pub(crate) fn channels(&self, trailing: Option<usize>) -> usize {
        let grid = self.grid.as_ref();
        let others = (0..self.expanded.len()).filter(|at| grid.is_none_or(|grid| !grid.axes.contains(at)));
        others.map(|at| self.expanded[at]).product::<usize>() * trailing.unwrap_or(1)
    }

    /// The reverse of [`by_channel`](Self::by_channel); `trailing` is the length of the last axis of complex values.
    pub(crate) fn of_channels(&self, channels: &Array2<f64>, trailing: Option<usize>) -> ArrayD<f64> {
        let shape: Vec<usize> = self.expanded.iter().copied().chain(trailing).collect();
        self.flatten(&self.with_channels(channels, &shape))
    }

    fn channels_first(&self, rank: usize) -> Vec<usize> {
        let axes: &[usize] = self.grid.as_ref().map_or(&[], |grid| &grid.axes);
        (0..rank).filter(|axis| !axes.contains(axis)).chain(axes.iter().copied()).collect()
    }

    /// Channels by pixels in the given (expanded) shape.
    fn with_channels(&self, channels: &Array2<f64>, shape: &[usize]) -> ArrayD<f64> {
        let order = self.channels_first(shape.len());
        let mut back = vec![0; order.len()];
        for (k, axis) in order.iter().enumerate() {
            back[*axis] = k;
        }
        let moved: Vec<usize> = order.iter().map(|axis| shape[*axis]).collect();
        ArrayD::from_shape_vec(IxDyn(&moved), channels.iter().copied().collect())
            .expect("as many values as before")
            .permuted_axes(IxDyn(&back))
            .as_standard_layout()
            .into_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::{Group, Layout};
    use super::*;

    #[test]
    fn channels_and_pixels_of_any_order_of_axes() {
        let group = Group::parse("SO(2)").unwrap();
        for (text, shape, trailing, channels) in [
            ("batch channel height width", &[2, 3, 4, 5][..], None, 6),
            ("height channel width", &[4, 3, 5], None, 3),
            ("width height vector", &[5, 4, 2], None, 2),
            ("height width", &[4, 5], Some(2), 2),
            ("(2 height) width channel", &[8, 5, 3], None, 6),
        ] {
            let layout = Layout::parse(text, &group).unwrap();
            let bound = BoundLayout::new(&layout, shape, &group, "input `x`").unwrap();
            let full: Vec<usize> = shape.iter().copied().chain(trailing).collect();
            let count: usize = full.iter().product();
            let values =
                ArrayD::from_shape_vec(IxDyn(&full), (0..count).map(|v| v as f64).collect()).unwrap();
            let table = bound.by_channel(&values);
            assert_eq!(table.dim(), (channels, 20), "`{text}`");
            assert_eq!(bound.channels(trailing), channels, "`{text}`");
            assert_eq!(bound.of_channels(&table, trailing), values, "`{text}`");
            // Pixels 7 and 3 of 4 x 5 are (1, 2) and (0, 3), whatever else the tensor holds.
            let chosen = bound.at_pixels(&values, &[7, 3]);
            let few = bound.of_pixels(2).by_channel(&chosen);
            assert_eq!(few, table.select(ndarray::Axis(1), &[7, 3]), "`{text}`");
        }
        let layout = Layout::parse("width height vector", &group).unwrap();
        let bound = BoundLayout::new(&layout, &[5, 4, 2], &group, "input `x`").unwrap();
        let values = ArrayD::from_shape_fn(IxDyn(&[5, 4, 2]), |i| (100 * i[1] + 10 * i[0] + i[2]) as f64);
        assert_eq!(bound.by_channel(&values).column(7).to_vec(), [120.0, 121.0]);
    }
}
