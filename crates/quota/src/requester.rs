//! The caller and the priority of a request.

use std::{
    fmt,
    net::{IpAddr, Ipv6Addr},
    sync::Arc,
};

/// Number of bits of an IPv6 address that identify a network. A host may have all addresses of its /64.
const IPV6_NETWORK: u128 = !0 << 64;

/// Name of leadsd as a caller, in spans and in snapshots.
const INTERNAL: &str = "leadsd";

/// A client of leadsd, among which quota is divided: its authenticated identity, else the name
/// that it sends, else its address.
///
/// The order has the callers of one account side by side.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Caller {
    /// Other end of the connection of a caller without authentication, as a network; `None` if it has none.
    peer: Option<RemotePeer>,
    name: Arc<str>,
    /// Weight of an authenticated caller. `None` if the weight is looked up by name.
    weight: Option<u32>,
}

/// Other end of a connection, whose calls without authentication share an account.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum RemotePeer {
    /// IP address.
    Address(IpAddr),
    /// User id of a process at a Unix socket.
    User(u32),
}

/// Account of a caller, among which shares are divided first. A client cannot choose it freely, as it
/// can choose its name without authentication.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum AccountKey {
    /// Name of an authenticated caller.
    Identity(Arc<str>),
    /// Address of callers without authentication: an IPv4 address, or the /64 of an IPv6 address.
    Address(IpAddr),
    /// User id of callers without authentication at a Unix socket.
    User(u32),
    /// Name of a caller without authentication and without address: a task of leadsd itself.
    Name(Arc<str>),
}

/// Priority class of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub enum Priority {
    /// Requests that recover what failed in a request of several interactive callers, which have waited
    /// already. Served first; those that caused it are charged for it ([`Account::charge`]).
    ///
    /// [`Account::charge`]: crate::Account::charge
    Recovery,
    /// A user waits for the response. Served before bulk.
    #[default]
    Interactive,
    /// Background work. Served with what is left, and with a tenth of the permits in any case.
    Bulk,
    /// Requests of a caller that HubSpot rejects again and again. Served with what is left, and with a
    /// fiftieth of the permits in any case. No caller chooses it.
    Restricted,
}

/// The caller and the priority that a permit is acquired for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Requester {
    /// The caller.
    pub caller: Caller,
    /// Priority of the request.
    pub priority: Priority,
}

// === impl AccountKey ===

impl AccountKey {
    /// Key of an address. All addresses of one host have the same key.
    pub fn from_address(address: IpAddr) -> Self {
        Self::from_peer(RemotePeer::Address(address))
    }

    /// Key of a peer.
    pub fn from_peer(peer: RemotePeer) -> Self {
        match peer.network() {
            RemotePeer::Address(network) => Self::Address(network),
            RemotePeer::User(uid) => Self::User(uid),
        }
    }
}

// === impl RemotePeer ===

impl RemotePeer {
    /// An IPv4 address, the /64 of an IPv6 address, or the user id.
    pub fn network(self) -> Self {
        match self {
            Self::Address(address) => Self::Address(network(address)),
            Self::User(_) => self,
        }
    }
}

impl fmt::Display for RemotePeer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address) => address.to_canonical().fmt(f),
            Self::User(uid) => write!(f, "uid:{uid}"),
        }
    }
}

// === impl Priority ===

impl Priority {
    /// All priorities, in the order in which they are served.
    pub(crate) const ALL: [Self; 4] =
        [Self::Recovery, Self::Interactive, Self::Bulk, Self::Restricted];
}

// === impl Requester ===

impl Requester {
    /// Requester for requests that no caller makes: the probes and token checks of leadsd.
    pub fn internal() -> Self {
        Self { caller: Caller::new(INTERNAL), priority: Priority::Interactive }
    }
}

// === impl Caller ===

impl Caller {
    /// Maximum length of an unauthenticated name, in bytes: what a client sends is kept in memory and
    /// shown in snapshots.
    const MAX_NAME: usize = 128;

    /// A caller by an unauthenticated name, truncated to 128 bytes.
    pub fn new(name: &str) -> Self {
        let mut end = name.len().min(Self::MAX_NAME);
        while !name.is_char_boundary(end) {
            end -= 1;
        }
        Self { peer: None, name: name[..end].into(), weight: None }
    }

    /// The caller with the address of its connection. Without authentication, all names of one address
    /// belong to one account. An authenticated caller has no address.
    #[must_use]
    pub fn with_address(self, address: IpAddr) -> Self {
        self.with_peer(RemotePeer::Address(address))
    }

    /// The caller with the peer of its connection, as [`Caller::with_address`].
    #[must_use]
    pub fn with_peer(self, peer: RemotePeer) -> Self {
        let peer = self.weight.is_none().then(|| peer.network());
        Self { peer, ..self }
    }

    /// The caller without its address: the same name from another address is the same caller.
    #[must_use]
    pub fn without_address(self) -> Self {
        Self { peer: None, ..self }
    }

    /// An authenticated caller with its configured weight.
    pub fn authenticated(name: &str, weight: u32) -> Self {
        Self { peer: None, name: name.into(), weight: Some(weight) }
    }

    /// Account of the caller: its identity, else its address.
    pub fn account(&self) -> AccountKey {
        match (self.weight, self.peer) {
            (Some(_), _) => AccountKey::Identity(Arc::clone(&self.name)),
            (None, Some(peer)) => AccountKey::from_peer(peer),
            (None, None) => AccountKey::Name(Arc::clone(&self.name)),
        }
    }

    /// True if the name is authenticated.
    pub fn is_authenticated(&self) -> bool {
        self.weight.is_some()
    }

    /// Name of the caller.
    pub fn as_str(&self) -> &str {
        &self.name
    }

    /// Weight of an authenticated caller.
    pub(crate) fn weight(&self) -> Option<u32> {
        self.weight
    }
}

/// An IPv4 address, or the /64 of an IPv6 address.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        address @ IpAddr::V4(_) => address,
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() & IPV6_NETWORK).into(),
    }
}

#[cfg(test)]
mod tests;
