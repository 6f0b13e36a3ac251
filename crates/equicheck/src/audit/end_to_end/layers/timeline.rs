//! The first tensor of a pass that is wrong, and whom that points at.

use crate::model::Trace;
use crate::report::BreakKind;

/// What is known of a tensor at the place where it first appears.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Status {
    /// It is what it must be.
    Fine,
    /// It is not.
    Broken,
    /// Its layout is not known.
    Unknown,
}

/// Who seems to have lost the symmetry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Suspect {
    /// Position of the call to blame: the module itself, or the one whose forward holds the code.
    pub(super) call: usize,
    pub(super) kind: BreakKind,
    /// Names of the calls before and after.
    pub(super) between: Option<(String, String)>,
    /// The call at which the broken tensors are seen, and whether they go into it.
    pub(super) seen_at: usize,
    pub(super) input: bool,
}

/// The name of a call as a reader writes it: `conv2`, or `conv2 (call 1)` from the second on.
pub(super) fn name(trace: &Trace, call: usize) -> String {
    let call = &trace.calls[call];
    if call.number == 0 { call.path.clone() } else { format!("{} (call {})", call.path, call.number) }
}

/// Walks through the pass. `status` is by tensor of the trace.
pub(super) fn first_suspect(trace: &Trace, status: &[Status]) -> Option<Suspect> {
    // (clock, call, whether it begins).
    let mut events: Vec<(usize, usize, bool)> = trace
        .calls
        .iter()
        .enumerate()
        .flat_map(|(k, call)| [(call.began, k, true), (call.ended, k, false)])
        .collect();
    events.sort_unstable();
    // By call: what became of the calls that it made, in order of their ends.
    let mut ended: Vec<Vec<(usize, Status)>> = vec![Vec::new(); trace.calls.len()];
    let of = |call: usize, input: bool| {
        let call = &trace.calls[call];
        let leaves = if input { &call.inputs } else { &call.outputs };
        let all: Vec<Status> = leaves.iter().map(|leaf| status[leaf.tensor]).collect();
        if all.contains(&Status::Broken) {
            Status::Broken
        } else if all.contains(&Status::Unknown) {
            Status::Unknown
        } else {
            Status::Fine
        }
    };
    for (_, call, begins) in events {
        let state = of(call, begins);
        let parent = trace.calls[call].parent;
        if begins {
            if let (Status::Broken, Some(parent)) = (state, parent) {
                let (after, unknown) = last_fine(trace, &ended[parent]);
                return Some(Suspect {
                    call: parent,
                    kind: if unknown { BreakKind::Bracket } else { BreakKind::Functional },
                    between: Some((after, name(trace, call))),
                    seen_at: call,
                    input: true,
                });
            }
            continue;
        }
        if state == Status::Broken {
            let inside = &ended[call];
            let (after, unknown) = last_fine(trace, inside);
            if !inside.is_empty() {
                return Some(Suspect {
                    call,
                    kind: if unknown { BreakKind::Bracket } else { BreakKind::Functional },
                    between: Some((after, "the end of its forward".to_owned())),
                    seen_at: call,
                    input: false,
                });
            }
            // What went in is not known: it may have come broken from an earlier call or from code before it.
            let (Status::Unknown, Some(parent)) = (of(call, true), parent) else {
                return Some(Suspect {
                    call,
                    kind: BreakKind::Module,
                    between: None,
                    seen_at: call,
                    input: false,
                });
            };
            let (after, _) = last_fine(trace, &ended[parent]);
            return Some(Suspect {
                call: parent,
                kind: BreakKind::Bracket,
                between: Some((after, name(trace, call))),
                seen_at: call,
                input: false,
            });
        }
        if let Some(parent) = parent {
            ended[parent].push((call, state));
        }
    }
    None
}

/// The last of these calls before the first whose outcome is not known, and whether there is such a one.
fn last_fine(trace: &Trace, ended: &[(usize, Status)]) -> (String, bool) {
    let known = ended.iter().take_while(|(_, status)| *status == Status::Fine);
    let last =
        known.last().map_or_else(|| "the start of its forward".to_owned(), |(call, _)| name(trace, *call));
    (last, ended.iter().any(|(_, status)| *status == Status::Unknown))
}
