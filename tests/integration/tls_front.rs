//! TLS proxy in front of a plain HTTP server, with a chosen certificate.

use std::{net::SocketAddr, sync::Arc};

use tokio::{
    net::{TcpListener, TcpStream},
    sync::watch,
};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        ServerConfig,
        crypto::aws_lc_rs,
        pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
    },
};

use crate::openbao::Authority;

/// Fault of the certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Certificate {
    Good,
    Expired,
    /// The validity has not begun.
    Early,
    OfAnotherName,
    /// The certificate expires in three days.
    EndingSoon,
}

/// Starts the proxy; returns its address. It runs until the test ends.
pub(crate) fn start(authority: &Authority, certificate: Certificate, behind: SocketAddr) -> String {
    let (chain, key) = authority.issue_as(certificate);
    format!("https://127.0.0.1:{}", start_with(&chain, &key, behind).port())
}

/// Starts the proxy with a certificate and its key in PEM; returns its address.
pub(crate) fn start_with(chain: &str, key: &str, behind: SocketAddr) -> SocketAddr {
    RotatingFront::start((chain, key), behind).address
}

/// TLS proxy whose certificate changes. It runs until the test ends.
pub(crate) struct RotatingFront {
    pub(crate) address: SocketAddr,
    acceptor: watch::Sender<TlsAcceptor>,
}

// === impl RotatingFront ===

impl RotatingFront {
    /// Starts the proxy with a certificate and its key in PEM.
    pub(crate) fn start(certificate: (&str, &str), behind: SocketAddr) -> Self {
        let (acceptor, current) = watch::channel(acceptor(certificate));
        Self { address: serve(current, behind), acceptor }
    }

    /// Replaces the certificate, and closes the connections.
    pub(crate) fn rotate(&self, certificate: (&str, &str)) {
        self.acceptor.send_replace(acceptor(certificate));
    }
}

fn acceptor((chain, key): (&str, &str)) -> TlsAcceptor {
    let chain = vec![CertificateDer::from_pem_slice(chain.as_bytes()).unwrap()];
    let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
    let provider = aws_lc_rs::default_provider().into();
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .unwrap();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    TlsAcceptor::from(Arc::new(config))
}

fn serve(acceptor: watch::Receiver<TlsAcceptor>, behind: SocketAddr) -> SocketAddr {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let address = listener.local_addr().unwrap();
    let listener = TcpListener::from_std(listener).unwrap();
    tokio::spawn(async move {
        while let Ok((outside, _)) = listener.accept().await {
            let mut current = acceptor.clone();
            tokio::spawn(async move {
                let acceptor = current.borrow_and_update().clone();
                let Ok(mut outside) = acceptor.accept(outside).await else { return };
                let Ok(mut inside) = TcpStream::connect(behind).await else { return };
                let rotated = async {
                    // The certificate of a proxy that was started without a handle stays.
                    if current.changed().await.is_err() {
                        std::future::pending::<()>().await;
                    }
                };
                tokio::select! {
                    _ = tokio::io::copy_bidirectional(&mut outside, &mut inside) => {}
                    () = rotated => {}
                }
            });
        }
    });
    address
}
