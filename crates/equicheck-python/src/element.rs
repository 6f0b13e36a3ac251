//! `equicheck.Element`, and representations by Python functions.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::rc::Rc;

use equicheck::Error;
use equicheck::model::Tensor;
use equicheck::symmetry::{self, UserRepresentation};
use ndarray::ArrayD;
use pyo3::exceptions::{PyException, PyKeyError, PyValueError};
use pyo3::prelude::*;

use crate::adapter::{Raised, one_line};
use crate::dlpack::{Buffer, read};
use crate::errors::SpecificationError;

/// A group element, as a user's representation gets it.
#[pyclass(frozen, module = "equicheck")]
pub(crate) struct Element(symmetry::Element);

/// A fresh numpy array, the user's to write to.
fn numpy(py: Python<'_>, tensor: Tensor) -> PyResult<Bound<'_, PyAny>> {
    let buffer = Bound::new(py, Buffer::new(tensor))?;
    py.import("numpy")?.call_method1("from_dlpack", (buffer,))?.call_method0("copy")
}

fn vector(values: &[f64]) -> Tensor {
    Tensor::Float64(ArrayD::from_shape_vec(vec![values.len()], values.to_vec()).expect("one axis"))
}

#[pymethods]
impl Element {
    /// The matrix on space, shape (n, n), active; None where the group does not act on space.
    #[getter]
    fn matrix<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        let linear = self.0.linear();
        (!linear.is_empty()).then(|| numpy(py, Tensor::Float64(linear.clone().into_dyn()))).transpose()
    }

    /// The translation, shape (n,), in the inputs' unit or in pixels; None where there is no space.
    #[getter]
    fn translation<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        let t = self.0.translation();
        (!t.is_empty()).then(|| numpy(py, Tensor::Float64(t.clone().into_dyn()))).transpose()
    }

    /// The permutation p along an axis: `x'[i] = x[p[i]]`.
    fn permutation<'py>(&self, py: Python<'py>, axis: &str) -> PyResult<Bound<'py, PyAny>> {
        let Some(p) = self.0.permutation(axis) else {
            let known: Vec<&str> = self.0.permuted_axes().collect();
            return Err(PyKeyError::new_err(if known.is_empty() {
                format!("the group permutes no axis `{axis}`, nor any other")
            } else {
                format!("the group permutes no axis `{axis}`; it permutes {}", known.join(", "))
            }));
        };
        let values = p.iter().map(|i| *i as i64).collect();
        let values = ArrayD::from_shape_vec(vec![p.len()], values).expect("one axis");
        numpy(py, Tensor::Int64(values))
    }

    /// Determinant of `matrix`.
    #[getter]
    fn determinant(&self) -> f64 {
        self.0.determinant()
    }

    /// The element of `Z2`: 1 or -1.
    #[getter]
    fn sign(&self) -> f64 {
        self.0.sign()
    }

    /// The angle of `U(1)`, in radian.
    #[getter]
    fn phase(&self) -> f64 {
        self.0.phase()
    }

    /// The factor of a dilation.
    #[getter]
    fn scale(&self) -> f64 {
        self.0.scale()
    }

    /// The shift along an axis of a grid, in pixels towards higher indices.
    fn shift(&self, axis: &str) -> f64 {
        self.0.shift(axis)
    }

    /// The logarithm of `matrix` without its reflections, as coordinates; None for matrices that have none.
    fn lie_algebra<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        let coordinates = if self.0.linear().is_empty() { None } else { self.0.lie_algebra() };
        coordinates.map(|coordinates| numpy(py, vector(&coordinates))).transpose()
    }

    /// The product: first `other` acts, then this one.
    fn compose(&self, other: &Self) -> PyResult<Self> {
        if self.0.is_composable(&other.0) {
            Ok(Self(self.0.compose(&other.0)))
        } else {
            Err(PyValueError::new_err(format!(
                "the two are no elements of one group on equal axes: {} and {}",
                self.0, other.0
            )))
        }
    }

    fn __matmul__(&self, other: &Self) -> PyResult<Self> {
        self.compose(other)
    }

    /// The inverse.
    fn inverse(&self) -> Self {
        Self(self.0.inverse())
    }

    /// Whether it is the identity, exactly.
    #[getter]
    fn is_identity(&self) -> bool {
        self.0.is_identity()
    }

    fn __repr__(&self) -> String {
        self.0.to_string()
    }

    fn __eq__(&self, other: &Self) -> bool {
        self.0 == other.0
    }

    fn __hash__(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        self.0.hash(&mut hasher);
        hasher.finish()
    }
}

/// A Python function that takes an `Element` and returns a tensor, as a representation.
pub(crate) struct PyRepresentation {
    name: String,
    function: Py<PyAny>,
    raised: Raised,
}

impl PyRepresentation {
    /// All of them, by name.
    pub(crate) fn all(
        functions: BTreeMap<String, Py<PyAny>>,
        raised: &Raised,
    ) -> impl Iterator<Item = Rc<dyn UserRepresentation>> {
        functions.into_iter().map(|(name, function)| {
            Rc::new(Self { name, function, raised: Rc::clone(raised) }) as Rc<dyn UserRepresentation>
        })
    }
}

impl UserRepresentation for PyRepresentation {
    fn name(&self) -> &str {
        &self.name
    }

    fn matrix(&self, element: &symmetry::Element) -> Result<ArrayD<f64>, Error> {
        Python::attach(|py| {
            let attempt = || read(&self.function.bind(py).call1((Element(element.clone()),))?);
            let fail = |why: String| Error::Representation { name: self.name.clone(), why };
            match attempt() {
                Ok(tensor) => {
                    // What the model raised before is not the cause of what may be wrong with this matrix.
                    self.raised.borrow_mut().take_if(|error| error.is_instance_of::<PyException>(py));
                    if tensor.dtype().is_complex() {
                        return Err(fail(format!(
                            "returns complex values for {element}: representations are real (real and imaginary \
                             parts are components of their own)"
                        )));
                    }
                    Ok(tensor.to_real())
                }
                Err(error) => {
                    let result = if !error.is_instance_of::<PyException>(py) {
                        Error::Interrupted
                    } else if error.is_instance_of::<SpecificationError>(py) {
                        // The host's own word on what was returned.
                        fail(format!("{}, for {element}", error.value(py)))
                    } else {
                        fail(format!("raises {}, for {element}", one_line(py, &error)))
                    };
                    *self.raised.borrow_mut() = Some(error);
                    Err(result)
                }
            }
        })
    }
}
