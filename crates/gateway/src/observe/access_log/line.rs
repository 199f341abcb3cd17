//! One line of the access log, in either format. Overlong client input is truncated, and its length is logged.

use std::{io::Write, time::Duration};

use jiff::Timestamp;
use sallyport_core::{addresses::network_name, config::AccessFormat};

use super::{
    entry::{Entry, LoggedRequest},
    summary::OmissionSummary,
};

/// Maximum length of a logged path, in bytes; a path may be four times as long as the longest file name.
const MAX_PATH: usize = 1_024;
/// The longest DNS name, with a port.
const MAX_HOST: usize = 261;
const MAX_USER_AGENT: usize = 256;
const MAX_METHOD: usize = 32;

/// A text that fits into a line, and the length of the whole text if it was truncated.
#[derive(Clone, Copy)]
struct Truncated<'a>(&'a str, Option<usize>);

impl Entry<'_> {
    /// Appends the line.
    pub(super) fn write(&self, format: AccessFormat, out: &mut Vec<u8>) {
        match format {
            AccessFormat::Json => write_json(out, self),
            AccessFormat::Combined => write_combined(out, self),
        }
        out.push(b'\n');
    }
}

impl OmissionSummary {
    /// Appends the line.
    pub(super) fn write(&self, format: AccessFormat, now: Timestamp, out: &mut Vec<u8>) {
        let Self { decision, code, status, count, why, .. } = *self;
        let client = self.client.map(network_name);
        let user = self.user.as_deref();
        match format {
            AccessFormat::Json => {
                let _ = write!(out, "{{\"ts\":\"{now}\"");
                write_text(out, "client_ip", client.as_deref());
                if user.is_some() {
                    write_text(out, "user", user);
                }
                write_text(out, "decision", decision);
                write_text(out, "code", code);
                let _ = writeln!(out, ",\"status\":{status},\"more\":{count},\"why\":\"{}\"}}", why.name());
            }
            AccessFormat::Combined => {
                let client = client.as_deref().unwrap_or("-");
                let time = combined_time(now);
                let why = why.name();
                let user = user.unwrap_or("-");
                let _ = writeln!(
                    out,
                    "{client} - {user} [{time}] \"-\" {status} 0 \"-\" \"sallyport: {count} more like this ({why})\""
                );
            }
        }
    }
}

impl<'a> Truncated<'a> {
    fn at(text: &'a str, max: usize) -> Self {
        match text.get(..text.floor_char_boundary(max)) {
            Some(start) if start.len() < text.len() => Self(start, Some(text.len())),
            _ => Self(text, None),
        }
    }
}

/// Writes one JSON object. This is done by hand because every request pays for it: most texts need no escapes and are copied.
fn write_json(out: &mut Vec<u8>, entry: &Entry<'_>) {
    let _ = write!(out, "{{\"ts\":\"{}\",\"client_ip\":\"{}\"", entry.ts, entry.client_ip);
    write_text(out, "request_id", Some(entry.request_id));
    let asked = entry.asked;
    write_cut(out, "method", "method_length", asked.map(|asked| Truncated::at(asked.method, MAX_METHOD)));
    write_cut(out, "host", "host_length", asked.map(|asked| Truncated::at(asked.host, MAX_HOST)));
    write_cut(out, "path", "path_length", asked.map(|asked| Truncated::at(asked.path, MAX_PATH)));
    for (name, text) in [
        ("route", entry.route),
        ("app", entry.app),
        ("user", entry.user),
        ("credential", entry.credential),
        ("decision", Some(entry.decision.name())),
        ("code", entry.code),
        ("tls", entry.tls),
        ("http", asked.map(|asked| asked.http)),
    ] {
        write_text(out, name, text);
    }
    write_cut(out, "user_agent", "user_agent_length", entry.user_agent.map(|text| Truncated::at(text, MAX_USER_AGENT)));
    let Entry { status, bytes_in, bytes_out, .. } = entry;
    let _ = write!(out, ",\"status\":{status},\"bytes_in\":{bytes_in},\"bytes_out\":{bytes_out}");
    write_millis(out, "duration_ms", Some(entry.duration));
    write_millis(out, "upstream_ms", entry.upstream);
    out.push(b'}');
}

fn write_cut(out: &mut Vec<u8>, name: &str, length_name: &str, cut: Option<Truncated<'_>>) {
    let Some(Truncated(text, length)) = cut else { return write_text(out, name, None) };
    write_text(out, name, Some(text));
    if let Some(length) = length {
        write_name(out, length_name);
        let _ = write!(out, "{length}");
    }
}

fn write_text(out: &mut Vec<u8>, name: &str, text: Option<&str>) {
    write_name(out, name);
    match text {
        None => out.extend_from_slice(b"null"),
        Some(text) if text.bytes().all(|b| b >= 0x20 && b != b'"' && b != b'\\') => {
            out.push(b'"');
            out.extend_from_slice(text.as_bytes());
            out.push(b'"');
        }
        Some(text) => {
            let _ = serde_json::to_writer(out, text);
        }
    }
}

fn write_millis(out: &mut Vec<u8>, name: &str, duration: Option<Duration>) {
    write_name(out, name);
    let _ = match duration.map(|d| d.as_micros()) {
        None => write!(out, "null"),
        Some(micros) => write!(out, "{}.{:03}", micros / 1_000, micros % 1_000),
    };
}

fn write_name(out: &mut Vec<u8>, name: &str) {
    out.extend_from_slice(b",\"");
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b"\":");
}

/// Writes Apache's combined format; quotes, backslashes and control characters are escaped as Apache does.
fn write_combined(out: &mut Vec<u8>, entry: &Entry<'_>) {
    let user = entry.user.unwrap_or("-");
    let line = |asked: LoggedRequest<'_>| {
        let method = Truncated::at(asked.method, MAX_METHOD);
        let path = Truncated::at(asked.path, MAX_PATH);
        format!("{} {} {}", escaped(&method), escaped(&path), asked.http)
    };
    let line = entry.asked.map_or_else(|| "-".to_owned(), line);
    let time = combined_time(entry.ts);
    let agent = escaped(&Truncated::at(entry.user_agent.unwrap_or("-"), MAX_USER_AGENT));
    let ip = entry.client_ip;
    let status = entry.status;
    let bytes = entry.bytes_out;
    let _ = write!(out, "{ip} - {user} [{time}] \"{line}\" {status} {bytes} \"-\" \"{agent}\"");
}

/// Escapes a text. A truncated one ends in the length of the whole, such as `/aaa...[3950]`.
fn escaped(Truncated(text, length): &Truncated<'_>) -> String {
    let text = text.escape_default();
    length.map_or_else(|| text.to_string(), |length| format!("{text}...[{length}]"))
}

fn combined_time(at: Timestamp) -> String {
    at.strftime("%d/%b/%Y:%H:%M:%S +0000").to_string()
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::observe::{Verdict, access_log::summary::Omission};

    /// An allowed request of a user.
    pub(in super::super) fn entry() -> Entry<'static> {
        Entry {
            ts: Timestamp::UNIX_EPOCH,
            request_id: "r1",
            client_ip: "192.0.2.1".parse().unwrap(),
            asked: Some(LoggedRequest { method: "GET", host: "h", path: "/a\"b", http: "HTTP/2" }),
            route: None,
            app: Some("downloads"),
            user: Some("ana"),
            credential: Some("api-key"),
            link: None,
            decision: Verdict::Forward,
            code: None,
            status: 200,
            bytes_in: 0,
            bytes_out: 5,
            duration: Duration::from_micros(1_050),
            upstream: None,
            tls: Some("TLSv1.3"),
            user_agent: Some("x\n\"y"),
        }
    }

    fn written_of(entry: &Entry<'_>, format: AccessFormat) -> String {
        let mut line = Vec::new();
        entry.write(format, &mut line);
        String::from_utf8(line).unwrap()
    }

    fn json(line: &str) -> serde_json::Value {
        serde_json::from_str(line).unwrap()
    }

    #[test]
    fn nothing_a_client_sends_can_break_out_of_its_line() {
        let line = written_of(&entry(), AccessFormat::Json);
        assert_eq!(line.lines().count(), 1);
        let expected = serde_json::json!({
            "ts": "1970-01-01T00:00:00Z", "request_id": "r1", "client_ip": "192.0.2.1", "method": "GET", "host": "h",
            "path": "/a\"b", "route": null, "app": "downloads", "user": "ana", "credential": "api-key", "decision": "forward",
            "code": null, "status": 200, "bytes_in": 0, "bytes_out": 5, "duration_ms": 1.05, "upstream_ms": null,
            "tls": "TLSv1.3", "http": "HTTP/2", "user_agent": "x\n\"y",
        });
        assert_eq!(json(&line), expected);
        assert_eq!(
            written_of(&entry(), AccessFormat::Combined),
            "192.0.2.1 - ana [01/Jan/1970:00:00:00 +0000] \"GET /a\\\"b HTTP/2\" 200 5 \"-\" \"x\\n\\\"y\"\n"
        );
    }

    #[test]
    fn fields_of_an_unreadable_head_are_null() {
        let unread = Entry { asked: None, ..entry() };
        let value = json(&written_of(&unread, AccessFormat::Json));
        assert!(["method", "host", "path", "http"].iter().all(|name| value[name].is_null()), "{value}");
        assert!(written_of(&unread, AccessFormat::Combined).contains("] \"-\" 200 5 "));
    }

    #[test]
    fn long_texts_are_truncated_at_a_character_boundary_and_their_length_is_logged() {
        let path = format!("/{}", "é".repeat(2_000));
        let name = "n".repeat(4_000);
        let asked = Some(LoggedRequest { method: &name, host: &name, path: &path, http: "HTTP/2" });
        let entry = Entry { asked, user_agent: Some(&name), ..entry() };
        let value = json(&written_of(&entry, AccessFormat::Json));
        assert_eq!(value["path"].as_str(), path.get(..1_023));
        assert_eq!((&value["path_length"], &value["host_length"]), (&4_001.into(), &4_000.into()));
        assert_eq!((&value["method_length"], &value["user_agent_length"]), (&4_000.into(), &4_000.into()));
        let short = ["method", "host", "user_agent"].map(|field| value[field].as_str().unwrap().len());
        assert_eq!(short, [MAX_METHOD, MAX_HOST, MAX_USER_AGENT]);
        let line = written_of(&entry, AccessFormat::Combined);
        assert!(line.contains("...[4001] HTTP/2\"") && line.contains("n...[4000]\""), "{line}");
    }

    #[test]
    fn a_summary_has_the_format_of_other_lines() {
        let client = Some("2001:db8::".parse().unwrap());
        let decision = Some("deny");
        let code = Some("no_route");
        let more =
            OmissionSummary { client, user: None, decision, code, status: 404, count: 7, why: Omission::ClientBudget };
        let of_user = OmissionSummary { user: Some("ana".into()), ..more.clone() };
        let of = |more: &OmissionSummary, format| {
            let mut line = Vec::new();
            more.write(format, Timestamp::UNIX_EPOCH, &mut line);
            String::from_utf8(line).unwrap()
        };
        let written = |format| of(&more, format);
        let expected = serde_json::json!({
            "ts": "1970-01-01T00:00:00Z", "client_ip": "2001:db8::/64", "decision": "deny", "code": "no_route", "status": 404,
            "more": 7, "why": "client_budget",
        });
        assert_eq!(json(&written(AccessFormat::Json)), expected);
        assert_eq!(
            written(AccessFormat::Combined),
            "2001:db8::/64 - - [01/Jan/1970:00:00:00 +0000] \"-\" 404 0 \"-\" \"sallyport: 7 more like this (client_budget)\"\n"
        );
        assert_eq!(json(&of(&of_user, AccessFormat::Json))["user"], "ana");
        assert!(of(&of_user, AccessFormat::Combined).starts_with("2001:db8::/64 - ana ["));
    }
}
