//! Owners: the users that leads can be assigned to.

use std::collections::BTreeMap;

use axum::http::StatusCode;
use serde_json::{Value, json};

use super::{
    AccessToken, FakeAccount, OWNERS,
    errors::Failure,
    http::{FakeRequest, FakeResponse},
};

/// Default number of owners per page.
const DEFAULT_LIMIT: usize = 100;

/// Maximum number of owners per page.
const MAX_LIMIT: usize = 500;

/// Owner without its id.
#[derive(Debug, Clone)]
pub(super) struct StoredOwner {
    email: String,
    pub(super) first_name: String,
    pub(super) last_name: String,
    pub(super) is_active: bool,
}

/// Owners by id.
pub(super) type Owners = BTreeMap<String, StoredOwner>;

/// E-mail addresses of owners by id, as a snapshot keeps them.
pub(super) fn to_emails(owners: &Owners) -> BTreeMap<String, String> {
    owners.iter().map(|(id, owner)| (id.clone(), owner.email.clone())).collect()
}

/// Active owners without names.
pub(super) fn from_emails(emails: BTreeMap<String, String>) -> Owners {
    emails.into_iter().map(|(id, email)| (id, StoredOwner::new(&email))).collect()
}

// === impl StoredOwner ===

impl StoredOwner {
    pub(super) fn new(email: &str) -> Self {
        let (first_name, last_name) = (String::new(), String::new());
        Self { email: email.to_owned(), first_name, last_name, is_active: true }
    }

    fn show(&self, id: &str) -> Value {
        let user = id.parse::<u64>().unwrap_or(0) + 1_000_000;
        json!({"id": id, "email": self.email, "type": "PERSON", "firstName": self.first_name,
               "lastName": self.last_name, "userId": self.is_active.then_some(user),
               "userIdIncludingInactive": user,
               "createdAt": "2026-01-01T00:00:00.000Z", "updatedAt": "2026-01-01T00:00:00.000Z",
               "archived": false})
    }
}

// === impl FakeAccount ===

impl FakeAccount {
    /// Serves the owners API: pages of owners, or one.
    pub(super) fn owners(
        &self,
        request: &FakeRequest,
        token: &AccessToken,
    ) -> Result<FakeResponse, Failure> {
        if !token.scopes.iter().any(|own| own == OWNERS) {
            return Err(Failure::missing_scope(OWNERS, self.behaviour.scopes_on_top));
        }
        let owners = &self.store.owners;
        match (request.method.as_str(), request.path.as_str()) {
            ("GET", "") => self.owners_page(request),
            ("GET", id) => {
                let owner = owners.get(id).ok_or_else(|| Failure::not_found(true))?;
                Ok((StatusCode::OK, owner.show(id)))
            }
            _ => Err(Failure::validation("no such call")),
        }
    }

    /// Page of owners. The cursor is the id of the last owner of the page before.
    fn owners_page(&self, request: &FakeRequest) -> Result<FakeResponse, Failure> {
        let limit = match request.query.get("limit") {
            Some(limit) => limit.parse().unwrap_or(0),
            None => DEFAULT_LIMIT,
        };
        if !(1..=MAX_LIMIT).contains(&limit) {
            return Err(Failure::validation(format!("limit must be between 1 and {MAX_LIMIT}")));
        }
        let after = request.query.get("after").map_or("", String::as_str);
        let owners = &self.store.owners;
        if !after.is_empty() && !owners.contains_key(after) {
            return Err(Failure::validation("after is no cursor of this list"));
        }
        let email = request.query.get("email").filter(|email| !email.is_empty());
        let is_asked = |owner: &StoredOwner| email.is_none_or(|email| owner.email == *email);
        let mut rest = owners
            .iter()
            .filter(|(id, owner)| id.as_str() > after && is_asked(owner))
            .map(|(id, owner)| (id, owner.show(id)));
        let size = limit.min(self.behaviour.owners_shown);
        let page: Vec<(&String, Value)> = rest.by_ref().take(size).collect();
        let next = page.last().map(|(id, _)| (*id).clone()).filter(|_| rest.next().is_some());
        let results: Vec<Value> = page.into_iter().map(|(_, owner)| owner).collect();
        let mut body = json!({ "results": results });
        if let Some(next) = next {
            body["paging"] = json!({"next": {"after": next, "link": ""}});
        }
        Ok((StatusCode::OK, body))
    }
}
