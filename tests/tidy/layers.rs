//! Permitted dependencies between the modules of `src/`. The compiler separates crates; within the
//! root package this table does. A module without a row is a fault.

use std::{collections::BTreeSet, path::Path};

use crate::source::{Named, Production};

/// Modules of this crate that one top module may name, besides itself.
struct Row {
    module: &'static str,
    own: &'static [&'static str],
}

/// Stands for every module.
const ANY: &[&str] = &["*"];

/// Modules that the admin endpoints show.
const ADMIN: &[&str] = &["auth", "config", "grpc", "pipeline", "telemetry", "vault"];

/// Dependencies point inward: `grpc -> leads <- pipeline -> hubspot`. `app` joins.
const TABLE: &[Row] = &[
    Row { module: "telemetry", own: &[] },
    Row { module: "leads", own: &["telemetry"] },
    // Configuration is parsed into the types of its users.
    Row { module: "config", own: &["leads", "telemetry"] },
    Row { module: "auth", own: &["config", "leads"] },
    Row { module: "vault", own: &["config", "telemetry"] },
    Row { module: "hubspot", own: &["config", "leads", "telemetry"] },
    // Redis, as the domain's store of request ids.
    Row { module: "request_ids", own: &["leads"] },
    // Between the domain and HubSpot.
    Row { module: "pipeline", own: &["hubspot", "leads", "telemetry"] },
    Row { module: "grpc", own: &["auth", "leads", "telemetry"] },
    Row { module: "admin", own: ADMIN },
    // The composition root and the command line.
    Row { module: "app", own: ANY },
    Row { module: "cli", own: ANY },
];

/// Crates of a protocol or a format, and the modules that speak it. Modules with every right (`app`,
/// `cli`) need no entry. Crates that are not listed may be named anywhere.
const HOMES: &[(&str, &[&str])] = &[
    ("axum", &["admin"]),
    ("clap", &["cli"]),
    ("figment", &["config"]),
    ("hyper", &["admin", "grpc"]),
    ("hyper_util", &["admin", "grpc"]),
    ("jsonwebtoken", &["auth"]),
    ("leadsd_redis", &["config", "request_ids"]),
    ("opentelemetry", &["telemetry"]),
    ("opentelemetry_otlp", &["telemetry"]),
    ("opentelemetry_sdk", &["telemetry"]),
    ("prometheus_client", &["admin", "telemetry"]),
    ("prost", &["grpc", "telemetry"]),
    ("reqwest", &["auth", "hubspot", "vault"]),
    ("rustify", &["vault"]),
    ("toml", &["config"]),
    ("tonic", &["grpc", "telemetry"]),
    ("tonic_types", &["grpc"]),
    ("vaultrs", &["vault"]),
];

/// Target of a path.
#[derive(Debug, PartialEq, Eq)]
enum Leads<'a> {
    /// To a top module of this crate.
    Own(&'a str),
    /// To the crate root as a whole.
    Root,
    /// To another crate, or to something local.
    Outside(&'a str),
}

/// Faults of one file.
pub(crate) fn faults(file: &Path, code: &Production) -> Vec<String> {
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
            Leads::Outside(name) if !code.local.contains(name) && !is_home(name, row) => {
                faults.push(format!("{at}: `{top}` must not name the crate `{name}`"));
            }
            Leads::Root | Leads::Own(_) | Leads::Outside(_) => {}
        }
    }
    faults
}

/// True if this module may name an external crate. Only `cli` reads the command line.
fn is_home(name: &str, row: &Row) -> bool {
    let home = HOMES.iter().find(|(outside, _)| *outside == name);
    home.is_none_or(|(_, modules)| {
        modules.contains(&row.module) || (row.own == ANY && name != "clap")
    })
}

/// Faults of the tables: names that are neither modules nor dependencies.
/// `crates` are the dependencies, as they are written in code.
pub(crate) fn table_faults(crates: &BTreeSet<String>) -> Vec<String> {
    let mut faults = Vec::new();
    let is_module = |name: &str| TABLE.iter().any(|row| row.module == name);
    for Row { module, own } in TABLE {
        for name in own.iter().filter(|name| **name != "*" && !is_module(name)) {
            faults.push(format!("row `{module}` allows `{name}`, which has no row"));
        }
    }
    for (outside, modules) in HOMES {
        if !crates.contains(*outside) {
            faults.push(format!("`{outside}` has a home and is no dependency"));
        }
        for name in modules.iter().filter(|name| !is_module(name)) {
            faults.push(format!("`{outside}` is at home in `{name}`, which has no row"));
        }
    }
    faults
}

/// Module of a file below some `src/`: `src/leads/call.rs` is `["leads", "call"]`; `lib` and `main` are
/// empty.
pub(crate) fn module_path(file: &Path) -> Vec<String> {
    let inside = file.with_extension("");
    let names = inside.iter().filter_map(|name| name.to_str());
    let names: Vec<String> =
        names.skip_while(|name| *name != "src").skip(1).map(str::to_owned).collect();
    if matches!(names.iter().map(String::as_str).collect::<Vec<_>>()[..], ["lib" | "main"]) {
        return Vec::new();
    }
    names
}

fn leads_to<'a>(modules: &'a [String], named: &'a Named) -> Leads<'a> {
    let Some(path) = absolute(modules, named) else {
        return named.segments.first().map_or(Leads::Root, |name| Leads::Outside(name));
    };
    match path.first() {
        Some(&"*") | None => Leads::Root,
        Some(top) => Leads::Own(top),
    }
}

/// The path from the root of the crate; `None` if it begins with another name than `crate`, `self`
/// or `super`.
pub(crate) fn absolute<'a>(modules: &'a [String], named: &'a Named) -> Option<Vec<&'a str>> {
    let mut segments = named.segments.iter().map(String::as_str).peekable();
    let mut path: Vec<&str> = match *segments.peek()? {
        "crate" => {
            segments.next();
            Vec::new()
        }
        "self" | "super" => modules.iter().chain(&named.inside).map(String::as_str).collect(),
        _ => return None,
    };
    for segment in segments {
        match segment {
            "self" => {}
            "super" => {
                path.pop();
            }
            name => path.push(name),
        }
    }
    Some(path)
}
