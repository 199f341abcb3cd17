//! Tests of the faults that the compiler reports, each with its line.

use sallyport_core::config::{self, Located};

use super::*;

pub(super) const CONFIG: &str = r#"
[[app]]
name = "shop"
policy = "shop"
upstream = "127.0.0.1:8001"
"#;

/// The lines 1 to 4 of a policy that has no fault.
pub(super) const ROUTE: &str = "[[route]]\nname = \"list\"\nmethods = [\"GET\"]\npath = \"/items\"\n";

pub(super) fn compile_policy(text: &str, old: Option<&App>) -> Result<App, Diagnostics> {
    compile_for(CONFIG, text, old)
}

/// Compiles a policy for the first application of a configuration.
pub(super) fn compile_for(config: &str, text: &str, old: Option<&App>) -> Result<App, Diagnostics> {
    let config = config::read(Path::new("/etc/config.toml"), config).unwrap();
    compile_text(PolicyText { path: Path::new("/etc/shop.toml"), text }, &config.apps[0], &config, old)
}

/// The faults, each with its line.
fn faults(text: &str) -> Vec<(usize, String)> {
    let Err(Diagnostics(found)) = compile_policy(text, None) else { return Vec::new() };
    let line = |found: &Diagnostic| match found.at {
        Located::File { line, .. } => line,
        Located::Environment(_) => 0,
    };
    found.iter().map(|found| (line(found), found.what.clone())).collect()
}

/// What follows [`ROUTE`] from line 5 on, and the only fault: its line, and how its message begins.
const FAULTS_OF_KEYS: &[(&str, usize, &str)] = &[
    ("allow_from = [\"lan\",\n\"nas.local\"]", 6, "\"nas.local\" is not an address rule"),
    ("deny_from = [\"192.168.1.5/24\"]", 5, "\"192.168.1.5/24\" has bits set beyond its prefix"),
    ("deny_from = [\"::ffff:192.0.2.1\"]", 5, "\"::ffff:192.0.2.1\" is an IPv4-mapped address"),
    ("allow_from = [\"country:UK\"]", 5, "\"UK\" is not an ISO 3166-1 country code"),
    ("allow_from = [\"country:DE\"]", 5, "\"country:DE\" requires a country database"),
    ("[defaults]\nallow_from = [\"any\"]", 6, "\"any\" is not an address rule"),
    ("[defaults]\ndeny_from = [\"country:DE\"]", 6, "\"country:DE\" requires a country database"),
    ("credentials = []", 5, "a route either accepts credentials or is anonymous"),
    ("anonymous = true", 1, "a route either accepts credentials or is anonymous"),
    ("[defaults]\ncredentials = []", 1, "a route either accepts credentials or is anonymous"),
    ("link_object = \"id\"", 5, "requires the credential \"offlinetube-link\""),
    ("credentials = [\"offlinetube-link\"]", 1, "requires the credential \"offlinetube-link\""),
    ("scopes = [\"items:*\"]", 5, "\"items:*\" is not a scope"),
    ("scopes = [\"items read\"]", 5, "\"items read\" is not a scope"),
    ("scopes = [\"Items\"]", 5, "\"Items\" is not a scope"),
    ("link_ignores = [\"\"]", 5, "\"\" is not the name of a parameter"),
    ("[defaults]\nlink_ignores = [\"utm_\",\n\"*\"]", 7, "\"*\" is not the name of a parameter"),
    ("max_body = \"65KiB\"\nbody.fields = {}", 5, "a route with a body rule can have a max_body of at most 64KiB"),
    ("max_body = \"0\"\nbody.fields = {}", 5, "the max_body is 0"),
    ("body.fields = {}\n[defaults]\nmax_body = \"0\"", 1, "the max_body of [defaults] is 0"),
    ("body.fields.n = { type = \"integer\", values = [\"1\"] }", 5, "field \"n\": values is only for one-of"),
    ("body.fields.n = { type = \"text\", min = 1 }", 5, "field \"n\": values is only for one-of"),
    ("body.fields.n = { type = \"words\", max = 0 }", 5, "field \"n\": values is only for one-of"),
    ("body.fields.n = { type = \"one-of\" }", 5, "field \"n\": values is only for one-of"),
    ("body.fields.n = { type = \"one-of\", values = [] }", 5, "field \"n\": values is only for one-of"),
    ("body.fields.n = { type = \"one-of\", values = [\"a\"], max = 1 }", 5, "field \"n\": values is only for one-of"),
    ("body.fields.n = { type = \"media-url\", max = 1 }", 5, "field \"n\": values is only for one-of"),
    ("body.fields.n = { type = \"boolean\", min = 0 }", 5, "field \"n\": values is only for one-of"),
    ("[cors]\norigins = [\"https://a.example\",\n\"*\"]", 7, "\"*\" is not an origin"),
    ("[cors]\nallow_headers = [\"*\"]", 6, "\"*\" is not the name of a header"),
    ("[cors]\nexpose_headers = [\"a b\"]", 6, "\"a b\" is not the name of a header"),
    ("[headers]\nhsts = \"forever\"", 6, "\"forever\" is not a valid Strict-Transport-Security value"),
    ("[headers]\ncontent_type_options = \"sniff\"", 6, "\"sniff\" is not a valid X-Content-Type-Options value"),
    ("[headers]\nreferrer_policy = \"never\"", 6, "\"never\" is not a referrer policy"),
    ("[headers]\nframe_options = \"ALLOW\"", 6, "\"ALLOW\" is not a valid X-Frame-Options value"),
    ("[headers]\ncontent_security_policy = \";\"", 6, "\";\" is not a valid Content-Security-Policy"),
    ("[headers]\nhsts = true", 6, "true is not a value"),
    ("[upstream]\nlimits.waiting_downloads = 1", 6, "limits require statement = true"),
    ("[upstream]\nstatement = true\nlimits.max_filesize = \"0\"", 7, "a max_filesize of 0 would keep nothing"),
    ("rate = []", 5, "unknown key; did you mean \"rates\"?"),
];

/// A path, and how the message of the only fault begins.
const FAULTS_OF_PATHS: &[(&str, &str)] = &[
    ("items", "must start with \"/\" and must not be under /.sallyport/"),
    ("/.sallyport/links", "must start with \"/\" and must not be under /.sallyport/"),
    ("/items/*", "a lone * matches only itself"),
    ("/items?page={n}", "a path does not include ? or #"),
    ("/items#top", "a path does not include ? or #"),
    ("/{a}{b}", "a segment can have at most one {parameter}"),
    ("/{}", "a parameter is a name in braces"),
    ("/{*rest}/x", "{*rest} matches the rest of the path, so it must come last"),
];

/// The methods of a route, and how the message of the only fault begins.
const FAULTS_OF_METHODS: &[(&str, &str)] = &[
    ("", "no methods; write at least one"),
    ("\"get\"", "\"get\" is not a method that a route can have"),
    ("\"HEAD\"", "\"HEAD\" is not a method that a route can have"),
    ("\"GET\", \"OPTIONS\"", "\"OPTIONS\" is not a method that a route can have"),
    ("\"GET\", \"GET\"", "the route \"list\" already handles GET on this path"),
];

/// The path of a second route with the same method, and how the message of the only fault begins.
const CONFLICTS: &[(&str, &str)] = &[
    ("/items", "the route \"list\" already handles GET on this path"),
    ("/{a}/{b}", "it matches the same requests as /{id}/{page}"),
    ("/{*rest}", "it matches the same requests as /{*all}"),
];

/// The keys of a route for `/hls/index.m3u8` that names another file in `link_also`, the keys of that one, and the faults.
const LINKED: &[(&str, &str, &[&str])] = &[
    ("link_also = \"a.mp4\"", "", &[]),
    ("link_also = \"b.mp4\"", "", &["must name a route in the same folder"]),
    ("link_also = \"a.mp4\"\nscopes = [\"x\"]", "", &["must name a route in the same folder"]),
    ("link_also = \"a.mp4\"", "credentials = [\"api-key\"]", &["must name a route in the same folder"]),
    ("link_also = \"a.mp4\"", "methods = [\"POST\"]", &["must name a route in the same folder"]),
    ("link_also = \"a.mp4\"\ncredentials = [\"api-key\"]", "", &["requires the credential \"link\""]),
];

fn assert_only_fault(text: &str, line: usize, what: &str) {
    let found = faults(text);
    let only = found.len() == 1 && found.iter().all(|(at, found)| *at == line && found.starts_with(what));
    assert!(only, "{text}\n{found:?}");
}

#[test]
fn each_fault_is_reported_once_and_at_its_line() {
    assert_eq!(faults(ROUTE), []);
    for (more, line, what) in FAULTS_OF_KEYS {
        assert_only_fault(&format!("{ROUTE}{more}\n"), *line, what);
    }
    for (methods, what) in FAULTS_OF_METHODS {
        let line = if what.contains("already") { 4 } else { 3 };
        assert_only_fault(&ROUTE.replace("\"GET\"", methods), line, what);
    }
    for (path, what) in FAULTS_OF_PATHS {
        assert_only_fault(&ROUTE.replace("/items", path), 4, what);
    }
}

#[test]
fn all_faults_of_a_policy_are_reported_together() {
    let text = format!("{ROUTE}scopes = [\"*\"]\nallow_from = [\"x\", \"y\"]\n[cors]\norigins = [\"*\"]\n");
    assert_eq!(faults(&text).into_iter().map(|(line, _)| line).collect::<Vec<_>>(), [8, 6, 6, 5]);
}

#[test]
fn two_routes_for_the_same_requests_are_a_fault_of_the_second() {
    let others = "[[route]]\nname = \"page\"\nmethods = [\"GET\"]\npath = \"/{id}/{page}\"\n\
        [[route]]\nname = \"all\"\nmethods = [\"GET\"]\npath = \"/x/{*all}\"\n";
    for (path, what) in CONFLICTS {
        let path = if path.contains('*') { "/x/{*rest}" } else { path };
        let what = what.replace("/{*all}", "/x/{*all}");
        let second = ROUTE.replace("list", "second").replace("/items", path);
        assert_only_fault(&format!("{ROUTE}{others}{second}"), 16, &what);
    }
    // Another method of the same path belongs to another route.
    let post = ROUTE.replace("list", "second").replace("GET", "POST");
    assert_eq!(faults(&format!("{ROUTE}{post}")), []);
}

#[test]
fn a_link_also_opens_only_what_it_could_be_created_for() {
    let route = |name: &str, more: &str| {
        let credentials = if more.contains("credentials") { "" } else { "credentials = [\"link\"]\n" };
        let methods = if more.contains("methods") { "" } else { "methods = [\"GET\"]\n" };
        format!("[[route]]\nname = \"{name}\"\npath = \"/hls/{name}\"\n{methods}{credentials}{more}\n")
    };
    let policy = |of: &str, other: &str| format!("{}{}", route("index.m3u8", of), route("a.mp4", other));
    for (of, other, expected) in LINKED {
        let found = faults(&format!("{}[upstream]\nstatement = true\n", policy(of, other)));
        let messages: Vec<_> = found.iter().map(|(_, what)| what).collect();
        let all = messages.len() == expected.len() && messages.iter().zip(*expected).all(|(m, e)| m.starts_with(e));
        assert!(all, "{of} {other} {messages:?}");
    }
    let linked = policy("link_also = \"a.mp4\"", "");
    assert_only_fault(&linked, 6, "requires the credential \"link\"");
    let any_name = format!("{}[upstream]\nstatement = true\n", linked.replace("/index.m3u8", "/{name}"));
    assert_only_fault(&any_name, 6, "requires the credential \"link\", a path that ends in a name");
}

/// Compiles the policies of a folder with these files.
fn compile_folder(config: &str, policies: &[(&str, &str)]) -> Result<Site, String> {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("policies")).unwrap();
    let file = folder.path().join("config.toml");
    std::fs::write(&file, config).unwrap();
    for (name, text) in policies {
        std::fs::write(folder.path().join("policies").join(name), text).unwrap();
    }
    let site = compile(&config::read(&file, config).unwrap());
    site.map_err(|faults| faults.to_string().replace(folder.path().to_str().unwrap(), ""))
}

#[test]
fn the_faults_of_all_applications_are_reported_those_of_the_configuration_first_and_each_once() {
    let app = |name: &str, policy: &str, more: &str| {
        format!(
            "[[app]]\nname = \"{name}\"\npolicy = \"{policy}\"\nupstream = \"127.0.0.1:80\"\nhosts = [\"{name}\"]\n{more}\n"
        )
    };
    let bad = ROUTE.replace("GET", "get");
    assert!(compile_folder(&app("a", "worker", ""), &[]).is_ok(), "a built-in policy needs no file");
    assert!(compile_folder(&app("a", "list", ""), &[("list.toml", ROUTE)]).is_ok());
    let config = [
        app("a", "list", ""),
        app("b", "list", ""),
        app("c", "wurker", ""),
        app("d", "worker", "cors_origins = [\"*\"]"),
    ];
    let found = compile_folder(&config.concat(), &[("list.toml", &bad)]).unwrap_err();
    let lines: Vec<_> = found.lines().collect();
    let begins = [
        "/config.toml:15:10: app[2].policy: there is no policy \"wurker\"; did you mean \"worker\"?",
        "/config.toml:24:17: app[3].cors_origins[0]: \"*\" is not an origin",
        "/policies/list.toml:3:11: route[0].methods: \"get\" is not a method that a route can have",
    ];
    assert!(lines.len() == 3 && lines.iter().zip(begins).all(|(line, begin)| line.starts_with(begin)), "{lines:#?}");
}

#[test]
fn a_reload_does_not_replace_a_policy_whose_file_is_gone_by_the_built_in_one() {
    let folder = tempfile::tempdir().unwrap();
    let text = CONFIG.replace("\"shop\"", "\"worker\"");
    let config = config::read(&folder.path().join("config.toml"), &text).unwrap();
    let file = folder.path().join("policies/worker.toml");
    std::fs::create_dir(folder.path().join("policies")).unwrap();
    std::fs::write(&file, ROUTE).unwrap();
    let old = compile(&config).unwrap();
    std::fs::remove_file(&file).unwrap();
    let fault = compile_after(&config, &old).unwrap_err().to_string();
    assert!(fault.contains("the file is gone; its policy stays in force"), "{fault}");
    let built_in = compile(&config).unwrap();
    assert!(compile_after(&config, &built_in).is_ok(), "a policy that had no file needs none");
}
