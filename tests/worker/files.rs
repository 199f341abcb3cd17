//! Finished files over the wire: ranges (RFC 9110, section 14), preconditions (section 13) and names.

use std::{thread::sleep, time::Duration};

use data_encoding::{BASE64, HEXLOWER};
use percent_encoding::{NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

use sha2::{Digest, Sha256};

use crate::{
    client::{Request, Response},
    media,
    origin::Origin,
    process::Worker,
};

struct Finished {
    worker: Worker,
    source: Vec<u8>,
    stream: String,
    file: String,
}

fn finished() -> Finished {
    let origin = Origin::start();
    let worker = Worker::start(&origin);
    let task = worker.completed("ana", &origin.url("sample.mp4"));
    let stream = format!("/api/stream/{}", task["filename"].as_str().unwrap());
    let file = format!("/api/download/{}/file", task["id"].as_str().unwrap());
    Finished { worker, source: media::read("sample.mp4"), stream, file }
}

impl Finished {
    fn fetch(&self, method: &str, headers: &[(&str, &str)]) -> Response {
        let mut request = Request::new(method, &self.stream);
        for (name, value) in headers {
            request = request.header(name, *value);
        }
        request.signed("ana", self.worker.address).send(self.worker.address)
    }

    fn range(&self, range: &str) -> Response {
        self.fetch("GET", &[("range", range)])
    }
}

#[test]
fn rfc9110_14_ranges_in_every_form() {
    let finished = finished();
    let source = &finished.source;
    let length = finished.source.len();
    let whole = finished.fetch("GET", &[]);
    assert_eq!((whole.status, whole.header("accept-ranges")), (200, Some("bytes")));
    assert_eq!(whole.header("content-length"), Some(length.to_string().as_str()));
    assert_eq!(&whole.body, source);

    let last = length - 1;
    for (range, from, to) in [
        ("bytes=0-0".to_owned(), 0, 0),
        ("bytes=10-99".to_owned(), 10, 99),
        ("bytes=1000-".to_owned(), 1000, last),
        ("bytes=-1".to_owned(), last, last),
        ("bytes=-1000".to_owned(), length - 1000, last),
        (format!("bytes=-{}", length + 5), 0, last),
        (format!("bytes=5-{}", length + 5), 5, last),
        (format!("bytes={last}-"), last, last),
        ("bytes=0-99999999999999999999999999".to_owned(), 0, last),
    ] {
        let response = finished.range(&range);
        assert_eq!(response.status, 206, "{range}");
        assert_eq!(response.header("content-range"), Some(format!("bytes {from}-{to}/{length}").as_str()), "{range}");
        assert_eq!(response.header("content-length"), Some((to - from + 1).to_string().as_str()), "{range}");
        assert!(response.body == source[from..=to], "{range}");
    }
    for range in [format!("bytes={length}-"), "bytes=-0".to_owned(), "bytes=99999999999999999999999-".to_owned()] {
        let response = finished.range(&range);
        assert_eq!((response.status, response.body.len()), (416, 0), "{range}");
        assert_eq!(response.header("content-range"), Some(format!("bytes */{length}").as_str()), "{range}");
    }
    for range in ["bytes=0-5,5-6", "bytes=5-1", "bytes=x", "items=0-1", "bytes", ""] {
        let response = finished.range(range);
        assert_eq!((response.status, response.body.len()), (200, length), "{range}");
    }
}

#[test]
fn rfc9110_14_6_several_ranges_are_sent_as_multipart() {
    let finished = finished();
    let source = &finished.source;
    let length = finished.source.len();
    let response = finished.range("bytes=0-9, 500-599,-1");
    assert_eq!((response.status, response.header("content-range")), (206, None));
    assert_eq!(response.header("content-length"), Some(response.body.len().to_string().as_str()));
    let boundary = response.header("content-type").unwrap().strip_prefix("multipart/byteranges; boundary=").unwrap();
    let mut expected = Vec::new();
    for (lead, first, last) in [("", 0, 9), ("\r\n", 500, 599), ("\r\n", length - 1, length - 1)] {
        let range = format!("Content-Range: bytes {first}-{last}/{length}");
        expected.extend(format!("{lead}--{boundary}\r\nContent-Type: video/mp4\r\n{range}\r\n\r\n").into_bytes());
        expected.extend(&source[first..=last]);
    }
    expected.extend(format!("\r\n--{boundary}--\r\n").into_bytes());
    assert!(response.body == expected);

    let one = finished.range(&format!("bytes=7-8,{length}-"));
    assert_eq!((one.status, &*one.body), (206, &source[7..=8]), "the other range lies outside the file");
    assert_eq!(finished.range(&format!("bytes={length}-,-0")).status, 416);
    let other = finished.fetch("GET", &[("range", "bytes=0-1,5-6"), ("if-range", "\"other\"")]);
    assert_eq!((other.status, other.body.len()), (200, length));
}

/// The page chooses the title, so clients must cope with its length, emoji and slashes.
#[test]
fn rfc8187_any_title_survives_as_a_name() {
    let origin = Origin::start();
    let worker = Worker::start(&origin);
    for (page, title) in [("emoji", "🎬👩\u{200d}🚀 ½/¾\\ \u{202e}4pm".to_owned()), ("long", "🎬é/x".repeat(1_250))]
    {
        let text = format!("<html><head><title>{title}</title></head><body><video src=sample.mp4></video></body>");
        origin.serve(&format!("{page}.html"), &text);
        let task = worker.completed("ana", &origin.url(&format!("{page}.html")));
        let name = task["filename"].as_str().unwrap();
        assert!(name.starts_with('🎬') && !name.contains(['/', '\\', '\u{202e}']), "{name}");
        let file = worker.get("ana", &format!("/api/download/{}/file", task["id"].as_str().unwrap()));
        let disposition = file.header("content-disposition").unwrap();
        let (plain, full) = disposition.split_once("; filename*=UTF-8''").unwrap();
        assert!(plain.is_ascii() && plain.starts_with("attachment; filename=\"_") && disposition.len() < 4_096);
        assert_eq!(percent_decode_str(full).decode_utf8().unwrap(), name);
        let stream = format!("/api/stream/{}", utf8_percent_encode(name, NON_ALPHANUMERIC));
        assert_eq!(worker.get("ana", &stream).body, media::read("sample.mp4"));
    }
}

#[test]
fn rfc9110_13_preconditions_and_head() {
    let finished = finished();
    let length = finished.source.len();
    let head = finished.fetch("HEAD", &[("range", "bytes=0-9")]);
    assert_eq!((head.status, head.body.len()), (200, 0), "ranges apply only to GET");
    assert_eq!(head.header("content-length"), Some(length.to_string().as_str()));
    let etag = head.header("etag").unwrap();
    let modified = head.header("last-modified").unwrap();
    assert!(etag.starts_with('"'), "a strong tag");
    // A date is a strong validator only if it is older than the resolution of the clock.
    sleep(Duration::from_secs(2));

    let weak = format!("W/{etag}");
    let range = ("range", "bytes=0-9");
    for (name, value, status) in [
        ("if-range", etag, 206),
        ("if-range", modified, 206),
        ("if-range", weak.as_str(), 200),
        ("if-range", "\"other\"", 200),
        ("if-range", "Thu, 01 Jan 1970 00:00:00 GMT", 200),
        ("if-match", etag, 206),
        ("if-match", "\"other\"", 412),
        ("if-unmodified-since", "Thu, 01 Jan 1970 00:00:00 GMT", 412),
        ("if-none-match", etag, 304),
        ("if-none-match", weak.as_str(), 304),
        ("if-none-match", "\"x\", *", 304),
        ("if-none-match", "\"other\"", 206),
        ("if-modified-since", modified, 304),
    ] {
        let response = finished.fetch("GET", &[range, (name, value)]);
        assert_eq!(response.status, status, "{name}: {value}");
        assert_eq!(response.header("etag"), Some(etag));
    }
}

#[test]
fn rfc9530_the_whole_file_is_sent_with_its_checksum() {
    let mut finished = finished();
    let hash = Sha256::digest(&finished.source);
    let etag = format!("\"{}\"", HEXLOWER.encode(&hash));
    let digest = format!("sha-256=:{}:", BASE64.encode(&hash));
    let check = |finished: &Finished| {
        for (method, range, status, told) in [
            ("GET", None, 200, Some(&*digest)),
            ("HEAD", None, 200, Some(&*digest)),
            ("GET", Some("bytes=0-9"), 206, None),
            ("GET", Some("bytes=-0"), 416, None),
        ] {
            let range: Vec<_> = range.map(|range| ("range", range)).into_iter().collect();
            let response = finished.fetch(method, &range);
            assert_eq!((response.status, response.header("repr-digest")), (status, told), "{method} {range:?}");
            assert_eq!(response.header("etag"), Some(&*etag));
        }
        assert_eq!(finished.fetch("GET", &[("if-none-match", &etag)]).status, 304);
    };
    check(&finished);
    assert!(finished.worker.terminate());
    finished.worker.start_again();
    check(&finished);
    // Changed content is not sent with the old digest.
    let path = finished.worker.media(finished.file.split('/').nth(3).unwrap()).join("media.mp4");
    std::fs::write(path, "other").unwrap();
    let other = finished.fetch("GET", &[("if-none-match", &etag)]);
    assert_eq!((other.status, other.header("repr-digest")), (200, None));
}

#[test]
fn a_file_that_was_already_in_place_at_a_kill_gets_its_checksum_afterwards() {
    let origin = Origin::start();
    let mut worker = Worker::start(&origin);
    let id = worker.download("ana", &origin.url("stall/sample.mp4"));
    worker.wait_for_partial(&id, 1);
    worker.kill();
    std::fs::create_dir(worker.media(&id)).unwrap();
    std::fs::write(worker.media(&id).join("media.mp4"), media::read("sample.mp4")).unwrap();
    worker.start_again();
    worker.wait_for_status(&id, "completed");
    let digest = format!("sha-256=:{}:", BASE64.encode(&Sha256::digest(media::read("sample.mp4"))));
    assert_eq!(worker.get("ana", &format!("/api/download/{id}/file")).header("repr-digest"), Some(&*digest));
}

#[test]
fn names_are_looked_up_and_never_used_as_paths() {
    let finished = finished();
    let worker = &finished.worker;
    let stream = worker.get("ana", &finished.stream);
    let name = finished.stream.rsplit('/').next().unwrap();
    assert_eq!(
        stream.header("content-disposition").unwrap(),
        format!("inline; filename=\"{name}\"; filename*=UTF-8''{name}")
    );
    assert_eq!(stream.header("x-content-type-options"), Some("nosniff"));
    assert_eq!(stream.header("cache-control"), Some("private"));
    let file = worker.get("ana", &finished.file);
    assert!(file.header("content-disposition").unwrap().starts_with("attachment; "));
    assert_eq!(worker.get("ana", &finished.stream.replace("sample", "%73ample")).status, 200, "percent-encoded");

    let id = &name["sample__".len()..name.len() - ".mp4".len()];
    for unknown in [
        format!("other__{id}.mp4"),
        format!("sample__{id}.mkv"),
        format!("sample__{}.mp4", id.to_uppercase()),
        "..%2f..%2fworker.db".to_owned(),
        format!("..%2f{id}%2fmedia.mp4"),
        "%2e%2e".to_owned(),
        "%00".to_owned(),
        "%ff".to_owned(),
        "media.mp4".to_owned(),
    ] {
        assert_eq!(worker.get("ana", &format!("/api/stream/{unknown}")).status, 404, "{unknown}");
    }
}

#[test]
fn a_title_from_a_page_is_safe_as_a_name() {
    let origin = Origin::start();
    let worker = Worker::start(&origin);
    let page = "<html><head><title>../Ñandú: \"x\" / 1% %41?</title></head><body><video src=sample.mp4></video></body>";
    origin.serve("page.html", page);
    let task = worker.completed("ana", &origin.url("page.html"));
    let name = task["filename"].as_str().unwrap();
    assert_eq!(name, format!("_Ñandú_ _x_ _ 1% _41_ (1)__{}.mp4", task["id"].as_str().unwrap()));

    let encoded = utf8_percent_encode(name, NON_ALPHANUMERIC).to_string();
    let stream = worker.get("ana", &format!("/api/stream/{encoded}"));
    assert_eq!((stream.status, &stream.body), (200, &media::read("sample.mp4")));
    let disposition = stream.header("content-disposition").unwrap();
    assert!(disposition.contains("filename=\"__and__ _x_ _ 1_ _41_ (1)__"), "{disposition}");
    assert!(
        disposition.contains("filename*=UTF-8''_%C3%91and%C3%BA_%20_x_%20_%201%25%20_41_%20%281%29__"),
        "{disposition}"
    );
}

#[test]
fn nobody_learns_of_another_users_download() {
    let finished = finished();
    let worker = &finished.worker;
    let id = finished.file.split('/').nth(3).unwrap();
    let unknown = "00000000-0000-4000-8000-000000000000";
    for (method, target) in [
        ("GET", format!("/api/download/{id}/file")),
        ("GET", format!("/api/thumbnails/{id}")),
        ("DELETE", format!("/api/downloads/{id}")),
        ("DELETE", format!("/api/downloads/{id}/remove")),
        ("GET", finished.stream.clone()),
    ] {
        let others = Request::new(method, &target).signed("bob", worker.address).send(worker.address);
        let nobodys =
            Request::new(method, &target.replace(id, unknown)).signed("bob", worker.address).send(worker.address);
        assert_eq!((others.status, nobodys.status), (404, 404), "{target}");
        assert_eq!(others.body, nobodys.body, "{target}");
    }
    assert_eq!(worker.get("bob", "/api/downloads").body, b"[]");
    assert_eq!(worker.get("ana", "/api/downloads").json().as_array().unwrap().len(), 1);
    assert_eq!(worker.get("admin", &finished.file).status, 200);
    let unknown = worker.delete("ana", "/api/downloads/x");
    assert_eq!((unknown.status, unknown.body), (404, br#"{"detail":"Descarga no encontrada"}"#.to_vec()));
}
