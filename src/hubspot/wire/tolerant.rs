//! Second pass over a response that the types of [`super`] reject.
//!
//! Each field is read separately. A value of an unexpected type, or with a lone surrogate, invalid UTF-8 or
//! an invalid number, is left out and counted. Of a duplicate name the last readable value wins.
//! Numbers keep their text. Nothing is stored between the body and the result, so that a hostile body
//! takes no more memory than its readable part.
//!
//! The structure around the leads is not tolerated: without the cursor of a page, a list would end
//! early.

mod associations;
mod readable_part;
mod values;

use serde::de::DeserializeOwned;
use serde_json::Value;

use self::{
    readable_part::readable_part,
    values::{error_value, is_null},
};
use super::{
    WireAssociations, WireBatch, WireLead, WireNextPage, WirePage, WirePaging, WirePropertyVersion,
    WireWarning,
    field::{ResponseField, UnreadableFields},
    scan::{Elements, Members, is_complete_object},
    value::Text,
};

/// Byte order mark in UTF-8.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// A response whose fields can be read one by one.
pub(in crate::hubspot) trait Body: DeserializeOwned {
    /// Reads the fields of a complete or truncated object. `None` if the structure is unusable.
    fn read(raw: &[u8], losses: &mut Losses<'_>) -> Option<Self>;

    /// False if a part was parsed from something that is not an object: the types accept an array of
    /// their fields.
    fn is_plausible(&self) -> bool {
        true
    }
}

/// A part of a response that is read as far as possible.
trait Field: Sized {
    /// Reads the value. `None` if nothing of it can be used; parts that cannot be used are counted.
    fn read(raw: &[u8], losses: &mut Losses<'_>) -> Option<Self>;
}

/// Counts unreadable values by the field of the response that contains them.
pub(in crate::hubspot) struct Losses<'a> {
    field: ResponseField,
    unreadable: &'a mut UnreadableFields,
}

// === impl Losses ===

impl Losses<'_> {
    fn count(&mut self) {
        self.unreadable.count(self.field);
    }

    /// Reads a value that belongs to the current field, or counts it.
    fn value<T: Field>(&mut self, raw: &[u8]) -> Option<T> {
        let value = T::read(raw, self);
        if value.is_none() {
            self.count();
        }
        value
    }

    /// Reads a value into `slot`, which keeps its earlier value if that fails.
    fn fill<T: Field>(&mut self, slot: &mut T, raw: &[u8]) {
        if let Some(value) = self.value(raw) {
            *slot = value;
        }
    }

    /// Reads a value of `field` into `slot`.
    fn fill_field<T: Field>(&mut self, field: ResponseField, slot: &mut T, raw: &[u8]) {
        let outer = std::mem::replace(&mut self.field, field);
        self.fill(slot, raw);
        self.field = outer;
    }

    /// Calls `member` with each member of the object that has a readable name. `None` if the value is no
    /// object.
    fn members(
        &mut self,
        raw: &[u8],
        mut member: impl FnMut(&mut Self, String, &[u8]),
    ) -> Option<()> {
        for (name, value) in Members::parse(raw)? {
            match serde_json::from_slice(name) {
                Ok(name) => member(self, name, value),
                Err(_) => self.unreadable.count(ResponseField::Name),
            }
        }
        Some(())
    }
}

// === impl Body ===

impl Body for WireLead {
    fn read(raw: &[u8], losses: &mut Losses<'_>) -> Option<Self> {
        Field::read(raw, losses)
    }
}

impl Body for WirePage {
    fn read(raw: &[u8], losses: &mut Losses<'_>) -> Option<Self> {
        let mut page = Self::default();
        let mut is_usable = true;
        losses.members(raw, |losses, name, value| match name.as_str() {
            "results" => match leads(value, losses) {
                Some(results) => page.results = results,
                None => is_usable = false,
            },
            "paging" => is_usable &= fill_cursor(&mut page.paging, value, losses),
            "total" => losses.fill_field(ResponseField::Total, &mut page.total, value),
            _ => {}
        })?;
        is_usable.then_some(page)
    }

    fn is_plausible(&self) -> bool {
        have_ids(self.results.as_deref())
    }
}

impl Body for WireBatch {
    fn read(raw: &[u8], losses: &mut Losses<'_>) -> Option<Self> {
        let mut batch = Self::default();
        let mut is_usable = true;
        losses.members(raw, |losses, name, value| match name.as_str() {
            "results" => match leads(value, losses) {
                Some(results) => batch.results = results,
                None => is_usable = false,
            },
            "errors" => losses.fill_field(ResponseField::Errors, &mut batch.errors, value),
            _ => {}
        })?;
        is_usable.then_some(batch)
    }

    fn is_plausible(&self) -> bool {
        have_ids(self.results.as_deref())
    }
}

/// Reads the elements of `results` one by one, and the cursor. `None` if the cursor is unreadable: without
/// it, a list would end early.
pub(super) fn results_and_paging<T: DeserializeOwned>(
    raw: &[u8],
    losses: &mut Losses<'_>,
) -> Option<(Option<Vec<T>>, Option<WirePaging>)> {
    let (mut results, mut paging, mut is_usable) = (None, None, true);
    losses.members(raw, |losses, name, value| match name.as_str() {
        "results" => {
            let mut read = Vec::new();
            for element in Elements::parse(value).into_iter().flatten() {
                read.extend(readable_part(element, losses));
            }
            results = Elements::parse(value).map(|_| read);
        }
        "paging" => is_usable &= fill_cursor(&mut paging, value, losses),
        _ => {}
    })?;
    is_usable.then_some((results, paging))
}

// === impl Field ===

impl Field for WireLead {
    fn read(raw: &[u8], losses: &mut Losses<'_>) -> Option<Self> {
        if raw.starts_with(b"{")
            && let Ok(lead) = serde_json::from_slice(raw)
        {
            return Some(lead);
        }
        let mut lead = Self::default();
        losses.members(raw, |losses, name, value| {
            use ResponseField as Name;
            match name.as_str() {
                "id" => losses.fill_field(Name::Id, &mut lead.id, value),
                "properties" => losses.fill_field(Name::Properties, &mut lead.properties, value),
                "propertiesWithHistory" => {
                    let slot = &mut lead.properties_with_history;
                    losses.fill_field(Name::PropertiesWithHistory, slot, value);
                }
                "associations" => {
                    losses.fill_field(Name::Associations, &mut lead.associations, value);
                }
                "createdAt" => losses.fill_field(Name::CreatedAt, &mut lead.created_at, value),
                "updatedAt" => losses.fill_field(Name::UpdatedAt, &mut lead.updated_at, value),
                "archived" => losses.fill_field(Name::Archived, &mut lead.archived, value),
                "archivedAt" => losses.fill_field(Name::ArchivedAt, &mut lead.archived_at, value),
                "url" => losses.fill_field(Name::Url, &mut lead.url, value),
                "warnings" => losses.fill_field(Name::Warnings, &mut lead.warnings, value),
                "objectWriteTraceId" => {
                    let slot = &mut lead.object_write_trace_id;
                    losses.fill_field(Name::ObjectWriteTraceId, slot, value);
                }
                "new" => losses.fill_field(Name::New, &mut lead.new, value),
                _ => {}
            }
        })?;
        Some(lead)
    }
}

impl Field for WirePropertyVersion {
    fn read(raw: &[u8], losses: &mut Losses<'_>) -> Option<Self> {
        let mut version = Self::default();
        losses.members(raw, |losses, name, value| match name.as_str() {
            "value" => losses.fill(&mut version.value, value),
            "timestamp" => losses.fill(&mut version.timestamp, value),
            "sourceType" => losses.fill(&mut version.source_type, value),
            "sourceId" => losses.fill(&mut version.source_id, value),
            "sourceLabel" => losses.fill(&mut version.source_label, value),
            "updatedByUserId" => losses.fill(&mut version.updated_by_user_id, value),
            _ => {}
        })?;
        Some(version)
    }
}

impl Field for WireAssociations {
    /// Without its cursor, a list would seem complete: it counts as unreadable.
    fn read(raw: &[u8], losses: &mut Losses<'_>) -> Option<Self> {
        let mut list = Self::default();
        let mut is_usable = true;
        losses.members(raw, |losses, name, value| match name.as_str() {
            "results" => losses.fill(&mut list.results, value),
            "paging" => is_usable &= fill_cursor(&mut list.paging, value, losses),
            _ => {}
        })?;
        is_usable.then_some(list)
    }
}

impl Field for WirePaging {
    fn read(raw: &[u8], losses: &mut Losses<'_>) -> Option<Self> {
        let mut next = Some(None);
        losses.members(raw, |losses, name, value| {
            if name == "next" {
                next = Field::read(value, losses);
            }
        })?;
        next.map(|next| Self { next })
    }
}

impl Field for WireNextPage {
    fn read(raw: &[u8], losses: &mut Losses<'_>) -> Option<Self> {
        let mut after = None;
        losses.members(raw, |losses, name, value| {
            if name == "after" {
                after = Field::read(value, losses);
            }
        })?;
        let is_set = |after: &Text| after.0.as_ref().is_some_and(|after| !after.is_empty());
        after.filter(is_set).map(|after| Self { after })
    }
}

impl Field for WireWarning {
    fn read(raw: &[u8], losses: &mut Losses<'_>) -> Option<Self> {
        let mut warning = Self::default();
        losses.members(raw, |losses, name, value| match name.as_str() {
            "category" => losses.fill(&mut warning.category, value),
            "message" => losses.fill(&mut warning.message, value),
            "context" => losses.fill(&mut warning.context, value),
            _ => {}
        })?;
        Some(warning)
    }
}

/// Parses a complete body. Errors with a description if it does not have the
/// expected structure.
pub(in crate::hubspot) fn parse<T: Body>(
    body: &[u8],
    unreadable: &mut UnreadableFields,
) -> Result<T, String> {
    // Text is validated as a whole, which is faster than each string of it. Invalid bytes may be in a
    // field that is ignored.
    let parsed = match str::from_utf8(body) {
        Ok(text) => serde_json::from_str(text),
        Err(_) => serde_json::from_slice(body),
    };
    let error = match parsed {
        Ok(parsed) if T::is_plausible(&parsed) => return Ok(parsed),
        Ok(_) => "a result is not an object".to_owned(),
        Err(error) => error.to_string(),
    };
    let is_complete = is_complete_object(body);
    is_complete.then(|| parse_truncated(body, unreadable)).flatten().ok_or(error)
}

/// Parses a body whose end may be missing, as far as it can be read.
pub(in crate::hubspot) fn parse_truncated<T: Body>(
    body: &[u8],
    unreadable: &mut UnreadableFields,
) -> Option<T> {
    let mut losses = Losses { field: ResponseField::Results, unreadable };
    T::read(body, &mut losses)
}

/// Parses an object without a fixed structure, without the values that cannot be read.
pub(in crate::hubspot) fn parse_value(body: &[u8]) -> Option<Value> {
    if let Ok(value) = serde_json::from_slice(body) {
        return Some(value);
    }
    let body = without_byte_order_mark(body);
    let mut unreadable = UnreadableFields::default();
    let mut losses = Losses { field: ResponseField::Errors, unreadable: &mut unreadable };
    is_complete_object(body).then(|| error_value(body, &mut losses)).flatten()
}

/// True if the object has members that only HubSpot's error objects have. They may have an id as well.
pub(in crate::hubspot) fn may_be_error(body: &[u8]) -> bool {
    let is_of_error =
        |(name, _): (&[u8], _)| matches!(name, b"\"category\"" | b"\"correlationId\"");
    Members::parse(body).is_some_and(|mut members| members.any(is_of_error))
}

/// Removes the byte order mark, which a JSON text must not have.
pub(in crate::hubspot) fn without_byte_order_mark(body: &[u8]) -> &[u8] {
    body.strip_prefix(BYTE_ORDER_MARK).unwrap_or(body)
}

/// Reads leads. Those without an id are left out and counted.
fn leads(raw: &[u8], losses: &mut Losses<'_>) -> Option<Option<Vec<WireLead>>> {
    readable_elements(raw, losses, |lead, losses| {
        <WireLead as Field>::read(lead, losses).filter(WireLead::has_id)
    })
}

/// Reads the elements of an array. Those that cannot be read are left out and counted. `None` if the value is
/// neither an array nor null, or if none of its elements can be read.
fn readable_elements<T>(
    raw: &[u8],
    losses: &mut Losses<'_>,
    read: impl Fn(&[u8], &mut Losses<'_>) -> Option<T>,
) -> Option<Option<Vec<T>>> {
    if is_null(raw) {
        return Some(None);
    }
    let (mut readable, mut is_empty) = (Vec::new(), true);
    for element in Elements::parse(raw)? {
        is_empty = false;
        match read(element, losses) {
            Some(element) => readable.push(element),
            None => losses.count(),
        }
    }
    (is_empty || !readable.is_empty()).then_some(Some(readable))
}

/// Reads the cursor of a list into `slot`. False if it cannot be read: without it, the list would end early.
fn fill_cursor(slot: &mut Option<WirePaging>, raw: &[u8], losses: &mut Losses<'_>) -> bool {
    let cursor = Field::read(raw, losses);
    let is_readable = cursor.is_some();
    *slot = cursor.unwrap_or_else(|| slot.take());
    is_readable
}

fn have_ids(results: Option<&[WireLead]>) -> bool {
    results.is_none_or(|results| results.iter().all(WireLead::has_id))
}
