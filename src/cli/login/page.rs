//! Final page in the browser, without scripts or external resources.

use axum::{
    http::{HeaderValue, StatusCode, header},
    response::{Html, IntoResponse as _, Response},
};

/// Page at the end of a login.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ResultPage {
    pub(super) kind: PageKind,
    pub(super) title: String,
    pub(super) text: String,
}

/// Outcome that a page shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PageKind {
    Success,
    /// Access was not granted.
    Denied,
    Error,
}

/// Content security policy: no scripts, frames or external resources.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'; \
                      base-uri 'none'; form-action 'none'";

const STYLE: &str = "body{font:16px/1.5 system-ui,sans-serif;color:#213343;background:#f5f8fa;\
                     margin:0;display:grid;min-height:100vh;place-items:center}\
                     main{background:#fff;border-top:6px solid var(--mark);border-radius:6px;\
                     box-shadow:0 1px 6px #0002;max-width:34rem;padding:1.5rem 2rem;margin:1rem}\
                     h1{font-size:1.4rem;margin:0 0 .5rem}p{margin:.5rem 0;overflow-wrap:anywhere}\
                     small{color:#516f90}";

// === impl ResultPage ===

impl ResultPage {
    pub(super) fn new(kind: PageKind, title: impl Into<String>, text: impl Into<String>) -> Self {
        Self { kind, title: title.into(), text: text.into() }
    }

    pub(super) fn respond(&self) -> Response {
        let (status, mark, sign) = match self.kind {
            PageKind::Success => (StatusCode::OK, "#00a38d", "&#10003;"),
            PageKind::Denied => (StatusCode::OK, "#f5c26b", "&#8856;"),
            PageKind::Error => (StatusCode::BAD_REQUEST, "#f2545b", "&#9888;"),
        };
        let (title, text) = (escaped(&self.title), escaped(&self.text));
        let paragraphs: String = text.lines().map(|line| format!("<p>{line}</p>")).collect();
        let body = format!(
            "<!doctype html><html lang=en><meta charset=utf-8>\
             <meta name=viewport content=\"width=device-width\"><title>leadsd login: {title}</title>\
             <style>:root{{--mark:{mark}}}{STYLE}</style>\
             <main><h1>{sign} {title}</h1>{paragraphs}\
             <p><small>This page comes from leadsd on your machine. You can close it.</small></p>\
             </main></html>\n"
        );
        let mut response = (status, Html(body)).into_response();
        let headers = [
            (header::CACHE_CONTROL, "no-store"),
            (header::CONTENT_SECURITY_POLICY, POLICY),
            (header::REFERRER_POLICY, "no-referrer"),
            (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        ];
        for (name, value) in headers {
            response.headers_mut().insert(name, HeaderValue::from_static(value));
        }
        response
    }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
