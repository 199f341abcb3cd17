//! Parses untrusted WebVTT and re-serialises what it understands: cues and nothing else.
//!
//! Styles, regions and comments are dropped: players do not need them to show the text, and a style sheet can do more than style text.

use thiserror::Error;

/// The error for a text that is not WebVTT or has no cue to show.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("not WebVTT")]
pub struct NotWebVtt;

const ARROW: &str = "-->";

/// The settings of a cue that are kept (WebVTT, section 4.4). `region` is not one of them, because regions are dropped.
const SETTINGS: [&str; 5] = ["vertical", "line", "position", "size", "align"];

/// The largest number of hours in a timestamp.
const MAX_HOURS: u32 = 999;

/// A position in the video, in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct CueTime(u32);

/// Re-serialises the cues of `text` in their order.
pub fn rewrite(text: &str) -> Result<String, NotWebVtt> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text).replace("\r\n", "\n").replace('\r', "\n");
    let body = text.strip_prefix("WEBVTT").filter(|rest| rest.is_empty() || rest.starts_with([' ', '\t', '\n']));
    // The first block is the header.
    let mut lines =
        body.ok_or(NotWebVtt)?.lines().skip_while(|line| !line.is_empty() && !line.contains(ARROW)).peekable();
    let mut written = String::from("WEBVTT\n");
    while let Some(line) = lines.next() {
        let Some(timing) = timing(line) else { continue };
        let mut cue = String::new();
        // A cue ends at an empty line, or where the next one begins without one.
        while let Some(line) = lines.next_if(|line| !line.is_empty() && !line.contains(ARROW)) {
            cue.extend(line.chars().filter(|c| !c.is_control() || *c == '\t'));
            cue.push('\n');
        }
        if !cue.trim().is_empty() {
            written.extend(["\n", &timing, "\n", &without_empty_lines(&cue)]);
        }
    }
    if written.contains(ARROW) { Ok(written) } else { Err(NotWebVtt) }
}

/// Removes empty lines, which would end the cue. Lines of control characters alone have become empty.
fn without_empty_lines(cue: &str) -> String {
    cue.lines().filter(|line| !line.is_empty()).flat_map(|line| [line, "\n"]).collect()
}

/// Returns the timing line of a cue, re-serialised.
fn timing(line: &str) -> Option<String> {
    let (start, rest) = line.split_once(ARROW)?;
    let mut words = rest.split_ascii_whitespace();
    let start = CueTime::parse(start.trim())?;
    let end = CueTime::parse(words.next()?)?;
    let settings: String = words.filter(|word| is_setting(word)).flat_map(|word| [" ", word]).collect();
    (start < end).then(|| format!("{} {ARROW} {}{settings}", start.write(), end.write()))
}

fn is_setting(word: &str) -> bool {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"%.,-".contains(&b);
    word.split_once(':').is_some_and(|(name, value)| {
        SETTINGS.contains(&name) && !value.is_empty() && value.bytes().all(plain) && !value.contains(ARROW)
    })
}

impl CueTime {
    /// Parses `hh:mm:ss.ttt` or `mm:ss.ttt`.
    fn parse(text: &str) -> Option<Self> {
        let (clock, thousandths) = text.split_once('.')?;
        let mut parts = clock.split(':').map(number);
        let first = parts.next()??;
        let second = parts.next()??;
        let third = parts.next();
        let (hours, minutes, seconds) = match third {
            Some(third) => (first, second, third?),
            None => (0, first, second),
        };
        let good =
            parts.next().is_none() && hours <= MAX_HOURS && minutes < 60 && seconds < 60 && thousandths.len() == 3;
        // Computed only now, because larger values could overflow.
        if !good {
            return None;
        }
        Some(Self(((hours * 60 + minutes) * 60 + seconds) * 1_000 + number(thousandths)?))
    }

    fn write(self) -> String {
        let seconds = self.0 / 1_000;
        let thousandths = self.0 % 1_000;
        format!("{:02}:{:02}:{:02}.{thousandths:03}", seconds / 3_600, seconds / 60 % 60, seconds % 60)
    }
}

fn number(text: &str) -> Option<u32> {
    let digits = (1..=4).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit());
    text.parse().ok().filter(|_| digits)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_cues_are_kept() {
        let text = "\u{feff}WEBVTT Kind: captions; Language: en\r\nX-HEADER: 1\r\n\r\nSTYLE\r\n::cue { background: url(//evil) }\r\n\r\n\
            NOTE hello\r\n\r\nREGION\r\nid:r\r\n\r\nfirst\r\n00:01.000 --> 00:02.500 align:start region:r position:10%,line-left x:<script>\r\n\
            <v Ana>Hello &amp; <c.yellow>you</c>\r\nthere\r\n\r\n01:00:00.000-->01:00:01.000\r\n\u{0}añ\u{7}o\r\n";
        let expected = "WEBVTT\n\n00:00:01.000 --> 00:00:02.500 align:start position:10%,line-left\n<v Ana>Hello &amp; <c.yellow>you</c>\nthere\n\
            \n01:00:00.000 --> 01:00:01.000\naño\n";
        assert_eq!(rewrite(text).as_deref(), Ok(expected));
        assert_eq!(rewrite(expected).as_deref(), Ok(expected), "the output is stable");
    }

    #[test]
    fn invalid_cues_are_dropped_and_valid_ones_kept() {
        let cue = "00:00:05.000 --> 00:00:06.000\nyes\n";
        for other in [
            "00:00:02.000 --> 00:00:01.000\nends before it begins\n",
            "00:00:01 --> 00:00:02\nno thousandths\n",
            "00:61:00.000 --> 01:02:00.000\nno such minute\n",
            "99999:00:00.000 --> 99999:00:01.000\ntoo long\n",
            "1200:00:00.000 --> 1200:00:01.000\ntoo long\n",
            "9999:9999:9999.999 --> 9999:9999:9999.9999\ntoo much of everything\n",
            "9999:9999.000 --> 9999:9999.001\nwithout hours\n",
            "1:00:00:00.000 --> 2:00:00:00.000\nfour parts\n",
            "+1:00.000 --> 00:02:00.000\na sign\n",
            "00:00:01.000 --> 00:00:02.000\n",
            "00:00:01.000 --> 00:00:02.000\n\u{0}\n",
            "no cue\n",
        ] {
            assert_eq!(rewrite(&format!("WEBVTT\n\n{other}\n{cue}")).unwrap(), format!("WEBVTT\n\n{cue}"), "{other}");
        }
        let joined = format!("WEBVTT\n00:00:01.000 --> 00:00:02.000\na\n{cue}");
        assert_eq!(rewrite(&joined).unwrap(), format!("WEBVTT\n\n00:00:01.000 --> 00:00:02.000\na\n\n{cue}"));
        let blank = "WEBVTT\n\n00:00:01.000 --> 00:00:02.000\na\n\u{1}\nb\n";
        assert_eq!(rewrite(blank).unwrap(), "WEBVTT\n\n00:00:01.000 --> 00:00:02.000\na\nb\n");
    }

    #[test]
    fn other_texts_are_rejected() {
        for text in [
            "",
            "WEBVTT",
            "WEBVTT\n\nSTYLE\n::cue {}\n",
            "WEBVTTX\n\n00:01.000 --> 00:02.000\na\n",
            "#EXTM3U\n",
            "<html><script>alert(1)</script></html>",
            "1\n00:00:01,000 --> 00:00:02,000\na\n",
            "WEBVTT\n\nonly --> words\n",
        ] {
            assert_eq!(rewrite(text), Err(NotWebVtt), "{text}");
        }
    }
}
