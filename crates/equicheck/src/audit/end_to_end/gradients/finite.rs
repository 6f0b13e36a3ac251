//! Gradients at inputs where roots, norms and quotients have singular points.

use std::collections::BTreeMap;

use crate::Error;
use crate::report::{GradientCheck, GradientRow, Outcome, StressKind};

use super::super::super::sampling::{Draws, Purpose};
use super::super::super::stress;
use super::super::EndToEnd;
use super::pull::Place;
use super::tally::Wrt;
use super::{LAST, Objective, Pair, Subject};

const KINDS: [StressKind; 5] = [
    StressKind::Coincident,
    StressKind::Collinear,
    StressKind::Planar,
    StressKind::AlongZ,
    StressKind::ZeroVectors,
];

impl EndToEnd<'_> {
    pub(super) fn finite_rows(
        &mut self,
        subject: &mut Subject<'_>,
        objective: &Objective,
        pairs: &[Pair],
        rows: &mut Vec<GradientRow>,
    ) -> Result<(), Error> {
        let Some(pair) = pairs.first() else { return Ok(()) };
        let sample = pair.sample;
        let known =
            self.with_source(sample, false, false, |source| Ok(stress::kinds(source))).unwrap_or_default();
        let cotangent = self.cotangent(pair, objective);
        let place = Place { sample, element: None, wide: false };
        let mut tried = 0;
        let mut found: BTreeMap<Wrt, (String, Vec<String>)> = BTreeMap::new();
        let mut faults = Vec::new();
        for kind in KINDS.into_iter().filter(|kind| known.contains(kind)) {
            if self.spent(LAST) {
                break;
            }
            let mut draws = Draws::new(self.options.seed, sample, kind as u64, Purpose::Stress);
            let derived =
                self.with_source(sample, false, false, |source| stress::derive(source, kind, &mut draws));
            let Ok(inputs) = derived else { continue };
            let pulled = self.pull(subject.model, &place, &inputs, objective, cotangent.as_ref(), true)?;
            let Ok(pulled) = pulled else { continue };
            if pulled.outputs.iter().any(|value| value.values.iter().any(|v| !v.is_finite())) {
                continue;
            }
            tried += 1;
            let before: usize = found.values().map(|(_, kinds)| kinds.len()).sum();
            for (wrt, gradient) in pulled.all() {
                if gradient.iter().all(|v| v.is_finite()) {
                    continue;
                }
                let what = if gradient.iter().any(|v| v.is_nan()) { "NaN" } else { "infinite" };
                let name = match wrt {
                    Wrt::Input(i) => self.input_names().swap_remove(i),
                    Wrt::Parameter(p) => pulled.parameters[p].0.clone(),
                };
                found.entry(wrt).or_insert((name, Vec::new())).1.push(format!("{what} at {kind}"));
            }
            let after: usize = found.values().map(|(_, kinds)| kinds.len()).sum();
            if faults.is_empty() && after > before {
                faults = self.not_finite_at(subject.model, sample, &inputs)?;
            }
        }
        let row = |target: Option<String>, outcome, reason: String| {
            objective.row(GradientCheck::Finite, &subject.mode, target, tried, outcome, reason)
        };
        if found.is_empty() && tried > 0 {
            let reason = format!("all gradients are finite at {tried} degenerate inputs");
            rows.push(row(None, Outcome::Holds, reason));
        }
        for (name, kinds) in found.into_values() {
            let row = row(Some(name), Outcome::NotFinite, kinds.join(", "));
            rows.push(GradientRow { faults: faults.clone(), ..row });
        }
        Ok(())
    }
}
