//! Who may name whom. A module that is not in the table may not exist, so that whoever adds one
//! decides where it stands.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use crate::source::{Named, Production};

/// What one top module of `src/` may name, besides itself and [`EVERYWHERE`].
struct Row {
    module: &'static str,
    /// Modules of this crate.
    own: &'static [&'static str],
    /// Other crates.
    outside: &'static [&'static str],
}

/// Stands for every module, respectively every crate.
const ANY: &[&str] = &["*"];

/// Crates that any module may name: the language, the runtime, and what carries errors and logs.
const EVERYWHERE: &[&str] = &[
    "std",
    "core",
    "alloc",
    "tokio",
    "futures_util",
    "parking_lot",
    "arc_swap",
    "tracing",
    "thiserror",
    "leadsd_base",
    "leadsd_credentials",
    "leadsd_quota",
];

/// Dependencies point inward: `grpc -> leads <- hubspot -> credentials <- vault`. `app` joins.
const TABLE: &[Row] = &[
    Row { module: "retry", own: &[], outside: &[] },
    Row { module: "telemetry", own: &[], outside: TELEMETRY_CRATES },
    // The domain knows no protocol.
    Row { module: "leads", own: &["telemetry"], outside: &["async_trait", "uuid"] },
    // Configuration is parsed into the types of those who use it.
    Row { module: "config", own: &["leads", "telemetry"], outside: CONFIG_CRATES },
    // Callers have names, whatever protocol they come by.
    Row { module: "auth", own: AUTH, outside: AUTH_CRATES },
    // Two clients of the outside world, each behind a port.
    Row { module: "vault", own: VAULT, outside: VAULT_CRATES },
    Row { module: "hubspot", own: HUBSPOT, outside: HUBSPOT_CRATES },
    // Two servers.
    Row { module: "grpc", own: &["auth", "leads", "telemetry"], outside: GRPC_CRATES },
    Row {
        module: "admin",
        own: ADMIN,
        outside: &["axum", "hyper", "hyper_util", "prometheus_client", "serde", "serde_json"],
    },
    // The composition root and the command line.
    Row { module: "app", own: ANY, outside: ANY },
    Row { module: "cli", own: ANY, outside: ANY },
];

const AUTH: &[&str] = &["config", "leads"];
const AUTH_CRATES: &[&str] = &[
    "async_trait",
    "aws_lc_rs",
    "jsonwebtoken",
    "rand",
    "reqwest",
    "rustls",
    "serde",
    "serde_json",
    "subtle",
    "url",
    "webpki",
    "webpki_root_certs",
];
const CONFIG_CRATES: &[&str] =
    &["figment", "serde", "serde_json", "toml", "tracing_subscriber", "url"];
const TELEMETRY_CRATES: &[&str] = &[
    "http",
    "opentelemetry",
    "opentelemetry_otlp",
    "opentelemetry_sdk",
    "rand",
    "rustls",
    "tonic",
    "tracing_subscriber",
    "url",
    "uuid",
    "webpki",
    "webpki_root_certs",
];
const VAULT: &[&str] = &["config", "retry", "telemetry"];
const VAULT_CRATES: &[&str] = &[
    "async_trait",
    "rand",
    "reqwest",
    "rustify",
    "rustls",
    "serde",
    "serde_json",
    "url",
    "vaultrs",
    "webpki_root_certs",
];
const HUBSPOT: &[&str] = &["config", "leads", "retry", "telemetry"];
const HUBSPOT_CRATES: &[&str] = &[
    "async_trait",
    "http",
    "rand",
    "reqwest",
    "rustls",
    "serde",
    "serde_json",
    "url",
    "webpki_root_certs",
];
const GRPC_CRATES: &[&str] = &[
    "base64",
    "http",
    "hyper",
    "hyper_util",
    "prost",
    "prost_types",
    "rand",
    "rustls",
    "tokio_rustls",
    "tonic",
    "tonic_health",
    "tonic_prost",
    "tonic_reflection",
    "tonic_types",
    "tower",
    "uuid",
    "zeroize",
];
const ADMIN: &[&str] = &["auth", "config", "grpc", "hubspot", "telemetry", "vault"];

/// Where a path leads.
#[derive(Debug, PartialEq, Eq)]
enum Leads<'a> {
    /// To a top module of this crate.
    Own(&'a str),
    /// To the crate root as a whole.
    Root,
    /// To another crate, or to something local.
    Outside(&'a str),
}

/// Faults of one file. `crates` are the dependencies, as they are written in code.
pub(crate) fn faults(file: &Path, code: &Production, crates: &BTreeSet<String>) -> Vec<String> {
    let modules = module_path(file);
    let Some(top) = modules.first() else { return Vec::new() };
    let Some(row) = TABLE.iter().find(|row| row.module == top) else {
        return vec![format!("{}: `{top}` has no row in the table of layers", file.display())];
    };
    let mut faults = Vec::new();
    for named in &code.paths {
        let at = format!("{}:{}", file.display(), named.line);
        match leads_to(&modules, named) {
            Leads::Root if row.own != ANY => {
                faults.push(format!("{at}: `{top}` names the crate as a whole"));
            }
            Leads::Own(other) if other != top && row.own != ANY && !row.own.contains(&other) => {
                faults.push(format!("{at}: `{top}` must not name `{other}`"));
            }
            Leads::Outside("clap") if top != "cli" => {
                faults.push(format!("{at}: only `cli` reads the command line"));
            }
            Leads::Outside(name)
                if crates.contains(name)
                    && !code.local.contains(name)
                    && !EVERYWHERE.contains(&name)
                    && row.outside != ANY
                    && !row.outside.contains(&name) =>
            {
                faults.push(format!("{at}: `{top}` must not name the crate `{name}`"));
            }
            Leads::Root | Leads::Own(_) | Leads::Outside(_) => {}
        }
    }
    faults
}

/// Which other top modules a file names.
pub(crate) fn neighbours(file: &Path, code: &Production) -> BTreeSet<String> {
    let modules = module_path(file);
    let known = |name: &str| TABLE.iter().any(|row| row.module == name);
    code.paths
        .iter()
        .filter_map(|named| match leads_to(&modules, named) {
            Leads::Own(other)
                if known(other) && modules.first().is_some_and(|top| top != other) =>
            {
                Some(other.to_owned())
            }
            _ => None,
        })
        .collect()
}

/// A round trip through the modules, if there is one: then no order exists to read them in.
pub(crate) fn cycle(graph: &BTreeMap<String, BTreeSet<String>>) -> Option<Vec<String>> {
    fn visit(
        module: &str,
        graph: &BTreeMap<String, BTreeSet<String>>,
        trail: &mut Vec<String>,
        done: &mut BTreeSet<String>,
    ) -> Option<Vec<String>> {
        if let Some(start) = trail.iter().position(|seen| seen == module) {
            let mut round = trail[start..].to_vec();
            round.push(module.to_owned());
            return Some(round);
        }
        if done.contains(module) {
            return None;
        }
        trail.push(module.to_owned());
        let found = graph
            .get(module)
            .into_iter()
            .flatten()
            .find_map(|next| visit(next, graph, trail, done));
        trail.pop();
        done.insert(module.to_owned());
        found
    }
    let mut done = BTreeSet::new();
    graph.keys().find_map(|module| visit(module, graph, &mut Vec::new(), &mut done))
}

/// Faults of the table itself: a name in it that is no module or no dependency is a slip.
pub(crate) fn table_faults(crates: &BTreeSet<String>) -> Vec<String> {
    let mut faults = Vec::new();
    for Row { module, own, outside } in TABLE {
        for name in own.iter().filter(|name| **name != "*") {
            if !TABLE.iter().any(|row| row.module == *name) {
                faults.push(format!("row `{module}` allows `{name}`, which has no row"));
            }
        }
        for name in outside.iter().filter(|name| **name != "*") {
            if !crates.contains(*name) {
                faults.push(format!("row `{module}` allows `{name}`, which is no dependency"));
            }
        }
    }
    faults
}

/// `src/leads/call.rs` is `["leads", "call"]`; the crate root and `main` are none.
fn module_path(file: &Path) -> Vec<String> {
    let inside = file.strip_prefix("src").unwrap_or(file).with_extension("");
    let names: Vec<String> =
        inside.iter().filter_map(|name| name.to_str()).map(str::to_owned).collect();
    if matches!(names.iter().map(String::as_str).collect::<Vec<_>>()[..], ["lib" | "main"]) {
        return Vec::new();
    }
    names
}

fn leads_to<'a>(modules: &'a [String], named: &'a Named) -> Leads<'a> {
    let mut segments = named.segments.iter().map(String::as_str).peekable();
    let mut base: Vec<&str> = match segments.peek() {
        Some(&"crate") => {
            segments.next();
            Vec::new()
        }
        Some(&("self" | "super")) => {
            modules.iter().chain(&named.inside).map(String::as_str).collect()
        }
        Some(name) => return Leads::Outside(name),
        None => return Leads::Root,
    };
    for segment in segments {
        match segment {
            "self" => {}
            "super" => {
                base.pop();
            }
            name => base.push(name),
        }
    }
    match base.first() {
        Some(&"*") | None => Leads::Root,
        Some(top) => Leads::Own(top),
    }
}
