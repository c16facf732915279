//! Remedies for rejections by the token endpoint.

/// Remedy for a code of the token endpoint.
pub(super) fn fix(code: &str) -> &'static str {
    match code {
        "BAD_CLIENT_ID" | "BAD_CLIENT_SECRET" | "invalid_client" => {
            "copy client id and current client secret from the app's Auth page, and store them: \
             leadsd login --new-app"
        }
        "unauthorized_client" => {
            "the app may not use refresh tokens: choose OAuth as its auth type, or store the id and the \
             secret of another app: leadsd login --new-app"
        }
        "BAD_GRANT_TYPE" | "unsupported_grant_type" => {
            "the endpoint does not support this grant type: correct hubspot.base_url and \
             hubspot.api_version"
        }
        "invalid_scope" => {
            "compare the scopes of the app with those that leadsd needs, then run leadsd login for this \
             portal: it consents to the current scopes"
        }
        "invalid_request" => {
            "the stored client id, client secret or refresh token may be incomplete: run leadsd login \
             --new-app for this portal"
        }
        "BAD_REDIRECT_URI" => {
            "register exactly this redirect URL with the app, or use a registered one"
        }
        "BAD_AUTH_CODE" | "EXPIRED_AUTH_CODE" => {
            "run leadsd login again: a code is valid once, for a short time, and for one app"
        }
        "BAD_HUB" | "access_denied" => {
            "install the app in the account again: leadsd login; the account may not allow it"
        }
        "BAD_REFRESH_TOKEN" | "invalid_grant" | "invalid_token" => {
            "the app was uninstalled, or the refresh token revoked or replaced: run leadsd login for \
             this portal"
        }
        _ => {
            "check client id, client secret, redirect URL and scopes on the app's Auth page, and that \
             the app is installed; then run leadsd login for this portal"
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_class_of_codes_has_its_remedy() {
        for (codes, remedy) in [
            (
                &["BAD_CLIENT_ID", "BAD_CLIENT_SECRET", "invalid_client"][..],
                "current client secret",
            ),
            (&["unauthorized_client"], "OAuth as its auth type"),
            (&["BAD_GRANT_TYPE", "unsupported_grant_type"], "hubspot.base_url"),
            (&["invalid_scope"], "scopes of the app"),
            (&["invalid_request"], "may be incomplete"),
            (&["BAD_REDIRECT_URI"], "redirect URL"),
            (&["BAD_AUTH_CODE", "EXPIRED_AUTH_CODE"], "valid once"),
            (&["BAD_HUB", "access_denied"], "install the app"),
            (&["BAD_REFRESH_TOKEN", "invalid_grant", "invalid_token"], "revoked or replaced"),
            (&["APP_REMOVED", "consent_required", "unknown", ""], "redirect URL and scopes"),
        ] {
            for code in codes {
                assert!(fix(code).contains(remedy), "{code}: {}", fix(code));
            }
        }
    }
}
