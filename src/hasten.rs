//! TCP between gateway and application, most often on one machine.

use std::{net::IpAddr, os::fd::AsFd};

use rustix::net::sockopt::{set_tcp_congestion, set_tcp_nodelay};

/// What every Linux has, and lets every account choose.
const PLAIN: &str = "reno";

/// Has a connection with `address` send what it is given at once: an answer is written in few large pieces, and waiting to join
/// them would only delay it.
///
/// On loopback there is no network to be considerate of either. A system whose TCP paces itself (BBR, as many servers have it) makes
/// timers of every piece there: streaming a film takes twice the processor, and some viewers wait for seconds. Best effort, as all
/// of it is about speed alone.
pub(crate) fn hasten(stream: &impl AsFd, address: IpAddr) {
    set_tcp_nodelay(stream, true).ok();
    if address.to_canonical().is_loopback() {
        set_tcp_congestion(stream, PLAIN).ok();
    }
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use rustix::net::sockopt::{tcp_congestion, tcp_nodelay};

    use super::*;

    #[test]
    fn a_connection_is_not_held_back_and_on_loopback_not_paced() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let stream = || TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (untouched, outside, inside) = (stream(), stream(), stream());
        hasten(&outside, "192.0.2.1".parse().unwrap());
        hasten(&inside, "::ffff:127.0.0.1".parse().unwrap());
        assert!(tcp_nodelay(&outside).unwrap() && tcp_nodelay(&inside).unwrap());
        assert_eq!(tcp_congestion(&outside).unwrap(), tcp_congestion(&untouched).unwrap());
        assert_eq!(tcp_congestion(&inside).unwrap(), PLAIN);
    }
}
