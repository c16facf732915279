//! Checks the levels and targets of a log filter. The filter itself takes any word for a target: a
//! misspelt level would silence everything else.

/// Names of the levels, and the numbers that the filter takes for them.
const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];

/// First segment of the targets of this service.
const OWN_TARGET: &str = "leadsd";

/// Maximum number of single-letter changes between a misspelt name and its suggestion.
const MAX_CHANGES: usize = 2;

/// Maximum length in characters of a quoted part of the filter.
const MAX_QUOTED: usize = 40;

/// Errors if a directive has no known level, or names an impossible or misspelt target. Errors too if no
/// directive applies to this service outside of spans (`[...]`), and if two levels have no target, of which
/// only the last would count: such filters silence the service by mistake.
pub(super) fn check(filter: &str) -> Result<(), String> {
    let mut is_silent = true;
    let mut general: Option<&str> = None;
    for directive in directives(filter) {
        let directive = directive.trim();
        if directive.is_empty() {
            continue;
        }
        // A span has a name and fields, whose values may contain anything.
        let (target, level) = match (directive.split_once('['), directive.rsplit_once(']')) {
            (Some((target, _)), Some((_, level))) => {
                let level = level.trim().strip_prefix('=').ok_or_else(|| {
                    let quoted = quoted(directive);
                    format!("{quoted:?} has no log level; write [...]=LEVEL. {}", levels())
                })?;
                (target, level)
            }
            (None, None) => {
                let (target, level) = directive.rsplit_once('=').unwrap_or(("", directive));
                is_silent &= !(target.is_empty() || is_own(target));
                (target, level)
            }
            (Some(_), None) | (None, Some(_)) => {
                return Err(format!("{:?} has an unpaired bracket", quoted(directive)));
            }
        };
        check_level(level.trim(), directive)?;
        check_target(target.trim())?;
        if !directive.contains(['=', '['])
            && let Some(other) = general.replace(directive)
        {
            return Err(format!(
                "{other:?} and {directive:?} both have no target; keep one of them"
            ));
        }
    }
    if is_silent {
        return Err(format!(
            "no log level for {OWN_TARGET}; write one such as \"info\". {}",
            levels()
        ));
    }
    Ok(())
}

/// Parts of a filter between commas that are not within the brackets of a span.
fn directives(filter: &str) -> impl Iterator<Item = &str> {
    let mut depth = 0_usize;
    filter.split(move |c| {
        match c {
            '[' => depth += 1,
            ']' => depth = depth.saturating_sub(1),
            _ => {}
        }
        c == ',' && depth == 0
    })
}

fn check_level(level: &str, directive: &str) -> Result<(), String> {
    let name = level.to_ascii_lowercase();
    let is_number = matches!(name.as_bytes(), [b'0'..=b'5']);
    if is_number || LEVELS.contains(&name.as_str()) {
        return Ok(());
    }
    let quoted = quoted(level);
    let suggestion = closest(&name, &LEVELS);
    let advice = match suggestion {
        Some(suggestion) => format!("; did you mean {suggestion:?}?"),
        None if level == directive => format!("; to name a target, write {quoted}=LEVEL."),
        None => ".".to_owned(),
    };
    Err(format!("{quoted:?} is not a log level{advice} {}", levels()))
}

fn levels() -> String {
    format!("Levels: {}", LEVELS.join(", "))
}

fn quoted(text: &str) -> String {
    text.chars().take(MAX_QUOTED).collect()
}

/// True for the targets of this service, which are named after its crates.
fn is_own(target: &str) -> bool {
    let first = target.split("::").next().unwrap_or_default().trim();
    first == OWN_TARGET || first.starts_with("leadsd_")
}

/// Rejects a target like `leasd`, and what cannot be a target. Targets of libraries are accepted, because
/// their set is not known.
fn check_target(target: &str) -> Result<(), String> {
    if !target.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_:.-/".contains(&byte)) {
        let quoted = quoted(target);
        return Err(format!("{quoted:?} is not a target; separate directives by commas"));
    }
    let first = target.split("::").next().unwrap_or_default();
    // Targets are compared with case.
    if is_own(target) || closest(&first.to_ascii_lowercase(), &[OWN_TARGET]).is_none() {
        return Ok(());
    }
    Err(format!("the target {first:?} does not exist; did you mean {OWN_TARGET:?}?"))
}

/// The name that differs least from `word`; `None` if all differ much.
pub(crate) fn closest<'a>(word: &str, names: &[&'a str]) -> Option<&'a str> {
    // `warning` and `err` need more changes than the maximum, but are common spellings.
    let begins = |name: &&&str| word.starts_with(**name) || name.starts_with(word);
    if let Some(name) = names.iter().find(|name| word.len() > 2 && begins(name)) {
        return Some(name);
    }
    let distance = |name: &&'a str| (changes(word, name), *name);
    let (changes, name) = names.iter().map(distance).min()?;
    // A suggestion must keep a letter of a short word.
    (changes <= MAX_CHANGES && changes < word.len()).then_some(name)
}

/// Levenshtein distance of two words, by bytes. A filter is ASCII and has bounded words.
fn changes(from: &str, to: &str) -> usize {
    if from.len() > to.len() + MAX_CHANGES {
        return usize::MAX;
    }
    let mut row: Vec<usize> = (0..=to.len()).collect();
    for (index, left) in from.bytes().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], index + 1);
        for (column, right) in to.bytes().enumerate() {
            let replaced = diagonal + usize::from(left != right);
            diagonal = row[column + 1];
            row[column + 1] = replaced.min(diagonal + 1).min(row[column] + 1);
        }
    }
    row[to.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_with_known_levels_are_valid() {
        for filter in [
            "info",
            "INFO",
            "off",
            "3",
            "info,leadsd=debug",
            " warn , leadsd::access=off ",
            "info,h2=debug,hyper_util::client=trace",
            "info,leadsd_credentials::engine=debug",
            "info,leadsd[{portal=eu}]=trace",
            "info,[call{method=\"a,b\",portal=eu}]=trace,h2=warn",
            "info,",
            "leadsd=info",
            "leadsd::access=info,leadsd_credentials=warn,h2=debug",
            "off,leadsd=info",
        ] {
            assert_eq!(check(filter), Ok(()), "{filter}");
        }
    }

    #[test]
    fn a_misspelt_level_is_an_error_with_a_suggestion() {
        const LIST: &str = "Levels: off, error, warn, info, debug, trace";
        for (filter, expected) in [
            ("inf", "\"inf\" is not a log level; did you mean \"info\"? "),
            ("warning", "\"warning\" is not a log level; did you mean \"warn\"? "),
            ("hyper", "\"hyper\" is not a log level; to name a target, write hyper=LEVEL. "),
            ("info,leadsd=debgu", "\"debgu\" is not a log level; did you mean \"debug\"? "),
            ("leadsd=", "\"\" is not a log level. "),
            ("err", "\"err\" is not a log level; did you mean \"error\"? "),
            ("leadsd", "\"leadsd\" is not a log level; to name a target, write leadsd=LEVEL. "),
            ("6", "\"6\" is not a log level; to name a target, write 6=LEVEL. "),
            (
                "inf,leadsd[{portal=eu}]=trace",
                "\"inf\" is not a log level; did you mean \"info\"? ",
            ),
            ("info,[x]=debgu", "\"debgu\" is not a log level; did you mean \"debug\"? "),
            ("inf[x]", "\"inf[x]\" has no log level; write [...]=LEVEL. "),
        ] {
            assert_eq!(check(filter), Err(format!("{expected}{LIST}")), "{filter}");
        }
        let long = check(&"x".repeat(10_000)).unwrap_err();
        assert!(long.len() < 200, "{long}");
    }

    #[test]
    fn a_filter_that_silences_the_service_by_mistake_is_an_error() {
        for filter in [
            "",
            " ",
            ",",
            "leadsd[{portal=eu}]=trace",
            "h2=debug",
            "tonic=info,hyper_util::client=trace",
            "h2=debug,leadsd[{portal=eu}]=trace",
        ] {
            let error = check(filter).unwrap_err();
            let expected = "no log level for leadsd; write one such as \"info\". ";
            assert!(error.starts_with(expected), "{filter}: {error}");
        }
        for (filter, first, second) in [("info,off", "info", "off"), ("0, h2=warn,3", "0", "3")] {
            let expected =
                format!("{first:?} and {second:?} both have no target; keep one of them");
            assert_eq!(check(filter), Err(expected));
        }
        let error = check("info;leadsd=debug").unwrap_err();
        assert_eq!(error, "\"info;leadsd\" is not a target; separate directives by commas");
        for filter in ["info,[x", "info,x]=info"] {
            assert!(check(filter).unwrap_err().ends_with("has an unpaired bracket"), "{filter}");
        }
    }

    #[test]
    fn a_misspelt_target_of_this_service_is_an_error() {
        for (filter, target) in [
            ("info,leasd=debug", "leasd"),
            ("leadds::access=off", "leadds"),
            ("info,LEADSD=debug", "LEADSD"),
            ("Leadsd::access=info", "Leadsd"),
        ] {
            let expected =
                format!("the target {target:?} does not exist; did you mean \"leadsd\"?");
            assert_eq!(check(filter), Err(expected));
        }
    }
}
