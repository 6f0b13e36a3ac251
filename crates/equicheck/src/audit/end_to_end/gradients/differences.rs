//! Central differences of the forward against its backward, and of the backward against its own (METHOD 18).

use ndarray::ArrayD;

use crate::Error;
use crate::model::{Model, StateKind, StateTensor, Tensor};
use crate::report::{GradientCheck, GradientRow, Outcome};
use crate::symmetry::Element;

use super::super::super::measure::{norm, root_mean_square};
use super::super::super::precision::Proof;
use super::super::super::sampling::{Draws, Purpose};
use super::super::super::verdict::MARGIN;
use super::super::{EndToEnd, Measured};
use super::pull::{Place, Pulled, Slot};
use super::tally::{Tallies, Wrt};
use super::{LAST, Objective, Pair, Subject};

/// Directions per input.
pub(super) const DIRECTIONS: u64 = 2;
/// Draws of a direction before it is given up: each may cross a kink.
pub(super) const REDRAWN: u64 = 4;
/// Steps, as powers of two of the size of what is moved: in double precision the truncation, of order `h^2`, is below
/// 1e-6 from the first on, and the roundoff `2^-53 / h` stays below 1e-10 to the last.
pub(super) const STEPS: [i32; 4] = [-11, -14, -17, -20];
/// The same in single precision.
pub(super) const COARSE_STEPS: [i32; 3] = [-5, -7, -9];
/// Two step sizes must agree to this, relative, for their common value to be a derivative.
pub(super) const AGREE: f64 = 1e-6;
/// The same in single precision: `2^-24 / h` of the coarsest step, ten times.
pub(super) const COARSE_AGREE: f64 = 1e-3;
/// Parameter tensors that are named at most.
const NAMED: usize = 16;
/// A disagreement is no rounding beyond this many floors, as for outputs.
pub(super) const CLEAR: f64 = 100.0;

/// A directional derivative by differences.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Slope {
    /// The value, and how well two step sizes agree on it, relative to the scale.
    Value(f64, f64),
    /// One-sided differences disagree, or no two step sizes agree.
    Kink,
}

/// The slope at 0 of a function that is known at multiples of a step, less its value at 0.
pub(super) fn slope(
    steps: &[i32],
    agree: f64,
    scale: f64,
    change: &mut dyn FnMut(f64) -> Result<Option<f64>, Error>,
) -> Result<Slope, Error> {
    let mut central = |h: f64| -> Result<Option<(f64, f64)>, Error> {
        let (Some(up), Some(down)) = (change(h)?, change(-h)?) else { return Ok(None) };
        Ok(Some(((up - down) / (2.0 * h), (up + down) / h)))
    };
    for power in steps {
        let h = 2f64.powi(*power);
        let (Some((coarse, bend)), Some((fine, finer_bend))) = (central(h)?, central(h / 2.0)?) else {
            continue;
        };
        let larger = fine.abs().max(scale);
        let apart = (fine - coarse).abs();
        let relative = if apart == 0.0 { 0.0 } else { apart / larger };
        // A bend in proportion to the step is curvature; one that stays is a kink at this very point.
        let kink = finer_bend.abs() > 0.75 * bend.abs() && finer_bend.abs() > 1e3 * agree * larger;
        if relative <= agree && !kink {
            return Ok(Slope::Value((4.0 * fine - coarse) / 3.0, relative));
        }
    }
    Ok(Slope::Kink)
}

/// One comparison.
struct Compared {
    /// By differences.
    slope: f64,
    /// By the backward, in the precision of the differences.
    backward: f64,
    /// Relative difference, and what is allowed for.
    off: f64,
    allowed: f64,
    /// The same of the model's own precision, where that is another.
    own: Option<f64>,
}

/// What a check of one target found.
#[derive(Default)]
struct Checked {
    compared: Vec<Compared>,
    kinks: usize,
    /// What is allowed for in the model's own precision.
    allowed_own: f64,
}

impl Checked {
    fn worst(&self) -> Option<&Compared> {
        self.compared.iter().max_by(|a, b| (a.off / a.allowed).total_cmp(&(b.off / b.allowed)))
    }

    fn disagrees(&self) -> bool {
        let in_own = |c: &Compared| c.own.is_some_and(|off| off > self.allowed_own);
        self.compared.iter().any(|c| c.off > c.allowed || in_own(c))
    }
}

pub(super) fn inner(a: &ArrayD<f64>, b: &ArrayD<f64>) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// Parameters that ask for a gradient: positions in the state and among the gradients.
fn trained(state: &[StateTensor], pulled: &Pulled) -> Vec<(usize, usize)> {
    state
        .iter()
        .enumerate()
        .filter(|(_, s)| s.kind == StateKind::Parameter && s.tensor.dtype().is_inexact())
        .filter_map(|(k, s)| {
            let p = pulled.parameters.iter().position(|(name, _)| *name == s.name)?;
            (!pulled.parameters[p].1.is_frozen()).then_some((k, p))
        })
        .collect()
}

/// What differences are known to at best, relative: two step sizes may agree better by chance.
pub(super) fn least_allowed(wide: bool) -> f64 {
    if wide { 2f64.powi(-40) } else { COARSE_AGREE / MARGIN }
}

impl EndToEnd<'_> {
    /// Rows on whether the backward is the derivative of the forward.
    pub(super) fn derivative_rows(
        &mut self,
        subject: &mut Subject<'_>,
        objective: &Objective,
        pairs: &[Pair],
        tallies: &Tallies,
        measured: &Measured,
        rows: &mut Vec<GradientRow>,
    ) -> Result<(), Error> {
        let (Some(o), Some(pair)) = (objective.output, pairs.first()) else { return Ok(()) };
        if tallies.pairs[0] == 0 || !tallies.has_path() {
            return Ok(());
        }
        let proven = measured.proven.outputs[o] == Proof::Double;
        let wide = proven && (subject.double.is_some() || subject.is_double);
        let sample = pair.sample;
        let Some(cotangent) = self.cotangent(pair, objective) else { return Ok(()) };
        let doubled = wide && subject.double.is_some();
        let place = Place { sample, element: None, wide: doubled };
        let inputs = self.inputs(sample, doubled);
        let own_place = Place { wide: false, ..place };
        let own_inputs = self.inputs(sample, false);
        let own = self.pull(subject.model, &own_place, &own_inputs, objective, Some(&cotangent), true)?;
        let model: &mut dyn Model = match subject.double.as_deref_mut() {
            Some(double) if doubled => double,
            _ => &mut *subject.model,
        };
        let Ok(pulled) = self.pull(model, &place, &inputs, objective, Some(&cotangent), true)? else {
            return Ok(());
        };
        let own = own.ok().filter(|_| doubled);
        // A backward that is wrong in the model's own precision alone: beyond any rounding, and beyond a pass.
        let coarse = Self::gradient_levels(&measured.levels).excellent;
        let allowed_own =
            |wrt| (CLEAR * tallies.relative_noise(wrt, false).max(2.0 * measured.roundoff)).max(coarse);
        let row = |target: Option<String>, checked: &Checked| {
            derivative_row(&subject.mode, objective, target, checked, wide)
        };
        for (i, name) in self.input_names().into_iter().enumerate() {
            if !inputs[i].dtype().is_inexact()
                || inputs[i].is_empty()
                || self.holds_labels(sample, i)
                || self.spent(LAST)
            {
                continue;
            }
            let noise = tallies.relative_noise(Wrt::Input(i), doubled);
            let mut checked = self.check_input(
                model,
                &place,
                &inputs,
                i,
                o,
                &cotangent,
                &pulled,
                own.as_ref(),
                noise,
                wide,
            )?;
            checked.allowed_own = allowed_own(Wrt::Input(i));
            rows.push(row(Some(name), &checked));
        }
        let Ok(state) = model.state() else { return Ok(()) };
        let known = trained(&state, &pulled);
        if known.is_empty() {
            return Ok(());
        }
        // All together first; halves where they disagree, down to the tensors.
        let mut stack = vec![known];
        let mut named = 0;
        let mut first = true;
        while let Some(set) = stack.pop() {
            if self.spent(LAST) || named >= NAMED {
                break;
            }
            let mut checked = self.check_parameters(
                model,
                &place,
                &inputs,
                &state,
                &set,
                o,
                &cotangent,
                &pulled,
                own.as_ref(),
                tallies,
                wide,
            )?;
            let each = set.iter().map(|(_, p)| allowed_own(Wrt::Parameter(*p)));
            checked.allowed_own = each.fold(0.0, f64::max);
            let target = match set[..] {
                [(_, p)] => Some(pulled.parameters[p].0.clone()),
                _ => None,
            };
            if set.len() == 1 && (first || checked.disagrees()) {
                named += 1;
                rows.push(row(target, &checked));
            } else if first && !checked.disagrees() {
                rows.push(row(Some(format!("all {} parameter tensors", set.len())), &checked));
            } else if checked.disagrees() || (checked.compared.is_empty() && set.len() > 1) {
                let (left, right) = set.split_at(set.len() / 2);
                stack.push(right.to_vec());
                stack.push(left.to_vec());
            }
            first = false;
        }
        Ok(())
    }

    #[expect(clippy::too_many_arguments, reason = "both sides of a comparison, in parts")]
    fn check_input(
        &mut self,
        model: &mut dyn Model,
        place: &Place<'_>,
        inputs: &[Tensor],
        input: usize,
        o: usize,
        cotangent: &ArrayD<f64>,
        pulled: &Pulled,
        own: Option<&Pulled>,
        noise: f64,
        wide: bool,
    ) -> Result<Checked, Error> {
        let mut checked = Checked::default();
        let real = inputs[input].to_real();
        let size = root_mean_square(&real);
        let size = if size > 0.0 && size.is_finite() { size } else { 1.0 };
        let gradient = pulled.inputs[input].as_ref();
        let scale = gradient.map_or(0.0, norm) * size;
        if !scale.is_finite() {
            return Ok(checked);
        }
        for k in 0..DIRECTIONS * REDRAWN {
            if checked.compared.len() as u64 >= DIRECTIONS {
                break;
            }
            let mut draws =
                Draws::new(self.options.seed, place.sample, (input as u64) << 8 | k, Purpose::Directions);
            let direction = real.mapv(|_| size * draws.normal());
            let found = self.slope_of(place, o, cotangent, scale, wide, &mut |stage, h| {
                let mut moved = inputs.to_vec();
                moved[input] = Tensor::from_real(&real + &(&direction * h), inputs[input].dtype());
                stage.calls.evaluate("finite differences", model, place.sample, &moved)
            })?;
            let along = |pulled: &Pulled| pulled.inputs[input].as_ref().map_or(0.0, |g| inner(g, &direction));
            checked.take(found, along(pulled), own.map(along), scale, noise, wide);
        }
        Ok(checked)
    }

    #[expect(clippy::too_many_arguments, reason = "both sides of a comparison, in parts")]
    fn check_parameters(
        &mut self,
        model: &mut dyn Model,
        place: &Place<'_>,
        inputs: &[Tensor],
        state: &[StateTensor],
        set: &[(usize, usize)],
        o: usize,
        cotangent: &ArrayD<f64>,
        pulled: &Pulled,
        own: Option<&Pulled>,
        tallies: &Tallies,
        wide: bool,
    ) -> Result<Checked, Error> {
        let mut checked = Checked::default();
        let reals: Vec<ArrayD<f64>> = set.iter().map(|(k, _)| state[*k].tensor.to_real()).collect();
        let typical = reals.iter().map(root_mean_square).fold(0.0, f64::max);
        // Tensors of zeros (biases) move too.
        let sizes: Vec<f64> = reals
            .iter()
            .map(|r| root_mean_square(r).max(0.1 * typical))
            .map(|s| if s > 0.0 { s } else { 1.0 })
            .collect();
        let scale = set
            .iter()
            .zip(&sizes)
            .filter_map(|((_, p), size)| Some((norm(pulled.parameters[*p].1.values()?) * size).powi(2)))
            .sum::<f64>()
            .sqrt();
        if !scale.is_finite() {
            return Ok(checked);
        }
        let noise = set
            .iter()
            .map(|(_, p)| tallies.relative_noise(Wrt::Parameter(*p), place.wide))
            .fold(0.0, f64::max);
        for k in 0..REDRAWN {
            if !checked.compared.is_empty() {
                break;
            }
            let mut draws = Draws::new(
                self.options.seed,
                place.sample,
                1 << 40 | (set[0].0 as u64) << 8 | k,
                Purpose::Directions,
            );
            let directions: Vec<ArrayD<f64>> =
                reals.iter().zip(&sizes).map(|(r, size)| r.mapv(|_| size * draws.normal())).collect();
            let found = self.slope_of(place, o, cotangent, scale, wide, &mut |stage, h| {
                let values: Vec<(usize, Tensor)> = set
                    .iter()
                    .zip(reals.iter().zip(&directions))
                    .map(|((k, _), (real, u))| {
                        (*k, Tensor::from_real(real + &(u * h), state[*k].tensor.dtype()))
                    })
                    .collect();
                match model.with_state(&values) {
                    Ok(mut moved) => {
                        stage.calls.evaluate("finite differences", moved.as_mut(), place.sample, inputs)
                    }
                    Err(why) => Ok(Err(why.0)),
                }
            })?;
            let along = |pulled: &Pulled| -> f64 {
                let each = set.iter().zip(&directions).map(|((_, p), u)| match &pulled.parameters[*p].1 {
                    Slot::Values(g) => inner(g, u),
                    _ => 0.0,
                });
                each.sum()
            };
            checked.take(found, along(pulled), own.map(along), scale, noise, wide);
        }
        Ok(checked)
    }

    /// The slope of `<w, f>` along a path, whose point at 0 is the sample as it is.
    fn slope_of(
        &mut self,
        place: &Place<'_>,
        o: usize,
        cotangent: &ArrayD<f64>,
        scale: f64,
        wide: bool,
        at: &mut dyn FnMut(&mut Self, f64) -> Result<super::super::super::calls::Evaluation, Error>,
    ) -> Result<Slope, Error> {
        let Ok(base) = at(self, 0.0)? else { return Ok(Slope::Kink) };
        let layout = self.cases[place.sample].outputs[o].clone();
        let (steps, agree): (&[i32], f64) =
            if wide { (&STEPS, AGREE) } else { (&COARSE_STEPS, COARSE_AGREE) };
        slope(steps, agree, scale, &mut |h| {
            let Ok(values) = at(self, h)? else { return Ok(None) };
            if !values[o].comparable(&base[o]) {
                return Ok(None);
            }
            let change = layout.change(&Element::default(), &values[o].values, &base[o].values);
            let change = inner(&change, cotangent);
            Ok(change.is_finite().then_some(change))
        })
    }
}

impl Checked {
    fn take(&mut self, found: Slope, backward: f64, own: Option<f64>, scale: f64, noise: f64, wide: bool) {
        let Slope::Value(slope, agree) = found else {
            self.kinks += 1;
            return;
        };
        let larger = slope.abs().max(scale);
        let off = |value: f64| if value == slope { 0.0 } else { (value - slope).abs() / larger };
        // The differences' own error, as two step sizes show it, and the backward's rounding.
        let allowed = MARGIN * agree.max(noise).max(least_allowed(wide));
        self.compared.push(Compared { slope, backward, off: off(backward), allowed, own: own.map(off) });
    }
}

fn derivative_row(
    mode: &str,
    objective: &Objective,
    target: Option<String>,
    checked: &Checked,
    wide: bool,
) -> GradientRow {
    let mut row = GradientRow {
        check: GradientCheck::Derivative,
        mode: mode.to_owned(),
        output: objective.name.clone(),
        target,
        pairs: checked.compared.len(),
        max_relative: None,
        max_relative_f64: None,
        noise: None,
        outcome: Outcome::NotJudged,
        verdict: None,
        reason: format!("all {} directions cross a kink of the forward", checked.kinks),
        faults: Vec::new(),
    };
    let Some(worst) = checked.worst() else { return row };
    let own = checked.compared.iter().filter_map(|c| c.own).reduce(f64::max);
    if wide {
        row.max_relative_f64 = Some(worst.off);
        row.max_relative = own.or(Some(worst.off));
    } else {
        row.max_relative = Some(worst.off);
    }
    row.noise = Some(worst.allowed / MARGIN);
    let kinks = if checked.kinks > 0 {
        format!("; {} directions that cross a kink were drawn again", checked.kinks)
    } else {
        String::new()
    };
    let by = row.target.as_ref().map_or(String::new(), |target| format!(" by `{target}`"));
    let alone = !checked.compared.iter().any(|c| c.off > c.allowed);
    (row.outcome, row.reason) = if checked.disagrees() && alone {
        let reason = format!(
            "differences and backward agree in double precision; the backward in the model's own is off by {:.1e}",
            own.unwrap_or(f64::NAN)
        );
        (Outcome::Violated, reason)
    } else if checked.disagrees() {
        (
            Outcome::Violated,
            format!(
                "the derivative of `{}`{by} along a random direction is {:.6e} by central differences and {:.6e} by \
                 the backward{kinks}",
                objective.name, worst.slope, worst.backward
            ),
        )
    } else if wide {
        (Outcome::Holds, format!("differences and backward agree to {:.1e}{kinks}", worst.off))
    } else {
        (
            Outcome::Holds,
            format!(
                "no disagreement above {:.1e}: differences in double precision would show more{kinks}",
                worst.allowed
            ),
        )
    };
    row
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(f: impl Fn(f64) -> f64, scale: f64) -> Slope {
        slope(&STEPS, AGREE, scale, &mut |h| Ok(Some(f(h) - f(0.0)))).unwrap()
    }

    #[test]
    fn slopes_of_smooth_functions_are_exact_and_kinks_are_seen() {
        let Slope::Value(value, agree) = of(|x| (x + 0.3).sin() * 5.0, 1.0) else { panic!("smooth") };
        assert!((value - 5.0 * 0.3f64.cos()).abs() < 1e-9 && agree <= AGREE, "{value} {agree}");
        assert_eq!(of(|x| x.abs() + x, 1.0), Slope::Kink, "a kink at the point");
        // Rounding is flat between its jumps: the derivative is zero.
        assert_eq!(of(|x| (x + 0.3).round(), 1.0), Slope::Value(0.0, 0.0));
        assert_eq!(slope(&STEPS, AGREE, 1.0, &mut |_| Ok(None)).unwrap(), Slope::Kink);
    }
}
