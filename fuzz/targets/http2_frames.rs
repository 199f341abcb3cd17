//! The verdict on frames does not depend on how their bytes are split.

use std::time::Instant;

use sallyport_core::http1::{FrameFault, FrameWatch};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

pub fn run(data: &[u8]) {
    let bytes = [PREFACE, data].concat();
    let whole = watch(&bytes, bytes.len());
    for step in [1, 5, 9, 10] {
        assert_eq!(watch(&bytes, step), whole, "in pieces of {step}");
    }
    // Five hundred repetitions are a flood only if the frames carry nothing.
    if !data.is_empty() {
        let again = data.repeat(500);
        assert_eq!(watch(&[PREFACE, &again].concat(), 4_096), watch(&[PREFACE, &again].concat(), 16_384));
    }
}

fn watch(bytes: &[u8], step: usize) -> Result<(), FrameFault> {
    let mut watch = FrameWatch::default();
    let now = Instant::now();
    bytes.chunks(step).try_for_each(|piece| watch.see(piece, 0, now))
}
