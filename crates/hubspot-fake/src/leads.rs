//! Endpoints for single leads, lists and searches.

use axum::http::StatusCode;
use serde_json::{Value, json};

use super::{
    AccessToken, FakeAccount, READ, WRITE,
    associations::check_object,
    errors::Failure,
    http::{FakeRequest, FakeResponse, strings},
    lead::{Projection, StoredLead},
    search::Search,
    store::Rules,
};

// === impl FakeAccount ===

impl FakeAccount {
    pub(super) fn leads(
        &mut self,
        request: &FakeRequest,
        token: &AccessToken,
    ) -> Result<FakeResponse, Failure> {
        let reads = matches!(
            (request.method.as_str(), request.path.as_str()),
            ("GET", _) | ("POST", "search" | "batch/read")
        );
        let scope = if reads { READ } else { WRITE };
        if !token.scopes.iter().any(|own| own == scope) {
            return Err(Failure::missing_scope(scope, self.behaviour.scopes_on_top));
        }
        match (request.method.as_str(), request.path.as_str()) {
            ("GET", "") => self.list(request),
            ("POST", "") => self.create(request),
            ("POST", "search") => self.search(request),
            ("POST", path) if path.starts_with("batch/") => self.batch(request),
            ("GET", id) if !id.contains('/') => self.get(id, request),
            ("PATCH", id) if !id.contains('/') => self.update(id, request),
            ("DELETE", id) if !id.contains('/') => Ok(self.archive_one(id)),
            (_, path) if path.contains("/associations/") => self.lead_associations(request),
            _ => Err(Failure::validation("no such call")),
        }
    }

    /// Merges one lead into another.
    pub(super) fn merge_leads(&mut self, request: &FakeRequest) -> Result<FakeResponse, Failure> {
        let id = |key: &str| {
            let id = request.body[key].as_str().and_then(|id| id.parse().ok());
            id.filter(|id| self.store.leads.contains_key(id)).ok_or_else(|| self.not_found())
        };
        let (surviving_id, merged_id) = (id("primaryObjectId")?, id("objectIdToMerge")?);
        self.store.merge(merged_id, surviving_id);
        Ok((StatusCode::OK, self.written(surviving_id, &Value::Null)))
    }

    fn get(&self, id: &str, request: &FakeRequest) -> Result<FakeResponse, Failure> {
        let id_property = self.id_property(request.query.get("idProperty").map(String::as_str))?;
        self.numeric(id, id_property)?;
        self.check_associations(request)?;
        let found = self.store.find(id, id_property, request.archived());
        // The id of a merged lead returns the surviving lead.
        let found = found.or_else(|| self.store.survivor(id).filter(|_| id_property.is_none()));
        let lead = found.ok_or_else(|| self.not_found())?;
        Ok((StatusCode::OK, self.show(lead, request)))
    }

    fn id_property<'a>(&self, name: Option<&'a str>) -> Result<Option<&'a str>, Failure> {
        self.store.check_id_property(name, &self.behaviour)?;
        Ok(name)
    }

    pub(super) fn not_found(&self) -> Failure {
        Failure::not_found(self.behaviour.not_found_category)
    }

    /// Checks that a record id is a number.
    fn numeric(&self, id: &str, id_property: Option<&str>) -> Result<(), Failure> {
        let by_record = id_property.is_none_or(|name| name == "hs_object_id");
        if by_record && id.parse::<u64>().is_err() {
            return Err(Failure::not_numeric(id));
        }
        Ok(())
    }

    /// Checks the object types of the associations that a read asks for.
    fn check_associations(&self, request: &FakeRequest) -> Result<(), Failure> {
        if self.behaviour.ignore_unknown_associations {
            return Ok(());
        }
        request.names("associations").iter().try_for_each(|name| check_object(name))
    }

    fn list(&self, request: &FakeRequest) -> Result<FakeResponse, Failure> {
        let limit: usize =
            request.query.get("limit").and_then(|limit| limit.parse().ok()).unwrap_or(10);
        let history = !request.names("propertiesWithHistory").is_empty();
        if limit > 100 {
            return Err(Failure::validation("The limit of a page is 100"));
        }
        self.check_associations(request)?;
        if history && limit > 50 && self.behaviour.refuse_history_over_50 {
            return Err(Failure::validation("The limit of a page with property history is 50"));
        }
        let limit = limit.max(1);
        let after: u64 =
            request.query.get("after").and_then(|after| after.parse().ok()).unwrap_or(0);
        let view = self.store.leads.range(after + 1..).map(|(_, lead)| lead);
        let mut page: Vec<_> = view
            .filter(|lead| lead.archived.is_some() == request.archived())
            .take(limit + 1)
            .collect();
        let more = page.len() > limit;
        page.truncate(limit);
        let results: Vec<Value> = page.iter().map(|lead| self.show(lead, request)).collect();
        let mut body = json!({ "results": results });
        if let (true, Some(last)) = (more, page.last()) {
            let link = format!("https://api.hubapi.com/crm/objects/leads?after={}", last.id);
            body["paging"] = json!({"next": {"after": last.id.to_string(), "link": link}});
        }
        Ok((StatusCode::OK, body))
    }

    fn create(&mut self, request: &FakeRequest) -> Result<FakeResponse, Failure> {
        let behaviour = self.behaviour.clone();
        let rules = Rules { behaviour: &behaviour, now: self.clock.now(), modern: request.modern };
        let id = self.store.create(&request.body, &rules)?;
        Ok((StatusCode::CREATED, self.written(id, &request.body)))
    }

    fn update(&mut self, id: &str, request: &FakeRequest) -> Result<FakeResponse, Failure> {
        let id_property = self.id_property(request.query.get("idProperty").map(String::as_str))?;
        self.numeric(id, id_property)?;
        let follow = self.behaviour.changes_follow_merges && id_property.is_none();
        let found = self.store.find(id, id_property, false);
        let found = found.or_else(|| self.store.survivor(id).filter(|_| follow));
        let id = found.map(|lead| lead.id).ok_or_else(|| self.not_found())?;
        let behaviour = self.behaviour.clone();
        let rules = Rules { behaviour: &behaviour, now: self.clock.now(), modern: request.modern };
        self.store.update(id, &request.body["properties"], &rules)?;
        Ok((StatusCode::OK, self.written(id, &request.body)))
    }

    fn archive_one(&mut self, id: &str) -> FakeResponse {
        let unknown = id.parse().ok().is_none_or(|id: u64| !self.store.leads.contains_key(&id));
        if unknown && self.behaviour.archive_unknown_status == 404 {
            return (StatusCode::NOT_FOUND, self.not_found().body);
        }
        self.archive(id)
    }

    /// Archives a lead. Idempotent; unknown ids are ignored.
    pub(super) fn archive(&mut self, id: &str) -> FakeResponse {
        let now = self.clock.now();
        if let Some(lead) = id.parse().ok().and_then(|id: u64| self.store.leads.get_mut(&id)) {
            lead.archived.get_or_insert(now);
        }
        (StatusCode::NO_CONTENT, Value::Null)
    }

    fn search(&self, request: &FakeRequest) -> Result<FakeResponse, Failure> {
        let search = Search::parse(&request.body, &self.behaviour.searched_properties)?;
        let lag = self.behaviour.index_lag;
        let live = self.store.leads.values().filter(|lead| lead.archived.is_none());
        let mut found: Vec<_> = live
            .filter_map(|lead| Some((lead, lead.in_index(lag)?)))
            .filter(|(lead, indexed)| {
                search.matches(indexed, &lead.contacts(), &self.store.properties)
            })
            .collect();
        found.sort_by(|(_, a), (_, b)| search.order(a, b));
        let total = found.len();
        let properties = strings(&request.body["properties"]);
        let shown = Projection { properties, ..Projection::default() };
        let results: Vec<Value> = found
            .iter()
            .skip(search.after)
            .take(search.limit)
            .map(|(lead, _)| lead.show(&self.store.properties, &self.behaviour, &shown))
            .collect();
        let mut body = json!({ "total": total, "results": results });
        let next = search.after + search.limit;
        if next < total {
            body["paging"] = json!({"next": {"after": next.to_string()}});
        }
        Ok((StatusCode::OK, body))
    }

    /// Response to a write: the lead with the written properties.
    pub(super) fn written(&self, id: u64, input: &Value) -> Value {
        let properties = input["properties"]
            .as_object()
            .into_iter()
            .flatten()
            .map(|(name, _)| name.clone())
            .collect();
        let shown = Projection { properties, ..Projection::default() };
        self.store.leads[&id].show_written(&self.store.properties, &self.behaviour, &shown)
    }

    fn show(&self, lead: &StoredLead, request: &FakeRequest) -> Value {
        let shown = Projection {
            properties: request.names("properties"),
            history: request.names("propertiesWithHistory"),
            associations: request.names("associations"),
        };
        lead.show(&self.store.properties, &self.behaviour, &shown)
    }
}
