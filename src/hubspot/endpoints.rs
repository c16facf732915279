//! Where each operation lives: paths of the three API versions, and what kind of call it is.

use crate::{config::ApiVersion, leads::LeadId};

/// One of HubSpot's lead operations, or the associations that go with them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Operation {
    Get,
    List,
    Create,
    Update,
    Archive,
    Search,
    BatchRead,
    BatchCreate,
    BatchUpdate,
    BatchUpsert,
    BatchArchive,
    ReadAssociations,
}

/// Whether doing it twice is the same as doing it once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Repeatable {
    /// A read, a write of full values, or an archive.
    Yes,
    /// A create: a second one makes a second lead.
    No,
}

// === impl Operation ===

impl Operation {
    /// All of them, in the order of their numbers.
    pub(super) const ALL: [Self; 12] = [
        Self::Get,
        Self::List,
        Self::Create,
        Self::Update,
        Self::Archive,
        Self::Search,
        Self::BatchRead,
        Self::BatchCreate,
        Self::BatchUpdate,
        Self::BatchUpsert,
        Self::BatchArchive,
        Self::ReadAssociations,
    ];

    /// Name for logs and metrics.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Get => "get",
            Self::List => "list",
            Self::Create => "create",
            Self::Update => "update",
            Self::Archive => "archive",
            Self::Search => "search",
            Self::BatchRead => "batch_read",
            Self::BatchCreate => "batch_create",
            Self::BatchUpdate => "batch_update",
            Self::BatchUpsert => "batch_upsert",
            Self::BatchArchive => "batch_archive",
            Self::ReadAssociations => "read_associations",
        }
    }

    pub(super) fn repeatable(self) -> Repeatable {
        match self {
            Self::Create | Self::BatchCreate => Repeatable::No,
            // An upsert is keyed by a unique property: the second one finds the first one's lead.
            Self::Get
            | Self::List
            | Self::Update
            | Self::Archive
            | Self::Search
            | Self::BatchRead
            | Self::BatchUpdate
            | Self::BatchUpsert
            | Self::BatchArchive
            | Self::ReadAssociations => Repeatable::Yes,
        }
    }

    /// Whether HubSpot has limits of their own for such calls, beside those that the quota knows: its
    /// headers may tell of these, and a refusal does.
    pub(super) fn has_limits_of_its_own(self) -> bool {
        self == Self::ReadAssociations
    }

    /// Whether the call can change anything at HubSpot.
    pub(super) fn writes(self) -> bool {
        match self {
            Self::Get | Self::List | Self::Search | Self::BatchRead | Self::ReadAssociations => {
                false
            }
            Self::Create
            | Self::Update
            | Self::Archive
            | Self::BatchCreate
            | Self::BatchUpdate
            | Self::BatchUpsert
            | Self::BatchArchive => true,
        }
    }
}

/// Path segments of the leads collection.
pub(super) fn collection(version: ApiVersion) -> [&'static str; 4] {
    match version {
        ApiVersion::V2026_09 => ["crm", "objects", "2026-09", "leads"],
        ApiVersion::V2026_03 => ["crm", "objects", "2026-03", "leads"],
        ApiVersion::V3 => ["crm", "v3", "objects", "leads"],
    }
}

/// The dated version whose account information goes with it; v3 has none of its own.
pub(super) fn dated(version: ApiVersion) -> &'static str {
    match version {
        ApiVersion::V2026_09 | ApiVersion::V3 => "2026-09",
        ApiVersion::V2026_03 => "2026-03",
    }
}

/// Path segments of the properties of leads.
pub(super) fn properties(version: ApiVersion) -> [&'static str; 4] {
    match version {
        ApiVersion::V2026_09 => ["crm", "properties", "2026-09", "leads"],
        ApiVersion::V2026_03 => ["crm", "properties", "2026-03", "leads"],
        ApiVersion::V3 => ["crm", "v3", "properties", "leads"],
    }
}

/// Path segments of the pipelines of leads.
pub(super) fn pipelines(version: ApiVersion) -> [&'static str; 4] {
    match version {
        ApiVersion::V2026_09 => ["crm", "pipelines", "2026-09", "leads"],
        ApiVersion::V2026_03 => ["crm", "pipelines", "2026-03", "leads"],
        ApiVersion::V3 => ["crm", "v3", "pipelines", "leads"],
    }
}

/// Path segments of the associations of leads.
pub(super) fn associations(version: ApiVersion) -> [&'static str; 4] {
    match version {
        ApiVersion::V2026_09 => ["crm", "associations", "2026-09", "leads"],
        ApiVersion::V2026_03 => ["crm", "associations", "2026-03", "leads"],
        ApiVersion::V3 => ["crm", "v4", "associations", "leads"],
    }
}

/// Path of the token endpoint. Only v3 and the dated ones take everything in the body; v1 ends in
/// February 2027.
pub(super) fn token(version: ApiVersion) -> [&'static str; 3] {
    match version {
        ApiVersion::V2026_09 => ["oauth", "2026-09", "token"],
        ApiVersion::V2026_03 => ["oauth", "2026-03", "token"],
        ApiVersion::V3 => ["oauth", "v3", "token"],
    }
}

/// Appends path segments to a base URL; each is percent-encoded.
pub(super) fn url(base: &url::Url, segments: &[&str]) -> url::Url {
    let mut url = base.clone();
    // The configuration takes http and https URLs only, and those have a path.
    if let Ok(mut path) = url.path_segments_mut() {
        path.pop_if_empty().extend(segments);
    }
    url
}

/// URL of one lead.
pub(super) fn lead(collection: &url::Url, id: &LeadId) -> url::Url {
    url(collection, &[id.as_str()])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_cannot_change_the_path() {
        let base = url::Url::parse("https://api.hubapi.com").unwrap();
        let leads = url(&base, &collection(ApiVersion::V3));
        assert_eq!(leads.as_str(), "https://api.hubapi.com/crm/v3/objects/leads");
        for (id, encoded) in [("a b%2f", "a%20b%252f"), ("ä&x=1", "%C3%A4&x=1"), ("...", "...")] {
            let url = lead(&leads, &LeadId::parse(id).unwrap());
            assert_eq!(url.path(), format!("/crm/v3/objects/leads/{encoded}"));
            assert_eq!(url.query(), None);
        }
    }
}
