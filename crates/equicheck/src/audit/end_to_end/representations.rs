//! A user's representations, held against the laws of a group before a model is judged by them.

use ndarray::Array2;

use crate::Error;
use crate::report::{Alternative, Variation};
use crate::symmetry::{Element, User};

use super::super::evidence::Evidence;
use super::super::sampling::{self, Draws, Part, Purpose};
use super::{DoubleModel, EndToEnd, Noise};

/// Relative deviation up to which the laws hold in double precision (METHOD 2).
const EXACT: f64 = 1e-12;
/// Deviation from which a function is no representation: half the digits of single precision, 2^-12. What a function
/// computes in single precision stays well below.
const BROKEN: f64 = 1.0 / 4096.0;
/// Pairs of elements for which the law of products is tried, for each part of the group and sample.
const PAIRS: u64 = 3;

impl EndToEnd<'_> {
    /// Tries `rho(e) = 1` and `rho(g h) = rho(g) rho(h)`: for each factor alone and all jointly, and for the planned
    /// elements, on every probed sample. What is off by more than roundoff in double precision is noted, and returned
    /// by its size.
    ///
    /// # Errors
    /// A function that fails, that returns matrices that do not fit, or that is no representation.
    pub(super) fn check_representations(&mut self) -> Result<f64, Error> {
        let mut largest = 0.0;
        let specification = self.specification;
        for user in specification.representations().iter() {
            let mut deviation: f64 = 0.0;
            for sample in 0..self.probed {
                let (found, refused) = self.laws(user, sample)?;
                deviation = deviation.max(found);
                if let Some(error) = refused
                    && self.refused.iter().all(|(name, _)| name != user.name())
                {
                    self.refused.push((user.name().to_owned(), error));
                }
            }
            if deviation > EXACT {
                self.notes.push(format!(
                    "representation `@{}` follows the laws of the group to {deviation:.1e} only (double precision: \
                     {EXACT:.0e}): smaller errors of the model cannot be told from it; compute its matrices in float64",
                    user.name()
                ));
            }
            largest = deviation.max(largest);
        }
        Ok(largest)
    }

    /// Refuses functions that multiply in the reverse order, unless all holds under what they are of the inverse. The first
    /// shard asks the model, and answers for all.
    pub(super) fn refuse(&mut self, evidence: &Evidence) -> Result<(), Error> {
        let meant = |name: &str, other: &Alternative| {
            let mut words = other.declared.split(|c: char| !(c.is_alphanumeric() || "@_".contains(c)));
            other.variation == Variation::Inverse && words.any(|word| word == format!("@{name}"))
        };
        for (name, error) in std::mem::take(&mut self.refused) {
            let said = evidence.inquiries.alternatives.iter().any(|other| meant(&name, other));
            if self.options.shard.index == 0 && !said {
                return Err(error);
            }
        }
        Ok(())
    }

    /// With matrices that are no better than single precision nothing is judged in double precision.
    pub(super) fn without_exact_representations(deviation: f64, double: &mut DoubleModel) {
        if deviation > EXACT && !matches!(double, DoubleModel::NotRequested) {
            *double = DoubleModel::Unavailable(format!(
                "a user's representation follows the laws of the group to {deviation:.1e} only"
            ));
        }
    }

    /// An error as large as the representations' own is noise: angles of a turn near a pole lose digits in double
    /// precision too.
    pub(super) fn add_representations(deviation: f64, noise: &mut [Noise]) {
        for slot in noise {
            slot.rounding = slot.rounding.max(deviation);
            slot.double = slot.double.max(deviation);
        }
    }

    /// Largest relative deviation from the laws, and what is to be said where they hold in reverse order.
    fn laws(&self, user: &User, sample: usize) -> Result<(f64, Option<Error>), Error> {
        let group = self.specification.group();
        let space = &self.cases[sample].space;
        let user = user.bound(group, &space.axes)?;
        let fail = |why: String| Error::Representation { name: user.name().to_owned(), why };
        let neutral = user.evaluate(&space.identity())?;
        let one = Array2::<f64>::eye(neutral.nrows());
        let mut refused = None;
        let mut largest = norm(&(&*neutral - &one)) / norm(&one);
        if largest > BROKEN {
            return Err(fail(format!(
                "its matrix for the identity is not the identity matrix: the relative difference is {largest:.1e}"
            )));
        }
        let mut parts: Vec<Part> = group.factors().into_iter().map(Part::Alone).collect();
        if parts.len() > 1 {
            parts.push(Part::Joint);
        }
        let mut index = u64::MAX;
        let mut draw = |part: &Part| {
            // From the far end of the stream, where no pair of the plan comes from.
            let mut draws = Draws::new(self.options.seed, sample, index, Purpose::Haar);
            index -= 1;
            sampling::haar(group, part, space, None, &mut draws)
        };
        let mut pairs: Vec<(Element, Element)> = Vec::new();
        for part in &parts {
            for _ in 0..PAIRS {
                let (g, h) = (draw(part), draw(part));
                pairs.push((g.clone(), g.inverse()));
                pairs.push((g, h));
            }
        }
        for (_, g) in self.planned_elements(sample) {
            pairs.push((g, draw(&Part::Joint)));
        }
        for (g, h) in &pairs {
            let (a, b) = (user.evaluate(g)?, user.evaluate(h)?);
            let product = user.evaluate(&g.compose(h))?;
            let (found, reversed) = (distance(&product, &a, &b), distance(&product, &b, &a));
            if found > BROKEN && reversed <= BROKEN {
                // What it is of the inverse may be what was meant: the audit shows whether all holds then.
                refused.get_or_insert_with(|| fail(format!(
                    "it is no representation of `{group}`: the matrix of a product g h (first h, then g) is not the \
                     matrix of g times that of h, the relative difference is {found:.1e} for g = {g}, h = {h}; the \
                     reverse order holds, as for the matrix of the inverse: return its inverse (its transpose, if it is \
                     orthogonal)"
                )));
                continue;
            }
            if found > BROKEN {
                let hint = if distance(&-&*product, &a, &b) <= BROKEN {
                    "; it holds up to the sign, as for spinors, and the sign has to be right"
                } else {
                    ""
                };
                return Err(fail(format!(
                    "it is no representation of `{group}`: the matrix of a product g h (first h, then g) is not the \
                     matrix of g times that of h, the relative difference is {found:.1e} for g = {g}, h = {h}{hint}"
                )));
            }
            largest = largest.max(found);
        }
        Ok((largest, refused))
    }
}

/// Relative distance of `product` from `a b`: by the norms of the factors, which bound the rounding of their product.
fn distance(product: &Array2<f64>, a: &Array2<f64>, b: &Array2<f64>) -> f64 {
    let size = norm(a) * norm(b) / (a.nrows() as f64).sqrt();
    let difference = norm(&(product - a.dot(b)));
    if size > 0.0 && difference.is_finite() { difference / size } else { f64::INFINITY }
}

fn norm(matrix: &Array2<f64>) -> f64 {
    matrix.iter().map(|v| v * v).sum::<f64>().sqrt()
}
