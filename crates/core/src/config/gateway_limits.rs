//! The limits of `[gateway]` on connections, requests and memory.

use std::{num::NonZeroU64, time::Duration};

use super::{fault::Faults, gateway::GatewayToml};

const MIN_SEND_TIMEOUT: Duration = Duration::from_secs(1);

/// The limits on connections, requests and memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GatewayLimits {
    /// The number of clients that each rate limit remembers.
    pub max_tracked_clients: usize,
    /// The number of simultaneous connections.
    pub max_connections: usize,
    /// The number of simultaneous connections of one IPv4 address or IPv6 /64.
    pub max_connections_per_client: usize,
    /// The number of simultaneous requests.
    pub max_requests: usize,
    /// The number of simultaneous requests of one IPv4 address or IPv6 /64.
    pub max_requests_per_client: usize,
    /// The memory that the gateway may use before it refuses new requests, in bytes; `None` means what the system can spare.
    pub max_memory: Option<NonZeroU64>,
    /// The minimum average rate of a request body after its first seconds, in bytes per second; `None` means no minimum.
    pub min_body_rate: Option<NonZeroU64>,
    /// How long a client may go without reading before it is disconnected.
    pub send_timeout: Duration,
    /// The same for an authenticated client, as long as there is enough memory.
    pub pause_timeout: Duration,
}

impl GatewayLimits {
    pub(super) fn resolve(gateway: &GatewayToml, faults: &mut Faults<'_>) -> Self {
        for (name, count) in [
            ("max_tracked_clients", gateway.max_tracked_clients),
            ("max_connections", gateway.max_connections),
            ("max_connections_per_client", gateway.max_connections_per_client),
            ("max_requests", gateway.max_requests),
            ("max_requests_per_client", gateway.max_requests_per_client),
        ] {
            if count == 0 {
                faults.add(name, "0 would refuse every client; write at least 1");
            }
        }
        if gateway.send_timeout.0 < MIN_SEND_TIMEOUT {
            faults.add("send_timeout", "must be at least \"1s\"");
        }
        if gateway.pause_timeout.0 < gateway.send_timeout.0 {
            faults.add("pause_timeout", "shorter than send_timeout; write at least the same");
        }
        Self {
            max_tracked_clients: gateway.max_tracked_clients,
            max_connections: gateway.max_connections,
            max_connections_per_client: gateway.max_connections_per_client,
            max_requests: gateway.max_requests,
            max_requests_per_client: gateway.max_requests_per_client,
            max_memory: NonZeroU64::new(gateway.max_memory.0),
            min_body_rate: NonZeroU64::new(gateway.min_body_rate.0),
            send_timeout: gateway.send_timeout.0,
            pause_timeout: gateway.pause_timeout.0,
        }
    }
}
