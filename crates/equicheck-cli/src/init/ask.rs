//! Questions on a terminal.

use equicheck::symmetry::{Factor, Group};

use super::suggest::{self, Role};
use super::{Answer, Draft, Length, Tensor, quoted};
use crate::{CouldNotRun, Host};

/// Asks for what the draft does not say. An empty answer leaves the question open, and so does the end of input for all
/// that follow.
///
/// # Errors
/// The user interrupted.
pub(super) fn everything(draft: &mut Draft, host: &mut dyn Host) -> Result<(), CouldNotRun> {
    say(host, "Empty answers leave a question open: the file then holds \"?\".\n");
    let Some(group) = group(draft, host)? else { return Ok(()) };
    for k in 0..draft.inputs.len() {
        let mut tensor = draft.inputs[k].clone();
        if tensor.layout.is_none() && !layout(&mut tensor, Role::Input, &group, &draft.metadata, host)? {
            return Ok(());
        }
        if tensor.dims.is_none() && tensor.source.is_none() && !source(&mut tensor, host)? {
            return Ok(());
        }
        draft.inputs[k] = tensor;
    }
    if draft.segments.is_none() && !segments(draft, &group, host)? {
        return Ok(());
    }
    if draft.domain.is_none() && needs_domain(draft, &group) {
        let question =
            "What lies beyond the edge of the grids: periodic (the opposite edge) or open (nothing known)? ";
        loop {
            match ask(host, question)?.as_deref() {
                None => return Ok(()),
                Some("") => break,
                Some(word @ ("periodic" | "open")) => {
                    draft.domain = Some(word.to_owned());
                    break;
                }
                Some(_) => say(host, "  write `periodic` or `open`\n"),
            }
        }
    }
    for k in 0..draft.outputs.len() {
        let mut tensor = draft.outputs[k].clone();
        if tensor.layout.is_none() && !layout(&mut tensor, Role::Output, &group, &draft.metadata, host)? {
            return Ok(());
        }
        draft.outputs[k] = tensor;
    }
    Ok(())
}

/// `None` where the group stays open: no layout can be read without it.
fn group(draft: &mut Draft, host: &mut dyn Host) -> Result<Option<Group>, CouldNotRun> {
    if let Some(group) = &draft.group {
        return Ok(Group::parse(group).ok());
    }
    say(host, "Examples: E(3) x S(nodes) for molecules, SO(3), C4 for images, T(2) for their shifts.\n");
    loop {
        let Some(text) = ask(host, "Group: ")?.filter(|text| !text.is_empty()) else { return Ok(None) };
        match Group::parse(&text) {
            Ok(group) => {
                draft.group = Some(text);
                return Ok(Some(group));
            }
            Err(error) => say(host, &format!("  {}\n", indented(&error.to_string()))),
        }
    }
}

/// False at the end of input.
fn layout(
    tensor: &mut Tensor,
    role: Role,
    group: &Group,
    metadata: &[(String, String)],
    host: &mut dyn Host,
) -> Result<bool, CouldNotRun> {
    let what = match role {
        Role::Input => "Input",
        Role::Output => "Output",
    };
    let shape = tensor.shape_text();
    let shape = if shape.is_empty() { shape } else { format!(": {shape}") };
    say(host, &format!("\n{what} `{}`{shape}\n", tensor.name));
    let offered = suggest::layouts(tensor, role, group, metadata);
    let wide = offered.iter().map(|text| text.chars().count()).max().unwrap_or(0).max(2);
    for (k, text) in offered.iter().enumerate() {
        let shown = if text.is_empty() { "\"\"" } else { text };
        let words = suggest::fits(text, tensor, group).ok().flatten().unwrap_or_default();
        say(host, &format!("  {}  {shown:wide$}  {words}\n", k + 1));
    }
    let no = match role {
        Role::Input => "not transformed",
        Role::Output => "not audited",
    };
    let numbers = match offered.len() {
        0 => String::new(),
        1 => "1, ".to_owned(),
        n => format!("1 to {n}, "),
    };
    loop {
        let answer = ask(host, &format!("Layout ({numbers}or words such as `nodes vector`; - for {no}): "))?;
        let Some(text) = answer else { return Ok(false) };
        let number = text.parse::<usize>().ok().and_then(|n| offered.get(n.checked_sub(1)?));
        let text = match (text.as_str(), number) {
            ("", _) => return Ok(true),
            ("-", _) => {
                tensor.layout = Some(Answer::No);
                return Ok(true);
            }
            ("\"\"", _) => String::new(),
            (_, Some(offered)) => offered.clone(),
            _ => text,
        };
        match suggest::fits(&text, tensor, group) {
            Ok(_) => {
                tensor.layout = Some(Answer::Layout(text));
                return Ok(true);
            }
            Err(why) => say(host, &format!("  {}\n", indented(&why))),
        }
    }
}

/// Where an input of unknown shape comes from. False at the end of input.
fn source(tensor: &mut Tensor, host: &mut dyn Host) -> Result<bool, CouldNotRun> {
    let question = "Values: a file (x.npz), or a shape of which normal numbers are drawn (nodes 3): ";
    let Some(text) = ask(host, question)? else { return Ok(false) };
    if text.is_empty() {
        return Ok(true);
    }
    if text.contains('.') || text.contains('/') {
        tensor.source = Some(format!("file = {}", quoted(&text)));
        return Ok(true);
    }
    let length = |word: &str| word.parse().map_or_else(|_| Length::Named(word.to_owned()), Length::Fixed);
    let words = text.split([' ', ',', '[', ']', '(', ')']).filter(|word| !word.is_empty());
    tensor.dims = Some(words.map(length).collect());
    "float32".clone_into(&mut tensor.dtype);
    Ok(true)
}

/// Whether whole numbers along a permuted axis say which graph of a batch each entry belongs to. False at the end of
/// input.
fn segments(draft: &mut Draft, group: &Group, host: &mut dyn Host) -> Result<bool, CouldNotRun> {
    for axis in group.permuted_axes() {
        let may_label = |tensor: &&Tensor| {
            tensor.dtype.starts_with("int") && tensor.layout == Some(Answer::Layout(axis.to_owned()))
        };
        for name in draft.inputs.iter().filter(may_label).map(|tensor| tensor.name.clone()) {
            let question = format!(
                "Does `{name}` say which graph of a batch each entry of `{axis}` belongs to? (y or n) "
            );
            let Some(answer) = ask(host, &question)? else { return Ok(false) };
            if answer.starts_with(['y', 'Y']) {
                draft.segments = Some((axis.to_owned(), name));
                return Ok(true);
            }
        }
    }
    Ok(true)
}

/// Whether translations act on an input that is a grid.
fn needs_domain(draft: &Draft, group: &Group) -> bool {
    let shifts = group.factors().iter().any(|factor| matches!(factor, Factor::Translation(_)));
    let grid = |tensor: &Tensor| {
        let words = |text: &str| text.split_whitespace().any(|w| ["width", "height", "length"].contains(&w));
        matches!(&tensor.layout, Some(Answer::Layout(text)) if words(text))
    };
    shifts && draft.inputs.iter().any(grid)
}

fn say(host: &mut dyn Host, text: &str) {
    // A closed terminal ends the next question.
    let _ = host.stderr().write_all(text.as_bytes());
}

fn ask(host: &mut dyn Host, question: &str) -> Result<Option<String>, CouldNotRun> {
    say(host, question);
    let _ = host.stderr().flush();
    Ok(host.read_line()?.map(|line| line.trim().to_owned()))
}

fn indented(text: &str) -> String {
    text.replace('\n', "\n  ")
}
