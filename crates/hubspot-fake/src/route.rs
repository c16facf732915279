//! Routes of the API: the paths of its versions.

/// Version with calls that no other version has.
const BETA: &str = "2026-09-beta";

/// API that a path belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Api {
    Objects,
    Properties,
    PropertyValidations,
    Pipelines,
    Associations,
    Owners,
    Account,
}

/// Components of a request path.
pub(super) struct Route<'a> {
    pub(super) area: Api,
    pub(super) object: &'a str,
    pub(super) rest: Vec<&'a str>,
    pub(super) modern: bool,
    /// True for the version that merges leads.
    pub(super) beta: bool,
}

// === impl Route ===

impl<'a> Route<'a> {
    pub(super) fn parse(path: &'a str) -> Option<Self> {
        let segments: Vec<&str> = path.trim_matches('/').split('/').collect();
        let area = |name: &str| {
            Some(match name {
                "objects" => Api::Objects,
                "properties" => Api::Properties,
                "property-validations" => Api::PropertyValidations,
                "pipelines" => Api::Pipelines,
                "associations" => Api::Associations,
                _ => return None,
            })
        };
        // The version precedes the resource in the old paths and follows it in the dated ones.
        let (area, version, object, rest) = match segments.as_slice() {
            ["crm", "v4", "associations", object, rest @ ..] => {
                (Api::Associations, "v4", object, rest)
            }
            // Of the objects, only associations have this version.
            ["crm", "v4", "objects", object, rest @ ..] if rest.get(1) == Some(&"associations") => {
                (Api::Objects, "v4", object, rest)
            }
            ["crm", "v3", object @ "owners", rest @ ..] => (Api::Owners, "v3", object, rest),
            ["crm", object @ "owners", version, rest @ ..] => (Api::Owners, *version, object, rest),
            ["crm", "v3", name, object, rest @ ..] => (area(name)?, "v3", object, rest),
            ["crm", name, version, object, rest @ ..] => (area(name)?, *version, object, rest),
            ["account-info", version, object, rest @ ..] => (Api::Account, *version, object, rest),
            ["integrations", "v1", object @ "me"] => (Api::Account, "v3", object, &[][..]),
            _ => return None,
        };
        if !["v3", "v4", "2026-03", "2026-09", BETA].contains(&version) {
            return None;
        }
        Some(Self {
            area,
            object,
            rest: rest.to_vec(),
            modern: ["2026-09", BETA].contains(&version),
            beta: version == BETA,
        })
    }
}
