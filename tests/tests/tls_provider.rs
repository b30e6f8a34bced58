//! TLS to servers leaves the choice of the process' cryptography provider to the program.

#![cfg(not(shuttle))]

use std::net::{SocketAddr, TcpListener};
use std::process::Command;

use cacheio_sync::Cache;
use cacheio_tests::servers;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::crypto::{CryptoProvider, ring};

const URL: &str = "CACHEIO_TEST_URL";

/// A process of its own, because the provider is the process', and because the trusted authorities
/// are read from its environment.
#[test]
fn tls_installs_no_provider_for_the_process() {
    let folder = std::env::temp_dir().join(format!("cacheio-provider-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let file = |name: &str, text: &str| {
        let path = folder.join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let mut authority = CertificateParams::default();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(authority, KeyPair::generate().unwrap()).unwrap();
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new(["127.0.0.1".to_owned()])
        .unwrap()
        .signed_by(&key, &authority)
        .unwrap();
    let authority = file("ca.pem", &authority.pem());
    let address = free_address();
    let _server = servers::Redis::start_with(&[
        "--tls-port",
        &address.port().to_string(),
        "--tls-cert-file",
        &file("server.pem", &certificate.pem()),
        "--tls-key-file",
        &file("server.key", &key.serialize_pem()),
        "--tls-ca-cert-file",
        &authority,
        "--tls-auth-clients",
        "no",
    ]);
    let status = Command::new(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", "program"])
        .env("SSL_CERT_FILE", &authority)
        .env(URL, format!("rediss://{address}"))
        .status()
        .unwrap();
    assert!(status.success());
    let _ = std::fs::remove_dir_all(&folder);
}

#[test]
#[ignore = "the program that `tls_installs_no_provider_for_the_process` runs"]
fn program() {
    let cache = Cache::from_url(&std::env::var(URL).unwrap()).unwrap();
    cache.set("k", 5).unwrap();
    assert_eq!(cache.get::<i32>("k").unwrap(), Some(5));
    assert!(CryptoProvider::get_default().is_none());
    ring::default_provider().install_default().unwrap();
    let other = Cache::from_url(&std::env::var(URL).unwrap()).unwrap();
    assert_eq!(other.get::<i32>("k").unwrap(), Some(5));
}

fn free_address() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap()
}
