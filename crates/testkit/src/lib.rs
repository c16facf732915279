//! Test harness of leadsd: runs the service between fakes of HubSpot and Vault, on loopback.
//!
//! - [`TestApp`] runs one replica on a separate thread and checks on drop that nothing leaked.
//! - [`LogCapture`] holds the log lines of one application, so that parallel tests do not mix.
//! - [`ChaosProxy`] cuts TCP connections, also after a given number of bytes, and stalls them.
//! - [`ForwardProxy`] records requests for tunnels, requires credentials, and misbehaves.
//! - [`http2::RawConnection`] writes HTTP/2 frames that no client library would send.
//! - [`HttpPeer`] and [`silent_peer`] stand in for servers with scripted behaviour.
//! - [`Redis`] runs a Redis server.
//! - [`Process`] runs a binary, reads its JSON log and sends it signals.
//!
//! The crate must not know the service: no generated messages, no configuration types. A test
//! passes a [`Launch`] function that starts the service from configuration keys. Hence a change of
//! the service does not rebuild this crate, and unit tests of the service may use it.
//!
//! Sockets need real time. Tests built on this crate order events by what the fakes have seen
//! ([`eventually`]) and assert counts and outcomes, never durations.
//!
//! ```no_run
//! use std::net::SocketAddr;
//!
//! use leadsd_testkit::{Builder, Launched};
//! use tokio::net::TcpListener;
//! use tracing_subscriber::EnvFilter;
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() {
//! // A service that only takes its two addresses.
//! let builder = Builder::new(
//!     |settings, stop| {
//!         Box::pin(async move {
//!             assert!(settings.iter().any(|(key, _)| key == "LEADSD_HUBSPOT__BASE_URL"));
//!             let grpc = TcpListener::bind("127.0.0.1:0").await.unwrap();
//!             let admin = TcpListener::bind("127.0.0.1:0").await.unwrap();
//!             let [grpc_address, admin_address] =
//!                 [&grpc, &admin].map(|listener| listener.local_addr().unwrap());
//!             Launched {
//!                 grpc: grpc_address,
//!                 admin: admin_address,
//!                 run: Box::pin(async move {
//!                     let _listeners = (grpc, admin);
//!                     let _ = stop.await;
//!                 }),
//!             }
//!         })
//!     },
//!     || EnvFilter::new("info"),
//! );
//! let app = builder.unready().start().await;
//! assert!(app.grpc.parse::<SocketAddr>().is_ok());
//! app.hubspot.add_lead(&app.contact, &serde_json::json!({"hs_lead_name": "Jane"})).unwrap();
//! app.stop().await;
//! # }
//! ```

mod app;
mod chaos;
mod forward_proxy;
mod host;
mod hostile_http;
pub mod http2;
mod logs;
mod peers;
mod ports;
mod process;
mod redis;
mod wait;

pub use self::{
    app::{Builder, Launch, Launched, Peers, TestApp},
    chaos::{ChaosProxy, Direction, LinkState},
    forward_proxy::{ForwardProxy, ProxyBehaviour, ProxyRequest},
    host::Host,
    hostile_http::{ENDLESS, HostileBody, HostileHttp},
    logs::LogCapture,
    peers::{HttpPeer, silent_peer},
    ports::unused_port,
    process::{Dev, FREE, Process, send_signal},
    redis::Redis,
    wait::{PATIENCE, eventually, found, metrics_page, wait_ready},
};
