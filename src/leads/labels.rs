//! Labels in place of ids: of pipelines, stages, options and association types, and e-mail addresses of
//! owners.
//!
//! A write or a search names them apart from its values, so an id is never mistaken for a label. They are
//! resolved from the copies of the schema before the write is validated: `lookup` compares, without I/O, and
//! `resolver` reads the copies that it needs. `display` adds labels to leads that were read.

mod display;
mod index;
mod labelled;
mod lookup;
mod resolver;
mod target;

pub use self::{
    display::DisplayLabels,
    labelled::{AssociationLabel, FilterPosition, Labelled, Labels},
};
pub(super) use self::{resolver::LabelResolver, target::LabelTarget};
