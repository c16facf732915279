//! OAuth consent page: a user grants or denies the access of an app, and the browser returns to the
//! app with an authorization code for one exchange.

use leadsd_base::secret::SECRET_MARKER;
use std::{collections::HashMap, fmt::Write as _, time::Duration};

use axum::{
    http::{HeaderValue, StatusCode, header},
    response::{Html, IntoResponse as _, Response},
};
use serde::{Deserialize, Serialize};
use tokio::time::Instant;
use url::{Url, form_urlencoded};
use uuid::Uuid;

use super::{FakeAccount, errors::Failure};

/// Behaviour of the consent page.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Consent {
    /// The page waits for a click.
    Waits,
    /// The page clicks the grant button as soon as a browser shows it.
    Grants,
    /// The page clicks the deny button.
    Denies,
}

/// Authorization code that the consent page issued.
#[derive(Debug)]
pub(super) struct AuthorizationCode {
    code: String,
    redirect: String,
    scopes: Vec<String>,
    hub: u64,
    expires: Instant,
}

// === impl FakeAccount ===

impl FakeAccount {
    /// Serves the page and handles a click on it.
    pub(super) fn consent(&mut self, method: &str, query: &str, form: &[u8]) -> Response {
        let fields = if method == "POST" { form } else { query.as_bytes() };
        let request: HashMap<String, String> =
            form_urlencoded::parse(fields).into_owned().collect();
        let field = |name: &str| request.get(name).map(String::as_str).unwrap_or_default();
        let Some(app) = self.apps.iter().position(|app| app.client_id == field("client_id")) else {
            return refusal("An invalid client_id was given. Contact the app's developer.");
        };
        let redirect = field("redirect_uri");
        if !self.apps[app].redirects.iter().any(|known| known == redirect) {
            return refusal(
                "Authorization failed because the redirect URL does not match the app's \
                 registered redirect URL",
            );
        }
        let Ok(mut back) = Url::parse(redirect) else {
            return refusal("The redirect URL is invalid");
        };
        let scopes: Vec<String> = field("scope")
            .split(' ')
            .filter(|scope| !scope.is_empty())
            .map(str::to_owned)
            .collect();
        if scopes.is_empty() {
            return refusal("The app asks for no scopes");
        }
        let code = match (method, field("decision")) {
            ("POST", "connect") => Ok(self.issue_code(app, redirect, scopes)),
            ("POST", _) => Err("access_denied"),
            _ => return page(&request, &scopes, self.behaviour.consent),
        };
        {
            let mut pairs = back.query_pairs_mut();
            match &code {
                Ok(code) => pairs.append_pair("code", code),
                Err(error) => pairs
                    .append_pair("error", error)
                    .append_pair("error_description", "The user denied access"),
            };
            if let Some(state) = request.get("state") {
                pairs.append_pair("state", state);
            }
        }
        match HeaderValue::from_str(back.as_str()) {
            Ok(place) => (StatusCode::SEE_OTHER, [(header::LOCATION, place)]).into_response(),
            Err(_) => refusal("The redirect URL is invalid"),
        }
    }

    fn issue_code(&mut self, app: usize, redirect: &str, mut scopes: Vec<String>) -> String {
        scopes.retain(|scope| !self.behaviour.withheld_scopes.contains(scope));
        let code = format!("code-{SECRET_MARKER}-{}", Uuid::new_v4());
        self.apps[app].codes.push(AuthorizationCode {
            code: code.clone(),
            redirect: redirect.to_owned(),
            scopes,
            hub: self.hub,
            expires: Instant::now() + self.behaviour.code_lifetime,
        });
        code
    }

    /// Exchanges an authorization code, once, and installs the app.
    pub(super) fn install(
        &mut self,
        app: usize,
        code: &str,
        redirect: &str,
    ) -> Result<(), Failure> {
        let refused = |status, text| Failure::oauth(status, "invalid_grant", text);
        let app = &mut self.apps[app];
        let known = app.codes.iter().position(|known| known.code == code);
        let known =
            known.ok_or_else(|| refused("BAD_AUTH_CODE", "missing or unknown auth code"))?;
        if app.codes[known].redirect != redirect {
            return Err(refused("BAD_REDIRECT_URI", "missing or invalid redirect_uri"));
        }
        let known = app.codes.remove(known);
        if known.expires <= Instant::now() {
            return Err(refused("BAD_AUTH_CODE", "expired auth code"));
        }
        app.refresh_token = format!("{SECRET_MARKER}-{}", Uuid::new_v4());
        app.scopes = known.scopes;
        app.hub = known.hub;
        Ok(())
    }
}

/// Default lifetime of an authorization code.
pub(super) const CODE_LIFETIME: Duration = Duration::from_secs(60);

fn refusal(text: &str) -> Response {
    let body = format!("<!doctype html><title>HubSpot</title><h1>{text}</h1>");
    (StatusCode::BAD_REQUEST, Html(body)).into_response()
}

fn page(request: &HashMap<String, String>, scopes: &[String], consent: Consent) -> Response {
    let mut hidden = String::new();
    for (name, value) in request {
        let (name, value) = (escaped(name), escaped(value));
        // Writing to a `String` cannot fail.
        let _ = write!(hidden, "<input type=hidden name=\"{name}\" value=\"{value}\">");
    }
    let items: String = scopes.iter().map(|scope| format!("<li>{}</li>", escaped(scope))).collect();
    let click = match consent {
        Consent::Waits => "",
        Consent::Grants => "<script>document.getElementById('connect').click()</script>",
        Consent::Denies => "<script>document.getElementById('cancel').click()</script>",
    };
    let body = format!(
        "<!doctype html><meta charset=utf-8><title>Connect the app</title>\
         <h1>Connect the app to this account?</h1><p>It asks for:</p><ul>{items}</ul>\
         <form method=post action=\"/oauth/authorize\">{hidden}\
         <button id=connect name=decision value=connect>Connect app</button>\
         <button id=cancel name=decision value=cancel>Cancel</button></form>{click}"
    );
    Html(body).into_response()
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
