//! File names: every name that yt-dlp creates from a title can be requested, linked and found, and arrives byte for byte.

use std::fmt::Write;

use unicode_normalization::UnicodeNormalization;

use crate::{canary::Canary, client::Request, instance::Instance};

/// File names that yt-dlp's `sanitize_filename` creates from titles in many scripts, with emoji, full-width punctuation, percent
/// signs, quotes, control characters and whatever else people write.
const NAMES: &str = include_str!("titles.txt");

/// Characters that some parsers treat as separators, and C1 controls.
const ODD: &[&str] = &["a%EF%BC%8Fb", "a%EF%BC%BCb", "%E2%84%85%20Ana", "a%C2%85b", "%C2%9B31m", "50%EF%BC%852e"];

fn names() -> impl Iterator<Item = &'static str> {
    NAMES.split_terminator('\n')
}

/// Spells a name as strict clients do: everything that is not unreserved in RFC 3986 is escaped.
fn strict(name: &str) -> String {
    spelt(name, b"-._~")
}

/// Spells a name as a browser does in a link on a page, except for the semicolon, which a path may contain only if the policy allows it.
fn sparing(name: &str) -> String {
    spelt(name, b"-._~!$&'()*+,=:@[]|")
}

fn spelt(name: &str, plain: &[u8]) -> String {
    let mut spelt = String::new();
    for byte in name.bytes() {
        if byte.is_ascii_alphanumeric() || plain.contains(&byte) {
            spelt.push(byte.into());
        } else {
            write!(spelt, "%{byte:02X}").unwrap();
        }
    }
    spelt
}

/// Starts a gateway whose policy has these anonymous routes.
fn open(canary: &Canary, routes: &[(&str, &str)]) -> Instance {
    let mut policy = String::new();
    for (n, (path, more)) in routes.iter().enumerate() {
        let open = "methods = [\"GET\"]\ncredentials = []\nanonymous = true\n";
        writeln!(policy, "[[route]]\nname = \"r{n}\"\npath = \"{path}\"\n{open}{more}").unwrap();
    }
    Instance::with(&canary.address.to_string(), |i| std::fs::write(i.path("policies/worker.toml"), policy).unwrap())
}

#[test]
fn every_name_that_yt_dlp_creates_can_be_requested_and_arrives_byte_for_byte() {
    let canary = Canary::start();
    let i = Instance::start(&canary);
    assert!(names().count() > 140);
    let paths: Vec<_> = names().flat_map(|n| [strict(n), sparing(n)]).map(|n| format!("/api/stream/{n}")).collect();
    let refused: Vec<_> = paths.iter().filter(|path| i.get(path).status != 200).collect();
    assert!(refused.is_empty(), "{refused:#?}");
    let arrived: Vec<_> = canary.seen().iter().map(|seen| seen.target().to_owned()).collect();
    assert_eq!(arrived, paths);
}

#[test]
fn names_decomposed_by_macos_can_be_requested_and_linked() {
    let canary = Canary::start();
    let i = Instance::start(&canary);
    let decomposed: Vec<String> = names().map(|name| name.nfd().collect()).collect();
    let changed = decomposed.iter().zip(names()).filter(|(decomposed, name)| decomposed != name);
    let paths: Vec<_> = changed.map(|(name, _)| format!("/api/stream/{}", strict(name))).collect();
    assert!(paths.len() > 5);
    for path in &paths {
        assert_eq!(i.get(path).status, 200, "{path}");
    }
    let made = i.post("/.sallyport/links", &format!(r#"{{"path":"{}"}}"#, paths[0]));
    assert_eq!(made.status, 201, "{made:?}");
    let url = made.json()["url"].as_str().unwrap().to_owned();
    let query = url.split_once('?').unwrap().1;
    assert_eq!(i.send(&Request::new("GET", &format!("{}?{query}", paths[0]))).status, 200);
    let arrived: Vec<_> = canary.seen().iter().map(|seen| seen.target().to_owned()).collect();
    assert_eq!(arrived[..paths.len()], paths, "byte for byte: the application decides on the form of names");
}

#[test]
fn every_name_that_yt_dlp_creates_can_be_linked_and_opened_in_another_spelling() {
    let canary = Canary::start();
    let i = Instance::with(&canary.address.to_string(), |i| {
        i.replace_in("policies/worker.toml", "[defaults]", "[defaults]\nlink_ignores = [\"fbclid\"]");
    });
    // As many links as a user may create in a minute, the strangest names first.
    let mut chosen: Vec<_> = names().collect();
    chosen.sort_by_key(|name| name.bytes().filter(u8::is_ascii_alphanumeric).count() * 100 / name.len());
    let mut refused = Vec::new();
    for name in chosen.iter().take(60) {
        let made = i.post("/.sallyport/links", &format!(r#"{{"path":"/api/stream/{}"}}"#, sparing(name)));
        assert_eq!(made.status, 201, "{name}: {made:?}");
        let url = made.json()["url"].as_str().unwrap().to_owned();
        let query = url.split_once('?').unwrap().1;
        let other = format!("/api/stream/{}?fbclid=x&{query}", lower_case(&strict(name)));
        if i.send(&Request::new("GET", &other)).status != 200 {
            refused.push(other);
        }
    }
    assert!(refused.is_empty(), "{refused:#?}");
    assert!(canary.seen().iter().all(|seen| !seen.target().contains('?')), "nothing unsigned is passed on");
}

/// Returns the name with lower-case escapes, as some clients write them.
fn lower_case(spelt: &str) -> String {
    let mut parts = spelt.split('%');
    let mut lower = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (digits, rest) = part.split_at(2);
        lower.extend(["%", &digits.to_ascii_lowercase(), rest]);
    }
    lower
}

#[test]
fn characters_that_some_parsers_treat_as_separators_pass_only_on_file_routes() {
    let canary = Canary::start();
    let i = open(&canary, &[("/files/{name}", "file_names = true"), ("/other/{name}", "")]);
    let get = |path: String| i.send(&Request::new("GET", &path));
    for name in ODD {
        assert_eq!(get(format!("/files/{name}")).status, 200, "{name}");
        for elsewhere in [format!("/other/{name}"), format!("/nowhere/{name}"), format!("/files/{name}/x")] {
            let response = get(elsewhere);
            assert_eq!((response.status, response.code().as_str()), (400, "bad_path"), "{name}");
        }
    }
    let arrived: Vec<_> = canary.seen().iter().map(|seen| seen.target().to_owned()).collect();
    assert_eq!(arrived, ODD.iter().map(|name| format!("/files/{name}")).collect::<Vec<_>>());
}

#[test]
fn a_name_that_leads_elsewhere_when_normalised_or_decoded_again_is_refused_on_file_routes_too() {
    let canary = Canary::start();
    let i = open(&canary, &[("/files/{name}", "file_names = true")]);
    for name in [
        "..%EF%BC%8F..%EF%BC%8Fetc",
        "%EF%BC%8E%EF%BC%8E",
        "%E2%80%A5",
        "a%2fb",
        "a%252fb",
        "a%255cb",
        "%252e%252e",
        "a%2500",
        "%25c0%25ae",
        "%25e0%2580%25ae",
        "..;x",
    ] {
        assert_eq!(i.send(&Request::new("GET", &format!("/files/{name}"))).status, 400, "{name}");
    }
    assert!(canary.seen().is_empty());
}

#[test]
fn the_rest_of_a_path_may_be_empty_and_a_more_specific_route_wins() {
    let canary = Canary::start();
    let i =
        open(&canary, &[("/{*rest}", ""), ("/app/{*rest}", ""), ("/docs/", "max_body = \"0\""), ("/docs/{*page}", "")]);
    for path in ["/", "/index.html", "/app/", "/app/a/b", "/docs/", "/docs/a", "/?a=b"] {
        assert_eq!(i.send(&Request::new("GET", path)).status, 200, "{path}");
    }
    let route = |path: &str| i.log_line(&i.send(&Request::new("GET", path)))["route"].as_str().unwrap().to_owned();
    assert_eq!(["/", "/app/", "/docs/", "/docs/a", "/app"].map(route), ["r0", "r1", "r2", "r3", "r0"]);
}
