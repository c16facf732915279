//! Listener of the gRPC server: TCP or a Unix socket, with the peers of its connections.

use std::{fmt, io, net::SocketAddr};

use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio_util::either::Either;

use super::unix_socket::UnixSocket;
use leadsd_base::net::listen_address::ListenAddress;
use leadsd_quota::RemotePeer;

/// Listener.
#[derive(Debug)]
pub(crate) enum Listener {
    Tcp(TcpListener),
    Unix(UnixSocket),
}

/// Accepted connection, before TLS.
pub(crate) type Socket = Either<TcpStream, UnixStream>;

/// Other end of a connection, as logs show it.
#[derive(Debug, Clone, Copy)]
pub(crate) enum PeerAddress {
    Tcp(SocketAddr),
    /// User id of the process.
    Unix(u32),
}

// === impl Listener ===

impl Listener {
    /// Binds the address; returns the bound one as well.
    pub(crate) async fn bind(listen: &ListenAddress) -> io::Result<(Self, ListenAddress)> {
        if let ListenAddress::Unix(path) = listen {
            return Ok((Self::Unix(UnixSocket::bind(path).await?), listen.clone()));
        }
        let listener = listen.bind().await?;
        let address = listener.local_addr()?;
        Ok((Self::Tcp(listener), ListenAddress::Socket(address)))
    }

    /// Accepts a connection.
    pub(crate) async fn accept(&self) -> io::Result<(Socket, PeerAddress)> {
        match self {
            Self::Tcp(listener) => {
                let (socket, peer) = listener.accept().await?;
                Ok((Either::Left(socket), PeerAddress::Tcp(peer)))
            }
            Self::Unix(listener) => {
                let socket = listener.accept().await?;
                let uid = socket.peer_cred()?.uid();
                Ok((Either::Right(socket), PeerAddress::Unix(uid)))
            }
        }
    }
}

// === impl PeerAddress ===

impl PeerAddress {
    /// Peer whose connections share limits.
    pub(crate) fn peer(self) -> RemotePeer {
        match self {
            Self::Tcp(address) => RemotePeer::Address(address.ip()),
            Self::Unix(uid) => RemotePeer::User(uid),
        }
    }
}

impl fmt::Display for PeerAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(uid) => RemotePeer::User(*uid).fmt(f),
        }
    }
}

/// Sends small writes at once. A Unix socket does so anyway.
pub(crate) fn set_nodelay(socket: &Socket) -> io::Result<()> {
    match socket {
        Either::Left(socket) => socket.set_nodelay(true),
        Either::Right(_) => Ok(()),
    }
}
