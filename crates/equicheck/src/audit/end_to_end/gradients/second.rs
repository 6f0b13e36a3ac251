//! The second order: the gradient of `<vjp(x, w), u>` against differences of the first backward along u (METHOD 18).
//! Where the first backward is a derivative, both are the same by the symmetry of second derivatives.

use crate::Error;
use crate::model::{Model, Tensor};
use crate::report::{GradientCheck, GradientRow, Outcome};

use super::super::super::measure::{norm, root_mean_square};
use super::super::super::precision::Proof;
use super::super::super::sampling::{Draws, Purpose};
use super::super::super::verdict::MARGIN;
use super::super::{EndToEnd, Measured};
use super::differences::{AGREE, STEPS};
use super::pull::{Failure, Place, Pulled};
use super::tally::Wrt;
use super::{LAST, Objective, Pair, Subject};

/// The first gradients at moved inputs; `None` where there are none.
pub(super) type PullAt<'p, S> = dyn FnMut(&mut S, &[Tensor]) -> Result<Option<Pulled>, Error> + 'p;

impl EndToEnd<'_> {
    pub(super) fn second_order_rows(
        &mut self,
        subject: &mut Subject<'_>,
        objective: &Objective,
        pairs: &[Pair],
        measured: &Measured,
        rows: &mut Vec<GradientRow>,
    ) -> Result<(), Error> {
        let (Some(o), Some(pair)) = (objective.output, pairs.first()) else { return Ok(()) };
        let own = |row: &&GradientRow| row.output == objective.name && row.check == GradientCheck::Derivative;
        let first_holds = rows.iter().filter(own).all(|row| row.outcome != Outcome::Violated)
            && rows.iter().filter(own).any(|row| row.outcome == Outcome::Holds);
        let wide = subject.double.is_some();
        // Differences of differences leave single precision nothing.
        let exact = wide || subject.is_double;
        if !first_holds || !exact || measured.proven.outputs[o] != Proof::Double || self.spent(LAST) {
            return Ok(());
        }
        let model: &mut dyn Model = match subject.double.as_deref_mut() {
            Some(double) => double,
            None => &mut *subject.model,
        };
        let row = |target: Option<String>, outcome, reason: String| {
            objective.row(GradientCheck::SecondOrder, &subject.mode, target, 1, outcome, reason)
        };
        let Some(cotangent) = self.cotangent(pair, objective) else { return Ok(()) };
        let place = Place { sample: pair.sample, element: None, wide };
        let inputs = self.inputs(pair.sample, wide);
        let dtype = self.cotangent_type(pair.sample, objective, wide);
        let cotangents = [(objective.name.clone(), Tensor::from_real(cotangent.clone(), dtype))];
        let Ok(first) = self.pull(model, &place, &inputs, objective, Some(&cotangent), true)? else {
            return Ok(());
        };
        let directions = self.directions(pair.sample, &inputs, &first);
        if directions.iter().all(Option::is_none) {
            return Ok(());
        }
        let second = match self.pull_with(
            model,
            &place,
            &inputs,
            Some(&cotangents),
            true,
            Some(directions.as_slice()),
        )? {
            Ok(second) => second,
            Err(Failure::Unavailable(why) | Failure::Raised(why)) => {
                let reason = format!("the backward cannot be differentiated: {why}");
                rows.push(row(None, Outcome::NotApplicable, reason));
                return Ok(());
            }
        };
        let accepted = self.differences_along(&directions, &inputs, &mut |stage, moved| {
            Ok(stage.pull(model, &place, moved, objective, Some(&cotangent), true)?.ok())
        })?;
        let Some((coarse, fine)) = accepted else {
            rows.push(row(
                None,
                Outcome::NotJudged,
                "the direction crosses kinks of the backward".to_owned(),
            ));
            return Ok(());
        };
        self.compare_second(&second, &coarse, &fine, &row, rows);
        Ok(())
    }

    /// A direction along each input that has a gradient, of the size of the input.
    fn directions(&self, sample: usize, inputs: &[Tensor], first: &Pulled) -> Vec<Option<Tensor>> {
        let mut draws = Draws::new(self.options.seed, sample, u64::MAX, Purpose::Directions);
        let of = |(i, tensor): (usize, &Tensor)| {
            if first.inputs[i].is_none() || self.holds_labels(sample, i) {
                return None;
            }
            let real = tensor.to_real();
            let size = root_mean_square(&real);
            let size = if size > 0.0 && size.is_finite() { size } else { 1.0 };
            Some(Tensor::from_real(real.mapv(|_| size * draws.normal()), tensor.dtype()))
        };
        inputs.iter().enumerate().map(of).collect()
    }

    /// Central differences of gradients at h and h/2, where the two agree.
    pub(super) fn differences_along(
        &mut self,
        directions: &[Option<Tensor>],
        inputs: &[Tensor],
        pull: &mut PullAt<'_, Self>,
    ) -> Result<Option<(Pulled, Pulled)>, Error> {
        let mut central = |stage: &mut Self, h: f64| -> Result<Option<Pulled>, Error> {
            let moved = |h: f64| -> Vec<Tensor> {
                let along = |(tensor, direction): (&Tensor, &Option<Tensor>)| match direction {
                    Some(u) => Tensor::from_real(tensor.to_real() + u.to_real() * h, tensor.dtype()),
                    None => tensor.clone(),
                };
                inputs.iter().zip(directions).map(along).collect()
            };
            let (Some(up), Some(down)) = (pull(stage, &moved(h))?, pull(stage, &moved(-h))?) else {
                return Ok(None);
            };
            Ok(Some(up.less(&down).scaled(0.5 / h)))
        };
        for power in STEPS {
            let h = 2f64.powi(power);
            let (Some(coarse), Some(fine)) = (central(self, h)?, central(self, h / 2.0)?) else { continue };
            let whole = |p: &Pulled| p.all().map(|(_, g)| norm(g).powi(2)).sum::<f64>().sqrt();
            if whole(&fine.less(&coarse)) <= AGREE * whole(&fine) {
                return Ok(Some((coarse, fine)));
            }
        }
        Ok(None)
    }

    fn compare_second(
        &self,
        second: &Pulled,
        coarse: &Pulled,
        fine: &Pulled,
        row: &dyn Fn(Option<String>, Outcome, String) -> GradientRow,
        rows: &mut Vec<GradientRow>,
    ) {
        // Gradients of one kind have one scale: what is small beside the others drowns in their rounding.
        let largest = |inputs: bool| {
            let kind = |wrt: &Wrt| matches!(wrt, Wrt::Input(_)) == inputs;
            fine.all().filter(|(wrt, _)| kind(wrt)).map(|(_, g)| norm(g)).fold(0.0, f64::max)
        };
        let (by_inputs, by_parameters) = (largest(true), largest(false));
        let mut missing = Vec::new();
        for (wrt, differences) in fine.all() {
            let (name, scale) = match wrt {
                Wrt::Input(i) => (self.input_names().swap_remove(i), by_inputs),
                Wrt::Parameter(p) => (fine.parameters[p].0.clone(), by_parameters),
            };
            let size = norm(differences);
            if size <= AGREE * scale {
                continue;
            }
            let Some(found) = second.of(wrt) else {
                missing.push(format!("`{name}`"));
                continue;
            };
            let apart = coarse.of(wrt).map_or(0.0, |coarse| norm(&(differences - coarse)));
            let allowed = MARGIN * (apart / size).max(AGREE);
            let off = norm(&(found - differences)) / size.max(norm(found));
            let (outcome, reason) = if off > allowed {
                let reason = format!(
                    "the second derivative by `{name}` is off by {off:.1e} from differences of the backward, which are \
                     known to {:.1e}",
                    allowed / MARGIN
                );
                (Outcome::Violated, reason)
            } else {
                (Outcome::Holds, format!("differences of the backward agree to {off:.1e}"))
            };
            rows.push(GradientRow {
                max_relative_f64: Some(off),
                noise: Some(allowed / MARGIN),
                ..row(Some(name), outcome, reason)
            });
        }
        if !missing.is_empty() {
            let reason = format!("no path of second order leads to {}", missing.join(", "));
            rows.push(row(None, Outcome::NotApplicable, reason));
        }
    }
}
