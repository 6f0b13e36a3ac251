//! Panics of other people's code become errors, and stay silent.

use std::cell::Cell;
use std::panic::{self, AssertUnwindSafe};
use std::sync::Once;

thread_local! {
    static QUIET: Cell<bool> = const { Cell::new(false) };
}

/// What `call` returns, or the message of its panic. The hook that prints panics is wrapped once, and keeps silent on
/// this thread alone and during the call alone.
pub(crate) fn caught<T>(call: impl FnOnce() -> T) -> Result<T, String> {
    static WRAPPED: Once = Once::new();
    WRAPPED.call_once(|| {
        let before = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            if !QUIET.get() {
                before(info);
            }
        }));
    });
    let nested = QUIET.replace(true);
    let result = panic::catch_unwind(AssertUnwindSafe(call));
    QUIET.set(nested);
    result.map_err(|panic| {
        let text = panic
            .downcast_ref::<String>()
            .cloned()
            .or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
        format!("it panicked: {}", one_line(&text.unwrap_or_else(|| "without a message".to_owned())))
    })
}

/// The text without line breaks and without what would fill a screen.
pub(crate) fn one_line(text: &str) -> String {
    const LONGEST: usize = 400;
    let joined = text.split_whitespace().collect::<Vec<_>>().join(" ");
    match joined.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{} ...", &joined[..end]),
        None => joined,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_becomes_its_message_and_other_panics_still_reach_their_catcher() {
        assert_eq!(caught(|| 3), Ok(3));
        assert_eq!(caught(|| -> u8 { panic!("at\n  {}", 7) }), Err("it panicked: at 7".to_owned()));
        assert_eq!(caught(|| caught(|| -> u8 { panic!("inner") }).is_err()), Ok(true));
        assert!(!QUIET.get(), "the hook speaks again");
    }

    #[test]
    fn long_texts_are_cut_between_characters() {
        let cut = one_line(&"é\n".repeat(500));
        assert_eq!(cut.chars().count(), 404);
        assert_eq!(one_line(" a \n\t b "), "a b");
    }
}
