//! Methods of the server, with their kinds and metrics. The table is built once at startup, so that a call
//! looks up its method without allocating labels.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use prost::Message as _;
use prost_types::{FileDescriptorSet, MethodDescriptorProto};
use tonic::Code;

use super::{DESCRIPTORS, transport::call_state::MessageCounters};
use crate::telemetry::histogram::Histogram;

/// Names of the gRPC codes, by number.
const CODES: [&str; 17] = [
    "OK",
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
];

/// The same as labels of metrics: go-grpc-prometheus spells them as Go does.
const GO_CODES: [&str; 17] = [
    "OK",
    "Canceled",
    "Unknown",
    "InvalidArgument",
    "DeadlineExceeded",
    "NotFound",
    "AlreadyExists",
    "PermissionDenied",
    "ResourceExhausted",
    "FailedPrecondition",
    "Aborted",
    "OutOfRange",
    "Unimplemented",
    "Internal",
    "Unavailable",
    "DataLoss",
    "Unauthenticated",
];

/// Table of all methods, with one entry for unknown methods.
#[derive(Debug)]
pub(crate) struct Methods {
    all: Vec<Method>,
    by_path: HashMap<String, usize>,
}

/// Kind of a method, which determines the maximum deadline of its calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum MethodKind {
    /// Call for one lead or one page.
    Unary,
    /// Batch call.
    Batch,
    /// Stream, which may last as long as its client wants.
    Streaming,
}

/// Service that handles a method.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ServiceKind {
    /// LeadsService.
    Leads,
    /// QuotaService.
    Quota,
    /// Services of gRPC itself (health, reflection) and unknown services.
    Other,
}

/// Method of a service.
#[derive(Debug)]
pub(crate) struct Method {
    /// Full name, such as `leadsd.v1.LeadsService/GetLead`; empty for unknown methods.
    pub(crate) name: String,
    pub(crate) service: String,
    pub(crate) method: String,
    grpc_type: &'static str,
    pub(crate) kind: MethodKind,
    pub(crate) service_kind: ServiceKind,
    /// True for methods of the health service.
    pub(crate) is_probe: bool,
    /// True for methods of this API, false for those of gRPC itself.
    pub(crate) is_public_api: bool,
    started: AtomicU64,
    handled: [AtomicU64; CODES.len()],
    took: Histogram,
    /// Shared with the calls, whose bodies count.
    pub(crate) messages: Arc<MessageCounters>,
}

/// Snapshot of the metrics of a method.
#[derive(Debug, Clone)]
pub struct MethodSnapshot {
    /// Kind of RPC: `unary`, `client_stream`, `server_stream` or `bidi_stream`.
    pub grpc_type: &'static str,
    /// Full name of the service.
    pub service: String,
    /// Name of the method.
    pub method: String,
    /// Number of started calls.
    pub started: u64,
    /// Number of finished calls by code as Go spells it, without codes that never occurred.
    pub handled: Vec<(&'static str, u64)>,
    /// Duration of the finished calls.
    pub took: Histogram,
    /// Number of request messages that were read completely.
    pub received: u64,
    /// Number of response messages that were passed to HTTP/2.
    pub sent: u64,
}

// === impl Methods ===

impl Methods {
    /// Builds the table of the methods of all services.
    pub(crate) fn all() -> Self {
        let sets = [
            DESCRIPTORS,
            tonic_health::pb::FILE_DESCRIPTOR_SET,
            tonic_reflection::pb::v1::FILE_DESCRIPTOR_SET,
            tonic_reflection::pb::v1alpha::FILE_DESCRIPTOR_SET,
        ];
        let unknown = Method { name: String::new(), ..Method::new("unknown", "unknown", "unary") };
        let mut all = vec![unknown];
        let mut by_path = HashMap::new();
        for set in sets {
            // The descriptors are compiled in.
            let set = FileDescriptorSet::decode(set).unwrap_or_default();
            for file in &set.file {
                for service in &file.service {
                    for method in &service.method {
                        let full = format!("{}.{}", file.package(), service.name());
                        let method = Method::new(&full, method.name(), grpc_type(method));
                        by_path.entry(format!("/{}", method.name)).or_insert(all.len());
                        all.push(method);
                    }
                }
            }
        }
        Self { all, by_path }
    }

    /// Index of the method with this path.
    pub(crate) fn find(&self, path: &str) -> usize {
        self.by_path.get(path).copied().unwrap_or(0)
    }

    pub(crate) fn get(&self, number: usize) -> &Method {
        &self.all[number]
    }

    pub(crate) fn snapshot(&self) -> Vec<MethodSnapshot> {
        self.all.iter().map(Method::snapshot).collect()
    }
}

// === impl Method ===

impl Method {
    fn new(service: &str, method: &str, grpc_type: &'static str) -> Self {
        let kind = if method.starts_with("Batch") {
            MethodKind::Batch
        } else if method.starts_with("Watch") {
            MethodKind::Streaming
        } else {
            MethodKind::Unary
        };
        let service_kind = match service {
            "leadsd.v1.LeadsService" => ServiceKind::Leads,
            "leadsd.v1.QuotaService" => ServiceKind::Quota,
            _ => ServiceKind::Other,
        };
        Self {
            name: format!("{service}/{method}"),
            service: service.to_owned(),
            method: method.to_owned(),
            grpc_type,
            kind,
            service_kind,
            is_probe: service == "grpc.health.v1.Health",
            is_public_api: !service.starts_with("grpc."),
            started: AtomicU64::new(0),
            handled: Default::default(),
            took: Histogram::default(),
            messages: Arc::default(),
        }
    }

    /// Reports whether this is the entry for unknown methods.
    pub(crate) fn is_unknown(&self) -> bool {
        self.name.is_empty()
    }

    pub(crate) fn on_started(&self) {
        self.started.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn on_finished(&self, code: Code, took: Duration) {
        self.handled[code as usize].fetch_add(1, Ordering::Relaxed);
        self.took.observe(took);
    }

    fn snapshot(&self) -> MethodSnapshot {
        // In this order of reads, finished calls never exceed started calls.
        let handled: Vec<_> = GO_CODES
            .into_iter()
            .zip(self.handled.iter().map(|count| count.load(Ordering::Relaxed)))
            .filter(|(_, count)| *count > 0)
            .collect();
        MethodSnapshot {
            grpc_type: self.grpc_type,
            service: self.service.clone(),
            method: self.method.clone(),
            started: self.started.load(Ordering::Relaxed),
            handled,
            took: self.took.clone(),
            received: self.messages.received(),
            sent: self.messages.sent(),
        }
    }
}

/// Kind of RPC, as go-grpc-prometheus names it.
fn grpc_type(method: &MethodDescriptorProto) -> &'static str {
    match (method.client_streaming(), method.server_streaming()) {
        (false, false) => "unary",
        (true, false) => "client_stream",
        (false, true) => "server_stream",
        (true, true) => "bidi_stream",
    }
}

/// Name of a gRPC code, such as `NOT_FOUND`.
pub(crate) fn code_name(code: Code) -> &'static str {
    CODES[code as usize]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_method_is_found_by_its_path_and_all_others_are_unknown() {
        let methods = Methods::all();
        let found = |path: &str| methods.get(methods.find(path));
        let get = found("/leadsd.v1.LeadsService/GetLead");
        assert_eq!((get.kind, get.is_public_api, get.is_probe), (MethodKind::Unary, true, false));
        assert_eq!(found("/leadsd.v1.LeadsService/BatchGetLeads").kind, MethodKind::Batch);
        assert_eq!(found("/leadsd.v1.QuotaService/WatchQuota").kind, MethodKind::Streaming);
        let check = found("/grpc.health.v1.Health/Check");
        assert_eq!((check.is_public_api, check.is_probe), (false, true));
        assert!(!found("/grpc.reflection.v1.ServerReflection/ServerReflectionInfo").is_public_api);
        let kinds = ["LeadsService/GetLead", "QuotaService/GetQuota", "OtherService/Get"]
            .map(|method| found(&format!("/leadsd.v1.{method}")).service_kind);
        assert_eq!(kinds, [ServiceKind::Leads, ServiceKind::Quota, ServiceKind::Other]);
        let types = [
            "/leadsd.v1.LeadsService/GetLead",
            "/leadsd.v1.QuotaService/WatchQuota",
            "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
            "/",
        ];
        let types = types.map(|path| found(path).grpc_type);
        assert_eq!(types, ["unary", "server_stream", "bidi_stream", "unary"]);
        for unknown in ["/", "", "/leadsd.v1.LeadsService/Nope", "/../x"] {
            assert_eq!(found(unknown).service, "unknown");
        }
    }

    #[test]
    fn codes_are_named_in_the_order_of_their_numbers() {
        for number in 0..17 {
            let code = Code::from_i32(number);
            assert_eq!(code as i32, number);
            let plain = code_name(code).replace('_', "").to_lowercase();
            assert_eq!(format!("{code:?}").to_lowercase(), plain);
            // Go writes Canceled with one l.
            let go = GO_CODES[code as usize].to_lowercase().replace("canceled", "cancelled");
            assert_eq!(go, plain);
        }
    }
}
