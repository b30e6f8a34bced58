//! URLs that say where Redis is.

use std::time::Duration;

use cacheio_core::__private::{CacheUrl, parse_duration, percent_decode};
use cacheio_core::{Error, ErrorKind, Result};
use redis::{ConnectionAddr, ProtocolVersion, RedisConnectionInfo};

use crate::redis::Redis;
use crate::target::address;

const REDIS: u16 = 6379;
const SENTINEL: u16 = 26379;

impl Redis {
    #[doc(hidden)]
    pub const SCHEMES: &[&str] = &[
        "redis",
        "rediss",
        "redis+unix",
        "redis-cluster",
        "rediss-cluster",
        "redis-sentinel",
        "rediss-sentinel",
        "valkey",
        "valkeys",
    ];

    #[doc(hidden)]
    pub const PARAMETERS: &[&str] = &["timeout", "connections", "pool", "db", "protocol"];

    #[doc(hidden)]
    pub fn from_cache_url(url: &mut CacheUrl<'_>) -> Result<Self> {
        Setup::take(url)?.build()
    }
}

/// Where Redis is.
#[derive(Clone)]
pub(crate) enum Place {
    Server(ConnectionAddr),
    /// The master of this name that the sentinels know.
    Sentinel(String, Vec<ConnectionAddr>),
    Cluster(Vec<ConnectionAddr>),
}

/// What a store is made of.
pub(crate) struct Setup {
    pub(crate) place: Place,
    /// Of the servers, not of the sentinels.
    pub(crate) settings: RedisConnectionInfo,
    pub(crate) timeout: Option<Duration>,
    pub(crate) connections: Option<usize>,
}

impl Setup {
    /// What a URL of a store says; none of its parameters may be left over.
    pub(crate) fn parse(text: &str) -> Result<Self> {
        let mut url = CacheUrl::parse(text)?;
        let setup = Self::take(&mut url)?;
        url.finish(Redis::PARAMETERS)?;
        Ok(setup)
    }

    /// What a URL says.
    fn take(url: &mut CacheUrl<'_>) -> Result<Self> {
        let timeout = match url.take("timeout") {
            Some(text) => Some(
                parse_duration(&text)
                    .ok()
                    .filter(|timeout| !timeout.is_zero())
                    .ok_or_else(|| url.invalid("timeout", "a duration, as in `500ms`"))?,
            ),
            None => None,
        };
        let mut connections = None;
        for name in ["connections", "pool"] {
            if let Some(text) = url.take(name) {
                let number = text.parse().ok().filter(|number| *number > 0);
                connections =
                    Some(number.ok_or_else(|| url.invalid(name, "a number of connections"))?);
            }
        }
        let mut settings = match url.take("protocol").as_deref() {
            None | Some("resp3") => settings(ProtocolVersion::RESP3),
            Some("resp2") => settings(ProtocolVersion::RESP2),
            Some(_) => return Err(url.invalid("protocol", "`resp2` or `resp3`")),
        };
        let parameter = url.take("db");
        let (place, database) = place(url, &mut settings)?;
        if let Some(database) = parameter.or(database) {
            let number = database.parse().ok().filter(|number| *number >= 0);
            settings = settings.set_db(number.ok_or_else(|| {
                config("the database of a Redis URL is a number, as in redis://host/0 or ?db=0")
            })?);
        }
        Ok(Self {
            place,
            settings,
            timeout,
            connections,
        })
    }
}

fn settings(protocol: ProtocolVersion) -> RedisConnectionInfo {
    RedisConnectionInfo::default().set_protocol(protocol)
}

/// The place that a URL names, and its database, if that stands in the path. User name and
/// password go into the settings.
fn place(
    url: &CacheUrl<'_>,
    settings: &mut RedisConnectionInfo,
) -> Result<(Place, Option<String>)> {
    let scheme = url.scheme();
    if scheme == "redis+unix" {
        return Ok((
            Place::Server(ConnectionAddr::Unix(decode(url.rest())?.into())),
            None,
        ));
    }
    let tls = matches!(
        scheme,
        "rediss" | "valkeys" | "rediss-cluster" | "rediss-sentinel"
    );
    if tls && cfg!(not(feature = "tls")) {
        return Err(config(format!("{scheme}:// needs the feature `redis-tls`")));
    }
    let rest = match url.rest().rsplit_once('@') {
        Some((userinfo, rest)) => {
            let (user, password) = userinfo.split_once(':').unwrap_or((userinfo, ""));
            let taken = std::mem::take(settings);
            *settings = match (decode(user)?, decode(password)?) {
                (user, password) if user.is_empty() => taken.set_password(password),
                (user, password) => taken.set_username(user).set_password(password),
            };
            rest
        }
        None => url.rest(),
    };
    let (hosts, path) = rest.split_once('/').unwrap_or((rest, ""));
    let path = path.trim_end_matches('/');
    let (first, second) = match path.split_once('/') {
        Some((first, second)) => (first, Some(second.to_owned())),
        None => (path, None),
    };
    let database = (!path.is_empty()).then(|| path.to_owned());
    match scheme {
        "redis" | "rediss" | "valkey" | "valkeys" => {
            Ok((Place::Server(host(hosts, REDIS, tls)?), database))
        }
        "redis-cluster" | "rediss-cluster" => {
            Ok((Place::Cluster(all_hosts(hosts, REDIS, tls)?), database))
        }
        "redis-sentinel" | "rediss-sentinel" if first.is_empty() => Err(config(
            "a redis-sentinel:// URL ends with the name of the master, as in \
             redis-sentinel://host:26379/mymaster",
        )),
        "redis-sentinel" | "rediss-sentinel" => {
            let sentinels = all_hosts(hosts, SENTINEL, tls)?;
            Ok((Place::Sentinel(decode(first)?, sentinels), second))
        }
        _ => Err(url.unknown_scheme(&[Redis::SCHEMES])),
    }
}

/// The hosts that a URL names, one after another.
fn all_hosts(hosts: &str, port: u16, tls: bool) -> Result<Vec<ConnectionAddr>> {
    hosts.split(',').map(|one| host(one, port, tls)).collect()
}

fn host(text: &str, default: u16, tls: bool) -> Result<ConnectionAddr> {
    let wrong = || {
        config(
            "a Redis URL names its hosts as `host`, `host:port` or `[IPv6]:port`; what in a password \
             is one of `/?#@:%` is written as %2F, %3F, %23, %40, %3A, %25",
        )
    };
    let (name, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (name, rest) = rest.split_once(']').ok_or_else(wrong)?;
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
    let port = match port.ok_or_else(wrong)? {
        "" => default,
        port => port.parse().map_err(|_| wrong())?,
    };
    let name = if name.is_empty() { "127.0.0.1" } else { name };
    if name.contains(['#', ' ', '\\']) {
        return Err(wrong());
    }
    Ok(address(name.to_owned(), port, tls))
}

fn decode(text: &str) -> Result<String> {
    percent_decode(text.as_bytes()).ok_or_else(|| {
        config("a Redis URL has a `%` that begins no percent-encoding, or not of UTF-8")
    })
}

fn config(message: impl Into<std::borrow::Cow<'static, str>>) -> Error {
    Error::new(ErrorKind::Config, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(url: &str) -> Setup {
        Setup::parse(url).unwrap()
    }

    #[test]
    fn a_server_in_its_parts() {
        let setup = parsed("redis://me:p%40ss/w:rd@host:7000/3?timeout=500ms&connections=2");
        assert!(
            matches!(&setup.place, Place::Server(ConnectionAddr::Tcp(host, 7000)) if host == "host")
        );
        assert_eq!(setup.settings.username(), Some("me"));
        assert_eq!(setup.settings.password(), Some("p@ss/w:rd"));
        assert_eq!(setup.settings.db(), 3);
        assert_eq!(setup.timeout, Some(Duration::from_millis(500)));
        assert_eq!(setup.connections, Some(2));
        let setup = parsed("valkey://:word@[::1]?db=1&protocol=resp2");
        assert!(
            matches!(&setup.place, Place::Server(ConnectionAddr::Tcp(host, 6379)) if host == "::1")
        );
        assert_eq!(setup.settings.username(), None);
        assert_eq!(setup.settings.password(), Some("word"));
        assert_eq!(setup.settings.protocol(), ProtocolVersion::RESP2);
    }

    #[test]
    fn a_socket_the_sentinels_and_a_cluster() {
        let setup = parsed("redis+unix:///run/re%20dis.sock?db=2");
        assert!(
            matches!(&setup.place, Place::Server(ConnectionAddr::Unix(path)) if path.ends_with("re dis.sock"))
        );
        assert_eq!(setup.settings.db(), 2);
        let setup = parsed("redis-sentinel://u:p@a,b:2/main/4");
        assert!(
            matches!(&setup.place, Place::Sentinel(master, hosts) if master == "main" && hosts.len() == 2)
        );
        assert_eq!(setup.settings.db(), 4);
        let setup = parsed("redis-cluster://a:1,b:2,c:3");
        assert!(matches!(&setup.place, Place::Cluster(hosts) if hosts.len() == 3));
    }

    #[test]
    fn what_is_wrong_with_a_url_is_said_without_its_password() {
        for url in [
            "redis://me:secret@host:port",
            "redis://me:secret@host/zero",
            "redis://me:secret@host/-1",
            "redis://me:sec%zzret@host",
            "redis://me:secret@host?tiemout=1s",
            "redis://me:secret@host?timeout=soon",
            "redis://me:secret@host?timeout=0s",
            "redis://me:secret@host?connections=0",
            "redis://me:secret@host?protocol=resp4",
            "redis://me:secret@[::1",
            "redis-sentinel://me:secret@host",
            "http://me:secret@host",
        ] {
            let error = Setup::parse(url).err().unwrap();
            assert_eq!(error.kind(), ErrorKind::Config, "{url}");
            assert!(
                !format!("{error} {error:?}").contains("secret"),
                "{url}: {error}"
            );
        }
    }
}
