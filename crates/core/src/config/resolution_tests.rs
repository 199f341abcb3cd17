//! Tables of what resolving reports and returns, in the order of docs/configuration.md.
#![expect(clippy::panic, reason = "a test fails by panicking")]

use std::{net::SocketAddr, path::Path, time::Duration};

use super::{
    Config, Diagnostic, Document, LibraryAccess, Retention, TlsMode, Upstream,
    acme::{ChallengeConfig, DnsWriter},
    load::locate,
    top_level::ConfigToml,
};

const FILE: &str = "/etc/sallyport/config.toml";

fn resolve(text: &str) -> (Option<Config>, Vec<Diagnostic>) {
    let document = Document::<ConfigToml>::read(Path::new(FILE), text);
    assert!(document.faults.0.is_empty(), "{text}: {}", document.faults);
    let (config, faults) = Config::validate(document.value.unwrap(), Path::new(FILE));
    (config, locate(Path::new(FILE), text, &faults).0)
}

fn valid(text: &str) -> Config {
    let (config, faults) = resolve(text);
    assert!(faults.is_empty(), "{text}: {faults:?}");
    config.unwrap()
}

const ACME: &str = "[tls]\nmode = \"acme\"\ndomains = [\"a.example\"]\n";
const APP: &str = "[[app]]\nname = \"a\"\npolicy = \"p\"\nupstream = \"127.0.0.1:1\"\n";

/// What is written, the key at fault, and what is said about it.
#[rustfmt::skip]
const FAULTS: &[(&str, &str, &str)] = &[
    // [gateway]: listeners
    ("gateway.listen = []", "gateway.listen", "no address to listen on; write at least one, such as \"[::]:8443\""),
    ("gateway.listen = [\"[::]:1\", \"x\"]", "gateway.listen[1]", "invalid socket address syntax"),
    ("gateway.http_listen = [\"x\"]", "gateway.http_listen[0]", "invalid socket address syntax"),
    ("gateway.admin_listen = \"x\"", "gateway.admin_listen", "\"x\" is not an address; write \"127.0.0.1:8001\", \"[::1]:8001\" or \"unix:/run/app.sock\""),
    ("gateway.admin_listen = \"unix:x\"", "gateway.admin_listen", "\"unix:x\" is not an address; write \"127.0.0.1:8001\", \"[::1]:8001\" or \"unix:/run/app.sock\""),
    ("gateway.admin_listen = \"0.0.0.0:1\"", "gateway.admin_listen", "not a loopback address, and the admin listener requires no credential; use 127.0.0.1 or a unix: socket"),
    ("gateway.admin_hosts = [\"a\", \"http://a\"]", "gateway.admin_hosts[1]", "\"http://a\" is not a host name; write it without scheme and port, such as \"nas.local\""),
    ("gateway.admin_hosts = [\"\"]", "gateway.admin_hosts[0]", "\"\" is not a host name; write it without scheme and port, such as \"nas.local\""),
    ("gateway.public_url = \"x\"", "gateway.public_url", "relative URL without a base"),
    ("gateway.public_url = \"http://a\"", "gateway.public_url", "must consist of https, a host and optionally a port; write, for example, \"https://home.example.com\""),
    ("gateway.public_url = \"https://a/x\"", "gateway.public_url", "must consist of https, a host and optionally a port; write, for example, \"https://home.example.com\""),
    // [gateway]: proxies
    ("gateway.proxy_protocol = true", "gateway.proxy_protocol", "no proxy is trusted to send a PROXY header; list the proxies in trusted_proxies"),
    // [gateway]: limits
    ("gateway.max_connections = 0", "gateway.max_connections", "0 would refuse every client; write at least 1"),
    ("gateway.max_connections_per_client = 0", "gateway.max_connections_per_client", "0 would refuse every client; write at least 1"),
    ("gateway.max_requests = 0", "gateway.max_requests", "0 would refuse every client; write at least 1"),
    ("gateway.max_requests_per_client = 0", "gateway.max_requests_per_client", "0 would refuse every client; write at least 1"),
    ("gateway.max_tracked_clients = 0", "gateway.max_tracked_clients", "0 would refuse every client; write at least 1"),
    ("gateway.send_timeout = \"999ms\"", "gateway.send_timeout", "must be at least \"1s\""),
    ("gateway.pause_timeout = \"59s\"", "gateway.pause_timeout", "shorter than send_timeout; write at least the same"),
    // [tls]
    ("tls.cert = \"a\"", "tls", "cert and key require mode \"files\"; set that mode, or remove them"),
    ("tls.key = \"a\"", "tls", "cert and key require mode \"files\"; set that mode, or remove them"),
    ("tls.domains = [\"a.example\"]", "tls", "domains and email require mode \"acme\"; set that mode, or remove them"),
    ("tls.email = \"a@b.example\"", "tls", "domains and email require mode \"acme\"; set that mode, or remove them"),
    ("[tls]\nmode = \"files\"\ncert = \"a\"", "tls", "mode \"files\" requires cert and key; set both"),
    ("[tls]\nmode = \"files\"\nkey = \"a\"", "tls", "mode \"files\" requires cert and key; set both"),
    ("tls.mode = \"acme\"", "tls", "mode \"acme\" requires a domain; write domains = [\"home.example.org\"]"),
    ("[tls]\nmode = \"acme\"\ndomains = [\"a.example\", \"a\"]", "tls.domains[1]", "\"a\" is not a domain; write \"home.example.org\" or \"*.example.org\", and names in other scripts as xn--…"),
    ("[tls]\nmode = \"acme\"\ndomains = [\"a.example\"]\nemail = \"a\"", "tls.email", "not an email address; write, for example, \"me@example.org\""),
    ("[tls]\nmode = \"acme\"\ndomains = [\"*.example.org\"]", "tls.domains", "authorities issue wildcard certificates only for \"dns-01\"; set [tls.acme.dns], or list each host"),
    // [tls.acme]
    ("gateway.http_listen = []\n[tls]\nmode = \"acme\"\ndomains = [\"a.example\"]\nacme.challenges = [\"http-01\"]", "tls.acme.challenges", "\"http-01\" requires gateway.http_listen; set it, or remove this challenge"),
    ("[tls]\nmode = \"acme\"\ndomains = [\"a.example\"]\nacme.challenges = [\"dns-01\"]", "tls.acme.challenges", "\"dns-01\" requires [tls.acme.dns]; configure there how the record is written"),
    ("[tls]\nmode = \"acme\"\ndomains = [\"a.example\"]\nacme.retry = \"0s\"", "tls.acme.retry", "must be at least \"1s\""),
    ("[tls]\nmode = \"acme\"\ndomains = [\"a.example\"]\n[[tls.acme.authority]]\ndirectory = \"x\"", "tls.acme.authority[0].directory", "relative URL without a base"),
    ("[tls]\nmode = \"acme\"\ndomains = [\"a.example\"]\n[[tls.acme.authority]]\ndirectory = \"http://a\"", "tls.acme.authority[0].directory", "must be an https URL (RFC 8555, section 6.1)"),
    ("[tls]\nmode = \"acme\"\ndomains = [\"a.example\"]\n[[tls.acme.authority]]\ndirectory = \"https://a\"\nkey_id = \"k\"", "tls.acme.authority[0]", "key_id and key_file must be set together; set both or neither"),
    ("[tls]\nmode = \"acme\"\ndomains = [\"a.example\"]\n[tls.acme.dns]\nzone = \"a.example\"", "tls.acme.dns", "requires either hook, or all of server, zone, key_name and key_file"),
    ("[tls]\nmode = \"acme\"\ndomains = [\"a.example\"]\n[tls.acme.dns]\nhook = [\"x\"]\nzone = \"a.example\"", "tls.acme.dns", "requires either hook, or all of server, zone, key_name and key_file"),
    ("[tls]\nmode = \"acme\"\ndomains = [\"a.example\"]\n[tls.acme.dns]\nserver = \"192.0.2.1:53\"\nzone = \"x\"\nkey_name = \"k\"\nkey_file = \"f\"", "tls.acme.dns.zone", "\"x\" is not a domain; write \"home.example.org\" or \"*.example.org\", and names in other scripts as xn--…"),
    // [jwt]
    ("jwt.leeway = \"61s\"", "jwt.leeway", "must be at most \"60s\""),
    // [links]
    ("links.default_expiry = \"8d\"", "links.default_expiry", "longer than max_expiry; lower it"),
    ("links.max_per_user = 0", "links.max_per_user", "must be at least 1"),
    ("links.max_in_all = 0", "links.max_in_all", "must be at least 1"),
    // [bans]
    ("bans.forbidden_paths = 101", "bans.forbidden_paths", "each path is remembered; write at most 100, or 0 for no limit"),
    ("bans.window = \"0s\"", "bans.window", "must be at least \"1s\""),
    ("bans.durations = []", "bans.durations", "no durations; write at least one, such as [\"1h\"]"),
    ("bans.durations = [\"1s\", \"999ms\"]", "bans.durations[1]", "must be at least \"1s\""),
    ("bans.allow = [\"192.0.2.1\", \"192.0.2.1/24\"]", "bans.allow[1]", "\"192.0.2.1/24\" is not a network or an address; write \"192.0.2.0/24\", \"2001:db8::/32\" or \"192.0.2.1\""),
    ("bans.allow = [\"::ffff:192.0.2.0/120\"]", "bans.allow[0]", "\"::ffff:192.0.2.0/120\" is not a network or an address; write \"192.0.2.0/24\", \"2001:db8::/32\" or \"192.0.2.1\""),
    // [log]
    ("log.level = \"loud\"", "log.level", "\"loud\" is not a level; write error, warn, info, debug or trace"),
    ("log.level = \"info,a=loud\"", "log.level", "\"info,a=loud\" is not a level; write error, warn, info, debug or trace"),
    ("log.access_lines_per_client = 0", "log.access_lines_per_client", "0 would log nothing; write at least 1"),
    ("log.access_keep = 1001", "log.access_keep", "every rotation renames each file; write at most 1000"),
    // [worker]
    ("worker.listen = \"x\"", "worker.listen", "\"x\" is not an address; write \"127.0.0.1:8001\", \"[::1]:8001\" or \"unix:/run/app.sock\""),
    ("worker.listen = \"192.0.2.1:1\"", "worker.listen", "not a loopback address; use 127.0.0.1 or a unix: socket, so that only the gateway reaches the worker"),
    ("worker.library_access = \"group\"", "worker.library_access", "only the owner can enter data_dir, so the group cannot reach media_dir inside it; put media_dir elsewhere"),
    ("worker.allow_private = [\"a:1\", \"a\"]", "worker.allow_private[1]", "\"a\" is not a host and port; write \"127.0.0.1:8080\" or \"nas.lan:80\""),
    ("worker.concurrent_downloads = 0", "worker.concurrent_downloads", "0 would never download; write at least 1"),
    ("worker.concurrent_downloads_per_user = 0", "worker.concurrent_downloads_per_user", "0 would never download; write at least 1"),
    ("worker.max_playlist = 0", "worker.max_playlist", "must be from 1 to 500, which is how many downloads of one user can be queued"),
    ("worker.max_playlist = 501", "worker.max_playlist", "must be from 1 to 500, which is how many downloads of one user can be queued"),
    ("worker.stall_timeout = \"999ms\"", "worker.stall_timeout", "too short to read a page; write at least \"1s\""),
    ("worker.keep_for = \"0s\"", "worker.keep_for", "0 would keep nothing; remove it to keep everything"),
    ("worker.keep_bytes = \"0\"", "worker.keep_bytes", "0 would keep nothing; remove it to keep everything"),
    // [egress]
    ("egress.listen = \"0.0.0.0:1\"", "egress.listen", "not a loopback address; use 127.0.0.1, or remove it to run the egress guard inside the worker"),
    ("egress.ports = []", "egress.ports", "no ports; list the ones that downloads may come from, such as [80, 443]"),
    // [[app]]
    ("[[app]]\nname = \"\"\npolicy = \"p\"\nupstream = \"127.0.0.1:1\"", "app[0].name", "\"\" is empty or already used; give each app a unique name"),
    ("[[app]]\nname = \"a\"\npolicy = \"p\"\nupstream = \"127.0.0.1:1\"\nprefix = \"/a\"\n[[app]]\nname = \"a\"\npolicy = \"p\"\nupstream = \"127.0.0.1:1\"", "app[1].name", "\"a\" is empty or already used; give each app a unique name"),
    ("[[app]]\nname = \"a\"\npolicy = \"p\"\nupstream = \"x\"", "app[0].upstream", "\"x\" is not an address; write \"127.0.0.1:8001\", \"[::1]:8001\" or \"unix:/run/app.sock\""),
    ("[[app]]\nname = \"a\"\npolicy = \"p\"\nupstream = \"127.0.0.1:1\"\nhosts = [\"a\", \"*.a\"]", "app[0].hosts[1]", "\"*.a\": * is not a wildcard here, so no request would match; list each host, or leave hosts empty for all"),
    ("[[app]]\nname = \"a\"\npolicy = \"p\"\nupstream = \"127.0.0.1:1\"\nprefix = \"a\"", "app[0].prefix", "must start with \"/\"; write \"/\" for every path"),
    ("[[app]]\nname = \"a\"\npolicy = \"p\"\nupstream = \"127.0.0.1:1\"\n[[app]]\nname = \"b\"\npolicy = \"p\"\nupstream = \"127.0.0.1:1\"\nprefix = \"/b\"", "app[1].prefix", "app \"a\" comes before this one and receives every request for every host under /b; give this one another host or prefix, or put it first"),
    ("[[app]]\nname = \"a\"\npolicy = \"p\"\nupstream = \"127.0.0.1:1\"\n[[app]]\nname = \"b\"\npolicy = \"p\"\nupstream = \"127.0.0.1:1\"\nhosts = [\"h\"]", "app[1].hosts[0]", "app \"a\" comes before this one and receives every request for h under /; give this one another host or prefix, or put it first"),
];

#[test]
fn each_contradiction_is_reported_at_its_key() {
    for (text, key, what) in FAULTS {
        let (_, faults) = resolve(text);
        let found: Vec<_> = faults.iter().map(|fault| (&*fault.key, &*fault.what)).collect();
        assert_eq!(found, [(*key, *what)], "{text}");
    }
}

#[test]
fn all_faults_are_reported_at_once() {
    // Those that leave no usable value are among them, in every table that has one.
    let texts = [
        "gateway.admin_listen = \"x\"\ngateway.public_url = \"x\"\ngateway.max_requests = 0",
        "tls.mode = \"files\"\nworker.listen = \"x\"\njwt.leeway = \"1h\"\nbans.durations = []",
        "log.access_keep = 1001\negress.ports = []\nlinks.max_per_user = 0",
    ];
    let (config, faults) =
        resolve(&format!("{}\n{}", texts.join("\n"), "[[app]]\nname = \"\"\npolicy = \"p\"\nupstream = \"x\""));
    assert!(config.is_none());
    let keys: Vec<_> = faults.iter().map(|fault| &*fault.key).collect();
    let expected = [
        "gateway.admin_listen",
        "gateway.public_url",
        "tls",
        "worker.listen",
        "egress.ports",
        "gateway.max_requests",
        "jwt.leeway",
        "links.max_per_user",
        "bans.durations",
        "log.access_keep",
        "app[0].name",
        "app[0].upstream",
    ];
    assert_eq!(keys, expected);
}

#[test]
fn insecure_settings_allow_what_is_refused_without_them() {
    for text in [
        "gateway.admin_listen = \"0.0.0.0:1\"\ninsecure.admin_on_any_address = true",
        "worker.listen = \"192.0.2.1:1\"\ninsecure.worker_on_any_address = true",
    ] {
        valid(text);
    }
    assert!(valid("insecure.partial_sandbox = true").worker.partial_sandbox);
    assert!(!valid("").worker.partial_sandbox);
}

#[test]
fn relative_paths_start_at_the_folder_of_the_file() {
    let config = valid(&format!(
        "data_dir = \"d\"\npolicies_dir = \"/p\"\ngateway.geoip = \"g\"\nlog.access = \"l\"\negress.key_file = \"k\"\n\
         [worker]\nmedia_dir = \"../m\"\nreadable = [\"r\", \"/r\"]\nyt_dlp = \"bin/yt-dlp\"\njs_runtime = \"node\"\n\
         [tls.clients]\nca = \"ca\"\ncrl = [\"crl\"]\n[[tls.certificate]]\ncert = \"c\"\nkey = \"/k\"\n\
         [[jwt.key]]\nalgorithm = \"EdDSA\"\nfile = \"j\"\n{APP}"
    ));
    let clients = config.tls.clients.as_ref().unwrap();
    for (path, expected) in [
        (&config.base_dir, "/etc/sallyport"),
        (&config.data_dir, "/etc/sallyport/d"),
        (&config.policies_dir, "/p"),
        (config.geoip.as_ref().unwrap(), "/etc/sallyport/g"),
        (&config.log.access, "/etc/sallyport/l"),
        (&config.egress.key_file, "/etc/sallyport/k"),
        (&config.worker.media_dir, "/etc/sallyport/../m"),
        (&config.worker.readable[0], "/etc/sallyport/r"),
        (&config.worker.readable[1], "/r"),
        (&config.worker.tools_dir, "/etc/sallyport/.tools/bin"),
        (&config.worker.yt_dlp, "/etc/sallyport/bin/yt-dlp"),
        (&config.worker.js_runtime, "node"),
        (&clients.ca, "/etc/sallyport/ca"),
        (&clients.crl[0], "/etc/sallyport/crl"),
        (&config.tls.certificates[0].cert, "/etc/sallyport/c"),
        (&config.tls.certificates[0].key, "/k"),
        (&config.jwt.keys[0].file, "/etc/sallyport/j"),
    ] {
        assert_eq!(path, Path::new(expected));
    }
}

#[test]
fn the_public_url_follows_names_and_listeners() {
    for (text, url) in [
        ("", "https://localhost:8443/"),
        ("gateway.listen = [\"[::]:443\", \"[::]:1\"]", "https://localhost/"),
        ("tls.names = [\"nas.local\", \"b\"]", "https://nas.local:8443/"),
        ("[tls]\nmode = \"acme\"\nnames = [\"nas.local\"]\ndomains = [\"a.example\"]", "https://a.example:8443/"),
        ("tls.names = [\"nas.local\"]\ngateway.public_url = \"https://home.example.com\"", "https://home.example.com/"),
    ] {
        assert_eq!(valid(text).public_url.as_str(), url, "{text}");
    }
}

#[test]
fn an_upstream_is_an_address_or_a_socket() {
    let tcp = |text: &str| Upstream::Tcp(text.parse::<SocketAddr>().unwrap());
    for (text, upstream) in [
        ("127.0.0.1:1", tcp("127.0.0.1:1")),
        ("[::1]:1", tcp("[::1]:1")),
        ("unix:/run/a.sock", Upstream::Unix("/run/a.sock".into())),
    ] {
        let config = valid(&format!("gateway.admin_listen = {text:?}\nworker.listen = {text:?}"));
        assert_eq!((&config.admin_listen, &config.worker.listen), (&upstream, &upstream));
    }
}

#[test]
fn zero_means_no_limit_where_the_documentation_says_so() {
    let config = valid(
        "gateway.max_memory = \"0\"\ngateway.min_body_rate = \"0\"\nlog.access_bytes_per_day = \"0B\"\nlog.access_max_size = \"0B\"\n\
         [bans]\nfailed_credentials = 0\nforbidden_paths = 0\ndenied_requests = 0",
    );
    assert_eq!((config.limits.max_memory, config.limits.min_body_rate), (None, None));
    assert_eq!((config.log.access_bytes_per_day, config.log.access_max_size), (None, None));
    assert_eq!(
        (config.bans.failed_credentials, config.bans.forbidden_paths, config.bans.denied_requests),
        (None, None, None)
    );
    let limited = valid("gateway.max_memory = \"2KiB\"\nbans.forbidden_paths = 100");
    assert_eq!(limited.limits.max_memory.map(u64::from), Some(2_048));
    assert_eq!(limited.bans.forbidden_paths.map(u32::from), Some(100));
}

#[test]
fn bans_allow_networks_and_single_addresses() {
    let config = valid("bans.allow = [\"192.0.2.0/24\", \"198.51.100.1\", \"::ffff:198.51.100.2\", \"2001:db8::/32\"]");
    let shown: Vec<_> = config.bans.allow.iter().map(ToString::to_string).collect();
    assert_eq!(shown, ["192.0.2.0/24", "198.51.100.1/32", "198.51.100.2/32", "2001:db8::/32"]);
}

#[test]
fn the_library_can_be_shared_outside_the_data_folder() {
    let config = valid("worker.library_access = \"group\"\nworker.media_dir = \"/srv/media\"");
    assert_eq!(config.worker.library_access, LibraryAccess::Group);
}

#[test]
fn finished_files_are_kept_forever_unless_limited() {
    assert_eq!(valid("").worker.retention, Retention::default());
    let limited = valid("worker.keep_for = \"1h\"\nworker.keep_bytes = \"1KiB\"").worker.retention;
    assert_eq!(limited, Retention { keep_for: Some(Duration::from_hours(1)), keep_bytes: Some(1_024) });
}

#[test]
fn hosts_are_compared_in_lower_case_and_apps_have_defaults() {
    let config = valid(&format!("{APP}hosts = [\"Home.Example.COM\"]"));
    assert_eq!(config.apps[0].hosts, ["home.example.com"]);
    assert_eq!((&*config.apps[0].prefix, config.apps[0].timeout), ("/", Duration::from_mins(1)));
}

#[test]
fn the_certificate_comes_from_where_the_mode_says() {
    let dir = Path::new("/etc/sallyport/certs");
    assert!(matches!(valid("").tls.mode, TlsMode::LocalCa { dir: found, .. } if found == dir));
    let files = valid("[tls]\nmode = \"files\"\ncert = \"c\"\nkey = \"k\"").tls.mode;
    assert!(matches!(files, TlsMode::Files(files) if files.cert == Path::new("/etc/sallyport/c")));
    let TlsMode::Acme { acme, dir: found, names } = valid(&format!("{ACME}names = [\"nas\"]")).tls.mode else {
        panic!()
    };
    assert_eq!((&*found, names), (dir, vec!["nas".to_owned(), "a.example".to_owned()]));
    assert_eq!(acme.authorities[0].directory.host_str(), Some("acme-v02.api.letsencrypt.org"));
    assert_eq!(acme.retry, Duration::from_mins(10));
}

#[test]
fn challenges_are_those_that_the_rest_allows() {
    let challenges = |text: &str| match valid(text).tls.mode {
        TlsMode::Acme { acme, .. } => acme.challenges,
        mode => panic!("{mode:?}"),
    };
    let hook = "[tls.acme.dns]\nhook = [\"bin/x\", \"y\"]";
    assert_eq!(challenges(ACME), [ChallengeConfig::TlsAlpn01, ChallengeConfig::Http01]);
    assert_eq!(challenges(&format!("gateway.http_listen = []\n{ACME}")), [ChallengeConfig::TlsAlpn01]);
    assert_eq!(challenges(&format!("{ACME}acme.challenges = [\"http-01\"]")), [ChallengeConfig::Http01]);
    let by_dns = challenges(&format!("{ACME}{hook}"));
    let [ChallengeConfig::Dns01(dns)] = &*by_dns else { panic!("{by_dns:?}") };
    assert_eq!(dns.writer, DnsWriter::Hook("/etc/sallyport/bin/x".into(), vec!["y".to_owned()]));
    assert_eq!(dns.wait, Duration::from_secs(30));
    let update =
        "[tls.acme.dns]\nserver = \"192.0.2.1:53\"\nzone = \"Example.org.\"\nkey_name = \"k\"\nkey_file = \"f\"";
    let by_update = challenges(&format!("{ACME}{update}"));
    let [ChallengeConfig::Dns01(dns)] = &*by_update else { panic!("{by_update:?}") };
    assert!(matches!(&dns.writer, DnsWriter::Update(update) if update.zone == "example.org"));
}
