//! Switches for undocumented behaviour of HubSpot, so that tests cover each variant.

use std::time::Duration;

use super::consent::{CODE_LIFETIME, Consent};

/// Behaviour of the fake where that of HubSpot is not established.
#[derive(Debug, Clone)]
pub struct Behaviour {
    /// Results of batch writes carry the trace id of their input.
    pub echo_trace_ids: bool,
    /// Results of a batch create contain the written properties.
    pub show_created: bool,
    /// With trace ids, an invalid property fails only its input instead of the whole batch.
    pub property_errors_per_item: bool,
    /// Status of a batch with errors of single inputs: 207 or 200.
    pub partial_status: u16,
    /// Status of a batch create without errors: 201 or 200.
    pub batch_create_status: u16,
    /// Meaning of `numErrors` in a batch response.
    pub num_errors: NumErrors,
    /// Status of a conflict of unique values: 409 or 400.
    pub unique_clash_status: u16,
    /// A lead may have a company and no contact.
    pub company_only_leads: bool,
    /// A lead may have no association, such as one that an upsert creates.
    pub contactless_leads: bool,
    /// Status of a create for an unknown contact: 400 or 404.
    pub missing_contact_status: u16,
    /// Before 2026-09, the error of a create without a name has the name in `context`, not in
    /// `errors`.
    pub missing_name_in_context: bool,
    /// An upsert without `idProperty` uses the id as the record id instead of failing.
    pub upsert_without_id_property: bool,
    /// An upsert may have `hs_object_id` as its `idProperty`.
    pub upsert_by_record_id: bool,
    /// A batch archive reports unknown ids instead of ignoring them.
    pub batch_archive_reports_unknown: bool,
    /// Status of archiving an unknown lead: 204 or 404.
    pub archive_unknown_status: u16,
    /// A read of more than 50 leads with property history fails.
    pub refuse_history_over_50: bool,
    /// The error for an unknown lead has a category.
    pub not_found_category: bool,
    /// The error for a missing scope names it at the top level instead of in `errors`.
    pub scopes_on_top: bool,
    /// Properties that a read returns by default.
    pub default_properties: Vec<&'static str>,
    /// Properties that a search query matches; empty means all.
    pub searched_properties: Vec<&'static str>,
    /// Name of the association between a lead and a contact.
    pub contact_association: &'static str,
    /// Maximum number of associations in a lead; a cursor leads to the rest.
    pub associations_shown: usize,
    /// Maximum number of records per lead in a batch read of associations.
    pub associations_page: usize,
    /// A record with two association types appears twice instead of once.
    pub associations_per_kind: bool,
    /// Errors of a batch name their inputs.
    pub name_failed_inputs: bool,
    /// An update of a lead that was merged away changes the surviving lead.
    pub changes_follow_merges: bool,
    /// The token endpoint issues a new refresh token each time and invalidates the old one.
    pub rotate_refresh_tokens: bool,
    /// Token responses omit the refresh token.
    pub omit_refresh_token: bool,
    /// The token endpoint of 2026-09 supports client credentials, as the older ones do.
    pub client_credentials_in_2026_09: bool,
    /// Revoking a refresh token revokes its access tokens.
    pub revoke_ends_access_tokens: bool,
    /// Behaviour of the consent page.
    pub consent: Consent,
    /// Scopes that an app is never granted.
    pub withheld_scopes: Vec<&'static str>,
    /// Lifetime of an authorization code.
    pub code_lifetime: Duration,
    /// Lifetime of an access token from the token endpoint.
    pub token_life: Duration,
    /// Delay of the search index after writes.
    pub index_lag: Duration,
    /// Maximum length of path and query. Gateways respond with 414 somewhere between 8,000 and 16,000
    /// characters.
    pub longest_url: usize,
}

/// Meaning of `numErrors` in a batch response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NumErrors {
    /// Number of entries in `errors`.
    Entries,
    /// Number of failed inputs.
    Inputs,
    /// The field is absent.
    Absent,
}

// === impl Behaviour ===

impl Default for Behaviour {
    fn default() -> Self {
        Self {
            echo_trace_ids: true,
            show_created: true,
            property_errors_per_item: true,
            partial_status: 207,
            batch_create_status: 201,
            num_errors: NumErrors::Entries,
            unique_clash_status: 409,
            company_only_leads: false,
            contactless_leads: false,
            missing_contact_status: 400,
            missing_name_in_context: true,
            upsert_without_id_property: false,
            upsert_by_record_id: false,
            batch_archive_reports_unknown: false,
            archive_unknown_status: 204,
            refuse_history_over_50: true,
            not_found_category: false,
            scopes_on_top: false,
            default_properties: vec!["hs_createdate", "hs_lastmodifieddate", "hs_object_id"],
            searched_properties: Vec::new(),
            contact_association: "lead_to_contact",
            associations_shown: 500,
            associations_per_kind: false,
            associations_page: 500,
            name_failed_inputs: true,
            changes_follow_merges: false,
            rotate_refresh_tokens: false,
            omit_refresh_token: false,
            client_credentials_in_2026_09: true,
            revoke_ends_access_tokens: false,
            consent: Consent::Waits,
            withheld_scopes: Vec::new(),
            code_lifetime: CODE_LIFETIME,
            token_life: Duration::from_secs(1_800),
            index_lag: Duration::ZERO,
            longest_url: 16_000,
        }
    }
}
