//! Estimates of the memory that stored responses hold, so that caches are bounded in bytes.

use std::{collections::BTreeMap, mem::size_of, sync::Arc};

use super::{
    lead::{Associated, AssociatedObject, Lead, PropertyVersion, Warning},
    write::Upserted,
};

/// Nodes of a B-tree are at least half full: an entry takes up to twice its own size.
const NODE_FILL: usize = 2;

/// A value whose memory can be estimated.
pub(super) trait HeapSize {
    /// Bytes on the heap, without the value itself.
    fn heap_size(&self) -> usize;
}

/// Bytes of a value: its own size and what it holds on the heap.
pub(super) fn memory_of<T: HeapSize>(value: &T) -> usize {
    size_of::<T>() + value.heap_size()
}

// === impl HeapSize ===

impl HeapSize for () {
    fn heap_size(&self) -> usize {
        0
    }
}

impl HeapSize for String {
    fn heap_size(&self) -> usize {
        self.capacity()
    }
}

impl<T: HeapSize> HeapSize for Option<T> {
    fn heap_size(&self) -> usize {
        self.as_ref().map_or(0, HeapSize::heap_size)
    }
}

impl<T: HeapSize> HeapSize for Vec<T> {
    fn heap_size(&self) -> usize {
        self.capacity() * size_of::<T>() + self.iter().map(HeapSize::heap_size).sum::<usize>()
    }
}

impl<T: HeapSize> HeapSize for BTreeMap<String, T> {
    fn heap_size(&self) -> usize {
        let entries = self.len() * size_of::<(String, T)>() * NODE_FILL;
        let on_heap = |(key, value): (&String, &T)| key.heap_size() + value.heap_size();
        entries + self.iter().map(on_heap).sum::<usize>()
    }
}

impl<T: HeapSize, E: HeapSize> HeapSize for Result<T, E> {
    fn heap_size(&self) -> usize {
        match self {
            Ok(value) => value.heap_size(),
            Err(error) => error.heap_size(),
        }
    }
}

impl HeapSize for Lead {
    fn heap_size(&self) -> usize {
        let Self {
            id,
            properties,
            labels,
            unset_properties,
            property_history,
            associations,
            create_time: _,
            update_time: _,
            archived: _,
            archive_time: _,
            url,
            warnings,
            is_id_only: _,
        } = self;
        id.heap_size()
            + properties.heap_size()
            + labels.heap_size()
            + unset_properties.heap_size()
            + property_history.heap_size()
            + associations.heap_size()
            + url.heap_size()
            + warnings.heap_size()
    }
}

impl<T: HeapSize> HeapSize for Arc<T> {
    /// Counts what the clones share for each of them.
    fn heap_size(&self) -> usize {
        size_of::<T>() + T::heap_size(self)
    }
}

impl HeapSize for PropertyVersion {
    fn heap_size(&self) -> usize {
        let Self { value, time: _, source_type, source_id, source_label, updated_by_user_id: _ } =
            self;
        [value, source_type, source_id, source_label].map(HeapSize::heap_size).iter().sum()
    }
}

impl HeapSize for Associated {
    fn heap_size(&self) -> usize {
        let Self { objects, next } = self;
        objects.heap_size() + next.heap_size()
    }
}

impl HeapSize for AssociatedObject {
    fn heap_size(&self) -> usize {
        let Self { id, kind, association_type: _, label } = self;
        id.heap_size() + kind.heap_size() + label.heap_size()
    }
}

impl HeapSize for Warning {
    fn heap_size(&self) -> usize {
        let Self { category, message, context } = self;
        category.heap_size() + message.heap_size() + context.heap_size()
    }
}

impl HeapSize for Upserted {
    fn heap_size(&self) -> usize {
        let Self { lead, created: _ } = self;
        lead.heap_size()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::leads::{Error, FieldFault, Reason, UpstreamFacts};

    fn lead(value: &str) -> Lead {
        let version =
            PropertyVersion { value: Some(value.to_owned()), ..PropertyVersion::default() };
        let object = AssociatedObject::named(value, value);
        let warning = Warning {
            category: None,
            message: Some(value.to_owned()),
            context: BTreeMap::from([("a".to_owned(), vec![value.to_owned()])]),
        };
        Lead {
            id: value.to_owned(),
            properties: BTreeMap::from([("a".to_owned(), value.to_owned())]),
            labels: BTreeMap::from([("a".to_owned(), value.to_owned())]),
            unset_properties: vec![value.to_owned()],
            property_history: BTreeMap::from([("a".to_owned(), vec![version])]),
            associations: BTreeMap::from([(
                "contacts".to_owned(),
                Associated { objects: vec![object], next: Some(value.to_owned()) },
            )]),
            url: Some(value.to_owned()),
            warnings: vec![warning],
            ..Lead::default()
        }
    }

    #[test]
    fn every_text_of_a_lead_counts() {
        let (short, long) = (memory_of(&lead("")), memory_of(&lead(&"x".repeat(1_000))));
        assert_eq!(long - short, 11 * 1_000);
        assert_eq!(memory_of(&Upserted { lead: lead("").into(), created: Some(true) }), {
            size_of::<Upserted>() + size_of::<Lead>() + lead("").heap_size()
        });
    }

    #[test]
    fn every_text_of_an_error_counts() {
        let text = "x".repeat(1_000);
        let text = || text.clone();
        let upstream = UpstreamFacts {
            correlation_id: Some(text()),
            category: Some(text()),
            sub_category: Some(text()),
            policy_name: Some(text()),
            required_scopes: vec![text()],
            existing_id: Some(text()),
            ..UpstreamFacts::default()
        };
        let error = Error::new(Reason::ValidationFailed, text())
            .with_internal(text())
            .with_fields(vec![FieldFault::new(text(), text())])
            .with_upstream(upstream);
        let plain = Error::new(Reason::ValidationFailed, "");
        let more = error.heap_size() - plain.heap_size();
        assert!((10_000..10_500).contains(&more), "{more}");
    }

    #[test]
    fn a_list_counts_its_items_and_its_capacity() {
        let many = vec![Ok(lead("x")), Err(Error::new(Reason::Conflict, "conflict"))];
        let items: usize = many.iter().map(memory_of).sum();
        assert_eq!(many.heap_size(), items);
        assert_eq!(Ok::<(), Error>(()).heap_size(), 0);
    }
}
