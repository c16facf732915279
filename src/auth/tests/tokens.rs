//! Verification of bearer tokens: keys, algorithms and claims.

use std::sync::{Arc, LazyLock, atomic::Ordering};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode, jwk::Jwk};
use proptest::prelude::*;
use rcgen::{
    KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384, PKCS_ED25519, PKCS_RSA_SHA256,
};
use serde_json::{Value, json};
use tokio::{sync::watch, time::Instant};

use super::{ManualClock, NOW};
use crate::{
    auth::{
        AuthError,
        jwt::{JwtVerifier, RequiredClaims},
        key_set::KeySet,
    },
    config,
};

const ISSUER: &str = "https://kubernetes.default.svc.cluster.local";
const BILLING: &str = "system:serviceaccount:shop:billing";

/// Signing key with its algorithm.
struct Signer {
    id: &'static str,
    algorithm: Algorithm,
    key: EncodingKey,
    public: Vec<u8>,
}

// === impl Signer ===

impl Signer {
    #[expect(clippy::wildcard_enum_match_arm, reason = "all other algorithms sign with RSA keys")]
    fn new(id: &'static str, algorithm: Algorithm) -> Self {
        let kind = match algorithm {
            Algorithm::ES256 => &PKCS_ECDSA_P256_SHA256,
            Algorithm::ES384 => &PKCS_ECDSA_P384_SHA384,
            Algorithm::EdDSA => &PKCS_ED25519,
            _ => &PKCS_RSA_SHA256,
        };
        let pair = KeyPair::generate_for(kind).unwrap();
        let der = pair.serialize_der();
        let key = match algorithm {
            Algorithm::ES256 | Algorithm::ES384 => EncodingKey::from_ec_der(&der),
            Algorithm::EdDSA => EncodingKey::from_ed_der(&der),
            // The RSA key starts after 26 bytes of PKCS #8 header.
            _ => EncodingKey::from_rsa_der(&der[26..]),
        };
        Self { id, algorithm, key, public: pair.public_key_raw().to_vec() }
    }

    fn jwk(&self) -> Value {
        if self.algorithm == Algorithm::EdDSA {
            let x = URL_SAFE_NO_PAD.encode(&self.public);
            return json!({"kty": "OKP", "crv": "Ed25519", "alg": "EdDSA", "kid": self.id, "x": x});
        }
        let mut jwk = Jwk::from_encoding_key(&self.key, self.algorithm).unwrap();
        jwk.common.key_id = Some(self.id.to_owned());
        serde_json::to_value(jwk).unwrap()
    }

    fn sign(&self, claims: &Value) -> String {
        let header = Header { kid: Some(self.id.to_owned()), ..Header::new(self.algorithm) };
        encode(&header, claims, &self.key).unwrap()
    }
}

static RSA: LazyLock<Signer> = LazyLock::new(|| Signer::new("rsa", Algorithm::RS256));
static EC: LazyLock<Signer> = LazyLock::new(|| Signer::new("ec", Algorithm::ES256));
static EC384: LazyLock<Signer> = LazyLock::new(|| Signer::new("ec384", Algorithm::ES384));
static ED: LazyLock<Signer> = LazyLock::new(|| Signer::new("ed", Algorithm::EdDSA));

fn claims() -> Value {
    json!({"iss": ISSUER, "aud": ["leadsd"], "exp": NOW + 3_600, "nbf": NOW - 10, "iat": NOW - 10,
           "sub": BILLING})
}

fn expected() -> RequiredClaims {
    RequiredClaims {
        issuer: ISSUER.to_owned(),
        audience: "leadsd".to_owned(),
        caller_claim: "sub".to_owned(),
    }
}

/// Verifier with the keys of this file.
fn tokens(file: &tempfile::NamedTempFile) -> JwtVerifier {
    at_times(file, Arc::new(ManualClock(NOW.into())))
}

fn at_times(file: &tempfile::NamedTempFile, clock: Arc<ManualClock>) -> JwtVerifier {
    let config = config::Jwt {
        issuer: ISSUER.to_owned(),
        audience: "leadsd".to_owned(),
        jwks: config::Jwks::File(file.path().to_owned()),
        caller_claim: "sub".to_owned(),
    };
    JwtVerifier::start(config, clock, watch::Sender::default())
}

fn key_file(keys: &[Value]) -> tempfile::NamedTempFile {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), json!({ "keys": keys }).to_string()).unwrap();
    file
}

async fn identify(tokens: &JwtVerifier, token: &str) -> Result<String, AuthError> {
    let until = Instant::now() + std::time::Duration::from_secs(5);
    let found = tokens.verify(format!("Bearer {token}").as_bytes(), until).await;
    found.map(|identity| identity.name().to_owned())
}

#[tokio::test]
async fn tokens_of_every_public_key_algorithm_are_accepted() {
    let file = key_file(&[RSA.jwk(), EC.jwk(), EC384.jwk(), ED.jwk()]);
    let tokens = tokens(&file);
    for signer in [&RSA, &EC, &EC384, &ED] {
        let token = signer.sign(&claims());
        assert_eq!(identify(&tokens, &token).await.as_deref(), Ok(BILLING), "{}", signer.id);
        // The second verification uses the cache.
        assert_eq!(identify(&tokens, &token).await.as_deref(), Ok(BILLING));
        let mut broken = token.clone().into_bytes();
        let at = token.rfind('.').unwrap() - 5;
        broken[at] = if broken[at] == b'A' { b'B' } else { b'A' };
        let broken = String::from_utf8(broken).unwrap();
        assert!(matches!(identify(&tokens, &broken).await, Err(AuthError::Invalid(_))));
    }
}

#[tokio::test]
async fn a_token_without_a_key_id_is_tried_with_all_keys() {
    let file = key_file(&[EC.jwk(), RSA.jwk()]);
    let token = encode(&Header::new(RSA.algorithm), &claims(), &RSA.key).unwrap();
    assert_eq!(identify(&tokens(&file), &token).await.as_deref(), Ok(BILLING));
    let token = encode(&Header::new(ED.algorithm), &claims(), &ED.key).unwrap();
    assert!(identify(&tokens(&file), &token).await.is_err());
}

#[tokio::test]
async fn symmetric_and_none_algorithms_are_rejected() {
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let shared = Jwk::from_encoding_key(&EncodingKey::from_secret(b"known"), Algorithm::HS256);
    let mut shared = serde_json::to_value(shared.unwrap()).unwrap();
    shared["kid"] = json!("hmac");
    let file = key_file(&[RSA.jwk(), shared]);
    let tokens = tokens(&file);
    let unsigned = |algorithm: &str| {
        format!("{}.{}.", part(&json!({"alg": algorithm, "kid": "rsa"})), part(&claims()))
    };
    // The public key as the secret of an HMAC: the algorithm confusion attack.
    let public = serde_json::to_vec(&RSA.jwk()).unwrap();
    let modulus = URL_SAFE_NO_PAD.decode(RSA.jwk()["n"].as_str().unwrap()).unwrap();
    let mut forged = vec![unsigned("none"), unsigned("None"), unsigned("RS256"), unsigned("")];
    for (secret, id) in [(&public[..], "rsa"), (&modulus, "rsa"), (b"known", "hmac")] {
        let header = Header { kid: Some(id.to_owned()), ..Header::new(Algorithm::HS256) };
        forged.push(encode(&header, &claims(), &EncodingKey::from_secret(secret)).unwrap());
    }
    let header = Header {
        kid: Some("rsa".to_owned()),
        crit: Some(vec!["b64".to_owned()]),
        ..Header::new(RSA.algorithm)
    };
    forged.push(encode(&header, &claims(), &RSA.key).unwrap());
    // Another key with the same id, and the right key with another id.
    let other = Signer { id: "rsa", ..Signer::new("rsa", Algorithm::RS256) };
    forged.push(other.sign(&claims()));
    forged.push(EC.sign(&claims()));
    for text in ["", "a", "a.b", "a.b.c", "..", "a.b.c.d", &part(&claims())] {
        forged.push(text.to_owned());
    }
    for token in forged {
        let found = identify(&tokens, &token).await;
        assert!(matches!(found, Err(AuthError::Invalid(_))), "{token}: {found:?}");
    }
    assert!(identify(&tokens, &RSA.sign(&claims())).await.is_ok());
}

#[test]
fn every_claim_is_checked() {
    let checked = |change: &dyn Fn(&mut Value)| {
        let mut claims = claims();
        change(&mut claims);
        let Value::Object(claims) = claims else { unreachable!("claims are an object") };
        expected().check(&claims, NOW as f64).map(|good| good.identity.name().to_owned())
    };
    let without = |claim: &'static str| {
        move |claims: &mut Value| {
            claims.as_object_mut().unwrap().remove(claim);
        }
    };
    let with = |claim: &'static str, value: Value| {
        move |claims: &mut Value| {
            claims[claim] = value.clone();
        }
    };
    for valid in [
        with("aud", json!("leadsd")),
        with("aud", json!(["a", "leadsd"])),
        with("exp", json!(NOW as f64 + 0.5)),
        // Within the tolerated clock offset.
        with("exp", json!(NOW - 29)),
        with("nbf", json!(NOW + 29)),
    ] {
        assert_eq!(checked(&valid).as_deref(), Ok(BILLING));
    }
    assert!(checked(&without("nbf")).is_ok() && checked(&without("iat")).is_ok());
    for (change, why) in [
        (
            with("iss", json!("https://kubernetes.default.svc.cluster.local/")),
            "another issuer (iss)",
        ),
        (with("iss", json!([ISSUER])), "another issuer (iss)"),
        (with("aud", json!("leadsd2")), "another audience (aud)"),
        (with("aud", json!(["https://kubernetes.default.svc"])), "another audience (aud)"),
        (with("aud", json!([["leadsd"]])), "another audience (aud)"),
        (with("aud", json!({"leadsd": 1})), "another audience (aud)"),
        (with("exp", json!(NOW - 30)), "has expired"),
        (with("exp", json!(0)), "has expired"),
        (with("exp", json!((NOW + 3_600).to_string())), "no expiry (exp)"),
        (with("nbf", json!(NOW + 31)), "not valid yet"),
        (with("nbf", json!("soon")), "not valid yet"),
        (with("sub", json!("")), "no valid caller name"),
        (with("sub", json!("a b")), "no valid caller name"),
        (with("sub", json!("billing\n")), "no valid caller name"),
        (with("sub", json!(7)), "no valid caller name"),
    ] {
        let Err(AuthError::Invalid(text)) = checked(&change) else { panic!("{why}") };
        assert!(text.contains(why), "{text} is not {why}");
    }
    for (claim, why) in [
        ("iss", "another issuer (iss)"),
        ("aud", "another audience (aud)"),
        ("exp", "no expiry (exp)"),
        ("sub", "no valid caller name"),
    ] {
        let Err(AuthError::Invalid(text)) = checked(&without(claim)) else { panic!("{claim}") };
        assert!(text.contains(why), "{text} is not {why}");
    }
    let named = RequiredClaims { caller_claim: "client_id".to_owned(), ..expected() };
    let claims = json!({"iss": ISSUER, "aud": "leadsd", "exp": NOW, "client_id": "billing"});
    let good = named.check(claims.as_object().unwrap(), NOW as f64).unwrap();
    assert_eq!(good.identity.name(), "billing");
}

#[tokio::test]
async fn the_scheme_must_be_bearer() {
    let file = key_file(&[EC.jwk()]);
    let tokens = tokens(&file);
    let token = EC.sign(&claims());
    let until = Instant::now() + std::time::Duration::from_secs(5);
    for valid in [format!("Bearer {token}"), format!("bearer   {token}")] {
        assert!(tokens.verify(valid.as_bytes(), until).await.is_ok());
    }
    for bad in [token.clone(), format!("Basic {token}"), "Bearer".to_owned(), "Bearer ".to_owned()]
    {
        let found = tokens.verify(bad.as_bytes(), until).await;
        assert!(matches!(found, Err(AuthError::Invalid(_))), "{bad}");
    }
    assert!(tokens.verify(b"Bearer \xff", until).await.is_err());
}

#[test]
fn keys_for_other_uses_are_skipped() {
    let keys = |change: &dyn Fn(&mut Value)| {
        let mut jwk = RSA.jwk();
        change(&mut jwk);
        KeySet::parse(json!({"keys": [jwk, {"kty": "future"}, 7]}).to_string().as_bytes())
            .unwrap()
            .0
    };
    assert_eq!(keys(&|_| {}).len(), 1);
    let unnamed = keys(&|jwk| drop(jwk.as_object_mut().unwrap().remove("alg")));
    assert_eq!(unnamed[0].validation.algorithms.len(), 6);
    assert_eq!(
        keys(&|jwk| jwk["alg"] = json!("PS256"))[0].validation.algorithms,
        [Algorithm::PS256]
    );
    for (field, value) in [
        ("use", json!("enc")),
        ("key_ops", json!(["encrypt"])),
        ("alg", json!("HS256")),
        ("alg", json!("ES256")),
        ("alg", json!("RSA-OAEP")),
        ("kty", json!("oct")),
        ("n", json!("%")),
    ] {
        let left = keys(&|jwk| jwk[field] = value.clone());
        assert!(left.is_empty(), "{field} {value}");
    }
    for invalid in ["", "[]", "{}", "{\"keys\": {}}", "<html>"] {
        assert!(KeySet::parse(invalid.as_bytes()).is_err(), "{invalid}");
    }
    // An empty key set is valid and rejects every token.
    assert!(KeySet::parse(b"{\"keys\": []}").unwrap().0.is_empty());
}

#[tokio::test]
async fn a_cached_token_is_rejected_after_its_expiry_and_after_a_key_rotation() {
    let (file, clock) = (key_file(&[EC.jwk()]), Arc::new(ManualClock(NOW.into())));
    let tokens = at_times(&file, Arc::clone(&clock));
    let token = EC.sign(&claims());
    for (now, good) in [(NOW, true), (NOW + 3_629, true), (NOW + 3_630, false), (NOW, true)] {
        clock.0.store(now, Ordering::Relaxed);
        assert_eq!(identify(&tokens, &token).await.is_ok(), good, "{now}");
    }
    assert!(identify(&tokens, &token).await.is_ok());
    std::fs::write(file.path(), json!({"keys": [RSA.jwk()]}).to_string()).unwrap();
    let withdrawn = async {
        while identify(&tokens, &token).await.is_ok() {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(10), withdrawn).await.expect("in time");
    assert!(identify(&tokens, &RSA.sign(&claims())).await.is_ok());
}

#[tokio::test]
async fn without_keys_a_token_is_unavailable() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let found = identify(&tokens(&file), &EC.sign(&claims())).await;
    assert!(matches!(found, Err(AuthError::Unavailable(_))), "{found:?}");
}

proptest! {
    #[test]
    fn no_key_set_and_no_token_panics(
        bytes in prop::collection::vec(any::<u8>(), 0..200),
        text in "(\\{\"keys\":\\[\\{(\"[a-z]{1,3}\":(\"[A-Za-z0-9_-]{0,9}\"|[0-9]{1,3}|null),?){0,5}\\}\\]\\})|[A-Za-z0-9_.-]{0,60}",
        claims in prop::collection::btree_map("(iss|aud|exp|nbf|sub)", "[ -~]{0,20}", 0..5),
        number in any::<f64>(),
    ) {
        let _ = (KeySet::parse(&bytes), KeySet::parse(text.as_bytes()));
        let keys = KeySet::parse(json!({"keys": [EC.jwk(), RSA.jwk()]}).to_string().as_bytes()).unwrap();
        for token in [text.as_str(), &String::from_utf8_lossy(&bytes)] {
            prop_assert!(crate::auth::jwt::verified_claims(&keys, token).is_none());
        }
        let mut claims = json!(claims);
        claims["exp"] = json!(number);
        let _ = expected().check(claims.as_object().unwrap(), NOW as f64);
    }
}
