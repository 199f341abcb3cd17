//! The end of a head is found at the same place however its bytes are split, and a minimal parser agrees with what is accepted.

use bytes::Bytes;
use sallyport_core::http1::{Framing, HeadScan, Http1Request, MAX_HEAD_BYTES, Version};

pub fn run(data: &[u8]) {
    let end = HeadScan::default().end(data);
    scan_in_pieces(data, end);
    let Ok(Some(end)) = end else { return };
    assert!(end <= MAX_HEAD_BYTES && data[..end].ends_with(b"\r\n\r\n") || end == 2, "{end}");
    let Ok(request) = Http1Request::parse(&Bytes::copy_from_slice(&data[..end])) else { return };
    let lines = lines(&data[..end]);
    judge_first_line(&lines[0], &request);
    judge_fields(&lines[1..], &request);
}

fn scan_in_pieces(data: &[u8], whole: Result<Option<usize>, sallyport_core::http1::HeadFault>) {
    for step in [1, 3, 16] {
        let mut scan = HeadScan::default();
        let mut seen = Ok(None);
        for end in (0..data.len()).step_by(step).skip(1).chain([data.len()]) {
            seen = scan.end(&data[..end]);
            if seen != Ok(None) {
                break;
            }
        }
        // Which of two errors is found first may differ.
        assert_eq!(seen.is_err(), whole.is_err(), "in pieces of {step}: {seen:?}, whole: {whole:?}");
        assert!(seen.is_err() || seen == whole, "in pieces of {step}: {seen:?}, whole: {whole:?}");
    }
}

/// Splits a head into its lines, which end with CRLF and contain neither CR nor LF; values may contain bytes that are not UTF-8.
fn lines(head: &[u8]) -> Vec<String> {
    let text = String::from_utf8_lossy(head.strip_suffix(b"\r\n\r\n").unwrap());
    let lines: Vec<_> = text.split("\r\n").map(str::to_owned).collect();
    assert!(lines.iter().all(|line| !line.contains(['\r', '\n', '\0'])), "{lines:?}");
    lines
}

fn judge_first_line(line: &str, request: &Http1Request) {
    let words: Vec<_> = line.split(' ').collect();
    let [method, target, version] = words[..] else { panic!("{line:?}") };
    assert_eq!(method, request.head.method.as_str());
    assert_eq!(version, if request.head.version == Version::Http10 { "HTTP/1.0" } else { "HTTP/1.1" });
    assert!(target.ends_with(request.head.target()) || request.head.target() == "/", "{line:?}");
    assert!(request.head.target() == "*" || request.head.target().starts_with('/'), "{line:?}");
    assert!(target.bytes().all(|b| b.is_ascii_graphic() && b != b'#'), "{line:?}");
    assert_ne!(method, "CONNECT");
}

fn judge_fields(lines: &[String], request: &Http1Request) {
    let fields: Vec<_> = lines.iter().map(|line| line.split_once(':').unwrap_or_else(|| panic!("{line:?}"))).collect();
    for (name, _) in &fields {
        assert!(!name.is_empty() && name.bytes().all(|b| b.is_ascii_graphic() && !b"\"(),/:;<=>?@[\\]{}".contains(&b)));
    }
    let all = |wanted: &str| {
        let named = fields.iter().filter(|(name, _)| name.eq_ignore_ascii_case(wanted));
        named.map(|(_, value)| value.trim()).collect::<Vec<_>>()
    };
    assert_eq!(all("host"), [request.head.host.as_str()]);
    let framing = match (all("content-length").as_slice(), all("transfer-encoding").as_slice()) {
        ([], []) => Framing::Length(0),
        ([length], []) => Framing::Length(length.parse().unwrap()),
        ([], [coding]) if coding.eq_ignore_ascii_case("chunked") => Framing::Chunked,
        other => panic!("{other:?}"),
    };
    assert_eq!(request.framing, framing);
    assert_eq!(request.head.headers.len(), fields.len());
}
