//! Renamed and removed keys: each is an error that names the key to use, wherever the old one is set.

use super::{
    super::renamed::{REMOVED_KEYS, RENAMED_KEYS, variable},
    *,
};

/// A renamed key with a name in place of `*`.
fn concrete(key: &str) -> String {
    key.replace('*', "billing")
}

/// What is reported for an old key, without the errors that its value causes at the new key.
fn reported(key: &str, text: &str, environment: &[(&str, &str)]) -> Vec<String> {
    let errors = load(text, environment).unwrap_err().0;
    let of_key =
        errors.into_iter().filter(|error| error.key == key || error.what.contains("not a key"));
    of_key.map(|error| error.what).collect()
}

#[test]
fn a_renamed_key_in_a_file_is_an_error_that_names_the_new_key() {
    for (old, new) in RENAMED_KEYS {
        let (old, new) = (concrete(old), concrete(new));
        let text = match old.rsplit_once('.') {
            _ if ["quota.shares", "portals_from"].contains(&&*old) => format!("[{old}]\n"),
            Some((section, key)) => format!("[{section}]\n{key} = 1\n"),
            None => panic!("{old} is no section"),
        };
        let found = reported(&old, &format!("{GOOD}{text}"), &[]);
        assert_eq!(found, [format!("was renamed to {new}")], "{old}");
    }
}

#[test]
fn a_renamed_variable_is_an_error_that_names_the_new_variable() {
    for (old, new) in RENAMED_KEYS {
        // A table has no variable.
        if ["quota.shares", "portals_from"].contains(&old) {
            continue;
        }
        let (old, new) = (concrete(old), concrete(new));
        let name = |key: &str| {
            let path: Vec<String> = key.split('.').map(str::to_owned).collect();
            variable(&path)
        };
        let found = reported(&old, GOOD, &[(&name(&old), "1")]);
        let wanted = format!("was renamed to {new}; set {} instead", name(&new));
        assert_eq!(found, [wanted], "{old}");
    }
}

#[test]
fn a_renamed_key_is_reported_once_and_with_its_origin() {
    let text = "[vault]\naddress = \"https://vault.example:8200\"\n[vault.auth]\n\
                method = \"token_file\"\nfile = \"/t\"\n[portals_from]\nfolder = \"hubspot\"\n\
                [quota]\nmax_waiting = 5\n";
    let found = load(text, &[("LEADSD_QUOTA__SHARES__TRIPLE", "3")]).unwrap_err().0;
    let lines: Vec<String> = found.iter().map(ToString::to_string).collect();
    let origin = |line: &str| line.split_once(" (from ").map(|(_, origin)| origin.to_owned());
    let [portals, queue, weight] = &lines[..] else { panic!("{lines:#?}") };
    assert!(
        portals.starts_with("portals_from.folder: was renamed to portal_discovery.path (from /")
    );
    assert!(queue.starts_with("quota.max_waiting: was renamed to quota.max_queue (from /"));
    assert!(weight.starts_with(
        "quota.shares.triple: was renamed to quota.weights.triple; set LEADSD_QUOTA__WEIGHTS__TRIPLE instead"
    ));
    let variable = "environment variable LEADSD_QUOTA__SHARES__TRIPLE)";
    assert_eq!(origin(weight).as_deref(), Some(variable));
}

#[test]
fn a_removed_key_is_an_error_that_says_what_to_do_instead() {
    for (key, instead) in REMOVED_KEYS {
        let (section, name) = key.rsplit_once('.').unwrap();
        let wanted = [format!("was removed; {instead}")];
        let text = format!("{GOOD}[{section}]\n{name} = \"60s\"\n");
        assert_eq!(reported(key, &text, &[]), wanted, "{key}");
        let path: Vec<String> = key.split('.').map(str::to_owned).collect();
        assert_eq!(reported(key, GOOD, &[(&variable(&path), "60s")]), wanted, "{key}");
    }
}
