//! The end of a PROXY header does not depend on the client's bytes after it, and no prefix of it is a complete header.

use sallyport_gateway::edge::proxy_protocol::parse;

pub fn run(data: &[u8]) {
    let Ok(Some(header)) = parse(data) else { return };
    assert!((8..=data.len().min(4_096)).contains(&header.length), "{header:?}");
    assert_eq!(parse(&data[..header.length]).unwrap(), Some(header));
    assert_eq!(parse(&[&data[..header.length], b"GET / HTTP/1.1\r\n"].concat()).unwrap(), Some(header));
    for end in 0..header.length {
        let part = parse(&data[..end]);
        assert!(matches!(part, Ok(None)), "{end} of {} bytes: {part:?}", header.length);
    }
}
