//! Remedies for rejections by the token endpoint.

/// Remedy for a code of the token endpoint.
pub(super) fn fix(code: &str) -> &'static str {
    match code {
        "BAD_CLIENT_ID" | "BAD_CLIENT_SECRET" | "invalid_client" | "unauthorized_client" => {
            "copy client id and current client secret from the app's Auth page, and store them: \
             leadsd login --new-app"
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
        "BAD_REFRESH_TOKEN" | "invalid_grant" => {
            "the app was uninstalled, or the refresh token revoked or replaced: run leadsd login for \
             this portal"
        }
        _ => {
            "check client id, client secret, redirect URL and scopes on the app's Auth page, and that \
             the app is installed; then run leadsd login for this portal"
        }
    }
}
