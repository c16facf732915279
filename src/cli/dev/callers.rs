//! Callers of `leadsd dev --auth`: an API key, and a client certificate of a CA that exists for this run.

use std::{io, net::IpAddr, path::PathBuf};

use aws_lc_rs::digest::{SHA256, digest};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, KeyUsagePurpose, SanType,
};
use serde_json::json;

use super::folder::Folder;
use leadsd_base::secret::Secret;
use leadsd_vault_fake::FakeVault;

/// Names of the callers: that of the API key, and that of the certificate.
pub(super) const POLICY_CALLERS: [&str; 2] = ["dev-key", "dev-certificate"];

/// Credentials of callers, and the certificate of the server.
pub(super) struct Callers {
    pub(super) api_key: Secret,
    pub(super) ca: PathBuf,
    pub(super) server_cert: PathBuf,
    pub(super) server_key: PathBuf,
    pub(super) client_cert: PathBuf,
    pub(super) client_key: PathBuf,
}

// === impl Callers ===

impl Callers {
    /// Path of the secret with the hash of the API key.
    pub(super) const SECRET: &'static str = "leadsd/api-keys";

    /// Creates the credentials. The address is that of the gRPC port.
    pub(super) fn new(folder: &Folder, vault: &FakeVault, address: IpAddr) -> io::Result<Self> {
        let random = URL_SAFE_NO_PAD.encode(rand::random::<[u8; 32]>());
        let api_key = Secret::new(format!("dev-{random}"));
        let hash = digest(&SHA256, api_key.expose().as_bytes());
        let hash: String = hash.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
        let [by_key, by_certificate] = POLICY_CALLERS;
        vault.put(Self::SECRET, json!({ by_key: hash }));
        let certificates = || -> Result<_, rcgen::Error> {
            let mut params = CertificateParams::new(Vec::new())?;
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
            params.distinguished_name.push(DnType::CommonName, "leadsd dev");
            let ca = CertifiedIssuer::self_signed(params, KeyPair::generate()?)?;
            let server =
                sign(&ca, &["localhost"], Some(address), ExtendedKeyUsagePurpose::ServerAuth)?;
            let client = sign(&ca, &[by_certificate], None, ExtendedKeyUsagePurpose::ClientAuth)?;
            Ok((ca.pem(), server, client))
        };
        let (ca, server, client) = certificates().map_err(io::Error::other)?;
        Ok(Self {
            api_key,
            ca: folder.write("ca.pem", &ca)?,
            server_cert: folder.write("server.pem", &server.0)?,
            server_key: folder.write("server-key.pem", &server.1)?,
            client_cert: folder.write("client.pem", &client.0)?,
            client_key: folder.write("client-key.pem", &client.1)?,
        })
    }
}

/// Certificate and key as PEM.
fn sign(
    ca: &CertifiedIssuer<'_, KeyPair>,
    names: &[&str],
    address: Option<IpAddr>,
    usage: ExtendedKeyUsagePurpose,
) -> Result<(String, String), rcgen::Error> {
    let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
    let mut params = CertificateParams::new(names)?;
    params.subject_alt_names.extend(address.map(SanType::IpAddress));
    params.extended_key_usages = vec![usage];
    let key = KeyPair::generate()?;
    let certificate = params.signed_by(&key, ca)?;
    Ok((certificate.pem(), key.serialize_pem()))
}
