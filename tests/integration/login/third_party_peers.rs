//! Login with a real Chromium and a real OpenBao; `serve` uses the stored credential.

use std::{os::unix::fs::PermissionsExt as _, path::Path};

use leadsd::grpc::pb::{self, leads_service_client::LeadsServiceClient};
use leadsd_base::secret::SECRET_MARKER;
use leadsd_hubspot_fake::{Consent, READ, WRITE};
use leadsd_testkit::Process;

use super::{Setting, clicked, shown};
use crate::harness::LEADSD;
use crate::{harness::properties, openbao::OpenBao, real_peers::tool};

/// Folder of the screenshots.
fn artefacts() -> std::path::PathBuf {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/artefacts");
    std::fs::create_dir_all(&folder).unwrap();
    folder
}

/// Width and height of a PNG.
fn size(png: &[u8]) -> (u32, u32) {
    assert_eq!(&png[..8], b"\x89PNG\r\n\x1a\n", "it is a PNG");
    let number = |at: usize| u32::from_be_bytes(png[at..at + 4].try_into().unwrap());
    (number(16), number(20))
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs chromium"]
async fn a_real_chromium_goes_from_the_opened_url_to_the_last_page() {
    for (name, consent) in [("granted", Consent::Grants), ("refused", Consent::Denies)] {
        let setting = Setting::new().await;
        setting.hubspot.behave(|behaviour| behaviour.consent = consent);
        let picture = artefacts().join(format!("login-{name}.png"));
        // The file may exist from an earlier run.
        let _ = std::fs::remove_file(&picture);
        let (opener, dom) = (setting.folder.path().join("xdg-open"), setting.file("dom", ""));
        let script = format!(
            "#!/bin/sh\nexport HOME={home}\nexec {chromium} --headless=new --no-sandbox \
             --disable-gpu --no-first-run --user-data-dir={home}/profile --hide-scrollbars \
             --window-size=900,500 --virtual-time-budget=20000 --screenshot={picture} --dump-dom \
             \"$@\" > {dom}.part\n",
            home = setting.folder.path().display(),
            chromium = tool("LEADSD_TEST_CHROMIUM", "chromium").display(),
            picture = picture.display(),
            dom = dom.display(),
        );
        let script = script.replace("exec ", "") + &format!("mv {0}.part {0}\n", dom.display());
        std::fs::write(&opener, script).unwrap();
        std::fs::set_permissions(&opener, std::fs::Permissions::from_mode(0o755)).unwrap();
        let port = leadsd_testkit::unused_port().to_string();
        let redirect = format!("http://localhost:{port}/oauth-callback");
        let (id, secret) = setting.hubspot.register_app(&[&redirect]);
        let running = setting.start(&["--redirect-port", &port], &[&id, secret.expose()]);
        let ended = running.ended().await;
        let written = async {
            while std::fs::read_to_string(&dom).unwrap().trim().is_empty() {
                tokio::time::sleep(std::time::Duration::from_millis(50)).await;
            }
        };
        tokio::time::timeout(crate::harness::PATIENCE, written).await.expect("Chromium ends");
        let page = std::fs::read_to_string(&dom).unwrap();
        assert!(!page.contains(SECRET_MARKER), "{page}");
        if consent == Consent::Grants {
            ended.succeeded();
            assert!(page.contains("Logged in"), "{page}");
            assert!(setting.stored().is_some());
        } else {
            ended.failed_with(1, &["access was denied"]);
            assert!(page.contains("Access was not granted"), "{page}");
        }
        assert_eq!(size(&std::fs::read(&picture).unwrap()), (900, 500));
        let log = setting.hubspot.log();
        assert!(log.iter().any(|call| (call.method.as_str(), call.status) == ("POST", 303)));
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs bao (OpenBao)"]
async fn serve_works_with_what_login_stored_in_a_real_openbao() {
    let setting = Setting::new().await;
    let bao = OpenBao::start().await;
    let (role_id, secret_id) = bao.approle("1h").await;
    let (role_id, secret_id) =
        (setting.file("role-id", &role_id), setting.file("secret-id", &secret_id));
    let auth = format!(
        "method = \"approle\"\nrole_id_file = \"{}\"\nsecret_id_file = \"{}\"",
        role_id.display(),
        secret_id.display()
    );
    setting.configure(&bao.address, &auth);
    let contact = setting.hubspot.add_contact("ada@example.com");
    for (fixed, version) in [(true, 1), (false, 2)] {
        let ended = if fixed {
            let token = setting.hubspot.static_token(&[READ, WRITE]);
            setting.start(&["--static"], &[token.expose()]).ended().await
        } else {
            let (running, url) = setting.asking(&[]).await;
            assert_eq!(shown(&clicked(&url, "connect").await).await.0, 200);
            running.ended().await
        };
        ended.succeeded();
        assert!(ended.out.contains(&format!("version {version}")), "{ended:?}");
        let process = Process::serve(LEADSD, &setting.folder.path().join("leadsd.toml"), &[]);
        let grpc = process.ready().await;
        let mut leads = LeadsServiceClient::connect(format!("http://{grpc}")).await.unwrap();
        let request = pb::CreateLeadRequest {
            properties: properties(&[("hs_lead_name", "Jane")]),
            primary_contact_id: contact.clone(),
            ..Default::default()
        };
        let lead = leads.create_lead(request).await.unwrap().into_inner().lead.unwrap();
        assert_eq!(lead.properties["hs_lead_name"], "Jane");
        drop(leads);
        process.signal("TERM");
        let (code, log) = process.ended().await;
        assert_eq!(code, Some(0), "{log}");
        assert!(!log.contains(SECRET_MARKER), "a secret was logged: {log}");
    }
    // The login token of the command is revoked.
    let tokens = bao
        .call(reqwest::Method::GET, "auth/token/accessors?list=true", serde_json::Value::Null)
        .await;
    let accessors = tokens.unwrap()["data"]["keys"].as_array().unwrap().len();
    assert_eq!(accessors, 1, "the root token alone is left");
}
