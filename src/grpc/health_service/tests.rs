//! Statuses by name, and streams of their changes.

use futures_util::{FutureExt as _, StreamExt as _};
use tonic::Code;

use super::*;

const SERVICES: [&str; 2] = ["leadsd.v1.LeadsService", "leadsd.v1.QuotaService"];

fn serving(ready: bool, portals: &[(&str, bool)]) -> Serving {
    let portals = portals.iter().map(|&(name, usable)| (name.into(), usable)).collect();
    Serving { ready, portals }
}

fn handler(first: Serving) -> (watch::Sender<Serving>, HealthHandler) {
    let (sender, receiver) = watch::channel(first);
    (sender, HealthHandler::new(receiver, SERVICES.map(str::to_owned)))
}

fn request(name: &str) -> Request<HealthCheckRequest> {
    Request::new(HealthCheckRequest { service: name.to_owned() })
}

async fn check(handler: &HealthHandler, name: &str) -> Result<ServingStatus, Code> {
    let response = handler.check(request(name)).await;
    response.map(|response| response.into_inner().status()).map_err(|status| status.code())
}

#[tokio::test]
async fn every_service_has_the_health_of_the_server_and_every_portal_its_own() {
    let (sender, handler) = handler(serving(true, &[("eu", true), ("us", false)]));
    for name in ["", "leadsd.v1.LeadsService", "leadsd.v1.QuotaService"] {
        assert_eq!(check(&handler, name).await, Ok(ServingStatus::Serving), "{name:?}");
    }
    let portal = |name: &str| format!("leadsd.v1.LeadsService/{name}");
    assert_eq!(check(&handler, &portal("eu")).await, Ok(ServingStatus::Serving));
    assert_eq!(check(&handler, &portal("us")).await, Ok(ServingStatus::NotServing));
    sender.send_replace(serving(false, &[("eu", true)]));
    assert_eq!(check(&handler, "").await, Ok(ServingStatus::NotServing));
    assert_eq!(check(&handler, &portal("eu")).await, Ok(ServingStatus::Serving));
    assert_eq!(check(&handler, &portal("us")).await, Err(Code::NotFound), "it was removed");
}

#[tokio::test]
async fn check_of_an_unknown_name_is_not_found() {
    let (_sender, handler) = handler(serving(true, &[("eu", true)]));
    for name in [
        "nope",
        "leadsd.v1.LeadsService/",
        "leadsd.v1.LeadsService/uk",
        "leadsd.v1.LeadsService/eu/",
        "leadsd.v1.QuotaService/eu",
        "leadsd.v1",
        "/",
        "eu",
    ] {
        assert_eq!(check(&handler, name).await, Err(Code::NotFound), "{name:?}");
    }
}

#[tokio::test]
async fn watch_reports_the_status_at_once_and_each_change_of_it_only() {
    let (sender, handler) = handler(serving(false, &[]));
    let mut changes = handler.watch(request("")).await.unwrap().into_inner();
    let mut next = || changes.next().now_or_never().map(|next| next.unwrap().unwrap().status());
    assert_eq!(next(), Some(ServingStatus::NotServing));
    assert_eq!(next(), None);
    sender.send_replace(serving(false, &[("eu", true)]));
    assert_eq!(next(), None, "a portal changed, the server did not");
    sender.send_replace(serving(true, &[("eu", true)]));
    assert_eq!(next(), Some(ServingStatus::Serving));
    // A client that does not read gets the present status, not a queue of old ones.
    for ready in [false, true, false, true, false] {
        sender.send_replace(serving(ready, &[]));
    }
    assert_eq!((next(), next()), (Some(ServingStatus::NotServing), None));
    drop(sender);
    assert_eq!(next(), None, "the stream stays until the connection ends");
}

#[tokio::test]
async fn watch_of_an_unknown_name_stays_and_reports_when_it_becomes_known() {
    let (sender, handler) = handler(serving(true, &[]));
    let watched = request("leadsd.v1.LeadsService/late");
    let mut changes = handler.watch(watched).await.unwrap().into_inner();
    let mut next = || changes.next().now_or_never().map(|next| next.unwrap().unwrap().status());
    assert_eq!((next(), next()), (Some(ServingStatus::ServiceUnknown), None));
    sender.send_replace(serving(true, &[("late", false)]));
    assert_eq!((next(), next()), (Some(ServingStatus::NotServing), None));
    sender.send_replace(serving(true, &[("late", true)]));
    assert_eq!((next(), next()), (Some(ServingStatus::Serving), None));
    sender.send_replace(serving(true, &[]));
    assert_eq!((next(), next()), (Some(ServingStatus::ServiceUnknown), None));
}
