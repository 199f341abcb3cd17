//! The filters for fail2ban and CrowdSec in `docs/` match the lines that the program really writes, and nothing else.

use std::{fs, io, num::NonZeroU32, path::PathBuf, process::Command};

use regex::Regex;
use sallyport_gateway::limits::Offence;

use crate::{
    canary::Canary,
    client::Request,
    instance::{Instance, eventually},
    places,
    skips::skipped,
};

const ADDRESS: &str = r"(?P<address>[0-9a-fA-F.:]+)";
/// Tries to look like a denial of somebody else.
const AGENT: &str = r#"x","client_ip":"192.0.2.66","decision":"deny","code":"bad_credential","#;

fn docs(name: &str) -> PathBuf {
    places::project().join("docs").join(name)
}

/// Returns the value of `key` in a filter.
fn setting(name: &str, key: &str) -> String {
    let text = fs::read_to_string(docs(name)).unwrap();
    let value = text.lines().find_map(|line| line.trim().strip_prefix(key));
    value.unwrap_or_else(|| panic!("{name} has no {key}")).trim_matches([' ', '\'']).to_owned()
}

/// Returns a filter's expression, as fail2ban or CrowdSec interprets it.
fn expression(name: &str, key: &str) -> Regex {
    let text = setting(name, key).replace("<ADDR>", ADDRESS).replace("%{IP:source_ip}", ADDRESS);
    Regex::new(&text.replace("%{TIMESTAMP_ISO8601:timestamp}", r"[0-9T:.-]+Z")).unwrap()
}

fn found(expression: &Regex, lines: impl Iterator<Item = String>) -> Vec<String> {
    lines.filter_map(|line| Some(expression.captures(&line)?["address"].to_owned())).collect()
}

/// Starts an instance that has banned two clients, denied two requests of each, and permitted a third client.
fn instance(canary: &Canary) -> Instance {
    let i = Instance::with(&canary.address.to_string(), |i| {
        i.replace("trusted_proxies = []", "trusted_proxies = [\"127.0.0.0/8\"]");
        i.replace("failed_credentials = 10", "failed_credentials = 2");
        i.replace("forbidden_paths = 20", "forbidden_paths = 2");
    });
    let from =
        |client: &str, request: Request| i.send(&request.header("X-Forwarded-For", client).header("User-Agent", AGENT));
    for n in 0..2 {
        assert_eq!(from("192.0.2.7", Request::new("GET", "/api/downloads").key("sp_wrong")).status, 401);
        assert_eq!(from("2001:db8::7", Request::new("GET", &format!("/{n}"))).status, 404);
        assert_eq!(from("192.0.2.8", Request::new("GET", "/api/downloads")).status, 401);
    }
    let last = from("192.0.2.8", Request::new("GET", "/api/downloads").key(i.key()));
    assert_eq!((last.status, i.log_line(&last)["decision"].as_str()), (200, Some("forward")));
    i
}

fn lines(i: &Instance, file: &str) -> Vec<String> {
    fs::read_to_string(i.path(file)).unwrap().lines().map(str::to_owned).collect()
}

#[test]
fn the_filters_find_every_ban_and_every_strike_and_nothing_else() {
    let canary = Canary::start();
    let i = instance(&canary);
    let log = lines(&i, "stderr");
    let access = lines(&i, "data/access.log");
    let banned = ["192.0.2.7", "2001:db8::7"];
    let fail2ban = expression("fail2ban/sallyport.conf", "failregex =");
    let journal = log.iter().map(|line| format!("nas sallyport[812]: {line}"));
    let undated = log.iter().map(|line| line.trim_start_matches(|c| c != ' ').to_owned());
    assert_eq!(found(&fail2ban, log.iter().cloned()), banned, "{log:?}");
    assert_eq!(found(&fail2ban, journal), banned, "as in systemd's journal");
    assert_eq!(found(&fail2ban, undated), banned, "fail2ban removes the date");
    assert_eq!(found(&expression("crowdsec/sallyport-logs.yaml", "pattern:"), log.into_iter()), banned);

    let denials = expression("fail2ban/sallyport-access.conf", "failregex =");
    let date = Regex::new(r#""ts":"[^"]*""#).unwrap();
    let undated = access.iter().map(|line| date.replace(line, "").into_owned());
    assert_eq!(found(&denials, undated), [banned, banned].concat(), "{access:?}");
}

#[test]
fn the_filters_find_a_ban_for_every_offence() {
    let offences = [Offence::Credentials, Offence::Paths, Offence::Requests].map(|offence| offence(NonZeroU32::MIN));
    for (file, key) in [("fail2ban/sallyport.conf", "failregex ="), ("crowdsec/sallyport-logs.yaml", "pattern:")] {
        let expression = expression(file, key);
        for offence in offences {
            // A new offence does not compile until it is above.
            match offence {
                Offence::Credentials(_) | Offence::Paths(_) | Offence::Requests(_) => {}
            }
            let line = format!("2026-01-01T00:00:00.000000Z  WARN sallyport: banned 192.0.2.66 for 1h: {offence}");
            assert!(expression.is_match(&line), "{file}: {line}");
        }
    }
}

#[test]
fn a_log_line_that_quotes_somebody_else_bans_nobody() {
    let ban = "WARN sallyport: banned 192.0.2.66 for 1h: 10 failed credentials";
    for key in [("fail2ban/sallyport.conf", "failregex ="), ("crowdsec/sallyport-logs.yaml", "pattern:")] {
        let expression = expression(key.0, key.1);
        let line = |begin: &str| format!("2026-01-01T00:00:00.000000Z  {begin}{ban}");
        assert!(expression.is_match(&line("")));
        for begin in ["WARN sallyport_worker: yt-dlp says: ", "WARN sallyport: ", "x Z ", "nas other[1]: "] {
            assert!(!expression.is_match(&line(begin)), "{}: {begin}", key.0);
        }
        assert!(!expression.is_match(&format!("{} and more", line(""))));
    }
}

/// The same with fail2ban itself, if it is installed.
#[test]
fn fail2ban_itself_finds_the_same_lines() {
    let canary = Canary::start();
    let i = instance(&canary);
    for (log, filter, expected) in
        [("stderr", "fail2ban/sallyport.conf", 2), ("data/access.log", "fail2ban/sallyport-access.conf", 4)]
    {
        let ran = Command::new("fail2ban-regex").arg(i.path(log)).arg(docs(filter)).output();
        match ran {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                skipped("fail2ban-regex is not installed");
                return;
            }
            ran => {
                let said = String::from_utf8_lossy(&ran.unwrap().stdout).into_owned();
                assert!(said.contains(&format!(" {expected} matched")), "{filter}: {said}");
            }
        }
    }
}

#[test]
fn the_filters_name_units_that_exist() {
    let unit = setting("fail2ban/sallyport.conf", "journalmatch = _SYSTEMD_UNIT=");
    assert!(docs("../systemd").join(&unit).exists(), "{unit}");
    assert_eq!(setting("crowdsec/acquis.yaml", "- \"_SYSTEMD_UNIT=").trim_end_matches('"'), unit);
}

#[test]
fn the_scenarios_count_the_same_codes_as_the_gateway() {
    let scenarios = fs::read_to_string(docs("crowdsec/sallyport-scenarios.yaml")).unwrap();
    let access = setting("fail2ban/sallyport-access.conf", "failregex =");
    for code in ["bad_credential", "bad_link", "no_route", "bad_path"] {
        assert!(sallyport_gateway::policy::Reason::ALL.iter().any(|reason| reason.code() == code));
        assert!(scenarios.contains(&format!("'{code}'")) && access.contains(code), "{code}");
    }
    let canary = Canary::start();
    let i = instance(&canary);
    let line = eventually("a line", || lines(&i, "data/access.log").into_iter().next());
    let parsed: serde_json::Value = serde_json::from_str(&line).unwrap();
    let parser = fs::read_to_string(docs("crowdsec/sallyport-logs.yaml")).unwrap();
    for field in ["decision", "client_ip", "code", "path", "ts"] {
        assert!(parsed[field].is_string() && parser.contains(&format!("evt.Parsed.message, '{field}')")), "{field}");
    }
}
