//! Symmetries by functions of the host: their action, what it moves, and the laws that it must follow.

use ndarray::ArrayD;

use crate::Error;
use crate::model::{CustomAction, CustomElement, DType, Output, Tensor};
use crate::symmetry::Element;

use super::super::calls::Value;
use super::super::measure::norm;
use super::super::sampling::{self, Draws, Part, Purpose, Space};
use super::EndToEnd;

/// Relative deviation from which a law counts as broken: half the digits of double precision. Elements made of
/// single-precision numbers miss it (6e-8 each), roundoff of products and decompositions in double precision does not.
const LAW: f64 = 1e-8;
/// Pairs of elements for which the laws are tried: one pair may commute by chance.
const LAW_PAIRS: u64 = 3;
/// Elements per sample from which it is read what the action moves, and that are tried for one that moves everything.
const MOVING_DRAWS: u64 = 4;
const MOVING_TRIES: usize = 16;

/// Action of one element on all tensors of a side.
type Act<'a> = &'a dyn Fn(CustomElement, &[Tensor]) -> Result<Vec<Tensor>, Error>;

impl EndToEnd<'_> {
    /// `T x` by the custom action, in double precision.
    pub(super) fn acted_inputs(
        &self,
        action: &dyn CustomAction,
        element: CustomElement,
        sample: usize,
        inputs: &[Tensor],
    ) -> Result<Vec<Tensor>, Error> {
        let wide: Vec<Tensor> = inputs.iter().map(Tensor::double).collect();
        let acted = action.act_on_inputs(element, sample, &wide)?;
        check("`input(x, T)`", &self.input_names(), &wide, acted)
    }

    /// `T' y` by the custom action, in double precision.
    pub(super) fn acted_outputs(
        &self,
        action: &dyn CustomAction,
        element: CustomElement,
        outputs: &[Tensor],
    ) -> Result<Vec<Tensor>, Error> {
        let names: Vec<String> = self.outputs().iter().map(|(name, _)| (*name).to_owned()).collect();
        let named: Vec<(&str, Tensor)> =
            names.iter().map(String::as_str).zip(outputs.iter().cloned()).collect();
        let acted = action.act_on_outputs(element, &named)?;
        check("`output(y, T)`", &names, outputs, acted)
    }

    /// Which of the custom action's elements `element` is; `None` leaves everything as it is.
    pub(super) fn custom_element(&self, element: &Element) -> Option<(&dyn CustomAction, CustomElement)> {
        let action = self.specification.custom_action()?;
        match element.custom() {
            Some(key) => Some((action, CustomElement::Drawn(key))),
            None => action.has_identity().then_some((action, CustomElement::Identity)),
        }
    }

    /// An element in words.
    pub(super) fn describe(&self, element: &Element) -> String {
        match self.custom_element(element) {
            Some((action, element)) => action.describe(element),
            None => element.to_string(),
        }
    }

    /// `T' y` per output.
    pub(super) fn acted(
        &self,
        sample: usize,
        element: &Element,
        values: &[Value],
    ) -> Result<Vec<ArrayD<f64>>, Error> {
        if self.specification.custom_action().is_none() {
            let layouts = &self.cases[sample].outputs;
            let acted = values.iter().zip(layouts).map(|(v, l)| l.act_on_real(element, &v.values)).collect();
            self.specification.representations().check()?;
            return Ok(acted);
        }
        let Some((action, element)) = self.custom_element(element) else {
            return Ok(values.iter().map(|v| v.values.clone()).collect());
        };
        let outputs: Vec<Tensor> = values.iter().map(tensor).collect();
        Ok(self.acted_outputs(action, element, &outputs)?.iter().map(Tensor::to_real).collect())
    }

    /// Sees which tensors the custom action moves: layouts do not say it.
    pub(super) fn mark_moved(&mut self) -> Result<(), Error> {
        let Some(action) = self.specification.custom_action() else { return Ok(()) };
        let mut inputs = vec![false; self.cases[0].inputs.len()];
        let mut outputs = vec![false; self.outputs().len()];
        for sample in 0..self.probed {
            for index in 0..MOVING_DRAWS {
                let element = self.drawn(sample, index);
                let case = &self.cases[sample];
                let acted = self.acted_inputs(action, element, sample, &case.inputs)?;
                for (moved, (before, after)) in inputs.iter_mut().zip(case.inputs.iter().zip(&acted)) {
                    *moved |= !before.double().same_bits(after);
                }
                let before: Vec<Tensor> = case.base.iter().map(tensor).collect();
                let acted = self.acted_outputs(action, element, &before)?;
                for (moved, (before, after)) in outputs.iter_mut().zip(before.iter().zip(&acted)) {
                    *moved |= !before.same_bits(after);
                }
            }
        }
        for case in &mut self.cases {
            for (layout, moved) in case.layouts.iter_mut().zip(&inputs) {
                if let Some(layout) = layout {
                    layout.set_moved_by_custom(*moved);
                }
            }
            for (layout, moved) in case.outputs.iter_mut().zip(&outputs) {
                layout.set_moved_by_custom(*moved);
            }
        }
        Ok(())
    }

    fn drawn(&self, sample: usize, index: u64) -> CustomElement {
        let mut draws = Draws::new(self.options.seed, sample, index, Purpose::Haar);
        let group = self.specification.group();
        let element = sampling::haar(group, &Part::Joint, &Space::default(), None, &mut draws);
        element.custom().map_or(CustomElement::Identity, CustomElement::Drawn)
    }

    /// An element of a part of the group, and `T x` in the inputs' own types: one that moves an input and, of a factor
    /// alone or a custom action, every block of the outputs that can be moved, if a few draws find it. Half the elements
    /// of a group of two move nothing, and a turn shows nothing where reflections alone count.
    pub(super) fn moving_element(
        &self,
        sample: usize,
        part: &Part,
        draws: &mut Draws,
    ) -> Result<(Element, Vec<Tensor>), Error> {
        let case = &self.cases[sample];
        let factors = match part {
            Part::Alone(factor) => vec![factor.clone()],
            Part::Joint if self.specification.custom_action().is_some() => {
                self.specification.group().factors()
            }
            Part::Joint => Vec::new(),
        };
        let mut tries = MOVING_TRIES;
        loop {
            let element = self.drawn_element(sample, part, draws);
            let transformed = self.transformed(sample, &element, false)?;
            tries -= 1;
            if tries == 0 {
                return Ok((element, transformed));
            }
            let moves = case.inputs.iter().zip(&transformed).any(|(a, b)| !a.same_bits(b));
            let expected = self.expected(sample, &element, false)?;
            if moves && factors.iter().all(|factor| self.moves_all(sample, factor, &expected)) {
                return Ok((element, transformed));
            }
        }
    }

    /// The laws of a group, as far as the action states them, on the first sample and the model's output for it: before
    /// the model is blamed for a slip in the test.
    pub(super) fn check_laws(&self, inputs: &[Tensor], outputs: &[Output]) -> Result<(), Error> {
        let Some(action) = self.specification.custom_action() else { return Ok(()) };
        let wide: Vec<Tensor> = inputs.iter().map(Tensor::double).collect();
        let values = self.calls.pick(outputs.to_vec()).map_err(|why| Error::ModelFails { sample: 0, why })?;
        let outputs: Vec<Tensor> = values.iter().map(tensor).collect();
        let on_inputs =
            |element: CustomElement, tensors: &[Tensor]| self.acted_inputs(action, element, 0, tensors);
        let on_outputs =
            |element: CustomElement, tensors: &[Tensor]| self.acted_outputs(action, element, tensors);
        let sides: [(&str, &str, &[Tensor], Act<'_>); 2] =
            [("input", "x", &wide, &on_inputs), ("output", "y", &outputs, &on_outputs)];
        for round in 0..LAW_PAIRS {
            let (t, s) = (self.drawn(0, 2 * round), self.drawn(0, 2 * round + 1));
            let (CustomElement::Drawn(t_key), CustomElement::Drawn(s_key)) = (t, s) else { return Ok(()) };
            for (function, x, tensors, act) in sides {
                // Whatever the laws, the functions must work.
                let moved = act(t, tensors)?;
                if action.has_identity() {
                    let found = deviation(&act(CustomElement::Identity, tensors)?, tensors);
                    law(found, || {
                        format!(
                            "`identity()` is none for `{function}`: {function}({x}, identity()) is not {x}"
                        )
                    })?;
                }
                if action.has_inverse() {
                    let back = act(CustomElement::Inverse(t_key), &moved)?;
                    law(deviation(&back, tensors), || {
                        format!(
                            "`{function}({x}, T)` does not follow `inverse`: {function}({function}({x}, T), inverse(T)) \
                             is not {x}"
                        )
                    })?;
                }
            }
            if action.has_compose() {
                let mut found = Vec::new();
                for (_, _, tensors, act) in sides {
                    let in_turn = act(t, &act(s, tensors)?)?;
                    let at_once = act(CustomElement::Product(t_key, s_key), tensors)?;
                    let reversed = act(CustomElement::Product(s_key, t_key), tensors)?;
                    found.push((deviation(&in_turn, &at_once), deviation(&in_turn, &reversed)));
                }
                let wrong_way = |(own, reversed): &(f64, f64)| *own > LAW && *reversed <= LAW;
                // An output that nothing moves follows every order.
                if wrong_way(&found[0]) && found[1].1 <= LAW {
                    return Err(Error::CustomAction {
                        what: "`compose(T, S)`".to_owned(),
                        why:
                            "it must be \"S first, then T\", and is \"T first, then S\" to `input`: swap its \
                              arguments, or act by the other side in `input`"
                                .to_owned(),
                    });
                }
                for ((function, x, _, _), pair) in sides.into_iter().zip(&found) {
                    law(pair.0, || {
                        let order = if wrong_way(pair) {
                            format!(
                                "; the reverse order holds, so that `{function}` acts as if T were its inverse"
                            )
                        } else {
                            String::new()
                        };
                        format!(
                            "`{function}({x}, T)` does not follow `compose`: {function}({function}({x}, S), T) is not \
                             {function}({x}, compose(T, S)), where compose(T, S) is S first, then T{order}"
                        )
                    })?;
                }
            }
        }
        Ok(())
    }
}

/// An error unless the deviation is roundoff.
fn law(deviation: f64, what: impl Fn() -> String) -> Result<(), Error> {
    if deviation <= LAW {
        return Ok(());
    }
    let hint = if deviation < 1e-4 {
        "; so small a difference is single precision: draw and apply T in double precision"
    } else {
        ""
    };
    Err(Error::CustomAction {
        what: what(),
        why: format!("the relative difference is {deviation:.1e}, and {LAW:.0e} at most is roundoff{hint}"),
    })
}

/// Largest relative difference of two lists of tensors of equal shapes; integers agree or do not.
fn deviation(a: &[Tensor], b: &[Tensor]) -> f64 {
    a.iter().zip(b).map(|(a, b)| relative(a, b)).fold(0.0, f64::max)
}

fn relative(a: &Tensor, b: &Tensor) -> f64 {
    if a.same_bits(b) {
        return 0.0;
    }
    if !a.dtype().is_inexact() {
        return f64::INFINITY;
    }
    let (a, b) = (a.to_real(), b.to_real());
    // Padding with NaN or infinity stays where it is, or the two differ.
    let comparable = |(a, b): (&f64, &f64)| {
        (a.is_finite() && b.is_finite()) || a.to_bits() == b.to_bits() || (a.is_nan() && b.is_nan())
    };
    if !a.iter().zip(&b).all(comparable) {
        return f64::INFINITY;
    }
    let finite = |v: &ArrayD<f64>| v.mapv(|v| if v.is_finite() { v } else { 0.0 });
    let (a, b) = (finite(&a), finite(&b));
    let size = norm(&a).max(norm(&b));
    if size == 0.0 { 0.0 } else { norm(&(a - b)) / size }
}

/// An output as the host's functions get it: double precision, integers as int64.
fn tensor(value: &Value) -> Tensor {
    if value.dtype.is_inexact() {
        return Tensor::from_real(value.values.clone(), value.dtype.double());
    }
    match value.dtype {
        DType::Bool => Tensor::Bool(value.values.mapv(|v| v != 0.0)),
        _ => Tensor::Int64(value.values.mapv(|v| v as i64)),
    }
}

/// What a function returned, if it fits what it was given.
fn check(
    function: &str,
    names: &[String],
    given: &[Tensor],
    returned: Vec<Tensor>,
) -> Result<Vec<Tensor>, Error> {
    let fail = |why: String| Err(Error::CustomAction { what: function.to_owned(), why });
    if returned.len() != given.len() {
        return fail(format!("it returned {} tensors for {}", returned.len(), given.len()));
    }
    for ((name, before), after) in names.iter().zip(given).zip(&returned) {
        if before.shape() != after.shape() {
            return fail(format!(
                "the shape of `{name}` changes from {:?} to {:?}",
                before.shape(),
                after.shape()
            ));
        }
        if before.dtype() != after.dtype() {
            let (before, after) = (before.dtype().name(), after.dtype().name());
            return fail(format!(
                "`{name}` was given as {before} and returned as {after}: keep the type of what is given"
            ));
        }
    }
    Ok(returned)
}
