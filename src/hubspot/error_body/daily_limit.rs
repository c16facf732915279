//! Recognises the daily limit among rate limits. HubSpot names it by a policy, or in texts only.

use super::ErrorBody;

/// Parts of the names of rate limits for periods of less than a day.
const SHORT_PERIODS: [&str; 3] = ["SECOND", "MINUTE", "HOURLY"];

/// Words of texts about a limit for a day.
const DAY_WORDS: [&str; 6] = ["day", "today", "24h", "24hr", "24hrs", "24hour"];

// === impl ErrorBody ===

impl ErrorBody {
    /// Reports whether a rate limit is the daily one, by its policy or, if that names no period, by its texts.
    pub(in crate::hubspot) fn is_daily_limit(&self) -> bool {
        if let Some(policy) = &self.policy_name {
            let is_short =
                || SHORT_PERIODS.iter().any(|part| policy.to_ascii_uppercase().contains(part));
            if names_day(policy) || is_short() {
                return names_day(policy);
            }
        }
        let details = self.errors.iter().filter_map(|detail| detail.message.as_ref());
        let own = [&self.error_type, &self.sub_category, &self.message].into_iter().flatten();
        own.chain(details).any(|text| names_day(text))
    }
}

/// Reports whether a text about a limit names a day as its period.
fn names_day(text: &str) -> bool {
    let text = text.to_ascii_lowercase();
    let words: Vec<&str> = text.split(|c: char| !c.is_ascii_alphanumeric()).collect();
    let is_hours = |word: &str| word.starts_with("hour") || word.starts_with("hr");
    text.contains("daily")
        || words.iter().any(|word| DAY_WORDS.contains(word))
        || words.windows(2).any(|two| matches!(two[0], "24" | "four") && is_hours(two[1]))
}
