//! Outputs in JSON: an object by name, in the model's order, so that `outputs.energy.relative.max` can be asked for.

use std::fmt;

use serde::de::{Error, MapAccess, Visitor};
use serde::ser::SerializeMap;
use serde::{Deserializer, Serializer};

use super::OutputResult;

pub(super) fn serialize<S: Serializer>(outputs: &[OutputResult], serializer: S) -> Result<S::Ok, S::Error> {
    let mut map = serializer.serialize_map(Some(outputs.len()))?;
    for output in outputs {
        map.serialize_entry(&output.name, output)?;
    }
    map.end()
}

pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<OutputResult>, D::Error> {
    struct ByName;

    impl<'de> Visitor<'de> for ByName {
        type Value = Vec<OutputResult>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an object of outputs by name")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
            let mut outputs: Vec<OutputResult> = Vec::new();
            while let Some((name, output)) = map.next_entry::<String, OutputResult>()? {
                if output.name != name || outputs.iter().any(|other| other.name == name) {
                    return Err(A::Error::custom(format!(
                        "output `{name}` is named twice or differently inside"
                    )));
                }
                outputs.push(output);
            }
            Ok(outputs)
        }
    }

    deserializer.deserialize_map(ByName)
}
