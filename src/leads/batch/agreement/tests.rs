//! Forms in which HubSpot shows values.

use super::*;

const LONG: &str = "The beginning of a long text, which HubSpot may cut at some length or other";

#[test]
fn values_agree_in_every_form_that_hubspot_shows() {
    use Agreement::{Different, Same, Unclear};
    for (written, shown, expected) in [
        ("n1", "n1", Same),
        ("n1", "n2", Different),
        ("HOT", "hot", Same),
        ("Ä", "ä", Same),
        ("  Ada ", "Ada", Same),
        ("NEW_BUSINESS", "New business", Unclear),
        ("HOT", "WARM", Different),
        ("HOT", "", Unclear),
        ("", "HOT", Unclear),
        ("", "", Unclear),
        ("true", "TRUE", Same),
        ("1", "true", Same),
        ("no", "false", Same),
        ("true", "false", Different),
        ("1767225600000", "2026-01-01", Same),
        ("2026-01-01", "1767225600000", Same),
        ("2026-01-01", "2026-01-01T00:00:00Z", Same),
        ("2026-01-01T00:00:00.000Z", "2026-01-01T01:00:00+01:00", Same),
        ("2026-01-01T00:00:00.123Z", "2026-01-01T00:00:00Z", Same),
        ("1767225600123", "2026-01-01T00:00:00Z", Same),
        ("1767229200000", "2026-01-01", Same),
        ("1767229200000", "1767225600000", Different),
        ("2026-01-01T23:00:00Z", "2026-01-02", Unclear),
        ("2026-01-01T10:00:00Z", "2026-01-01T11:00:00Z", Different),
        ("2026-01-01", "2026-01-02", Different),
        ("2026-01-01", "2026-03-01", Different),
        ("1767225600000", "2026-01-02", Different),
        ("1767225600001", "2026-01-02", Unclear),
        ("1767225600001", "2026-01-03", Different),
        ("2026-01-01", "soon", Unclear),
        ("5", "five", Unclear),
        ("<b>x</b>", "x", Unclear),
        ("Ada Lovelace", "Ada", Different),
        (LONG, "The beginning of a long text", Unclear),
        (LONG, "The end of a long text", Different),
        ("+1 (555) 0102", "+15550102", Unclear),
        ("5550102", "+15550102", Unclear),
        ("0301234567", "+49301234567", Unclear),
        ("0049301234567", "+49301234567", Same),
        ("+15550102", "+15550103", Different),
        ("15550102", "5550102", Different),
        ("+5550102", "50102", Different),
        // An accent as a separate character.
        ("Jose\u{301}", "Jos\u{e9}", Unclear),
        ("Jose", "Jos\u{e9}", Different),
    ] {
        assert_eq!(compare(written, shown), expected, "{written} shown as {shown}");
    }
}

#[test]
fn numbers_agree_in_every_form_that_hubspot_shows() {
    use Agreement::{Different, Same, Unclear};
    for (written, shown, expected) in [
        ("1", "1.0", Same),
        ("1e0", "1", Same),
        ("1.50", "1.5", Same),
        ("+7", "7", Same),
        ("007", "7", Same),
        ("-0", "0", Same),
        ("7", "-7", Different),
        ("1234567890123456", "1234567890123457", Different),
        // HubSpot may store a number as a double.
        ("12345678901234567", "12345678901234568", Unclear),
        ("12345678901234568", "12345678901234567", Different),
        ("123456789012345678", "123456789012345680", Unclear),
        ("123456789012345678", "123456789012345679", Different),
        ("12345678901234567890", "1.2345678901234567E19", Same),
        ("171591000198", "171591000200", Different),
        ("7", "8", Different),
        ("1.005", "1.01", Unclear),
        ("1.004", "1", Unclear),
        ("7.6", "8", Unclear),
        ("7.6", "9", Different),
        ("1.239", "1.23", Unclear),
        ("1.26", "1.23", Different),
        ("1.299", "1.3", Unclear),
        ("12345", "1.23E4", Unclear),
        ("12445", "1.23E4", Different),
        ("1e3", "2000", Different),
        ("1e3", "1000", Same),
        ("1e21", "1000000000000000000000", Same),
        ("1E+21", "1.0E21", Same),
        ("1e21", "1000000000000000000001", Same),
        ("1e22", "1e21", Different),
        ("12.50", "012.5", Same),
        (".5", "0.50", Same),
        ("5.", "5", Same),
        ("0.00", "-0", Same),
        ("-0.5", ".5", Different),
        ("0.1", "0.10000000000000001", Same),
        ("1e400", "10e399", Same),
        ("1e400", "1e401", Unclear),
        ("1e400", "1.7976931348623157E308", Unclear),
        ("1e400", "-1e400", Different),
        ("1e-400", "0", Same),
        ("1e99999999999", "5", Unclear),
        ("1,234", "1234", Unclear),
        ("e5", "5", Unclear),
        ("1e", "1", Unclear),
    ] {
        assert_eq!(compare(written, shown), expected, "{written} shown as {shown}");
    }
}

#[test]
fn lists_entities_and_addresses_agree_in_every_form_that_hubspot_shows() {
    use Agreement::{Different, Same, Unclear};
    for (written, shown, expected) in [
        ("EAST;WEST", "WEST;EAST", Same),
        ("East; West;", "EAST;WEST", Same),
        ("EAST;EAST", "EAST", Same),
        ("EAST;WEST", "EAST", Different),
        ("EAST;WEST", "EAST;NORTH", Different),
        ("EAST;NEW_BUSINESS", "New business;East", Unclear),
        ("2026-01-01;1.0", "1;1767225600000", Same),
        (";WEST", "EAST;WEST", Unclear),
        ("Tom & Co", "Tom &amp; Co", Same),
        ("Tom &amp; Co", "Tom & Co", Same),
        ("\u{201c}a\u{201d} <b>", "&#8220;a&#x201D; &lt;b&gt;", Same),
        ("Tom's", "Tom&#39;s", Same),
        ("A & B;C", "C;A &amp; B", Same),
        ("Tom &amp; Co", "Ann &amp; Co", Different),
        ("R &unknown; D", "R &unknown; D", Same),
        ("&#xD800;&#99999999;a", "b", Unclear),
        ("example.com", "https://example.com/", Unclear),
        ("https://example.com", "http://www.example.com", Unclear),
        ("example.com", "https://example.org", Different),
    ] {
        assert_eq!(compare(written, shown), expected, "{written} shown as {shown}");
    }
}

#[test]
fn one_difference_outweighs_any_agreement() {
    use Agreement::{Different, Same, Unclear};
    for (all, whole) in [
        (vec![], Unclear),
        (vec![Unclear, Same, Unclear], Same),
        (vec![Same, Different, Same], Different),
        (vec![Unclear, Unclear], Unclear),
    ] {
        assert_eq!(Agreement::combine(all), whole);
    }
}

#[test]
fn long_lists_are_compared_as_sets() {
    let list = |range: std::ops::Range<usize>| {
        range.map(|number| format!("OPTION_{number}")).collect::<Vec<_>>()
    };
    let shown = list(0..10_000).into_iter().rev().collect::<Vec<_>>().join(";");
    assert_eq!(compare(&list(0..10_000).join(";"), &shown), Agreement::Same);
    assert_eq!(compare(&list(1..10_001).join(";"), &shown), Agreement::Different);
}
