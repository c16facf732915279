//! `[grpc]`: settings of the gRPC server.

use std::time::Duration;

use super::{check::Checker, raw, tls::Tls, units::parse_size};
use leadsd_base::net::listen_address::ListenAddress;

/// `[grpc]`: settings of the gRPC server.
#[derive(Debug, Clone)]
pub struct Grpc {
    /// Listen address; port 0 picks a free one. Default `127.0.0.1:50051`.
    pub listen: ListenAddress,
    /// Maximum size of a request message in bytes. Default 4 MiB.
    pub max_request_bytes: usize,
    /// Maximum number of inputs per batch call. Default 10,000.
    pub max_batch_inputs: usize,
    /// Maximum timeout of a call for one lead or one page. Default 60 s.
    pub max_deadline: Duration,
    /// Maximum timeout of a batch call. Default 5 min: 10,000 inputs need a hundred HubSpot calls.
    pub max_batch_deadline: Duration,
    /// Maximum number of concurrent connections. Default 4,096.
    pub max_connections: usize,
    /// Maximum number of concurrent calls per connection. Default 1,024.
    pub max_streams: u32,
    /// Maximum number of concurrent calls. Default 16,384.
    pub max_in_flight: usize,
    /// Maximum total size of requests and unsent responses in bytes. Default 256 MiB.
    pub max_request_memory: usize,
    /// Maximum size of a call's metadata in bytes. Default 16 KiB.
    pub max_header_bytes: usize,
    /// Age at which a connection is closed gracefully, with 10 % jitter. Default 30 min.
    pub max_connection_age: Duration,
    /// Time that calls have to finish after that, at least the longest deadline. Default 5 min.
    pub max_connection_age_grace: Duration,
    /// Idle time after which a keepalive ping is sent. Default 30 s.
    pub keepalive_interval: Duration,
    /// Timeout for the response to a keepalive ping. Default 20 s.
    pub keepalive_timeout: Duration,
    /// Time for which new calls are accepted after a stop signal. Default 5 s.
    pub drain_delay: Duration,
    /// Time that calls in flight have to finish after the drain delay. Default 25 s.
    pub shutdown_grace: Duration,
    /// URL of the page that documents error reasons, linked in `google.rpc.Help` with the reason as the
    /// fragment. Default `docs/ERRORS.md`; empty omits the link.
    pub error_docs_url: String,
    /// Allows a non-loopback address without TLS or without authentication. Default false.
    pub insecure: bool,
    /// Memory limit of the process. Default: that of the cgroup.
    pub memory_limit: MemoryLimit,
    /// Part of each limit of this section that one caller may hold, from 0.01 to 1. Default 0.5.
    pub max_caller_share: f64,
    /// Maximum number of connections from one address. Default 2,048.
    pub max_connections_per_address: usize,
    /// Time without calls after which a connection is closed gracefully. Default 5 min.
    pub max_connection_idle: Duration,
    /// Maximum size of a response message in bytes. Default 4,095 KiB: clients accept 4 MiB by default.
    pub max_response_bytes: usize,
    /// `[grpc.tls]`; disabled by default.
    pub tls: Option<Tls>,
}

/// Memory limit of the process, near which calls are rejected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MemoryLimit {
    /// Limit of the cgroup; no limit without one.
    Cgroup,
    /// Bytes, or the limit of the cgroup if it is lower.
    Bytes(usize),
    /// No limit.
    Off,
}

// === impl MemoryLimit ===

impl MemoryLimit {
    /// Limit in bytes, given the limit of the cgroup; `None` without a limit.
    pub fn bytes(self, cgroup: Option<u64>) -> Option<u64> {
        match self {
            Self::Cgroup => cgroup,
            Self::Bytes(bytes) => {
                let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
                Some(cgroup.map_or(bytes, |cgroup| cgroup.min(bytes)))
            }
            Self::Off => None,
        }
    }
}

// === impl Grpc ===

impl Grpc {
    /// Maximum memory of requests, responses and kept results under a memory limit: the configured value,
    /// but at most a third of the limit. One request of the maximum size always fits.
    pub fn request_memory(&self, limit: Option<u64>) -> usize {
        let third =
            limit.map_or(usize::MAX, |limit| usize::try_from(limit / 3).unwrap_or(usize::MAX));
        self.max_request_memory.min(third.max(self.max_request_bytes))
    }
}

// === impl Checker ===

impl Checker<'_> {
    pub(super) fn grpc(&mut self, raw: raw::Grpc) -> Option<Grpc> {
        let raw::Grpc {
            listen,
            max_request_size,
            max_batch_inputs,
            max_deadline,
            max_batch_deadline,
            max_connections,
            max_streams_per_connection: streams,
            max_in_flight,
            max_request_memory,
            max_header_size,
            max_connection_age,
            max_connection_age_grace: age_grace,
            keepalive_interval,
            keepalive_timeout,
            drain_delay,
            shutdown_grace,
            error_docs_url,
            insecure,
            memory_limit,
            max_caller_share: share,
            max_connections_per_address: per_address,
            max_connection_idle: idle,
            max_response_size,
            tls,
        } = raw;
        self.error_docs_url(&error_docs_url);
        let listen = self.listen("grpc.listen", &listen, 50_051);
        let size = self.size("grpc.max_request_size", &max_request_size, 64 << 10, 256 << 20);
        let inputs = self.number("grpc.max_batch_inputs", max_batch_inputs, 1, 100_000);
        let deadline = self.duration("grpc.max_deadline", &max_deadline, 100, 600_000);
        let batch = self.duration("grpc.max_batch_deadline", &max_batch_deadline, 100, 3_600_000);
        let connections = self.connections(max_connections, per_address);
        let streams = self.number("grpc.max_streams_per_connection", streams, 1, 100_000);
        let in_flight = self.number("grpc.max_in_flight", max_in_flight, 1, 1_000_000);
        let memory = self.request_memory(&max_request_memory, size, share);
        let header = self.size("grpc.max_header_size", &max_header_size, 4 << 10, 1 << 20);
        let ages = self.connection_ages(&max_connection_age, &idle);
        let age_grace = self.age_grace(&age_grace, deadline, batch);
        let keepalive = self.keepalive(&keepalive_interval, &keepalive_timeout);
        let shutdown = self.shutdown(&drain_delay, &shutdown_grace);
        let memory_limit = self.memory_limit(&memory_limit);
        let response = self.response_size(&max_response_size, memory, share);
        let tls = tls.map_or(Some(None), |tls| self.tls(tls).map(Some));
        Some(Grpc {
            listen: listen?,
            max_request_bytes: size?,
            max_batch_inputs: inputs?,
            max_deadline: deadline?,
            max_batch_deadline: batch?,
            max_connections: connections?[0],
            max_streams: u32::try_from(streams?).unwrap_or(u32::MAX),
            max_in_flight: in_flight?,
            max_request_memory: memory?,
            max_header_bytes: header?,
            max_connection_age: ages?[0],
            max_connection_age_grace: age_grace?,
            keepalive_interval: keepalive?[0],
            keepalive_timeout: keepalive?[1],
            drain_delay: shutdown?[0],
            shutdown_grace: shutdown?[1],
            error_docs_url,
            insecure,
            memory_limit: memory_limit?,
            max_caller_share: share,
            max_connections_per_address: connections?[1],
            max_connection_idle: ages?[1],
            max_response_bytes: response?,
            tls: tls?,
        })
    }

    /// Limits of connections, in all and from one address.
    fn connections(&mut self, total: usize, per_address: usize) -> Option<[usize; 2]> {
        let total = self.number("grpc.max_connections", total, 1, 1_000_000);
        let key = "grpc.max_connections_per_address";
        let per_address = self.number(key, per_address, 1, 1_000_000);
        Some([total?, per_address?])
    }

    /// Maximum age and idle time of connections.
    fn connection_ages(&mut self, age: &str, idle: &str) -> Option<[Duration; 2]> {
        let age = self.duration("grpc.max_connection_age", age, 100, 86_400_000);
        let idle = self.duration("grpc.max_connection_idle", idle, 100, 86_400_000);
        Some([age?, idle?])
    }

    /// Delay and grace period of the shutdown.
    fn shutdown(&mut self, delay: &str, grace: &str) -> Option<[Duration; 2]> {
        let delay = self.duration("grpc.drain_delay", delay, 0, 300_000);
        let grace = self.duration("grpc.shutdown_grace", grace, 0, 600_000);
        Some([delay?, grace?])
    }

    /// Interval and timeout of keepalive pings.
    fn keepalive(&mut self, interval: &str, timeout: &str) -> Option<[Duration; 2]> {
        let interval = self.duration("grpc.keepalive_interval", interval, 100, 3_600_000);
        let timeout = self.duration("grpc.keepalive_timeout", timeout, 100, 600_000);
        Some([interval?, timeout?])
    }

    /// A caller must be able to send the largest request.
    fn request_memory(&mut self, text: &str, request: Option<usize>, share: f64) -> Option<usize> {
        if !(0.01..=1.0).contains(&share) {
            self.add_error("grpc.max_caller_share", "must be 0.01 to 1.0");
        }
        let memory = self.size("grpc.max_request_memory", text, 1 << 20, 64 << 30)?;
        let request = request?;
        if memory < request {
            self.add_error("grpc.max_request_memory", "is less than grpc.max_request_size");
        } else if (memory as f64) * share < request as f64 {
            let text = "times grpc.max_caller_share is less than grpc.max_request_size";
            self.add_error("grpc.max_request_memory", text);
        }
        Some(memory)
    }

    /// A caller must be able to get the largest response.
    fn response_size(&mut self, text: &str, memory: Option<usize>, share: f64) -> Option<usize> {
        let size = self.size("grpc.max_response_size", text, 64 << 10, 256 << 20)?;
        if memory.is_some_and(|memory| (memory as f64) * share < size as f64) {
            let text = "times grpc.max_caller_share is less than grpc.max_response_size";
            self.add_error("grpc.max_request_memory", text);
        }
        Some(size)
    }

    fn memory_limit(&mut self, text: &str) -> Option<MemoryLimit> {
        match text {
            "cgroup" => Some(MemoryLimit::Cgroup),
            "off" => Some(MemoryLimit::Off),
            size if parse_size(size).is_some() => {
                let bytes = self.size("grpc.memory_limit", size, 64 << 20, 1 << 40);
                bytes.map(MemoryLimit::Bytes)
            }
            _ => {
                self.add_error(
                    "grpc.memory_limit",
                    "must be cgroup, off, or a size such as 512MiB",
                );
                None
            }
        }
    }

    /// A connection that ends before the longest deadline would cut calls, whose outcome their callers
    /// then do not know.
    fn age_grace(
        &mut self,
        text: &str,
        deadline: Option<Duration>,
        batch_deadline: Option<Duration>,
    ) -> Option<Duration> {
        let key = "grpc.max_connection_age_grace";
        let grace = self.duration(key, text, 0, 3_600_000)?;
        let deadlines = [("max_deadline", deadline), ("max_batch_deadline", batch_deadline)];
        for (name, deadline) in deadlines {
            if let Some(deadline) = deadline.filter(|deadline| grace < *deadline) {
                self.add_error(key, format!("{grace:?} is less than grpc.{name} ({deadline:?})"));
            }
        }
        Some(grace)
    }

    fn error_docs_url(&mut self, link: &str) {
        if link.len() > 512 || link.chars().any(char::is_control) {
            self.add_error(
                "grpc.error_docs_url",
                "must be a URL of at most 512 characters, or empty",
            );
        }
    }
}
