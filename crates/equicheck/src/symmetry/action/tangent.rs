//! The derivative of the action at the identity: `d rho(X) x`, without differences.

use std::collections::BTreeMap;

use ndarray::{Array2, ArrayD, Axis, Slice};

use super::super::element::Element;
use super::super::generator::Generator;
use super::super::representation::{Representation, Segment};
use super::{BoundLayout, Moved};

/// Where along the subgroup a representation without a formula of its own is looked at: `exp(t X)` is then within the
/// convergence of the logarithm up to degree 11 of irreps (`|exp(i l t) - 1| < 1`).
const PARAMETER: f64 = 1.0 / 32.0;
/// Terms of the logarithm; at ratio 1/3, which degree 11 has, 33 reach the roundoff.
const TERMS: usize = 200;

impl BoundLayout {
    /// `d/dt rho(exp(t X)) x` at t = 0, in closed form. `None` where the action is no matrix that is known once and for
    /// all: grids that have to be interpolated, coordinates in a lattice, a user's own functions.
    pub(crate) fn tangent(&self, generator: &Generator, values: &ArrayD<f64>) -> Option<ArrayD<f64>> {
        if self.grid_is_moved_by(generator.factor()) {
            return None;
        }
        let values = self.expand(values);
        let complex = values.ndim() > self.expanded.len();
        let mut sum = ArrayD::zeros(values.raw_dim());
        for (at, moved) in &self.moved {
            let Moved::Components(segments) = moved else { continue };
            for segment in segments.iter().filter(|s| s.representation.is_moved_by(generator.factor())) {
                let charged = matches!(segment.representation, Representation::Charge(_));
                // Real numbers in pairs carry a charge too, but not along an axis of their own.
                if complex && segment.representation.is_affine() || charged && !complex {
                    return None;
                }
                match at {
                    Some(at) => add_segment(generator, segment, *at, &values, &mut sum)?,
                    // A weight without an axis.
                    None => add_weight(&segment.representation, &values, &mut sum)?,
                }
            }
        }
        Some(self.flatten(&sum))
    }
}

/// Adds `d rho(X)` of a weight (under a dilation or a phase) to `sum`.
fn add_weight(representation: &Representation, values: &ArrayD<f64>, sum: &mut ArrayD<f64>) -> Option<()> {
    match representation {
        Representation::Scale(k) => sum.scaled_add(f64::from(*k), values),
        Representation::Charge(k) => {
            let last = Axis(values.ndim().checked_sub(1)?);
            let k = f64::from(*k);
            // i k (re + i im) = -k im + i k re.
            sum.index_axis_mut(last, 0).scaled_add(-k, &values.index_axis(last, 1));
            sum.index_axis_mut(last, 1).scaled_add(k, &values.index_axis(last, 0));
        }
        // Determinants and signs stay what they are near the identity.
        Representation::Pseudoscalar | Representation::Sign => {}
        _ => return None,
    }
    Some(())
}

fn add_segment(
    generator: &Generator,
    segment: &Segment,
    at: usize,
    values: &ArrayD<f64>,
    sum: &mut ArrayD<f64>,
) -> Option<()> {
    let range = Slice::from(segment.range.clone());
    if segment.representation.is_weight() {
        let own = values.slice_axis(Axis(at), range).to_owned();
        let mut part = ArrayD::zeros(own.raw_dim());
        add_weight(&segment.representation, &own, &mut part)?;
        sum.slice_axis_mut(Axis(at), range).scaled_add(1.0, &part);
        return Some(());
    }
    if segment.representation.is_affine() {
        let velocity = generator.translation(segment.dimension);
        for start in segment.starts() {
            for (k, v) in velocity.iter().enumerate() {
                sum.index_axis_mut(Axis(at), start + k).mapv_inplace(|s| s + v);
            }
        }
    }
    if let Representation::Fractional(_) | Representation::User(_) = segment.representation {
        return None;
    }
    let Some(matrix) = generator.matrix() else { return Some(()) };
    let matrix = derivative(generator, matrix, &segment.representation)?;
    for start in segment.starts() {
        for ((row, column), entry) in matrix.indexed_iter().filter(|(_, entry)| **entry != 0.0) {
            let from = values.index_axis(Axis(at), start + column * segment.stride);
            sum.index_axis_mut(Axis(at), start + row * segment.stride).scaled_add(*entry, &from);
        }
    }
    Some(())
}

/// The matrix `d rho(X)` of a generator that turns vectors by `matrix`.
fn derivative(
    generator: &Generator,
    matrix: Array2<f64>,
    representation: &Representation,
) -> Option<Array2<f64>> {
    match representation {
        Representation::Vector
        | Representation::Point
        | Representation::PointModulo(_)
        | Representation::Pseudovector => Some(matrix),
        Representation::Covector => Some(-matrix.reversed_axes()),
        Representation::Frequency(m) => Some(matrix * *m as f64),
        Representation::Irreps(_)
        | Representation::Voigt(_)
        | Representation::Quaternion
        | Representation::InBasis(_) => {
            let element =
                generator.element(&Element::identity(matrix.nrows(), &BTreeMap::default()), PARAMETER);
            let turned = representation.matrix(&element)?;
            logarithm(&turned).map(|log| log / PARAMETER)
        }
        _ => None,
    }
}

/// `log(1 + a) = a - a^2/2 + a^3/3 - ...`; `None` where that does not converge.
fn logarithm(matrix: &Array2<f64>) -> Option<Array2<f64>> {
    let away = matrix - &Array2::<f64>::eye(matrix.nrows());
    let largest = |m: &Array2<f64>| m.iter().fold(0.0_f64, |most, v| most.max(v.abs()));
    let mut power = away.clone();
    let mut log = away.clone();
    for k in 2..TERMS {
        power = power.dot(&away);
        let size = largest(&power);
        if size <= f64::EPSILON * largest(&log) / 4.0 {
            return Some(log);
        }
        let sign = if k % 2 == 0 { -1.0 } else { 1.0 };
        log.scaled_add(sign / k as f64, &power);
    }
    None
}

#[cfg(test)]
mod tests {
    use super::super::super::{Group, Layout};
    use super::*;

    fn bound(layout: &str, shape: &[usize], group: &Group) -> BoundLayout {
        BoundLayout::new(&Layout::parse(layout, group).unwrap(), shape, group, "input `x`").unwrap()
    }

    fn numbers(shape: &[usize]) -> ArrayD<f64> {
        let mut k = 0.0_f64;
        ArrayD::from_shape_simple_fn(shape, || {
            k += 1.0;
            (1.7 * k).sin() + 0.3
        })
    }

    fn distance(a: &ArrayD<f64>, b: &ArrayD<f64>) -> f64 {
        (a - b).iter().fold(0.0, |most, v| most.max(v.abs()))
    }

    #[test]
    fn tangents_by_hand() {
        // Angular velocity e_z takes (x, y, z) to (-y, x, 0).
        let group = Group::parse("SE(3)").unwrap();
        let basis = Generator::basis(&group, 2.0);
        assert_eq!(basis.len(), 6);
        let x = ArrayD::from_shape_vec(vec![2, 3], vec![1.0, 2.0, 3.0, 4.0, 5.0, 6.0]).unwrap();
        for (layout, k, wanted) in [
            ("batch vector", 2, [-2.0, 1.0, 0.0, -5.0, 4.0, 0.0]),
            ("batch point", 2, [-2.0, 1.0, 0.0, -5.0, 4.0, 0.0]),
            // Two units of length along y.
            ("batch point", 4, [0.0, 2.0, 0.0, 0.0, 2.0, 0.0]),
            ("batch vector", 4, [0.0; 6]),
            ("batch 1o", 2, [-2.0, 1.0, 0.0, -5.0, 4.0, 0.0]),
            // As m = -1, 0, 1 about z, (y, z, x): the same turn takes (a, b, c) to (c, 0, -a).
            ("batch yzx(1o)", 2, [3.0, 0.0, -1.0, 6.0, 0.0, -4.0]),
            ("batch 3x0e", 2, [0.0; 6]),
        ] {
            let wanted = ArrayD::from_shape_vec(vec![2, 3], wanted.to_vec()).unwrap();
            let tangent = bound(layout, &[2, 3], &group).tangent(&basis[k], &x).unwrap();
            assert!(distance(&tangent, &wanted) < 1e-13, "`{layout}`, {k}: {tangent}");
        }
    }

    #[test]
    fn tangents_are_the_derivatives_of_the_action() {
        for (group, layout, shape) in [
            ("O(3)", "nodes! ir_mul(2x0e+2x1o+1x2e) vector", &[2, 13, 3][..]),
            ("O(3)", "2x3o+1x4e", &[23]),
            ("SO(3)", "voigt", &[6]),
            ("SO(3)", "voigt(strain)", &[6]),
            ("SO(3)", "quaternion", &[4]),
            ("SO(2)", "2xm0+3xm1+m5", &[10]),
            ("SE(3)", "8*scalar+2*vector+point", &[17]),
            ("SO+(1,3)", "vector covector", &[4, 4]),
            ("SO(4)", "vector vector", &[4, 4]),
            ("Scale", "scale^3 channel", &[5]),
            ("U(1)", "charge^2 channel", &[5, 2]),
        ] {
            let group = Group::parse(group).unwrap();
            let bound = bound(layout, &shape[..shape.len() - usize::from(layout.contains("charge"))], &group);
            let x = numbers(shape);
            let identity = Element::identity(group.dimension().unwrap_or(0), &BTreeMap::new());
            for generator in Generator::basis(&group, 1.0) {
                let at = |t: f64| bound.act_on_real(&generator.element(&identity, t), &x);
                // Of the fourth order: the error is below (5 h)^4 at the highest frequency.
                let h = 1e-3;
                let wanted = ((at(h) - at(-h)) * 8.0 - (at(2.0 * h) - at(-2.0 * h))) / (12.0 * h);
                let tangent = bound.tangent(&generator, &x).unwrap();
                assert!(distance(&tangent, &wanted) < 1e-8, "{group}, `{layout}`: {generator:?}");
                assert!(distance(&tangent, &(&x * 0.0)) > 0.1, "{group}, `{layout}`: {generator:?}");
            }
        }
    }

    #[test]
    fn what_is_no_known_matrix_has_no_tangent() {
        let group = Group::parse("SO(2)").unwrap();
        let turn = &Generator::basis(&group, 1.0)[0];
        assert_eq!(bound("height width", &[4, 4], &group).tangent(turn, &numbers(&[4, 4])), None);
        assert!(Generator::basis(&Group::parse("D4 x S(nodes) x Z2 x 2T(2)").unwrap(), 1.0).is_empty());
    }
}
