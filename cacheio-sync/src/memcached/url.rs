//! A server, or several, named by a URL.

use cacheio_core::__private::{CacheUrl, parse_duration, percent_decode};

use super::builder::MemcachedBuilder;
use crate::{Error, ErrorKind, Result};

/// The schemes that name a store of this kind.
pub(super) const SCHEMES: &[&str] = &["memcache", "memcache+unix", "memcache+tls"];

/// Its own parameters.
pub(super) const PARAMETERS: &[&str] = &["timeout", "pool", "ca", "cert", "key"];

/// What a URL says, without building it.
pub(super) fn builder(url: &mut CacheUrl<'_>) -> Result<MemcachedBuilder> {
    let mut builder = MemcachedBuilder::default();
    let (credentials, place) = match url.rest() {
        path if path.starts_with('/') => (None, path),
        rest => match rest.rsplit_once('@') {
            Some((credentials, place)) => (Some(credentials), place),
            None => (None, rest),
        },
    };
    if let Some(credentials) = credentials {
        let (user, password) = credentials
            .split_once(':')
            .and_then(|(user, password)| Some((decoded(user)?, decoded(password)?)))
            .ok_or_else(|| {
                config("what stands before the `@` of a memcache:// URL is `user:password`, percent-encoded")
            })?;
        builder = builder.credentials(user, password);
    }
    if place.starts_with('/') {
        #[cfg(unix)]
        {
            let path = decoded(place).ok_or_else(|| {
                config("the path of a memcache:// URL is not valid percent-encoding")
            })?;
            builder = builder.unix_socket(path);
        }
        #[cfg(not(unix))]
        return Err(config("there are no unix sockets on this system"));
    } else if url.scheme() == "memcache+unix" {
        return Err(config(
            "a memcache+unix:// URL names a path: memcache+unix:///run/memcached.sock",
        ));
    } else {
        for server in place.strip_suffix('/').unwrap_or(place).split(',') {
            builder = builder.server(server);
        }
    }
    if let Some(timeout) = url.take("timeout") {
        let timeout = parse_duration(&timeout);
        builder = builder.timeout(timeout.map_err(|expected| url.invalid("timeout", expected))?);
    }
    if let Some(pool) = url.take("pool") {
        let pool = pool.parse();
        builder =
            builder.pool_size(pool.map_err(|_| url.invalid("pool", "a number of connections"))?);
    }
    tls(url, builder)
}

#[cfg(feature = "memcached-tls")]
fn tls(url: &mut CacheUrl<'_>, mut builder: MemcachedBuilder) -> Result<MemcachedBuilder> {
    if url.scheme() != "memcache+tls" {
        return no_tls(url, builder);
    }
    builder = builder.tls();
    if let Some(path) = url.take("ca") {
        builder = builder.tls_ca(path);
    }
    match (url.take("cert"), url.take("key")) {
        (None, None) => Ok(builder),
        (Some(certificate), Some(key)) => Ok(builder.tls_identity(certificate, key)),
        _ => Err(config(
            "`cert` and `key` of a memcache+tls:// URL go together",
        )),
    }
}

#[cfg(not(feature = "memcached-tls"))]
fn tls(url: &mut CacheUrl<'_>, builder: MemcachedBuilder) -> Result<MemcachedBuilder> {
    if url.scheme() == "memcache+tls" {
        return Err(config("memcache+tls:// needs the feature `memcached-tls`"));
    }
    no_tls(url, builder)
}

fn no_tls(url: &mut CacheUrl<'_>, builder: MemcachedBuilder) -> Result<MemcachedBuilder> {
    for parameter in ["ca", "cert", "key"] {
        if url.take(parameter).is_some() {
            return Err(config(format!(
                "the parameter `{parameter}` is for memcache+tls:// URLs"
            )));
        }
    }
    Ok(builder)
}

fn config(message: impl Into<std::borrow::Cow<'static, str>>) -> Error {
    Error::new(ErrorKind::Config, message)
}

fn decoded(text: &str) -> Option<String> {
    percent_decode(text.as_bytes())
}
