//! Random numbers that the model draws inside its calls: replayed and transformed, or compared by their laws.

use std::collections::BTreeMap;

use crate::Error;
use crate::model::Model;
use crate::report::TransformRow;
use crate::symmetry::Element;

use super::super::replay::{self, Context, Replay};
use super::super::sampling::{self, Draws, Part, Purpose, Space};
use super::EndToEnd;

/// Elements per part of the group that must leave the law of a draw as it is: half of a group of two is the identity.
const LAW_ELEMENTS: u64 = 4;

impl EndToEnd<'_> {
    /// Records and replays draws from now on, if that was asked for.
    pub(super) fn prepare_replay(&mut self, model: &dyn Model) -> Result<(), Error> {
        let has_layouts = self.specification.custom_action().is_none();
        self.calls.replay = Replay::new(self.options, self.specification.group(), has_layouts, model)?;
        Ok(())
    }

    /// Binds the noise layouts to what the model drew on a sample.
    pub(super) fn bind_noise(
        &mut self,
        sample: usize,
        lengths: &BTreeMap<String, usize>,
        space: &Space,
    ) -> Result<(), Error> {
        let Some(mut replay) = self.calls.replay.take() else { return Ok(()) };
        let group = self.specification.group();
        let parts = self.parts();
        let elements: Vec<Element> = parts
            .iter()
            .flat_map(|part| (0..LAW_ELEMENTS).map(move |k| (part, k)))
            .map(|(part, k)| law_element(group, part, space, k))
            .collect();
        let context = Context {
            sample,
            group,
            lengths,
            axes: &space.axes,
            on_grid: &|layout| self.on_grid("", layout, &space.grid),
            elements: &elements,
        };
        replay.bind(&context)?;
        self.calls.replay = Some(replay);
        Ok(())
    }

    /// How recorded draws are transformed, in words.
    pub(super) fn noise_rows(&self) -> Vec<TransformRow> {
        self.calls.replay.as_ref().map_or_else(Vec::new, |replay| replay.rows(0, self.specification.group()))
    }
}

/// Elements that move what they can: translations and boosts of order one, whatever the sample's scale.
fn law_element(group: &crate::symmetry::Group, part: &Part, space: &Space, k: u64) -> Element {
    let space = Space { translation_scale: 1.0, ..space.clone() };
    let mut draws = Draws::new(0, 0, k, Purpose::NearIdentity);
    sampling::haar(group, part, &space, None, &mut draws)
}

/// Why a call on a transformed input gave nothing, as a report says it.
pub(super) fn call_failure(why: &str) -> String {
    if why.starts_with(replay::DIFFER) {
        why.to_owned()
    } else {
        format!("the model raises on a transformed input: {why}")
    }
}
