use super::Report;
pub fn to_text(_report: &Report) -> String {
    String::new()
}
