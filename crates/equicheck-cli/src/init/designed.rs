//! A specification from the design of a model, and what the model says otherwise.

use std::fs;
use std::path::Path;

use equicheck::symmetry::Group;
use equicheck::{most_alike, sentence};
use toml::{Table, Value};

use super::suggest::fits;
use super::{Answer, Draft, Tensor};
use crate::{CouldNotRun, shown};

/// The keys that are read.
const KEYS: [&str; 4] = ["group", "inputs", "outputs", "layers"];

/// What was designed.
#[derive(Debug, Default)]
pub(super) struct Designed {
    group: Option<String>,
    inputs: Vec<(String, Option<String>)>,
    outputs: Vec<(String, Option<String>)>,
    /// Name and type.
    layers: Vec<(String, Option<String>)>,
}

pub(super) fn read(path: &Path) -> Result<Designed, CouldNotRun> {
    let failed = |why: &str| CouldNotRun::Failed(format!("`{}`: {why}", shown(path)));
    let text = fs::read_to_string(path).map_err(|error| failed(&sentence(&error)))?;
    let table: Table = text.parse().map_err(|error: toml::de::Error| failed(&error.to_string()))?;
    if !table.keys().any(|key| KEYS.contains(&key.as_str())) {
        return Err(failed(&format!("it has none of the keys {}", KEYS.join(", "))));
    }
    let entries = |key: &str, within: &[&str]| match table.get(key) {
        None => Ok(Vec::new()),
        Some(Value::Table(entries)) => Ok(entries
            .iter()
            .map(|(name, value)| {
                let text = match value {
                    Value::String(text) => Some(text.clone()),
                    Value::Table(table) => {
                        within.iter().find_map(|key| Some(table.get(*key)?.as_str()?.to_owned()))
                    }
                    _ => None,
                };
                (name.clone(), text)
            })
            .collect()),
        Some(_) => Err(failed(&format!("`{key}` is not a table of names"))),
    };
    Ok(Designed {
        group: table.get("group").and_then(Value::as_str).map(str::to_owned),
        inputs: entries("inputs", &["layout"])?,
        outputs: entries("outputs", &["layout"])?,
        layers: entries("layers", &["type"])?,
    })
}

impl Designed {
    /// Fills in the draft; what the model contradicts, one sentence each.
    pub(super) fn apply(self, draft: &mut Draft) -> Vec<String> {
        let mut found = Vec::new();
        if draft.group.is_none() {
            draft.group = self.group;
        }
        let group = match draft.group.as_deref().map(Group::parse) {
            Some(Ok(group)) => Some(group),
            Some(Err(error)) => {
                found.push(first_line(&error.to_string()));
                draft.group = None;
                None
            }
            None => None,
        };
        let group = group.as_ref();
        // What a model in Python returns is not known before it is called.
        let unknown = matches!(draft.outputs.as_slice(), [output] if output.dims.is_none());
        tensors("input", &self.inputs, &mut draft.inputs, group, &mut found);
        if unknown && !self.outputs.is_empty() {
            let first = draft.outputs[0].clone();
            draft.outputs =
                self.outputs.iter().map(|(name, _)| Tensor { name: name.clone(), ..first.clone() }).collect();
        }
        tensors("output", &self.outputs, &mut draft.outputs, group, &mut found);
        match &draft.layers {
            Some(layers) => found.extend(self.layers.iter().filter_map(|layer| of_layer(layer, layers))),
            None if !self.layers.is_empty() => found.push(
                "the declared layers cannot be looked up: an ONNX file holds operators, and no layers"
                    .to_owned(),
            ),
            None => {}
        }
        found
    }
}

fn tensors(
    role: &str,
    designed: &[(String, Option<String>)],
    tensors: &mut [Tensor],
    group: Option<&Group>,
    found: &mut Vec<String>,
) {
    for (name, layout) in designed {
        let names: Vec<String> = tensors.iter().map(|tensor| format!("`{}`", tensor.name)).collect();
        let Some(tensor) = tensors.iter_mut().find(|tensor| tensor.name == *name) else {
            found.push(format!("{role} `{name}` is declared, and the model has {}", names.join(", ")));
            continue;
        };
        let Some(layout) = layout else { continue };
        match group.map(|group| fits(layout, tensor, group)) {
            Some(Err(why)) => found.push(format!("{role} `{name}`: {}", first_line(&why))),
            _ => tensor.layout = Some(Answer::Layout(layout.clone())),
        }
    }
    if !designed.is_empty() {
        let missing = tensors.iter().filter(|tensor| !designed.iter().any(|(name, _)| *name == tensor.name));
        found.extend(missing.map(|tensor| format!("{role} `{}` of the model is not declared", tensor.name)));
    }
}

fn of_layer((name, kind): &(String, Option<String>), layers: &[(String, String)]) -> Option<String> {
    let Some((_, own)) = layers.iter().find(|(own, _)| own == name) else {
        let nearest = most_alike(name, layers.iter().map(|(own, _)| own.as_str()));
        let nearest = nearest.map_or_else(String::new, |own| format!("; the nearest is `{own}`"));
        return Some(format!("layer `{name}` is declared, and the model has no such module{nearest}"));
    };
    let kind = kind.as_ref().filter(|kind| *kind != own)?;
    Some(format!("layer `{name}` is declared a {kind} and is a {own}"))
}

fn first_line(text: &str) -> String {
    text.lines().next().unwrap_or_default().to_owned()
}
