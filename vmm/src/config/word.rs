//! One of a few words, and what was probably meant when it is none of them.

use abi::workload::nearest;

/// A word that is none of the valid ones.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("not one of {valid}{}", nearest.as_ref().map(|word| format!("; did you mean {word}?")).unwrap_or_default())]
pub struct UnknownWord {
    /// The valid words, separated by commas.
    valid: String,
    nearest: Option<String>,
}

impl UnknownWord {
    /// `text` is none of `words`.
    pub fn new<'w>(text: &str, words: impl Iterator<Item = &'w str> + Clone) -> UnknownWord {
        let valid = words.clone().collect::<Vec<_>>().join(", ");
        UnknownWord { valid, nearest: nearest(text, words).map(str::to_owned) }
    }
}

/// What `text` means among `words`.
pub fn choose<T: Copy>(text: &str, words: &[(&'static str, T)]) -> Result<T, UnknownWord> {
    let found = words.iter().find(|(word, _)| *word == text).map(|(_, meaning)| *meaning);
    found.ok_or_else(|| UnknownWord::new(text, words.iter().map(|(word, _)| *word)))
}

/// A boolean knob's `on` or `off`.
pub fn switch(text: &str) -> Result<bool, UnknownWord> {
    choose(text, &[("on", true), ("off", false)])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_word_names_the_valid_ones() {
        let error = switch("onn").unwrap_err();
        assert_eq!(error.to_string(), "not one of on, off; did you mean on?");
    }
}
