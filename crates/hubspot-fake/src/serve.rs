//! Request handling: authentication, rate limits, and routes of the three API versions.

use std::{collections::HashMap, sync::Arc};

use axum::{
    body::Bytes,
    extract::{Request, State},
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header},
    response::{Html, IntoResponse as _, Response},
};
use parking_lot::Mutex;
use serde_json::Value;
use tokio::time::{Instant, sleep};
use url::form_urlencoded;
use uuid::Uuid;

use super::{
    AccessToken, FakeAccount, LoggedRequest, ScriptedResponse,
    errors::Failure,
    http::{FakeRequest, FakeResponse, LimitHeaders, RecordId, to_response},
    injection::{self, Operation},
    limits::CountedCall,
    route::{Api, Route},
    rules, schema,
    script::{BodyEnd, broken, cut},
};
use leadsd_base::time::to_http_date;

/// Maximum size of a request body; larger ones are rejected with 413.
const MAX_BODY: usize = 16 * 1024 * 1024;

/// Scope that reads of deals need.
const DEALS: &str = "crm.objects.deals.read";

pub(super) async fn serve(
    State(account): State<Arc<Mutex<FakeAccount>>>,
    request: Request,
) -> Response {
    let (parts, body) = request.into_parts();
    let Ok(bytes) = axum::body::to_bytes(body, MAX_BODY).await else {
        return StatusCode::PAYLOAD_TOO_LARGE.into_response();
    };
    let raw_query = parts.uri.query().unwrap_or_default().to_owned();
    let longest = account.lock().behaviour.longest_url;
    if parts.uri.path().len() + raw_query.len() > longest {
        return (StatusCode::URI_TOO_LONG, Html("<html><body>414</body></html>")).into_response();
    }
    let path = decode(parts.uri.path());
    let method = parts.method.as_str().to_owned();
    let operation = Operation::of_request(&method, &path);
    let (script, hurry, _in_flight, latency, fault) = {
        let mut account = account.lock();
        let script = account.scripted(&method, &path, bearer(&parts.headers));
        let fault = injection::status(&account.faults, operation, rand::random());
        let (hurry, in_flight) = (account.hurry.clone(), Arc::clone(&account.in_flight));
        (script, hurry, in_flight, account.latency, fault)
    };
    if !latency.is_zero() {
        sleep(latency).await;
    }
    let script = match script {
        Some(script) => script.waited(&hurry).await,
        None => None,
    };
    let (script, end) = match script {
        Some(ScriptedResponse::Partial(script, end)) => (Some(*script), Some(end)),
        Some(ScriptedResponse::Truncated) => (None, Some(BodyEnd::Broken)),
        script => (script, None),
    };
    let respond = || respond(&account, &method, &path, &raw_query, &parts.headers, &bytes);
    let mut response = match (script, fault) {
        (Some(script), _) => scripted(&script, respond),
        (None, Some(status)) => injection::respond(status, operation),
        (None, None) => respond(),
    };
    if let Some(end) = end {
        response = cut(response, end).await;
    }
    let logged = LoggedRequest {
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
    let now = to_http_date(account.lock().clock.now());
    if let Ok(now) = HeaderValue::from_str(&now) {
        response.headers_mut().insert(header::DATE, now);
    }
    response
}

pub(super) fn respond(
    account: &Mutex<FakeAccount>,
    method: &str,
    path: &str,
    query: &str,
    headers: &HeaderMap,
    bytes: &Bytes,
) -> Response {
    let mut account = account.lock();
    if path == "/oauth/authorize" {
        return account.consent(method, query, bytes);
    }
    if path.starts_with("/oauth/") {
        return to_response(account.oauth(method, path, bytes), None, None);
    }
    let Some(route) = Route::parse(path) else {
        return (StatusCode::NOT_FOUND, Html("<html><body>Not found</body></html>"))
            .into_response();
    };
    let search = route.area == Api::Objects && route.rest == ["search"];
    let token = match account.authenticate(headers) {
        Ok(token) => token,
        Err(failure) => return to_response(Err(failure), None, None),
    };
    let (limits, now) = (account.limits, account.clock.now());
    let app = token.client_id.as_deref().unwrap_or_else(|| bearer(headers));
    let call = CountedCall { search, oauth: token.oauth, app };
    let counted = account.counted.left(&limits, app, now);
    let headers = LimitHeaders { limits, counted, oauth: token.oauth };
    if let Err(reached) = account.counted.count(&limits, call, now) {
        let failure = if limits.name_policies {
            Failure::rate_limited(reached.policy)
        } else {
            Failure::gateway_limited()
        };
        let wait = limits.retry_after.then_some(reached.wait);
        return to_response(Err(failure), (!search).then_some(headers), wait);
    }
    let headers = LimitHeaders { counted: account.counted.left(&limits, app, now), ..headers };
    let headers = (!search).then_some(headers);
    let body = match serde_json::from_slice(bytes) {
        Ok(body) => body,
        Err(_) if bytes.is_empty() => Value::Null,
        Err(_) => {
            let text = "Invalid input JSON on line 1, column 2: Unexpected character";
            return to_response(Err(Failure::validation(text)), headers, None);
        }
    };
    let request = FakeRequest {
        method: method.to_owned(),
        path: route.rest.join("/"),
        query: pairs(query),
        body,
        modern: route.modern,
    };
    let created = method == "POST" && request.path.is_empty();
    if method != "GET" && !search {
        account.changes.send_modify(|count| *count += 1);
    }
    let mut response = to_response(account.dispatch(&route, &request, &token), headers, None);
    let id = response.extensions_mut().remove::<RecordId>();
    if let (true, Some(RecordId(id))) = (created, id)
        && let Ok(place) = HeaderValue::from_str(&format!("{path}/{id}"))
    {
        response.headers_mut().insert(header::LOCATION, place);
    }
    response
}

/// Returns the scripted response; some scripts also execute the request.
fn scripted(script: &ScriptedResponse, respond: impl FnOnce() -> Response) -> Response {
    match script {
        ScriptedResponse::Reply(status, content_type, body) => {
            let status = StatusCode::from_u16(*status).unwrap_or(StatusCode::IM_A_TEAPOT);
            (status, [(header::CONTENT_TYPE, *content_type)], body.clone()).into_response()
        }
        ScriptedResponse::Exact(status, headers, body) => {
            let status = StatusCode::from_u16(*status).unwrap_or(StatusCode::IM_A_TEAPOT);
            let mut answer = (status, body.clone()).into_response();
            for (name, value) in headers {
                if let (Ok(name), Ok(value)) = (HeaderName::try_from(name), value.parse()) {
                    answer.headers_mut().insert(name, value);
                }
            }
            answer
        }
        ScriptedResponse::ExecutedWithStatus(status) => {
            let _ = respond();
            StatusCode::from_u16(*status).unwrap_or(StatusCode::IM_A_TEAPOT).into_response()
        }
        ScriptedResponse::DropBefore => broken(),
        ScriptedResponse::DropAfter => {
            let _ = respond();
            broken()
        }
        ScriptedResponse::Reject(refusal) => refusal.respond(),
        ScriptedResponse::Truncated
        | ScriptedResponse::Delayed(_)
        | ScriptedResponse::DelayedThen(..)
        | ScriptedResponse::Held(_)
        | ScriptedResponse::HeldThen(..)
        | ScriptedResponse::Partial(..) => respond(),
    }
}

/// Parses a query. A repeated parameter equals a comma-separated list.
fn pairs(query: &str) -> HashMap<String, String> {
    let mut pairs: HashMap<String, String> = HashMap::new();
    for (key, value) in form_urlencoded::parse(query.as_bytes()) {
        pairs
            .entry(key.into_owned())
            .and_modify(|old| {
                old.push(',');
                old.push_str(&value);
            })
            .or_insert_with(|| value.into_owned());
    }
    pairs
}

// === impl FakeAccount ===

impl FakeAccount {
    fn authenticate(&self, headers: &HeaderMap) -> Result<AccessToken, Failure> {
        let token = self.tokens.get(bearer(headers)).ok_or_else(Failure::unauthenticated)?;
        if token.expires.is_some_and(|expires| expires <= Instant::now()) {
            let since = expires_since(token.expires);
            return Err(Failure::expired(since));
        }
        Ok(token.clone())
    }

    fn dispatch(
        &mut self,
        route: &Route<'_>,
        request: &FakeRequest,
        token: &AccessToken,
    ) -> Result<FakeResponse, Failure> {
        let leads = matches!(route.object, "leads" | "0-136");
        let wrong = request.query.get("archived").is_some_and(|value| {
            !value.eq_ignore_ascii_case("true") && !value.eq_ignore_ascii_case("false")
        });
        match (route.area, route.object) {
            // Observed with `archived=1`.
            (Api::Objects, _) if wrong => Err(Failure::not_found(false)),
            (Api::Objects, _) if leads && route.beta && request.path == "merge" => {
                self.merge_leads(request)
            }
            (Api::Objects, _) if leads => self.leads(request, token),
            (Api::Objects, "contacts" | "0-1") if request.path.starts_with("batch/") => {
                self.contacts_batch(request, token)
            }
            (Api::Objects, object @ ("contacts" | "companies")) => self.others(object, request),
            // No token of the fake has the scope for deals.
            (Api::Objects, "deals") => {
                Err(Failure::missing_scope(DEALS, self.behaviour.scopes_on_top))
            }
            (Api::Properties, _) if leads => {
                let scopes_on_top = self.behaviour.scopes_on_top;
                schema::properties(&mut self.store.properties, request, token, scopes_on_top)
            }
            // Documented with the id of the object type only.
            (Api::PropertyValidations, "0-136") => {
                let scopes_on_top = self.behaviour.scopes_on_top;
                let all = self.store.properties.iter();
                let all = all.map(|(name, own)| (name, own.rules.as_slice()));
                rules::list(all, request, token, scopes_on_top)
            }
            (Api::Pipelines, _) if leads => self.pipelines(request, token),
            (Api::Associations, _) if leads => self.associations(request, token),
            (Api::Owners, _) => self.owners(request, token),
            (Api::Account, object) => self.account_info(object, request, token),
            (_, other) => Err(Failure::unknown_object(other)),
        }
    }
}

/// Bearer token of a request; empty if absent.
fn bearer(headers: &HeaderMap) -> &str {
    let bearer = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    bearer.and_then(|value| value.strip_prefix("Bearer ")).unwrap_or_default()
}

fn expires_since(expires: Option<Instant>) -> u64 {
    expires.map_or(0, |expires| expires.elapsed().as_secs())
}

fn decode(path: &str) -> String {
    percent_encoding::percent_decode_str(path).decode_utf8_lossy().into_owned()
}
