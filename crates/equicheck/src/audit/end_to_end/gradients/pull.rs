//! One forward and one backward of the model.

use std::time::Instant;

use ndarray::ArrayD;

use crate::Error;
use crate::model::{Call, DType, Differentiation, Gradient, Model, PullbackError, Tensor};
use crate::symmetry::{BoundLayout, Element};

use super::super::super::calls::Value;
use super::super::super::measure::norm;
use super::super::EndToEnd;
use super::Objective;
use super::tally::Wrt;

const PURPOSE: &str = "gradients";

/// Where gradients are taken.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place<'e> {
    pub(super) sample: usize,
    /// The element that the inputs were moved by.
    pub(super) element: Option<&'e Element>,
    /// Whether in double precision.
    pub(super) wide: bool,
}

/// Why there are no gradients.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Failure {
    Unavailable(String),
    Raised(String),
}

impl Failure {
    pub(super) fn why(&self) -> &str {
        match self {
            Failure::Unavailable(why) | Failure::Raised(why) => why,
        }
    }
}

/// The gradient of one parameter tensor.
#[derive(Debug, Clone)]
pub(super) enum Slot {
    Values(ArrayD<f64>),
    NoPath,
    Frozen,
}

impl Slot {
    pub(super) fn is_frozen(&self) -> bool {
        matches!(self, Slot::Frozen)
    }

    pub(super) fn values(&self) -> Option<&ArrayD<f64>> {
        match self {
            Slot::Values(values) => Some(values),
            _ => None,
        }
    }
}

/// Gradients as real numbers; complex ones have a last axis of length 2.
#[derive(Debug, Clone)]
pub(super) struct Pulled {
    /// Declared outputs.
    pub(super) outputs: Vec<Value>,
    pub(super) inputs: Vec<Option<ArrayD<f64>>>,
    pub(super) parameters: Vec<(String, Slot)>,
}

impl Pulled {
    /// All gradients that have a path.
    pub(super) fn all(&self) -> impl Iterator<Item = (Wrt, &ArrayD<f64>)> {
        let inputs = self.inputs.iter().enumerate().filter_map(|(i, g)| Some((Wrt::Input(i), g.as_ref()?)));
        let parameters = self.parameters.iter().enumerate();
        inputs.chain(parameters.filter_map(|(p, (_, slot))| Some((Wrt::Parameter(p), slot.values()?))))
    }

    pub(super) fn of(&self, wrt: Wrt) -> Option<&ArrayD<f64>> {
        match wrt {
            Wrt::Input(i) => self.inputs.get(i)?.as_ref(),
            Wrt::Parameter(p) => self.parameters.get(p)?.1.values(),
        }
    }

    /// Norms of differences, for what has a path in both.
    pub(super) fn differences(&self, other: &Self, found: &mut dyn FnMut(Wrt, f64)) {
        for (wrt, own) in self.all() {
            if let Some(other) = other.of(wrt).filter(|other| other.shape() == own.shape()) {
                found(wrt, norm(&(own - other)));
            }
        }
    }

    fn map(&self, change: impl Fn(Wrt, &ArrayD<f64>) -> ArrayD<f64>) -> Self {
        let mut result = self.clone();
        for (i, slot) in result.inputs.iter_mut().enumerate() {
            if let Some(values) = slot {
                *values = change(Wrt::Input(i), values);
            }
        }
        for (p, (_, slot)) in result.parameters.iter_mut().enumerate() {
            if let Slot::Values(values) = slot {
                *values = change(Wrt::Parameter(p), values);
            }
        }
        result
    }

    /// The difference; what has no path in `other` stays.
    pub(super) fn less(&self, other: &Self) -> Self {
        self.map(|wrt, values| match other.of(wrt).filter(|other| other.shape() == values.shape()) {
            Some(other) => values - other,
            None => values.clone(),
        })
    }

    pub(super) fn scaled(&self, factor: f64) -> Self {
        self.map(|_, values| values * factor)
    }

    /// Norms.
    pub(super) fn sizes(&self, found: &mut dyn FnMut(Wrt, f64)) {
        self.all().for_each(|(wrt, values)| found(wrt, norm(values)));
    }

    /// `A+` of gradients by the inputs; those by parameters as they are.
    pub(super) fn back(&self, layouts: &[Option<BoundLayout>], element: &Element) -> Self {
        self.map(|wrt, values| match wrt {
            Wrt::Input(i) => layouts[i]
                .as_ref()
                .map_or_else(|| values.clone(), |layout| layout.act_transposed(element, values)),
            Wrt::Parameter(_) => values.clone(),
        })
    }
}

impl EndToEnd<'_> {
    /// The type of an output's cotangent.
    pub(super) fn cotangent_type(&self, sample: usize, objective: &Objective, wide: bool) -> DType {
        let dtype = objective.output.map_or(DType::Float64, |o| self.cases[sample].base[o].dtype);
        if wide { dtype.double() } else { dtype }
    }

    /// Gradients of an objective by all inputs, and by the parameters if asked for; `cotangent` is `None` for the loss.
    pub(super) fn pull(
        &mut self,
        model: &mut dyn Model,
        place: &Place<'_>,
        inputs: &[Tensor],
        objective: &Objective,
        cotangent: Option<&ArrayD<f64>>,
        parameters: bool,
    ) -> Result<Result<Pulled, Failure>, Error> {
        let dtype = self.cotangent_type(place.sample, objective, place.wide);
        let cotangents =
            cotangent.map(|w| vec![(objective.name.clone(), Tensor::from_real(w.clone(), dtype))]);
        self.pull_with(model, place, inputs, cotangents.as_deref(), parameters, None)
    }

    /// The same with cotangents as they are given, and along directions for the second order.
    pub(super) fn pull_with(
        &mut self,
        model: &mut dyn Model,
        place: &Place<'_>,
        inputs: &[Tensor],
        cotangents: Option<&[(String, Tensor)]>,
        parameters: bool,
        directions: Option<&[Option<Tensor>]>,
    ) -> Result<Result<Pulled, Failure>, Error> {
        self.calls.count(PURPOSE);
        let start = Instant::now();
        let source = self.calls.source(place.sample);
        let draws = self.calls.replay.as_ref().and_then(|replay| replay.acted(source, place.element));
        let call = Call { sample: source, inputs, reset_generators: true, restore_state: true };
        let wanted = Differentiation { cotangents, parameters, directions, draws: draws.as_deref() };
        let pulled = model.pullback(&call, &wanted);
        self.calls.time += start.elapsed();
        let pulled = match pulled {
            Ok(pulled) => pulled,
            Err(PullbackError::Unavailable(why)) => return Ok(Err(Failure::Unavailable(why))),
            Err(PullbackError::Raised(why)) => return Ok(Err(Failure::Raised(why))),
            Err(PullbackError::Interrupted) => return Err(Error::Interrupted),
        };
        let outputs = match self.calls.pick(pulled.outputs) {
            Ok(outputs) => outputs,
            Err(why) => return Ok(Err(Failure::Raised(why))),
        };
        let slot = |gradient: Gradient| match gradient {
            Gradient::Values(tensor) => Slot::Values(tensor.to_real()),
            Gradient::NoPath => Slot::NoPath,
            Gradient::Frozen => Slot::Frozen,
        };
        Ok(Ok(Pulled {
            outputs,
            inputs: pulled.inputs.iter().map(|g| g.as_ref().map(Tensor::to_real)).collect(),
            parameters: pulled.parameters.into_iter().map(|(name, g)| (name, slot(g))).collect(),
        }))
    }
}
