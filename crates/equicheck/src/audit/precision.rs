//! The proof that a double-precision model computes in double precision (DESIGN 5).

use ndarray::ArrayD;
use serde::{Deserialize, Serialize};

use crate::Error;
use crate::model::{Model, Tensor};
use crate::symmetry::{BoundLayout, Element};

use super::calls::{Calls, Evaluation, Value};
use super::measure::norm;
use super::noise::moved_by_one_ulp;
use super::sampling::{Draws, Purpose};
use super::verdict::MARGIN;

/// Relative moves of an input that single precision cannot see, smallest first.
const FINE: [i32; 4] = [-40, -36, -32, -28];
/// Moves that single precision sees, and that half-precision types see, smallest first.
const COARSE: [i32; 5] = [-20, -16, -12, -8, -4];
/// A relative change of an output by a unit in the last place that is a jump.
const JUMP: f64 = 1e-2;
/// Unit roundoffs that a model may have dropped to: from single precision over half precision to bfloat16.
const CANDIDATES: [i32; 6] = [-24, -21, -18, -14, -11, -8];

/// What the proof found for one output.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) enum Proof {
    /// It responds in proportion to moves of about 2^-40.
    Double,
    /// It does not, through this input; the unit roundoff of what the model keeps of it.
    Drops { input: String, effective_precision: f64 },
}

/// The proof for all outputs.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Proven {
    pub(crate) outputs: Vec<Proof>,
    /// By input: the unit roundoff that is left of it inside the model, where that is not its own.
    pub(crate) kept: Vec<Option<f64>>,
    /// By output: whether a tiny move of an input made it jump.
    pub(crate) jumps: Vec<bool>,
}

impl Proven {
    /// Nothing speaks against it.
    pub(crate) fn assumed(inputs: usize, outputs: usize) -> Self {
        Self { outputs: vec![Proof::Double; outputs], kept: vec![None; inputs], jumps: vec![false; outputs] }
    }

    /// What two samples showed together.
    pub(crate) fn join(&mut self, other: Self) {
        for (proof, found) in self.outputs.iter_mut().zip(other.outputs) {
            if *proof == Proof::Double {
                *proof = found;
            }
        }
        for (jumps, found) in self.jumps.iter_mut().zip(other.jumps) {
            *jumps |= found;
        }
        for (kept, found) in self.kept.iter_mut().zip(other.kept) {
            *kept = match (*kept, found) {
                (Some(a), Some(b)) => Some(a.min(b)),
                (a, b) => a.or(b),
            };
        }
    }
}

/// Moves each floating input that holds no labels along a random direction and compares the slopes of the response
/// at moves far below single precision with those above it: in proportion, all slopes agree; where precision is
/// dropped, small moves are swallowed (slope 0) or come out in steps.
#[expect(clippy::too_many_arguments, reason = "what a sample is, in parts")]
pub(crate) fn prove(
    calls: &mut Calls,
    model: &mut dyn Model,
    sample: usize,
    inputs: &[Tensor],
    labels: &[bool],
    names: &[String],
    base: &[Value],
    layouts: &[BoundLayout],
    seed: u64,
) -> Result<Result<Proven, String>, Error> {
    let mut proven = Proven::assumed(inputs.len(), base.len());
    for (j, input) in inputs.iter().enumerate() {
        if !input.dtype().is_inexact() || input.is_empty() || labels[j] {
            continue;
        }
        let mut draws = Draws::new(seed, sample, j as u64, Purpose::Precision);
        let real = input.to_real();
        let size = norm(&real) / (real.len() as f64).sqrt();
        let size = if size > 0.0 && size.is_finite() { size } else { 1.0 };
        let direction = real.mapv(|_| size * draws.normal());
        let mut one_ulp = inputs.to_vec();
        one_ulp[j] = moved_by_one_ulp(input, None, &mut draws);
        let rounded = response(calls.evaluate("precision proof", model, sample, &one_ulp)?, base);
        let mut slopes: Vec<(i32, Vec<ArrayD<f64>>)> = Vec::new();
        let mut respond =
            |calls: &mut Calls, power: i32| -> Result<Result<Vec<ArrayD<f64>>, String>, Error> {
                if let Some((_, known)) = slopes.iter().find(|(p, _)| *p == power) {
                    return Ok(Ok(known.clone()));
                }
                let step = 2f64.powi(power);
                let mut moved = inputs.to_vec();
                let target = &real + &(&direction * step);
                moved[j] = Tensor::from_real(target, input.dtype());
                let outcome = calls.evaluate("precision proof", model, sample, &moved)?;
                let slope = outcome.and_then(|values| {
                    values
                        .iter()
                        .zip(base)
                        .zip(layouts)
                        .map(|((after, before), layout)| {
                            if after.comparable(before) {
                                let same = Element::default();
                                Ok(layout.change(&same, &after.values, &before.values) / step)
                            } else {
                                Err("its output changes shape under a tiny change of an input".to_owned())
                            }
                        })
                        .collect::<Result<Vec<_>, String>>()
                });
                if let Ok(slope) = &slope {
                    slopes.push((power, slope.clone()));
                }
                Ok(slope)
            };
        let mut dropping = Vec::new();
        for (o, value) in base.iter().enumerate() {
            if proven.outputs[o] != Proof::Double {
                continue;
            }
            // Rounding of the two evaluations, a few units in the last place, seen through a division by the step.
            let noise = |power: i32| {
                (64.0 * 2f64.powi(-53) * norm(&value.values)).max(MARGIN * rounded[o]) / 2f64.powi(power)
            };
            let mut slope = |calls: &mut Calls, power: i32| -> Result<Result<ArrayD<f64>, String>, Error> {
                Ok(respond(calls, power)?.map(|slopes| slopes[o].clone()))
            };
            match look(calls, &noise, &mut slope)? {
                Ok(Look::Proportional) => {}
                Ok(Look::Jump) => proven.jumps[o] = true,
                Ok(Look::Drops) => dropping.push(o),
                Err(why) => return Ok(Err(why)),
            }
        }
        if dropping.is_empty() {
            continue;
        }
        let mut settled = None;
        for power in CANDIDATES {
            // A unit in the last place of what the model keeps is felt by most of an output; a smaller one is not.
            // One output is enough: the others may be rounded once more on their own way out.
            let unit = 2f64.powi(power);
            let mut moved = inputs.to_vec();
            moved[j] = moved_by_one_ulp(input, Some(unit), &mut draws);
            let Ok(values) = calls.evaluate("precision proof", model, sample, &moved)? else { break };
            let felt = values.iter().zip(base).filter(|(after, before)| after.comparable(before)).any(
                |(after, before)| {
                    let changed = after.values.iter().zip(&before.values).filter(|(a, b)| a != b).count();
                    2 * changed >= before.values.len() && changed > 0
                },
            );
            if felt {
                settled = Some(unit);
                break;
            }
        }
        // Where none is felt, the outputs' own type is all that is known.
        let outputs = base.iter().filter_map(|value| value.dtype.unit_roundoff()).fold(0.0, f64::max);
        let effective_precision = settled.unwrap_or(outputs.max(2f64.powi(-24)));
        proven.kept[j] = Some(effective_precision);
        for o in dropping {
            proven.outputs[o] = Proof::Drops { input: names[j].clone(), effective_precision };
        }
    }
    Ok(Ok(proven))
}

/// What a unit in the last place of double precision does to each output: where it is amplified, noise hides larger moves.
/// A jump is no rounding.
fn response(moved: Evaluation, base: &[Value]) -> Vec<f64> {
    let Ok(values) = moved else { return vec![0.0; base.len()] };
    let of = |(after, before): (&Value, &Value)| {
        let change = if after.comparable(before) { norm(&(&after.values - &before.values)) } else { 0.0 };
        if change < JUMP * norm(&before.values) { change } else { 0.0 }
    };
    values.iter().zip(base).map(of).collect()
}

/// What the slopes of one output say.
enum Look {
    /// Nothing speaks against double precision.
    Proportional,
    /// The smallest moves jump by as much as larger ones: the input sits on a discontinuity.
    Jump,
    /// Small moves are lost or come out in steps.
    Drops,
}

fn look(
    calls: &mut Calls,
    noise: &impl Fn(i32) -> f64,
    slope: &mut impl FnMut(&mut Calls, i32) -> Result<Result<ArrayD<f64>, String>, Error>,
) -> Result<Result<Look, String>, Error> {
    macro_rules! at {
        ($power:expr) => {
            match slope(calls, $power)? {
                Ok(slope) => slope,
                Err(why) => return Ok(Err(why)),
            }
        };
    }
    let visible = |slope: &ArrayD<f64>, power: i32| norm(slope) > 4.0 * noise(power);
    let single = at!(COARSE[0]);
    if !visible(&single, COARSE[0]) {
        // An output that feels coarser moves only has lost the finer ones, unless noise would hide them.
        for power in &COARSE[2..] {
            let coarse = at!(*power);
            if visible(&coarse, *power) {
                let hidden = noise(COARSE[0]) > 0.1 * norm(&coarse);
                return Ok(Ok(if hidden { Look::Proportional } else { Look::Drops }));
            }
        }
        return Ok(Ok(Look::Proportional));
    }
    let expected = norm(&single);
    let clean = |share: f64| FINE.into_iter().find(|power| noise(*power) <= share * expected);
    // Where rounding hides every move below single precision, noise decides, not this proof.
    let Some(power) = clean(0.002).or_else(|| clean(0.2)) else { return Ok(Ok(Look::Proportional)) };
    let fine = at!(power);
    // A smooth model bends by about 2^-20 of its slope over the coarse step; a branch of single precision that carries
    // a hundredth of the response shows beside it.
    if mismatch(&fine, &single) > 0.01 + 2.0 * noise(power) / expected {
        let (small, large) = (norm(&fine) * 2f64.powi(power), expected * 2f64.powi(COARSE[0]));
        return Ok(Ok(if small > 0.5 * large { Look::Jump } else { Look::Drops }));
    }
    // A branch of half precision is silent in both. Curvature fades in proportion to the step, steps do not.
    let bend = mismatch(&single, &at!(COARSE[2]));
    if bend > 0.5 && mismatch(&single, &at!(COARSE[1])) > 0.25 * bend {
        return Ok(Ok(Look::Drops));
    }
    Ok(Ok(Look::Proportional))
}

/// Relative difference of two slopes, by the larger.
fn mismatch(a: &ArrayD<f64>, b: &ArrayD<f64>) -> f64 {
    let larger = norm(a).max(norm(b));
    if larger == 0.0 { 0.0 } else { norm(&(a - b)) / larger }
}
