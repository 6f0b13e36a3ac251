//! Inputs that are symmetric themselves (perfect crystals, planar or collinear molecules) force outputs to zero, and
//! zero agrees with every action: rattled copies are judged beside them (METHOD 11).

use ndarray::ArrayD;

use crate::Error;
use crate::model::{Model, Tensor};
use crate::symmetry::BoundLayout;

use super::super::measure::{Scales, norm, root_mean_square};
use super::super::sampling::{Draws, Purpose};
use super::cases::spread_of_points;
use super::{EndToEnd, PROBED_SAMPLES};

/// Standard deviation of the displacements, as a share of the spread of the points, or of the size of what is no point:
/// enough to break a symmetry, too little to change what a sample is.
const RATTLED: f64 = 0.02;
/// An output within as many times its noise is zero.
const WITHIN: f64 = 10.0;
/// An output that rattling makes as many times larger than noise and than itself was forced to zero.
const BEYOND: f64 = 100.0;

impl EndToEnd<'_> {
    /// Samples on which the probes run: rattled copies first, as on them nothing is forced to zero.
    pub(super) fn probes(&self) -> Vec<usize> {
        let given = self.cases.len() - self.rattled;
        (given..self.cases.len()).chain(0..given).take(self.probed).collect()
    }

    /// Adds rattled copies of the first samples if some output that the group moves vanishes on these by their symmetry.
    pub(super) fn rattle(&mut self, model: &mut dyn Model) -> Result<(), Error> {
        if self.specification.custom_action().is_some() || self.late(0.2) {
            return Ok(());
        }
        let factors = self.specification.group().factors();
        let moved = |layout: &BoundLayout| factors.iter().any(|factor| layout.is_moved_by(factor));
        let moves: Vec<bool> = self.cases[0].outputs.iter().map(moved).collect();
        let tried = self.cases.len().min(PROBED_SAMPLES);
        let mut forced = moves;
        let mut copies = Vec::new();
        let mut displacement = 0.0_f64;
        for sample in 0..tried {
            let Some(sizes) = self.sizes_and_noise(sample, &forced, model)? else { return Ok(()) };
            // The first sample mostly tells, and costs little.
            if !forced.iter().zip(&sizes).any(|(forced, (size, noise))| *forced && *size <= WITHIN * noise) {
                return Ok(());
            }
            let mut draws = Draws::new(self.options.seed, sample, 0, Purpose::Rattling);
            let (inputs, moved_by) = self.rattled_inputs(sample, &mut draws);
            displacement = displacement.max(moved_by);
            let Ok(values) = self.calls.evaluate("rattled", model, sample, &inputs)? else { return Ok(()) };
            for (o, (size, noise)) in sizes.into_iter().enumerate() {
                let base = &self.cases[sample].base[o];
                let after = if values[o].comparable(base) { norm(&values[o].values) } else { 0.0 };
                forced[o] &= size <= WITHIN * noise
                    && after.is_finite()
                    && after > BEYOND * noise
                    && after > BEYOND * size;
            }
            if !forced.contains(&true) {
                return Ok(());
            }
            copies.push((sample, inputs));
        }
        for (sample, inputs) in copies {
            let case = self.case_of(self.cases.len(), sample, inputs, model)?;
            self.cases.push(case);
            self.rattled += 1;
        }
        let names: Vec<String> = self
            .outputs()
            .iter()
            .zip(&forced)
            .filter(|(_, forced)| **forced)
            .map(|((name, _), _)| format!("`{name}`"))
            .collect();
        self.notes.push(format!(
            "{} vanishes on the samples by their symmetry, and zero agrees with every action: {} rattled {} added \
             (normal displacements of {displacement:.2e}, {} % of the spread of the points)",
            names.join(", "),
            self.rattled,
            if self.rattled == 1 { "copy was" } else { "copies were" },
            RATTLED * 100.0
        ));
        self.forced = forced;
        Ok(())
    }

    /// By output: its norm, and by how much a move of the inputs by one unit in the last place changes it.
    fn sizes_and_noise(
        &mut self,
        sample: usize,
        wanted: &[bool],
        model: &mut dyn Model,
    ) -> Result<Option<Vec<(f64, f64)>>, Error> {
        if !wanted.contains(&true) {
            return Ok(None);
        }
        let mut draws = Draws::new(self.options.seed, sample, 1, Purpose::Rattling);
        let moved = self.nudged(sample, &self.cases[sample].inputs, &|_| self.computes_in, &mut draws);
        let Ok(values) = self.calls.evaluate("rattled", model, sample, &moved)? else { return Ok(None) };
        let pairs = self.cases[sample].base.iter().zip(&values).map(|(base, after)| {
            let noise = if base.comparable(after) { norm(&(&after.values - &base.values)) } else { 0.0 };
            (norm(&base.values), noise)
        });
        Ok(Some(pairs.collect()))
    }

    /// The sample with normal noise on what the group turns or shifts, and the standard deviation on points (on the first
    /// tensor that moves, where there are none).
    fn rattled_inputs(&self, sample: usize, draws: &mut Draws) -> (Vec<Tensor>, f64) {
        let case = &self.cases[sample];
        let spread = spread_of_points(&case.inputs, &case.layouts);
        let mut displacement = spread.map_or(0.0, |spread| RATTLED * spread);
        let mut result = Vec::new();
        for (tensor, layout) in case.inputs.iter().zip(&case.layouts) {
            // Noise leaves the unit quaternions.
            let moves = layout.as_ref().is_some_and(|l| l.is_spatial() && !l.holds_quaternions());
            if !moves || !tensor.dtype().is_inexact() {
                result.push(tensor.clone());
                continue;
            }
            let real = tensor.to_real();
            let points = layout.as_ref().is_some_and(|layout| layout.point_axis().is_some());
            let size = match spread.filter(|_| points) {
                Some(spread) => spread,
                None => root_mean_square(&real),
            };
            let deviation = RATTLED * if size.is_finite() { size } else { 0.0 };
            if displacement == 0.0 {
                displacement = deviation;
            }
            let rattled: ArrayD<f64> = real.mapv(|v| v + deviation * draws.normal());
            result.push(Tensor::from_real(rattled, tensor.dtype()));
        }
        (result, displacement)
    }

    /// Scales of all outputs by their values on the base inputs: of one that vanishes on these, by the rattled copies.
    pub(super) fn scales_of(&self, double: bool) -> Vec<Scales> {
        let given = self.cases.len() - self.rattled;
        let of = |o: usize| {
            let skipped = if self.forced.get(o).copied().unwrap_or(false) { given } else { 0 };
            Scales::new(self.cases[skipped..].iter().filter_map(|case| {
                let base = if double { case.double.as_ref()? } else { &case.base };
                Some((&case.outputs[o], &base[o].values))
            }))
        };
        (0..self.outputs().len()).map(of).collect()
    }
}
