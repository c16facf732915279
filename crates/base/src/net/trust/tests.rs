//! Files with CAs: reading, errors and reloads.

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};

use super::*;

struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    fn issue(&self, name: &str) -> CertificateDer<'static> {
        let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        params.signed_by(&KeyPair::generate().unwrap(), &self.0).unwrap().into()
    }
}

fn verifies(trust: &Trust, certificate: &CertificateDer<'_>) -> bool {
    let name = ServerName::try_from("api.test").unwrap();
    trust.verify_server_cert(certificate, &[], &name, &[], UnixTime::now()).is_ok()
}

#[test]
fn a_file_that_is_missing_empty_or_malformed_is_an_error_that_names_the_key() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ca.pem");
    let good = Authority::new().0.pem();
    let leaf = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    let error = |text: Option<&str>| {
        // A previous case may have left none.
        let _ = fs::remove_file(&path);
        if let Some(text) = text {
            fs::write(&path, text).unwrap();
        }
        let read = CaSource::file("egress.ca_files", &path).read();
        read.map_or_else(|error| error.to_string(), |found| format!("{} found", found.len()))
    };
    for (text, expected) in [
        (None, "cannot be read: the file does not exist"),
        (Some(""), "contains no certificates"),
        (Some("hush"), "contains no certificates"),
        (Some("-----BEGIN CERTIFICATE-----\nhush"), "is not a PEM file"),
        (Some("-----BEGIN CERTIFICATE-----\n%%%\n-----END CERTIFICATE-----"), "is not a PEM file"),
        (Some(leaf), "contains an invalid certificate (number 1)"),
        (Some(&format!("{good}{leaf}")), "contains an invalid certificate (number 2)"),
    ] {
        let said = error(text);
        assert_eq!(said, format!("egress.ca_files: {} {expected}", path.display()));
    }
    assert_eq!(error(Some(&format!("# A comment.\n{good}\n{good}"))), "2 found");
    let said = CaSource::file("egress.ca_files", folder.path()).read().unwrap_err().to_string();
    assert!(said.ends_with("is not a file"), "{said}");
    fs::write(&path, vec![b'\n'; usize::try_from(MAX_BYTES).unwrap() + 1]).unwrap();
    let said = CaSource::file("egress.ca_files", &path).read().unwrap_err().to_string();
    assert!(said.ends_with("bytes"), "{said}");
}

#[test]
fn a_bundle_and_a_directory_skip_what_is_no_certificate() {
    let folder = tempfile::tempdir().unwrap();
    let leaf = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    let source = |name: &str, kind| {
        let path = folder.path().join(name);
        CaSource { key: "SSL_CERT_DIR".to_owned(), path, kind }
    };
    let directory = source("", CaSourceKind::Directory);
    assert!(directory.read().unwrap_err().to_string().ends_with("contains no certificates"));
    fs::create_dir(folder.path().join("java")).unwrap();
    fs::write(folder.path().join("README"), "hush").unwrap();
    fs::write(folder.path().join("broken.pem"), leaf).unwrap();
    fs::write(folder.path().join("a.pem"), format!("{leaf}{}", Authority::new().0.pem())).unwrap();
    std::os::unix::fs::symlink("a.pem", folder.path().join("12345678.0")).unwrap();
    assert_eq!(directory.read().unwrap().len(), 2, "the certificate and the link to it");
    assert_eq!(source("a.pem", CaSourceKind::Bundle).read().unwrap().len(), 1);
    let missing = source("missing", CaSourceKind::Directory).read().unwrap_err().to_string();
    assert!(missing.starts_with("SSL_CERT_DIR: "), "{missing}");
}

#[tokio::test(start_paused = true)]
async fn a_changed_file_is_read_again_and_an_invalid_one_is_not_used() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ca.pem");
    let (old, new) = (Authority::new(), Authority::new());
    fs::write(&path, old.0.pem()).unwrap();
    let sources = vec![CaSource::file("vault.ca_file", &path)];
    let trust = Trust::load(sources.clone()).unwrap();
    let (by_old, by_new) = (old.issue("api.test"), new.issue("api.test"));
    assert!(verifies(&trust, &by_old) && !verifies(&trust, &by_new));
    assert!(!verifies(&trust, &old.issue("other.test")), "the name counts");
    let all = roots(&sources).unwrap().len();
    assert!(all > 100 && all == public_roots().len() + 1, "beside the public CAs: {all}");
    // Half of a file: the previous CAs stay in use.
    fs::write(&path, "-----BEGIN CERTIFICATE-----\n").unwrap();
    tokio::time::advance(MIN_INTERVAL).await;
    assert!(verifies(&trust, &by_old));
    fs::remove_file(&path).unwrap();
    tokio::time::advance(MIN_INTERVAL).await;
    assert!(verifies(&trust, &by_old));
    fs::write(&path, format!("{}{}", old.0.pem(), new.0.pem())).unwrap();
    tokio::time::advance(MIN_INTERVAL).await;
    assert!(verifies(&trust, &by_new) && verifies(&trust, &by_old));
    fs::write(&path, new.0.pem()).unwrap();
    tokio::time::advance(MIN_INTERVAL).await;
    assert!(verifies(&trust, &by_new) && !verifies(&trust, &by_old), "the old CA was removed");
}

#[test]
fn without_files_all_clients_share_one_verifier() {
    let [one, other] = [(); 2].map(|()| Trust::load(Vec::new()).unwrap());
    assert!(Arc::ptr_eq(&one, &other));
}
