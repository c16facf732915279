//! Mapping of the columns of a file to the fields of a lead.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    str::FromStr,
};

use super::RECORD_ID;

/// Target for the record id of the primary contact.
const CONTACT_ID: &str = "contact.id";

/// Target for the e-mail address of the primary contact.
const CONTACT_EMAIL: &str = "contact.email";

/// Start of a target for a property of a contact that the import creates.
const CONTACT: &str = "contact.";

/// Start of a target for a property whose column has labels in place of ids.
const LABELS: &str = "labels.";

/// Help on targets.
pub(super) const HELP: &str = "\
Columns:
  A column with the internal name of a property sets it. --map maps other columns:
  --map 'Company Name=company'     sets the property company
  --map 'Mail=contact.email'       names the primary contact of a new lead by e-mail address
  --map 'Contact=contact.id'       names it by record id
  --map 'First=contact.firstname'  sets a property of a contact that --create-contacts creates
  --map 'Stage=labels.hs_pipeline_stage'
                                   sets a property by labels: of pipelines, stages and options,
                                   and by the e-mail address of an owner
  --map 'Notes='                   leaves the column out
  The columns of leadsd export that are no properties are left out.
  Empty values are left out; with --clear-empty they clear the property.";

/// Pair of `--map`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Pair {
    column: String,
    target: Target,
}

/// Field that a column sets.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Target {
    Property(String),
    ContactId,
    ContactEmail,
    /// Property of a contact that is created.
    ContactProperty(String),
    /// Label of a value of a property.
    Label(String),
    /// Value of the property that identifies the lead.
    Id,
    /// The column is left out.
    Nothing,
}

/// Targets of the columns of a file.
#[derive(Debug, Clone)]
pub(super) struct Mapping {
    pairs: BTreeMap<String, Target>,
    /// Property that identifies leads; `None` for creates.
    id_property: Option<String>,
    /// True if missing contacts are created.
    creates_contacts: bool,
}

/// Error of columns that cannot be mapped.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(in crate::cli) enum InvalidMapping {
    #[error(
        "the column {0:?} is no internal name of a property: add --map {0:?}=PROPERTY, or \
         --map {0:?}= to leave it out"
    )]
    Unmapped(String),
    #[error("the columns {0:?} and {1:?} set the same field")]
    Twice(String, String),
    #[error("--map names the column {0:?}, which the file does not have")]
    NoColumn(String),
    #[error("no column has the value of the --id-property {0}: map one to it")]
    NoId(String),
    #[error("no column sets a property")]
    NoProperty,
    #[error(
        "the column {0:?} sets a property of a contact: add --create-contacts, or --map {0:?}="
    )]
    NotCreated(String),
    #[error("--create-contacts needs the e-mail addresses: map a column to contact.email")]
    NoAddress,
}

// === impl Pair ===

impl FromStr for Pair {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        // A column may have an equals sign in its name, a property has none.
        let (column, target) = text
            .rsplit_once('=')
            .filter(|(column, _)| !column.is_empty())
            .ok_or("use COLUMN=PROPERTY, such as 'Company Name=company'")?;
        let target = match target.trim() {
            "" => Target::Nothing,
            CONTACT_ID => Target::ContactId,
            CONTACT_EMAIL => Target::ContactEmail,
            name => named(name).ok_or_else(|| {
                format!(
                    "{name:?} is no internal name of a property, alone or after {CONTACT} or {LABELS}"
                )
            })?,
        };
        Ok(Self { column: column.to_owned(), target })
    }
}

impl fmt::Display for Pair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (start, name) = match &self.target {
            Target::Property(name) => ("", name.as_str()),
            Target::ContactId => ("", CONTACT_ID),
            Target::ContactEmail => ("", CONTACT_EMAIL),
            Target::ContactProperty(name) => (CONTACT, name.as_str()),
            Target::Label(name) => (LABELS, name.as_str()),
            Target::Id => ("", "id"),
            Target::Nothing => ("", ""),
        };
        write!(f, "{}={start}{name}", self.column)
    }
}

// === impl Mapping ===

impl Mapping {
    pub(super) fn new(pairs: &[Pair], id_property: Option<&str>) -> Self {
        let pairs = pairs.iter().map(|pair| (pair.column.clone(), pair.target.clone())).collect();
        Self { pairs, id_property: id_property.map(str::to_owned), creates_contacts: false }
    }

    /// The mapping of an import that creates missing contacts, or does not.
    #[must_use]
    pub(super) fn creating_contacts(self, creates_contacts: bool) -> Self {
        Self { creates_contacts, ..self }
    }

    /// Target of a column.
    pub(super) fn target(&self, column: &str) -> Result<Target, InvalidMapping> {
        let mapped = match self.pairs.get(column) {
            Some(target) => target.clone(),
            None => {
                default_target(column).ok_or_else(|| InvalidMapping::Unmapped(column.to_owned()))?
            }
        };
        let id = self.id_property.as_deref();
        let is_id = match &mapped {
            Target::Property(name) => id == Some(name.as_str()),
            // The column `id` of an export is the record id.
            Target::Id => id == Some(RECORD_ID),
            Target::ContactId
            | Target::ContactEmail
            | Target::ContactProperty(_)
            | Target::Label(_)
            | Target::Nothing => false,
        };
        let is_other_id = !is_id && mapped == Target::Id;
        Ok(if is_id {
            Target::Id
        } else if is_other_id {
            Target::Nothing
        } else {
            mapped
        })
    }

    /// Checks the columns of a file as a whole.
    pub(super) fn check<'a>(
        &self,
        columns: impl IntoIterator<Item = &'a str>,
    ) -> Result<(), InvalidMapping> {
        let columns: BTreeSet<&str> = columns.into_iter().collect();
        if let Some(missing) = self.pairs.keys().find(|name| !columns.contains(name.as_str())) {
            return Err(InvalidMapping::NoColumn(missing.clone()));
        }
        let mut known: BTreeMap<Target, &str> = BTreeMap::new();
        for column in columns {
            let target = self.target(column)?;
            if target == Target::Nothing {
                continue;
            }
            if !self.creates_contacts && matches!(target, Target::ContactProperty(_)) {
                return Err(InvalidMapping::NotCreated(column.to_owned()));
            }
            // A value and a label of one property cannot be written together.
            let target =
                if let Target::Label(name) = target { Target::Property(name) } else { target };
            if let Some(first) = known.insert(target, column) {
                return Err(InvalidMapping::Twice(first.to_owned(), column.to_owned()));
            }
        }
        if self.creates_contacts && !known.contains_key(&Target::ContactEmail) {
            return Err(InvalidMapping::NoAddress);
        }
        match &self.id_property {
            Some(name) if !known.contains_key(&Target::Id) => {
                Err(InvalidMapping::NoId(name.clone()))
            }
            Some(_) => Ok(()),
            None if known.keys().any(|target| matches!(target, Target::Property(_))) => Ok(()),
            None => Err(InvalidMapping::NoProperty),
        }
    }
}

/// Target of a column that no option maps.
fn default_target(column: &str) -> Option<Target> {
    let is_of_export = ["associations.", "history."].iter().any(|part| column.starts_with(part));
    match column {
        "id" | RECORD_ID => Some(Target::Id),
        CONTACT_ID => Some(Target::ContactId),
        CONTACT_EMAIL => Some(Target::ContactEmail),
        "create_time" | "update_time" => Some(Target::Nothing),
        // HubSpot returns them with every lead, and sets them itself.
        "hs_createdate" | "hs_lastmodifieddate" => Some(Target::Nothing),
        _ if is_of_export => Some(Target::Nothing),
        _ => named(column.strip_prefix("properties.").unwrap_or(column)),
    }
}

/// Target with the name of a property.
fn named(text: &str) -> Option<Target> {
    let (target, name): (fn(String) -> Target, _) =
        match (text.strip_prefix(CONTACT), text.strip_prefix(LABELS)) {
            (Some(name), _) => (Target::ContactProperty, name),
            (None, Some(name)) => (Target::Label, name),
            (None, None) => (Target::Property, text),
        };
    property(name).map(|name| target(name.to_owned()))
}

/// The text, if it can be the internal name of a property.
fn property(text: &str) -> Option<&str> {
    let is_name = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    (!text.is_empty() && text.chars().all(is_name)).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mapping(pairs: &[&str], id_property: Option<&str>) -> Mapping {
        let pairs: Vec<Pair> = pairs.iter().map(|text| text.parse().unwrap()).collect();
        Mapping::new(&pairs, id_property)
    }

    fn own(name: &str) -> Target {
        Target::Property(name.to_owned())
    }

    #[test]
    fn columns_are_mapped_by_option_and_by_name() {
        let pairs = [
            "Company Name=company",
            "a=b=c",
            "Mail=contact.email",
            "notes=",
            "First=contact.firstname",
            "Stage=labels.hs_pipeline_stage",
        ];
        for (id_property, column, expected) in [
            (None, "hs_lead_name", own("hs_lead_name")),
            (None, "Company Name", own("company")),
            (None, "a=b", own("c")),
            (None, "Mail", Target::ContactEmail),
            (None, "contact.id", Target::ContactId),
            (None, "First", Target::ContactProperty("firstname".to_owned())),
            (None, "contact.lastname", Target::ContactProperty("lastname".to_owned())),
            (None, "Stage", Target::Label("hs_pipeline_stage".to_owned())),
            (None, "labels.hubspot_owner_id", Target::Label("hubspot_owner_id".to_owned())),
            (None, "notes", Target::Nothing),
            (None, "properties.id", own("id")),
            (None, "id", Target::Nothing),
            (None, "hs_object_id", Target::Nothing),
            (None, "hs_createdate", Target::Nothing),
            (None, "create_time", Target::Nothing),
            (None, "associations.contacts", Target::Nothing),
            (None, "history.hs_lead_label", Target::Nothing),
            (Some("company"), "Company Name", Target::Id),
            (Some("company"), "id", Target::Nothing),
            (Some("hs_object_id"), "id", Target::Id),
            (Some("hs_object_id"), "hs_object_id", Target::Id),
        ] {
            let target = mapping(&pairs, id_property).target(column).unwrap();
            assert_eq!(target, expected, "{column} with {id_property:?}");
        }
    }

    #[test]
    fn columns_that_cannot_be_mapped_are_named() {
        for (pairs, id_property, columns, expected) in [
            (
                &[][..],
                None,
                &["hs_lead_name", "Company Name"][..],
                "the column \"Company Name\" is no",
            ),
            (&["X=a"], None, &["a", "X"], "the columns \"X\" and \"a\" set the same field"),
            (&["X=a"], None, &["a"], "--map names the column \"X\""),
            (&[], Some("key"), &["a"], "no column has the value of the --id-property key"),
            (&["a="], None, &["a"], "no column sets a property"),
            (&[], None, &["contact.id"], "no column sets a property"),
            (&[], None, &["contact.firstname"], "the column \"contact.firstname\" sets a property"),
            (
                &[],
                None,
                &["a", "labels.a"],
                "the columns \"a\" and \"labels.a\" set the same field",
            ),
            (&[], None, &["contact.first name"], "the column \"contact.first name\" is no"),
        ] {
            let error = mapping(pairs, id_property).check(columns.iter().copied()).unwrap_err();
            assert!(error.to_string().starts_with(expected), "{error}");
        }
        let columns = ["id", "hs_lead_name", "contact.id", "create_time"];
        assert_eq!(mapping(&[], None).check(columns), Ok(()));
        let creating = mapping(&["Mail=contact.email"], None).creating_contacts(true);
        assert_eq!(creating.check(["a", "Mail", "contact.firstname"]), Ok(()));
        let no_address = mapping(&[], None).creating_contacts(true);
        assert_eq!(no_address.check(["a", "contact.id"]), Err(InvalidMapping::NoAddress));
    }

    #[test]
    fn a_pair_has_the_text_that_it_was_parsed_from() {
        for text in ["A=b", "A=", "A=contact.id", "A=contact.email", "A=contact.b", "A=labels.b"] {
            assert_eq!(text.parse::<Pair>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn pairs_need_a_column_and_a_field() {
        for (text, expected) in [
            ("Company", "use COLUMN=PROPERTY"),
            ("=company", "use COLUMN=PROPERTY"),
            ("Company=Company Name", "\"Company Name\" is no internal name"),
            ("Company=contact.Phone", "\"contact.Phone\" is no internal name"),
            ("Company=labels.", "\"labels.\" is no internal name"),
        ] {
            let error = text.parse::<Pair>().unwrap_err();
            assert!(error.starts_with(expected), "{text}: {error}");
        }
    }
}
