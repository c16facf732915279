//! Cache of verified bearer tokens. Services send one token for about an hour; the cache saves the
//! signature verification per call.

use std::{sync::Arc, time::Duration};

use aws_lc_rs::digest::{SHA256, SHA256_OUTPUT_LEN, digest};

use super::{identity::Identity, key_set::KeySet};
use leadsd_base::cache::TtlCache;

/// Maximum number of cached tokens.
const CAPACITY: usize = 4_096;

/// Time to live of an entry. It bounds how long a replaced key set stays in memory; the expiry of tokens
/// is checked on each use.
const TTL: Duration = Duration::from_secs(3_600);

/// Token with valid signature and claims.
#[derive(Debug, Clone)]
pub(super) struct VerifiedToken {
    pub(super) identity: Identity,
    /// Expiry in seconds since 1970.
    pub(super) expires: f64,
}

/// Cache of verified tokens by the SHA-256 of their text.
#[derive(Debug)]
pub(super) struct VerifiedTokenCache {
    tokens: TtlCache<TokenHash, (Arc<KeySet>, VerifiedToken)>,
}

/// SHA-256 of a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct TokenHash([u8; SHA256_OUTPUT_LEN]);

// === impl VerifiedTokenCache ===

impl VerifiedTokenCache {
    /// Cached token; `None` if it was not verified with these keys.
    pub(super) fn get(&self, keys: &Arc<KeySet>, hash: TokenHash) -> Option<VerifiedToken> {
        let (verified_with, token) = self.tokens.get(&hash)?;
        Arc::ptr_eq(&verified_with, keys).then_some(token)
    }

    pub(super) fn insert(&self, keys: &Arc<KeySet>, hash: TokenHash, token: VerifiedToken) {
        self.tokens.insert(hash, (Arc::clone(keys), token));
    }
}

impl Default for VerifiedTokenCache {
    fn default() -> Self {
        Self { tokens: TtlCache::new(CAPACITY, TTL) }
    }
}

// === impl TokenHash ===

impl TokenHash {
    pub(super) fn new(token: &str) -> Self {
        let mut hash = [0; SHA256_OUTPUT_LEN];
        hash.copy_from_slice(digest(&SHA256, token.as_bytes()).as_ref());
        Self(hash)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::identity::AuthMethod;

    #[tokio::test(start_paused = true)]
    async fn a_token_is_cached_for_the_keys_that_verified_it_and_within_bounds() {
        let cache = VerifiedTokenCache::default();
        let (keys, other) = (Arc::new(KeySet::default()), Arc::new(KeySet::default()));
        let identity = Identity::new("billing", AuthMethod::Jwt).unwrap();
        let token = VerifiedToken { identity, expires: 1.0 };
        let hash = TokenHash::new("a token");
        cache.insert(&keys, hash, token.clone());
        assert!(cache.get(&keys, hash).is_some());
        assert!(cache.get(&other, hash).is_none(), "the key set was replaced");
        assert!(cache.get(&keys, TokenHash::new("another")).is_none());
        (0..2 * CAPACITY).for_each(|number| {
            cache.insert(&keys, TokenHash::new(&number.to_string()), token.clone());
        });
        assert!(cache.tokens.len() <= CAPACITY);
        tokio::time::advance(TTL).await;
        assert!(cache.get(&keys, hash).is_none());
    }
}
