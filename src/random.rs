//! Randomness, from the operating system only.

/// `N` bytes from the operating system's generator.
///
/// # Panics
/// When the operating system has no randomness, since nothing safe can be done without.
#[must_use]
#[expect(clippy::expect_used, reason = "no secret may ever be made without randomness")]
pub fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).expect("the operating system gives random bytes");
    bytes
}
