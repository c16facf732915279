//! What the command line asks of HubSpot: single calls, nothing retried, nothing waited for. They go
//! out as the service's own calls do, and their errors are read in the same way.

use std::fmt;

use http::{HeaderMap, StatusCode, header};
use reqwest::RequestBuilder;
use serde_json::{Value, json};
use tokio::time::{Instant, timeout_at};
use url::Url;

use super::{
    answer::{self, Body, Unauthorized},
    endpoints::{self, Operation},
    http_client,
    limits::RateLimits,
};
use crate::{
    config::{self, ApiVersion},
    leads,
};
use leadsd_base::{
    net::{
        body::{self, BodyError},
        connect_error::{self, ConnectError},
        http::BuildError,
    },
    secret::Secret,
    time::{Timestamp, http_date},
};

/// Largest answer that is read: the properties of leads are some hundred.
const MAX_BYTES: usize = 16 << 20;

/// HubSpot as people at the command line ask it.
#[derive(Clone)]
pub struct Inquiry {
    http: reqwest::Client,
    base: Url,
    version: ApiVersion,
}

/// An app and the proof that we are it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct App {
    /// Its public name.
    pub client_id: String,
    /// The proof.
    pub client_secret: Secret,
}

/// What a code or a refresh token was traded for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Traded {
    /// A new access token.
    pub access_token: Secret,
    /// The refresh token that came with it, if one did.
    pub refresh_token: Option<Secret>,
    /// The account, if the answer names it.
    pub hub_id: Option<u64>,
    /// What is granted, if the answer says.
    pub scopes: Option<Vec<String>>,
}

/// What is known of a token.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TokenFacts {
    /// False if HubSpot knows no such token, or no longer.
    pub active: bool,
    /// The account it is of.
    pub hub_id: Option<u64>,
    /// A name for that account.
    pub hub_domain: Option<String>,
    /// What it may do.
    pub scopes: Option<Vec<String>>,
}

/// What an account says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct AccountFacts {
    /// Its id.
    pub hub_id: Option<u64>,
    /// Such as `STANDARD` or `SANDBOX`.
    pub kind: Option<String>,
    /// IANA name of its time zone.
    pub time_zone: Option<String>,
    /// Where people see it, such as `app-eu1.hubspot.com`.
    pub ui_domain: Option<String>,
}

/// A property of leads, as far as it matters for request ids.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PropertyFacts {
    /// Such as `string`.
    pub kind: String,
    /// How forms show it, such as `text`.
    pub field: String,
    /// Whether no two leads may have the same value.
    pub unique: bool,
}

/// An answer of HubSpot, whatever it was.
#[derive(Debug, Clone)]
pub struct Answered {
    /// Its JSON, null if it was empty.
    pub body: Value,
    /// What its headers say about limits.
    pub limits: RateLimits,
}

/// The first word with HubSpot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Greeting {
    /// Status of the answer.
    pub status: u16,
    /// Whether the answer is made as HubSpot's API makes them.
    pub genuine: bool,
    /// HubSpot's clock, if the answer tells.
    pub clock: Option<Timestamp>,
}

/// Why an inquiry has no result.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// No answer came.
    #[error("HubSpot {0}")]
    Connect(ConnectError),
    /// 401 because the token has expired.
    #[error("the access token has expired")]
    Expired,
    /// 401 for another reason.
    #[error("HubSpot does not know the access token")]
    Unauthorized,
    /// An OAuth refusal: code and status, of those that are known.
    #[error("HubSpot refuses the credential: {0}")]
    Refused(&'static str),
    /// Any other failure, as the service would report it.
    #[error("{0}")]
    Failed(leads::Error),
    /// A success that cannot be understood.
    #[error("HubSpot's answer cannot be understood")]
    Nonsense,
}

/// The codes of the token endpoint that are told apart: HubSpot's own first, for they say more.
const REFUSALS: [&str; 10] = [
    "BAD_AUTH_CODE",
    "BAD_REDIRECT_URI",
    "BAD_CLIENT_ID",
    "BAD_CLIENT_SECRET",
    "BAD_REFRESH_TOKEN",
    "BAD_HUB",
    "invalid_client",
    "invalid_grant",
    "access_denied",
    "unauthorized_client",
];

// === impl Inquiry ===

impl Inquiry {
    /// For the API that the configuration names.
    pub fn new(config: &config::Hubspot) -> Result<Self, BuildError> {
        Ok(Self {
            http: http_client::build(config)?,
            base: config.base_url.clone(),
            version: config.api_version,
        })
    }

    /// Asks without a token: shows who answers, and what time it is there.
    pub async fn greet(&self, until: Instant) -> Result<Greeting, ConnectError> {
        let url = endpoints::url(&self.base, &endpoints::collection(self.version));
        let request = self.http.get(url).query(&[("limit", "1")]).send();
        let answer = timeout_at(until, request).await.map_err(|_| ConnectError::Timeout)?;
        let answer = answer.map_err(|error| connect_error::cause(&error))?;
        let (status, headers) = (answer.status(), answer.headers().clone());
        let date = headers.get(header::DATE).and_then(|date| date.to_str().ok());
        let body = timeout_at(until, body::read(answer, MAX_BYTES)).await;
        let body = body.ok().and_then(Result::ok).unwrap_or_default();
        let object = serde_json::from_slice::<Value>(&body).is_ok_and(|body| body.is_object());
        Ok(Greeting {
            status: status.as_u16(),
            genuine: status == StatusCode::UNAUTHORIZED && object,
            clock: date.and_then(http_date),
        })
    }

    /// Trades the code of the consent page. `redirect` is the URL that the page was given.
    pub async fn trade_code(
        &self,
        app: &App,
        code: &Secret,
        redirect: &str,
        until: Instant,
    ) -> Result<Traded, Fault> {
        let form = [
            ("grant_type", "authorization_code"),
            ("client_id", &app.client_id),
            ("client_secret", app.client_secret.expose()),
            ("redirect_uri", redirect),
            ("code", code.expose()),
        ];
        self.trade(&form, until).await
    }

    /// Trades a refresh token, as the service does.
    pub async fn trade_refresh_token(
        &self,
        app: &App,
        refresh_token: &Secret,
        until: Instant,
    ) -> Result<Traded, Fault> {
        let form = [
            ("grant_type", "refresh_token"),
            ("client_id", &app.client_id),
            ("client_secret", app.client_secret.expose()),
            ("refresh_token", refresh_token.expose()),
        ];
        self.trade(&form, until).await
    }

    async fn trade(&self, form: &[(&str, &str)], until: Instant) -> Result<Traded, Fault> {
        let url = endpoints::url(&self.base, &endpoints::token(self.version));
        let body = self.oauth(self.http.post(url).form(form), until).await?;
        let secret = |key: &str| {
            let text = body[key].as_str().filter(|text| !text.is_empty());
            text.map(Secret::new)
        };
        Ok(Traded {
            access_token: secret("access_token").ok_or(Fault::Nonsense)?,
            refresh_token: secret("refresh_token"),
            hub_id: body["hub_id"].as_u64(),
            scopes: texts(&body["scopes"]),
        })
    }

    /// What HubSpot knows of an access or refresh token of an app.
    pub async fn introspect(
        &self,
        app: &App,
        token: &Secret,
        until: Instant,
    ) -> Result<TokenFacts, Fault> {
        let [area, version, token_path] = endpoints::token(self.version);
        let url = endpoints::url(&self.base, &[area, version, token_path, "introspect"]);
        let form = [
            ("client_id", app.client_id.as_str()),
            ("client_secret", app.client_secret.expose()),
            ("token", token.expose()),
        ];
        let body = self.oauth(self.http.post(url).form(&form), until).await?;
        Ok(TokenFacts {
            active: body["active"].as_bool().unwrap_or(true),
            hub_id: body["hub_id"].as_u64(),
            hub_domain: body["hub_domain"].as_str().map(str::to_owned),
            scopes: texts(&body["scopes"]),
        })
    }

    /// What HubSpot knows of a static token. Whether it tells of service keys is not established.
    pub async fn static_token(&self, token: &Secret, until: Instant) -> Result<TokenFacts, Fault> {
        let path = ["oauth", "v2", "private-apps", "get", "access-token-info"];
        let url = endpoints::url(&self.base, &path);
        let body = json!({ "tokenKey": token.expose() });
        let answered = self.ask(self.http.post(url).json(&body), token, until).await?;
        Ok(TokenFacts {
            active: true,
            hub_id: answered.body["hubId"].as_u64(),
            hub_domain: None,
            scopes: texts(&answered.body["scopes"]),
        })
    }

    /// What the account says of itself; any token may ask.
    pub async fn account(&self, token: &Secret, until: Instant) -> Result<AccountFacts, Fault> {
        let answered = self.get(&self.account_path(&["details"]), token, &[], until).await?;
        let text = |key: &str| answered.body[key].as_str().map(str::to_owned);
        Ok(AccountFacts {
            hub_id: answered.body["portalId"].as_u64(),
            kind: text("accountType"),
            time_zone: text("timeZone"),
            ui_domain: text("uiDomain"),
        })
    }

    /// Reads one lead, or finds that there is none: what the read scope and the tier are for.
    pub async fn leads(&self, token: &Secret, until: Instant) -> Result<Answered, Fault> {
        self.get(&endpoints::collection(self.version), token, &[("limit", "1")], until).await
    }

    /// The pipelines of leads with the number of their stages.
    pub async fn pipelines(
        &self,
        token: &Secret,
        until: Instant,
    ) -> Result<Vec<(String, usize)>, Fault> {
        let answered = self.get(&endpoints::pipelines(self.version), token, &[], until).await?;
        let all = answered.body["results"].as_array().ok_or(Fault::Nonsense)?;
        let one = |pipeline: &Value| {
            let stages = pipeline["stages"].as_array().map_or(0, Vec::len);
            Some((pipeline["label"].as_str()?.to_owned(), stages))
        };
        Ok(all.iter().filter_map(one).collect())
    }

    /// How many properties leads have.
    pub async fn properties(&self, token: &Secret, until: Instant) -> Result<usize, Fault> {
        let answered = self.get(&endpoints::properties(self.version), token, &[], until).await?;
        answered.body["results"].as_array().map(Vec::len).ok_or(Fault::Nonsense)
    }

    /// One property of leads; none if there is no such.
    pub async fn property(
        &self,
        token: &Secret,
        name: &str,
        until: Instant,
    ) -> Result<Option<PropertyFacts>, Fault> {
        let path = [&endpoints::properties(self.version)[..], &[name]].concat();
        let body = match self.get(&path, token, &[], until).await {
            Ok(answered) => answered.body,
            Err(Fault::Failed(error)) if error.reason() == leads::Reason::LeadNotFound => {
                return Ok(None);
            }
            Err(fault) => return Err(fault),
        };
        let text = |key: &str| body[key].as_str().unwrap_or_default().to_owned();
        Ok(Some(PropertyFacts {
            kind: text("type"),
            field: text("fieldType"),
            unique: body["hasUniqueValue"].as_bool().unwrap_or(false),
        }))
    }

    fn account_path(&self, rest: &[&'static str]) -> Vec<&'static str> {
        [&["account-info", endpoints::dated(self.version)][..], rest].concat()
    }

    async fn get(
        &self,
        path: &[&str],
        token: &Secret,
        query: &[(&str, &str)],
        until: Instant,
    ) -> Result<Answered, Fault> {
        let request = self.http.get(endpoints::url(&self.base, path)).query(query);
        self.ask(request, token, until).await
    }

    /// A call with a token.
    async fn ask(
        &self,
        request: RequestBuilder,
        token: &Secret,
        until: Instant,
    ) -> Result<Answered, Fault> {
        let (status, headers, bytes) =
            send(request.bearer_auth(token.expose()), until).await.map_err(Fault::Connect)?;
        if status == StatusCode::UNAUTHORIZED {
            return Err(match Body::parse(&bytes).unauthorized() {
                Unauthorized::Expired => Fault::Expired,
                Unauthorized::Refused => Fault::Unauthorized,
            });
        }
        if !status.is_success() {
            return Err(Fault::Failed(answer::error(Operation::Get, status, &headers, &bytes)));
        }
        let body = match serde_json::from_slice(&bytes) {
            Ok(body @ Value::Object(_)) => body,
            Err(_) if bytes.is_empty() => Value::Null,
            Ok(_) | Err(_) => return Err(Fault::Nonsense),
        };
        Ok(Answered { body, limits: RateLimits::of(&headers) })
    }

    /// A call of the OAuth endpoints, whose refusals have codes of their own.
    async fn oauth(&self, request: RequestBuilder, until: Instant) -> Result<Value, Fault> {
        let (status, headers, bytes) = send(request, until).await.map_err(Fault::Connect)?;
        let body: Value = serde_json::from_slice(&bytes).unwrap_or_default();
        if status.is_success() {
            return if body.is_object() { Ok(body) } else { Err(Fault::Nonsense) };
        }
        let said = |code: &&&str| body["status"] == **code || body["error"] == **code;
        match REFUSALS.iter().find(said) {
            Some(code) => Err(Fault::Refused(code)),
            None => Err(Fault::Failed(answer::error(Operation::Get, status, &headers, &bytes))),
        }
    }
}

impl fmt::Debug for Inquiry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inquiry").field("base", &self.base.as_str()).finish_non_exhaustive()
    }
}

async fn send(
    request: RequestBuilder,
    until: Instant,
) -> Result<(StatusCode, HeaderMap, Vec<u8>), ConnectError> {
    let exchange = async {
        let answer = request.send().await.map_err(|error| connect_error::cause(&error))?;
        let (status, headers) = (answer.status(), answer.headers().clone());
        let body = body::read(answer, MAX_BYTES).await.map_err(|error| match error {
            BodyError::TooLarge { .. } => ConnectError::Io("the answer is too large".to_owned()),
            BodyError::Broken(_) => ConnectError::Io("the answer broke off".to_owned()),
        })?;
        Ok((status, headers, body))
    };
    timeout_at(until, exchange).await.unwrap_or(Err(ConnectError::Timeout))
}

/// A list of texts; none if it is no list.
fn texts(value: &Value) -> Option<Vec<String>> {
    let list = value.as_array()?.iter();
    Some(list.filter_map(|text| text.as_str().map(str::to_owned)).collect())
}
