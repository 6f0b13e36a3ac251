//! The extension module `equicheck._equicheck`: the engine, as Python sees it.
//!
//! Nothing numerical happens here: tensors cross by `DLPack`, decisions are the library's.

// DLPack hands over raw pointers; each use states why it holds.
#![expect(unsafe_code, reason = "DLPack is a C interface")]

mod adapter;
mod audit;
mod command;
mod comparison;
mod custom;
mod dlpack;
mod element;
mod errors;
mod report;

use pyo3::prelude::*;

#[pymodule]
fn _equicheck(module: &Bound<'_, PyModule>) -> PyResult<()> {
    let py = module.py();
    module.add("__version__", env!("CARGO_PKG_VERSION"))?;
    module.add("EquicheckError", py.get_type::<errors::EquicheckError>())?;
    module.add("SpecificationError", py.get_type::<errors::SpecificationError>())?;
    module.add("ModelError", py.get_type::<errors::ModelError>())?;
    module.add("EquicheckWarning", py.get_type::<errors::EquicheckWarning>())?;
    module.add_class::<dlpack::Buffer>()?;
    module.add_class::<element::Element>()?;
    module.add_class::<report::Report>()?;
    module.add_class::<report::OutputReport>()?;
    module.add_class::<report::Finding>()?;
    module.add_class::<report::PyBreak>()?;
    module.add_class::<comparison::Comparison>()?;
    module.add_function(wrap_pyfunction!(audit::audit, module)?)?;
    module.add_function(wrap_pyfunction!(audit::check, module)?)?;
    module.add_function(wrap_pyfunction!(audit::describe, module)?)?;
    module.add_function(wrap_pyfunction!(audit::merge, module)?)?;
    module.add_function(wrap_pyfunction!(command::command, module)?)?;
    module.add_function(wrap_pyfunction!(comparison::compare, module)?)?;
    Ok(())
}
