//! Usage of HubSpot's quota, for the progress of a command.

use std::time::Duration;

use http::Uri;
use leadsd_base::task::{self, Task};
use tokio::{
    sync::watch,
    time::{sleep, timeout},
};
use tonic::{Code, Request, metadata::MetadataMap};

use super::client::Channel;
use crate::grpc::pb::{self, quota_service_client::QuotaServiceClient};

/// Interval of requests. The usage of the last ten seconds changes slowly.
const INTERVAL: Duration = Duration::from_secs(2);

/// Timeout for a request.
const TIMEOUT: Duration = Duration::from_secs(2);

/// Latest usage, requested in the background.
#[derive(Debug)]
pub(super) struct QuotaUsage {
    text: watch::Receiver<String>,
    _task: Task,
}

// === impl QuotaUsage ===

impl QuotaUsage {
    /// Requests the usage over the connections of another call.
    pub(super) fn start(
        channel: watch::Receiver<Option<Channel>>,
        origin: Uri,
        metadata: MetadataMap,
    ) -> Self {
        let (sender, text) = watch::channel(String::new());
        let work = async move {
            loop {
                let current = channel.borrow().clone();
                if let Some(channel) = current {
                    let mut client = QuotaServiceClient::with_origin(channel, origin.clone());
                    let mut request = Request::new(pb::GetQuotaRequest {});
                    *request.metadata_mut() = metadata.clone();
                    request.set_timeout(TIMEOUT);
                    match timeout(TIMEOUT, client.get_quota(request)).await {
                        Ok(Ok(response)) => {
                            let quota = response.into_inner().quota.unwrap_or_default();
                            sender.send_replace(text_of(&quota));
                        }
                        // The caller may not see the quota.
                        Ok(Err(status)) if is_permanent(status.code()) => return,
                        Ok(Err(_)) | Err(_) => {}
                    }
                }
                sleep(INTERVAL).await;
            }
        };
        Self { text, _task: task::spawn("quota usage", "", work) }
    }

    /// Usage in words; empty if it is not known.
    pub(super) fn text(&self) -> String {
        self.text.borrow().clone()
    }
}

fn is_permanent(code: Code) -> bool {
    matches!(code, Code::PermissionDenied | Code::Unauthenticated | Code::Unimplemented)
}

/// Usage of the limits that are known, such as `quota: burst 24 %, search 80 %`.
fn text_of(quota: &pb::Quota) -> String {
    let usage = |bucket: &pb::QuotaBucket| {
        let limit = bucket.limit.filter(|limit| *limit > 0)?;
        let percent = i128::from(bucket.used.max(0)) * 100 / i128::from(limit);
        Some(format!("{} {percent} %", bucket.name))
    };
    let parts: Vec<_> = quota.buckets.iter().filter_map(usage).collect();
    if parts.is_empty() { String::new() } else { format!("quota: {}", parts.join(", ")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn usage_is_a_share_of_each_known_limit() {
        let bucket = |name: &str, limit, used| pb::QuotaBucket {
            name: name.into(),
            limit,
            used,
            ..Default::default()
        };
        for (buckets, expected) in [
            (vec![], ""),
            (vec![bucket("daily", None, 7), bucket("search", Some(0), 7)], ""),
            (vec![bucket("burst", Some(190), 45), bucket("daily", None, 7)], "quota: burst 23 %"),
            (
                vec![bucket("burst", Some(190), 200), bucket("search", Some(5), 0)],
                "quota: burst 105 %, search 0 %",
            ),
        ] {
            let quota = pb::Quota { buckets, ..Default::default() };
            assert_eq!(text_of(&quota), expected);
        }
    }
}
