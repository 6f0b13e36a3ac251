//! Calling the model: counted, timed, its outputs picked by declared name.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use ndarray::ArrayD;

use crate::Error;
use crate::model::{Call, CallError, DType, Model, Output, Tensor};
use crate::symmetry::Element;

use super::replay::Replay;

/// What one declared output was.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Value {
    pub(crate) shape: Vec<usize>,
    pub(crate) dtype: DType,
    pub(crate) values: ArrayD<f64>,
}

impl Value {
    /// Whether two values can be subtracted: equal shapes, both complex or both not.
    pub(crate) fn comparable(&self, other: &Self) -> bool {
        self.values.shape() == other.values.shape()
    }
}

/// The declared outputs in declared order, or why there are none.
pub(crate) type Evaluation = Result<Vec<Value>, String>;

/// All outputs and the positions of inputs that were written to, or why there are none.
pub(crate) type Raw = Result<(Vec<Output>, Vec<usize>), String>;

/// All calls go through here.
#[derive(Debug)]
pub(crate) struct Calls {
    pub(crate) names: Vec<String>,
    pub(crate) by_purpose: BTreeMap<String, u64>,
    pub(crate) time: Duration,
    /// By case: the user's sample that arguments which are no tensors come from.
    pub(crate) sources: Vec<usize>,
    fastest: BTreeMap<String, Duration>,
    /// Duration of the last call.
    pub(crate) last: Duration,
    /// Replays the model's random draws, transformed, if that was asked for.
    pub(crate) replay: Option<Replay>,
}

impl Calls {
    pub(crate) fn new(names: Vec<String>) -> Self {
        Self {
            names,
            by_purpose: BTreeMap::new(),
            time: Duration::ZERO,
            sources: Vec::new(),
            fastest: BTreeMap::new(),
            last: Duration::ZERO,
            replay: None,
        }
    }

    /// One call more for a purpose.
    pub(crate) fn count(&mut self, purpose: &str) {
        *self.by_purpose.entry(purpose.to_owned()).or_default() += 1;
    }

    /// The user's sample that a case is, or is a copy of.
    pub(crate) fn source(&self, case: usize) -> usize {
        self.sources.get(case).copied().unwrap_or(case)
    }

    /// Shortest duration of the calls for a purpose, which no warm-up lengthens; 0 of none.
    pub(crate) fn fastest(&self, purpose: &str) -> Duration {
        self.fastest.get(purpose).copied().unwrap_or_default()
    }

    /// A call with generators and state reset, so that it can be compared with any other.
    pub(crate) fn evaluate(
        &mut self,
        purpose: &str,
        model: &mut dyn Model,
        sample: usize,
        inputs: &[Tensor],
    ) -> Result<Evaluation, Error> {
        self.evaluate_at(purpose, model, sample, None, inputs)
    }

    /// The same on inputs that `element` has acted on: replayed draws are acted on alike.
    pub(crate) fn evaluate_at(
        &mut self,
        purpose: &str,
        model: &mut dyn Model,
        sample: usize,
        element: Option<&Element>,
        inputs: &[Tensor],
    ) -> Result<Evaluation, Error> {
        let call = Call { sample, inputs, reset_generators: true, restore_state: true };
        Ok(self.raw_at(purpose, model, element, &call)?.and_then(|(outputs, _)| self.pick(outputs)))
    }

    /// Any call: all outputs, and the inputs that were written to.
    pub(crate) fn raw(
        &mut self,
        purpose: &str,
        model: &mut dyn Model,
        call: &Call<'_>,
    ) -> Result<Raw, Error> {
        self.raw_at(purpose, model, None, call)
    }

    fn raw_at(
        &mut self,
        purpose: &str,
        model: &mut dyn Model,
        element: Option<&Element>,
        call: &Call<'_>,
    ) -> Result<Raw, Error> {
        self.count(purpose);
        let start = Instant::now();
        let call = &Call { sample: self.source(call.sample), ..*call };
        let returned = match &mut self.replay {
            Some(replay) => replay.call(model, call, element),
            None => model.forward(call),
        };
        self.last = start.elapsed();
        self.time += self.last;
        let fastest = self.fastest.entry(purpose.to_owned()).or_insert(self.last);
        *fastest = self.last.min(*fastest);
        match returned {
            Ok(returned) => Ok(Ok((returned.outputs, returned.written_inputs))),
            Err(CallError::Raised(why)) => Ok(Err(why)),
            Err(CallError::Interrupted) => Err(Error::Interrupted),
        }
    }

    /// The declared outputs among all.
    pub(crate) fn pick(&self, outputs: Vec<Output>) -> Evaluation {
        let mut found: BTreeMap<String, Tensor> =
            outputs.into_iter().filter_map(|o| o.tensor.map(|t| (o.name, t))).collect();
        self.names
            .iter()
            .map(|name| {
                let tensor = found.remove(name).ok_or_else(|| format!("no tensor `{name}` was returned"))?;
                Ok(Value { shape: tensor.shape().to_vec(), dtype: tensor.dtype(), values: tensor.to_real() })
            })
            .collect()
    }
}
