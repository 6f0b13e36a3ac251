//! Figures in JSON: numbers, and the strings `"inf"`, `"-inf"`, `"nan"` for what JSON has no number for.
//!
//! Serde adapter for `f64` fields, `#[serde(with = "figure")]`, and `Option<f64>` fields, `"figure::optional"`.

use serde::{Deserialize, Deserializer, Serialize, Serializer};

#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Form {
    Number(f64),
    Word(String),
}

fn form(value: f64) -> Form {
    if value.is_finite() {
        Form::Number(value)
    } else if value.is_nan() {
        Form::Word("nan".to_owned())
    } else if value > 0.0 {
        Form::Word("inf".to_owned())
    } else {
        Form::Word("-inf".to_owned())
    }
}

fn value<E: serde::de::Error>(form: Form) -> Result<f64, E> {
    match form {
        Form::Number(x) => Ok(x),
        Form::Word(word) => match word.as_str() {
            "nan" => Ok(f64::NAN),
            "inf" => Ok(f64::INFINITY),
            "-inf" => Ok(f64::NEG_INFINITY),
            _ => Err(E::custom(format!(
                "`{word}` is not a figure: expected a number, \"inf\", \"-inf\" or \"nan\""
            ))),
        },
    }
}

/// Writes a figure.
#[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature is serde's")]
pub(crate) fn serialize<S: Serializer>(figure: &f64, serializer: S) -> Result<S::Ok, S::Error> {
    form(*figure).serialize(serializer)
}

/// Reads a figure.
pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    value(Form::deserialize(deserializer)?)
}

/// The same for `Option<f64>` fields; `None` is `null`.
pub(crate) mod optional {
    use super::{Form, form, value};
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    /// Writes a figure or `null`.
    #[expect(clippy::ref_option, reason = "the signature is serde's")]
    pub(crate) fn serialize<S: Serializer>(figure: &Option<f64>, serializer: S) -> Result<S::Ok, S::Error> {
        figure.map(form).serialize(serializer)
    }

    /// Reads a figure or `null`.
    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<f64>, D::Error> {
        Option::<Form>::deserialize(deserializer)?.map(value).transpose()
    }
}
