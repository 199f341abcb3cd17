//! What the gateway and the worker agree on, although neither knows the other's code.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use sallyport_gateway::policy::{Parameters, SafePath};
use sallyport_worker::public_name;

/// The characters that `encodeURIComponent` and Python's `quote` escape.
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

fn name(title: &str) -> String {
    public_name(title, "550e8400-e29b-41d4-a716-446655440000".parse().unwrap(), "mp4")
}

fn is_forwarded(name: &str) -> bool {
    let path = format!("/api/stream/{}", utf8_percent_encode(name, ESCAPED));
    SafePath::parse(&path, Parameters::Refuse).is_ok_and(|path| path.decoded().ends_with(name))
}

#[test]
fn the_gateway_forwards_every_public_name() {
    // The blocks whose characters have compatibility forms, or are hidden.
    let blocks = [0..=0x33ff, 0xf900..=0xffff, 0x1_f100..=0x1_f2ff, 0xe_0000..=0xe_01ff];
    let any = blocks.into_iter().flatten().filter_map(char::from_u32).map(|c| format!("a{c}b"));
    let refused: Vec<_> = any.filter(|title| !is_forwarded(&name(title))).collect();
    assert!(refused.is_empty(), "{refused:?}");
    for title in [
        "AC／DC",
        "a＼b",
        "℅ ℀ ⅍",
        "%F0%9F%8E%AC",
        "100%25 off",
        "100% real",
        "％2e％2e",
        "%%32%65",
        "%2%65",
        "．．",
        "..",
        "…",
        "‥/‥",
        "\u{85}\u{9b}",
        "？：＊",
        "#1; a=b",
    ] {
        assert!(is_forwarded(&name(title)), "{title} -> {}", name(title));
    }
}
