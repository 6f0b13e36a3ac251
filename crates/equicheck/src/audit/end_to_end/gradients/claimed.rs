//! Outputs that look like the derivative of another one, such as forces of an energy. Nobody says that they are meant to
//! be; one that is it to within a tenth and not to rounding is taken to be meant.

use ndarray::ArrayD;

use crate::Error;
use crate::diagnosis::is_wrong_derivative;
use crate::model::Model;
use crate::report::{GradientCheck, GradientRow, Outcome, Verdict};
use crate::symmetry::BoundLayout;

use super::super::super::measure::norm;
use super::super::super::precision::Proof;
use super::super::super::verdict::MARGIN;
use super::super::{EndToEnd, Measured};
use super::pull::Place;
use super::{LAST, Objective, Pair, Subject};

/// Agreement that is no coincidence.
const MEANT: f64 = 0.1;
/// A violation is clear beyond this many floors, as for outputs.
const CLEAR: f64 = 100.0;

impl EndToEnd<'_> {
    /// Rows for outputs that have the shape of an input and agree with the derivative of the scalar `objective` by it.
    pub(super) fn claimed_rows(
        &mut self,
        subject: &mut Subject<'_>,
        objective: &Objective,
        pairs: &[Pair],
        measured: &Measured,
        rows: &mut Vec<GradientRow>,
    ) -> Result<(), Error> {
        let (Some(e), Some(pair)) = (objective.output, pairs.first()) else { return Ok(()) };
        let scalar = &self.cases[pair.sample].base[e];
        if scalar.values.len() != 1 || scalar.dtype.is_complex() || self.spent(LAST) {
            return Ok(());
        }
        let wide = subject.double.is_some() && measured.proven.outputs[e] == Proof::Double;
        let model: &mut dyn Model = match subject.double.as_deref_mut() {
            Some(double) if wide => double,
            _ => &mut *subject.model,
        };
        let ones = ArrayD::ones(scalar.values.raw_dim());
        let place = Place { sample: pair.sample, element: None, wide };
        let inputs = self.inputs(pair.sample, wide);
        let Ok(pulled) = self.pull(model, &place, &inputs, objective, Some(&ones), false)? else {
            return Ok(());
        };
        let case = &self.cases[pair.sample];
        for (f, (name, _)) in self.outputs().into_iter().enumerate() {
            for (i, slope) in pulled.inputs.iter().enumerate() {
                let spatial = case.layouts[i].as_ref().is_some_and(BoundLayout::is_spatial);
                let Some(slope) = slope.as_ref().filter(|_| spatial && f != e) else { continue };
                let value = &pulled.outputs[f].values;
                if value.shape() != slope.shape() || norm(slope) == 0.0 {
                    continue;
                }
                let off = norm(&(value - slope)).min(norm(&(value + slope))) / norm(slope);
                if off.is_nan() || off > MEANT {
                    continue;
                }
                let input = &self.specification.inputs()[i].0;
                let noise = &measured.noise[f];
                let floor = if wide || subject.is_double {
                    noise.double.max(2f64.powi(-52))
                } else {
                    noise.floor(measured.roundoff)
                };
                let wrong = |row: &&GradientRow| {
                    is_wrong_derivative(row)
                        && row.output == objective.name
                        && row.mode == subject.mode
                        && row.target.as_ref() == Some(input)
                };
                let disagrees = rows.iter().find(wrong).map(|row| row.reason.clone());
                let (outcome, verdict) = match off {
                    // It equals what automatic differentiation gives, and that is not the derivative.
                    off if disagrees.is_some() && off <= CLEAR * floor => (Outcome::Violated, Verdict::Fail),
                    off if off <= MARGIN * floor => (Outcome::Holds, Verdict::Pass),
                    off if off <= CLEAR * floor => (Outcome::Undetermined, Verdict::NeedsAttention),
                    // Forces that a network predicts apart from its energy may come as near by training.
                    _ => (Outcome::Violated, Verdict::NeedsAttention),
                };
                let backward = if verdict == Verdict::Fail { "backward" } else { "derivative" };
                let but = match disagrees.filter(|_| verdict == Verdict::Fail) {
                    Some(why) => format!(", which is not the derivative: {why}"),
                    None => String::new(),
                };
                rows.push(GradientRow {
                    check: GradientCheck::Claim,
                    mode: subject.mode.clone(),
                    output: name.to_owned(),
                    target: Some(objective.name.clone()),
                    pairs: 1,
                    max_relative: (!wide).then_some(off),
                    max_relative_f64: wide.then_some(off),
                    noise: Some(floor),
                    outcome,
                    verdict: Some(verdict),
                    reason: format!(
                        "`{name}` is the {backward} of `{}` by `{input}`, up to its sign, to {off:.1e}{but}",
                        objective.name
                    ),
                    faults: Vec::new(),
                });
            }
        }
        Ok(())
    }
}
