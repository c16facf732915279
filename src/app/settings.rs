//! Settings of the parts, converted from the configuration.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use tokio::sync::watch;

use crate::{
    auth::{self, Authenticator},
    config, grpc,
    leads::{self, PortalSettings},
    pipeline::{BreakerSettings, PipelineSettings},
    telemetry::spans::SpanSink,
};
use leadsd_base::{memory::cgroup_limit, time::SystemClock};
use leadsd_quota::{Quota, redis_ledger::RedisLedger};
use leadsd_redis::RedisClient;

pub(super) fn service_settings(
    hubspot: &config::Hubspot,
    grpc: &config::Grpc,
    portals: &BTreeMap<leads::PortalName, config::Portal>,
    from: Option<&config::PortalDiscovery>,
) -> leads::Settings {
    leads::Settings {
        batch_concurrency: hubspot.batch_concurrency,
        response: leads::ResponseLimit {
            max_bytes: grpc.max_response_bytes,
            lead_size: grpc::lead_size,
        },
        validation: validation_settings(hubspot, portals, from),
        clock: Arc::new(SystemClock),
    }
}

/// Validation of the writes of each portal.
fn validation_settings(
    hubspot: &config::Hubspot,
    portals: &BTreeMap<leads::PortalName, config::Portal>,
    from: Option<&config::PortalDiscovery>,
) -> leads::ValidationSettings {
    let mode = |(name, portal): (&leads::PortalName, &config::Portal)| {
        (name.clone(), portal.validate.unwrap_or(hubspot.validate))
    };
    leads::ValidationSettings {
        portals: portals.iter().map(mode).collect(),
        others: from.and_then(|from| from.validate).unwrap_or(hubspot.validate),
        dates: match hubspot.api_version {
            config::ApiVersion::V2026_09 => leads::DateRules::Lenient,
            config::ApiVersion::V2026_03 | config::ApiVersion::V3 => leads::DateRules::Strict,
        },
    }
}

pub(super) fn grpc_settings(
    config: &config::Grpc,
    portals: grpc::PortalResolver,
    quota: Arc<Quota>,
    auth: Option<Arc<Authenticator>>,
    serving: watch::Receiver<grpc::Serving>,
) -> grpc::Settings {
    let memory_limit = config.memory_limit.bytes(cgroup_limit());
    grpc::Settings {
        listen: config.listen.clone(),
        portals,
        quota,
        auth,
        tls: None,
        max_request_bytes: config.max_request_bytes,
        max_response_bytes: config.max_response_bytes,
        limits: grpc::AdmissionLimits {
            connections: config.max_connections,
            connections_per_address: config.max_connections_per_address,
            in_flight: config.max_in_flight,
            memory: config.request_memory(memory_limit),
            metadata: config.max_header_bytes,
            caller_share: grpc::CallerShare(config.max_caller_share),
        },
        memory_limit,
        lifetimes: grpc::Lifetimes {
            max_age: config.max_connection_age,
            age_grace: config.max_connection_age_grace,
            max_idle: config.max_connection_idle,
            keepalive_interval: config.keepalive_interval,
            keepalive_timeout: config.keepalive_timeout,
            max_streams: config.max_streams,
        },
        max_batch_inputs: config.max_batch_inputs,
        max_deadline: config.max_deadline,
        max_batch_deadline: config.max_batch_deadline,
        drain_delay: config.drain_delay,
        shutdown_grace: config.shutdown_grace,
        error_docs_url: config.error_docs_url.as_str().into(),
        spans: SpanSink::default(),
        serving,
    }
}

pub(super) fn credential_settings(
    vault: &config::Vault,
    hubspot: &config::Hubspot,
    credentials: config::Credentials,
    portal_discovery: Option<config::PortalDiscovery>,
) -> leadsd_credentials::Settings {
    let poll_interval = vault.poll_interval;
    let folder = |from: config::PortalDiscovery| leadsd_credentials::Discovery {
        path: from.path,
        interval: poll_interval,
    };
    leadsd_credentials::Settings {
        poll_interval,
        store_timeout: vault.timeout.saturating_mul(2),
        grant_timeout: hubspot.request_timeout.min(Duration::from_secs(10)),
        suspended_retry_interval: credentials.suspended_retry_interval,
        start: credentials.start,
        start_concurrency: credentials.start_concurrency,
        readiness: credentials.readiness,
        discovery: portal_discovery.map(folder),
    }
}

/// Converts the configuration to settings of the quota.
pub(crate) fn quota_settings(
    config: config::Quota,
    redis: Option<Arc<RedisClient>>,
    max_caller_share: f64,
    portals: &BTreeMap<leads::PortalName, config::Portal>,
) -> leadsd_quota::Settings {
    let zone = |(name, portal): (&leads::PortalName, &config::Portal)| {
        Some((name.to_string(), portal.zone.clone()?))
    };
    leadsd_quota::Settings {
        burst: config.burst,
        burst_window: config.burst_window,
        search_per_second: config.search_per_second,
        daily: config.daily,
        max_queue: config.max_queue,
        max_concurrency: config.max_concurrency,
        max_caller_share,
        weights: config.weights,
        ledger: config.shared.zip(redis).map(|(shared, redis)| ledger_config(&shared, redis)),
        zones: portals.iter().filter_map(zone).collect(),
        zone: config.zone,
    }
}

/// Client of the Redis that replicas share, for the ledger and for request ids.
pub(crate) fn redis_client(config: &config::SharedQuota) -> Arc<RedisClient> {
    Arc::new(RedisClient::new(config.redis.clone()))
}

/// Settings of the shared ledger. The replica id is random: a restarted replica is a new one.
fn ledger_config(
    config: &config::SharedQuota,
    redis: Arc<RedisClient>,
) -> leadsd_quota::LedgerConfig {
    let replica = uuid::Uuid::new_v4().to_string();
    let ledger = Arc::new(RedisLedger::new(redis));
    leadsd_quota::LedgerConfig::new(ledger, &replica, config.expected_replicas)
}

/// Settings of the pipelines.
pub(super) fn pipeline_settings(
    portals: &BTreeMap<leads::PortalName, config::Portal>,
    from: Option<&config::PortalDiscovery>,
    batching: bool,
    hubspot: &config::Hubspot,
) -> PipelineSettings {
    let breaker =
        BreakerSettings { min_wait: hubspot.breaker_min_wait, max_wait: hubspot.breaker_max_wait };
    let default_properties: Arc<[String]> = hubspot.default_properties.as_slice().into();
    let settings = |request_id_property: Option<&String>, own: Option<&Vec<String>>| {
        let default_properties =
            own.map_or_else(|| Arc::clone(&default_properties), |own| own.as_slice().into());
        PortalSettings { request_id_property: request_id_property.cloned(), default_properties }
    };
    let named = |(name, portal): (&leads::PortalName, &config::Portal)| {
        let own = portal.default_properties.as_ref();
        (name.clone(), settings(portal.request_id_property.as_ref(), own))
    };
    PipelineSettings {
        batching,
        max_attempts: hubspot.max_attempts,
        breaker,
        portals: portals.iter().map(named).collect(),
        other_portals: settings(
            from.and_then(|from| from.request_id_property.as_ref()),
            from.and_then(|from| from.default_properties.as_ref()),
        ),
    }
}

/// Base URLs of the portals that have their own.
pub(super) fn base_urls(
    portals: &BTreeMap<leads::PortalName, config::Portal>,
) -> BTreeMap<leads::PortalName, url::Url> {
    let own = |(name, portal): (&leads::PortalName, &config::Portal)| {
        Some((name.clone(), portal.base_url.clone()?))
    };
    portals.iter().filter_map(own).collect()
}

/// Settings of authentication; `None` if no method is configured.
pub(super) fn auth_settings(
    auth: config::Auth,
    policy: BTreeMap<String, config::Policy>,
    tls: Option<&config::Tls>,
    vault: &config::Vault,
) -> Option<auth::Settings> {
    let config::Auth { jwt, api_keys } = auth;
    let certificates = tls.is_some_and(|tls| tls.client_ca.is_some());
    let any = certificates || jwt.is_some() || api_keys.is_some();
    any.then(|| auth::Settings {
        jwt,
        api_keys: api_keys.map(|keys| keys.secret),
        poll_interval: vault.poll_interval,
        store_timeout: vault.timeout.saturating_mul(2),
        policy,
    })
}
