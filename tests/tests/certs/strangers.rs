//! Those who should not get in, and answers that should not be believed.

use std::sync::Arc;

use keyvigil_agent::http::{Connection, Dialer};
use keyvigil_agent::identity::Identity;
use keyvigil_aggregator::authority::Authority;
use keyvigil_common::stop::{Stop, Tasks};
use keyvigil_common::tls;
use keyvigil_tests::host::tool;
use rcgen::{BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, SanType};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::host::World;

/// A certificate for `names` and `usage`, by a CA.
fn leaf(ca: &Issuer<'_, KeyPair>, names: &[&str], usage: ExtendedKeyUsagePurpose, now_ms: i64) -> (CertificateDer<'static>, PrivateKeyDer<'static>) {
    let key = KeyPair::generate().expect("a key");
    let mut params = CertificateParams::default();
    let date = |ms: i64| std::time::UNIX_EPOCH + std::time::Duration::from_millis(ms.unsigned_abs());
    (params.not_before, params.not_after) = (date(now_ms - 1_000).into(), date(now_ms + 86_400_000).into());
    params.subject_alt_names = names.iter().map(|name| SanType::URI((*name).try_into().expect("a name"))).collect();
    params.extended_key_usages = vec![usage];
    params.use_authority_key_identifier_extension = true;
    let certificate = params.signed_by(&key, ca).expect("signed");
    let key = PrivateKeyDer::from_pem_slice(key.serialize_pem().as_bytes()).expect("a key");
    (certificate.der().clone(), key)
}

#[tokio::test(flavor = "multi_thread")]
async fn certificates_of_the_wrong_use_name_or_ca_are_refused_and_older_tls_too() {
    let world = World::start(|_| {}).await;
    let host = world.host("web-1").await;
    let (identity, clock, now) = (host.identity(), world.clock.shared(), world.clock.now());
    let own = format!("spiffe://keyvigil/default/agent/{}", identity.agent);
    let pki = world.harness.running().endpoints.dir.join("pki");
    let stored: serde_json::Value = serde_json::from_slice(&std::fs::read(pki.join("authority.json")).expect("the CA")).expect("JSON");
    let text = |name: &str| stored["cas"][0][name].as_str().expect("PEM").to_owned();
    let real = Issuer::from_ca_cert_pem(&text("certificate"), KeyPair::from_pem(&text("key")).expect("a key")).expect("the CA");
    let mut foreign = CertificateParams::default();
    foreign.distinguished_name.push(DnType::CommonName, "Keyvigil CA");
    foreign.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    foreign.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    let foreign = Issuer::new(foreign, KeyPair::generate().expect("a key"));
    let client = || ExtendedKeyUsagePurpose::ClientAuth;
    let other = format!("spiffe://keyvigil/elsewhere/agent/{}", identity.agent);
    let tried = [
        ("it is as it should be", leaf(&real, &[&own], client(), now), true),
        ("wrong use", leaf(&real, &[&own], ExtendedKeyUsagePurpose::ServerAuth, now), false),
        ("no name", leaf(&real, &[], client(), now), false),
        ("two names", leaf(&real, &[&own, &other], client(), now), false),
        ("another tenant's name", leaf(&real, &[&other], client(), now), false),
        ("an unknown agent", leaf(&real, &["spiffe://keyvigil/default/agent/nobody"], client(), now), false),
        ("a foreign CA", leaf(&foreign, &[&own], client(), now), false),
        ("wrong use, ended", leaf(&real, &[&own], ExtendedKeyUsagePurpose::ServerAuth, now - 3 * 86_400_000), false),
        ("a foreign CA, ended", leaf(&foreign, &[&own], client(), now - 3 * 86_400_000), false),
    ];
    let roots = [CertificateDer::from_pem_slice(identity.ca.as_bytes()).expect("a CA")];
    let tasks = Tasks::new(Stop::new());
    for (what, (certificate, key), good) in tried {
        let config = Arc::new(tls::client_config(&roots, vec![certificate], key, &clock).expect("TLS"));
        let answer = async {
            let mut connection = Connection::open(&Dialer::tcp(), &world.harness.ingest_address(), config, &tasks).await?;
            connection.post("/v1/push", "application/octet-stream", b"nonsense".to_vec()).await
        };
        let status = answer.await.map(|answer| answer.status.as_u16());
        // What comes in is told that its body is none; all others see no more than a closed door.
        assert_eq!(matches!(status, Ok(400)), good, "{what}: {status:?}");
        assert!(matches!(status, Ok(400 | 403) | Err(_)), "{what}: {status:?}");
    }
    let metrics = reqwest::get(&world.harness.running().endpoints.metrics_url).await.expect("metrics").text().await.expect("text");
    let refused = |reason: &str| metrics.contains(&format!("keyvigil_tls_refused_total{{reason=\"{reason}\"}} 2\n"));
    assert!(refused("wrong_purpose") && refused("unknown_ca") && refused("no_identity"), "they are counted by reason: {metrics}");
    let address = world.harness.ingest_address();
    let old = tokio::task::spawn_blocking(move || {
        let out = std::process::Command::new("openssl").args(["s_client", "-connect", &address, "-tls1_2"]).stdin(std::process::Stdio::null()).output();
        let out = out.expect("openssl");
        (out.status.success(), String::from_utf8_lossy(&out.stderr).into_owned())
    });
    let (connected, says) = old.await.expect("it ended");
    assert!(!connected && says.contains("alert"), "{says}");
    assert!(tool(std::path::Path::new("/"), "openssl version").contains("OpenSSL"));
}

/// Answers every request in the aggregator's name with `status` and `code`.
async fn false_aggregator(tasks: &Tasks, chain: Vec<CertificateDer<'static>>, key: PrivateKeyDer<'static>, answers: Vec<String>) -> String {
    let mut config = tls::web_config(chain, key).expect("TLS");
    config.alpn_protocols.clear();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address").to_string();
    tasks.spawn_short("false aggregator", async move {
        for at in 0.. {
            let Ok((stream, _)) = listener.accept().await else { return };
            let Ok(mut stream) = acceptor.accept(stream).await else { continue };
            let mut some = [0; 4_096];
            let _ = stream.read(&mut some).await;
            let _ = stream.write_all(answers[at % answers.len()].as_bytes()).await;
            let _ = stream.shutdown().await;
        }
    });
    address
}

#[tokio::test(flavor = "multi_thread")]
async fn refusals_however_often_they_come_cost_neither_key_nor_data() {
    let world = World::start(|_| {}).await;
    let mut host = world.host("web-1").await;
    let before = std::fs::read(Identity::path(&host.config.state_dir)).expect("an identity");
    let ca = Authority::load_or_create(&world.harness.running().endpoints.dir.join("pki"), world.clock.now()).expect("the CA");
    let server = ca.server_identity(&[], world.clock.now()).expect("a certificate");
    let answer = |status: &str, code: &str| {
        let body = format!("{{\"detail\":\"go away\",\"code\":\"{code}\"}}");
        format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}", body.len())
    };
    let answers = vec![
        answer("401 Unauthorized", ""),
        answer("403 Forbidden", "revoked"),
        answer("403 Forbidden", "unknown"),
        answer("403 Forbidden", "expired"),
        answer("404 Not Found", "duplicate"),
        answer("500 Internal Server Error", ""),
    ];
    host.link.lead_to(&false_aggregator(&Tasks::new(Stop::new()), server.chain, server.key, answers).await);
    host.run();
    world.until("it has heard of it", || async { host.trouble() }).await;
    world.until("and more than once", || async { (host.waiting() > 30).then_some(()) }).await;
    assert_eq!(std::fs::read(Identity::path(&host.config.state_dir)).expect("an identity"), before, "its key is where it was");
    host.link.lead_to(&world.harness.ingest_address());
    world.until("all of it arrives", || async { host.delivered(&world).await }).await;
    assert_eq!(world.gaps().await, serde_json::json!([]), "nothing was given up");
    world.until("and it says that all is well", || async { host.trouble().is_none().then_some(()) }).await;
}
