//! What the operating system says, in words alone.

use std::io;

/// The error without its number, which says nothing that the words do not.
pub(crate) fn words(error: &io::Error) -> String {
    plain(&error.to_string())
}

/// The same of any error that may hold one.
pub(crate) fn plain(text: &str) -> String {
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
    fn the_number_goes_and_the_words_stay() {
        assert_eq!(words(&io::Error::from_raw_os_error(30)), "Read-only file system");
        assert_eq!(plain("/x: Permission denied (os error 13); mend it"), "/x: Permission denied; mend it");
    }
}
