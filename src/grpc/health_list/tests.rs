//! The method over HTTP, and its descriptors.

use std::collections::BTreeSet;

use http_body_util::{BodyExt as _, Full};
use prost_reflect::{DescriptorPool, DynamicMessage};
use tokio::sync::watch;
use tonic::codegen::Bytes;
use tonic_health::pb::health_check_response::ServingStatus;

use super::*;
use crate::grpc::health_service::Serving;

/// Response message of a call without content.
async fn call(server: &mut ListingHealthServer, path: &str) -> Vec<u8> {
    let request = http::Request::post(path).body(Full::new(Bytes::from_static(&[0; 5]))).unwrap();
    let response = server.call(request).await.unwrap();
    assert_eq!(response.headers().get("grpc-status"), None, "no error");
    response.into_body().collect().await.unwrap().to_bytes()[5..].to_vec()
}

#[tokio::test]
async fn list_has_every_service_and_no_portal() {
    let portals = [("eu".into(), true)].into();
    let (sender, serving) = watch::channel(Serving { ready: true, portals });
    let services = ["leadsd.v1.LeadsService", "leadsd.v1.QuotaService"].map(str::to_owned);
    let mut server = ListingHealthServer::new(HealthHandler::new(serving, services));
    for (ready, status) in [(true, ServingStatus::Serving), (false, ServingStatus::NotServing)] {
        sender.send_modify(|serving| serving.ready = ready);
        let response = HealthListResponse::decode(&call(&mut server, LIST).await[..]).unwrap();
        let names: BTreeSet<_> = response.statuses.keys().map(String::as_str).collect();
        assert_eq!(names, ["", "leadsd.v1.LeadsService", "leadsd.v1.QuotaService"].into());
        assert!(response.statuses.values().all(|own| own.status() == status), "{response:?}");
        let checked = call(&mut server, "/grpc.health.v1.Health/Check").await;
        assert_eq!(HealthCheckResponse::decode(&checked[..]).unwrap().status(), status);
    }
}

#[test]
fn the_descriptors_describe_the_messages() {
    let pool = DescriptorPool::decode(descriptors()).unwrap();
    let service = pool.get_service_by_name("grpc.health.v1.Health").unwrap();
    let methods: Vec<_> = service.methods().map(|method| method.name().to_owned()).collect();
    assert_eq!(methods, ["Check", "Watch", "List"]);
    let response = HealthListResponse {
        statuses: [("a".to_owned(), HealthCheckResponse { status: 1 })].into(),
    };
    let described = pool.get_message_by_name("grpc.health.v1.HealthListResponse").unwrap();
    let read = DynamicMessage::decode(described, &response.encode_to_vec()[..]).unwrap();
    let statuses = read.get_field_by_name("statuses").unwrap();
    assert_eq!(statuses.as_map().unwrap().len(), 1);
    assert_eq!(read.encode_to_vec(), response.encode_to_vec());
}
