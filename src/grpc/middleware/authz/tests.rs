//! Authorization without a network.

use prost::Message as _;
use prost_types::FileDescriptorSet;

use super::*;
use crate::grpc::DESCRIPTORS;
use crate::leads::testing::portal as portal_of;

/// Every method of the contract with its permission. A new method needs an entry.
const PERMISSIONS: &[(&str, Permission)] = &[
    ("LeadsService/GetLead", Permission::Read),
    ("LeadsService/ListLeads", Permission::Read),
    ("LeadsService/CreateLead", Permission::Write),
    ("LeadsService/UpdateLead", Permission::Write),
    ("LeadsService/ArchiveLead", Permission::Write),
    ("LeadsService/UpsertLead", Permission::Write),
    ("LeadsService/SearchLeads", Permission::Read),
    ("LeadsService/ListLeadAssociations", Permission::Read),
    ("LeadsService/ExportLeads", Permission::Export),
    ("LeadsService/ImportLeads", Permission::Import),
    ("LeadsService/BatchGetLeads", Permission::Read),
    ("LeadsService/BatchCreateLeads", Permission::Write),
    ("LeadsService/BatchUpdateLeads", Permission::Write),
    ("LeadsService/BatchUpsertLeads", Permission::Write),
    ("LeadsService/BatchArchiveLeads", Permission::Write),
    ("LeadsService/AssociateLead", Permission::Write),
    ("LeadsService/DissociateLead", Permission::Write),
    ("LeadsService/BatchAssociateLeads", Permission::Write),
    ("LeadsService/BatchDissociateLeads", Permission::Write),
    ("QuotaService/GetQuota", Permission::Quota),
    ("QuotaService/WatchQuota", Permission::Quota),
    ("SchemaService/ListLeadProperties", Permission::Read),
    ("SchemaService/ListLeadPipelines", Permission::Read),
    ("SchemaService/ListOwners", Permission::Read),
    ("SchemaService/ListAssociationTypes", Permission::Read),
    ("SchemaService/ListPortals", Permission::Portals),
];

#[test]
fn every_method_of_the_contract_has_its_permission() {
    let mut methods = Vec::new();
    for file in FileDescriptorSet::decode(DESCRIPTORS).unwrap().file {
        for service in &file.service {
            for method in &service.method {
                methods.push(format!("{}.{}/{}", file.package(), service.name(), method.name()));
            }
        }
    }
    assert_eq!(methods.len(), PERMISSIONS.len(), "{methods:?}");
    for (method, permission) in PERMISSIONS {
        let path = format!("leadsd.v1.{method}");
        assert!(methods.contains(&path), "{path}");
        assert_eq!(Permission::for_path(&format!("/{path}")), *permission, "{path}");
    }
}

#[test]
fn only_health_is_public() {
    for (path, permission) in [
        ("/grpc.health.v1.Health/Check", Permission::Public),
        ("/grpc.health.v1.Health/Watch", Permission::Public),
        ("/grpc.reflection.v1.ServerReflection/ServerReflectionInfo", Permission::AnyAuthenticated),
        ("/grpc.health.v1.Healthy/Check", Permission::AnyAuthenticated),
        ("/grpc.health.v1.Health", Permission::AnyAuthenticated),
        ("//grpc.health.v1.Health/Check", Permission::AnyAuthenticated),
        ("/x/grpc.health.v1.Health/Check", Permission::AnyAuthenticated),
        ("/", Permission::AnyAuthenticated),
        ("", Permission::AnyAuthenticated),
        ("/leadsd.v1.LeadsService/GetLeads", Permission::Write),
        ("/leadsd.v1.LeadsService/", Permission::Write),
        ("/leadsd.v2.LeadsService/GetLead", Permission::Write),
    ] {
        assert_eq!(Permission::for_path(path), permission, "{path}");
    }
}

/// Rights of a caller in the portal `eu`, and none in `us`.
fn decided(
    permission: Permission,
    access: Access,
    quota: bool,
    portal: Option<&'static str>,
) -> Result<Option<String>, (Reason, Option<String>)> {
    let names = ["eu", "us"].map(|name| PortalName::parse(name).unwrap());
    let all = names.to_vec();
    let portals = PortalResolver::new(
        move |name| names.contains(name).then(|| portal_of(name)),
        move || all.clone(),
        |_| None,
    );
    let in_portal = |portal: &PortalName| match portal.as_str() {
        "eu" => Rights {
            access,
            quota,
            export: quota,
            import: quota,
            create_contacts: quota,
            weight: 3,
        },
        _ => Rights::NONE,
    };
    let anything = in_portal(&PortalName::parse("eu").unwrap()).any();
    let mut headers = HeaderMap::new();
    headers.extend(portal.map(|portal| {
        let name = http::HeaderName::from_static("leadsd-portal");
        (name, http::HeaderValue::from_static(portal))
    }));
    let granted = CallerRights { anything, in_portal: &in_portal };
    match decide(permission, &granted, &portals, &headers) {
        Ok(authorized) => Ok(authorized.map(|(portal, _)| portal.name.to_string())),
        Err(Denial { error, portal }) => {
            Err((error.reason(), portal.map(|portal| portal.to_string())))
        }
    }
}

#[test]
fn a_permission_is_granted_by_the_rights_in_the_portal() {
    let eu = || Some("eu".to_owned());
    let forbidden = |portal: Option<String>| Err((Reason::CallerForbidden, portal));
    for (permission, access, quota, expected) in [
        (Permission::Read, Access::Read, false, Ok(eu())),
        (Permission::Read, Access::Write, false, Ok(eu())),
        (Permission::Read, Access::None, true, forbidden(eu())),
        (Permission::Write, Access::Write, false, Ok(eu())),
        (Permission::Write, Access::Read, true, forbidden(eu())),
        // The double grants exports and imports with the quota.
        (Permission::Export, Access::Read, true, Ok(eu())),
        (Permission::Export, Access::Write, false, forbidden(eu())),
        (Permission::Export, Access::None, true, forbidden(eu())),
        (Permission::Import, Access::Write, true, Ok(eu())),
        (Permission::Import, Access::Read, true, forbidden(eu())),
        (Permission::Import, Access::Write, false, forbidden(eu())),
        (Permission::Quota, Access::None, true, Ok(eu())),
        (Permission::Quota, Access::Write, false, forbidden(eu())),
        (Permission::AnyAuthenticated, Access::Read, false, Ok(None)),
        // Without any rights, the portal is not named.
        (Permission::Read, Access::None, false, forbidden(None)),
        (Permission::AnyAuthenticated, Access::None, false, forbidden(None)),
    ] {
        let found = decided(permission, access, quota, Some("eu"));
        assert_eq!(found, expected, "{permission:?} with {access:?} and quota {quota}");
    }
}

#[test]
fn a_caller_without_rights_in_a_portal_does_not_learn_that_it_exists() {
    for portal in ["us", "asia"] {
        let found = decided(Permission::Read, Access::Write, true, Some(portal));
        assert_eq!(found, Err((Reason::CallerForbidden, None)), "{portal}");
    }
    let only = decided(Permission::Read, Access::Read, false, None);
    assert_eq!(only, Ok(Some("eu".to_owned())), "the only portal of the caller");
}
