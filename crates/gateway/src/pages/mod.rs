//! What the gateway answers itself: the admin listener, the plaintext listener and the pages for browsers.

pub(super) mod admin;
pub(super) mod plaintext;
pub(super) mod redirect;
pub(super) mod trust_page;
pub(super) mod welcome;
