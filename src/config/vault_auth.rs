//! `[vault.auth]`: auth method of the Vault login. Each method has its own keys.

use std::path::PathBuf;

use super::{check::Checker, raw};
use leadsd_credentials::SecretPath;

/// Path of a pod's service account token in Kubernetes.
pub(super) const SERVICE_ACCOUNT_TOKEN: &str =
    "/var/run/secrets/kubernetes.io/serviceaccount/token";

/// `[vault.auth]`: auth method.
#[derive(Debug, Clone)]
pub enum VaultAuth {
    /// `method = "kubernetes"`: service account of the pod.
    Kubernetes {
        /// Mount of the auth method. Default `kubernetes`.
        mount: String,
        /// Name of the role.
        role: String,
        /// File with the service account's token; read at each login. Default: its path in a pod.
        jwt_file: PathBuf,
    },
    /// `method = "jwt"`: JWT of any issuer that the role accepts.
    Jwt {
        /// Mount of the auth method. Default `jwt`.
        mount: String,
        /// Name of the role; `None` for the default role of the mount.
        role: Option<String>,
        /// File with the JWT; read at each login.
        jwt_file: PathBuf,
    },
    /// `method = "userpass"`.
    UserPass {
        /// Mount of the auth method. Default `userpass`.
        mount: String,
        /// Name of the user.
        username: String,
        /// File with the password; read at each login.
        password_file: PathBuf,
    },
    /// `method = "cert"`: client certificate of `[vault]`.
    Cert {
        /// Mount of the auth method. Default `cert`.
        mount: String,
        /// Name of the certificate role; `None` lets Vault choose a matching role.
        role: Option<String>,
    },
    /// `method = "approle"`.
    AppRole {
        /// Mount of the auth method. Default `approle`.
        mount: String,
        /// File with the role id.
        role_id_file: PathBuf,
        /// File with the secret id; read at each login. `None` for roles without secret ids.
        secret_id_file: Option<PathBuf>,
        /// True if the file contains a wrapping token of the secret id. Default false.
        secret_id_wrapped: bool,
    },
    /// `method = "token"`: token that leadsd renews.
    Token {
        /// File with the token; a regular file is reloaded when it changes. `/dev/stdin` is allowed.
        file: PathBuf,
    },
    /// `method = "token_file"`: token that another process renews, such as Vault Agent.
    TokenFile {
        /// File with the token; reloaded when it changes.
        file: PathBuf,
    },
}

/// Keys of a method.
struct MethodKeys {
    name: &'static str,
    required: &'static [&'static str],
    optional: &'static [&'static str],
}

const METHODS: [MethodKeys; 7] = [
    MethodKeys { name: "kubernetes", required: &["role"], optional: &["mount", "jwt_file"] },
    MethodKeys {
        name: "approle",
        required: &["role_id_file"],
        optional: &["mount", "secret_id_file", "secret_id_wrapped"],
    },
    MethodKeys { name: "jwt", required: &["jwt_file"], optional: &["mount", "role"] },
    MethodKeys { name: "token", required: &["file"], optional: &[] },
    MethodKeys { name: "token_file", required: &["file"], optional: &[] },
    MethodKeys { name: "userpass", required: &["username", "password_file"], optional: &["mount"] },
    MethodKeys { name: "cert", required: &[], optional: &["mount", "role"] },
];

// === impl VaultAuth ===

impl VaultAuth {
    /// Name of the method in the configuration.
    pub fn method(&self) -> &'static str {
        match self {
            Self::Kubernetes { .. } => "kubernetes",
            Self::Jwt { .. } => "jwt",
            Self::UserPass { .. } => "userpass",
            Self::Cert { .. } => "cert",
            Self::AppRole { .. } => "approle",
            Self::Token { .. } => "token",
            Self::TokenFile { .. } => "token_file",
        }
    }
}

// === impl Checker ===

impl Checker<'_> {
    /// Converts `[vault.auth]`. `has_certificate` is true if `[vault]` has a client certificate.
    pub(super) fn auth(&mut self, raw: raw::VaultAuth, has_certificate: bool) -> Option<VaultAuth> {
        let names = METHODS.each_ref().map(|method| method.name).join(", ");
        let Some(name) = raw.method.clone() else {
            self.add_error("vault.auth.method", format!("is required: {names}"));
            return None;
        };
        let Some(method) = METHODS.iter().find(|method| method.name == name) else {
            self.add_error("vault.auth.method", format!("must be one of: {names}"));
            return None;
        };
        let complete = self.check_keys(&raw, method);
        for (key, text) in [("role", &raw.role), ("username", &raw.username)] {
            // The values become part of a path or a JSON string.
            let fits = |text: &String| {
                !text.is_empty()
                    && !text.chars().any(|c| c.is_control() || matches!(c, '/' | '?' | '#' | '%'))
            };
            if !text.as_ref().is_none_or(fits) {
                let what = "must not be empty or contain control characters or any of `/?#%`";
                self.add_error(&format!("vault.auth.{key}"), what);
            }
        }
        if name == "cert" && !has_certificate {
            self.add_error("vault.client_cert_file", "is required for method cert");
        }
        let mount = raw.mount.clone().unwrap_or_else(|| name.clone());
        if let Err(what) = SecretPath::parse(&mount) {
            self.add_error("vault.auth.mount", what);
        } else if mount.starts_with("auth/") {
            self.add_error("vault.auth.mount", "must not begin with auth/, which leadsd adds");
        }
        if complete { build(&name, mount, raw) } else { None }
    }

    /// Checks the keys of a method; returns true if all required keys are set. Keys of other methods are
    /// errors.
    fn check_keys(&mut self, raw: &raw::VaultAuth, method: &MethodKeys) -> bool {
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
                self.add_error(&path, format!("is not a key of method {}", method.name));
            }
            if required && !is_given {
                self.add_error(&path, format!("is required for method {}", method.name));
                complete = false;
            }
        }
        complete
    }
}

/// Builds the auth method from its keys; all required keys are set.
fn build(method: &str, mount: String, raw: raw::VaultAuth) -> Option<VaultAuth> {
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
