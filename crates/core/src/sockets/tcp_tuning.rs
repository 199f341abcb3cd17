//! TCP tuning for connections between gateway and application, which usually run on the same machine.

use std::{net::IpAddr, os::fd::AsFd};

use rustix::net::sockopt::{set_tcp_congestion, set_tcp_nodelay};

/// The congestion control that every Linux has and that every account may select.
const PLAIN: &str = "reno";

/// Makes a connection with `address`, or those that a listener there will accept, send data immediately: a response is written in few large
/// pieces, and a wait to join them would only delay it. Call this before the socket is connected; a connection that already paces itself
/// continues to do so.
///
/// On loopback there is also no network to be considerate of. A system whose TCP paces itself (BBR, which many servers use) sets a timer
/// for every piece there: streaming a video takes twice the processor time, and some viewers wait for seconds. Best effort, since all of
/// this concerns only speed.
pub fn hasten(socket: &impl AsFd, address: IpAddr) {
    let _ = set_tcp_nodelay(socket, true);
    if address.to_canonical().is_loopback() {
        let _ = set_tcp_congestion(socket, PLAIN);
    }
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use rustix::net::sockopt::{tcp_congestion, tcp_nodelay};

    use super::*;

    #[test]
    fn accepted_connections_send_immediately_and_are_not_paced_on_loopback() {
        let listener = || TcpListener::bind("127.0.0.1:0").unwrap();
        let untouched = listener();
        let outside = listener();
        let inside = listener();
        hasten(&outside, "192.0.2.1".parse().unwrap());
        hasten(&inside, "::ffff:127.0.0.1".parse().unwrap());
        let [untouched, outside, inside] = [untouched, outside, inside].map(|listener| {
            let _client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            listener.accept().unwrap().0
        });
        assert!(tcp_nodelay(&outside).unwrap() && tcp_nodelay(&inside).unwrap());
        assert_eq!(tcp_congestion(&outside).unwrap(), tcp_congestion(&untouched).unwrap());
        assert_eq!(tcp_congestion(&inside).unwrap(), PLAIN);
    }
}
