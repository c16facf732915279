//! Recognizes paths of secrets that are copied from Vault's API, where mount and `data` are part of the path.

use super::Remediation;
use leadsd_credentials::SecretPath;

/// Builds the remediation of a key whose path is that of Vault's API, such as `secret/data/hubspot/default`,
/// where there is no secret; `None` if the path is not such a path. `value` converts the path below the mount
/// to the value of the key.
pub(in crate::cli) fn api_path(
    key: &str,
    path: &SecretPath,
    mount: &str,
    value: impl Fn(&str) -> String,
) -> Option<Remediation> {
    let text = path.as_str();
    let below = text.strip_prefix("v1/").unwrap_or(text);
    let below = below.strip_prefix(mount).and_then(|rest| rest.strip_prefix('/')).unwrap_or(below);
    let plain = ["data/", "metadata/"].into_iter().find_map(|part| below.strip_prefix(part));
    let plain = plain.unwrap_or(below);
    (plain != text).then(|| {
        Remediation::new(
            format!(
                "{text} is a path of Vault's API: leadsd adds the mount {mount} and data/ itself, and \
                 finds nothing at {mount}/data/{text}"
            ),
            format!("set {key} to \"{}\"", value(plain)),
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_of_the_api_is_reduced_to_the_part_below_the_mount() {
        for (path, mount, expected) in [
            ("hubspot/default", "secret", None),
            ("hubspot/data/default", "secret", None),
            ("secretive/data/x", "secret", None),
            ("secret/data/hubspot/default", "secret", Some("hubspot/default")),
            ("secret/metadata/hubspot/default", "secret", Some("hubspot/default")),
            ("v1/secret/data/hubspot/default", "secret", Some("hubspot/default")),
            ("v1/secret/metadata/x", "secret", Some("x")),
            ("secret/hubspot/default", "secret", Some("hubspot/default")),
            ("data/hubspot/default", "secret", Some("hubspot/default")),
            ("metadata/hubspot/default", "secret", Some("hubspot/default")),
            ("team/kv/data/x", "team/kv", Some("x")),
        ] {
            let key = "portals.default.secret";
            let path = SecretPath::parse(path).unwrap();
            let found = api_path(key, &path, mount, str::to_owned);
            let expected = expected.map(|plain| {
                let cause = format!(
                    "{path} is a path of Vault's API: leadsd adds the mount {mount} and data/ itself, \
                     and finds nothing at {mount}/data/{path}"
                );
                Remediation::new(cause, format!("set portals.default.secret to \"{plain}\""))
            });
            assert_eq!(found, expected, "{path}");
        }
    }
}
