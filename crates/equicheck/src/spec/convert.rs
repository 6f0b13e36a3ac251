//! From an audit file to what an audit takes.

use std::ops::Range;
use std::time::Duration;

use crate::audit::{NoiseLayouts, Options, Randomness, Specification};
use crate::model::DType;
use crate::symmetry::{Group, Layout, Representations};
use crate::{Error, ParseError};

use super::error::{Problem, SpecError};
use super::place::within;
use super::read::{Said, shown};
use super::tables::{Output, RandomnessWord};
use super::{AuditFile, Declared};

impl AuditFile {
    /// Refuses a file with open questions, naming each.
    pub(super) fn answered(&self) -> Result<(), SpecError> {
        let questions = self.open_questions();
        if questions.is_empty() {
            return Ok(());
        }
        let problem = |question: super::OpenQuestion| {
            Problem::at(question.span, format!("`{}` has yet to be answered", question.path))
                .mark("write the answer in place of \"?\"")
        };
        Err(self.error(questions.into_iter().map(problem).collect()))
    }

    /// The group and all layouts.
    ///
    /// # Errors
    /// Open questions, each by name; a group and layouts that do not parse, with the bytes that are wrong; a permuted
    /// axis that no input mentions.
    pub fn specification(&self) -> Result<Specification, SpecError> {
        self.answered()?;
        let text = self.group.get().map_or("", String::as_str);
        let group = Group::parse(text)
            .map_err(|error| self.error(vec![self.inside(&self.group, text, &error, "group")]))?;
        let names: Vec<&str> = self.inputs.iter().map(|(name, _)| name.as_str()).collect();
        let parse =
            |layout: &str| Layout::parse_with(layout, &group, &Representations::default(), Some(&names));
        let mut problems = Vec::new();
        let mut inputs = Vec::new();
        let mut outputs = Vec::new();
        for (name, input) in &self.inputs {
            let layout = input.layout.get().and_then(Declared::layout);
            if let Some(text) = layout
                && let Err(error) = parse(text)
            {
                let subject = format!("layout of input `{}`", shown(name));
                problems.push(self.inside(&input.layout, text, &error, &subject));
            }
            inputs.push((name.clone(), layout.map(str::to_owned)));
        }
        for (name, output) in &self.outputs {
            let layout = output.layout.get().and_then(Declared::layout);
            let Some(text) = layout else {
                outputs.push((name.clone(), None));
                continue;
            };
            let (whole, clause) = with_up_to(text, output);
            if let Err(error) = parse(&whole) {
                let subject = format!("layout of output `{}`", shown(name));
                problems.push(match output.up_to.get() {
                    // What is wrong with the clause is said where the clause is.
                    Some(up_to) if error.span.start >= clause => {
                        let inner = error.span.start - clause..error.span.end - clause;
                        let error = ParseError { span: inner, ..error };
                        self.inside(&output.up_to, up_to, &error, &subject)
                    }
                    _ => self.inside(&output.layout, text, &error, &subject),
                });
            }
            outputs.push((name.clone(), Some(whole)));
        }
        if !problems.is_empty() {
            return Err(self.error(problems));
        }
        Specification::parse(text, &inputs, &outputs)
            .map_err(|error| self.error(vec![self.of_specification(&error, text)]))
    }

    /// Everything else about the audit.
    ///
    /// # Errors
    /// As [`specification`](Self::specification); an option that is out of its range or does not go with the others.
    pub fn options(&self) -> Result<Options, SpecError> {
        let specification = self.specification()?;
        let options = self.unchecked_options();
        options.check(&specification).map_err(|error| {
            self.error(vec![match error {
                Error::Option { option, why } => {
                    let message = format!("`run.{option}`: {why}");
                    Problem::maybe_at(self.place(&format!("run.{option}")), message)
                }
                other => Problem::general(other.to_string()),
            }])
        })?;
        Ok(options)
    }

    /// An error of an audit at the place of the file that it is about; `None` where there is no such place.
    pub fn located(&self, error: &Error) -> Option<SpecError> {
        let span = match error {
            Error::MissingOutput { name, .. } => self.span_of("output", name),
            Error::Shape { tensor, .. } | Error::AxisLength { second_tensor: tensor, .. } => {
                let (kind, name) = tensor.split_once(" `")?;
                self.span_of(kind, name.trim_end_matches('`'))
            }
            Error::Option { option, why } if option == "out_layouts" => {
                self.span_of("output", why.split('`').nth(1)?)
            }
            Error::Option { option, .. } => self.place(&format!("run.{option}")),
            _ => None,
        };
        Some(self.error(vec![Problem::at(span?, error.to_string())]))
    }

    fn span_of(&self, kind: &str, name: &str) -> Option<Range<usize>> {
        match kind {
            "input" => self.inputs.iter().find(|(other, _)| other == name)?.1.layout.span(),
            "output" => self.outputs.iter().find(|(other, _)| other == name)?.1.layout.span(),
            _ => None,
        }
    }

    /// Inputs of other element types than the model takes: name, type, and the model's by numpy's name.
    pub fn wrong_dtypes(&self, wrong: &[(String, DType, String)]) -> SpecError {
        let problem = |(name, given, wanted): &(String, DType, String)| {
            let input = self.inputs.iter().find(|(other, _)| other == name).map(|(_, input)| input);
            let place = input.and_then(|input| {
                input.dtype.span().or_else(|| input.generate.span()).or_else(|| input.file.span())
            });
            let message =
                format!("input `{}` is {}, and the model takes {wanted}", shown(name), given.name());
            let help = if input.is_some_and(|input| input.generate.is_present()) {
                format!("write dtype = \"{wanted}\" in `generate`")
            } else {
                format!("write dtype = \"{wanted}\" beside `file`")
            };
            Problem::maybe_at(place, message).help(help)
        };
        self.error(wrong.iter().map(problem).collect())
    }

    fn unchecked_options(&self) -> Options {
        let run = &self.run;
        let default = Options::default();
        let word = run.randomness.get().copied().unwrap_or(RandomnessWord::Fixed);
        let named = |name: &String, value: f64| (name.clone(), value);
        let inputs = self.inputs.iter().map(|(name, input)| (name, &input.domain));
        let outputs = self.outputs.iter().map(|(name, output)| (name, &output.domain));
        Options {
            samples: run.samples.get().map(|count| count.0),
            transforms: run.transforms.get().map(|count| count.0),
            budget: match run.budget.get() {
                // A budget beyond what a clock can hold is none.
                Some(budget) => Duration::try_from_secs_f64(budget.0).ok(),
                None if run.thorough.get() == Some(&true) => None,
                None => default.budget,
            },
            seed: run.seed.get().copied().unwrap_or(default.seed),
            translation_scale: run.translation_scale.get().copied(),
            levels: run.levels.get().copied().unwrap_or(default.levels),
            tolerance: run.tolerance.get().copied(),
            tolerances: self
                .outputs
                .iter()
                .filter_map(|(name, output)| output.tolerance.get().map(|bound| named(name, *bound)))
                .collect(),
            precision: run.precision.get().copied().unwrap_or(default.precision),
            segments: run
                .segments
                .get()
                .into_iter()
                .flat_map(super::Named::iter)
                .filter_map(|(axis, input)| Some((axis.to_owned(), input.get()?.clone())))
                .collect(),
            domain: run.domain.get().copied(),
            domains: inputs
                .chain(outputs)
                .filter_map(|(name, domain)| Some((name.clone(), *domain.get()?)))
                .collect(),
            interpolation: run.interpolation.get().copied().unwrap_or(default.interpolation),
            rapidity: run.rapidity.get().copied().unwrap_or(default.rapidity),
            shard: run.shard.get().copied().unwrap_or(default.shard),
            batch: run.batch.get().copied().unwrap_or(default.batch),
            early_stop: run.early_stop.get().copied().unwrap_or(default.early_stop),
            randomness: match word {
                RandomnessWord::Fixed => Randomness::Fixed,
                RandomnessWord::Distribution => Randomness::Distribution,
                RandomnessWord::Transform => {
                    let layouts = run.noise_layouts.get();
                    Randomness::Transform(layouts.cloned().unwrap_or(NoiseLayouts::NotGiven))
                }
            },
            stress: run.stress.get().copied().unwrap_or(default.stress),
            cutoff: run.cutoff.get().copied(),
            layers: run.layers.get().copied().unwrap_or(default.layers),
            hidden_layouts: run
                .hidden_layouts
                .get()
                .into_iter()
                .flat_map(super::Named::iter)
                .filter_map(|(module, tensors)| Some((module, tensors.get()?)))
                .flat_map(|(module, tensors)| {
                    let place = |(at, layout): (&str, &super::Said<String>)| {
                        let (side, leaf) = at.split_once('.').unwrap_or((at, ""));
                        Some(((module.to_owned(), side.to_owned(), leaf.to_owned()), layout.get()?.clone()))
                    };
                    tensors.iter().filter_map(place).collect::<Vec<_>>()
                })
                .collect(),
            gradients: run.gradients.get().copied().unwrap_or(default.gradients),
            loss: default.loss,
        }
    }

    /// An error inside a string of the file.
    fn inside<T>(&self, said: &Said<T>, value: &str, error: &ParseError, subject: &str) -> Problem {
        let message = format!("{subject}: {}", error.message);
        let span: Option<Range<usize>> =
            said.span().map(|token| within(&self.source.text, &token, value, &error.span));
        let problem = Problem::maybe_at(span, message);
        match &error.help {
            Some(help) => problem.help(help.clone()),
            None => problem,
        }
    }

    /// Where an error of the specification as a whole belongs.
    fn of_specification(&self, error: &Error, group: &str) -> Problem {
        match error {
            Error::AxisNotMentioned { axis } => {
                // Where it stands in parentheses: `x` is a product sign too. Blanks are free.
                let inside = |(start, _): &(usize, &str)| group[..*start].trim_end().ends_with('(');
                let start = group.match_indices(axis.as_str()).find(inside).map(|(start, _)| start);
                let place = self.group.span().map(|token| match start {
                    Some(start) => within(&self.source.text, &token, group, &(start..start + axis.len())),
                    None => token,
                });
                Problem::maybe_at(place, error.to_string())
            }
            Error::Option { why, .. } => {
                let cell = self.inputs.iter().find(|(name, _)| why.contains(&format!("`{name}`")));
                // What is None in Python is `false` in a file.
                let why = why.replace("its layout is None", "its layout is `false`");
                Problem::maybe_at(cell.and_then(|(_, input)| input.layout.span()), why)
            }
            other => Problem::maybe_at(self.group.span(), other.to_string()),
        }
    }
}

/// The layout of an output with what it is defined up to behind it, and where that clause's text starts.
fn with_up_to(layout: &str, output: &Output) -> (String, usize) {
    let Some(up_to) = output.up_to.get() else { return (layout.to_owned(), usize::MAX) };
    let before = if layout.is_empty() { "~ ".to_owned() } else { format!("{layout} ~ ") };
    (format!("{before}{up_to}"), before.len())
}
