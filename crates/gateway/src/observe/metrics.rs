//! Prometheus metrics: counters that requests and connections increment, and values that are read for each scrape.
//!
//! Every label has a closed set of values, from the configuration or an enum, and each series exists before the first request that could need it. A
//! request only adds to atomics, and nothing that a client sends becomes a label.

use std::{sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use prometheus_client::{
    encoding::text::encode,
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::{Metric, Registry},
};

use super::{Verdict, access_log::LeftOut, histogram::Durations, process::Process};
use crate::{
    edge::acme::AttemptOutcome,
    policy::{Reason, Site},
};

/// The content type of [`Metrics::render`].
pub(crate) const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Classes by the first digit of a status; HTTP has no sixth class.
const CLASSES: [&str; 6] = ["other", "1xx", "2xx", "3xx", "4xx", "5xx"];

type Labels<const N: usize> = [(&'static str, String); N];

/// The kind of a listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Listener {
    /// TLS.
    Tls,
    /// Plain HTTP, which redirects to TLS.
    Http,
    /// Health and metrics.
    Admin,
}

/// Why a connection was closed before its first request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ConnectionRejection {
    /// The TLS handshake failed.
    Tls,
    /// The handshake or the PROXY header took too long.
    TooSlow,
    /// A trusted proxy sent no valid PROXY header.
    Proxy,
    /// The client named in the PROXY header is banned or has too many connections.
    NotAdmitted,
}

/// A completed request.
#[derive(Debug)]
pub(crate) struct Ended<'a> {
    /// The application that it was for.
    pub app: Option<&'a Arc<str>>,
    /// What the gateway did with it.
    pub verdict: Verdict,
    /// Why it was denied.
    pub denied: Option<Reason>,
    /// The status of the response, as in the access log.
    pub status: u16,
    /// Bytes of body from the client.
    pub bytes_in: u64,
    /// Bytes of body to the client.
    pub bytes_out: u64,
    /// From the head of the request to the end of the response.
    pub duration: Duration,
    /// Until the head of the application's response.
    pub upstream: Option<Duration>,
}

/// Values that are read for each scrape.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ScrapedValues {
    /// The number of clients that the rate limits track.
    pub rate_limited_clients: usize,
    /// When the first of the served certificates expires, in seconds since the Unix epoch.
    pub certificate_ends: Option<i64>,
    /// Whether the worker is not responding.
    pub worker_down: bool,
}

/// All metrics of the gateway.
#[derive(Debug)]
pub(crate) struct Metrics {
    registry: Registry,
    families: Families,
    /// The applications of the current configuration. The series of a removed application remain in the registry.
    apps: ArcSwap<Vec<(Arc<str>, AppMetrics)>>,
    /// Requests that matched no application.
    nowhere: AppMetrics,
    denials: Vec<Counter>,
    tls: Connections,
    http: Connections,
    admin: Connections,
    handshakes_failed: [Counter; ConnectionRejection::ALL.len()],
    /// In the order of [`AttemptOutcome`].
    acme: Vec<Counter>,
    access_log: LeftOut,
    rate_limited_clients: Gauge,
    certificate_ends: Gauge,
    worker_down: Gauge,
}

/// The series of one application.
#[derive(Debug)]
struct AppMetrics {
    forwarded: [Counter; CLASSES.len()],
    denied: [Counter; CLASSES.len()],
    own: [Counter; CLASSES.len()],
    preflights: [Counter; CLASSES.len()],
    bytes_in: Counter,
    bytes_out: Counter,
    duration: Durations,
    upstream: Durations,
}

/// The series of one listener.
#[derive(Debug)]
struct Connections {
    open: Gauge,
    accepted: Counter,
}

/// A connection, which counts as open until this is dropped.
#[derive(Debug)]
pub(crate) struct OpenConnection(Gauge);

/// The metrics with a label for the application.
#[derive(Debug)]
struct Families {
    requests: Family<Labels<3>, Counter>,
    bytes_in: Family<Labels<1>, Counter>,
    bytes_out: Family<Labels<1>, Counter>,
    duration: Family<Labels<1>, Durations>,
    upstream: Family<Labels<1>, Durations>,
}

impl ConnectionRejection {
    /// All variants, in declaration order.
    const ALL: [Self; 4] = [Self::Tls, Self::TooSlow, Self::Proxy, Self::NotAdmitted];

    const fn name(self) -> &'static str {
        match self {
            Self::Tls => "tls",
            Self::TooSlow => "too_slow",
            Self::Proxy => "proxy_protocol",
            Self::NotAdmitted => "no_place",
        }
    }
}

impl Metrics {
    /// Creates the metrics, with all counters at zero.
    #[must_use]
    pub(crate) fn new(site: &Site) -> Self {
        let mut registry = Registry::default();
        let families = Families::registered(&mut registry);
        let [tls, http, admin] = connections(&mut registry);
        Self {
            apps: ArcSwap::from_pointee(families.of_all(site)),
            nowhere: families.of(""),
            families,
            denials: denials(&mut registry),
            tls,
            http,
            admin,
            handshakes_failed: handshakes_failed(&mut registry),
            acme: acme(&mut registry),
            access_log: access_log(&mut registry),
            rate_limited_clients: metric(
                &mut registry,
                "sallyport_rate_limited_clients",
                "Clients that the rate limits track",
            ),
            certificate_ends: metric(
                &mut registry,
                "sallyport_certificate_expiry_timestamp_seconds",
                "Expiry of the served certificate that expires first, in seconds since 1970",
            ),
            worker_down: metric(&mut registry, "sallyport_worker_down", "1 while the worker is not responding, else 0"),
            registry: with_facts(registry),
        }
    }

    /// Returns the counters of lines that the access log omits.
    #[must_use]
    pub(crate) fn access_log(&self) -> LeftOut {
        self.access_log.clone()
    }

    /// Adds the series of new applications.
    pub(crate) fn know(&self, site: &Site) {
        self.apps.store(Arc::new(self.families.of_all(site)));
    }

    /// Counts one completed request.
    pub(crate) fn ended(&self, request: &Ended<'_>) {
        let apps = self.apps.load();
        let app = request.app.and_then(|name| apps.iter().find(|(known, _)| known == name));
        let app = app.map_or(&self.nowhere, |(_, app)| app);
        let [other, classes @ ..] = app.answered(request.verdict);
        classes.get(usize::from(request.status / 100).wrapping_sub(1)).unwrap_or(other).inc();
        if let Some(counter) = request.denied.and_then(|reason| self.denials.get(reason as usize)) {
            counter.inc();
        }
        app.bytes_in.inc_by(request.bytes_in);
        app.bytes_out.inc_by(request.bytes_out);
        app.duration.observe(request.duration);
        if let Some(upstream) = request.upstream {
            app.upstream.observe(upstream);
        }
    }

    /// Counts an accepted connection.
    #[must_use]
    pub(crate) fn connection(&self, listener: Listener) -> OpenConnection {
        let connections = match listener {
            Listener::Tls => &self.tls,
            Listener::Http => &self.http,
            Listener::Admin => &self.admin,
        };
        connections.accepted.inc();
        connections.open.inc();
        OpenConnection(connections.open.clone())
    }

    /// Counts a connection that was closed before its first request.
    pub(crate) fn turned_away(&self, why: ConnectionRejection) {
        if let Some(counter) = self.handshakes_failed.get(why as usize) {
            counter.inc();
        }
    }

    /// Counts an attempt to obtain a certificate.
    pub(crate) fn acme(&self, outcome: AttemptOutcome) {
        if let Some(counter) = self.acme.get(outcome as usize) {
            counter.inc();
        }
    }

    /// Formats all metrics as [`CONTENT_TYPE`].
    #[must_use]
    pub(crate) fn render(&self, values: ScrapedValues) -> String {
        self.rate_limited_clients.set(i64::try_from(values.rate_limited_clients).unwrap_or(i64::MAX));
        self.certificate_ends.set(values.certificate_ends.unwrap_or(0));
        self.worker_down.set(values.worker_down.into());
        let mut text = String::new();
        // Writing to memory does not fail.
        let _ = encode(&mut text, &self.registry);
        text
    }
}

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.0.dec();
    }
}

impl AppMetrics {
    fn answered(&self, verdict: Verdict) -> &[Counter; CLASSES.len()] {
        match verdict {
            Verdict::Forward => &self.forwarded,
            Verdict::Deny => &self.denied,
            Verdict::Own => &self.own,
            Verdict::Preflight => &self.preflights,
        }
    }
}

impl Families {
    fn registered(registry: &mut Registry) -> Self {
        let of_requests = "Completed requests; the app is empty if no application matched";
        let received = "Body bytes received from clients";
        let sent = "Body bytes sent to clients";
        let duration = "Time from the head of a request to the end of its response";
        let upstream = "Time from the head of a request to the head of the application's response";
        Self {
            requests: metric(registry, "sallyport_requests", of_requests),
            bytes_in: metric(registry, "sallyport_bytes_received", received),
            bytes_out: metric(registry, "sallyport_bytes_sent", sent),
            duration: metric(registry, "sallyport_request_duration_seconds", duration),
            upstream: metric(registry, "sallyport_upstream_duration_seconds", upstream),
        }
    }

    fn of_all(&self, site: &Site) -> Vec<(Arc<str>, AppMetrics)> {
        site.apps().iter().map(|app| (Arc::clone(&app.name), self.of(&app.name))).collect()
    }

    /// Returns the series of an application, which keep their counts across changes of the configuration.
    fn of(&self, app: &str) -> AppMetrics {
        let answered = |verdict: Verdict| {
            CLASSES.map(|class| series(&self.requests, [("app", app), ("decision", verdict.name()), ("status", class)]))
        };
        AppMetrics {
            forwarded: answered(Verdict::Forward),
            denied: answered(Verdict::Deny),
            own: answered(Verdict::Own),
            preflights: answered(Verdict::Preflight),
            bytes_in: series(&self.bytes_in, [("app", app)]),
            bytes_out: series(&self.bytes_out, [("app", app)]),
            duration: series(&self.duration, [("app", app)]),
            upstream: series(&self.upstream, [("app", app)]),
        }
    }
}

fn denials(registry: &mut Registry) -> Vec<Counter> {
    let family = metric(registry, "sallyport_denials", "Denied requests, by public code");
    Reason::ALL.iter().map(|reason| series(&family, [("code", reason.code())])).collect()
}

fn acme(registry: &mut Registry) -> Vec<Counter> {
    let family = metric(registry, "sallyport_acme_attempts", "Attempts to obtain a certificate, by outcome");
    AttemptOutcome::ALL.iter().map(|outcome| series(&family, [("outcome", outcome.name())])).collect()
}

fn access_log(registry: &mut Registry) -> LeftOut {
    let help = "Requests without a line of their own in the access log, by reason";
    let family = metric(registry, "sallyport_access_log_left_out", help);
    let [client_budget, queue_full, disk_reserve] =
        ["client_budget", "queue_full", "disk_reserve"].map(|reason| series(&family, [("reason", reason)]));
    LeftOut { client_budget, queue_full, disk_reserve }
}

fn handshakes_failed(registry: &mut Registry) -> [Counter; ConnectionRejection::ALL.len()] {
    let help = "Connections that were closed before their first request, by reason";
    let family = metric(registry, "sallyport_handshakes_failed", help);
    ConnectionRejection::ALL.map(|why| series(&family, [("reason", why.name())]))
}

/// In the order of [`Listener`].
fn connections(registry: &mut Registry) -> [Connections; 3] {
    let open = metric(registry, "sallyport_connections", "Open connections");
    let accepted = metric(registry, "sallyport_connections_accepted", "Accepted connections");
    ["tls", "http", "admin"].map(|listener| Connections {
        open: series(&open, [("listener", listener)]),
        accepted: series(&accepted, [("listener", listener)]),
    })
}

/// Adds metrics that do not depend on requests.
fn with_facts(mut registry: Registry) -> Registry {
    let build: Family<Labels<1>, Gauge> =
        metric(&mut registry, "sallyport_build_info", "The running version; always 1");
    series(&build, [("version", env!("CARGO_PKG_VERSION"))]).set(1);
    registry.register_collector(Box::new(Process::started_now()));
    registry
}

fn metric<M: Metric + Clone + Default>(registry: &mut Registry, name: &str, help: &str) -> M {
    let metric = M::default();
    registry.register(name, help, metric.clone());
    metric
}

fn series<M: Clone + Default, const N: usize>(family: &Family<Labels<N>, M>, labels: [(&'static str, &str); N]) -> M {
    family.get_or_create(&labels.map(|(name, value)| (name, value.to_owned()))).clone()
}
