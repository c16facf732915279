//! Rules about prose: phrases that no text contains, and the first word of doc comments.
//!
//! The phrases are matched across line breaks, ignoring case, in every text of the repository, and in
//! the names of functions. This file is exempt, since it lists them.

use std::path::Path;

/// Files that contain the phrases to list or plant them.
pub(crate) const EXEMPT: &[&str] = &["tests/tidy/language.rs"];

/// Phrases that read like riddles or have a plain equivalent: the name of the person or thing, "absent",
/// "unavailable", "released", "permanently", "separate".
const BANNED: &[&str] = &[
    "all else",
    "all the same",
    "anybody",
    "are none",
    "are told",
    "as it stands",
    "as they stand",
    "at hand",
    "at the most",
    "be told",
    "been told",
    "but for",
    "come to rest",
    "comes to rest",
    "everybody",
    "for ever",
    "for good",
    "gave back",
    "give back",
    "given back",
    "gives back",
    "go away",
    "goes away",
    "gone away",
    "in hand",
    "in vain",
    "is no more",
    "is none",
    "is told",
    "let be",
    "mended",
    "nobody",
    "of his own",
    "of its own",
    "of our own",
    "of their own",
    "so many",
    "somebody",
    "taken for",
    "those who",
    "told apart",
    "told of",
    "turns out",
    "was told",
    "went away",
    "were told",
    "what it takes",
    "whoever",
    "whomever",
];

/// Words before a banned phrase that make it plain English, such as "there is none".
const PLAIN_AFTER: &[(&str, &str)] = &[("there", "is none"), ("there", "are none")];

/// First words that open a relative clause, a condition or half a sentence.
const CLAUSES: &[&str] = &[
    "And", "As", "Because", "But", "Else", "How", "If", "It", "Its", "Nothing", "Or", "So", "That",
    "Then", "They", "Those", "What", "Whatever", "When", "Where", "Whether", "Which", "Who",
    "Whoever", "Why",
];

/// Verbs in the imperative. A doc comment says "Returns", not "Return". Verbs that are nouns as well,
/// such as "Check", are not listed.
const IMPERATIVES: &[&str] = &[
    "Add",
    "Apply",
    "Ask",
    "Bring",
    "Build",
    "Compute",
    "Convert",
    "Create",
    "Decide",
    "Ensure",
    "Fetch",
    "Find",
    "Generate",
    "Get",
    "Give",
    "Initialize",
    "Insert",
    "Keep",
    "Let",
    "Make",
    "Parse",
    "Print",
    "Provide",
    "Put",
    "Receive",
    "Register",
    "Remove",
    "Replace",
    "Resolve",
    "Return",
    "See",
    "Send",
    "Show",
    "Spawn",
    "Take",
    "Tell",
    "Update",
    "Validate",
    "Verify",
    "Wait",
];

/// Banned phrases in one file.
pub(crate) fn banned_phrases(file: &Path, text: &str) -> Vec<String> {
    let words = words(text);
    let mut faults = Vec::new();
    for phrase in BANNED {
        let wanted: Vec<&str> = phrase.split(' ').collect();
        for (at, window) in words.windows(wanted.len()).enumerate() {
            let is_match = window.iter().zip(&wanted).all(|((_, word), wanted)| word == wanted);
            let before = at.checked_sub(1).map(|index| words[index].1.as_str());
            let is_plain =
                PLAIN_AFTER.iter().any(|(word, plain)| plain == phrase && before == Some(*word));
            if is_match && !is_plain {
                faults.push(format!("{}:{}: says `{phrase}`", file.display(), window[0].0));
            }
        }
    }
    faults
}

/// Faults in the first words of the doc comments of one file.
pub(crate) fn doc_faults(file: &Path, text: &str) -> Vec<String> {
    let mut faults = Vec::new();
    let mut is_inside = false;
    for (number, line) in text.lines().enumerate() {
        let line = line.trim_start();
        let doc = line.strip_prefix("/// ").or_else(|| line.strip_prefix("//! "));
        let opens = doc.filter(|_| !is_inside);
        is_inside = line.starts_with("///") || line.starts_with("//!");
        let Some(doc) = opens else { continue };
        let first =
            doc.split(|c: char| !c.is_alphanumeric() && c != '\'').next().unwrap_or_default();
        let fault = if doc.starts_with(char::is_lowercase) {
            "a doc comment starts with a small letter"
        } else if CLAUSES.contains(&first) {
            "a doc comment starts with a clause"
        } else if IMPERATIVES.contains(&first) {
            "a doc comment starts with an imperative"
        } else {
            continue;
        };
        faults.push(format!("{}:{}: {fault}: `{first}`", file.display(), number + 1));
    }
    faults
}

/// The words of a text in lower case, with their lines. Marks of comments and quotes are dropped, so
/// that a phrase may span lines; punctuation ends a phrase. Names of functions count as their words, and
/// code in backticks is no part of a phrase.
fn words(text: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    // `None` of Rust and Python is no word.
    let lower = |word: &str| if word == "None" { word.to_owned() } else { word.to_lowercase() };
    for (number, line) in text.lines().enumerate() {
        let mut is_function = false;
        for part in line.split(|c: char| c.is_whitespace() || "\"*/#<>|=-".contains(c)) {
            let ends = part.ends_with(['.', ',', ';', ':', '!', '?', '(', ')', '{', '}', '[', ']']);
            let word = part.trim_matches(|c: char| !c.is_alphanumeric() && c != '_' && c != '`');
            if !word.is_empty() {
                let word = word.strip_suffix("'s").unwrap_or(word);
                let name = if is_function { word.split('_').collect() } else { vec![word] };
                is_function = word == "fn";
                found.extend(name.into_iter().map(|word| (number + 1, lower(word))));
            }
            if ends {
                found.push((number + 1, String::new()));
            }
        }
    }
    found
}

#[test]
fn each_banned_phrase_is_found() {
    for phrase in BANNED {
        let first = phrase.split(' ').next().unwrap_or_default();
        let capital = first[..1].to_uppercase() + &phrase[1..];
        let wrapped = phrase.replace(' ', "\n    /// ");
        for text in [
            format!("/// It {phrase} x.\n"),
            format!("// {capital}, x.\n"),
            format!("# \"{phrase}\"\n"),
            format!("let a = \"x {phrase}\";\n"),
            format!("let a = \"x={}-y\";\n", phrase.replace(' ', "-")),
            format!("    /// It {wrapped}.\n"),
            format!("fn a_{}_b() {{}}\n", phrase.replace(' ', "_")),
        ] {
            let faults = banned_phrases(Path::new("src/a.rs"), &text);
            assert!(faults.iter().any(|fault| fault.contains(phrase)), "{text:?} gives {faults:?}");
        }
    }
}

#[test]
fn plain_english_and_code_are_not_banned() {
    for text in [
        "/// `None` if there is none.\n",
        "/// An absent header is `None`.\n",
        "if x.is_none() { return }\n",
        "if x is None:\n",
        "if x { all } else { none }\n",
        "/// The request is sent. None is lost.\n",
        "/// A forgiven back-off; goods; nobody5.\n",
        "/// Released for\n/// goods.\n",
    ] {
        let faults = banned_phrases(Path::new("src/a.rs"), text);
        assert!(faults.is_empty(), "{text:?} gives {faults:?}");
    }
}

#[test]
fn lines_of_banned_phrases_are_reported() {
    let faults = banned_phrases(Path::new("a.md"), "x\n\ny nobody\n");
    assert_eq!(faults, ["a.md:3: says `nobody`"]);
}

#[test]
fn doc_comments_with_a_wrong_first_word_are_found() {
    let starts = ["returns the name.", "a name."].map(str::to_owned).into_iter();
    let starts = starts.chain(CLAUSES.iter().chain(IMPERATIVES).map(|word| format!("{word} a b.")));
    for start in starts {
        for mark in ["///", "//!", "    ///"] {
            let text = format!("{mark} {start}\npub fn f() {{}}\n");
            let faults = doc_faults(Path::new("src/a.rs"), &text);
            assert_eq!(faults.len(), 1, "{text:?} gives {faults:?}");
        }
    }
}

#[test]
fn doc_comments_with_a_noun_or_a_third_person_verb_pass() {
    for text in [
        "/// Returns the name.\npub fn f() {}\n",
        "/// The name,\n/// which is long.\n///\n/// If x, y.\npub fn f() {}\n",
        "/// `None` if absent.\npub fn f() {}\n",
        "/// 429 of a gateway.\nA,\n",
        "/// Settings of a client.\nstruct A;\n",
        "// what follows is plain.\n",
    ] {
        let faults = doc_faults(Path::new("src/a.rs"), text);
        assert!(faults.is_empty(), "{text:?} gives {faults:?}");
    }
}
