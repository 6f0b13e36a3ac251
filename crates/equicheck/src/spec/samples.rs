//! Test inputs as an audit file names them.

use std::collections::BTreeMap;
use std::path::Path;

use crate::Error;
use crate::model::{Samples, Tensor};

use super::AuditFile;
use super::error::{Problem, SpecError};

/// The arrays of one structure by name, as ASE calls them: `positions`, `numbers`, `cell`, `forces`, ...
pub type Structure = BTreeMap<String, Tensor>;

/// What reads files of atomic structures: `.xyz`, `.extxyz`, `.cif`, `.traj` and so on.
pub trait Structures {
    /// All structures of a file, one per frame.
    ///
    /// # Errors
    /// Why there are none, in one lowercase sentence.
    fn read(&mut self, path: &Path) -> Result<Vec<Structure>, String>;
}

/// Where nothing reads structures: says what to install.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoStructures;

impl Structures for NoStructures {
    fn read(&mut self, path: &Path) -> Result<Vec<Structure>, String> {
        let name = path
            .file_name()
            .map_or_else(String::new, |name| name.to_string_lossy().escape_debug().to_string());
        Err(format!("reading `{name}` needs the Python package: pip install equicheck ase"))
    }
}

/// The samples of an audit file, in the order of its inputs.
#[derive(Debug)]
pub struct SpecSamples {}

impl AuditFile {
    /// The samples that it names and generates; paths are relative to `folder`.
    ///
    /// # Errors
    /// Open questions; files that cannot be read; shapes that do not fit layouts.
    pub fn samples(&self, folder: &Path, structures: &mut dyn Structures) -> Result<SpecSamples, SpecError> {
        self.answered()?;
        let _ = (folder, structures);
        Err(self.error(vec![Problem::general("inputs are not read in this version")]))
    }
}

impl Samples for SpecSamples {
    fn count(&self) -> Option<usize> {
        None
    }

    fn get(&mut self, _index: usize) -> Result<Vec<Tensor>, Error> {
        Ok(Vec::new())
    }
}
