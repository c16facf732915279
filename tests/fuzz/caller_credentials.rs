//! Malformed credentials of callers, and malformed keys that verify them: tokens, key sets, API
//! keys and their hashes, certificates.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use leadsd::{
    auth::{
        Authenticator, HeaderValue, PresentedCredentials, Settings, api_key_owners, certificate,
        load_jwks,
    },
    config::{Jwks, Jwt},
    vault::{KvStore, Session},
};
use leadsd_base::{secret::Secret, time::SystemClock};
use rcgen::{CertificateParams, KeyPair, PublicKeyData as _, SanType};
use rustls::pki_types::CertificateDer;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::{malformed_json, random::Random, run::Run, setup::Peers};

const ISSUER: &str = "https://issuer.test";

/// Token issuer that signs with one key.
struct Issuer(KeyPair);

// === impl Issuer ===

impl Issuer {
    fn jwks(&self) -> Value {
        let point = self.0.der_bytes();
        let part = |range: std::ops::Range<usize>| URL_SAFE_NO_PAD.encode(&point[range]);
        json!({"keys": [{"kty": "EC", "crv": "P-256", "use": "sig", "alg": "ES256", "kid": "one",
                         "key_ops": ["verify"], "x": part(1..33), "y": part(33..65)},
                        {"kty": "RSA", "kid": "two", "n": URL_SAFE_NO_PAD.encode([0xc5; 256]), "e": "AQAB"},
                        {"kty": "OKP", "crv": "Ed25519", "kid": "three", "x": URL_SAFE_NO_PAD.encode([7; 32])},
                        {"kty": "oct", "k": "AAAA"}]})
    }

    fn token(&self, claims: &Value) -> String {
        let header = Header { kid: Some("one".to_owned()), ..Header::new(Algorithm::ES256) };
        let key = EncodingKey::from_ec_der(&self.0.serialize_der());
        encode(&header, claims, &key).unwrap()
    }
}

fn claims() -> Value {
    json!({"iss": ISSUER, "aud": ["leadsd"], "sub": "billing", "exp": 4_000_000_000_u64, "nbf": 0})
}

/// Token with malformed text, malformed parts or unexpected claims.
fn token(random: &mut Random, issuer: &Issuer, good: &str) -> String {
    match random.below(5) {
        0 => random.mutated(good),
        1 => {
            let mut claims = claims();
            malformed_json::mutate(random, &mut claims);
            issuer.token(&claims)
        }
        2 => {
            let mut header = json!({"alg": "ES256", "kid": "one", "typ": "JWT", "crit": null,
                                    "jwk": {"kty": "EC"}, "x5c": ["a"]});
            malformed_json::mutate(random, &mut header);
            let header = URL_SAFE_NO_PAD.encode(malformed_json::serialize(random, &header));
            format!("{header}{}", &good[good.find('.').unwrap()..])
        }
        3 => {
            let parts: Vec<String> = (0..random.below(5)).map(|_| random.text()).collect();
            parts.join(".")
        }
        _ => good.to_owned(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn caller_credentials() {
    let mut run = Run::start("caller_credentials").await;
    let peers = Peers::start().await;
    let issuer = Issuer(KeyPair::generate().unwrap());
    let good = issuer.token(&claims());
    let folder = tempfile::tempdir().unwrap();
    let (trusted, mutated_file) =
        (folder.path().join("jwks.json"), folder.path().join("mutated_file.json"));
    std::fs::write(&trusted, issuer.jwks().to_string()).unwrap();
    let auth = auth(&peers, &trusted);
    let mut certificate = CertificateParams::new(vec!["billing.test".to_owned()]).unwrap();
    certificate.subject_alt_names.push(SanType::URI("spiffe://a/b".try_into().unwrap()));
    let certificate = certificate.self_signed(&KeyPair::generate().unwrap()).unwrap();
    let mut known = 0;
    while let Some(mut random) = run.next() {
        let sent = format!("Bearer {}", token(&mut random, &issuer, &good));
        let sent = if random.one_in(10) { random.mutated(&sent) } else { sent };
        let key = random.text();
        let presented = PresentedCredentials {
            authorization: if random.one_in(5) {
                HeaderValue::Absent
            } else {
                HeaderValue::One(sent.as_bytes())
            },
            api_key: if random.one_in(5) {
                HeaderValue::One(key.as_bytes())
            } else {
                HeaderValue::Absent
            },
            certificate: None,
        };
        let until = Instant::now() + Duration::from_millis(20);
        if let Ok(identity) = run.in_time(auth.authenticate(presented, until)).await {
            known += 1;
            // Only a token signed by the issuer identifies a caller; its claims may be mutated.
            assert!(!identity.name().is_empty(), "{}", run.failure("a caller without a name"));
        }
        if random.one_in(3) {
            let mut keys = issuer.jwks();
            malformed_json::mutate(&mut random, &mut keys);
            std::fs::write(&mutated_file, malformed_json::serialize(&mut random, &keys)).unwrap();
            let _ = run.in_time(load_jwks(&Jwks::File(mutated_file.clone()))).await;
        }
        let pairs = (0..random.below(4)).map(|_| {
            let hash = match random.below(3) {
                0 => "ab".repeat(32),
                1 => random.mutated(&"ab".repeat(32)),
                _ => random.text(),
            };
            (random.text(), Secret::new(hash))
        });
        let _ = api_key_owners(&pairs.collect::<BTreeMap<_, _>>());
        let mut der = certificate.der().to_vec();
        random.mutate(&mut der);
        let der = CertificateDer::from(der);
        let _ = (certificate::identity(&der), leadsd_base::net::certificate::expires(&der));
    }
    println!("caller_credentials: {known} identified");
    let presented = PresentedCredentials {
        authorization: HeaderValue::One(format!("Bearer {good}").as_bytes().to_vec().leak()),
        api_key: HeaderValue::Absent,
        certificate: None,
    };
    let until = Instant::now() + Duration::from_secs(5);
    assert_eq!(
        auth.authenticate(presented, until).await.expect("the token is still valid").name(),
        "billing"
    );
}

fn auth(peers: &Peers, jwks: &std::path::Path) -> Authenticator {
    let config = leadsd::config::Loaded::new(None, peers.settings()).unwrap().config;
    let session = Session::start(&config.vault).unwrap();
    let settings = Settings {
        jwt: Some(Jwt {
            issuer: ISSUER.to_owned(),
            audience: "leadsd".to_owned(),
            jwks: Jwks::File(jwks.to_owned()),
            caller_claim: "sub".to_owned(),
        }),
        api_keys: Some(leadsd_credentials::SecretPath::parse("leadsd/api-keys").unwrap()),
        poll_interval: Duration::from_secs(1),
        store_timeout: Duration::from_secs(1),
        policy: BTreeMap::new(),
    };
    let store = KvStore::new(session, "secret", Duration::from_secs(1));
    Authenticator::start(settings, Arc::new(store), Arc::new(SystemClock))
}
