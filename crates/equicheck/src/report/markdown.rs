use super::Report;
pub fn to_markdown(_report: &Report) -> String {
    String::new()
}
