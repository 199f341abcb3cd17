//! How long the texts of a task are. A longer one is cut where it is written, and where it is read from an older database, so that no
//! answer and no event is larger than its parts.

use rusqlite::Row;

use crate::worker::source;

/// In bytes.
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

    /// The text as far as it may go, to the end of a character.
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
