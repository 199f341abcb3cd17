//! Error messages of the operating system, without numbers.

use std::io;

/// Formats the error without its number, which adds nothing to the words.
pub fn words(error: &io::Error) -> String {
    plain(&error.to_string())
}

/// Removes the numbers of operating system errors from any text.
pub fn plain(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once(" (os error ") {
        plain.push_str(before);
        rest = after.split_once(')').map_or("", |(_, after)| after);
    }
    plain.push_str(rest);
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_number_is_removed_and_the_words_stay() {
        assert_eq!(words(&io::Error::from_raw_os_error(30)), "Read-only file system");
        assert_eq!(plain("/x: Permission denied (os error 13); fix it"), "/x: Permission denied; fix it");
    }
}
