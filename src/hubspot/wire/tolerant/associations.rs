//! Second pass over responses about associations.

use serde::de::IgnoredAny;

use super::{
    Body, Elements, Field, Losses, ResponseField, fill_cursor, readable_elements, readable_part,
};
use crate::hubspot::wire::{
    WireAssociatedRecord, WireAssociationBatch, WireAssociationChanges, WireAssociationResult,
    association_page::{WireAssociationPage, WireLabeledType, WirePageRecord},
    value::Text,
};

impl Body for WireAssociationPage {
    /// A record without an id is left out and counted. Without its cursor, the list would end early.
    fn read(raw: &[u8], losses: &mut Losses<'_>) -> Option<Self> {
        let mut page = Self::default();
        let mut is_usable = true;
        losses.field = ResponseField::Associations;
        losses.members(raw, |losses, name, value| match name.as_str() {
            "results" => match readable_elements(value, losses, WirePageRecord::read) {
                Some(results) => page.results = results,
                None => is_usable = false,
            },
            "paging" => is_usable &= fill_cursor(&mut page.paging, value, losses),
            _ => {}
        })?;
        is_usable.then_some(page)
    }

    fn is_plausible(&self) -> bool {
        self.has_ids()
    }
}

impl Body for WireAssociationChanges {
    fn read(raw: &[u8], losses: &mut Losses<'_>) -> Option<Self> {
        let mut changes = Self::default();
        losses.members(raw, |losses, name, value| match name.as_str() {
            "results" => changes.results = Elements::parse(value).map(|_| IgnoredAny),
            "errors" => losses.fill_field(ResponseField::Errors, &mut changes.errors, value),
            _ => {}
        })?;
        Some(changes)
    }
}

impl Body for WireAssociationBatch {
    /// A lead whose associations are unreadable is left out, as one that HubSpot does not mention.
    fn read(raw: &[u8], losses: &mut Losses<'_>) -> Option<Self> {
        let mut batch = Self::default();
        losses.members(raw, |losses, name, value| match name.as_str() {
            "results" => {
                losses.fill_field(ResponseField::Associations, &mut batch.results, value);
                let is_empty = Elements::parse(value).is_none_or(|mut all| all.next().is_none());
                batch.results = batch.results.take().filter(|read| is_empty || !read.is_empty());
            }
            "errors" => batch.errors = Elements::parse(value).map(|_| Vec::new()),
            _ => {}
        })?;
        Some(batch)
    }
}

impl Field for WireAssociationResult {
    /// Without its cursor, a list would seem complete: it counts as unreadable.
    fn read(raw: &[u8], losses: &mut Losses<'_>) -> Option<Self> {
        let mut list = Self::default();
        let mut is_usable = true;
        losses.members(raw, |losses, name, value| match name.as_str() {
            "from" => list.from = readable_part(value, losses).unwrap_or_default(),
            "to" => losses.fill(&mut list.to, value),
            "paging" => is_usable &= fill_cursor(&mut list.paging, value, losses),
            _ => {}
        })?;
        is_usable.then_some(list)
    }
}

impl Field for WireAssociatedRecord {
    /// A record without an id is left out.
    fn read(raw: &[u8], losses: &mut Losses<'_>) -> Option<Self> {
        let mut record = Self::default();
        losses.members(raw, |losses, name, value| match name.as_str() {
            "id" => record.id = Field::read(value, losses).unwrap_or_default(),
            "type" => losses.fill(&mut record.kind, value),
            _ => {}
        })?;
        record.id.0.is_some().then_some(record)
    }
}

impl Field for WirePageRecord {
    fn read(raw: &[u8], losses: &mut Losses<'_>) -> Option<Self> {
        let mut record = Self::default();
        losses.members(raw, |losses, name, value| match name.as_str() {
            "toObjectId" => record.to_object_id = Field::read(value, losses).unwrap_or_default(),
            "associationTypes" => losses.fill(&mut record.association_types, value),
            _ => {}
        })?;
        record.has_id().then_some(record)
    }
}

impl Field for WireLabeledType {
    fn read(raw: &[u8], losses: &mut Losses<'_>) -> Option<Self> {
        let mut kind = Self::default();
        losses.members(raw, |losses, name, value| match name.as_str() {
            "category" => losses.fill(&mut kind.category, value),
            "typeId" => {
                let mut number = Text::default();
                losses.fill(&mut number, value);
                kind.type_id = number.0.and_then(|number| number.parse().ok());
            }
            "label" => losses.fill(&mut kind.label, value),
            _ => {}
        })?;
        Some(kind)
    }
}
