//! Account information: portal id, time zone and daily API usage.

use axum::http::StatusCode;
use serde_json::json;

use super::{
    AccessToken, FakeAccount,
    errors::Failure,
    http::{FakeRequest, FakeResponse},
    lead::millis,
};
use leadsd_base::time::Timestamp;

/// Time zone that the account information reports.
pub const TIME_ZONE: &str = "US/Eastern";

// === impl FakeAccount ===

impl FakeAccount {
    pub(super) fn account_info(
        &self,
        object: &str,
        request: &FakeRequest,
        token: &AccessToken,
    ) -> Result<FakeResponse, Failure> {
        let minutes = self.limits.utc_offset_minutes;
        let body = match (request.method.as_str(), object, request.path.as_str()) {
            ("GET", "details", "") => json!({
                "portalId": token.hub, "accountType": "STANDARD", "timeZone": TIME_ZONE,
                "companyCurrency": "USD", "additionalCurrencies": [],
                "utcOffset": offset(minutes), "utcOffsetMilliseconds": minutes * 60_000,
                "uiDomain": "app.hubspot.com", "dataHostingLocation": "na1",
            }),
            ("GET", "me", "") => json!({
                "portalId": token.hub, "timeZone": TIME_ZONE, "utcOffset": offset(minutes),
                "utcOffsetMilliseconds": minutes * 60_000, "currency": "USD",
            }),
            ("GET", "api-usage", "daily/private-apps") => {
                let now = self.clock.now();
                let (day, left) = self.limits.day(now);
                let used = if day == self.counted.day { self.counted.today } else { 0 };
                let midnight = now.as_second() + i64::try_from(left.as_secs()).unwrap_or(0);
                let resets = Timestamp::from_second(midnight).unwrap_or(now);
                json!({"results": [{
                    "name": "private-apps-api-calls-daily", "usageLimit": self.limits.daily,
                    "currentUsage": used, "collectedAt": millis(now), "fetchStatus": "SUCCESS",
                    "resetsAt": millis(resets),
                }]})
            }
            _ => return Err(Failure::not_found(true)),
        };
        Ok((StatusCode::OK, body))
    }
}

/// Formats a UTC offset, such as `-05:00`.
fn offset(minutes: i32) -> String {
    let sign = if minutes < 0 { '-' } else { '+' };
    let minutes = minutes.abs();
    format!("{sign}{:02}:{:02}", minutes / 60, minutes % 60)
}
