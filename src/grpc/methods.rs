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

use super::{
    DESCRIPTORS, health_list,
    shape::{RequestShape, ShapeId, ShapesBuilder},
    transport::{
        call_state::MessageCounters,
        request_body::{RequestFormat, RequestMessages},
    },
};
use crate::{
    leads::{Error, Reason},
    telemetry::histogram::Histogram,
};
use leadsd_quota::Priority;

/// Maximum length in characters of a name in the error for an unknown method.
const MAX_NAME: usize = 128;

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
    /// SchemaService.
    Schema,
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
    pub(crate) request: RequestFormat,
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
    /// Index of the entry for unknown methods.
    pub(crate) const UNKNOWN: usize = 0;

    /// Builds the table of the methods of all services.
    pub(crate) fn new(max_batch_inputs: usize) -> Self {
        let sets = [
            DESCRIPTORS,
            health_list::descriptors(),
            tonic_reflection::pb::v1::FILE_DESCRIPTOR_SET,
            tonic_reflection::pb::v1alpha::FILE_DESCRIPTOR_SET,
        ];
        // The descriptors are compiled in.
        let sets = sets.map(|set| FileDescriptorSet::decode(set).unwrap_or_default());
        let mut shapes = ShapesBuilder::new(&sets, max_batch_inputs);
        let unknown = MethodDescriptorProto::default();
        let mut described = vec![(String::new(), &unknown, ShapeId::default())];
        for file in sets.iter().flat_map(|set| &set.file) {
            for service in &file.service {
                let full = format!("{}.{}", file.package(), service.name());
                let methods = service.method.iter();
                described.extend(
                    methods.map(|method| (full.clone(), method, shapes.add(method.input_type()))),
                );
            }
        }
        let shapes = Arc::new(shapes.finish());
        let mut all = Vec::with_capacity(described.len());
        let mut by_path = HashMap::new();
        for (service, descriptor, root) in described {
            let shape = RequestShape { shapes: Arc::clone(&shapes), root };
            let method = Method::new(&service, descriptor, shape);
            if !method.is_unknown() {
                by_path.entry(format!("/{}", method.name)).or_insert(all.len());
            }
            all.push(method);
        }
        Self { all, by_path }
    }

    /// Index of the method with this path.
    pub(crate) fn find(&self, path: &str) -> usize {
        self.by_path.get(path).copied().unwrap_or(Self::UNKNOWN)
    }

    /// Error of a call to a path without a method.
    pub(crate) fn not_found(&self, path: &str) -> Error {
        let path = path.strip_prefix('/').unwrap_or(path);
        let (service, method) = path.split_once('/').unwrap_or((path, ""));
        let shorten = |name: &str| name.chars().take(MAX_NAME).collect::<String>();
        let text = if self.all.iter().any(|known| known.service == service && !known.is_unknown()) {
            format!("service {service} has no method {:?}", shorten(method))
        } else {
            format!("leadsd has no service {:?}", shorten(service))
        };
        let text = format!("{text}; use the protos of this version, see gRPC reflection");
        Error::new(Reason::Unimplemented, text)
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
    /// Reports whether clients send a stream of messages.
    pub(crate) fn has_request_stream(&self) -> bool {
        matches!(self.grpc_type, "client_stream" | "bidi_stream")
    }

    /// Creates a method. Without a service, it is the entry for unknown methods.
    fn new(service: &str, descriptor: &MethodDescriptorProto, shape: RequestShape) -> Self {
        let (name, service, method) = match service {
            "" => (String::new(), "unknown", "unknown"),
            _ => (format!("{service}/{}", descriptor.name()), service, descriptor.name()),
        };
        let kind = if method.starts_with("Batch") {
            MethodKind::Batch
        } else if descriptor.server_streaming()
            && (!descriptor.client_streaming() || is_public_api(service))
        {
            MethodKind::Streaming
        } else {
            MethodKind::Unary
        };
        let service_kind = match service {
            "leadsd.v1.LeadsService" => ServiceKind::Leads,
            "leadsd.v1.QuotaService" => ServiceKind::Quota,
            "leadsd.v1.SchemaService" => ServiceKind::Schema,
            _ => ServiceKind::Other,
        };
        let messages = match descriptor.client_streaming() {
            true => RequestMessages::Stream,
            false => RequestMessages::One,
        };
        Self {
            name,
            service: service.to_owned(),
            method: method.to_owned(),
            grpc_type: grpc_type(descriptor),
            request: RequestFormat { messages, shape },
            kind,
            service_kind,
            is_probe: service == "grpc.health.v1.Health",
            is_public_api: is_public_api(service),
            started: AtomicU64::new(0),
            handled: Default::default(),
            took: Histogram::default(),
            messages: Arc::default(),
        }
    }

    /// Priority of calls that do not name one.
    pub(crate) fn default_priority(&self) -> Priority {
        match &*self.method {
            "ExportLeads" | "ImportLeads" => Priority::Bulk,
            _ => Priority::Interactive,
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

/// Reports whether a service is one of this API, not of gRPC itself.
fn is_public_api(service: &str) -> bool {
    !service.starts_with("grpc.")
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
        let methods = Methods::new(10_000);
        let found = |path: &str| methods.get(methods.find(path));
        let get = found("/leadsd.v1.LeadsService/GetLead");
        assert_eq!((get.kind, get.is_public_api, get.is_probe), (MethodKind::Unary, true, false));
        assert_eq!(found("/leadsd.v1.LeadsService/BatchGetLeads").kind, MethodKind::Batch);
        let watch = found("/leadsd.v1.QuotaService/WatchQuota");
        let export = found("/leadsd.v1.LeadsService/ExportLeads");
        let import = found("/leadsd.v1.LeadsService/ImportLeads");
        let health = found("/grpc.health.v1.Health/Watch");
        assert_eq!([watch, export, import, health].map(|it| it.kind), [MethodKind::Streaming; 4]);
        let priorities = [get, watch].map(Method::default_priority);
        assert_eq!(priorities, [Priority::Interactive; 2]);
        let priorities = [export, import].map(Method::default_priority);
        assert_eq!(priorities, [Priority::Bulk; 2]);
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
        let reflection = "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo";
        assert_eq!(found(reflection).request.messages, RequestMessages::Stream);
        let watch = found("/leadsd.v1.QuotaService/WatchQuota").request.messages;
        assert_eq!((watch, get.request.messages), (RequestMessages::One, RequestMessages::One));
        for unknown in ["/", "", "/leadsd.v1.LeadsService/Nope", "/../x"] {
            assert_eq!(found(unknown).service, "unknown");
        }
    }

    #[test]
    fn the_error_for_an_unknown_method_says_what_is_unknown() {
        let methods = Methods::new(10_000);
        for (path, text) in [
            (
                "/leadsd.v1.LeadsService/GetLeads",
                "service leadsd.v1.LeadsService has no method \"GetLeads\"; ",
            ),
            ("/leadsd.v1.LeadsService", "service leadsd.v1.LeadsService has no method \"\"; "),
            (
                "/leadsd.v2.LeadsService/GetLead",
                "leadsd has no service \"leadsd.v2.LeadsService\"; ",
            ),
            ("/unknown/unknown", "leadsd has no service \"unknown\"; "),
            ("", "leadsd has no service \"\"; "),
        ] {
            let error = methods.not_found(path);
            assert_eq!(error.reason(), Reason::Unimplemented);
            assert!(error.message().starts_with(text), "{path}: {error}");
        }
        let long = methods.not_found(&format!("/{}/x", "x".repeat(10_000)));
        assert!(long.message().len() < 256, "{long}");
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
