//! Where the host of an authority ends and its port begins (RFC 3986, section 3.2).

/// An authority without user information, as written. Neither part is judged: the host can be empty or no host at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Authority<'a> {
    /// The host, an IPv6 address with its brackets.
    pub host: &'a str,
    /// The digits after the last colon, of which there can be none; `None` without such a colon.
    pub port: Option<&'a str>,
}

impl<'a> Authority<'a> {
    /// Splits `text` at its last colon if only digits follow. The last colon of `[::1]` is followed by a bracket too.
    #[must_use]
    pub fn split(text: &'a str) -> Self {
        match text.rsplit_once(':') {
            Some((host, port)) if port.bytes().all(|b| b.is_ascii_digit()) => Self { host, port: Some(port) },
            Some(_) | None => Self { host: text, port: None },
        }
    }

    /// Returns the port as a number; `None` if there is none, or none that TCP has.
    #[must_use]
    pub fn port_number(&self) -> Option<u16> {
        self.port?.parse().ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_port_is_the_digits_after_the_last_colon() {
        for (text, host, port, number) in [
            ("h", "h", None, None),
            ("h:8443", "h", Some("8443"), Some(8443)),
            ("192.0.2.1:80", "192.0.2.1", Some("80"), Some(80)),
            ("h:", "h", Some(""), None),
            ("h:0", "h", Some("0"), Some(0)),
            ("h:00080", "h", Some("00080"), Some(80)),
            ("h:65535", "h", Some("65535"), Some(65535)),
            ("h:65536", "h", Some("65536"), None),
            ("h:x", "h:x", None, None),
            ("h:+80", "h:+80", None, None),
            ("h: 80", "h: 80", None, None),
            ("[::1]", "[::1]", None, None),
            ("[::1]:8443", "[::1]", Some("8443"), Some(8443)),
            ("[::1]:", "[::1]", Some(""), None),
            ("[::1]x", "[::1]x", None, None),
            ("[2001:db8::10]", "[2001:db8::10]", None, None),
            ("", "", None, None),
            (":", "", Some(""), None),
            (":80", "", Some("80"), Some(80)),
            // None of these is an authority, so what is left of the port is no host.
            ("::1", ":", Some("1"), Some(1)),
            ("a:b:1", "a:b", Some("1"), Some(1)),
            ("h:1:2", "h:1", Some("2"), Some(2)),
            ("[::1", "[:", Some("1"), Some(1)),
        ] {
            let authority = Authority::split(text);
            assert_eq!(authority, Authority { host, port }, "{text:?}");
            assert_eq!(authority.port_number(), number, "{text:?}");
        }
    }
}
