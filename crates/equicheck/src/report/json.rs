//! JSON: the record itself.

use super::{Comparison, FORMAT_VERSION, Report};

/// Pretty-printed JSON with a final newline. Timings are written only if the record holds them; without them equal
/// plans give equal bytes.
pub fn to_json(report: &Report) -> String {
    pretty(report)
}

/// A comparison of two audits in the same way.
pub fn comparison_to_json(of: &Comparison) -> String {
    pretty(of)
}

fn pretty(record: &impl serde::Serialize) -> String {
    let mut text = serde_json::to_string_pretty(record)
        .unwrap_or_else(|error| unreachable!("a record has string keys and plain values: {error}"));
    text.push('\n');
    text
}

/// Reads what [`to_json`] wrote.
///
/// # Errors
/// A sentence that says what is wrong: not JSON, not a report, or a report of a newer version.
pub fn from_json(text: &str) -> Result<Report, String> {
    let value: serde_json::Value =
        serde_json::from_str(text).map_err(|error| format!("not a JSON file: {error}"))?;
    let Some(version) = value.get("format_version").and_then(serde_json::Value::as_u64) else {
        return Err("not an equicheck report: it has no `format_version`".to_owned());
    };
    if version != u64::from(FORMAT_VERSION) {
        return Err(format!(
            "the report has format version {version}, this equicheck reads version {FORMAT_VERSION}: use the equicheck \
             that wrote it, or audit again"
        ));
    }
    // From the text again: a parsed value has lost the order of outputs.
    serde_json::from_str(text).map_err(|error| format!("not a complete report: {error}"))
}
