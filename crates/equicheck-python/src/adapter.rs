//! The engine's traits on top of a Python adapter (`equicheck._model.Adapter`).

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use equicheck::Error;
use equicheck::model::{
    Action, Call, CallError, Differentiation, Draw, Drawn, Gradient, Model, ModelInfo, ModuleCall, Output,
    Patch, Performed, Pullback, PullbackError, Returned, Samples, StateKind, StateTensor, Tensor, Trace,
    TracedLeaf, TracedTensor, Tracing, Unavailable,
};
use pyo3::exceptions::PyException;
use pyo3::prelude::*;
use pyo3::types::PyList;

use crate::dlpack::{Buffer, read};

/// Path, whether its last step is a position, and the tensor.
type Leaf<'py> = (String, bool, Option<Bound<'py, PyAny>>);

/// Kind, whether standard Gaussian, shape, and the values where they were recorded.
type PyDraw<'py> = (String, bool, Vec<usize>, Option<Bound<'py, PyAny>>);

/// What a call with draws gives: outputs, inputs afterwards, draws, operations that drew out of reach.
type PyDrawn<'py> = (Vec<Leaf<'py>>, Vec<Bound<'py, PyAny>>, Vec<PyDraw<'py>>, Vec<String>);

/// The gradient by a parameter: name, state in a word, values.
type PyParameter<'py> = (String, String, Option<Bound<'py, PyAny>>);

/// Gradients: names of the outputs that carry one, by input, and by parameter.
type PyGradients<'py> = (Vec<String>, Vec<Option<Bound<'py, PyAny>>>, Vec<PyParameter<'py>>);

/// The same behind the outputs themselves.
type PyPulled<'py> = (Vec<Leaf<'py>>, Vec<Option<Bound<'py, PyAny>>>, Vec<PyParameter<'py>>);

/// Cotangents with their names, and directions.
type PyDifferentiated<'a, 'py> =
    (Option<Vec<(&'a String, Bound<'py, Buffer>)>>, Option<Vec<Option<Bound<'py, Buffer>>>>);

/// What Python code raised last: the engine knows it as a line of text, the user gets the exception itself.
pub(crate) type Raised = Rc<RefCell<Option<PyErr>>>;

/// A Python adapter as a [`Model`].
pub(crate) struct PyModel {
    adapter: Py<PyAny>,
    raised: Raised,
    /// Inputs are compared after the first call only: writing to them is a habit, not an event.
    inspected: bool,
    /// Held for what it does when it goes.
    entered: Option<Entered>,
}

/// An adapter that gives back what it holds (state, generators) at the end.
struct Entered(Py<PyAny>);

impl Drop for Entered {
    fn drop(&mut self) {
        Python::attach(|py| {
            let none = py.None();
            if let Err(error) = self.0.call_method1(py, "__exit__", (&none, &none, &none)) {
                error.write_unraisable(py, None);
            }
        });
    }
}

impl PyModel {
    pub(crate) fn new(adapter: Py<PyAny>, raised: Raised) -> Self {
        Self { adapter, raised, inspected: false, entered: None }
    }

    /// The model of an adapter that is entered now, and left when the model goes.
    pub(crate) fn entered(adapter: &Bound<'_, PyAny>) -> PyResult<Self> {
        adapter.call_method0("__enter__")?;
        let mut model = Self::new(adapter.clone().unbind(), Raised::default());
        model.entered = Some(Entered(adapter.clone().unbind()));
        Ok(model)
    }

    fn call_error(&self, py: Python<'_>, error: PyErr) -> CallError {
        // KeyboardInterrupt and SystemExit are no answers of the model.
        let interrupted = !error.is_instance_of::<PyException>(py);
        let line = one_line(py, &error);
        *self.raised.borrow_mut() = Some(error);
        if interrupted { CallError::Interrupted } else { CallError::Raised(line) }
    }

    fn attempt<'py>(
        &self,
        py: Python<'py>,
        call: &Call<'_>,
    ) -> PyResult<(Vec<Output>, Vec<Bound<'py, PyAny>>)> {
        let tensors = buffers(py, call.inputs)?;
        let returned = self.adapter.bind(py).call_method1(
            "forward",
            (call.sample, PyList::new(py, tensors)?, call.reset_generators, call.restore_state),
        )?;
        py.check_signals()?;
        let (leaves, after): (Vec<Leaf<'_>>, Vec<Bound<'_, PyAny>>) = returned.extract()?;
        Ok((outputs(leaves)?, after))
    }

    /// The same with draws recorded or replayed.
    fn attempt_with_draws<'py>(
        &self,
        py: Python<'py>,
        call: &Call<'_>,
        replayed: Option<&[Draw]>,
    ) -> PyResult<(Drawn, Vec<Bound<'py, PyAny>>)> {
        let replayed = replayed.map(|draws| draws_of(py, draws)).transpose()?;
        let returned = self.adapter.bind(py).call_method1(
            "forward_with_draws",
            (call.sample, buffers(py, call.inputs)?, call.reset_generators, call.restore_state, replayed),
        )?;
        py.check_signals()?;
        let (leaves, after, draws, out_of_reach): PyDrawn<'_> = returned.extract()?;
        let draws = draws
            .into_iter()
            .map(|(kind, gaussian, shape, values)| {
                Ok(Draw { kind, gaussian, shape, values: values.map(|values| read(&values)).transpose()? })
            })
            .collect::<PyResult<Vec<_>>>()?;
        let returned = Returned { outputs: outputs(leaves)?, written_inputs: Vec::new() };
        Ok((Drawn { returned, draws, out_of_reach }, after))
    }

    /// The gradients of a call.
    fn attempt_pullback(
        &self,
        py: Python<'_>,
        call: &Call<'_>,
        wanted: &Differentiation<'_>,
    ) -> PyResult<Pullback> {
        let inputs = buffers(py, call.inputs)?;
        let (cotangents, directions) = differentiated(py, wanted)?;
        let draws = wanted.draws.map(|draws| draws_of(py, draws)).transpose()?;
        let pulled = self.adapter.bind(py).call_method1(
            "pullback",
            (
                call.sample,
                inputs,
                call.reset_generators,
                call.restore_state,
                cotangents,
                wanted.parameters,
                directions,
                draws,
            ),
        )?;
        py.check_signals()?;
        let (leaves, inputs, parameters): PyPulled<'_> = pulled.extract()?;
        Ok(Pullback { outputs: outputs(leaves)?, ..gradients(&inputs, parameters)? })
    }

    fn attempt_replay_pullback(
        &self,
        py: Python<'_>,
        position: usize,
        inputs: &[Tensor],
        wanted: &Differentiation<'_>,
    ) -> PyResult<Pullback> {
        let inputs = buffers(py, inputs)?;
        let (cotangents, directions) = differentiated(py, wanted)?;
        let arguments = (position, inputs, cotangents.unwrap_or_default(), wanted.parameters, directions);
        let pulled = self.adapter.bind(py).call_method1("replay_pullback", arguments)?;
        py.check_signals()?;
        let (carrying, inputs, parameters): PyGradients<'_> = pulled.extract()?;
        let output = |name: String| Output { name, positional: false, tensor: None };
        let outputs = carrying.into_iter().map(output).collect();
        Ok(Pullback { outputs, ..gradients(&inputs, parameters)? })
    }

    fn pullback_error(&self, py: Python<'_>, error: PyErr) -> PullbackError {
        let lacks = error.get_type(py).name().is_ok_and(|name| name == "Unavailable");
        match self.call_error(py, error) {
            CallError::Interrupted => PullbackError::Interrupted,
            CallError::Raised(why) if lacks => PullbackError::Unavailable(why),
            CallError::Raised(why) => PullbackError::Raised(why),
        }
    }

    /// Positions of inputs that the first call wrote to.
    fn written(
        &mut self,
        py: Python<'_>,
        call: &Call<'_>,
        after: &[Bound<'_, PyAny>],
    ) -> Result<Vec<usize>, CallError> {
        let mut written = Vec::new();
        if !self.inspected {
            for (k, (before, after)) in call.inputs.iter().zip(after).enumerate() {
                let after = read(after).map_err(|error| self.call_error(py, error))?;
                // The adapter may have put the tensor into another type for the model's device.
                if after.dtype() == before.dtype() && !after.same_bits(before) {
                    written.push(k);
                }
            }
            self.inspected = true;
        }
        Ok(written)
    }

    fn derived(
        &self,
        method: &str,
        argument: Option<Vec<(usize, Tensor)>>,
    ) -> Result<Box<dyn Model>, Unavailable> {
        Python::attach(|py| {
            let made = match argument {
                None => self.adapter.bind(py).call_method0(method),
                Some(values) => (|| {
                    let buffers = values
                        .into_iter()
                        .map(|(index, tensor)| Ok((index, Bound::new(py, Buffer::new(tensor))?)))
                        .collect::<PyResult<Vec<_>>>()?;
                    self.adapter.bind(py).call_method1(method, (PyList::new(py, buffers)?,))
                })(),
            };
            match made {
                Ok(adapter) => {
                    let mut model = Self::new(adapter.unbind(), Rc::clone(&self.raised));
                    model.inspected = true;
                    Ok(Box::new(model) as Box<dyn Model>)
                }
                Err(error) => Err(self.unavailable(py, error)),
            }
        })
    }

    /// A capability that is not there, unless it was an interruption that stopped the host on the way: then the
    /// next call ends the audit.
    fn unavailable(&self, py: Python<'_>, error: PyErr) -> Unavailable {
        let line = one_line(py, &error);
        if !error.is_instance_of::<PyException>(py) {
            *self.raised.borrow_mut() = Some(error);
        }
        Unavailable(line)
    }

    /// Whether something that is no `Exception` was raised and not yet answered.
    fn interrupted(&self, py: Python<'_>) -> bool {
        self.raised.borrow().as_ref().is_some_and(|error| !error.is_instance_of::<PyException>(py))
    }
}

/// A tensor as Python takes it over.
fn buffer<'py>(py: Python<'py>, tensor: &Tensor) -> PyResult<Bound<'py, Buffer>> {
    Bound::new(py, Buffer::new(tensor.clone()))
}

fn buffers<'py>(py: Python<'py>, tensors: &[Tensor]) -> PyResult<Vec<Bound<'py, Buffer>>> {
    tensors.iter().map(|tensor| buffer(py, tensor)).collect()
}

fn differentiated<'a, 'py>(
    py: Python<'py>,
    wanted: &Differentiation<'a>,
) -> PyResult<PyDifferentiated<'a, 'py>> {
    let cotangents = wanted
        .cotangents
        .map(|all| all.iter().map(|(name, w)| Ok((name, buffer(py, w)?))).collect::<PyResult<Vec<_>>>())
        .transpose()?;
    let directions = wanted
        .directions
        .map(|all| {
            let one = |u: &Option<Tensor>| u.as_ref().map(|u| buffer(py, u)).transpose();
            all.iter().map(one).collect::<PyResult<Vec<_>>>()
        })
        .transpose()?;
    Ok((cotangents, directions))
}

/// A [`Pullback`] without outputs.
fn gradients(inputs: &[Option<Bound<'_, PyAny>>], parameters: Vec<PyParameter<'_>>) -> PyResult<Pullback> {
    let parameters = parameters.into_iter().map(|(name, state, values)| {
        let gradient = match values {
            Some(values) => Gradient::Values(read(&values)?),
            None if state == "frozen" => Gradient::Frozen,
            None => Gradient::NoPath,
        };
        Ok((name, gradient))
    });
    Ok(Pullback {
        outputs: Vec::new(),
        parameters: parameters.collect::<PyResult<_>>()?,
        inputs: inputs
            .iter()
            .map(|gradient| gradient.as_ref().map(read).transpose())
            .collect::<PyResult<_>>()?,
    })
}

/// Kinds and values of the draws that have values.
fn draws_of<'a, 'py>(py: Python<'py>, draws: &'a [Draw]) -> PyResult<Vec<(&'a str, Bound<'py, Buffer>)>> {
    let known = draws.iter().filter_map(|draw| Some((draw.kind.as_str(), draw.values.as_ref()?)));
    known.map(|(kind, values)| Ok((kind, buffer(py, values)?))).collect()
}

fn outputs(leaves: Vec<Leaf<'_>>) -> PyResult<Vec<Output>> {
    leaves
        .into_iter()
        .map(|(name, positional, tensor)| {
            Ok(Output { name, positional, tensor: tensor.map(|tensor| read(&tensor)).transpose()? })
        })
        .collect()
}

/// `TypeError: message`, on one line.
pub(crate) fn one_line(py: Python<'_>, error: &PyErr) -> String {
    let kind = error.get_type(py).name().map_or_else(|_| "Exception".to_owned(), |name| name.to_string());
    let text = error.value(py).to_string();
    let first: Vec<&str> = text.split_whitespace().collect();
    // The adapter's own word for a capability that it lacks is no name of an error.
    if kind == "Unavailable" {
        return first.join(" ");
    }
    if first.is_empty() { kind } else { format!("{kind}: {}", first.join(" ")) }
}

/// Path, position of the tensor, layout by the library.
type PyLeaf = (String, usize, Option<String>);

/// Path, number, parent, class, source, began, ended, inputs, outputs.
type PyModuleCall =
    (String, usize, Option<usize>, String, Option<String>, usize, usize, Vec<PyLeaf>, Vec<PyLeaf>);

/// Shape, type, values.
type PyTraced<'py> = (Vec<usize>, String, Option<Bound<'py, PyAny>>);

/// Module calls, distinct tensors, outputs, whether the model differentiates inside.
type PyTrace<'py> = (Vec<PyModuleCall>, Vec<PyTraced<'py>>, Vec<Leaf<'py>>, bool);

fn traced_leaves(leaves: Vec<PyLeaf>) -> Vec<TracedLeaf> {
    leaves.into_iter().map(|(name, tensor, layout)| TracedLeaf { name, tensor, layout }).collect()
}

fn module_call(call: PyModuleCall) -> ModuleCall {
    let (path, number, parent, class, source, began, ended, inputs, outputs) = call;
    ModuleCall {
        path,
        number,
        parent,
        class,
        source,
        began,
        ended,
        inputs: traced_leaves(inputs),
        outputs: traced_leaves(outputs),
    }
}

/// An [`Action`] that Python code inside a call applies to its tensors. Calls run on the thread that audits, and so do
/// derivatives on the host; it never outlives the call.
#[pyclass(module = "equicheck._equicheck", frozen, unsendable)]
pub(crate) struct PyAction(Action);

#[pymethods]
impl PyAction {
    fn apply(&self, tensor: &Bound<'_, PyAny>) -> PyResult<Buffer> {
        Ok(Buffer::new(self.0.apply(&read(tensor)?)))
    }

    fn linear(&self, tensor: &Bound<'_, PyAny>) -> PyResult<Buffer> {
        Ok(Buffer::new(self.0.linear(&read(tensor)?)))
    }

    fn transpose(&self, tensor: &Bound<'_, PyAny>) -> PyResult<Buffer> {
        Ok(Buffer::new(self.0.transpose(&read(tensor)?)))
    }
}

/// A patch as the adapter reads it: what, where, and with what.
fn patch<'py>(py: Python<'py>, patch: &Patch) -> PyResult<Bound<'py, PyAny>> {
    let actions = |actions: &[(String, Action)]| {
        actions
            .iter()
            .map(|(leaf, action)| Ok((leaf.clone(), Bound::new(py, PyAction(action.clone()))?)))
            .collect::<PyResult<Vec<_>>>()
    };
    Ok(match patch {
        Patch::Overwrite { path, number, input, leaf, values } => {
            ("overwrite", path, number, input, leaf, buffer(py, values)?).into_pyobject(py)?.into_any()
        }
        Patch::Conjugate { path, number, inputs, outputs } => {
            ("conjugate", path, number, actions(inputs)?, actions(outputs)?).into_pyobject(py)?.into_any()
        }
    })
}

impl PyModel {
    fn attempt_trace(
        &self,
        py: Python<'_>,
        call: &Call<'_>,
        patches: &[Patch],
        limit: usize,
        keep: bool,
    ) -> PyResult<Trace> {
        let buffers = buffers(py, call.inputs)?;
        let patches = patches.iter().map(|given| patch(py, given)).collect::<PyResult<Vec<_>>>()?;
        let traced = self.adapter.bind(py).call_method1(
            "trace",
            (call.sample, buffers, call.reset_generators, call.restore_state, patches, limit, keep),
        )?;
        py.check_signals()?;
        let (calls, tensors, leaves, differentiates): PyTrace<'_> = traced.extract()?;
        let tensors = tensors
            .into_iter()
            .map(|(shape, dtype, values)| {
                let values = values.map(|values| read(&values)).transpose()?;
                Ok(TracedTensor { shape, dtype, values })
            })
            .collect::<PyResult<Vec<_>>>()?;
        Ok(Trace {
            calls: calls.into_iter().map(module_call).collect(),
            tensors,
            outputs: outputs(leaves)?,
            differentiates,
        })
    }
}

impl Tracing for PyModel {
    fn trace(
        &mut self,
        call: &Call<'_>,
        patches: &[Patch],
        limit: usize,
        keep: bool,
    ) -> Result<Trace, CallError> {
        Python::attach(|py| {
            if self.interrupted(py) {
                return Err(CallError::Interrupted);
            }
            self.attempt_trace(py, call, patches, limit, keep).map_err(|error| self.call_error(py, error))
        })
    }

    fn replay(&mut self, position: usize, inputs: &[Tensor]) -> Result<Vec<Tensor>, CallError> {
        Python::attach(|py| {
            if self.interrupted(py) {
                return Err(CallError::Interrupted);
            }
            let replayed = (|| {
                let buffers = buffers(py, inputs)?;
                let returned = self.adapter.bind(py).call_method1("replay", (position, buffers))?;
                py.check_signals()?;
                let returned: Vec<Bound<'_, PyAny>> = returned.extract()?;
                returned.iter().map(read).collect::<PyResult<Vec<_>>>()
            })();
            replayed.map_err(|error| self.call_error(py, error))
        })
    }

    fn replay_pullback(
        &mut self,
        position: usize,
        inputs: &[Tensor],
        wanted: &Differentiation<'_>,
    ) -> Result<Pullback, PullbackError> {
        Python::attach(|py| {
            if self.interrupted(py) {
                return Err(PullbackError::Interrupted);
            }
            let pulled = self.attempt_replay_pullback(py, position, inputs, wanted);
            pulled.map_err(|error| self.pullback_error(py, error))
        })
    }

    fn operations(&mut self, call: &Call<'_>) -> Result<Vec<Performed>, CallError> {
        Python::attach(|py| {
            if self.interrupted(py) {
                return Err(CallError::Interrupted);
            }
            let performed = (|| {
                let inputs = buffers(py, call.inputs)?;
                let returned = self.adapter.bind(py).call_method1("operations", (call.sample, inputs))?;
                py.check_signals()?;
                returned.extract()
            })();
            performed.map_err(|error| self.call_error(py, error))
        })
    }

    fn forget(&mut self) {
        Python::attach(|py| {
            // It only lets go; there is nobody to tell.
            let _ = self.adapter.bind(py).call_method0("forget");
        });
    }
}

impl Model for PyModel {
    fn tracing(&mut self) -> Result<&mut dyn Tracing, Unavailable> {
        let answer = Python::attach(|py| {
            let answer = self.adapter.bind(py).call_method0("check_tracing");
            answer.map(drop).map_err(|error| self.unavailable(py, error))
        });
        answer.map(|()| self as &mut dyn Tracing)
    }

    fn info(&self) -> ModelInfo {
        Python::attach(|py| {
            let info = self.adapter.bind(py).call_method0("info").and_then(|info| {
                let text = |key: &str| info.get_item(key).and_then(|value| value.extract::<String>());
                Ok(ModelInfo {
                    name: text("name")?,
                    framework: text("framework")?,
                    parameters: info.get_item("parameters")?.extract()?,
                    dtype: text("dtype")?,
                    device: text("device")?,
                    mode: text("mode")?,
                    computes_in: text("computes_in")?,
                })
            });
            info.unwrap_or_default()
        })
    }

    fn environment(&self) -> BTreeMap<String, String> {
        Python::attach(|py| {
            self.adapter
                .bind(py)
                .call_method0("environment")
                .and_then(|environment| environment.extract())
                .unwrap_or_default()
        })
    }

    fn forward(&mut self, call: &Call<'_>) -> Result<Returned, CallError> {
        Python::attach(|py| {
            if self.interrupted(py) {
                return Err(CallError::Interrupted);
            }
            let (outputs, after) = self.attempt(py, call).map_err(|error| self.call_error(py, error))?;
            let written_inputs = self.written(py, call, &after)?;
            Ok(Returned { outputs, written_inputs })
        })
    }

    fn shares_arguments(&mut self, first: usize, second: usize) -> bool {
        Python::attach(|py| {
            let answer = self.adapter.bind(py).call_method1("shares_arguments", (first, second));
            // Objects may not like to be compared: then they are not known to be equal.
            answer.and_then(|answer| answer.extract()).unwrap_or(false)
        })
    }

    fn replays_draws(&self) -> Result<(), Unavailable> {
        Python::attach(|py| {
            let answer = self.adapter.bind(py).call_method0("check_draws");
            answer.map(drop).map_err(|error| self.unavailable(py, error))
        })
    }

    fn forward_with_draws(&mut self, call: &Call<'_>, replayed: Option<&[Draw]>) -> Result<Drawn, CallError> {
        Python::attach(|py| {
            if self.interrupted(py) {
                return Err(CallError::Interrupted);
            }
            let (mut drawn, after) =
                self.attempt_with_draws(py, call, replayed).map_err(|error| self.call_error(py, error))?;
            drawn.returned.written_inputs = self.written(py, call, &after)?;
            Ok(drawn)
        })
    }

    fn pullback(&mut self, call: &Call<'_>, wanted: &Differentiation<'_>) -> Result<Pullback, PullbackError> {
        Python::attach(|py| {
            if self.interrupted(py) {
                return Err(PullbackError::Interrupted);
            }
            self.attempt_pullback(py, call, wanted).map_err(|error| self.pullback_error(py, error))
        })
    }

    fn training(&mut self) -> Result<Box<dyn Model>, Unavailable> {
        self.derived("train_mode", None)
    }

    fn evaluating(&mut self) -> Result<Box<dyn Model>, Unavailable> {
        self.derived("eval_mode", None)
    }

    fn double(&mut self) -> Result<Box<dyn Model>, Unavailable> {
        self.derived("double", None)
    }

    fn state(&mut self) -> Result<Vec<StateTensor>, Unavailable> {
        Python::attach(|py| {
            let tensors = self.adapter.bind(py).call_method0("state").and_then(|state| {
                let state: Vec<(String, bool, Bound<'_, PyAny>)> = state.extract()?;
                state
                    .into_iter()
                    .map(|(name, trained, tensor)| {
                        let kind = if trained { StateKind::Parameter } else { StateKind::Constant };
                        Ok(StateTensor { name, kind, tensor: read(&tensor)? })
                    })
                    .collect::<PyResult<Vec<_>>>()
            });
            tensors.map_err(|error| self.unavailable(py, error))
        })
    }

    fn with_state(&mut self, values: &[(usize, Tensor)]) -> Result<Box<dyn Model>, Unavailable> {
        self.derived("with_state", Some(values.to_vec()))
    }
}

/// A Python source of samples as [`Samples`].
pub(crate) struct PySamples {
    source: Py<PyAny>,
    raised: Raised,
}

impl PySamples {
    pub(crate) fn new(source: Py<PyAny>, raised: Raised) -> Self {
        Self { source, raised }
    }
}

impl Samples for PySamples {
    fn count(&self) -> Option<usize> {
        Python::attach(|py| self.source.bind(py).call_method0("count").ok()?.extract().ok()?)
    }

    fn get(&mut self, index: usize) -> Result<Vec<Tensor>, Error> {
        Python::attach(|py| {
            let tensors = self.source.bind(py).call_method1("tensors", (index,)).and_then(|tensors| {
                let tensors: Vec<Bound<'_, PyAny>> = tensors.extract()?;
                tensors.iter().map(read).collect::<PyResult<Vec<_>>>()
            });
            tensors.map_err(|error| {
                let message = one_line(py, &error);
                let interrupted = !error.is_instance_of::<PyException>(py);
                *self.raised.borrow_mut() = Some(error);
                if interrupted { Error::Interrupted } else { Error::Host(message) }
            })
        })
    }
}
