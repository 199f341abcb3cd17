//! Suggestions for misspelled words.

/// Returns the word in `known` that is closest to `word`, or None if none is close.
pub fn closest<'k>(word: &str, known: impl IntoIterator<Item = &'k str>) -> Option<&'k str> {
    let within = (word.chars().count() / 3).clamp(1, 3);
    let distances = known.into_iter().map(|known| (strsim::osa_distance(word, known), known));
    distances.filter(|(distance, _)| *distance <= within).min().map(|(_, known)| known)
}

/// Returns `; did you mean "KNOWN"?` if a known word is close, or an empty string.
pub fn did_you_mean<'k>(word: &str, known: impl IntoIterator<Item = &'k str>) -> String {
    closest(word, known).map_or_else(String::new, |known| format!("; did you mean {known:?}?"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_typo_is_recognised_and_a_different_word_is_not() {
        let known = ["listen", "http_listen", "admin_listen", "trusted_proxies"];
        for (slip, meant) in [
            ("lisen", Some("listen")),
            ("trusted_proxy", Some("trusted_proxies")),
            ("http-listen", Some("http_listen")),
            ("timeout", None),
            ("x", None),
        ] {
            assert_eq!(closest(slip, known), meant, "{slip}");
        }
        assert_eq!(did_you_mean("lisen", known), "; did you mean \"listen\"?");
    }
}
