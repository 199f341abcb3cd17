//! TCP between gateway and application, most often on one machine.

use std::{net::IpAddr, os::fd::AsFd};

use rustix::net::sockopt::{set_tcp_congestion, set_tcp_nodelay};

/// What every Linux has, and lets every account choose.
const PLAIN: &str = "reno";

/// Has a connection with `address`, or the connections that a listener there will take, send what they are given at once: an answer is
/// written in few large pieces, and waiting to join them would only delay it. Before it is connected; what has begun to pace itself
/// goes on to.
///
/// On loopback there is no network to be considerate of either. A system whose TCP paces itself (BBR, as many servers have it) makes
/// timers of every piece there: streaming a film takes twice the processor, and some viewers wait for seconds. Best effort, as all
/// of it is about speed alone.
pub(crate) fn hasten(socket: &impl AsFd, address: IpAddr) {
    set_tcp_nodelay(socket, true).ok();
    if address.to_canonical().is_loopback() {
        set_tcp_congestion(socket, PLAIN).ok();
    }
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use rustix::net::sockopt::{tcp_congestion, tcp_nodelay};

    use super::*;

    #[test]
    fn what_a_listener_takes_is_not_held_back_and_on_loopback_not_paced() {
        let listener = || TcpListener::bind("127.0.0.1:0").unwrap();
        let (untouched, outside, inside) = (listener(), listener(), listener());
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
