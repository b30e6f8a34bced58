//! URLs: what they set, and how invalid ones are rejected.

use cacheio_sync::{ErrorKind, Memcached};

#[test]
fn an_invalid_url_is_an_error_that_never_shows_the_password() {
    for url in [
        "memcache://",
        "memcache://user@host",
        "memcache://user:secret@",
        "memcache://user:secret@host:port",
        "memcache://user:secret%zz@host",
        "memcache://:secret@host",
        "memcache://user:secret@host/0",
        "memcache://user:secret@host,",
        "memcache://user:secret@host,host:11211",
        "memcache://user:secret@host?timeout=soon",
        "memcache://user:secret@host?timeout=0",
        "memcache://user:secret@host?connections=0",
        "memcache://user:secret@host?connections=many",
        "memcache://user:secret@host?retries=3",
        "memcache+unix://user:secret@host",
        "redis://user:secret@host",
        "user:secret@host",
    ] {
        let error = Memcached::new(url).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config, "{url}");
        assert!(
            !format!("{error} {error:?}").contains("secret"),
            "{error:?}"
        );
    }
}

#[test]
fn a_url_sets_the_servers_and_the_timeout() {
    let shown = |url| format!("{:?}", Memcached::new(url).unwrap());
    assert_eq!(
        shown("memcache://user:secret@a,b:1,[::1],[::1]:2/?timeout=250ms&connections=4"),
        "Memcached { servers: [a:11211, b:1, [::1]:11211, [::1]:2], timeout: 250ms }"
    );
    assert_eq!(
        shown("memcache:///run/mem%20cached.sock"),
        "Memcached { servers: [/run/mem cached.sock], timeout: 1s }"
    );
}
