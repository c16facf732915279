//! Switches for undocumented behaviour of HubSpot, so that tests cover each variant.
//!
//! The default is what HubSpot is known to do. Where that is not established, it is the strict reading:
//! a request that HubSpot may reject is rejected, a field that it may leave out is absent, and a change
//! that it may show later is shown later. `docs/HUBSPOT_FACTS.md` has the evidence for each switch.

use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};

use super::consent::{CODE_LIFETIME, Consent};

/// Property that the text of a search is known to match: the name.
const SEARCHED_PROPERTY: &str = "hs_lead_name";

/// Maximum number of associations in a lead, the smallest page size of HubSpot's lists.
const ASSOCIATIONS_SHOWN: usize = 100;

/// Delay of the search index, which is documented as a few moments.
const INDEX_LAG: Duration = Duration::from_secs(1);

/// Length that the gateways are known to accept.
const LONGEST_URL: usize = 8_000;

/// Behaviour of the fake where that of HubSpot is not established.
///
/// Its JSON has the names of the switches; durations are numbers of seconds. A switch that is absent has
/// its default.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Behaviour {
    /// Results of batch writes carry the trace id of their input.
    pub echo_trace_ids: bool,
    /// Results of a batch create contain the written properties.
    pub show_created: bool,
    /// With trace ids, an invalid property fails only its input instead of the whole batch. In a batch
    /// create, a conflict of unique values always fails only its input.
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
    /// A lead may be created without an association.
    pub contactless_leads: bool,
    /// An upsert creates leads, which then have no association.
    pub contactless_upserts: bool,
    /// A lead may be assigned to an owner that does not exist.
    pub unknown_owners: bool,
    /// Status of a create for an unknown contact: 400 or 404.
    pub missing_contact_status: u16,
    /// A batch read of contacts leaves out unknown addresses instead of naming them in an error.
    pub contacts_left_out: bool,
    /// A batch read of contacts finds a contact by its further addresses too.
    pub further_addresses: bool,
    /// Before 2026-09, the error of a create without a name has the name in `context`, not in
    /// `errors`.
    pub missing_name_in_context: bool,
    /// An upsert without `idProperty` uses the id as the record id instead of failing.
    pub upsert_without_id_property: bool,
    /// A request may have `hs_object_id` as its `idProperty`.
    pub record_id_as_id_property: bool,
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
    pub default_properties: Vec<String>,
    /// Properties that a search query matches; empty means all.
    pub searched_properties: Vec<String>,
    /// Name of the association between a lead and a contact.
    pub contact_association: String,
    /// A read ignores associations with unknown object types instead of failing.
    pub ignore_unknown_associations: bool,
    /// Maximum number of associations in a lead; a cursor leads to the rest.
    pub associations_shown: usize,
    /// Maximum number of records per lead in a batch read of associations.
    pub associations_page: usize,
    /// An invalid association fails only its input of a batch instead of the whole batch.
    pub association_errors_per_item: bool,
    /// A batch read of associations reports leads without any as errors instead of empty lists.
    pub report_missing_associations: bool,
    /// Maximum number of owners per page, whatever limit is asked for; a cursor leads to the rest.
    pub owners_shown: usize,
    /// A record with two association types appears twice instead of once.
    pub associations_per_kind: bool,
    /// Errors of a batch name their inputs.
    pub name_failed_inputs: bool,
    /// A batch read of the id of a merged lead returns the surviving lead, once for all of its ids,
    /// instead of an error.
    pub batch_reads_follow_merges: bool,
    /// An update of a lead that was merged away changes the surviving lead.
    pub changes_follow_merges: bool,
    /// The token endpoint issues a new refresh token each time and invalidates the old one.
    pub rotate_refresh_tokens: bool,
    /// Token responses omit the refresh token.
    pub omit_refresh_token: bool,
    /// The token endpoint of 2026-09 supports client credentials, as the older ones do.
    pub client_credentials_in_2026_09: bool,
    /// Revoking a refresh token revokes its access tokens, except with the first version of the API.
    pub revoke_ends_access_tokens: bool,
    /// Behaviour of the consent page.
    pub consent: Consent,
    /// Scopes that an app is never granted.
    pub withheld_scopes: Vec<String>,
    /// Lifetime of an authorization code.
    #[serde(with = "seconds")]
    pub code_lifetime: Duration,
    /// Lifetime of an access token from the token endpoint.
    #[serde(with = "seconds")]
    pub token_life: Duration,
    /// Delay of the search index after writes.
    #[serde(with = "seconds")]
    pub index_lag: Duration,
    /// Maximum length of path and query. Gateways respond with 414 somewhere between 8,000 and 16,000
    /// characters.
    pub longest_url: usize,
}

/// Meaning of `numErrors` in a batch response.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
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
            echo_trace_ids: false,
            show_created: true,
            property_errors_per_item: false,
            partial_status: 207,
            batch_create_status: 201,
            num_errors: NumErrors::Entries,
            unique_clash_status: 400,
            company_only_leads: false,
            contactless_leads: false,
            contactless_upserts: false,
            unknown_owners: false,
            missing_contact_status: 400,
            contacts_left_out: false,
            further_addresses: false,
            missing_name_in_context: true,
            upsert_without_id_property: false,
            record_id_as_id_property: false,
            batch_archive_reports_unknown: false,
            archive_unknown_status: 204,
            refuse_history_over_50: true,
            not_found_category: false,
            scopes_on_top: false,
            default_properties: Vec::new(),
            searched_properties: vec![SEARCHED_PROPERTY.to_owned()],
            contact_association: "lead_to_contact".to_owned(),
            ignore_unknown_associations: false,
            associations_shown: ASSOCIATIONS_SHOWN,
            association_errors_per_item: false,
            report_missing_associations: true,
            owners_shown: 500,
            associations_per_kind: true,
            associations_page: 500,
            name_failed_inputs: true,
            batch_reads_follow_merges: true,
            changes_follow_merges: false,
            rotate_refresh_tokens: false,
            omit_refresh_token: false,
            client_credentials_in_2026_09: false,
            revoke_ends_access_tokens: true,
            consent: Consent::Waits,
            withheld_scopes: Vec::new(),
            code_lifetime: CODE_LIFETIME,
            token_life: Duration::from_secs(1_800),
            index_lag: INDEX_LAG,
            longest_url: LONGEST_URL,
        }
    }
}

/// Durations as seconds.
mod seconds {
    use super::{Deserialize, Deserializer, Duration, Error, Serializer};

    pub(super) fn serialize<S: Serializer>(time: &Duration, out: S) -> Result<S::Ok, S::Error> {
        out.serialize_f64(time.as_secs_f64())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
        let seconds = f64::deserialize(from)?;
        Duration::try_from_secs_f64(seconds).map_err(D::Error::custom)
    }
}
