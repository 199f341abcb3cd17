//! A histogram of durations. An observation costs two relaxed additions and no lock, unlike the one of `prometheus-client`.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use prometheus_client::{
    encoding::{EncodeMetric, MetricEncoder, NoLabelSet},
    metrics::{MetricType, TypedMetric},
};

/// Upper bounds of the buckets: in microseconds for comparison, in seconds for output. They range from the duration of a denial to that of a
/// whole video.
const BOUNDS: [(u64, f64); 14] = [
    (500, 0.000_5),
    (1_000, 0.001),
    (2_500, 0.002_5),
    (5_000, 0.005),
    (10_000, 0.01),
    (25_000, 0.025),
    (50_000, 0.05),
    (100_000, 0.1),
    (250_000, 0.25),
    (500_000, 0.5),
    (1_000_000, 1.0),
    (2_500_000, 2.5),
    (10_000_000, 10.0),
    (60_000_000, 60.0),
];

/// A histogram of durations.
#[derive(Clone, Debug, Default)]
pub(super) struct Durations(Arc<Counts>);

#[derive(Debug, Default)]
struct Counts {
    /// One bucket for each of [`BOUNDS`].
    buckets: [AtomicU64; BOUNDS.len()],
    longer: AtomicU64,
    sum_micros: AtomicU64,
}

impl Durations {
    pub(super) fn observe(&self, duration: Duration) {
        let micros = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        let place = BOUNDS.partition_point(|(bound, _)| *bound < micros);
        self.0.buckets.get(place).unwrap_or(&self.0.longer).fetch_add(1, Relaxed);
        self.0.sum_micros.fetch_add(micros, Relaxed);
    }
}

impl EncodeMetric for Durations {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> fmt::Result {
        let bounds = BOUNDS.iter().map(|(_, seconds)| *seconds).chain([f64::INFINITY]);
        let counts = self.0.buckets.iter().chain([&self.0.longer]).map(|count| count.load(Relaxed));
        let buckets: Vec<_> = bounds.zip(counts).collect();
        // The sum of the values read above, so that the count never differs from the last bucket.
        let count = buckets.iter().map(|(_, count)| count).sum();
        let sum = Duration::from_micros(self.0.sum_micros.load(Relaxed)).as_secs_f64();
        encoder.encode_histogram::<NoLabelSet>(sum, count, &buckets, None)
    }

    fn metric_type(&self) -> MetricType {
        Self::TYPE
    }
}

impl TypedMetric for Durations {
    const TYPE: MetricType = MetricType::Histogram;
}

#[cfg(test)]
mod tests {
    use prometheus_client::{encoding::text::encode, registry::Registry};

    use super::*;

    #[test]
    fn each_duration_is_in_every_bucket_that_it_fits() {
        let durations = Durations::default();
        let mut registry = Registry::default();
        registry.register("took", "How long", durations.clone());
        for micros in [0, 500, 501, 60_000_000, 60_000_001] {
            durations.observe(Duration::from_micros(micros));
        }
        let mut text = String::new();
        encode(&mut text, &registry).unwrap();
        for line in [
            "took_bucket{le=\"0.0005\"} 2",
            "took_bucket{le=\"0.001\"} 3",
            "took_bucket{le=\"10.0\"} 3",
            "took_bucket{le=\"60.0\"} 4",
            "took_bucket{le=\"+Inf\"} 5",
            "took_count 5",
            "took_sum 120.001002",
        ] {
            assert!(text.lines().any(|l| l == line), "{line} is not in\n{text}");
        }
    }
}
