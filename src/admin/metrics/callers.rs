//! What is scraped of callers and of what they are checked with.

use std::fmt;

use prometheus_client::{collector::Collector, encoding::DescriptorEncoder};

use super::{Sample, count, encode, flag};
use crate::{auth, grpc::TlsStatus, telemetry::names};

/// The callers when the scrape began.
#[derive(Debug)]
pub(super) struct Callers(pub(super) auth::Status);

/// The certificates when the scrape began.
#[derive(Debug)]
pub(super) struct Certificates(pub(super) TlsStatus);

// === impl Callers ===

impl Collector for Callers {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let Self(auth::Status { identified, refused, sources }) = self;
        let mut put = |metric, samples| encode(&mut encoder, metric, samples);
        let sample = |label, value| Sample { labels: vec![label], value };
        let proofs = identified.iter().map(|(proof, calls)| sample(proof.as_str(), count(*calls)));
        put(names::CALLERS_IDENTIFIED, proofs.collect())?;
        let causes = refused.iter().map(|(cause, calls)| sample(cause, count(*calls)));
        put(names::CALLERS_REFUSED, causes.collect())?;
        let ages = sources
            .iter()
            .filter_map(|source| Some(sample(source.name, source.age?.as_secs_f64())));
        put(names::TRUST_AGE, ages.collect())?;
        let entries =
            sources.iter().map(|source| sample(source.name, count(source.entries as u64)));
        put(names::TRUST_ENTRIES, entries.collect())?;
        let loads = sources.iter().flat_map(|source| {
            [("ok", source.loads), ("failed", source.failures)].map(|(outcome, looks)| Sample {
                labels: vec![source.name, outcome],
                value: count(looks),
            })
        });
        put(names::TRUST_LOADS, loads.collect())
    }
}

// === impl Certificates ===

impl Collector for Certificates {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let Self(TlsStatus { expires_in_s, reloads, failures, in_trouble }) = *self;
        let mut put = |metric, samples| encode(&mut encoder, metric, samples);
        let one = |value| Sample { labels: Vec::new(), value };
        put(names::TLS_EXPIRES_IN, expires_in_s.map(one).into_iter().collect())?;
        let outcome = |label, times| Sample { labels: vec![label], value: count(times) };
        put(names::TLS_RELOADS, vec![outcome("ok", reloads), outcome("failed", failures)])?;
        put(names::TLS_TROUBLE, vec![one(flag(in_trouble))])
    }
}
