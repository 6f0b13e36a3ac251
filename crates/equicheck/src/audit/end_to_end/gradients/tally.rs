//! What was measured of the gradients of one objective, and the rows that follow.

use std::collections::BTreeMap;

use ndarray::ArrayD;

use crate::report::{GradientCheck, GradientRow, Outcome, Verdict};

use super::super::super::evidence::Noise;
use super::super::super::measure::norm;
use super::super::super::precision::Proof;
use super::super::super::statistics::{maximum, quantile};
use super::super::super::verdict::{self, Decision, MARGIN, decide};
use super::super::judgement::outcome;
use super::super::{EndToEnd, Measured};
use super::pull::Failure;
use super::{Objective, Subject};

/// Gradients smaller than this many roundoffs of the largest one of their kind are rounding: sums of terms of that size
/// that cancel (a bias in front of a normalisation).
const CANCELLED: f64 = 1e4;

/// With respect to what.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Wrt {
    /// Position among the inputs.
    Input(usize),
    /// Position among the parameters.
    Parameter(usize),
}

impl Wrt {
    fn is_input(self) -> bool {
        matches!(self, Wrt::Input(_))
    }
}

/// Norms, by precision: the model's own, double.
#[derive(Debug, Clone, Default)]
pub(super) struct Tally {
    /// Of the difference of both sides, and of the side at x.
    errors: [Vec<(f64, f64)>; 2],
    /// The pairs that they are of.
    ids: [Vec<u64>; 2],
    /// Pairs on which a gradient was not finite.
    not_finite: [usize; 2],
    /// Whether there was a gradient path.
    path: bool,
    noise: [Vec<f64>; 2],
    repeat: [f64; 2],
    nonlinear: [f64; 2],
    /// Between the precisions.
    pub(super) differ: Vec<f64>,
    pub(super) constants: Vec<f64>,
}

impl Tally {
    pub(super) fn rounded(&mut self, wide: bool, size: f64) {
        if size.is_finite() {
            self.noise[usize::from(wide)].push(size);
        }
    }

    pub(super) fn repeated(&mut self, wide: bool, size: f64) {
        let slot = &mut self.repeat[usize::from(wide)];
        *slot = slot.max(size);
    }

    pub(super) fn nonlinear(&mut self, wide: bool, size: f64) {
        let slot = &mut self.nonlinear[usize::from(wide)];
        *slot = slot.max(size);
    }

    /// Root mean square of the gradient over inputs and cotangents.
    fn scale(&self, wide: bool) -> f64 {
        let sizes = &self.errors[usize::from(wide)];
        (sizes.iter().map(|(_, size)| size * size).sum::<f64>() / sizes.len().max(1) as f64).sqrt()
    }

    /// Largest error over `max(||gradient||, scale)`.
    fn error(&self, wide: bool, scale: f64) -> f64 {
        let over = |(difference, size): &(f64, f64)| ratio(*difference, size.max(scale));
        maximum(&self.errors[usize::from(wide)].iter().map(over).collect::<Vec<_>>())
    }
}

fn ratio(size: f64, scale: f64) -> f64 {
    if size == 0.0 { 0.0 } else { size / scale }
}

/// All of one objective.
#[derive(Debug, Clone, Default)]
pub(super) struct Tallies {
    by: BTreeMap<Wrt, Tally>,
    names: BTreeMap<usize, (String, bool)>,
    /// By precision.
    pub(super) pairs: [usize; 2],
    failures: [Vec<Failure>; 2],
}

impl Tallies {
    pub(super) fn of(&mut self, wrt: Wrt) -> &mut Tally {
        self.by.entry(wrt).or_default()
    }

    pub(super) fn failed(&mut self, wide: bool, failure: Failure) {
        self.failures[usize::from(wide)].push(failure);
    }

    pub(super) fn name(&mut self, parameter: usize, name: &str, frozen: bool) {
        self.names.entry(parameter).or_insert_with(|| (name.to_owned(), frozen));
    }

    /// One pair; where one side alone has no path its gradient is zero.
    pub(super) fn compared(
        &mut self,
        wrt: Wrt,
        wide: bool,
        pair: u64,
        left: Option<&ArrayD<f64>>,
        right: Option<&ArrayD<f64>>,
    ) {
        let tally = self.of(wrt);
        let (difference, size) = match (left, right) {
            (None, None) => return,
            (Some(left), Some(right)) if left.shape() == right.shape() => {
                (norm(&(left - right)), norm(right))
            }
            (Some(one), _) | (None, Some(one)) => (norm(one), norm(one)),
        };
        tally.path = true;
        if difference.is_finite() && size.is_finite() {
            tally.errors[usize::from(wide)].push((difference, size));
            tally.ids[usize::from(wide)].push(pair);
        } else {
            tally.not_finite[usize::from(wide)] += 1;
        }
    }

    /// The pairs with the largest errors by inputs and by parameters, in double precision where there is one: an
    /// ill-conditioned pair is judged by its own noise.
    pub(super) fn worst_pairs(&self) -> Vec<u64> {
        let wide = self.pairs[1] > 0;
        let mut worst = Vec::new();
        for inputs in [true, false] {
            let of_kind = self.by.iter().filter(|(wrt, _)| wrt.is_input() == inputs);
            let figures = of_kind.flat_map(|(_, tally)| {
                let scale = tally.scale(wide);
                let errors = tally.errors[usize::from(wide)].iter().zip(&tally.ids[usize::from(wide)]);
                errors.map(move |((difference, size), id)| (ratio(*difference, size.max(scale)), *id))
            });
            worst.extend(figures.max_by(|a, b| a.0.total_cmp(&b.0).then(b.1.cmp(&a.1))).map(|(_, id)| id));
        }
        worst.sort_unstable();
        worst.dedup();
        worst
    }

    /// Whether any gradient path was seen.
    pub(super) fn has_path(&self) -> bool {
        self.by.values().any(|tally| tally.path)
    }

    /// Largest effect of moves of one unit in the last place over the gradient's scale.
    pub(super) fn relative_noise(&self, wrt: Wrt, wide: bool) -> f64 {
        self.by.get(&wrt).map_or(0.0, |tally| {
            let scale = tally.scale(wide);
            if scale > 0.0 { maximum(&tally.noise[usize::from(wide)]) / scale } else { 0.0 }
        })
    }

    /// The larger scale of all gradients of a kind.
    fn largest(&self, inputs: bool, wide: bool) -> f64 {
        let of_kind = self.by.iter().filter(|(wrt, _)| wrt.is_input() == inputs);
        maximum(&of_kind.map(|(_, tally)| tally.scale(wide)).collect::<Vec<_>>())
    }
}

/// What is known of one target, as relative figures.
struct Figures {
    error: f64,
    double: Option<f64>,
    noise: Noise,
    repeat: f64,
    nonlinear: f64,
    /// The smallest effect of a move of one unit in the last place: what differs between equal calls raises the others.
    least_noise: f64,
    /// The largest gradient of its kind is so much larger that this one is rounding.
    cancelled: bool,
    zero: bool,
}

impl EndToEnd<'_> {
    /// Rows of one objective.
    pub(super) fn judge_gradients(
        &self,
        subject: &Subject<'_>,
        objective: &Objective,
        tallies: &Tallies,
        measured: &Measured,
        rows: &mut Vec<GradientRow>,
    ) {
        if !self.pathless_rows(&subject.mode, objective, tallies, rows) {
            return;
        }
        let names = self.input_names();
        for (wrt, tally) in tallies.by.iter().filter(|(_, tally)| tally.path) {
            let (check, name) = match wrt {
                Wrt::Input(i) => (GradientCheck::Input, names[*i].clone()),
                Wrt::Parameter(p) => {
                    (GradientCheck::Parameter, tallies.names.get(p).map_or_else(String::new, |n| n.0.clone()))
                }
            };
            let target = Some(name);
            let not_finite = tally.not_finite[0].max(tally.not_finite[1]);
            if not_finite > 0 {
                let all = tallies.pairs[0];
                let reason = format!("not finite on {not_finite} of {all} pairs of the plan");
                let (check, outcome) = (GradientCheck::Finite, Outcome::NotFinite);
                rows.push(GradientRow {
                    verdict: Some(Verdict::Fail),
                    ..objective.row(check, &subject.mode, target.clone(), all, outcome, reason)
                });
            }
            let pairs = tally.errors[0].len();
            if pairs == 0 {
                continue;
            }
            let figures = Self::gradient_figures(*wrt, tally, tallies, subject, objective, measured);
            let (decision, noise) = self.decide_gradient(&figures, objective, measured);
            let row = |check, pairs, outcome, reason: String| {
                objective.row(check, &subject.mode, target.clone(), pairs, outcome, reason)
            };
            if figures.zero || figures.cancelled {
                let rounding = if figures.zero { "" } else { ", up to rounding" };
                let reason = format!("the gradient is zero on all samples{rounding}");
                rows.push(row(check, pairs, Outcome::NotJudged, reason));
                continue;
            }
            rows.push(GradientRow {
                max_relative: Some(figures.error),
                max_relative_f64: figures.double,
                noise: Some(noise),
                verdict: Some(decision.verdict),
                ..row(check, pairs, outcome(&decision), decision.reason)
            });
            if figures.repeat > MARGIN * figures.least_noise {
                let reason = format!(
                    "three equal calls give different gradients: they differ by {:.1e}",
                    figures.repeat
                );
                rows.push(GradientRow {
                    max_relative: Some(figures.repeat),
                    noise: Some(figures.least_noise),
                    verdict: Some(Verdict::NeedsAttention),
                    ..row(GradientCheck::Repetition, 1, Outcome::Violated, reason)
                });
            }
            if figures.nonlinear > MARGIN * noise {
                let reason = format!(
                    "the gradient of twice the cotangent is not twice the gradient (off by {:.1e}): a hook or the \
                     backward clips, normalises or rounds it",
                    figures.nonlinear
                );
                rows.push(GradientRow {
                    max_relative: Some(figures.nonlinear),
                    noise: Some(noise),
                    ..row(GradientCheck::Linearity, 1, Outcome::Violated, reason)
                });
            }
        }
    }

    /// Rows for what cannot be differentiated; whether anything is left.
    fn pathless_rows(
        &self,
        mode: &str,
        objective: &Objective,
        tallies: &Tallies,
        rows: &mut Vec<GradientRow>,
    ) -> bool {
        let pairs = tallies.pairs[0];
        if let Some(failure) = tallies.failures[0].first() {
            let why = failure.why();
            let reason = if pairs == 0 {
                format!("the backward could not be run: {why}")
            } else {
                format!("the backward runs on some inputs and not on others: {why}")
            };
            rows.push(objective.row(GradientCheck::Input, mode, None, 0, Outcome::NotJudged, reason));
            if pairs == 0 {
                return false;
            }
        }
        if !tallies.has_path() {
            let reason = format!(
                "no gradient path leads from output `{}` to any input or parameter (detached, computed under no_grad, or \
                 a derivative taken without create_graph)",
                objective.name
            );
            rows.push(objective.row(GradientCheck::Input, mode, None, pairs, Outcome::NotApplicable, reason));
            return false;
        }
        let mut not_applicable = |check, name: &str, reason: &str| {
            let target = Some(name.to_owned());
            rows.push(objective.row(check, mode, target, pairs, Outcome::NotApplicable, reason));
        };
        for (i, name) in self.input_names().iter().enumerate() {
            let tally = tallies.by.get(&Wrt::Input(i));
            if self.cases[0].inputs[i].dtype().is_inexact() && tally.is_none_or(|tally| !tally.path) {
                let reason = "no gradient path: the output does not depend on this input, or the path is cut";
                not_applicable(GradientCheck::Input, name, reason);
            }
        }
        for (name, _) in tallies.names.values().filter(|(_, frozen)| *frozen) {
            let reason = "frozen: it asks for no gradient (requires_grad=False)";
            not_applicable(GradientCheck::Parameter, name, reason);
        }
        true
    }

    fn gradient_figures(
        wrt: Wrt,
        tally: &Tally,
        tallies: &Tallies,
        subject: &Subject<'_>,
        objective: &Objective,
        measured: &Measured,
    ) -> Figures {
        let has_double = subject.double.is_some() && !tally.errors[1].is_empty();
        let floor = |wide: bool, roundoff: f64| CANCELLED * roundoff * tallies.largest(wrt.is_input(), wide);
        let own = tally.scale(false);
        let scale = own.max(floor(false, measured.roundoff));
        let double_roundoff = 2f64.powi(-53);
        let wide_scale = tally.scale(true).max(floor(true, double_roundoff));
        let settle = |values: &[f64], scale: f64| {
            let (middle, largest) = (quantile(values, 0.5), maximum(values));
            let jump = middle > 0.0 && largest > 100.0 * middle;
            (ratio(if jump { middle } else { largest }, scale), jump)
        };
        let (rounding, jump) = settle(&tally.noise[0], scale);
        let (double_noise, jump_double) = settle(&tally.noise[1], wide_scale);
        let differ = ratio(maximum(&tally.differ), scale);
        let mut noise = Noise {
            rounding,
            double: double_noise.max(differ * double_roundoff / measured.roundoff),
            constants: ratio(maximum(&tally.constants), wide_scale),
            discontinuous: jump || jump_double,
            precisions_differ: differ,
            repeat_double: ratio(tally.repeat[1], wide_scale),
        };
        let error = tally.error(false, scale);
        let double = if subject.is_double {
            noise.double = noise.rounding;
            noise.repeat_double = ratio(tally.repeat[0], scale);
            Some(error)
        } else {
            has_double.then(|| tally.error(true, wide_scale))
        };
        let proven = match objective.output {
            Some(o) => measured.proven.outputs[o] == Proof::Double,
            None => measured.proven.outputs.iter().all(|proof| *proof == Proof::Double),
        };
        let double = double.filter(|_| proven && noise.same_function());
        let cancelled = if double.is_some() && has_double {
            tally.scale(true) < floor(true, double_roundoff)
        } else {
            own < floor(false, measured.roundoff)
        };
        Figures {
            error,
            double,
            noise,
            repeat: ratio(tally.repeat[0], scale),
            nonlinear: ratio(tally.nonlinear[0], scale),
            least_noise: ratio(tally.noise[0].iter().copied().reduce(f64::min).unwrap_or(0.0), scale)
                .max(2.0 * measured.roundoff),
            cancelled,
            zero: own == 0.0 && error == 0.0 && double.unwrap_or(0.0) == 0.0 && tally.scale(true) == 0.0,
        }
    }

    fn decide_gradient(
        &self,
        figures: &Figures,
        objective: &Objective,
        measured: &Measured,
    ) -> (Decision, f64) {
        let noise = &figures.noise;
        let double = figures.double.map(|error| noise.in_double(error, error));
        let evidence = verdict::Evidence {
            failure: None,
            scaled: figures.error,
            at_rest: figures.error,
            relative: figures.error,
            noise: noise.working(measured.roundoff, double.is_some()),
            rounding: noise.floor(measured.roundoff),
            repeat: figures.repeat,
            double,
            vacuous: None,
            cut_short: None,
            interpolated: None,
            control: None,
            tolerance: self.options.tolerances.get(&objective.name).copied().or(self.options.tolerance),
        };
        let levels = Self::gradient_levels(&measured.levels);
        (decide(&evidence, &levels, self.options.levels.approximate), evidence.noise)
    }
}
