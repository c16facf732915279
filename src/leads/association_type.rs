//! Types of the associations of a lead with other records.

/// Association type: a category and an id within it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AssociationType {
    /// Owner of the type.
    pub category: AssociationCategory,
    /// Id within the category.
    pub type_id: i32,
}

/// Owner of an association type.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum AssociationCategory {
    /// Comes with HubSpot.
    HubspotDefined,
    /// A label made in the portal.
    UserDefined,
    /// Made by an installed app.
    IntegratorDefined,
    /// HubSpot's own category of that name.
    Work,
}

// === impl AssociationType ===

impl AssociationType {
    /// Type of a lead's primary contact.
    pub const PRIMARY_CONTACT: Self =
        Self { category: AssociationCategory::HubspotDefined, type_id: 578 };

    /// Type of any contact of a lead.
    pub const CONTACT: Self = Self { category: AssociationCategory::HubspotDefined, type_id: 608 };

    /// True if the type is one of a contact, or a label of the portal, whose object type only HubSpot knows.
    pub(super) fn may_name_contact(self) -> bool {
        match self.category {
            AssociationCategory::HubspotDefined => {
                self == Self::PRIMARY_CONTACT || self == Self::CONTACT
            }
            AssociationCategory::UserDefined => true,
            AssociationCategory::IntegratorDefined | AssociationCategory::Work => false,
        }
    }
}

// === impl AssociationCategory ===

impl AssociationCategory {
    const ALL: [Self; 4] =
        [Self::HubspotDefined, Self::UserDefined, Self::IntegratorDefined, Self::Work];

    /// The category of this name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|category| category.as_str() == name)
    }

    /// The name HubSpot gives it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::HubspotDefined => "HUBSPOT_DEFINED",
            Self::UserDefined => "USER_DEFINED",
            Self::IntegratorDefined => "INTEGRATOR_DEFINED",
            Self::Work => "WORK",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_category_is_parsed_from_the_name_that_hubspot_gives_it() {
        for category in AssociationCategory::ALL {
            assert_eq!(AssociationCategory::parse(category.as_str()), Some(category));
        }
        assert_eq!(
            AssociationCategory::parse("USER_DEFINED"),
            Some(AssociationCategory::UserDefined)
        );
        assert_eq!(AssociationCategory::parse("user_defined"), None);
        assert_eq!(AssociationCategory::parse(""), None);
    }
}
