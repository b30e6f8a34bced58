//! The address of a server, and how to parse and show it.

use std::fmt;
use std::net::Ipv6Addr;
#[cfg(unix)]
use std::path::PathBuf;

use crate::{Error, ErrorKind, Result};

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Address {
    Tcp {
        host: String,
        port: u16,
    },
    #[cfg(unix)]
    Unix(PathBuf),
}

impl Address {
    const DEFAULT_PORT: u16 = 11211;

    /// Parses `host`, `host:port`, `[v6]`, `[v6]:port` or a bare IPv6 address.
    pub(super) fn parse(text: &str) -> Result<Self> {
        let (host, port) = match text.strip_prefix('[') {
            Some(rest) => {
                let (host, port) = rest.split_once(']').ok_or_else(invalid)?;
                host.parse::<Ipv6Addr>().map_err(|_| invalid())?;
                (
                    host,
                    port.strip_prefix(':').or(port.is_empty().then_some("")),
                )
            }
            None if text.parse::<Ipv6Addr>().is_ok() => (text, Some("")),
            None => match text.split_once(':') {
                Some((host, port)) => (host, (!port.is_empty()).then_some(port)),
                None => (text, Some("")),
            },
        };
        let port = match port {
            Some("") => Self::DEFAULT_PORT,
            Some(port) => port.parse().map_err(|_| invalid())?,
            None => return Err(invalid()),
        };
        let is_legal = |c: char| c.is_alphanumeric() || ".-_:".contains(c);
        if host.is_empty() || !host.chars().all(is_legal) {
            return Err(invalid());
        }
        Ok(Self::Tcp {
            host: host.to_owned(),
            port,
        })
    }
}

/// Returns the error for an address. It does not show the text, which may be a password.
fn invalid() -> Error {
    Error::new(
        ErrorKind::Config,
        "invalid server address; expected `host`, `host:11211` or `[::1]:11211`, and in a URL the \
         characters `/?#@:%,` of a password as %2F, %3F, %23, %40, %3A, %25, %2C",
    )
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp { host, port } if host.contains(':') => write!(f, "[{host}]:{port}"),
            Self::Tcp { host, port } => write!(f, "{host}:{port}"),
            #[cfg(unix)]
            Self::Unix(path) => write!(f, "{}", path.display()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_a_host_and_an_optional_port() {
        let parsed = |text| Address::parse(text).unwrap().to_string();
        assert_eq!(parsed("cache"), "cache:11211");
        assert_eq!(parsed("127.0.0.1:1"), "127.0.0.1:1");
        assert_eq!(parsed("[::1]:1"), "[::1]:1");
        assert_eq!(parsed("[::1]"), "[::1]:11211");
        assert_eq!(parsed("::1"), "[::1]:11211");
        for wrong in [
            "", ":1", "a:", "a:b", "a:70000", "[::1", "[x]:1", "[::1]x", "a b", "a/b", "a:1:2",
        ] {
            let error = Address::parse(wrong).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Config, "{wrong}");
        }
        for wrong in [
            "user:secret@host:x",
            "user:secret",
            "secret!",
            "secret@host",
            "[secret]",
        ] {
            let error = Address::parse(wrong).unwrap_err();
            assert!(!error.to_string().contains("secret"), "{error}");
        }
    }
}
