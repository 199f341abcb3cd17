//! An accepted path leads nowhere else, however often and by whatever program it is decoded.

use percent_encoding::percent_decode;
use sallyport_gateway::policy::{Parameters, SafePath};

pub fn run(data: &[u8]) {
    let Ok(raw) = std::str::from_utf8(data) else { return };
    let Ok(path) = SafePath::parse(raw, Parameters::Allow) else {
        assert!(SafePath::parse(raw, Parameters::Refuse).is_err(), "{raw:?}");
        return;
    };
    assert_eq!(path.raw(), raw);
    assert_eq!(SafePath::parse(path.raw(), Parameters::Allow).as_ref(), Ok(&path));
    assert_eq!(SafePath::parse(raw, Parameters::Refuse).is_ok(), !raw.contains(';'), "{raw:?}");
    assert_eq!(path.decoded().as_bytes(), &*percent_decode(raw.as_bytes()).collect::<Vec<_>>());
    leads_nowhere_else(raw);
}

/// Checks that the path has the same segments after it is decoded completely.
fn leads_nowhere_else(raw: &str) {
    let segments = raw.matches('/').count();
    let mut text = raw.as_bytes().to_vec();
    for _ in 0..8 {
        let parts: Vec<_> = text.split(|b| *b == b'/').collect();
        assert_eq!(parts.len() - 1, segments, "{raw:?} decodes to {:?}", String::from_utf8_lossy(&text));
        for part in &parts {
            let name = part.split(|b| *b == b';').next().unwrap_or_default();
            assert!(!matches!(name, b"." | b".."), "{raw:?} decodes to {:?}", String::from_utf8_lossy(&text));
        }
        assert!(!text.iter().any(|b| matches!(b, 0..=0x1f | 0x7f | b'\\')), "{raw:?}");
        let decoded: Vec<u8> = percent_decode(&text).collect();
        if decoded == text {
            return;
        }
        text = decoded;
    }
}
