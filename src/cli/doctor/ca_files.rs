//! Check of the files with private CAs: their certificates expire one day, and no request says so before.

use leadsd_base::{net::trust::CaSource, time::Timestamp};

use super::check::CheckResult;

/// Minimum remaining validity of a CA in seconds; below it the check warns. As the alert LeadsdCaExpires.
const MIN_VALIDITY: f64 = 14.0 * DAY;

/// Seconds of a day.
const DAY: f64 = 86_400.0;

/// Checks the earliest expiry of each file.
pub(super) fn expiry_result(files: &[CaSource], now: Timestamp) -> CheckResult<()> {
    let mut problems = Vec::new();
    let mut first = f64::INFINITY;
    for file in files {
        let left = match file.earliest_expiry() {
            Ok(Some(expires)) => expires.duration_since(now).as_secs_f64(),
            Ok(None) => continue,
            Err(error) => {
                problems.push(error.to_string());
                continue;
            }
        };
        first = first.min(left);
        let (key, path) = (&file.key, file.path.display());
        if left < 0.0 {
            problems.push(format!("{key}: a CA in {path} expired {:.1} days ago", -left / DAY));
        } else if left < MIN_VALIDITY {
            problems.push(format!("{key}: a CA in {path} expires in {:.1} days", left / DAY));
        }
    }
    if problems.is_empty() {
        let found =
            format!("{} configured; the first CA expires in {:.0} days", files.len(), first / DAY);
        return CheckResult::ok((), found);
    }
    CheckResult::warn(
        (),
        problems.join("; "),
        "add the new CA to the file before the peer gets a certificate of it, and remove the old one \
         after that; leadsd reads changed files without a restart",
    )
}
