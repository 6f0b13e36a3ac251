//! The identities in train mode. Random masks on an axis that the group moves must move with it: they are recorded on x
//! and replayed, moved, on T x (METHOD 17). How they move is tried out on the forward.

use std::collections::BTreeMap;

use crate::Error;
use crate::model::{Call, CallError, Draw, Model};
use crate::report::{GradientCheck, GradientRow, Outcome};
use crate::symmetry::{BoundLayout, Factor, Layout, UpTo};

use super::super::super::replay::Replay;
use super::super::super::sampling::{Draws, Part, Purpose};
use super::super::{DoubleModel, EndToEnd, Measured};
use super::{Objective, Pair, Subject};

/// Which of a draw's axes that are as long as a permuted one are permuted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Moved {
    Nothing,
    First,
    Last,
    All,
}

/// The random draws of train mode.
struct Training {
    /// By sample.
    draws: BTreeMap<usize, Vec<Draw>>,
    /// Whether there are some that cannot be recorded.
    hidden: bool,
}

impl EndToEnd<'_> {
    pub(super) fn train_rows(
        &mut self,
        model: &mut dyn Model,
        double: &mut DoubleModel,
        objectives: &[Objective],
        pairs: &[Pair],
        measured: &Measured,
        rows: &mut Vec<GradientRow>,
    ) -> Result<(), Error> {
        if model.info().mode != "eval" || self.calls.replay.is_some() || pairs.is_empty() {
            return Ok(());
        }
        let mut trained = match model.training() {
            Ok(trained) => trained,
            Err(why) => {
                self.notes.push(format!("gradients in train mode were not audited: {}", why.0));
                return Ok(());
            }
        };
        let mut trained_double = match double {
            DoubleModel::Copy(copy) => copy.training().ok(),
            _ => None,
        };
        let not_judged = |objective: &Objective, reason: String| {
            objective.row(GradientCheck::Input, "train", None, 0, Outcome::NotJudged, reason)
        };
        let sample = pairs[0].sample;
        let inputs = self.inputs(sample, false);
        let values = match self.calls.evaluate("gradients, train mode", trained.as_mut(), sample, &inputs)? {
            Ok(values) => values,
            Err(why) => {
                let reason = format!("the model raises in train mode: {why}");
                rows.extend(objectives.iter().map(|objective| not_judged(objective, reason.clone())));
                return Ok(());
            }
        };
        if values == self.cases[sample].base {
            self.notes.push(
                "in train mode the model computes the same as in eval mode: its gradients were audited once"
                    .to_owned(),
            );
            return Ok(());
        }
        let drawn = self.training_draws(trained.as_mut(), pairs)?;
        let is_double = matches!(double, DoubleModel::Same);
        for objective in objectives {
            let up_to_sign = objective.output.is_some_and(|o| {
                let layout = &self.cases[sample].outputs[o];
                layout.layout().up_to() == Some(&UpTo::Sign) || layout.holds_quaternions()
            });
            if up_to_sign {
                continue;
            }
            let wide = trained_double.is_some();
            let tested: &mut dyn Model = match &mut trained_double {
                Some(double) => double.as_mut(),
                None => trained.as_mut(),
            };
            let Some(used) = self.trained_pairs(tested, wide, objective, pairs, &drawn, measured)? else {
                let reason = "no way was found in which the random draws move with the group: the gradients in train \
                              mode cannot be judged";
                rows.push(not_judged(objective, reason.to_owned()));
                self.calls.replay = None;
                continue;
            };
            let mut subject = Subject {
                mode: "train".to_owned(),
                model: trained.as_mut(),
                double: match &mut trained_double {
                    Some(double) => Some(double.as_mut()),
                    None => None,
                },
                is_double,
            };
            let tallies = self.tallied(&mut subject, objective, &used)?;
            self.judge_gradients(&subject, objective, &tallies, measured, rows);
            self.calls.replay = None;
        }
        Ok(())
    }

    /// Pairs on which the gradients can be compared, with the draws set up for their replay; `None` where masks could not
    /// be moved with the group.
    fn trained_pairs(
        &mut self,
        model: &mut dyn Model,
        wide: bool,
        objective: &Objective,
        pairs: &[Pair],
        drawn: &Training,
        measured: &Measured,
    ) -> Result<Option<Vec<Pair>>, Error> {
        let none = drawn.draws.values().all(Vec::is_empty);
        if none && !drawn.hidden {
            return Ok(Some(pairs.to_vec()));
        }
        if !drawn.hidden && self.move_draws(model, wide, objective, pairs, &drawn.draws, measured)? {
            return Ok(Some(pairs.to_vec()));
        }
        // Masks in an order of the model's own (its edges), or inside a kernel, cannot be moved; rotations leave them
        // where they are.
        self.calls.replay = None;
        if !none {
            self.bind_draws(&drawn.draws, Moved::Nothing, false);
        }
        let used = self.rotations(pairs);
        if used.is_empty() {
            return Ok(None);
        }
        // Gaussian noise on vectors would have to turn with them; a mask on their components is a break.
        let excused = drawn.hidden || drawn.draws.values().flatten().any(|draw| draw.gaussian);
        let holds = self.forward_holds(model, wide, objective, &used, measured)?;
        Ok((holds || !excused).then_some(used))
    }

    /// The draws that the model makes on each sample.
    fn training_draws(&mut self, model: &mut dyn Model, pairs: &[Pair]) -> Result<Training, Error> {
        let mut training = Training { draws: BTreeMap::new(), hidden: model.replays_draws().is_err() };
        for pair in pairs {
            if training.hidden || training.draws.contains_key(&pair.sample) {
                continue;
            }
            let inputs = self.inputs(pair.sample, false);
            let source = self.calls.source(pair.sample);
            let call = Call { sample: source, inputs: &inputs, reset_generators: true, restore_state: true };
            match model.forward_with_draws(&call, None) {
                Ok(drawn) => {
                    training.hidden |= !drawn.out_of_reach.is_empty();
                    training.draws.insert(pair.sample, drawn.draws);
                }
                Err(CallError::Interrupted) => return Err(Error::Interrupted),
                Err(CallError::Raised(_)) => training.hidden = true,
            }
        }
        if training.draws.values().all(Vec::is_empty) {
            // Draws of generators that nobody records: calls differ from one another.
            let sample = pairs[0].sample;
            let inputs = self.inputs(sample, false);
            let call = Call { sample, inputs: &inputs, reset_generators: false, restore_state: true };
            let purpose = "gradients, train mode";
            let first = self.calls.raw(purpose, model, &call)?.map(|(outputs, _)| outputs);
            let second = self.calls.raw(purpose, model, &call)?.map(|(outputs, _)| outputs);
            training.hidden |= first != second;
        }
        Ok(training)
    }

    /// Finds how the draws move, so that the forward keeps the symmetry; whether a way was found.
    fn move_draws(
        &mut self,
        model: &mut dyn Model,
        wide: bool,
        objective: &Objective,
        pairs: &[Pair],
        draws: &BTreeMap<usize, Vec<Draw>>,
        measured: &Measured,
    ) -> Result<bool, Error> {
        for vectors in [false, true] {
            if vectors && !draws.values().flatten().any(|draw| draw.gaussian) {
                continue;
            }
            for moved in [Moved::First, Moved::Nothing, Moved::Last, Moved::All] {
                self.bind_draws(draws, moved, vectors);
                if self.forward_holds(model, wide, objective, pairs, measured)? {
                    return Ok(true);
                }
            }
        }
        Ok(false)
    }

    fn forward_holds(
        &mut self,
        model: &mut dyn Model,
        wide: bool,
        objective: &Objective,
        pairs: &[Pair],
        measured: &Measured,
    ) -> Result<bool, Error> {
        let outputs: Vec<usize> = match objective.output {
            Some(o) => vec![o],
            None => (0..self.outputs().len()).collect(),
        };
        for o in outputs {
            match self.forward_error(model, wide, o, pairs)? {
                Some(error) if error < measured.levels.excellent => {}
                _ => return Ok(false),
            }
        }
        Ok(true)
    }

    /// Has the draws replayed, moved in this way.
    fn bind_draws(&mut self, draws: &BTreeMap<usize, Vec<Draw>>, moved: Moved, vectors: bool) {
        let mut replay = Replay::empty();
        for (sample, draws) in draws {
            let bound = draws.iter().map(|draw| self.draw_layout(*sample, draw, moved, vectors)).collect();
            let source = self.calls.source(*sample);
            replay.put(source, draws.clone(), bound);
        }
        self.calls.replay = Some(replay);
    }

    /// The layout of a draw: permuted axes by their length, and vectors of Gaussian noise.
    fn draw_layout(&self, sample: usize, draw: &Draw, moved: Moved, vectors: bool) -> Option<BoundLayout> {
        let group = self.specification.group();
        let mut words: Vec<String> = (0..draw.shape.len()).map(|at| format!("axis{at}!")).collect();
        let mut moves = false;
        for (name, length) in &self.cases[sample].space.axes {
            let fitting: Vec<usize> = (0..draw.shape.len()).filter(|at| draw.shape[*at] == *length).collect();
            let chosen: &[usize] = match moved {
                Moved::Nothing => &[],
                Moved::First => &fitting[..fitting.len().min(1)],
                Moved::Last => &fitting[fitting.len().saturating_sub(1)..],
                Moved::All => &fitting,
            };
            for at in chosen {
                words[*at].clone_from(name);
                moves = true;
            }
        }
        if vectors
            && draw.gaussian
            && draw.shape.last() == group.dimension().as_ref()
            && let Some(last) = words.last_mut()
        {
            "vector".clone_into(last);
            moves = true;
        }
        if !moves {
            return None;
        }
        let layout = Layout::parse(&words.join(" "), group).ok()?;
        let axes = &self.cases[sample].space.axes;
        BoundLayout::with_lengths(&layout, &draw.shape, group, "a random draw", axes).ok()
    }

    /// Pairs of rotations alone, which permute nothing and shift no grid.
    fn rotations(&self, pairs: &[Pair]) -> Vec<Pair> {
        let factors = self.specification.group().factors();
        let grids = self.cases.iter().any(|case| !case.space.grid.is_empty());
        let linear =
            factors.into_iter().find(|f| matches!(f, Factor::Linear { .. } | Factor::Lorentz { .. }));
        let Some(factor) = linear.filter(|_| !grids) else { return Vec::new() };
        let part = Part::Alone(factor);
        pairs
            .iter()
            .filter_map(|pair| {
                let mut draws =
                    Draws::new(self.options.seed, pair.sample, 1 << 32 | pair.id, Purpose::Gradients);
                let element = self.exact_element(pair.sample, &part, &mut draws)?;
                Some(Pair { element, ..pair.clone() })
            })
            .collect()
    }
}
