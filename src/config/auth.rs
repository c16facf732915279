//! Checks `[vault.auth]`: each method has keys of its own.

use std::path::PathBuf;

use super::{VaultAuth, check::Checker, raw};
use leadsd_credentials::SecretPath;

/// Where Kubernetes puts the token of a pod's service account.
const SERVICE_ACCOUNT_TOKEN: &str = "/var/run/secrets/kubernetes.io/serviceaccount/token";

/// A method and its keys beside `method`.
struct Method {
    name: &'static str,
    required: &'static [&'static str],
    optional: &'static [&'static str],
}

const METHODS: [Method; 7] = [
    Method { name: "kubernetes", required: &["role"], optional: &["mount", "jwt_file"] },
    Method {
        name: "approle",
        required: &["role_id_file"],
        optional: &["mount", "secret_id_file", "secret_id_wrapped"],
    },
    Method { name: "jwt", required: &["jwt_file"], optional: &["mount", "role"] },
    Method { name: "token", required: &["file"], optional: &[] },
    Method { name: "token_file", required: &["file"], optional: &[] },
    Method { name: "userpass", required: &["username", "password_file"], optional: &["mount"] },
    Method { name: "cert", required: &[], optional: &["mount", "role"] },
];

// === impl Checker ===

impl Checker<'_> {
    /// `has_certificate` says whether `[vault]` has a client certificate.
    pub(super) fn auth(&mut self, raw: raw::VaultAuth, has_certificate: bool) -> Option<VaultAuth> {
        let names = METHODS.each_ref().map(|method| method.name).join(", ");
        let Some(name) = raw.method.clone() else {
            self.fault("vault.auth.method", format!("is required: {names}"));
            return None;
        };
        let Some(method) = METHODS.iter().find(|method| method.name == name) else {
            self.fault("vault.auth.method", format!("must be one of: {names}"));
            return None;
        };
        let complete = self.keys(&raw, method);
        for (key, text) in [("role", &raw.role), ("username", &raw.username)] {
            // They become part of a path or a JSON text.
            let fits = |text: &String| {
                !text.is_empty()
                    && !text.chars().any(|c| c.is_control() || matches!(c, '/' | '?' | '#' | '%'))
            };
            if !text.as_ref().is_none_or(fits) {
                let what = "must not be empty or hold control characters or any of `/?#%`";
                self.fault(&format!("vault.auth.{key}"), what);
            }
        }
        if name == "cert" && !has_certificate {
            self.fault("vault.client_cert_file", "is required for method cert");
        }
        let mount = raw.mount.clone().unwrap_or_else(|| name.clone());
        if SecretPath::parse(&mount).is_err() {
            self.fault("vault.auth.mount", "must be a path of letters, digits, `.`, `_`, `-`");
        }
        if complete { built(&name, mount, raw) } else { None }
    }

    /// Whether all required keys are there; those of other methods are faults.
    fn keys(&mut self, raw: &raw::VaultAuth, method: &Method) -> bool {
        let given = [
            ("file", raw.file.is_some()),
            ("mount", raw.mount.is_some()),
            ("role_id_file", raw.role_id_file.is_some()),
            ("secret_id_file", raw.secret_id_file.is_some()),
            ("secret_id_wrapped", raw.secret_id_wrapped.is_some()),
            ("role", raw.role.is_some()),
            ("jwt_file", raw.jwt_file.is_some()),
            ("username", raw.username.is_some()),
            ("password_file", raw.password_file.is_some()),
        ];
        let mut complete = true;
        for (key, is_given) in given {
            let path = format!("vault.auth.{key}");
            let required = method.required.contains(&key);
            if is_given && !required && !method.optional.contains(&key) {
                self.fault(&path, format!("does not go with method {}", method.name));
            }
            if required && !is_given {
                self.fault(&path, format!("is required for method {}", method.name));
                complete = false;
            }
        }
        complete
    }
}

/// The method from its keys, which were found complete.
fn built(method: &str, mount: String, raw: raw::VaultAuth) -> Option<VaultAuth> {
    let raw::VaultAuth {
        method: _,
        file,
        mount: _,
        role_id_file,
        secret_id_file,
        secret_id_wrapped,
        role,
        jwt_file,
        username,
        password_file,
    } = raw;
    Some(match method {
        "kubernetes" => {
            let jwt_file = jwt_file.unwrap_or_else(|| PathBuf::from(SERVICE_ACCOUNT_TOKEN));
            VaultAuth::Kubernetes { mount, role: role?, jwt_file }
        }
        "approle" => VaultAuth::AppRole {
            mount,
            role_id_file: role_id_file?,
            secret_id_file,
            secret_id_wrapped: secret_id_wrapped.unwrap_or(false),
        },
        "jwt" => VaultAuth::Jwt { mount, role, jwt_file: jwt_file? },
        "token" => VaultAuth::Token { file: file? },
        "token_file" => VaultAuth::TokenFile { file: file? },
        "userpass" => {
            VaultAuth::UserPass { mount, username: username?, password_file: password_file? }
        }
        "cert" => VaultAuth::Cert { mount, role },
        _ => return None,
    })
}
