//! Whom a ban affects and for how long, who is never banned, and the commands about bans.

use std::{
    fs,
    io::{Read, Write},
    net::TcpStream,
    process::Command,
    time::Duration,
};

use serde_json::Value;

use crate::{
    bans::{OTHER, STRANGER, banned, from, guess, knock, list, set, that_bans_the_test, with_bans},
    canary::Canary,
    client::{Request, connect, connect_over, finish, send_plain},
    instance::{Instance, eventually},
};

#[test]
fn clients_behind_a_translator_are_banned_individually_and_in_every_form_of_their_address() {
    let canary = Canary::start();
    let i = with_bans(&canary, &[("failed_credentials", "2"), ("spare_authenticated", "\"0s\"")]);
    assert_eq!((guess(&i, "64:ff9b::8.8.4.4"), guess(&i, "64:ff9b:1::8.8.4.4")), (401, 401));
    for client in ["8.8.4.4", "64:ff9b::8.8.4.4", "2002:808:404:7::1", "2001:0:4136:e378:8000:63bf:f7f7:fbfb"] {
        assert_eq!(knock(&i, client), 403, "{client}");
    }
    assert_eq!(
        [knock(&i, "64:ff9b::8.8.8.8"), knock(&i, "64:ff9b:1::8.8.8.8")],
        [200, 200],
        "all of IPv4 is not one client"
    );
    assert_eq!(eventually("the ban in the list", || banned(&i).pop())["address"], "8.8.4.4");
    assert_eq!(i.command(&["ban", "remove", "64:ff9b::8.8.4.4"])["removed"], true);
    assert_eq!(knock(&i, "8.8.4.4"), 200);
}

#[test]
fn a_recently_authenticated_address_is_spared_with_all_its_clients() {
    let canary = Canary::start();
    let i = with_bans(&canary, &[("failed_credentials", "2"), ("forbidden_paths", "2")]);
    assert_eq!(knock(&i, STRANGER), 200);
    assert!((0..5).all(|_| guess(&i, STRANGER) == 401), "a device with an old key at the same address");
    let lost = |client: &str, n| from(&i, client, Request::new("GET", &format!("/{n}")).key(i.key())).status;
    assert!((0..5).all(|n| lost(OTHER, n) == 404), "a right key counts even without a route");
    assert!(banned(&i).is_empty());

    let i = with_bans(&canary, &[("failed_credentials", "2"), ("spare_authenticated", "\"0s\"")]);
    assert_eq!((knock(&i, STRANGER), guess(&i, STRANGER), guess(&i, STRANGER)), (200, 401, 401));
    assert_eq!(knock(&i, STRANGER), 403);
}

#[test]
fn this_machine_its_networks_and_trusted_proxies_are_never_banned() {
    let canary = Canary::start();
    let i = with_bans(&canary, &[("failed_credentials", "1")]);
    i.replace("trusted_proxies = [\"127.0.0.0/8\"]", "trusted_proxies = [\"127.0.0.0/8\", \"203.0.113.0/24\"]");
    eventually("the reload", || i.stderr().contains("were reloaded").then_some(()));
    for client in ["127.0.0.1", "::1", "10.0.0.7", "192.168.1.7", "169.254.1.1", "fd00::7", "fe80::7", "203.0.113.9"] {
        assert_eq!((guess(&i, client), knock(&i, client)), (401, 200), "{client}");
        assert!(!i.output(&["ban", "add", client]).status.success(), "{client}");
    }
    assert_eq!((guess(&i, STRANGER), knock(&i, STRANGER)), (401, 403));

    let i = with_bans(&canary, &[("failed_credentials", "1"), ("include_local", "true")]);
    assert_eq!((guess(&i, "10.0.0.7"), knock(&i, "10.0.0.7")), (401, 403));
    assert_eq!((guess(&i, "127.0.0.1"), knock(&i, "127.0.0.1")), (401, 200), "that address is the trusted proxy");
}

#[test]
fn an_address_that_many_share_is_never_banned() {
    let canary = Canary::start();
    let i = with_bans(&canary, &[("failed_credentials", "1"), ("include_local", "true")]);
    i.replace("shared_addresses = [", "shared_addresses = [\"192.0.2.8/32\", ");
    eventually("the reload", || i.stderr().contains("were reloaded").then_some(()));
    assert_eq!((guess(&i, OTHER), knock(&i, OTHER)), (401, 200));
    assert_eq!((guess(&i, STRANGER), knock(&i, STRANGER)), (401, 403));
}

#[test]
fn a_banned_client_behind_a_proxy_that_names_it_gets_no_connection_and_others_do() {
    let canary = Canary::start();
    let i = Instance::with(&canary.address.to_string(), |i| {
        i.replace("trusted_proxies = []", "trusted_proxies = [\"127.0.0.0/8\"]");
        i.replace("proxy_protocol = false", "proxy_protocol = true");
        set(i, &[("failed_credentials", "2")]);
    });
    let get = |client: &str, key: &str| {
        let mut stream = TcpStream::connect(i.tls).unwrap();
        stream.write_all(format!("PROXY TCP4 {client} 198.51.100.1 4660 443\r\n").as_bytes()).unwrap();
        let stream = connect_over(stream, &i.authority(), rustls::ALL_VERSIONS).ok()?;
        Some(finish(stream, &list(key).bytes()).status)
    };
    assert_eq!([get(STRANGER, "sp_wrong"), get(STRANGER, "sp_wrong")], [Some(401); 2]);
    assert_eq!((get(STRANGER, i.key()), get(OTHER, i.key())), (None, Some(200)));
}

#[test]
fn an_allowed_network_is_never_banned_and_allowing_it_lifts_a_ban() {
    let canary = Canary::start();
    let i = with_bans(&canary, &[("failed_credentials", "1"), ("allow", "[\"192.0.2.8\", \"2001:db8:1::/48\"]")]);
    for client in [OTHER, "2001:db8:1:2::7"] {
        assert_eq!((guess(&i, client), knock(&i, client)), (401, 200), "{client}");
    }
    assert_eq!((guess(&i, STRANGER), knock(&i, STRANGER)), (401, 403));
    set(&i, &[("allow", "[\"192.0.2.0/24\"]")]);
    eventually("the reload", || (knock(&i, STRANGER) == 200).then_some(()));
}

#[test]
fn one_64_of_ipv6_is_one_client() {
    let canary = Canary::start();
    let i = with_bans(&canary, &[("failed_credentials", "2")]);
    assert_eq!((guess(&i, "2001:db8::1"), guess(&i, "2001:db8::2")), (401, 401));
    assert_eq!((knock(&i, "2001:db8::3"), knock(&i, "2001:db8:0:1::3")), (403, 200));
    let ban = eventually("the ban in the list", || banned(&i).pop());
    assert_eq!(ban["address"], "2001:db8::/64");
    assert_eq!(i.command(&["ban", "remove", "2001:db8::/64"])["removed"], true);
    assert_eq!(knock(&i, "2001:db8::3"), 200);
}

#[test]
fn the_next_ban_is_longer_and_a_kill_forgets_neither_it_nor_the_one_before() {
    let canary = Canary::start();
    let mut i = with_bans(
        &canary,
        &[("failed_credentials", "1"), ("durations", "[\"5s\", \"1h\"]"), ("spare_authenticated", "\"0s\"")],
    );
    assert_eq!((guess(&i, STRANGER), knock(&i, STRANGER)), (401, 403));
    eventually("the ban in the list", || (banned(&i).len() == 1).then_some(()));
    i.kill();
    i.start_role("gateway");
    eventually("the expiry of the first ban", || (knock(&i, STRANGER) == 200).then_some(()));
    assert!(banned(&i).is_empty(), "the list shows only current bans");
    assert_eq!((guess(&i, STRANGER), knock(&i, STRANGER)), (401, 403));
    let log = i.stderr();
    assert!(log.contains("banned 192.0.2.7 for 5s: ") && log.contains("banned 192.0.2.7 for 1h: "), "{log}");
    assert_eq!(eventually("the ban in the list", || banned(&i).pop())["times"], 2);
    i.kill();
    i.start_role("gateway");
    assert_eq!((knock(&i, STRANGER), knock(&i, OTHER)), (403, 200));
}

#[test]
fn a_successor_and_a_restart_know_bans_caused_by_the_last_request() {
    let canary = Canary::start();
    let mut i = with_bans(&canary, &[("failed_credentials", "1")]);
    assert_eq!(guess(&i, STRANGER), 401);
    assert!(Command::new("kill").args(["-TERM", &i.pid().to_string()]).status().unwrap().success());
    i.await_end();
    i.start_role("gateway");
    assert_eq!((knock(&i, STRANGER), guess(&i, OTHER)), (403, 401));
    i.start_successor();
    eventually("the successor", || i.stderr().contains("a successor has taken over").then_some(()));
    assert_eq!([STRANGER, OTHER, "192.0.2.9"].map(|client| knock(&i, client)), [403, 403, 200]);
}

#[test]
fn with_bans_disabled_nobody_is_banned_and_existing_bans_have_no_effect() {
    let canary = Canary::start();
    let i = with_bans(&canary, &[("failed_credentials", "1")]);
    assert_eq!((guess(&i, STRANGER), knock(&i, STRANGER)), (401, 403));
    set(&i, &[("enabled", "false")]);
    eventually("the reload", || (knock(&i, STRANGER) == 200).then_some(()));
    assert_eq!((guess(&i, OTHER), knock(&i, OTHER)), (401, 200));
    assert!(!i.output(&["ban", "add", OTHER]).status.success());
}

#[test]
fn a_banned_client_gets_no_connection_and_its_running_request_continues() {
    let canary = Canary::with(Duration::from_secs(3));
    let i = that_bans_the_test(&canary);
    let mut running = connect(i.tls, &i.authority(), rustls::ALL_VERSIONS).unwrap();
    let request = format!("GET /api/downloads HTTP/1.1\r\nHost: localhost\r\nX-API-Key: {}\r\n\r\n", i.key());
    running.write_all(request.as_bytes()).unwrap();
    eventually("the request", || (canary.seen().len() == 1).then_some(()));
    assert_eq!([(); 2].map(|()| i.send(&list("sp_wrong")).status), [401, 401]);

    assert!(connect(i.tls, &i.authority(), rustls::ALL_VERSIONS).is_err(), "closed before TLS");
    let mut plain = TcpStream::connect(i.plain).unwrap();
    let _ = plain.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n");
    assert_eq!(plain.read(&mut [0; 64]).unwrap_or(0), 0, "there is no redirect either");
    assert_eq!(send_plain(i.admin, b"GET /readyz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").status, 200);

    let mut response = Vec::new();
    while !response.ends_with(b"canary") {
        let mut piece = [0; 4096];
        let n = running.read(&mut piece).unwrap();
        assert!(n > 0, "cut off: {}", response.escape_ascii());
        response.extend_from_slice(&piece[..n]);
    }
    assert!(response.starts_with(b"HTTP/1.1 200 "), "{}", response.escape_ascii());
    running.write_all(request.as_bytes()).unwrap();
    let mut refusal = String::new();
    running.read_to_string(&mut refusal).unwrap();
    assert!(
        refusal.starts_with("HTTP/1.1 403 ") && refusal.contains("\"banned\""),
        "its next request is refused: {refusal}"
    );
    assert_eq!(canary.seen().len(), 1);
    i.command(&["ban", "remove", "127.0.0.1"]);
    assert_eq!(i.get("/api/downloads").status, 200);
}

#[test]
fn a_manual_ban_and_its_removal_are_in_force_when_the_command_returns() {
    let canary = Canary::start();
    let mut i = with_bans(&canary, &[]);
    assert_eq!(knock(&i, STRANGER), 200);
    for _ in 0..5 {
        let made = i.command(&["ban", "add", STRANGER, "--reason", "noise"]);
        assert_eq!((&made["address"], &made["until"]), (&STRANGER.into(), &Value::Null));
        assert_eq!(knock(&i, STRANGER), 403);
        i.command(&["ban", "remove", STRANGER]);
        assert_eq!(knock(&i, STRANGER), 200);
    }
    assert!(!i.output(&["ban", "remove", STRANGER]).status.success(), "there is no longer a ban");
    i.command(&["ban", "add", STRANGER, "--for", "1h", "--reason", "noise"]);
    i.command(&["ban", "add", "2001:db8::7"]);
    i.kill();
    i.start_role("gateway");
    assert_eq!([STRANGER, "2001:db8::8", OTHER].map(|client| knock(&i, client)), [403, 403, 200]);
    let bans = banned(&i);
    assert_eq!((bans.len(), &bans[0]["reason"], &bans[1]["until"]), (2, &"noise".into(), &Value::Null));
    assert!(bans[0]["until"].is_string());
    for wrong in [&["10.0.0.0/8"][..], &["nas.local"], &[OTHER, "--for", "soon"], &[OTHER, "--reason", "a\nb"]] {
        assert_eq!(i.output(&[&["ban", "add"], wrong].concat()).status.code(), Some(2), "{wrong:?}");
    }
    i.command(&["ban", "add", OTHER, "--for", "1s"]);
    eventually("its expiry", || (knock(&i, OTHER) == 200).then_some(()));
}

#[test]
fn invalid_values_are_faults_at_their_position() {
    for (key, value, words) in [
        ("forbidden_paths", "101", "at most 100"),
        ("window", "\"500ms\"", "at least \\\"1s\\\""),
        ("durations", "[]", "at least one"),
        ("durations", "[\"1h\", \"1ms\"]", "at least \\\"1s\\\""),
        ("allow", "[\"nas.local\"]", "is not a network"),
        ("allow", "[\"::ffff:192.0.2.0/120\"]", "is not a network"),
        ("allow", "[\"192.0.2.7/24\"]", "is not a network"),
    ] {
        let i = Instance::made(&[]);
        set(&i, &[(key, value)]);
        let config = fs::read_to_string(i.path("config.toml")).unwrap();
        let line = config.lines().position(|line| line == format!("{key} = {value}")).unwrap() + 1;
        let report = i.output(&["check"]);
        let found = String::from_utf8_lossy(&report.stdout).into_owned();
        assert_eq!(report.status.code(), Some(1), "{key}");
        assert!(found.contains(&format!("config.toml:{line}:")) && found.contains(words), "{key}: {found}");
    }
}
