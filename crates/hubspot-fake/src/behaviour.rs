//! What nobody has established about HubSpot: a switch for each, so that both sides can be tested.

use std::time::Duration;

use super::consent::{CODE_LIFE, Consent};

/// How this HubSpot does what the real one is not known to do in one way only.
#[derive(Debug, Clone)]
pub struct Behaviour {
    /// Results of batch writes carry the trace id of their input.
    pub echo_trace_ids: bool,
    /// Whether the results of a batch create show what was written.
    pub show_created: bool,
    /// With trace ids, a property that is refused fails its input alone instead of the whole batch.
    pub property_errors_per_item: bool,
    /// Status of a batch with errors of single inputs: 207, or 200.
    pub partial_status: u16,
    /// Status of a batch create without errors: 201, or 200.
    pub batch_create_status: u16,
    /// What `numErrors` of a batch counts.
    pub num_errors: NumErrors,
    /// Status of a clash of unique values: 409, or 400.
    pub unique_clash_status: u16,
    /// A lead may have a company and no contact.
    pub company_only_leads: bool,
    /// Status of a create for a contact that does not exist: 400, or 404.
    pub missing_contact_status: u16,
    /// Before 2026-09, a create without a name lists it in `context` instead of in `errors`.
    pub missing_name_in_context: bool,
    /// An upsert without `idProperty` takes the id as the record id instead of being refused.
    pub upsert_without_id_property: bool,
    /// An upsert may have `hs_object_id` as its `idProperty`.
    pub upsert_by_record_id: bool,
    /// A batch archive reports unknown ids instead of ignoring them.
    pub batch_archive_reports_unknown: bool,
    /// Status of archiving a lead that does not exist: 204, or 404.
    pub archive_unknown_status: u16,
    /// More than 50 leads with property history in one call are refused instead of given.
    pub refuse_history_over_50: bool,
    /// A lead that does not exist answers with a category.
    pub not_found_category: bool,
    /// A missing scope is told on the top of the body instead of in its `errors`.
    pub scopes_on_top: bool,
    /// Properties that a read without a choice of them gives.
    pub default_properties: Vec<&'static str>,
    /// Properties that the text of a search looks into; none means all.
    pub searched_properties: Vec<&'static str>,
    /// What the association of a lead with a contact is called.
    pub contact_association: &'static str,
    /// Most associations shown with a lead; the rest is behind a cursor.
    pub associations_shown: usize,
    /// The same, in records, where the associations of many leads are read.
    pub associations_page: usize,
    /// A record that a lead is associated with in two ways is shown with it twice instead of once.
    pub associations_per_kind: bool,
    /// The errors of a batch name the inputs they are about.
    pub name_failed_inputs: bool,
    /// A change of a lead that was merged away changes the one it became.
    pub changes_follow_merges: bool,
    /// The token endpoint gives a new refresh token each time and forgets the old one.
    pub rotate_refresh_tokens: bool,
    /// The token endpoint leaves the refresh token out of its answer.
    pub omit_refresh_token: bool,
    /// The token endpoint of 2026-09 gives tokens for client credentials, as the others do.
    pub client_credentials_in_2026_09: bool,
    /// Revoking a refresh token ends the access tokens it gave.
    pub revoke_ends_access_tokens: bool,
    /// What happens on the consent page.
    pub consent: Consent,
    /// Scopes that an app does not get, whatever it asks for.
    pub withheld_scopes: Vec<&'static str>,
    /// How long the code of the consent page can be traded.
    pub code_life: Duration,
    /// Life of an access token from the token endpoint.
    pub token_life: Duration,
    /// How long the search index lags behind writes.
    pub index_lag: Duration,
    /// Longest path and query taken: the gateways answer 414 somewhere between 8 and 16 thousand
    /// characters.
    pub longest_url: usize,
}

/// What `numErrors` of a batch counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NumErrors {
    /// The entries of `errors`.
    Entries,
    /// The inputs that failed.
    Inputs,
    /// It is left out.
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
            code_life: CODE_LIFE,
            token_life: Duration::from_secs(1_800),
            index_lag: Duration::ZERO,
            longest_url: 16_000,
        }
    }
}
