//! Rewritten subtitles contain only cues, and rewriting them again changes nothing.

use sallyport_worker::streaming::webvtt::rewrite;

/// Input: text of subtitles.
pub fn run(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let Ok(written) = rewrite(text) else { return };
    assert!(written.starts_with("WEBVTT\n\n"), "{written}");
    assert!(!written.contains(|c: char| c.is_control() && !matches!(c, '\n' | '\t')), "{}", written.escape_debug());
    for block in written.split("\n\n").skip(1) {
        assert!(block.lines().next().is_some_and(|line| line.contains("-->")), "{block}");
    }
    assert_eq!(rewrite(&written).as_ref(), Ok(&written));
}
