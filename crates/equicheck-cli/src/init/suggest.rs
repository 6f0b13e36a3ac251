//! Layouts that fit a tensor's shape, the likeliest first.

use equicheck::symmetry::{BoundLayout, Factor, Group, Layout};

use super::{Length, Tensor, is_batch};

/// Most that are offered.
const OFFERED: usize = 7;

/// Whether the tensor is given to the model, or comes from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    Input,
    Output,
}

/// Lengths that stand for named ones: apart from each other and from what layouts are about.
const LENGTHS: [usize; 6] = [11, 13, 17, 19, 23, 29];

/// A shape that the tensor can have.
pub(super) fn example(tensor: &Tensor) -> Option<Vec<usize>> {
    let dims = tensor.dims.as_ref()?;
    let mut names: Vec<&str> = Vec::new();
    let mut shape: Vec<usize> = Vec::new();
    for length in dims {
        shape.push(match length {
            Length::Fixed(n) => *n,
            Length::Named(name) => {
                let place = names.iter().position(|known| known == name).unwrap_or_else(|| {
                    names.push(name);
                    names.len() - 1
                });
                LENGTHS[place % LENGTHS.len()]
            }
        });
    }
    // Images turn by quarters if they are square.
    if tensor.is_image()
        && let [.., Length::Named(_), Length::Named(_)] = dims.as_slice()
        && let [.., height, width] = shape.as_mut_slice()
    {
        *height = *width;
    }
    Some(shape)
}

/// The layouts to offer for a tensor: what its library says, then what fits its shape.
pub(super) fn layouts(
    tensor: &Tensor,
    role: Role,
    group: &Group,
    metadata: &[(String, String)],
) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    let nodes = group.permuted_axes().next();
    for (_, layout) in metadata {
        // Irreps say what the last axis is.
        found.push(layout.clone());
        found.extend(nodes.map(|nodes| format!("{nodes} {layout}")));
    }
    if let Some(shape) = example(tensor) {
        found.extend(by_shape(tensor, role, group, &shape));
    }
    let mut offered: Vec<String> = Vec::new();
    for text in found {
        if !offered.contains(&text) && fits(&text, tensor, group).is_ok() {
            offered.push(text);
        }
    }
    offered.truncate(OFFERED);
    offered
}

/// Says why a layout does not fit, or how it transforms the tensor; nothing of that where the shape is not known.
pub(super) fn fits(text: &str, tensor: &Tensor, group: &Group) -> Result<Option<String>, String> {
    let layout = Layout::parse(text, group).map_err(|error| error.to_string())?;
    let Some(shape) = example(tensor) else { return Ok(None) };
    let bound = BoundLayout::new(&layout, &shape, group, &format!("`{}`", tensor.name))
        .map_err(|error| error.to_string())?;
    Ok(Some(bound.describe(group)))
}

fn by_shape(tensor: &Tensor, role: Role, group: &Group, shape: &[usize]) -> Vec<String> {
    let dims = tensor.dims.as_deref().unwrap_or_default();
    let permuted: Vec<&str> = group.permuted_axes().collect();
    if !tensor.is_floating() && !tensor.dtype.starts_with("complex") {
        let mut found: Vec<String> = Vec::new();
        if tensor.has_shape_of_edges() {
            found.extend(permuted.iter().map(|axis| format!("2 edges : {axis}")));
            found.extend(
                permuted.iter().filter(|axis| **axis == "edges").map(|_| "2 edges : nodes".to_owned()),
            );
        }
        if shape.len() == 1 {
            found.extend(permuted.iter().map(|axis| (*axis).to_owned()));
        }
        found.push("...".to_owned());
        return found;
    }
    if shape.is_empty() {
        return vec![String::new()];
    }
    let words: Vec<Vec<String>> =
        (0..shape.len()).map(|k| words(k, dims, shape, role, group, &permuted)).collect();
    let mut found: Vec<String> = Vec::new();
    if shape.len() >= 3 && tensor.is_image() && acts_on_grids(group) {
        let before = ["", "channel ", "batch channel ", "batch time channel "][shape.len() - 2];
        found.push(format!("{before}height width"));
        if shape.len() >= 4 {
            let before = ["", "channel ", "batch channel "][shape.len() - 3];
            found.push(format!("{before}depth height width"));
        }
    }
    // All combinations, the first words first.
    let mut combinations = vec![String::new()];
    for options in words {
        combinations = options
            .iter()
            .flat_map(|word| combinations.iter().map(move |text| format!("{text} {word}").trim().to_owned()))
            .collect();
    }
    found.extend(combinations);
    found
}

/// What one axis can be.
fn words(
    k: usize,
    dims: &[Length],
    shape: &[usize],
    role: Role,
    group: &Group,
    permuted: &[&str],
) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    let last = k + 1 == shape.len();
    let named = matches!(dims[k], Length::Named(_));
    if let Length::Named(name) = &dims[k]
        && is_batch(name)
    {
        found.push("batch".to_owned());
    }
    if named {
        found.extend(permuted.iter().map(|axis| (*axis).to_owned()));
    }
    if group.dimension() == Some(shape[k]) && !named {
        let moves = |factor: &Factor| matches!(factor, Factor::Translation(_));
        // Coordinates come in; what comes out is mostly a direction.
        let point = group.factors().iter().any(moves) && last;
        match role {
            Role::Input if point => found.extend(["point".to_owned(), "vector".to_owned()]),
            Role::Output if point => found.extend(["vector".to_owned(), "point".to_owned()]),
            _ => found.push("vector".to_owned()),
        }
    }
    if k == 0 && shape.len() > 1 && !found.iter().any(|word| word == "batch") {
        found.push("batch".to_owned());
    }
    if !named || permuted.is_empty() {
        found.push("channel".to_owned());
    }
    found.truncate(3);
    found
}

fn acts_on_grids(group: &Group) -> bool {
    group
        .factors()
        .iter()
        .any(|factor| matches!(factor, Factor::Linear { .. } | Factor::Translation(_) | Factor::Finite(_)))
        && group.permuted_axes().next().is_none()
}
