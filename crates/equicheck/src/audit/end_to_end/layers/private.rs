//! Axes that a representation acts on in a basis of nobody's convention: one basis B shared by all passes with
//! `B h(gx) = D(g) B h(x)`, found block by block as intertwiners (METHOD 13).

use nalgebra::{DMatrix, DVector, SymmetricEigen};
use ndarray::{Array2, ArrayView2};

use super::MARGIN;
use super::segments::{Kind, Moved, rows};
use crate::symmetry::{InBasis, Representation};

/// Longest axis that is looked at: the equations have `dimension x length` unknowns.
const LONGEST: usize = 16;
/// Steps of a singular value decomposition, at most.
const STEPS: usize = 1000;
/// Steps of iterative refinement.
const REFINEMENTS: usize = 2;

/// Rows of one pass before and after, and their second moments.
struct Rows {
    before: Array2<f64>,
    after: Array2<f64>,
    /// `sum h h^T`, `sum h' h^T`, `sum h' h'^T`.
    moments: [Array2<f64>; 3],
}

/// What acts along the axis, and in which basis; `noise` is the tensor's change by rounding over its size. `None` where
/// nothing linear does, or where there are too few rows to tell.
pub(super) fn in_own_basis(axis: usize, passes: &[Moved<'_>], noise: f64, kinds: &[Kind]) -> Option<InBasis> {
    let length = passes.first()?.before.shape()[axis];
    if !(2..=LONGEST).contains(&length) {
        return None;
    }
    let data: Vec<Rows> = passes
        .iter()
        .map(|pass| {
            let (before, after) = (rows(&pass.before, axis), rows(pass.after, axis));
            let moments = [before.t().dot(&before), after.t().dot(&before), after.t().dot(&after)];
            Rows { before, after, moments }
        })
        .collect();
    let allowed = MARGIN * noise;
    let count: usize = data.iter().map(|rows| rows.before.nrows()).sum();
    if count < 2 * length || rank(data.iter().map(|rows| rows.before.view()), allowed) < length {
        return None;
    }
    let size: f64 = data.iter().map(|rows| rows.moments[0].diag().sum()).sum();
    let mut found: Vec<(Representation, Array2<f64>)> = Vec::new();
    let mut left = length;
    for kind in kinds.iter().filter(|kind| kind.is_linear()) {
        if kind.dimension() > left {
            continue;
        }
        let actions: Vec<Option<Array2<f64>>> =
            passes.iter().map(|pass| kind.representation().matrix(pass.element)).collect();
        for block in intertwiners(&data, &actions, kind.dimension(), length) {
            let left_by = |(rows, action): (&Rows, &Option<Array2<f64>>)| {
                rows.left(&block, action.as_ref()).mapv(|v| v * v).sum()
            };
            let missed: f64 = data.iter().zip(&actions).map(left_by).sum();
            if missed.is_nan() || missed > allowed.powi(2) * size || kind.dimension() > left {
                break;
            }
            let so_far = found.iter().map(|(_, rows)| rows.view()).chain([block.view()]);
            if rank(so_far, allowed) == length - left + kind.dimension() {
                left -= kind.dimension();
                found.push((kind.representation().clone(), block));
            }
        }
    }
    (left == 0).then(|| InBasis::new(&found)).flatten()
}

impl Rows {
    /// `B h' - D B h`, by row.
    fn left(&self, block: &Array2<f64>, action: Option<&Array2<f64>>) -> Array2<f64> {
        let before = self.before.dot(&block.t());
        self.after.dot(&block.t()) - &action.map_or_else(|| before.clone(), |action| before.dot(&action.t()))
    }
}

/// Matrices B `[dimension, length]` of norm 1, orthogonal to each other, those first that come nearest to
/// `B h' = D(g) B h`.
fn intertwiners(
    data: &[Rows],
    actions: &[Option<Array2<f64>>],
    dimension: usize,
    length: usize,
) -> Vec<Array2<f64>> {
    let n = dimension * length;
    // The quadratic form `sum |B h' - D B h|^2` of the entries of B, row by row.
    let mut form = DMatrix::<f64>::zeros(n, n);
    for (rows, action) in data.iter().zip(actions) {
        let [before, mixed, after] = &rows.moments;
        let eye = Array2::eye(dimension);
        let action = action.as_ref().unwrap_or(&eye);
        let square = action.t().dot(action);
        for i in 0..dimension {
            for j in 0..dimension {
                for a in 0..length {
                    for b in 0..length {
                        let same = if i == j { after[[a, b]] } else { 0.0 };
                        form[(i * length + a, j * length + b)] +=
                            same - action[[i, j]] * mixed[[a, b]] - action[[j, i]] * mixed[[b, a]]
                                + square[[i, j]] * before[[a, b]];
                    }
                }
            }
        }
    }
    let Some(SymmetricEigen { eigenvalues, eigenvectors }) =
        SymmetricEigen::try_new(form, f64::EPSILON, 100 * n)
    else {
        return Vec::new();
    };
    let block =
        |vector: &DVector<f64>| Array2::from_shape_fn((dimension, length), |(i, a)| vector[i * length + a]);
    // Squaring lost half of the digits of the small eigenvalues: what is left of each equation is solved for again.
    let counts = |k: usize| eigenvalues[k] > f64::EPSILON.sqrt() * eigenvalues.max();
    let solved = |k: usize| {
        let mut vector = eigenvectors.column(k).into_owned();
        for _ in 0..if counts(k) { 0 } else { REFINEMENTS } {
            let left = gradient(data, actions, &block(&vector));
            let left = DVector::from_fn(n, |i, _| left[[i / length, i % length]]);
            for other in (0..n).filter(|other| counts(*other)) {
                let column = eigenvectors.column(other);
                vector.axpy(-column.dot(&left) / eigenvalues[other], &column, 1.0);
            }
        }
        block(&vector)
    };
    let mut order: Vec<usize> = (0..n).collect();
    order.sort_by(|a, b| eigenvalues[*a].total_cmp(&eigenvalues[*b]));
    // Irreps of complex type, as turns of the plane have, come with as many solutions again.
    order.truncate(2 * length / dimension);
    order.into_iter().map(solved).collect()
}

/// Half of the derivative of `sum |B h' - D B h|^2` by B.
fn gradient(data: &[Rows], actions: &[Option<Array2<f64>>], block: &Array2<f64>) -> Array2<f64> {
    let mut sum = Array2::zeros(block.dim());
    for (rows, action) in data.iter().zip(actions) {
        let left = rows.left(block, action.as_ref());
        sum += &left.t().dot(&rows.after);
        sum -= &match action {
            Some(action) => left.dot(action).t().dot(&rows.before),
            None => left.t().dot(&rows.before),
        };
    }
    sum
}

/// Numerical rank of all rows together, singular values below `tolerance` of the largest counting as zero.
fn rank<'a>(parts: impl Iterator<Item = ArrayView2<'a, f64>>, tolerance: f64) -> usize {
    let views: Vec<_> = parts.collect();
    let Ok(all) = ndarray::concatenate(ndarray::Axis(0), &views) else { return 0 };
    if all.is_empty() || !all.iter().all(|v| v.is_finite()) {
        return 0;
    }
    let matrix = DMatrix::from_fn(all.nrows(), all.ncols(), |i, j| all[[i, j]]);
    let Some(decomposition) = matrix.try_svd(false, false, f64::EPSILON, STEPS) else { return 0 };
    let values = decomposition.singular_values;
    let largest = values.max();
    values.iter().filter(|value| **value > tolerance * largest).count()
}

#[cfg(test)]
mod tests {
    use ndarray::{Array2, ArrayD, IxDyn, arr2};

    use super::in_own_basis;
    use crate::audit::end_to_end::layers::segments::{Moved, kinds};
    use crate::audit::sampling::{Draws, Purpose};
    use crate::symmetry::{Element, Group};

    /// Rows of these components as an element leaves them, given how it moves six numbers `xx yy zz yz xz xy`.
    type Features = fn(&[f64; 6], &[f64; 3]) -> Vec<f64>;

    fn tensor(v: &[f64; 3]) -> [f64; 6] {
        [v[0] * v[0], v[1] * v[1], v[2] * v[2], v[1] * v[2], v[0] * v[2], v[0] * v[1]]
    }

    /// What is found where rows are features of sums of dyads `u u^T` and of a vector, with `noise` added.
    fn found(features: Features, noise: f64) -> Option<(String, bool)> {
        let group = Group::parse("O(3)").expect("parses");
        let mut draws = Draws::new(5, 0, 0, Purpose::Layers);
        let points: Vec<[f64; 3]> = (0..48).map(|_| std::array::from_fn(|_| draws.normal())).collect();
        let turn = draws.orthogonal(3, false);
        let identity = Element::identity(3, &[].into());
        let turns = [turn.clone(), -turn, draws.orthogonal(3, false)];
        let elements = turns.map(|turn| identity.clone().with_linear(turn));
        let mut values = |element: &Element| {
            let turned = |p: &[f64; 3]| {
                let g = element.linear();
                std::array::from_fn::<f64, 3, _>(|i| (0..3).map(|j| g[[i, j]] * p[j]).sum())
            };
            let rows = points.chunks(3).map(|p| {
                let (a, b, c) = (turned(&p[0]), turned(&p[1]), turned(&p[2]));
                let sum: [f64; 6] = std::array::from_fn(|k| tensor(&a)[k] + tensor(&b)[k] - tensor(&c)[k]);
                features(&sum, &a)
            });
            let flat: Vec<f64> = rows.flatten().map(|v| v + noise * draws.normal()).collect();
            ArrayD::from_shape_vec(IxDyn(&[16, flat.len() / 16]), flat).expect("rows of equal length")
        };
        let before = values(&identity);
        let afters: Vec<ArrayD<f64>> = elements.iter().map(&mut values).collect();
        let passes: Vec<Moved<'_>> = elements
            .iter()
            .zip(&afters)
            .map(|(element, after)| Moved { element, before: before.clone(), after })
            .collect();
        let kinds = kinds(&group, &elements.iter().collect::<Vec<_>>());
        let basis = in_own_basis(1, &passes, f64::EPSILON.max(noise), &kinds)?;
        // It acts as it was seen to.
        let error = |(element, after): (&Element, &ArrayD<f64>)| {
            let matrix = basis.matrix(element).unwrap_or_else(|| Array2::eye(before.shape()[1]));
            let before = before.view().into_dimensionality::<ndarray::Ix2>().expect("two axes");
            let left = after - &before.dot(&matrix.t()).into_dyn();
            left.iter().fold(0.0_f64, |most, v| most.max(v.abs()))
        };
        let error = elements.iter().zip(&afters).map(error).fold(0.0, f64::max);
        assert!(error < 100.0 * f64::EPSILON.max(noise) * basis.condition(), "{error:e}");
        let orthogonal =
            elements.iter().all(|element| basis.is_orthogonal(element, 1e3 * noise) == Some(true));
        Some((basis.to_string(), orthogonal))
    }

    fn skewed(v: &[f64; 3]) -> Vec<f64> {
        let skew = arr2(&[[1.0, 0.4, 0.0], [0.0, 1.5, -0.3], [0.2, 0.0, 0.7]]);
        (0..3).map(|i| (0..3).map(|j| v[j] * skew[[j, i]]).sum()).collect()
    }

    #[test]
    fn bases_are_found_from_what_they_do() {
        let of = |text: &str, orthogonal: bool| Some((text.to_owned(), orthogonal));
        assert_eq!(found(|_, v| skewed(v), 0.0), of("basis#(vector)", false));
        // Turned by a quarter and stretched alike.
        assert_eq!(found(|_, v| vec![2.0 * v[1], -2.0 * v[0], 2.0 * v[2]], 0.0), of("basis#(vector)", true));
        // The upper triangle by rows, unweighted.
        let upper: Features = |t, _| vec![t[0], t[5], t[4], t[1], t[3], t[2]];
        assert_eq!(found(upper, 0.0), of("basis#(scalar+1x2e)", false));
        assert_eq!(found(upper, 1e-7), of("basis#(scalar+1x2e)", false));
        let weighted: Features = |t, _| {
            let w = 2f64.sqrt();
            vec![t[0], w * t[5], w * t[4], t[1], w * t[3], t[2]]
        };
        assert_eq!(found(weighted, 0.0), of("basis#(scalar+1x2e)", true));
        assert_eq!(found(weighted, 1e-7), of("basis#(scalar+1x2e)", true));
        // Vectors and tensors of degree 2, mixed.
        let mixed: Features = |t, v| {
            let q = [t[0] - t[1], t[0] - t[2], t[3], t[4], t[5]];
            (0..8).map(|k| if k < 3 { v[k] + q[k] } else { q[k - 3] }).collect()
        };
        assert_eq!(found(mixed, 0.0), of("basis#(vector+1x2e)", false));
    }

    #[test]
    fn what_is_not_finite_has_no_rank() {
        let rows = arr2(&[[1.0, f64::NEG_INFINITY], [0.0, 1.0], [f64::NAN, 2.0]]);
        assert_eq!(super::rank([rows.view()].into_iter(), 1e-12), 0);
    }

    #[test]
    fn what_is_not_linear_or_does_not_span_its_axis_has_none() {
        assert_eq!(found(|_, v| v.iter().map(|x| x.tanh()).collect(), 0.0), None);
        assert_eq!(found(|_, v| vec![v[0], v[1], v[2] + 1e-6], 0.0), None);
        assert_eq!(found(|_, v| vec![v[0], v[1], v[2], v[0] + v[1]], 0.0), None);
    }
}
