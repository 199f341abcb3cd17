//! `[gateway]` as written, and its listeners and names.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::PathBuf,
};

use ipnet::IpNet;
use url::Url;

use super::{
    effect::{AT_ONCE, RESTART_GATEWAY, toml_table},
    fault::{Faults, Key},
    insecure::InsecureToml,
    proxies::ForwardedHeader,
    units::{ByteSize, Duration},
    upstream::Upstream,
};

const LOOPBACK_V4: IpNet = IpNet::new_assert(IpAddr::V4(Ipv4Addr::new(127, 0, 0, 0)), 8);
const LOOPBACK_V6: IpNet = IpNet::new_assert(IpAddr::V6(Ipv6Addr::LOCALHOST), 128);

toml_table! {
    /// `[gateway]`
    struct GatewayToml {
        listen: Vec<String> = vec!["[::]:8443".into()] => RESTART_GATEWAY;
        http_listen: Vec<String> = vec!["[::]:8080".into()] => RESTART_GATEWAY;
        admin_listen: String = "127.0.0.1:9901".into() => RESTART_GATEWAY;
        admin_hosts: Vec<String> = Vec::new() => AT_ONCE;
        public_url: Option<String> = None => RESTART_GATEWAY;
        trusted_proxies: Vec<IpNet> = Vec::new() => AT_ONCE;
        proxy_protocol: bool = false => AT_ONCE;
        forwarded_header: ForwardedHeader = ForwardedHeader::XForwardedFor => AT_ONCE;
        shared_addresses: Vec<IpNet> = vec![LOOPBACK_V4, LOOPBACK_V6] => AT_ONCE;
        geoip: Option<PathBuf> = None => AT_ONCE;
        max_tracked_clients: usize = 100_000 => AT_ONCE;
        max_connections: usize = 12_000 => RESTART_GATEWAY;
        max_connections_per_client: usize = 256 => RESTART_GATEWAY;
        max_requests: usize = 5_000 => AT_ONCE;
        max_requests_per_client: usize = 500 => AT_ONCE;
        max_memory: ByteSize = ByteSize(0) => AT_ONCE;
        min_body_rate: ByteSize = ByteSize(1 << 10) => AT_ONCE;
        send_timeout: Duration = Duration::seconds(60) => AT_ONCE;
        pause_timeout: Duration = Duration::seconds(15 * 60) => AT_ONCE;
        drain_timeout: Duration = Duration::seconds(10) => AT_ONCE;
    }
}

impl GatewayToml {
    pub(super) fn listen(&self, faults: &mut Faults<'_>) -> Vec<SocketAddr> {
        if self.listen.is_empty() {
            faults.add("listen", "no address to listen on; write at least one, such as \"[::]:8443\"");
        }
        faults.all_parsed("listen", &self.listen)
    }

    pub(super) fn admin_listen(&self, insecure: &InsecureToml, faults: &mut Faults<'_>) -> Option<Upstream> {
        let listen: Upstream = faults.parsed("admin_listen", &self.admin_listen)?;
        if !listen.is_local() && !insecure.admin_on_any_address {
            faults.add(
                "admin_listen",
                "not a loopback address, and the admin listener requires no credential; use 127.0.0.1 or a unix: socket",
            );
        }
        Some(listen)
    }

    pub(super) fn admin_hosts(&self, faults: &mut Faults<'_>) -> Vec<String> {
        let plain = |b: u8| b.is_ascii_alphanumeric() || b"-._".contains(&b);
        for (i, host) in self.admin_hosts.iter().enumerate() {
            if host.is_empty() || !host.bytes().all(plain) {
                faults.add(
                    Key::element("admin_hosts", i),
                    format!("{host:?} is not a host name; write it without scheme and port, such as \"nas.local\""),
                );
            }
        }
        self.admin_hosts.clone()
    }

    /// Returns the public URL, by default made of the certificate's first name and the port of the first listener.
    pub(super) fn public_url(
        &self,
        first_name: Option<&str>,
        listen: &[SocketAddr],
        faults: &mut Faults<'_>,
    ) -> Option<Url> {
        let port = listen.first().map_or(443, SocketAddr::port);
        let name = first_name.unwrap_or("localhost");
        let text = self.public_url.clone().unwrap_or_else(|| format!("https://{name}:{port}"));
        let url: Url = faults.parsed("public_url", &text)?;
        // Any other part of a URL would be lost, or end up in links.
        let bare = format!("{}/", url.origin().ascii_serialization());
        if url.scheme() != "https" || url.as_str() != bare {
            faults.add(
                "public_url",
                "must consist of https, a host and optionally a port; write, for example, \"https://home.example.com\"",
            );
        }
        Some(url)
    }
}
