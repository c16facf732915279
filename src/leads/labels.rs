//! Labels in place of ids: of pipelines, stages, options and association types, and e-mail addresses of
//! owners.
//!
//! A write or a search names them apart from its values, so an id is never mistaken for a label. They are
//! resolved from the copies of the schema before the write is validated: `lookup` compares, without I/O, and
//! `resolver` reads the copies that it needs.

mod index;
mod labelled;
mod lookup;
mod resolver;
mod target;

pub use self::labelled::{AssociationLabel, FilterPosition, Labelled, Labels};
pub(super) use self::{resolver::LabelResolver, target::LabelTarget};
