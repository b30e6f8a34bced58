//! TLS, with an authority of the user's own.

use cacheio_async::Redis;
use cacheio_tests::servers::{self, Reply};

use crate::support::{free_port, get, run, set};

#[test]
fn tls_needs_only_the_certificate_authority() {
    use redis::{Client, TlsCertificates};

    let folder = std::env::temp_dir().join(format!("cacheio-tls-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let file = |name: &str, text: &str| {
        let path = folder.join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let (authority, certificate, key) = certificates();
    let authority_file = file("ca.pem", &authority);
    let certificate_file = file("server.pem", &certificate);
    let key_file = file("server.key", &key);
    let port = free_port().to_string();
    let server = servers::Redis::start_with(&[
        "--tls-port",
        &port,
        "--tls-cert-file",
        &certificate_file,
        "--tls-key-file",
        &key_file,
        "--tls-ca-cert-file",
        &authority_file,
        "--tls-auth-clients",
        "no",
    ]);
    run(async {
        let url = format!("rediss://127.0.0.1:{port}");
        let certificates = TlsCertificates {
            client_tls: None,
            root_cert: Some(authority.into_bytes()),
        };
        let client = Client::build_with_tls(url.as_str(), certificates).unwrap();
        let trusting = Redis::from_client(client);
        set(&trusting, "k", "v").await.unwrap();
        assert_eq!(get(&trusting, "k").await.unwrap().as_deref(), Some("v"));
        assert_eq!(server.run("EXISTS k"), Reply::Integer(1));
        server.kill();
        server.restart();
        assert_eq!(get(&trusting, "k").await.unwrap(), None);
        // Without the authority, which this machine does not know.
        let untrusting = Redis::new(&url).unwrap();
        assert!(get(&untrusting, "k").await.is_err());
    });
    let _ = std::fs::remove_dir_all(&folder);
}

/// Creates an authority, its certificate for this machine, and the key of the certificate.
fn certificates() -> (String, String, String) {
    use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};

    let mut authority = CertificateParams::default();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(authority, KeyPair::generate().unwrap()).unwrap();
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new(["127.0.0.1".to_owned()])
        .unwrap()
        .signed_by(&key, &authority)
        .unwrap();
    (authority.pem(), certificate.pem(), key.serialize_pem())
}
