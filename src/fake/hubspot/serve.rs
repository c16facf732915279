//! From an HTTP request to an answer: authentication, limits, routes of the three versions.

use std::{collections::HashMap, sync::Arc, time::Duration};

use axum::{
    body::Bytes,
    extract::{Request, State},
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header},
    response::{Html, IntoResponse as _, Response},
};
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};
use url::form_urlencoded;
use uuid::Uuid;

use super::{
    AccessToken, Account, Logged, READ, Script, TOKEN_LIFE, WRITE, errors::Failure, search::Search,
};
use crate::fake::MARK;

/// Largest request body read.
const MAX_BODY: usize = 16 * 1024 * 1024;

/// Longest path and query taken; HubSpot's gateways answer 414 past about this.
const MAX_URI: usize = 16_000;

/// One request, taken apart.
pub(super) struct Asked {
    pub(super) method: String,
    pub(super) path: String,
    pub(super) query: HashMap<String, String>,
    pub(super) body: Value,
    /// Whether it came by a path of 2026-09, whose rules are stricter.
    pub(super) modern: bool,
}

/// Status and body; no body for null.
pub(super) type Answer = (StatusCode, Value);

pub(super) async fn serve(
    State(account): State<Arc<Mutex<Account>>>,
    request: Request,
) -> Response {
    let (parts, body) = request.into_parts();
    let Ok(bytes) = axum::body::to_bytes(body, MAX_BODY).await else {
        return StatusCode::PAYLOAD_TOO_LARGE.into_response();
    };
    let raw_query = parts.uri.query().unwrap_or_default().to_owned();
    if parts.uri.path().len() + raw_query.len() > MAX_URI {
        return (StatusCode::URI_TOO_LONG, Html("<html><body>414</body></html>")).into_response();
    }
    let path = decode(parts.uri.path());
    let method = parts.method.as_str().to_owned();
    let script = account.lock().scripted(&method, &path);
    if let Some(Script::Late(wait)) = script {
        sleep(wait).await;
    }
    let mut response = match &script {
        Some(Script::Answer(status, content_type, body)) => {
            let status = StatusCode::from_u16(*status).unwrap_or(StatusCode::IM_A_TEAPOT);
            (status, [(header::CONTENT_TYPE, *content_type)], body.clone()).into_response()
        }
        Some(Script::Exact(status, headers, body)) => {
            let status = StatusCode::from_u16(*status).unwrap_or(StatusCode::IM_A_TEAPOT);
            let mut answer = (status, body.clone()).into_response();
            for (name, value) in headers {
                if let (Ok(name), Ok(value)) = (HeaderName::try_from(name), value.parse()) {
                    answer.headers_mut().insert(name, value);
                }
            }
            answer
        }
        Some(Script::DoneBut(status)) => {
            let _ = respond(&account, &method, &path, &raw_query, &parts.headers, &bytes);
            StatusCode::from_u16(*status).unwrap_or(StatusCode::IM_A_TEAPOT).into_response()
        }
        Some(Script::Late(_)) | None => {
            respond(&account, &method, &path, &raw_query, &parts.headers, &bytes)
        }
    };
    let logged = Logged {
        method,
        path,
        query: raw_query,
        body: serde_json::from_slice(&bytes).unwrap_or(Value::Null),
        status: response.status().as_u16(),
    };
    account.lock().remember(logged);
    let id = response.headers().get("x-hubspot-correlation-id").cloned();
    if id.is_none()
        && let Ok(id) = HeaderValue::from_str(&Uuid::new_v4().to_string())
    {
        response.headers_mut().insert("x-hubspot-correlation-id", id);
    }
    response
}

fn respond(
    account: &Mutex<Account>,
    method: &str,
    path: &str,
    query: &str,
    headers: &HeaderMap,
    bytes: &Bytes,
) -> Response {
    let mut account = account.lock();
    if path.starts_with("/oauth/") {
        return finish(account.oauth(method, path, bytes), None, None);
    }
    let Some((object, rest, modern)) = route(path) else {
        return (StatusCode::NOT_FOUND, Html("<html><body>Not found</body></html>"))
            .into_response();
    };
    let search = rest == ["search"];
    let token = match account.authenticate(headers) {
        Ok(token) => token,
        Err(failure) => return finish(Err(failure), None, None),
    };
    let limits = account.limits;
    let now = account.clock.now();
    if let Err(reached) = account.counted.count(&limits, search, now) {
        let failure = Failure::rate_limited(reached.policy);
        let wait = limits.retry_after.then_some(reached.wait);
        return finish(Err(failure), (!search).then_some(&account), wait);
    }
    let mut pairs: HashMap<String, String> = HashMap::new();
    for (key, value) in form_urlencoded::parse(query.as_bytes()) {
        // A repeated parameter is the same as a list joined by commas.
        pairs
            .entry(key.into_owned())
            .and_modify(|old| {
                old.push(',');
                old.push_str(&value);
            })
            .or_insert_with(|| value.into_owned());
    }
    let body = match serde_json::from_slice(bytes) {
        Ok(body) => body,
        Err(_) if bytes.is_empty() => Value::Null,
        Err(_) => {
            let text = "Invalid input JSON on line 1, column 2: Unexpected character";
            return finish(Err(Failure::validation(text)), Some(&account), None);
        }
    };
    let asked =
        Asked { method: method.to_owned(), path: rest.join("/"), query: pairs, body, modern };
    let answer = match object {
        "leads" | "0-136" => account.leads(&asked, &token),
        "contacts" | "companies" => account.others(object, &asked),
        other => Err(Failure::validation(format!("Unable to infer object type from: {other}"))),
    };
    finish(answer, (!search).then_some(&account), None)
}

/// Object type, what follows it, and whether the path is of 2026-09.
fn route(path: &str) -> Option<(&str, Vec<&str>, bool)> {
    let segments: Vec<&str> = path.trim_matches('/').split('/').collect();
    match segments.as_slice() {
        ["crm", "v3", "objects", object, rest @ ..] => Some((object, rest.to_vec(), false)),
        ["crm", "objects", "2026-03", object, rest @ ..] => Some((object, rest.to_vec(), false)),
        ["crm", "objects", "2026-09", object, rest @ ..] => Some((object, rest.to_vec(), true)),
        _ => None,
    }
}

fn finish(
    answer: Result<Answer, Failure>,
    limited: Option<&Account>,
    wait: Option<Duration>,
) -> Response {
    let correlation_id = Uuid::new_v4().to_string();
    let (status, body) = match answer {
        Ok(answer) => answer,
        Err(failure) => {
            let mut body = failure.body;
            body["correlationId"] = json!(correlation_id);
            (failure.status, body)
        }
    };
    let mut response = if body.is_null() {
        status.into_response()
    } else {
        (status, axum::Json(body)).into_response()
    };
    let headers = response.headers_mut();
    let mut set = |name: &'static str, value: String| {
        if let Ok(value) = HeaderValue::from_str(&value) {
            headers.insert(name, value);
        }
    };
    set("x-hubspot-correlation-id", correlation_id);
    if let Some(account) = limited {
        let limits = account.limits;
        let (remaining, daily) = account.counted.remaining(&limits);
        set("x-hubspot-ratelimit-max", limits.burst.to_string());
        set("x-hubspot-ratelimit-remaining", remaining.to_string());
        set("x-hubspot-ratelimit-interval-milliseconds", limits.window.as_millis().to_string());
        set("x-hubspot-ratelimit-daily", limits.daily.to_string());
        set("x-hubspot-ratelimit-daily-remaining", daily.to_string());
        set("x-hubspot-ratelimit-secondly", (limits.burst / 10).to_string());
    }
    if let Some(wait) = wait {
        set("retry-after", wait.as_secs().max(1).to_string());
    }
    response
}

// === impl Account ===

impl Account {
    fn authenticate(&self, headers: &HeaderMap) -> Result<AccessToken, Failure> {
        let bearer = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
        let token = bearer.and_then(|value| value.strip_prefix("Bearer ")).unwrap_or_default();
        let token = self.tokens.get(token).ok_or_else(Failure::unauthenticated)?;
        if token.expires.is_some_and(|expires| expires <= Instant::now()) {
            return Err(Failure::expired());
        }
        Ok(token.clone())
    }

    fn leads(&mut self, asked: &Asked, token: &AccessToken) -> Result<Answer, Failure> {
        let reads = matches!(
            (asked.method.as_str(), asked.path.as_str()),
            ("GET", _) | ("POST", "search" | "batch/read")
        );
        let scope = if reads { READ } else { WRITE };
        if !token.scopes.iter().any(|own| own == scope) {
            return Err(Failure::missing_scope(scope, self.behaviour.scopes_in_context));
        }
        match (asked.method.as_str(), asked.path.as_str()) {
            ("GET", "") => Ok(self.list(asked)),
            ("POST", "") => self.create(asked),
            ("POST", "search") => self.search(asked),
            ("POST", path) if path.starts_with("batch/") => self.batch(asked),
            ("GET", id) if !id.contains('/') => self.get(id, asked),
            ("PATCH", id) if !id.contains('/') => self.update(id, asked),
            ("DELETE", id) if !id.contains('/') => {
                let known = id.parse().is_ok_and(|id: u64| self.store.leads.contains_key(&id));
                if self.behaviour.delete_reports_unknown && !known {
                    return Err(Failure::not_found());
                }
                Ok(self.archive(id))
            }
            _ => Err(Failure::validation("no such call")),
        }
    }

    fn get(&self, id: &str, asked: &Asked) -> Result<Answer, Failure> {
        let id_property = self.id_property(asked.query.get("idProperty").map(String::as_str))?;
        let found = self.store.find(id, id_property, asked.archived());
        let lead = found.ok_or_else(Failure::not_found)?;
        Ok((StatusCode::OK, self.show(lead, asked)))
    }

    fn id_property<'a>(&self, name: Option<&'a str>) -> Result<Option<&'a str>, Failure> {
        match name {
            Some(name) if !self.store.is_unique(name) => {
                Err(Failure::validation(format!("{name} is not a property with unique values")))
            }
            name => Ok(name),
        }
    }

    fn list(&self, asked: &Asked) -> Answer {
        let limit: usize =
            asked.query.get("limit").and_then(|limit| limit.parse().ok()).unwrap_or(10);
        let limit =
            limit.clamp(1, if asked.names("propertiesWithHistory").is_empty() { 100 } else { 50 });
        let after: u64 = asked.query.get("after").and_then(|after| after.parse().ok()).unwrap_or(0);
        let view = self.store.leads.range(after + 1..).map(|(_, lead)| lead);
        let mut page: Vec<_> = view
            .filter(|lead| lead.archived.is_some() == asked.archived())
            .take(limit + 1)
            .collect();
        let more = page.len() > limit;
        page.truncate(limit);
        let results: Vec<Value> = page.iter().map(|lead| self.show(lead, asked)).collect();
        let mut body = json!({ "results": results });
        if let (true, Some(last)) = (more, page.last()) {
            body["paging"] = json!({"next": {"after": last.id.to_string(), "link": ""}});
        }
        (StatusCode::OK, body)
    }

    fn create(&mut self, asked: &Asked) -> Result<Answer, Failure> {
        let terms = self.terms(asked.modern);
        let id = self.store.create(&asked.body, &terms)?;
        Ok((StatusCode::CREATED, self.written(id, &asked.body)))
    }

    fn update(&mut self, id: &str, asked: &Asked) -> Result<Answer, Failure> {
        let id_property = self.id_property(asked.query.get("idProperty").map(String::as_str))?;
        let found = self.store.find(id, id_property, false).map(|lead| lead.id);
        let id = found.ok_or_else(Failure::not_found)?;
        let terms = self.terms(asked.modern);
        self.store.update(id, &asked.body["properties"], &terms)?;
        Ok((StatusCode::OK, self.written(id, &asked.body)))
    }

    /// Idempotent, and silent about ids that never were.
    pub(super) fn archive(&mut self, id: &str) -> Answer {
        let now = self.clock.now();
        if let Some(lead) = id.parse().ok().and_then(|id: u64| self.store.leads.get_mut(&id)) {
            lead.archived.get_or_insert(now);
        }
        (StatusCode::NO_CONTENT, Value::Null)
    }

    fn search(&self, asked: &Asked) -> Result<Answer, Failure> {
        let search = Search::parse(&asked.body)?;
        let lag = self.behaviour.index_lag;
        let live = self.store.leads.values().filter(|lead| lead.archived.is_none());
        let mut found: Vec<_> = live
            .filter_map(|lead| Some((lead, lead.in_index(lag)?)))
            .filter(|(lead, indexed)| search.matches(indexed, &lead.contacts()))
            .collect();
        found.sort_by(|(_, a), (_, b)| search.order(a, b));
        let total = found.len();
        let names: Vec<String> = strings(&asked.body["properties"]);
        let results: Vec<Value> = found
            .iter()
            .skip(search.after)
            .take(search.limit)
            .map(|(lead, _)| lead.show(&self.store.properties, &names, &[], &[]))
            .collect();
        let mut body = json!({ "total": total, "results": results });
        let next = search.after + search.limit;
        if next < total {
            body["paging"] = json!({"next": {"after": next.to_string()}});
        }
        Ok((StatusCode::OK, body))
    }

    /// Contacts and companies: as far as leads need them.
    fn others(&mut self, object: &str, asked: &Asked) -> Result<Answer, Failure> {
        let id =
            if asked.method == "POST" { self.store.next_id().to_string() } else { String::new() };
        let records =
            if object == "contacts" { &mut self.store.contacts } else { &mut self.store.companies };
        let show = |id: &str, properties: &Value| {
            json!({"id": id, "properties": properties, "createdAt": "2026-11-01T08:00:00.000Z",
                   "updatedAt": "2026-11-01T08:00:00.000Z", "archived": false})
        };
        match (asked.method.as_str(), asked.path.as_str()) {
            ("GET", "") => {
                let results: Vec<Value> =
                    records.iter().map(|(id, own)| show(id, &json!(own))).collect();
                Ok((StatusCode::OK, json!({ "results": results })))
            }
            ("GET", id) => {
                let own = records.get(id).ok_or_else(Failure::not_found)?;
                Ok((StatusCode::OK, show(id, &json!(own))))
            }
            ("POST", "") => {
                let properties = asked.body["properties"].as_object().cloned().unwrap_or_default();
                let texts = properties.iter().map(|(name, value)| {
                    (name.clone(), value.as_str().unwrap_or_default().to_owned())
                });
                records.insert(id.clone(), texts.collect());
                Ok((StatusCode::CREATED, show(&id, &Value::Object(properties))))
            }
            _ => Err(Failure::validation("no such call")),
        }
    }

    /// What a write answers: the lead with what was written.
    pub(super) fn written(&self, id: u64, input: &Value) -> Value {
        let names: Vec<String> = input["properties"]
            .as_object()
            .into_iter()
            .flatten()
            .map(|(name, _)| name.clone())
            .collect();
        self.store.leads[&id].show(&self.store.properties, &names, &[], &[])
    }

    fn show(&self, lead: &super::store::Lead, asked: &Asked) -> Value {
        lead.show(
            &self.store.properties,
            &asked.names("properties"),
            &asked.names("propertiesWithHistory"),
            &asked.names("associations"),
        )
    }

    /// The token endpoint; the version in the path changes nothing.
    fn oauth(&mut self, method: &str, path: &str, bytes: &Bytes) -> Result<Answer, Failure> {
        if method != "POST" || !path.ends_with("/token") {
            return Err(Failure::not_found());
        }
        let form: HashMap<String, String> = form_urlencoded::parse(bytes).into_owned().collect();
        let field = |name: &str| form.get(name).map(String::as_str).unwrap_or_default();
        let Some(app) = self.apps.iter_mut().find(|app| app.client_id == field("client_id")) else {
            return Err(Failure::oauth("BAD_CLIENT_ID", "invalid_client", "unknown client"));
        };
        if app.client_secret != field("client_secret") {
            return Err(Failure::oauth("BAD_CLIENT_ID", "invalid_client", "wrong client secret"));
        }
        if field("grant_type") != "refresh_token" || app.refresh_token != field("refresh_token") {
            let text = "missing or invalid refresh token";
            return Err(Failure::oauth("BAD_REFRESH_TOKEN", "invalid_grant", text));
        }
        if self.behaviour.rotate_refresh_tokens {
            app.refresh_token = format!("{MARK}-{}", Uuid::new_v4());
        }
        let access = format!("oauth-{MARK}-{}", Uuid::new_v4());
        let mut body = json!({
            "access_token": access, "expires_in": TOKEN_LIFE.as_secs(), "token_type": "bearer",
            "token_use": "access_token", "hub_id": 1, "scopes": [READ, WRITE],
        });
        if !self.behaviour.omit_refresh_token {
            body["refresh_token"] = json!(app.refresh_token);
        }
        let scopes = vec![READ.to_owned(), WRITE.to_owned()];
        let expires = Some(Instant::now() + TOKEN_LIFE);
        self.tokens.insert(access, AccessToken { scopes, expires });
        self.grants += 1;
        Ok((StatusCode::OK, body))
    }
}

// === impl Asked ===

impl Asked {
    pub(super) fn archived(&self) -> bool {
        self.query.get("archived").is_some_and(|value| value.eq_ignore_ascii_case("true"))
    }

    fn names(&self, key: &str) -> Vec<String> {
        let joined = self.query.get(key).map(String::as_str).unwrap_or_default();
        joined.split(',').filter(|name| !name.is_empty()).map(str::to_owned).collect()
    }
}

pub(super) fn strings(value: &Value) -> Vec<String> {
    let list = value.as_array().into_iter().flatten();
    list.filter_map(|value| value.as_str().map(str::to_owned)).collect()
}

fn decode(path: &str) -> String {
    percent_encoding::percent_decode_str(path).decode_utf8_lossy().into_owned()
}
