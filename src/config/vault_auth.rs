//! Checks `[vault.auth]`: each method has keys of its own.

use std::path::PathBuf;

use super::{check::Checker, raw};
use leadsd_credentials::SecretPath;

/// Where Kubernetes puts the token of a pod's service account.
const SERVICE_ACCOUNT_TOKEN: &str = "/var/run/secrets/kubernetes.io/serviceaccount/token";

/// `[vault.auth]`: how to log in.
#[derive(Debug, Clone)]
pub enum VaultAuth {
    /// `method = "kubernetes"`: the pod's service account.
    Kubernetes {
        /// Mount of the auth method. Default `kubernetes`.
        mount: String,
        /// Name of the role.
        role: String,
        /// File with the service account's token; read at every login. Default where Kubernetes
        /// puts it.
        jwt_file: PathBuf,
    },
    /// `method = "jwt"`: a JWT from whoever issues them.
    Jwt {
        /// Mount of the auth method. Default `jwt`.
        mount: String,
        /// Name of the role; none for the mount's default role.
        role: Option<String>,
        /// File with the JWT; read at every login.
        jwt_file: PathBuf,
    },
    /// `method = "userpass"`.
    UserPass {
        /// Mount of the auth method. Default `userpass`.
        mount: String,
        /// Name of the user.
        username: String,
        /// File with the password; read at every login.
        password_file: PathBuf,
    },
    /// `method = "cert"`: the client certificate of `[vault]`.
    Cert {
        /// Mount of the auth method. Default `cert`.
        mount: String,
        /// Name of the certificate role; none lets Vault find one that fits.
        role: Option<String>,
    },
    /// `method = "approle"`.
    AppRole {
        /// Mount of the auth method. Default `approle`.
        mount: String,
        /// File with the role id.
        role_id_file: PathBuf,
        /// File with the secret id; read at every login. None for roles that bind no secret id.
        secret_id_file: Option<PathBuf>,
        /// Whether that file holds a wrapping token instead, which is unwrapped once. Default no.
        secret_id_wrapped: bool,
    },
    /// `method = "token"`: a token handed over once, which leadsd keeps alive by itself.
    Token {
        /// File with the token; read once, at start. `/dev/stdin` works.
        file: PathBuf,
    },
    /// `method = "token_file"`: a token that somebody else keeps fresh, such as Vault Agent.
    TokenFile {
        /// File with the token; read again when it changes.
        file: PathBuf,
    },
}

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

// === impl VaultAuth ===

impl VaultAuth {
    /// The method's name.
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
