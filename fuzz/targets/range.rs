//! A range lies within its file, and the range that is sent can be requested again.

use sallyport_worker::streaming::range::RequestedRange;

/// Input: eight bytes for the file's length, then the value of `Range`.
pub fn run(data: &[u8]) {
    let Some((length, value)) = data.split_first_chunk::<8>() else { return };
    let (length, Ok(value)) = (u64::from_be_bytes(*length), std::str::from_utf8(value)) else { return };
    let slices = match RequestedRange::of(Some(value), length) {
        RequestedRange::Single(slice) => vec![slice],
        RequestedRange::Multiple(slices) => slices,
        _ => return,
    };
    for slice in slices {
        assert!(slice.first <= slice.last && slice.last < length, "{slice:?} of {length}");
        let same = format!("bytes={}-{}", slice.first, slice.last);
        assert_eq!(RequestedRange::of(Some(&same), length), RequestedRange::Single(slice));
    }
}
