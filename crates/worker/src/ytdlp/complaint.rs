//! Why yt-dlp failed, as one short line that reveals nothing about this machine to a client.

use std::time::Duration;

/// The first error of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct YtDlpError {
    pub(crate) kind: Kind,
    pub(crate) message: String,
    /// The site accepts no further requests before this time has passed (`Retry-After`).
    pub(crate) wait: Option<Duration>,
}

/// The kind of a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// This server's disk is full.
    DiskFull,
    /// The file exceeds the limit.
    TooLarge,
    /// The site could not be reached.
    Unreachable,
    /// The egress guard forbids the destination.
    Forbidden,
    /// The site was reached but failed, and may work later.
    Faltering,
    /// The URL of the media file has expired; the page has a new one.
    Expired,
    /// The site or the page is at fault, and a retry would not help.
    Other,
}

const MAX_MESSAGE: usize = 300;

/// From these on, the message is advice for people at a terminal.
const ADVICE: [&str; 5] =
    ["; please report this issue", "; Confirm you are", ". Confirm you are", ". Use --", " (caused by "];

/// What the message contains for each kind. The first match counts.
const SIGNS: [(&str, Kind); 32] = [
    ("No space left on device", Kind::DiskFull),
    ("Disk quota exceeded", Kind::DiskFull),
    ("File too large", Kind::TooLarge),
    ("larger than max-filesize", Kind::TooLarge),
    ("Failed to resolve", Kind::Unreachable),
    ("Name or service not known", Kind::Unreachable),
    ("name resolution", Kind::Unreachable),
    ("No address associated", Kind::Unreachable),
    ("Connection refused", Kind::Unreachable),
    ("Network is unreachable", Kind::Unreachable),
    ("No route to host", Kind::Unreachable),
    ("Tunnel connection failed: 403", Kind::Forbidden),
    ("Tunnel connection failed", Kind::Unreachable),
    // The guard's response to an expired egress token, for example after the clock was set; a retry gets a new one.
    ("HTTP Error 407", Kind::Unreachable),
    // The guard's response if it could not reach the site.
    ("HTTP Error 502: Host Not Reached", Kind::Unreachable),
    // The guard's response for a private host; sites use other words.
    ("HTTP Error 403: Host Not Allowed", Kind::Forbidden),
    // Only for media, not for pages: yt-dlp's messages for a single file and for fragments.
    ("unable to download video data: HTTP Error 403", Kind::Expired),
    ("unable to download video data: HTTP Error 410", Kind::Expired),
    ("Got error: HTTP Error 403", Kind::Expired),
    ("Got error: HTTP Error 410", Kind::Expired),
    ("the source has changed while it was fetched", Kind::Faltering),
    ("HTTP Error 408", Kind::Faltering),
    ("HTTP Error 425", Kind::Faltering),
    ("HTTP Error 429", Kind::Faltering),
    ("HTTP Error 4", Kind::Other),
    ("HTTP Error 5", Kind::Faltering),
    ("timed out", Kind::Unreachable),
    ("Connection reset", Kind::Faltering),
    ("Connection aborted", Kind::Faltering),
    ("Remote end closed connection", Kind::Faltering),
    ("more expected", Kind::Faltering),
    ("Did not get any data blocks", Kind::Faltering),
];

impl YtDlpError {
    /// Parses a line of stderr; `None` if it is not an error.
    pub(crate) fn parse(line: &str) -> Option<Self> {
        let text = line.strip_prefix("ERROR:")?.trim();
        let kind = SIGNS.into_iter().find(|(sign, _)| text.contains(sign)).map_or(Kind::Other, |(_, kind)| kind);
        let message = match kind {
            Kind::DiskFull => "the disk is full".to_owned(),
            Kind::TooLarge => "the file is larger than the limit".to_owned(),
            Kind::Unreachable | Kind::Forbidden => "the site could not be reached".to_owned(),
            Kind::Faltering | Kind::Expired | Kind::Other => clean(text),
        };
        Some(Self { kind, message, wait: wait(text) })
    }
}

impl Kind {
    /// Returns true if a later retry may succeed.
    pub(crate) fn is_temporary(self) -> bool {
        matches!(self, Self::Unreachable | Self::Faltering | Self::Expired)
    }
}

/// Parses the wait that the companion plugin adds to the message.
fn wait(text: &str) -> Option<Duration> {
    let (_, rest) = text.rsplit_once("(retry after ")?;
    rest.split_once(" s)")?.0.parse().ok().map(Duration::from_secs)
}

/// Shortens a line for the log to `most` characters, and cuts the query and the fragment of URLs, which may contain a user's secret.
pub(crate) fn for_the_log(line: &str, most: usize) -> String {
    let words = line.split(' ').map(|word| {
        match word.find("://").and_then(|at| Some(at + word.get(at..)?.find(['?', '#'])?)) {
            Some(end) => format!("{}…", word.get(..end).unwrap_or_default()),
            None => word.to_owned(),
        }
    });
    words.collect::<Vec<_>>().join(" ").chars().take(most).collect()
}

/// Removes advice, paths and URLs from the text.
fn clean(text: &str) -> String {
    let end = ADVICE.iter().filter_map(|advice| text.find(advice)).min();
    let text = end.and_then(|end| text.get(..end)).unwrap_or(text);
    let words = text.split_whitespace().map(|word| if names_a_place(word) { "…" } else { word });
    let joined = words.collect::<Vec<_>>().join(" ");
    let cut: String = joined.chars().filter(|c| !c.is_control()).take(MAX_MESSAGE).collect();
    if cut.is_empty() { "the download failed".to_owned() } else { cut }
}

fn names_a_place(word: &str) -> bool {
    word.contains(['/', '\\'])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(line: &str) -> String {
        YtDlpError::parse(line).unwrap().message
    }

    #[test]
    fn paths_and_urls_are_not_revealed() {
        let line = "ERROR: Postprocessing: file:/srv/media/.jobs/1/tmp/media.mp4: Invalid argument";
        assert_eq!(message(line), "Postprocessing: … Invalid argument");
        assert_eq!(message("ERROR: unable to open '/etc/x y' http://10.0.0.1/a"), "unable to open … y' …");
        assert_eq!(message("ERROR: [yt] x: Gone (caused by <HTTPError 410: Gone>)"), "[yt] x: Gone");
        assert_eq!(message("ERROR: [x] y: No such format. Use --list-formats for a list"), "[x] y: No such format");
        assert_eq!(message(&format!("ERROR: {}", "é".repeat(900))).chars().count(), 300);
        assert_eq!(message("ERROR:"), "the download failed");
    }

    #[test]
    fn secrets_in_urls_do_not_reach_the_log() {
        let line = "ERROR: Unsupported URL: https://e.com/a?token=secret#x (see https://e.com/help) is it?";
        let logged = "ERROR: Unsupported URL: https://e.com/a… (see https://e.com/help) is it?";
        assert_eq!(for_the_log(line, 500), logged);
        assert_eq!(for_the_log("ERROR: éé", 8), "ERROR: é");
    }

    #[test]
    fn a_full_disk_a_large_file_and_a_dead_site_are_recognised() {
        let kind = |line| YtDlpError::parse(line).unwrap().kind;
        assert_eq!(kind("ERROR: unable to write data: [Errno 28] No space left on device"), Kind::DiskFull);
        assert_eq!(kind("ERROR: unable to write data: [Errno 27] File too large"), Kind::TooLarge);
        assert_eq!(kind("ERROR: [x] Unable to download: Failed to resolve 'a.b'"), Kind::Unreachable);
        assert_eq!(kind("ERROR: Unsupported URL"), Kind::Other);
        assert_eq!(YtDlpError::parse("WARNING: x"), None);
    }

    #[test]
    fn the_wait_that_a_site_requires_is_parsed() {
        let wait = |text: &str| YtDlpError::parse(&format!("ERROR: {text}")).unwrap().wait.map(|wait| wait.as_secs());
        let limited =
            "[x] Unable to download webpage: HTTP Error 429: Too Many Requests (retry after 120 s) (caused by <x>)";
        assert_eq!(wait(limited), Some(120));
        for text in ["HTTP Error 429: Too Many Requests", "(retry after -1 s)", "(retry after x s)", "(retry after 5"] {
            assert_eq!(wait(text), None, "{text}");
        }
    }

    #[test]
    fn transient_failures_are_distinguished_from_permanent_ones() {
        let is_temporary = |text: &str| YtDlpError::parse(&format!("ERROR: {text}")).unwrap().kind.is_temporary();
        for text in [
            "[generic] Unable to download webpage: HTTP Error 503: Service Unavailable",
            "unable to download video data: HTTP Error 429: Too Many Requests",
            "[download] Got error: ('Connection aborted.', ConnectionResetError(104, 'Connection reset by peer'))",
            "[download] Got error: 4096 bytes read, 1000 more expected. Giving up after 3 retries",
            "Unable to connect to proxy: Tunnel connection failed: 502 Bad Gateway",
            "The read operation timed out",
            "unable to download video data: HTTP Error 403: Forbidden",
            "\r[download] Got error: HTTP Error 403: Forbidden. Giving up after 3 retries",
            "the source has changed while it was fetched",
        ] {
            assert!(is_temporary(text), "{text}");
        }
        for text in [
            "[generic] Unable to download webpage: HTTP Error 404: Not Found",
            "[generic] Unable to download webpage: HTTP Error 403: Forbidden",
            "Unable to connect to proxy: Tunnel connection failed: 403 Forbidden",
            "unable to download video data: HTTP Error 403: Host Not Allowed",
            "unable to download video data: HTTP Error 404: Not Found",
            "Unsupported URL: https://example.com/",
            "fragment 3 not found, unable to continue",
            "unable to write data: [Errno 28] No space left on device",
        ] {
            assert!(!is_temporary(text), "{text}");
        }
    }
}
