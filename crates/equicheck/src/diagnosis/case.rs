//! Violations, by what may have caused them: one case for each place where symmetry is lost, or each declaration that is
//! wrong. One cause is one finding.

use crate::report::{
    Alternative, Break, BreakKind, Confidence, Examination, OutputResult, SizeRow, Subgroup, Variation,
};
use crate::symmetry::Factor;

use super::{Evidence, Finding, Mode, alone, figure, only_breaking, only_improper, page, severity, violated};

/// Violations with one cause.
#[derive(Debug, Clone)]
pub(super) struct Case<'a> {
    pub(super) evidence: &'a Evidence<'a>,
    /// The outputs that show it.
    pub(super) outputs: Vec<&'a OutputResult>,
    /// Where symmetry is lost.
    pub(super) broken: Option<&'a Break>,
    /// What was seen of that place.
    pub(super) seen: Option<&'a Examination>,
    /// Another declaration under which all is well.
    pub(super) alternative: Option<&'a Alternative>,
}

/// All cases, in the order of the outputs and of the pass.
pub(super) fn cases<'a>(evidence: &'a Evidence<'a>) -> Vec<Case<'a>> {
    let mut left: Vec<&OutputResult> = violated(evidence).collect();
    let mut cases = Vec::new();
    let seen = |broken: &Break| {
        let examined = evidence.layers.map_or(&[][..], |layers| &layers.examinations);
        examined.iter().find(|seen| seen.location == broken.location && seen.call == broken.call)
    };
    for alternative in &evidence.inquiries.alternatives {
        let (own, others): (Vec<_>, Vec<_>) =
            left.into_iter().partition(|output| alternative.outputs.contains(&output.name));
        left = others;
        if own.is_empty() {
            continue;
        }
        // Whose order it is, the model's or the declaration's, nobody can say: the place where it is made is named.
        let ordered = alternative.variation == Variation::Order && left.is_empty();
        let broken = if ordered { evidence.breaks().first() } else { None };
        let seen = broken.and_then(seen);
        cases.push(Case { evidence, outputs: own, broken, seen, alternative: Some(alternative) });
    }
    if left.is_empty() {
        return cases;
    }
    if evidence.breaks().is_empty() {
        // Outputs that are broken by the same factors may be so by one cause.
        while let Some(first) = left.first().copied() {
            let factors = |output: &OutputResult| -> Vec<String> {
                let rows = alone(evidence, output);
                rows.iter()
                    .filter(|(_, row)| row.exceeding > 0)
                    .map(|(factor, _)| factor.to_string())
                    .collect()
            };
            let wanted = factors(first);
            let (outputs, others) = left.into_iter().partition(|output| factors(output) == wanted);
            left = others;
            cases.push(Case { evidence, outputs, broken: None, seen: None, alternative: None });
        }
        return cases;
    }
    for broken in evidence.breaks() {
        cases.push(Case {
            evidence,
            outputs: left.clone(),
            broken: Some(broken),
            seen: seen(broken),
            alternative: None,
        });
    }
    cases
}

impl<'a> Case<'a> {
    /// A finding about it, with the figures that every finding has.
    pub(super) fn finding(&self, mode: Mode, message: String, facts: Vec<String>) -> Finding {
        let mut evidence = vec![figure("violation", self.violation())];
        let rows = self.outputs.first().map(|output| alone(self.evidence, output)).unwrap_or_default();
        for (label, breaking) in [("broken by", true), ("holds under", false)] {
            let names: Vec<String> = rows
                .iter()
                .filter(|(_, row)| (row.exceeding > 0) == breaking)
                .map(|(factor, _)| factor.to_string())
                .collect();
            if !names.is_empty() {
                evidence.push(format!("{label}: {}", names.join(", ")));
            }
        }
        evidence.extend(self.broken.map(|broken| {
            let own = broken.own_error.map_or_else(String::new, |own| format!(", own error {own:.2e}"));
            let left = format!("{:.1e} of the error is left when it is mended", broken.remaining);
            format!("lost at: {}{own}; {left}", broken.place())
        }));
        evidence.extend(facts);
        let names: Vec<String> = self.outputs.iter().map(|output| format!("`{}`", output.name)).collect();
        let outputs = format!("output{} {}", if names.len() > 1 { "s" } else { "" }, names.join(", "));
        let input =
            self.alternative.filter(|other| other.input).map(|other| format!("input `{}`", other.name));
        let effect = |output: &&OutputResult| {
            format!("output `{}`: violation {:.1e}, {}", output.name, output.violation, output.verdict)
        };
        let elsewhere = self.broken.is_some() || input.is_some();
        Finding {
            location: match (self.broken, input) {
                (Some(broken), _) => broken.location.clone(),
                (None, Some(input)) => input,
                (None, None) => outputs,
            },
            class: self.broken.map(|broken| broken.class.clone()),
            source: self.broken.and_then(|broken| broken.source.clone()),
            severity: self
                .outputs
                .iter()
                .map(|output| severity(output.verdict))
                .max()
                .unwrap_or(super::Severity::Medium),
            confidence: match (self.alternative, self.broken) {
                (Some(_), _) => Confidence::High,
                (None, Some(broken)) => broken.confidence,
                (None, None) => Confidence::Medium,
            },
            message,
            evidence,
            effects: if elsewhere { self.outputs.iter().map(effect).collect() } else { Vec::new() },
            fix: page(mode).advice(),
            ..Finding::of(mode)
        }
    }

    /// The largest violation.
    pub(super) fn violation(&self) -> f64 {
        self.outputs.iter().map(|output| output.violation).fold(0.0, f64::max)
    }

    /// The only factor that breaks any of the outputs, if it is one alone and others were tested.
    pub(super) fn only(&self) -> Option<Factor> {
        let mut found: Option<Factor> = None;
        for output in &self.outputs {
            let (factor, _) = only_breaking(self.evidence, output)?;
            if found.as_ref().is_some_and(|other| *other != factor) {
                return None;
            }
            found = Some(factor);
        }
        found
    }

    /// The names of the axes whose permutations are all that breaks; `None` where something else breaks too, or an output
    /// breaks by no factor alone.
    pub(super) fn only_permutations(&self) -> Option<String> {
        let mut names: Vec<String> = Vec::new();
        for output in &self.outputs {
            let rows = alone(self.evidence, output);
            let mut breaking = rows.iter().filter(|(_, row)| row.exceeding > 0).peekable();
            breaking.peek()?;
            for (factor, _) in breaking {
                let name = factor.permuted_axis()?;
                if !names.iter().any(|other| other == name) {
                    names.push(name.to_owned());
                }
            }
        }
        (!names.is_empty()).then(|| names.join("`, `"))
    }

    /// Whether translations, of points or of a grid, are all that breaks.
    pub(super) fn only_translations(&self) -> bool {
        matches!(self.only(), Some(Factor::Translation(_)))
    }

    /// Whether reflections are all that breaks.
    pub(super) fn only_reflections(&self) -> bool {
        self.outputs.iter().all(|output| only_improper(self.evidence, output))
    }

    /// The largest share of pairs that violate, of a factor that acts by matrices.
    pub(super) fn share_of_turns(&self) -> f64 {
        let rows = self.outputs.iter().flat_map(|output| alone(self.evidence, output));
        let shares = rows
            .filter(|(factor, _)| factor.is_linear())
            .map(|(_, row)| row.exceeding as f64 / row.pairs as f64);
        shares.fold(0.0, f64::max)
    }

    /// Whether some factor breaks that acts on components: by matrices, phases or scales.
    pub(super) fn turns_break(&self) -> bool {
        self.breaks_by(|factor| {
            factor.is_linear() || matches!(factor, Factor::Phase | Factor::Scale | Factor::Sign)
        })
    }

    /// Whether some factor that acts on space by matrices breaks.
    pub(super) fn matrices_break(&self) -> bool {
        self.breaks_by(Factor::is_linear)
    }

    fn breaks_by(&self, which: impl Fn(&Factor) -> bool) -> bool {
        self.outputs.iter().any(|output| {
            let rows = alone(self.evidence, output);
            rows.iter().any(|(factor, row)| row.exceeding > 0 && which(factor))
        })
    }

    /// Whether translations break some output, whatever else does.
    pub(super) fn broken_by_translations(&self) -> bool {
        self.breaks_by(|factor| matches!(factor, Factor::Translation(_)))
    }

    /// Smaller groups under which one of its outputs holds, and none breaks.
    pub(super) fn holds_under(&self) -> Vec<&'a Subgroup> {
        let own = |row: &&Subgroup| self.outputs.iter().any(|output| output.name == row.output);
        let rows = self.evidence.inquiries.subgroups.iter().filter(own);
        rows.filter(|row| {
            row.holds
                && !self.evidence.inquiries.subgroups.iter().any(|other| {
                    other.group == row.group
                        && !other.holds
                        && self.outputs.iter().any(|o| o.name == other.output)
                })
        })
        .collect()
    }

    /// What that says in a list of facts.
    pub(super) fn stabiliser(rows: &[&Subgroup]) -> Vec<String> {
        rows.iter()
            .map(|row| format!("holds under {}: {:.1e} at most, {} pairs", row.group, row.error, row.pairs))
            .collect()
    }

    /// The one of such groups that consists of shifts by multiples of a number alone.
    pub(super) fn multiples<'b>(rows: &[&'b Subgroup]) -> Option<&'b Subgroup> {
        rows.iter().copied().find(|row| row.group.starts_with(|c: char| c.is_ascii_digit()))
    }

    /// Its outputs by the size of the samples, where some sizes hold.
    pub(super) fn sizes(&self) -> Vec<&'a SizeRow> {
        let own = |row: &&SizeRow| self.outputs.iter().any(|output| output.name == row.output);
        self.evidence.inquiries.sizes.iter().filter(own).collect()
    }

    /// Classes of the module and of those in it, without the modules that define them, in lower case.
    pub(super) fn classes(&self) -> Vec<String> {
        // Code between the calls of a container is not what they are.
        let inner = self.seen.filter(|_| self.broken.is_none_or(|broken| broken.kind == BreakKind::Module));
        let classes = inner.map_or(&[][..], |seen| &seen.classes);
        let own = self.broken.map(|broken| broken.class.clone());
        let bare = |class: &String| class.rsplit('.').next().unwrap_or(class).to_lowercase();
        classes.iter().chain(own.iter()).map(bare).collect()
    }

    /// What it is called in a message.
    pub(super) fn place(&self) -> String {
        match self.broken {
            Some(broken) => format!("`{}`", broken.place()),
            None => "the model".to_owned(),
        }
    }

    /// The operations of the module that are among these, in place or not; a star stands for any end.
    pub(super) fn operations(&self, names: &[&str]) -> Vec<String> {
        let all = self.seen.map_or(&[][..], |seen| &seen.operations);
        let among = |operation: &&String| {
            let bare = operation.trim_matches('_');
            names.iter().any(|name| match name.strip_suffix('*') {
                Some(start) => bare.starts_with(start),
                None => bare == *name,
            })
        };
        all.iter().filter(among).cloned().collect()
    }

    /// Whether outputs live on a grid that the group moves.
    pub(super) fn on_grid(&self) -> bool {
        self.evidence.grids
    }
}
