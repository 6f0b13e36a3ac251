//! Test inputs as an audit file names them.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use crate::Error;
use crate::error::nearest;
use crate::model::{DType, Samples, Tensor};
use crate::symmetry::{Axis, BoundLayout, Group, Layout};

use super::cast::convert;
use super::check::{EDGES, NODES};
use super::draw;
use super::error::{Problem, SpecError};
use super::generators::{Generate, RandomGraph};
use super::read::{Named, Said, shown};
use super::tables::{Input, Length, Size};
use super::{AuditFile, Bound};

/// Entries of a generated input at most: far beyond what an audit can use.
const LARGEST_GENERATED: u128 = 1 << 28;

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
        let name = path.file_name().map_or_else(String::new, |name| printed(Path::new(name)));
        Err(format!("reading `{name}` needs the Python package: pip install equicheck ase"))
    }
}

fn printed(path: &Path) -> String {
    path.to_string_lossy().escape_debug().to_string()
}

/// The samples of an audit file, each a list of tensors in the order of its inputs.
///
/// Files of one sample each are read when their sample is asked for; all others were read before.
#[derive(Debug, Clone)]
pub struct SpecSamples {
    inputs: Vec<(String, Origin)>,
    sizes: Named<Size>,
    seed: u64,
    count: Option<usize>,
    /// The sample that was made last: an audit asks for one many times in a row.
    last: Option<(usize, Vec<Tensor>)>,
}

/// Where the values of an input come from.
#[derive(Debug, Clone)]
enum Origin {
    Generated(Box<Generate>),
    /// One item per sample; one alone serves all.
    Items(Vec<Item>, Reading),
}

/// One sample of an input.
#[derive(Debug, Clone)]
enum Item {
    /// An array in a file.
    File(PathBuf),
    /// An array that was read.
    Array(Rc<Tensor>),
    /// An entry along the first axis of an array that was read.
    Entry(Rc<Tensor>, usize),
}

/// How arrays are taken from files.
#[derive(Debug, Clone)]
struct Reading {
    key: String,
    dtype: Option<DType>,
    /// Whether a picture gets an axis of length 1 in front.
    #[cfg_attr(not(feature = "files"), expect(dead_code, reason = "no picture is read"))]
    leading: bool,
}

impl Item {
    fn tensor(&self, reading: &Reading) -> Result<Tensor, String> {
        match self {
            Item::File(path) => {
                reading.array(path).map_err(|why| format!("cannot read `{}`: {why}", printed(path)))
            }
            Item::Array(array) => Ok((**array).clone()),
            Item::Entry(array, index) => {
                let entry = array.select(0, &[*index]);
                Ok(entry.reshape(&array.shape()[1..]))
            }
        }
    }
}

/// The lowercase ending of a path.
fn ending(path: &Path) -> String {
    path.extension().map_or_else(String::new, |ending| ending.to_string_lossy().to_lowercase())
}

/// Endings of files that hold arrays; all others are structures.
#[cfg(feature = "files")]
const ARRAYS: [&str; 4] = super::files::ENDINGS;
#[cfg(not(feature = "files"))]
const ARRAYS: [&str; 4] = ["npz", "npy", "safetensors", "png"];

impl Reading {
    #[cfg(feature = "files")]
    fn array(&self, path: &Path) -> Result<Tensor, String> {
        let ending = ending(path);
        let array = super::files::array(path, &ending, &self.key)?;
        if ending != "png" {
            return self.cast(array);
        }
        let picture = super::files::as_picture(&array, self.dtype)?;
        Ok(if self.leading {
            let shape: Vec<usize> = std::iter::once(1).chain(picture.shape().iter().copied()).collect();
            picture.reshape(&shape)
        } else {
            picture
        })
    }

    #[cfg(not(feature = "files"))]
    #[expect(clippy::unused_self, reason = "as the other one")]
    fn array(&self, _: &Path) -> Result<Tensor, String> {
        Err("this build of equicheck reads no files (its feature `files` is off)".to_owned())
    }

    fn cast(&self, array: Tensor) -> Result<Tensor, String> {
        match self.dtype {
            Some(dtype) => convert(&array, dtype),
            None => Ok(array),
        }
    }
}

/// All files that a path or pattern names, in order.
fn files(folder: &Path, text: &str) -> Result<Vec<PathBuf>, String> {
    let path = folder.join(text);
    if !text.contains(['*', '?', '[']) || path.exists() {
        return Ok(vec![path]);
    }
    matching(folder, text)
}

#[cfg(feature = "files")]
fn matching(folder: &Path, text: &str) -> Result<Vec<PathBuf>, String> {
    // The folder is meant as it is.
    let folder =
        folder.to_str().ok_or("the folder's name is no Unicode text, so no pattern can be matched in it")?;
    let pattern = Path::new(&glob::Pattern::escape(folder)).join(text);
    let pattern = pattern.to_str().ok_or("the pattern is no Unicode text")?;
    let found = glob::glob(pattern).map_err(|error| format!("this is no pattern: {error}"))?;
    let mut found = found.collect::<Result<Vec<_>, _>>().map_err(|error| error.to_string())?;
    found.retain(|path| path.is_file());
    found.sort();
    if found.is_empty() { Err("no file matches the pattern".to_owned()) } else { Ok(found) }
}

#[cfg(not(feature = "files"))]
fn matching(_: &Path, _: &str) -> Result<Vec<PathBuf>, String> {
    Err("this build of equicheck reads no files (its feature `files` is off)".to_owned())
}

/// Files of structures that were read, by path.
struct Library<'a> {
    structures: &'a mut dyn Structures,
    read: BTreeMap<PathBuf, Vec<Structure>>,
}

impl Library<'_> {
    fn frames(&mut self, path: &Path) -> Result<&[Structure], String> {
        match self.read.entry(path.to_owned()) {
            Entry::Occupied(frames) => Ok(frames.into_mut()),
            Entry::Vacant(place) => Ok(place.insert(self.structures.read(path)?)),
        }
    }
}

impl AuditFile {
    /// The samples that the file names and generates; paths are relative to `folder`, which is that of the file.
    ///
    /// # Errors
    /// As [`specification`](Self::specification); files that cannot be read; numbers of samples that differ; shapes
    /// that do not fit the layouts, for the first sample.
    pub fn samples(&self, folder: &Path, structures: &mut dyn Structures) -> Result<SpecSamples, SpecError> {
        let specification = self.specification()?;
        let mut problems = Vec::new();
        for ((name, input), (_, layout)) in self.inputs.iter().zip(specification.inputs()) {
            if let Some(generate) = input.generate.get() {
                self.check_generated(name, input, generate, layout.as_ref(), &mut problems);
            }
        }
        if !problems.is_empty() {
            return Err(self.error(problems));
        }
        let mut library = Library { structures, read: BTreeMap::new() };
        let mut inputs = Vec::new();
        for ((name, input), (_, layout)) in self.inputs.iter().zip(specification.inputs()) {
            match Self::origin(name, input, layout.as_ref(), folder, &mut library) {
                Ok(origin) => inputs.push((name.clone(), origin)),
                Err(problem) => problems.push(problem),
            }
        }
        if !problems.is_empty() {
            return Err(self.error(problems));
        }
        let count = self.count(&inputs).map_err(|problem| self.error(vec![problem]))?;
        let seed = self.run.seed.get().copied().unwrap_or(0);
        let mut samples = SpecSamples { inputs, sizes: self.sizes.clone(), seed, count, last: None };
        self.check_first(&mut samples, specification.group(), specification.inputs())?;
        Ok(samples)
    }

    fn place_of(input: &Input) -> Option<std::ops::Range<usize>> {
        input.file.span().or_else(|| input.generate.span()).or_else(|| input.layout.span())
    }

    fn origin(
        name: &str,
        input: &Input,
        layout: Option<&Layout>,
        folder: &Path,
        library: &mut Library<'_>,
    ) -> Result<Origin, Problem> {
        if let Some(generate) = input.generate.get() {
            return Ok(Origin::Generated(Box::new(generate.clone())));
        }
        let key = input.key.get().map_or_else(|| name.to_owned(), Clone::clone);
        let stacked = input.stacked.get() == Some(&true);
        let leading = layout.is_some_and(|layout| {
            let axes = layout.axes();
            axes.len() == 4 && !axes.iter().any(Axis::may_lack_axis)
        });
        let reading = Reading { key, dtype: input.dtype.get().copied(), leading };
        let fail = |span: Option<std::ops::Range<usize>>, why: String| {
            Problem::maybe_at(span, format!("input `{}`: {why}", shown(name)))
        };
        let mut items = Vec::new();
        for said in input.file.get().map_or(&[][..], |files| files.0.as_slice()) {
            let Some(text) = said.get() else { continue };
            for path in files(folder, text)
                .map_err(|why| fail(said.span(), format!("`{}`: {why}", text.escape_debug())))?
            {
                let fail =
                    |why: String| fail(said.span(), format!("cannot read `{}`: {why}", printed(&path)));
                let ending = ending(&path);
                if matches!(ending.as_str(), "npy" | "png") && input.key.is_present() {
                    let message = format!("input `{}`: a .{ending} file has no keys", shown(name));
                    return Err(Problem::maybe_at(input.key.span(), message).help("leave out `key`"));
                }
                if !ARRAYS.contains(&ending.as_str()) {
                    if stacked {
                        let message = format!("input `{}`: every structure is a sample already", shown(name));
                        return Err(
                            Problem::maybe_at(input.stacked.span(), message).help("leave out `stacked`")
                        );
                    }
                    if !path.exists() {
                        return Err(fail("there is no such file".to_owned()));
                    }
                    for frame in library.frames(&path).map_err(fail)? {
                        let array =
                            frame.get(&reading.key).ok_or_else(|| fail(no_key(&reading.key, frame)))?;
                        items.push(Item::Array(Rc::new(reading.cast(array.clone()).map_err(fail)?)));
                    }
                } else if stacked {
                    let array = Rc::new(reading.array(&path).map_err(fail)?);
                    match array.shape().first() {
                        Some(n) => items.extend((0..*n).map(|k| Item::Entry(Rc::clone(&array), k))),
                        None => return Err(fail("a number has no axis that could count samples".to_owned())),
                    }
                } else {
                    items.push(Item::File(path));
                }
            }
        }
        if items.is_empty() {
            return Err(fail(input.file.span(), "there is no sample".to_owned()));
        }
        Ok(Origin::Items(items, reading))
    }

    /// How many samples there are: the inputs' common number; one sample alone serves all.
    fn count(&self, inputs: &[(String, Origin)]) -> Result<Option<usize>, Problem> {
        let mut common: Option<(&str, usize)> = None;
        for ((name, origin), (_, input)) in inputs.iter().zip(&self.inputs) {
            let Origin::Items(items, _) = origin else { continue };
            match common {
                Some((first, count)) if count != 1 && items.len() != 1 && count != items.len() => {
                    let message = format!(
                        "input `{}` has {} samples, and input `{}` has {count}",
                        shown(name),
                        items.len(),
                        shown(first)
                    );
                    return Err(Problem::maybe_at(Self::place_of(input), message)
                        .help("give every input as many samples, or a single one that serves all"));
                }
                Some((_, count)) if count >= items.len() => {}
                _ => common = Some((name, items.len())),
            }
        }
        let generated = inputs.iter().any(|(_, origin)| matches!(origin, Origin::Generated(_)));
        Ok(common.map(|(_, count)| count).filter(|count| *count > 1 || !generated))
    }

    /// The first sample must be there and fit the layouts.
    fn check_first(
        &self,
        samples: &mut SpecSamples,
        group: &Group,
        layouts: &[(String, Option<Layout>)],
    ) -> Result<(), SpecError> {
        let sizes = samples.sizes_of(0);
        let mut problems = Vec::new();
        for (k, ((name, input), (_, layout))) in self.inputs.iter().zip(layouts).enumerate() {
            match samples.value(k, 0, &sizes) {
                Ok(tensor) => {
                    if let Some(layout) = layout
                        && let Err(error) = BoundLayout::new(
                            layout,
                            tensor.shape(),
                            group,
                            &format!("input `{}`", shown(name)),
                        )
                    {
                        problems.push(Problem::maybe_at(input.layout.span(), error.to_string()));
                    }
                }
                Err(why) => {
                    let message = format!("input `{}`: {why}", shown(name));
                    problems.push(Problem::maybe_at(Self::place_of(input), message));
                }
            }
        }
        if problems.is_empty() { Ok(()) } else { Err(self.error(problems)) }
    }

    fn size(&self, name: &str) -> Option<Size> {
        self.sizes.get(name)?.get().copied()
    }

    /// All lengths that a said length may be.
    fn lengths(&self, said: &Said<Length>, default: &str) -> Option<Size> {
        match said.get() {
            Some(Length::Number(n)) => Some(Size { smallest: *n, largest: *n }),
            Some(Length::Name(name)) => self.size(name),
            None => self.size(default),
        }
    }

    /// What is to be generated must be possible, small enough, and fit the layout.
    fn check_generated(
        &self,
        name: &str,
        input: &Input,
        generate: &Generate,
        layout: Option<&Layout>,
        problems: &mut Vec<Problem>,
    ) {
        let path = format!("inputs.{}.generate", shown(name));
        let place = generate.shape().and_then(Said::span).or_else(|| input.generate.span());
        let mut refuse = |message: String, help: &str| {
            let problem = Problem::maybe_at(place.clone(), format!("`{path}`: {message}"));
            problems.push(if help.is_empty() { problem } else { problem.help(help) });
        };
        match generate {
            Generate::RandomGraph(graph) => self.check_graph(graph, &mut refuse),
            Generate::Segments(table) => {
                let (n, count) = (self.lengths(&table.nodes, NODES), self.lengths(&table.count, ""));
                if let (Some(n), Some(count)) = (n, count)
                    && count.largest > n.smallest
                {
                    let message = format!("{} labels do not fit {} entries", count.largest, n.smallest);
                    refuse(message, "each label comes at least once");
                }
            }
            Generate::Integers(table) => {
                if let Some(Bound::Name(high)) = table.high.get()
                    && let (Some(low), Some(size)) = (table.low.get(), self.size(high))
                    && *low >= size.smallest as i64
                {
                    refuse(format!("no whole number is at least {low} and below {}", size.smallest), "");
                }
            }
            Generate::LorentzVectors(_) | Generate::Cell(_) => {
                let last = |k: usize| {
                    let shape = generate.shape().and_then(Said::get)?;
                    self.lengths(shape.0.get(shape.0.len().checked_sub(k)?)?, "")
                };
                match generate {
                    Generate::LorentzVectors(_) if last(1) != Some(Size { smallest: 4, largest: 4 }) => {
                        refuse("the last axis has length 4".to_owned(), "components are t, x, y, z");
                    }
                    Generate::Cell(table)
                        if table.shape.is_present()
                            && (last(1).is_none()
                                || last(1) != last(2)
                                || last(1).is_some_and(|n| n.smallest != n.largest)) =>
                    {
                        refuse(
                            "the last two axes are equal".to_owned(),
                            "rows are lattice vectors: shape = [3, 3]",
                        );
                    }
                    _ => {}
                }
            }
            Generate::UnitVectors(_) | Generate::OneHot(_)
                if generate.shape().and_then(Said::get).is_some_and(|shape| shape.0.is_empty()) =>
            {
                refuse("the shape has no last axis".to_owned(), "");
            }
            _ => {}
        }
        let axes = self.axes(generate);
        let entries = axes.iter().try_fold(1u128, |entries, (_, size)| {
            entries.checked_mul(size.map_or(1, |size| size.largest as u128))
        });
        if entries.is_none_or(|entries| entries > LARGEST_GENERATED) {
            refuse(format!("it has more than {LARGEST_GENERATED} entries"), "make its sizes smaller");
        }
        if let Some(layout) = layout {
            self.check_layout(name, input, layout, &axes, problems);
        }
    }

    fn check_graph(&self, graph: &RandomGraph, refuse: &mut dyn FnMut(String, &str)) {
        let given = match graph.edges.get() {
            Some(Length::Number(n)) => Some(Size { smallest: *n, largest: *n }),
            Some(Length::Name(name)) => self.size(name),
            None => self.size(EDGES),
        };
        let Some(nodes) = self.lengths(&graph.nodes, NODES) else { return };
        let complete = graph.complete.get() == Some(&true);
        if given.is_some() && graph.segments.is_present() {
            return refuse(
                "how many edges fit into the segments depends on their sizes".to_owned(),
                "write degree = 4, or complete = true, in place of a number of edges",
            );
        }
        if let Some(why) = graph.segments.get().and_then(|name| self.no_labels(graph, name)) {
            return refuse(
                why,
                "name an input whose values are generate = { kind = \"segments\", count = 3 }",
            );
        }
        if nodes.largest as u128 > LARGEST_GENERATED {
            return refuse(format!("it has more than {LARGEST_GENERATED} nodes"), "make its sizes smaller");
        }
        match given {
            None if !complete && graph.degree.get().is_none() => {
                refuse(
                    "it is not said how many edges there are".to_owned(),
                    "write degree = 4, or complete = true",
                );
            }
            Some(_) if complete || graph.degree.get().is_some() => refuse(
                "the number of edges is said twice".to_owned(),
                "leave out `degree` and `complete`, or the number and size of edges",
            ),
            Some(edges) if edges.smallest != edges.largest || edges.smallest % 2 == 1 => refuse(
                "each edge comes in both directions: one even number of them is expected".to_owned(),
                "write degree = 4 instead, and take the size away: shapes can use its name all the same",
            ),
            Some(edges) if edges.largest as u128 > nodes.smallest as u128 * (nodes.smallest as u128 - 1) => {
                refuse(format!("{} nodes have fewer than {} edges", nodes.smallest, edges.largest), "");
            }
            _ => {}
        }
    }

    /// Why an input cannot label the nodes of a graph.
    fn no_labels(&self, graph: &RandomGraph, name: &str) -> Option<String> {
        let names = self.inputs.iter().map(|(name, _)| name.as_str());
        let Some((_, input)) = self.inputs.iter().find(|(other, _)| other == name) else {
            let near =
                nearest(name, names).map_or_else(String::new, |near| format!("; did you mean `{near}`?"));
            return Some(format!("there is no input `{}`{near}", name.escape_debug()));
        };
        let Some(Generate::Segments(table)) = input.generate.get() else {
            return Some(format!("input `{}` is not generated as segments", shown(name)));
        };
        let nodes =
            |said: &Said<Length>| said.get().cloned().unwrap_or_else(|| Length::Name(NODES.to_owned()));
        (nodes(&graph.nodes) != nodes(&table.nodes))
            .then(|| format!("input `{}` labels other nodes", shown(name)))
    }

    /// The axes that are generated: the name of each, where it has one, and its sizes, where they are known.
    fn axes(&self, generate: &Generate) -> Vec<(Option<String>, Option<Size>)> {
        let axis = |said: &Said<Length>, default: &str| {
            let name = match said.get() {
                Some(Length::Number(_)) => None,
                Some(Length::Name(name)) => Some(name.clone()),
                None => Some(default.to_owned()),
            };
            (name, self.lengths(said, default))
        };
        let fixed = |n: usize| (None, Some(Size { smallest: n, largest: n }));
        match generate {
            Generate::RandomGraph(graph) => {
                let (name, edges) = axis(&graph.edges, EDGES);
                let nodes = self.lengths(&graph.nodes, NODES);
                // All pairs, in both directions, at most; as many as were asked for, up to one pair.
                let most = nodes.map(|n| {
                    let all = n.largest.saturating_mul(n.largest.saturating_sub(1));
                    graph.degree.get().map_or(all, |degree| all.min((n.largest as f64 * degree) as usize + 2))
                });
                let drawn = most.map(|largest| Size { smallest: 0, largest });
                vec![fixed(2), (name, edges.or(drawn))]
            }
            Generate::Segments(table) => vec![axis(&table.nodes, NODES)],
            other => match other.shape().and_then(Said::get) {
                Some(shape) => shape.0.iter().map(|said| axis(said, "")).collect(),
                None => vec![fixed(3), fixed(3)],
            },
        }
    }

    /// Axes of the layout that are called like a size must have that size.
    fn check_layout(
        &self,
        name: &str,
        input: &Input,
        layout: &Layout,
        axes: &[(Option<String>, Option<Size>)],
        problems: &mut Vec<Problem>,
    ) {
        let words = layout.axes();
        let shown_name = shown(name);
        if words.iter().any(Axis::is_weight) || words.contains(&Axis::Ellipsis) {
            return;
        }
        let mut refuse = |message: String| {
            let place =
                input.generate.get().and_then(|g| g.shape()?.span()).or_else(|| input.generate.span());
            problems.push(Problem::maybe_at(place, message));
        };
        if words.len() != axes.len() {
            return refuse(format!(
                "input `{shown_name}`: the layout `{layout}` has {} axes, and the shape has {}",
                words.len(),
                axes.len()
            ));
        }
        for (word, (given, size)) in words.iter().zip(axes) {
            let (Axis::Permuted(called) | Axis::Grid(called) | Axis::Plain { name: called, .. }) = word
            else {
                continue;
            };
            let Some(expected) = self.size(called) else { continue };
            let same = match given {
                Some(given) => given == called,
                None => *size == Some(expected) && expected.smallest == expected.largest,
            };
            if !same {
                let found = match (given, size) {
                    (Some(given), _) => format!("`{}`", given.escape_debug()),
                    (None, Some(size)) => size.largest.to_string(),
                    (None, None) => "another length".to_owned(),
                };
                refuse(format!(
                    "input `{shown_name}`: the axis `{called}` of the layout `{layout}` is {found} in the shape: write \
                     \"{called}\", a name of [sizes], there"
                ));
            }
        }
        if let (Some(values), Some(Generate::RandomGraph(graph))) = (layout.values(), input.generate.get()) {
            let nodes = match graph.nodes.get() {
                Some(Length::Name(nodes)) => nodes.as_str(),
                Some(Length::Number(_)) => return,
                None => NODES,
            };
            if nodes != values.axis && self.size(&values.axis).is_some() {
                refuse(format!(
                    "input `{shown_name}`: values are positions along `{}` by the layout `{layout}`, and nodes of a graph \
                     on `{nodes}`: write nodes = \"{}\"",
                    values.axis, values.axis
                ));
            }
        }
    }
}

fn no_key(key: &str, frame: &Structure) -> String {
    let keys: Vec<&str> = frame.keys().map(String::as_str).collect();
    let help = match nearest(key, keys.iter().copied()) {
        Some(near) => format!("did you mean `{near}`?"),
        None => format!("`key` may be {}", keys.join(", ")),
    };
    format!("a structure has no array `{}`; {help}", key.escape_debug())
}

impl SpecSamples {
    /// Names of the inputs, in their order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.inputs.iter().map(|(name, _)| name.as_str())
    }

    fn sizes_of(&self, sample: usize) -> BTreeMap<String, usize> {
        let graphs = self.inputs.iter().filter_map(|(_, origin)| match origin {
            Origin::Generated(generate) => match &**generate {
                Generate::RandomGraph(graph) => Some((graph, self.labels(generate))),
                _ => None,
            },
            Origin::Items(..) => None,
        });
        draw::sizes(&self.sizes, graphs, self.seed, sample)
    }

    /// What labels the nodes of a generated graph.
    fn labels(&self, generate: &Generate) -> Option<draw::Labels<'_>> {
        let Generate::RandomGraph(graph) = generate else { return None };
        let wanted = graph.segments.get()?;
        self.inputs.iter().find_map(|(name, origin)| match origin {
            Origin::Generated(other) if name == wanted => match &**other {
                Generate::Segments(table) => Some((name.as_str(), table)),
                _ => None,
            },
            _ => None,
        })
    }

    fn value(&self, input: usize, sample: usize, sizes: &BTreeMap<String, usize>) -> Result<Tensor, String> {
        let (name, origin) = &self.inputs[input];
        match origin {
            Origin::Generated(generate) => {
                draw::values(generate, name, self.labels(generate), sizes, self.seed, sample)
            }
            Origin::Items(items, reading) => {
                let index = if items.len() == 1 { 0 } else { sample };
                let item = items.get(index).ok_or_else(|| format!("there is no sample {sample}"))?;
                item.tensor(reading)
            }
        }
    }
}

impl SpecSamples {
    /// The same with another seed than the file's for what is generated.
    #[must_use]
    pub fn with_seed(self, seed: u64) -> Self {
        Self { seed, last: None, ..self }
    }
}

impl Samples for SpecSamples {
    fn count(&self) -> Option<usize> {
        self.count
    }

    fn get(&mut self, index: usize) -> Result<Vec<Tensor>, Error> {
        if let Some((last, sample)) = &self.last
            && *last == index
        {
            return Ok(sample.clone());
        }
        let sizes = self.sizes_of(index);
        let value = |input: usize| {
            self.value(input, index, &sizes).map_err(|why| {
                Error::Host(format!("input `{}`, sample {index}: {why}", shown(&self.inputs[input].0)))
            })
        };
        let sample = (0..self.inputs.len()).map(value).collect::<Result<Vec<_>, Error>>()?;
        self.last = Some((index, sample.clone()));
        Ok(sample)
    }
}
