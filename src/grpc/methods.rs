//! Every method that can be called, with its kind and its counts, found once at the start: a call
//! looks its own up and allocates no label.

use std::{
    collections::HashMap,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use prost::Message as _;
use prost_types::FileDescriptorSet;
use tonic::Code;

use super::DESCRIPTORS;
use crate::telemetry::histogram::Histogram;

/// Codes of gRPC, by number.
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

/// All methods, and one that stands for those that do not exist.
#[derive(Debug)]
pub(crate) struct Methods {
    all: Vec<Method>,
    by_path: HashMap<String, usize>,
}

/// How long calls of a method may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CallKind {
    /// One lead or one page.
    Unary,
    /// A batch.
    Batch,
    /// As long as the caller wants.
    Streaming,
}

/// One method.
#[derive(Debug)]
pub(crate) struct Method {
    /// `hubspot.leads.v1.LeadsService/GetLead`; empty for those that do not exist.
    pub(crate) name: String,
    pub(crate) service: String,
    pub(crate) method: String,
    pub(crate) kind: CallKind,
    /// Whether it only asks how the service is.
    pub(crate) is_probe: bool,
    /// Whether it is part of what the service is for.
    pub(crate) is_public_api: bool,
    started: AtomicU64,
    handled: [AtomicU64; CODES.len()],
    took: Histogram,
}

/// A method at one moment.
#[derive(Debug, Clone)]
pub struct MethodSnapshot {
    /// Full name of the service.
    pub service: String,
    /// Name of the method.
    pub method: String,
    /// Calls begun.
    pub started: u64,
    /// Calls over, by code; codes that never were are left out.
    pub handled: Vec<(&'static str, u64)>,
    /// How long those took.
    pub took: Histogram,
}

// === impl Methods ===

impl Methods {
    /// The methods of all services that the server has.
    pub(crate) fn known() -> Self {
        let sets = [
            DESCRIPTORS,
            tonic_health::pb::FILE_DESCRIPTOR_SET,
            tonic_reflection::pb::v1::FILE_DESCRIPTOR_SET,
            tonic_reflection::pb::v1alpha::FILE_DESCRIPTOR_SET,
        ];
        let mut all = vec![Method::new("unknown", "unknown")];
        all[0].name.clear();
        let mut by_path = HashMap::new();
        for set in sets {
            // They are compiled in.
            let set = FileDescriptorSet::decode(set).unwrap_or_default();
            for file in &set.file {
                for service in &file.service {
                    for method in &service.method {
                        let full = format!("{}.{}", file.package(), service.name());
                        let method = Method::new(&full, method.name());
                        by_path.entry(format!("/{}", method.name)).or_insert(all.len());
                        all.push(method);
                    }
                }
            }
        }
        Self { all, by_path }
    }

    /// The number of the method with this path.
    pub(crate) fn find(&self, path: &str) -> usize {
        self.by_path.get(path).copied().unwrap_or(0)
    }

    pub(crate) fn get(&self, number: usize) -> &Method {
        &self.all[number]
    }

    pub(crate) fn view(&self) -> Vec<MethodSnapshot> {
        self.all.iter().map(Method::view).collect()
    }
}

// === impl Method ===

impl Method {
    fn new(service: &str, method: &str) -> Self {
        let is_health = service == "grpc.health.v1.Health";
        let kind = match () {
            () if method.starts_with("Batch") => CallKind::Batch,
            () if method.starts_with("Watch") => CallKind::Streaming,
            () => CallKind::Unary,
        };
        Self {
            name: format!("{service}/{method}"),
            service: service.to_owned(),
            method: method.to_owned(),
            kind,
            is_probe: is_health,
            is_public_api: !service.starts_with("grpc."),
            started: AtomicU64::new(0),
            handled: Default::default(),
            took: Histogram::default(),
        }
    }

    pub(crate) fn started(&self) {
        self.started.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn handled(&self, code: Code, took: Duration) {
        self.handled[code as usize].fetch_add(1, Ordering::Relaxed);
        self.took.observe(took);
    }

    fn view(&self) -> MethodSnapshot {
        // Read in this order, no more can be over than were begun.
        let handled: Vec<_> = CODES
            .into_iter()
            .zip(self.handled.iter().map(|count| count.load(Ordering::Relaxed)))
            .filter(|(_, count)| *count > 0)
            .collect();
        MethodSnapshot {
            service: self.service.clone(),
            method: self.method.clone(),
            started: self.started.load(Ordering::Relaxed),
            handled,
            took: self.took.clone(),
        }
    }
}

/// The name of a code, as gRPC writes it.
pub(crate) fn code_name(code: Code) -> &'static str {
    CODES[code as usize]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_method_is_known_by_its_path_and_all_others_are_one() {
        let methods = Methods::known();
        let found = |path: &str| methods.get(methods.find(path));
        let get = found("/hubspot.leads.v1.LeadsService/GetLead");
        assert_eq!((get.kind, get.is_public_api, get.is_probe), (CallKind::Unary, true, false));
        assert_eq!(found("/hubspot.leads.v1.LeadsService/BatchGetLeads").kind, CallKind::Batch);
        assert_eq!(found("/hubspot.leads.v1.QuotaService/WatchQuota").kind, CallKind::Streaming);
        let check = found("/grpc.health.v1.Health/Check");
        assert_eq!((check.is_public_api, check.is_probe), (false, true));
        assert!(!found("/grpc.reflection.v1.ServerReflection/ServerReflectionInfo").is_public_api);
        for nonsense in ["/", "", "/hubspot.leads.v1.LeadsService/Nope", "/../x"] {
            assert_eq!(found(nonsense).service, "unknown");
        }
    }

    #[test]
    fn codes_are_named_as_tonic_numbers_them() {
        for number in 0..17 {
            let code = Code::from_i32(number);
            assert_eq!(code as i32, number);
            let plain = code_name(code).replace('_', "").to_lowercase();
            assert_eq!(format!("{code:?}").to_lowercase(), plain);
        }
    }
}
