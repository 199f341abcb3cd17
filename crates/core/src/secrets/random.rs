//! Random bytes, from the operating system only.

/// Returns `N` bytes from the operating system's generator.
///
/// # Panics
/// Panics if the operating system cannot provide randomness.
#[must_use]
#[expect(clippy::expect_used, reason = "no secret may ever be created without randomness")]
pub fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).expect("the operating system provides random bytes");
    bytes
}
