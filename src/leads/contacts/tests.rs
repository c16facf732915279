//! Forms of addresses.

use super::*;

fn email(text: &str) -> ContactEmail {
    ContactEmail::parse(text).unwrap()
}

#[test]
fn an_address_is_checked_by_its_form_and_put_in_lower_case() {
    for (text, expected) in [
        ("ada@example.com", "ada@example.com"),
        ("Ada.Lovelace+x@Example.COM", "ada.lovelace+x@example.com"),
        ("\"a@b\"@example.com", "\"a@b\"@example.com"),
        ("GRÜßE@Bücher.example", "grüße@bücher.example"),
        ("ΟΔΟΣ@example.gr", "οδος@example.gr"),
        ("用户@例子.example", "用户@例子.example"),
        ("😀@example.com", "😀@example.com"),
    ] {
        assert_eq!(email(text).as_str(), expected);
    }
    let long = format!("{}@x.de", "a".repeat(250));
    // Its lower case is longer than it is.
    let grows = format!("{}@x.de", "İ".repeat(124));
    let invalid = [
        "",
        "ada",
        "@example.com",
        "ada@",
        "@",
        " ada@x.de",
        "a da@x.de",
        "ada@x.de\n",
        "a@x.de,b@x.de",
        "a@x.de;b@x.de",
        "Ada <ada@x.de>",
        "ada\u{200b}@x.de",
        "ada\u{202e}@x.de",
        "\u{feff}ada@x.de",
        "ada\u{a0}@x.de",
        "ada\0@x.de",
        &*long,
        &*grows,
    ];
    for text in invalid {
        assert!(ContactEmail::parse(text).is_err(), "{text:?}");
    }
}

#[test]
fn no_debug_form_shows_an_address() {
    let contact = ContactByEmail { email: email("ada@example.com"), create_if_missing: None };
    assert!(!format!("{contact:?}").contains("ada"), "{contact:?}");
}
