//! The public name of a finished file: `{title}__{id}.{ext}`. It identifies a task and is never used as a path.

use std::iter;

use unicode_normalization::UnicodeNormalization;

use super::id::TaskId;

/// In characters.
const MAX_TITLE: usize = 120;

/// In bytes of UTF-8. With the rest, the name stays below the 255 bytes that most file systems allow, with some space for what browsers
/// add. File systems that count UTF-16 units count fewer.
const MAX_TITLE_BYTES: usize = 200;

/// Builds the public name from the site's title, the task's id and the file's extension.
pub fn public_name(title: &str, id: TaskId, extension: &str) -> String {
    format!("{}__{id}.{extension}", safe_title(title))
}

/// Returns the task id in a public name. The caller must check that this is the exact name of that task.
pub(crate) fn task_of(name: &str) -> Option<TaskId> {
    let (_, rest) = name.rsplit_once("__")?;
    let (id, _) = rest.split_once('.')?;
    id.parse().ok()
}

/// Removes or replaces everything in a title that a file system, a header, a reader or a proxy could misinterpret.
///
/// The result is in normal form C, and the gateway forwards every name built from it, as `tests/agreement.rs` shows.
fn safe_title(title: &str) -> String {
    let visible: Vec<char> =
        title.nfc().map(|c| if is_structural(c) { '_' } else { c }).filter(|c| !is_hidden(*c)).collect();
    // Composed again, because a dropped character may have stood between a letter and its accent.
    let composed: String = without_loose_joiners(&visible).nfc().collect();
    let cleaned = without_escapes(&composed);
    let trimmed = cleaned.trim().trim_start_matches('.').trim();
    let most = trimmed.char_indices().take(MAX_TITLE).take_while(|(at, c)| at + c.len_utf8() <= MAX_TITLE_BYTES);
    let cut: String = most.map(|(_, c)| c).collect();
    let cut = cut.trim_end_matches(|c: char| c.is_whitespace() || is_joiner(c));
    if cut.is_empty() { "download".to_owned() } else { cut.to_owned() }
}

/// Returns true for separators and for characters that some file system or shell reads as syntax, including those that become one only
/// in another normal form, such as U+FF0F (／) and U+2105 (℅).
fn is_structural(c: char) -> bool {
    matches!(c, ':' | '*' | '?' | '"' | '<' | '>' | '|') || folded(c).any(|c| matches!(c, '/' | '\\'))
}

/// Replaces each percent sign that forms an escape with the characters after it, because another program might decode it.
fn without_escapes(title: &str) -> String {
    let makes_escape = |at: usize, c: char| {
        let mut after = title.get(at + c.len_utf8()..).unwrap_or_default().chars().flat_map(folded);
        folded(c).any(|c| c == '%') && after.by_ref().take(2).filter(char::is_ascii_hexdigit).count() == 2
    };
    title.char_indices().map(|(at, c)| if makes_escape(at, c) { '_' } else { c }).collect()
}

/// Returns the compatibility form (NFKC) of one character.
fn folded(c: char) -> impl Iterator<Item = char> {
    iter::once(c).nfkc()
}

/// Drops joiners and non-joiners that have no effect. Next to a Persian or Hindi letter they are part of the spelling, and between emoji
/// they combine several into one.
fn without_loose_joiners(title: &[char]) -> String {
    let at = |place: Option<usize>| place.and_then(|place| title.get(place)).copied();
    let shaped = |c: Option<char>| c.is_some_and(|c| !c.is_ascii() && !is_joiner(c));
    let shapes = |place: usize| {
        let before = at(place.checked_sub(1));
        let after = at(Some(place + 1));
        before.is_some_and(|c| !is_joiner(c)) && (shaped(before) || shaped(after))
    };
    title.iter().enumerate().filter(|(place, c)| !is_joiner(**c) || shapes(*place)).map(|(_, c)| *c).collect()
}

fn is_joiner(c: char) -> bool {
    matches!(c, '\u{200c}' | '\u{200d}')
}

/// Returns true for control characters and for invisible ones, including those that reorder the text around them.
fn is_hidden(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200b}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}')
        || matches!(c, '\u{feff}' | '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "550e8400-e29b-41d4-a716-446655440000";

    fn name(title: &str) -> String {
        public_name(title, ID.parse().unwrap(), "mp4")
    }

    #[test]
    fn a_title_cannot_break_out_of_the_name() {
        assert_eq!(name("../../etc/passwd"), format!("_.._etc_passwd__{ID}.mp4"));
        assert_eq!(name("..\u{0}.hidden"), format!("hidden__{ID}.mp4"));
        assert_eq!(name("a\r\nSet-Cookie: x"), format!("aSet-Cookie_ x__{ID}.mp4"));
        assert_eq!(name("gpj\u{202e}4pm"), format!("gpj4pm__{ID}.mp4"));
        assert_eq!(name(" . "), format!("download__{ID}.mp4"));
        assert_eq!(name("e\u{301}"), format!("é__{ID}.mp4"));
        assert_eq!(name("gpj\u{61c}4pm"), format!("gpj4pm__{ID}.mp4"));
        assert_eq!(name(&"x".repeat(500)).chars().count(), 120 + 2 + 36 + 4);
    }

    #[test]
    fn joiners_stay_only_where_they_have_an_effect() {
        for title in [
            "\u{645}\u{6cc}\u{200c}\u{62e}\u{648}\u{627}\u{647}\u{645}",
            "PDF\u{200c}\u{647}\u{627}",
            "\u{915}\u{94d}\u{200d}\u{937}",
            "👩\u{200d}👩\u{200d}👧",
            "❤\u{fe0f}\u{200d}🔥",
        ] {
            assert_eq!(name(title), format!("{title}__{ID}.mp4"));
        }
        assert_eq!(name("a\u{200d}b\u{200c} c"), format!("ab c__{ID}.mp4"));
        assert_eq!(name("\u{200d}é\u{200c}\u{200d}é\u{200d}"), format!("é\u{200c}é__{ID}.mp4"));
        assert!(!name(&"👩\u{200d}".repeat(500)).contains("\u{200d}__"));
    }

    #[test]
    fn a_name_is_in_normal_form_whatever_was_dropped_from_its_title() {
        for dropped in ["", "\u{200b}", "\u{ad}", "\u{202e}", "\u{7}", "\u{200d}\u{200d}"] {
            for title in ["e\u{301}", "\u{1100}\u{1161}\u{11a8}", "a\u{328}\u{301}", "?\u{301}"] {
                let mut title: Vec<char> = title.chars().collect();
                title.splice(1..1, dropped.chars());
                let name = name(&title.iter().collect::<String>());
                assert!(unicode_normalization::is_nfc(&name), "{}", name.escape_unicode());
            }
        }
    }

    #[test]
    fn a_name_is_short_enough_for_any_file_system() {
        let dir = tempfile::tempdir().unwrap();
        for title in ["ñ", "日本語の題名", "🎬", "👩‍👩‍👧‍👦", "e\u{301}", "x", "/", "\u{2028}", "ﷺ"]
        {
            let name = name(&title.repeat(5_000));
            assert!(name.len() <= 255 && name.encode_utf16().count() <= 255, "{title}: {}", name.len());
            std::fs::write(dir.path().join(&name), "").unwrap();
            assert_eq!(task_of(&name), ID.parse().ok());
        }
    }

    #[test]
    fn an_escape_is_taken_apart_but_a_percent_sign_stays() {
        assert_eq!(name("100% Fail, 5%ab"), format!("100% Fail, 5_ab__{ID}.mp4"));
    }

    #[test]
    fn the_task_is_found_in_a_name_whatever_its_title_contains() {
        for title in ["plain", "with__underscores", "dots.in.it", "x__550e8400-e29b-41d4-a716-446655440001.mp4"] {
            assert_eq!(task_of(&name(title)), ID.parse().ok(), "{title}");
        }
        for stranger in ["", "x", "x__", "x__.mp4", "x__y.mp4", ID] {
            assert_eq!(task_of(stranger), None, "{stranger}");
        }
    }
}
