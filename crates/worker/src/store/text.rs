//! Length limits of a task's texts. Longer ones are cut when they are written, and when they are read from an older database, so that
//! the size of responses and events is bounded.

use rusqlite::Row;

use crate::tasks::source;

/// A text column with a length limit, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Field {
    Title,
    /// Why a task has no file.
    Message,
    /// Such as `1080p`.
    Note,
    Url,
}

impl Field {
    const fn most(self) -> usize {
        match self {
            Self::Title => 1_000,
            Self::Message => 1_200,
            Self::Note => 64,
            Self::Url => source::MAX_LENGTH,
        }
    }

    /// Returns the longest prefix of `text` that fits and ends at a character boundary.
    pub(super) fn cut(self, text: &str) -> &str {
        text.get(..text.floor_char_boundary(self.most())).unwrap_or_default()
    }

    pub(super) fn read(self, row: &Row<'_>, column: usize) -> rusqlite::Result<String> {
        Ok(self.cut(row.get_ref(column)?.as_str()?).to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_cut_where_a_character_ends() {
        assert_eq!(Field::Note.cut("1080p"), "1080p");
        assert_eq!(Field::Note.cut(&"é".repeat(900)), "é".repeat(32));
        assert_eq!(Field::Title.cut(&format!("a{}", "🎬".repeat(900))).len(), 997);
    }
}
