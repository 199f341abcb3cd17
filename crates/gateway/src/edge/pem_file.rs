//! Diagnoses certificate and key files that are not the expected PEM, and says how to convert them.

/// The expected contents of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PemContent {
    Certificate,
    Key,
}

/// Returns what the file is instead, and how to fix it; `None` if it looks right.
pub(super) fn fault(bytes: &[u8], wanted: PemContent) -> Option<&'static str> {
    let has = |marker: &str| memchr::memmem::find(bytes, marker.as_bytes()).is_some();
    let key = has("PRIVATE KEY-----");
    let certificate = has("-----BEGIN CERTIFICATE-----");
    Some(match wanted {
        _ if bytes.trim_ascii().is_empty() => "is empty",
        _ if bytes.starts_with(b"\xef\xbb\xbf") => {
            "begins with a byte order mark, which some editors add; remove it: sed -i '1s/^\\xef\\xbb\\xbf//' FILE"
        }
        _ if bytes.starts_with(b"\xff\xfe") || bytes.starts_with(b"\xfe\xff") => {
            "is UTF-16; convert it: iconv -f UTF-16 -t UTF-8 FILE >NEW"
        }
        _ if is_pkcs12(bytes) => "is PKCS#12, not PEM; convert it: openssl pkcs12 -in FILE -nodes -out NEW",
        PemContent::Certificate if is_der(bytes) => {
            "is DER, not PEM; convert it: openssl x509 -inform der -in FILE -out NEW"
        }
        PemContent::Key if is_der(bytes) => "is DER, not PEM; convert it: openssl pkey -inform der -in FILE -out NEW",
        PemContent::Key if has("BEGIN ENCRYPTED PRIVATE KEY") || has("Proc-Type: 4,ENCRYPTED") => {
            "is encrypted with a passphrase, and Sallyport cannot ask for one; store the key without it: openssl pkey -in FILE -out NEW"
        }
        PemContent::Key if certificate && !key => {
            "holds a certificate and no key; the `cert` and `key` settings may be swapped"
        }
        PemContent::Certificate if key && !certificate => {
            "holds a key and no certificate; the `cert` and `key` settings may be swapped"
        }
        PemContent::Certificate if has("BEGIN CERTIFICATE REQUEST") => {
            "is a certificate request; use the certificate that the authority issued for it"
        }
        PemContent::Certificate if has("BEGIN TRUSTED CERTIFICATE") => {
            "is in OpenSSL's own format; convert it: openssl x509 -in FILE -out NEW"
        }
        PemContent::Key if !key => "holds no private key in PEM, which begins with -----BEGIN PRIVATE KEY-----",
        PemContent::Certificate if !certificate => {
            "holds no certificate in PEM, which begins with -----BEGIN CERTIFICATE-----"
        }
        PemContent::Key | PemContent::Certificate => return None,
    })
}

/// Returns true for a sequence of definite length, as certificates and keys are (X.690, section 8.1.3).
fn is_der(bytes: &[u8]) -> bool {
    matches!(bytes, [0x30, 0x81 | 0x82, ..])
}

/// Returns true for a sequence that begins with version 3 (RFC 7292, section 4), of definite or indefinite length.
fn is_pkcs12(bytes: &[u8]) -> bool {
    matches!(bytes, [0x30, 0x82, _, _, 2, 1, 3, ..] | [0x30, 0x80, 2, 1, 3, ..] | [0x30, 0x81, _, 2, 1, 3, ..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_actual_type_of_a_file_is_reported() {
        const CERT: &[u8] = b"-----BEGIN CERTIFICATE-----\nMA==\n-----END CERTIFICATE-----\n";
        const KEY: &[u8] = b"-----BEGIN PRIVATE KEY-----\nMA==\n-----END PRIVATE KEY-----\n";
        assert_eq!((fault(CERT, PemContent::Certificate), fault(KEY, PemContent::Key)), (None, None));
        for (bytes, wanted, words) in [
            (&b" \n"[..], PemContent::Key, "is empty"),
            (&[b"\xef\xbb\xbf", CERT].concat(), PemContent::Certificate, "byte order mark"),
            (b"\xff\xfe-\0", PemContent::Certificate, "UTF-16"),
            (&[0x30, 0x82, 3, 4, 0x30], PemContent::Certificate, "x509 -inform der"),
            (&[0x30, 0x82, 3, 4, 2, 1, 0], PemContent::Key, "pkey -inform der"),
            (&[0x30, 0x82, 3, 4, 2, 1, 3], PemContent::Key, "PKCS#12"),
            (b"-----BEGIN ENCRYPTED PRIVATE KEY-----\n", PemContent::Key, "passphrase"),
            (b"-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\n", PemContent::Key, "passphrase"),
            (CERT, PemContent::Key, "swapped"),
            (KEY, PemContent::Certificate, "swapped"),
            (b"-----BEGIN CERTIFICATE REQUEST-----\n", PemContent::Certificate, "request"),
            (b"hello", PemContent::Key, "no private key"),
        ] {
            assert!(fault(bytes, wanted).is_some_and(|fault| fault.contains(words)), "{words}");
        }
    }
}
