//! Memcached URLs: what their parts and parameters set in a builder.

use cacheio_core::__private::{CacheUrl, parse_duration, percent_decode};

use super::builder::{MemcachedBuilder, config_error};
use crate::Result;

pub(super) const PARAMETERS: &[&str] = &["timeout", "connections", "ca", "cert", "key"];

/// Creates a builder from a URL, and takes the parameters out of it.
pub(super) fn parse(url: &mut CacheUrl<'_>) -> Result<MemcachedBuilder> {
    let mut builder = MemcachedBuilder::default();
    let rest = url.rest();
    let servers = match rest.rsplit_once('@') {
        // What is before an `@` is never shown, also if it looks like a path.
        Some((credentials, servers)) => {
            let (user, password) = parse_credentials(credentials)?;
            builder = builder.credentials(user, password);
            servers
        }
        None => rest,
    };
    builder = add_servers(builder, url.scheme(), servers)?;
    if let Some(timeout) = url.take("timeout") {
        let timeout = parse_duration(&timeout);
        builder = builder.timeout(timeout.map_err(|expected| url.invalid("timeout", expected))?);
    }
    if let Some(connections) = url.take("connections") {
        let connections = connections.parse();
        builder = builder
            .connections(connections.map_err(|_| url.invalid("connections", "a whole number"))?);
    }
    tls(url, builder)
}

fn parse_credentials(text: &str) -> Result<(String, String)> {
    text.split_once(':')
        .and_then(|(user, password)| Some((decode(user)?, decode(password)?)))
        .ok_or_else(|| {
            config_error(
                "expected `user:password`, percent-encoded, before the `@` of a memcache:// URL",
            )
        })
}

/// Adds the servers of a URL: a path, or a list of addresses.
fn add_servers(
    mut builder: MemcachedBuilder,
    scheme: &str,
    servers: &str,
) -> Result<MemcachedBuilder> {
    if servers.starts_with('/') {
        return add_unix_socket(builder, servers);
    }
    if scheme == "memcache+unix" {
        return Err(config_error(
            "a memcache+unix:// URL needs a path, for example memcache+unix:///run/memcached.sock",
        ));
    }
    for server in servers.strip_suffix('/').unwrap_or(servers).split(',') {
        builder = builder.server(server);
    }
    Ok(builder)
}

#[cfg(unix)]
fn add_unix_socket(builder: MemcachedBuilder, path: &str) -> Result<MemcachedBuilder> {
    // A `:` that is not encoded may belong to a password.
    let path = Some(path).filter(|path| !path.contains(':'));
    let path = path.and_then(decode).ok_or_else(|| {
        config_error(
            "invalid path in a memcache:// URL; percent-encode it, with `%` as %25, `@` as %40 and \
             `:` as %3A",
        )
    })?;
    Ok(builder.unix_socket(path))
}

#[cfg(not(unix))]
fn add_unix_socket(_: MemcachedBuilder, _: &str) -> Result<MemcachedBuilder> {
    Err(config_error(
        "this system has no Unix sockets; give the host of the server",
    ))
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
        _ => Err(config_error(
            "a memcache+tls:// URL needs both `cert` and `key`, or neither",
        )),
    }
}

#[cfg(not(feature = "memcached-tls"))]
fn tls(url: &mut CacheUrl<'_>, builder: MemcachedBuilder) -> Result<MemcachedBuilder> {
    if url.scheme() == "memcache+tls" {
        return Err(config_error(
            "memcache+tls:// needs the feature `memcached-tls` of cacheio, which is off",
        ));
    }
    no_tls(url, builder)
}

fn no_tls(url: &mut CacheUrl<'_>, builder: MemcachedBuilder) -> Result<MemcachedBuilder> {
    for parameter in ["ca", "cert", "key"] {
        if url.take(parameter).is_some() {
            return Err(config_error(format!(
                "the parameter `{parameter}` needs a memcache+tls:// URL"
            )));
        }
    }
    Ok(builder)
}

fn decode(text: &str) -> Option<String> {
    percent_decode(text.as_bytes())
}
