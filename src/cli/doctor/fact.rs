//! Table of the facts about HubSpot that leadsd depends on.

/// Fact about HubSpot's API.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Fact {
    LimitHeaders,
    SearchLimits,
    NotFound,
    NotFoundCategory,
    NotNumeric,
    UnsetProperty,
    DefaultProperties,
    ContactAssociation,
    UnknownAssociation,
    HistoryPage,
    LongestUrl,
    CreateStatus,
    CreateTraceId,
    ContactRequired,
    CompanyOnly,
    UnknownContact,
    MissingName,
    UnknownProperty,
    UnknownOwner,
    UnknownAssociationType,
    RecordIdProperty,
    EmptyUpdate,
    ReadOnlyProperty,
    UpdateTraceId,
    BatchCreateStatus,
    EchoedTraceIds,
    ShownProperties,
    PropertyErrors,
    PartialStatus,
    NumErrors,
    NamedInputs,
    AtomicBatch,
    UpdateOfUnknown,
    DuplicateIds,
    BatchSize,
    BatchArchiveOfUnknown,
    ArchiveOfUnknown,
    AssociationRead,
    AssociationBatchSize,
    UniqueProperty,
    UniqueClash,
    ExistingId,
    UniqueCase,
    UpsertOfNew,
    UpsertOfExisting,
    UpsertWithoutProperty,
    ArchivedRead,
    ArchivedTime,
    MergedRead,
    MergedUpdate,
    SearchLag,
    SearchBody,
    SearchWindow,
}

/// Dependence of leadsd on a fact.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Basis {
    /// Needed by leadsd.
    Required,
    /// Not needed: leadsd works either way.
    Tolerated,
    /// Not needed, and with this switch of the fake HubSpot.
    Switch(&'static str),
}

use Basis::{Required, Switch, Tolerated};

/// Facts in the order of the report: name, basis and expectation.
const TABLE: [(Fact, &str, Basis, &str); 53] = [
    (
        Fact::LimitHeaders,
        "limits.headers",
        Required,
        "responses have the limits of the window in headers",
    ),
    (
        Fact::SearchLimits,
        "limits.search",
        Tolerated,
        "responses to searches have no limits in headers",
    ),
    (Fact::NotFound, "get.not_found", Required, "an unknown id is 404"),
    (
        Fact::NotFoundCategory,
        "get.not_found_category",
        Switch("not_found_category"),
        "the error of an unknown id has no category",
    ),
    (Fact::NotNumeric, "get.not_numeric", Tolerated, "an id that is not a number is 404"),
    (
        Fact::UnsetProperty,
        "get.unset_property",
        Required,
        "a selected property is null without a value, and absent if it does not exist",
    ),
    (
        Fact::DefaultProperties,
        "get.default_properties",
        Switch("default_properties"),
        "a read without a selection returns hs_createdate, hs_lastmodifieddate, hs_object_id",
    ),
    (
        Fact::ContactAssociation,
        "get.contact_association",
        Switch("contact_association"),
        "the association with the primary contact is called lead_to_contact",
    ),
    (
        Fact::UnknownAssociation,
        "get.unknown_association",
        Switch("ignore_unknown_associations"),
        "associations with an unknown object type are 400",
    ),
    (
        Fact::HistoryPage,
        "list.history",
        Switch("refuse_history_over_50"),
        "a page of 51 leads with property history is 400",
    ),
    (
        Fact::LongestUrl,
        "list.longest_url",
        Switch("longest_url"),
        "URLs up to 16,000 characters are accepted",
    ),
    (Fact::CreateStatus, "create.status", Tolerated, "a create is 201"),
    (Fact::CreateTraceId, "create.trace_id", Required, "a create may have objectWriteTraceId"),
    (
        Fact::ContactRequired,
        "create.contact",
        Switch("contactless_leads"),
        "a create without an association is 400",
    ),
    (
        Fact::CompanyOnly,
        "create.company_only",
        Switch("company_only_leads"),
        "a create with a company alone is 400",
    ),
    (
        Fact::UnknownContact,
        "create.unknown_contact",
        Switch("missing_contact_status"),
        "a create with an unknown contact is 400",
    ),
    (
        Fact::MissingName,
        "create.missing_name",
        Switch("missing_name_in_context"),
        "before 2026-09 the error of a create without a name has it in context",
    ),
    (
        Fact::UnknownProperty,
        "create.unknown_property",
        Required,
        "an unknown property is 400, and errors[].context.propertyName names it",
    ),
    (
        Fact::UnknownOwner,
        "create.unknown_owner",
        Switch("unknown_owners"),
        "an unknown hubspot_owner_id is 400",
    ),
    (
        Fact::UnknownAssociationType,
        "create.association_type",
        Tolerated,
        "an unknown association type is 400",
    ),
    (
        Fact::RecordIdProperty,
        "update.record_id_property",
        Switch("record_id_as_id_property"),
        "hs_object_id as idProperty is 400",
    ),
    (Fact::EmptyUpdate, "update.empty", Tolerated, "an update without properties is 400"),
    (
        Fact::ReadOnlyProperty,
        "update.read_only",
        Tolerated,
        "an update of a read-only property is 400 READ_ONLY_VALUE",
    ),
    (Fact::UpdateTraceId, "update.trace_id", Required, "an update may have objectWriteTraceId"),
    (
        Fact::BatchCreateStatus,
        "batch_create.status",
        Switch("batch_create_status"),
        "a batch create is 201",
    ),
    (
        Fact::EchoedTraceIds,
        "batch_create.trace_ids",
        Switch("echo_trace_ids"),
        "results have the objectWriteTraceId of their inputs",
    ),
    (
        Fact::ShownProperties,
        "batch_create.properties",
        Switch("show_created"),
        "results have the written properties",
    ),
    (
        Fact::PropertyErrors,
        "batch_create.property_errors",
        Switch("property_errors_per_item"),
        "with trace ids, an invalid property fails its input and not the batch",
    ),
    (
        Fact::PartialStatus,
        "batch.partial_status",
        Switch("partial_status"),
        "a batch with errors of inputs is 207",
    ),
    (
        Fact::NumErrors,
        "batch.num_errors",
        Switch("num_errors"),
        "numErrors counts the entries of errors",
    ),
    (
        Fact::NamedInputs,
        "batch.named_inputs",
        Switch("name_failed_inputs"),
        "errors name their inputs",
    ),
    (
        Fact::AtomicBatch,
        "batch_create.atomic",
        Tolerated,
        "without trace ids, a batch with an invalid input creates nothing",
    ),
    (
        Fact::UpdateOfUnknown,
        "batch_update.unknown",
        Required,
        "a batch update with an unknown id updates the other leads",
    ),
    (Fact::DuplicateIds, "batch_update.duplicates", Tolerated, "an id that occurs twice is 400"),
    (Fact::BatchSize, "batch.max_inputs", Tolerated, "a batch of 101 inputs is 400"),
    (
        Fact::BatchArchiveOfUnknown,
        "batch_archive.unknown",
        Switch("batch_archive_reports_unknown"),
        "a batch archive ignores unknown ids",
    ),
    (
        Fact::ArchiveOfUnknown,
        "archive.unknown",
        Switch("archive_unknown_status"),
        "the archive of an unknown id is 204",
    ),
    (
        Fact::AssociationRead,
        "associations.batch_read",
        Required,
        "a batch read of associations returns from.id and to[].toObjectId",
    ),
    (
        Fact::AssociationBatchSize,
        "associations.max_inputs",
        Tolerated,
        "a batch read of associations with 1,001 inputs is 400",
    ),
    (
        Fact::UniqueProperty,
        "unique.property",
        Required,
        "a property of leads can have unique values",
    ),
    (
        Fact::UniqueClash,
        "unique.clash",
        Switch("unique_clash_status"),
        "a value that another lead has is 409",
    ),
    (Fact::ExistingId, "unique.existing_id", Tolerated, "the error names the other lead"),
    (Fact::UniqueCase, "unique.case", Required, "unique values are compared ignoring case"),
    (
        Fact::UpsertOfNew,
        "upsert.new",
        Switch("contactless_upserts"),
        "an upsert creates no lead, because it names no contact",
    ),
    (
        Fact::UpsertOfExisting,
        "upsert.existing",
        Tolerated,
        "an upsert of a lead that exists updates it, with new = false",
    ),
    (
        Fact::UpsertWithoutProperty,
        "upsert.without_property",
        Switch("upsert_without_id_property"),
        "an upsert without idProperty is 400",
    ),
    (
        Fact::ArchivedRead,
        "archived.read",
        Required,
        "an archived lead is 404, and 200 with archived=true",
    ),
    (
        Fact::ArchivedTime,
        "archived.modified_time",
        Tolerated,
        "archiving does not change hs_lastmodifieddate",
    ),
    (
        Fact::MergedRead,
        "merged.read",
        Tolerated,
        "the id of a merged lead returns the surviving lead",
    ),
    (
        Fact::MergedUpdate,
        "merged.update",
        Switch("changes_follow_merges"),
        "the id of a merged lead cannot be updated",
    ),
    (
        Fact::SearchLag,
        "search.lag",
        Switch("index_lag"),
        "a search finds a new lead within 30 seconds",
    ),
    (Fact::SearchBody, "search.body", Tolerated, "a search of more than 3,000 characters is 400"),
    (Fact::SearchWindow, "search.window", Tolerated, "a search beyond 10,000 results is 400"),
];

// === impl Fact ===

impl Fact {
    /// All facts, in the order of the report.
    pub(super) fn all() -> impl Iterator<Item = Self> {
        TABLE.into_iter().map(|(fact, ..)| fact)
    }

    /// Name of the fact, a stable part of the report.
    pub(super) fn name(self) -> &'static str {
        TABLE[self as usize].1
    }

    pub(super) fn basis(self) -> Basis {
        TABLE[self as usize].2
    }

    /// Expectation of leadsd.
    pub(super) fn expected(self) -> &'static str {
        TABLE[self as usize].3
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn facts_are_listed_in_order_and_documented() {
        assert!(TABLE.iter().enumerate().all(|(index, row)| row.0 as usize == index));
        let page = include_str!("../../../docs/HUBSPOT_FACTS.md");
        let listed: Vec<&str> = page.lines().filter(|line| line.starts_with("- `")).collect();
        let rows = TABLE.map(|(_, name, _, expected)| format!("- `{name}`: {expected}."));
        assert_eq!(rows[..], listed[..], "docs/HUBSPOT_FACTS.md must list the facts in order");
        for (_, name, basis, _) in TABLE {
            if let Switch(switch) = basis {
                assert!(page.contains(&format!("| `{switch}` |")), "{name}: {switch}");
            }
        }
    }
}
