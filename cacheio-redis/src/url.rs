//! Parses the URLs that name Redis servers.

use std::time::Duration;

use cacheio_core::__private::{CacheUrl, REDIS_SCHEMES, parse_duration, percent_decode};
use cacheio_core::Result;
use redis::{ConnectionAddr, ProtocolVersion, RedisConnectionInfo};

use crate::failure::config_error;
use crate::open::address;

pub(crate) const PARAMETERS: &[&str] = &["timeout", "connections", "db", "protocol"];

const REDIS_PORT: u16 = 6379;
const SENTINEL_PORT: u16 = 26379;

/// What a URL, or several, say about a store.
pub(crate) struct StoreConfig {
    pub(crate) deployment: Deployment,
    /// For connections to the servers, not for those to the sentinels.
    pub(crate) settings: RedisConnectionInfo,
    pub(crate) timeout: Option<Duration>,
    pub(crate) connections: Option<usize>,
}

#[derive(Clone)]
pub(crate) enum Deployment {
    Server(ConnectionAddr),
    /// The name of a master, and the sentinels that know it.
    Sentinel(String, Vec<ConnectionAddr>),
    Cluster(Vec<ConnectionAddr>),
}

impl StoreConfig {
    /// Parses the URL of a store. Unknown parameters are an error.
    pub(crate) fn parse(text: &str) -> Result<Self> {
        let mut url = CacheUrl::parse(text)?;
        let config = Self::take(&mut url)?;
        url.finish(PARAMETERS)?;
        Ok(config)
    }

    /// Takes the parameters of a store out of the URL of a cache.
    pub(crate) fn take(url: &mut CacheUrl<'_>) -> Result<Self> {
        let timeout = timeout(url)?;
        let connections = connections(url)?;
        let settings = RedisConnectionInfo::default().set_protocol(protocol(url)?);
        let db = url.take("db");
        let (deployment, settings, db_in_path) = match url.scheme() {
            "redis+unix" => {
                let (settings, path) = credentials(url.rest(), settings)?;
                (unix_socket(path)?, settings, None)
            }
            scheme => {
                let tls = uses_tls(scheme)?;
                let (settings, rest) = credentials(url.rest(), settings)?;
                let (deployment, database) = deployment(url, rest, tls)?;
                (deployment, settings, database)
            }
        };
        if db.is_some() && db_in_path.is_some() {
            return Err(config_error(
                "a Redis URL names the database twice; leave out `/number` or `db`",
            ));
        }
        let settings = match db.or(db_in_path) {
            Some(db) => settings.set_db(database(&db)?),
            None => settings,
        };
        Ok(Self {
            deployment,
            settings,
            timeout,
            connections,
        })
    }
}

/// The largest number of connections to a server. Each has a state before it is opened.
pub(crate) const MAX_CONNECTIONS: usize = 1024;

fn timeout(url: &mut CacheUrl<'_>) -> Result<Option<Duration>> {
    let Some(text) = url.take("timeout") else {
        return Ok(None);
    };
    match parse_duration(&text) {
        Ok(timeout) if timeout.is_zero() => Err(url.invalid("timeout", "greater than zero")),
        Ok(timeout) => Ok(Some(timeout)),
        Err(expected) => Err(url.invalid("timeout", expected)),
    }
}

fn connections(url: &mut CacheUrl<'_>) -> Result<Option<usize>> {
    let Some(text) = url.take("connections") else {
        return Ok(None);
    };
    let number = text.parse().ok();
    let number = number.filter(|number| (1..=MAX_CONNECTIONS).contains(number));
    let invalid = || url.invalid("connections", "a number from 1 to 1024");
    number.map(Some).ok_or_else(invalid)
}

fn protocol(url: &mut CacheUrl<'_>) -> Result<ProtocolVersion> {
    match url.take("protocol").as_deref() {
        None | Some("resp3") => Ok(ProtocolVersion::RESP3),
        Some("resp2") => Ok(ProtocolVersion::RESP2),
        Some(_) => Err(url.invalid("protocol", "`resp2` or `resp3`")),
    }
}

fn database(text: &str) -> Result<i64> {
    let number = text.parse().ok().filter(|number| *number >= 0);
    number.ok_or_else(|| {
        config_error("the database must be a number, for example redis://host/0 or ?db=0")
    })
}

/// Moves the user name and password from what follows `://` to the settings. What is before the last
/// `@` is never shown.
fn credentials(text: &str, settings: RedisConnectionInfo) -> Result<(RedisConnectionInfo, &str)> {
    let Some((userinfo, rest)) = text.rsplit_once('@') else {
        return Ok((settings, text));
    };
    let (user, password) = userinfo.split_once(':').unwrap_or((userinfo, ""));
    let settings = match (decode(user)?, decode(password)?) {
        (user, password) if user.is_empty() => settings.set_password(password),
        (user, password) => settings.set_username(user).set_password(password),
    };
    Ok((settings, rest))
}

fn unix_socket(path: &str) -> Result<Deployment> {
    // A `:` or `@` that is not encoded may belong to a password.
    if !path.starts_with('/') || path.contains(':') {
        return Err(config_error(
            "a redis+unix:// URL needs an absolute path, for example redis+unix:///run/redis.sock, \
             with `@` as %40 and `:` as %3A",
        ));
    }
    let socket = ConnectionAddr::Unix(decode(path)?.into());
    Ok(Deployment::Server(socket))
}

/// Parses the hosts and the path of a URL. Also returns the database if the path names it.
fn deployment(url: &CacheUrl<'_>, rest: &str, tls: bool) -> Result<(Deployment, Option<String>)> {
    let (hosts, path) = rest.split_once('/').unwrap_or((rest, ""));
    let path = path.trim_end_matches('/');
    let database = (!path.is_empty()).then(|| path.to_owned());
    match url.scheme() {
        "redis" | "rediss" | "valkey" | "valkeys" => {
            let server = Deployment::Server(host(hosts, REDIS_PORT, tls)?);
            Ok((server, database))
        }
        "redis-cluster" | "rediss-cluster" => {
            let cluster = Deployment::Cluster(all_hosts(hosts, REDIS_PORT, tls)?);
            Ok((cluster, database))
        }
        "redis-sentinel" | "rediss-sentinel" => {
            let (master, database) = match path.split_once('/') {
                Some((master, database)) => (master, Some(database.to_owned())),
                None => (path, None),
            };
            if master.is_empty() {
                return Err(config_error(
                    "a redis-sentinel:// URL must end with the name of the master, for example \
                     redis-sentinel://host:26379/mymaster",
                ));
            }
            let sentinels = all_hosts(hosts, SENTINEL_PORT, tls)?;
            Ok((Deployment::Sentinel(decode(master)?, sentinels), database))
        }
        _ => Err(url.unknown_scheme(&[REDIS_SCHEMES])),
    }
}

fn uses_tls(scheme: &str) -> Result<bool> {
    let tls = matches!(
        scheme,
        "rediss" | "valkeys" | "rediss-cluster" | "rediss-sentinel"
    );
    if tls && cfg!(not(feature = "tls")) {
        return Err(config_error(format!(
            "{scheme}:// needs the feature `redis-tls`; enable it"
        )));
    }
    Ok(tls)
}

/// Parses hosts that are separated by commas.
fn all_hosts(hosts: &str, port: u16, tls: bool) -> Result<Vec<ConnectionAddr>> {
    hosts.split(',').map(|one| host(one, port, tls)).collect()
}

fn host(text: &str, default_port: u16, tls: bool) -> Result<ConnectionAddr> {
    let invalid = || {
        config_error(
            "invalid host in a Redis URL: write `host`, `host:port` or `[IPv6]:port`, and the \
             characters `/?#@:%` of a password as %2F, %3F, %23, %40, %3A, %25",
        )
    };
    let (name, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (name, rest) = rest.split_once(']').ok_or_else(invalid)?;
            (
                name,
                rest.strip_prefix(':').or(rest.is_empty().then_some("")),
            )
        }
        None => match text.split_once(':') {
            Some((name, port)) => (name, Some(port)),
            None => (text, Some("")),
        },
    };
    let port = match port.ok_or_else(invalid)? {
        "" => default_port,
        port => port.parse().map_err(|_| invalid())?,
    };
    if name.is_empty() {
        return Err(config_error(
            "a Redis URL names no host, or there is nothing between two commas of its hosts; write for example \
             redis://127.0.0.1",
        ));
    }
    // Any other text may be a password. An IPv6 address may name its zone.
    let is_legal = |c: char| c.is_alphanumeric() || ".-_".contains(c);
    let is_ipv6 = text.starts_with('[') && name.chars().all(|c| is_legal(c) || ":%".contains(c));
    if !is_ipv6 && !name.chars().all(is_legal) {
        return Err(invalid());
    }
    Ok(address(name.to_owned(), port, tls))
}

fn decode(text: &str) -> Result<String> {
    percent_decode(text.as_bytes())
        .ok_or_else(|| config_error("invalid percent-encoding in a Redis URL; write `%` as %25"))
}

#[cfg(test)]
mod tests {
    use cacheio_core::ErrorKind;

    use super::*;

    fn parsed(url: &str) -> StoreConfig {
        StoreConfig::parse(url).unwrap()
    }

    #[test]
    fn a_server_url_is_parsed() {
        let config = parsed("redis://me:p%40ss/w:rd@host:7000/3?timeout=500ms&connections=2");
        assert!(
            matches!(&config.deployment, Deployment::Server(ConnectionAddr::Tcp(host, 7000)) if host == "host")
        );
        assert_eq!(config.settings.username(), Some("me"));
        assert_eq!(config.settings.password(), Some("p@ss/w:rd"));
        assert_eq!(config.settings.db(), 3);
        assert_eq!(config.timeout, Some(Duration::from_millis(500)));
        assert_eq!(config.connections, Some(2));
        let config = parsed("valkey://:word@[::1]?db=1&protocol=resp2");
        assert!(
            matches!(&config.deployment, Deployment::Server(ConnectionAddr::Tcp(host, 6379)) if host == "::1")
        );
        assert_eq!(config.settings.username(), None);
        assert_eq!(config.settings.password(), Some("word"));
        assert_eq!(config.settings.protocol(), ProtocolVersion::RESP2);
    }

    #[test]
    fn socket_sentinel_and_cluster_urls_are_parsed() {
        let config = parsed("redis+unix:///run/re%20dis.sock?db=2");
        assert!(
            matches!(&config.deployment, Deployment::Server(ConnectionAddr::Unix(path)) if path.ends_with("re dis.sock"))
        );
        assert_eq!(config.settings.db(), 2);
        let config = parsed("redis+unix://me:p%40ss@/run/a%40b.sock");
        assert!(
            matches!(&config.deployment, Deployment::Server(ConnectionAddr::Unix(path)) if path.ends_with("a@b.sock"))
        );
        assert_eq!(config.settings.password(), Some("p@ss"));
        let config = parsed("redis-sentinel://u:p@a,b:2/main/4");
        assert!(
            matches!(&config.deployment, Deployment::Sentinel(master, hosts) if master == "main" && hosts.len() == 2)
        );
        assert_eq!(config.settings.db(), 4);
        let config = parsed("redis-cluster://a:1,b:2,c:3");
        assert!(matches!(&config.deployment, Deployment::Cluster(hosts) if hosts.len() == 3));
    }

    #[test]
    fn errors_of_invalid_urls_do_not_show_the_password() {
        for url in [
            "redis://me:secret@host:port",
            "redis://me:secret@host/zero",
            "redis://me:secret@host/-1",
            "redis://me:sec%zzret@host",
            "redis://me:secret@host?tiemout=1s",
            "redis://me:secret@host?timeout=soon",
            "redis://me:secret@host?timeout=0s",
            "redis://me:secret@host?connections=0",
            "redis://me:secret@host?pool=2",
            "redis://me:secret@host?protocol=resp4",
            "redis://me:secret@[::1",
            "redis://me:secret",
            "redis://me:secret?x@host",
            "redis://me:se?secret@host",
            "redis://secret!",
            "redis+unix://me:secret",
            "redis+unix://me:secret@path",
            "redis+unix://me:secret@/run/a@b.sock",
            "redis-sentinel://me:secret@host",
            "http://me:secret@host",
        ] {
            let error = StoreConfig::parse(url).err().unwrap();
            assert_eq!(error.kind(), ErrorKind::Config, "{url}");
            assert!(
                !format!("{error} {error:?}").contains("secret"),
                "{url}: {error}"
            );
        }
    }
}
