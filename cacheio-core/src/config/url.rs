//! Caches named by a URL.

use crate::{Error, ErrorKind, Operation, Result};

/// The URL of a cache: `scheme://rest?name=value&…`.
///
/// No error shows more of it than its scheme and the names of its parameters: what is between may
/// hold a password.
#[doc(hidden)]
pub struct CacheUrl<'a> {
    scheme: &'a str,
    rest: &'a str,
    parameters: Vec<(String, String)>,
}

impl<'a> CacheUrl<'a> {
    /// Takes a URL apart.
    ///
    /// # Errors
    ///
    /// When it is none, or a parameter stands twice.
    pub fn parse(url: &'a str) -> Result<Self> {
        let (scheme, rest) = url
            .split_once("://")
            .ok_or_else(|| config("this is no URL: a cache's begins like \"memory://\""))?;
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let mut parameters: Vec<(String, String)> = Vec::new();
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let name = query_decode(name)
                .ok_or_else(|| config("the name of a parameter is not valid percent-encoding"))?;
            let value = query_decode(value).ok_or_else(|| {
                config(format!(
                    "the value of the parameter `{name}` is not valid percent-encoding"
                ))
            })?;
            if parameters.iter().any(|(other, _)| *other == name) {
                return Err(config(format!(
                    "the parameter `{name}` stands twice in the URL"
                )));
            }
            parameters.push((name, value));
        }
        Ok(Self {
            scheme,
            rest,
            parameters,
        })
    }

    /// What stands before `://`.
    pub fn scheme(&self) -> &'a str {
        self.scheme
    }

    /// What stands between `://` and `?`.
    pub fn rest(&self) -> &'a str {
        self.rest
    }

    /// Takes a parameter out.
    pub fn take(&mut self, name: &str) -> Option<String> {
        let at = self
            .parameters
            .iter()
            .position(|(other, _)| other == name)?;
        Some(self.parameters.remove(at).1)
    }

    /// The error for a parameter whose value is not what it should be.
    pub fn invalid(&self, name: &str, expected: &str) -> Error {
        config(format!(
            "the parameter `{name}` of a {}:// URL must be {expected}",
            self.scheme
        ))
    }

    /// The error for a scheme that is none of those `known`.
    pub fn unknown_scheme(&self, known: &[&[&str]]) -> Error {
        let needs = FEATURES
            .iter()
            .find(|(_, schemes)| schemes.contains(&self.scheme));
        config(match needs {
            Some((feature, _)) => format!(
                "a cache at `{}://` needs the feature `{feature}` of cacheio, which is off",
                self.scheme
            ),
            None => format!(
                "no cache is known by `{}://`; known here are {}",
                self.scheme,
                listed(&known.concat())
            ),
        })
    }

    /// Checks that the scheme is one of those of a kind of store.
    ///
    /// # Errors
    ///
    /// When it is another.
    pub fn expect(&self, schemes: &[&str]) -> Result<()> {
        match schemes.contains(&self.scheme) {
            true => Ok(()),
            false => Err(config(format!(
                "a URL of this cache begins with {}, not with `{}://`",
                listed(schemes),
                self.scheme
            ))),
        }
    }

    /// Checks that every parameter was taken; `allowed` are those there are.
    ///
    /// # Errors
    ///
    /// When one is left over.
    pub fn finish(self, allowed: &[&str]) -> Result<()> {
        match self.parameters.first() {
            None => Ok(()),
            Some((name, _)) => Err(config(format!(
                "a {}:// URL has no parameter `{name}`; there are {}",
                self.scheme,
                allowed.join(", ")
            ))),
        }
    }
}

impl std::fmt::Debug for CacheUrl<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CacheUrl")
            .field("scheme", &self.scheme)
            .finish_non_exhaustive()
    }
}

/// The features that bring the stores of these schemes.
const FEATURES: [(&str, &[&str]); 3] = [
    ("memory", &["memory"]),
    ("memcached", &["memcache", "memcache+unix", "memcache+tls"]),
    (
        "redis",
        &[
            "redis",
            "rediss",
            "redis+unix",
            "redis-cluster",
            "rediss-cluster",
            "redis-sentinel",
            "rediss-sentinel",
            "valkey",
            "valkeys",
        ],
    ),
];

fn listed(schemes: &[&str]) -> String {
    let schemes: Vec<String> = schemes
        .iter()
        .map(|scheme| format!("{scheme}://"))
        .collect();
    schemes.join(", ")
}

fn config(message: impl Into<std::borrow::Cow<'static, str>>) -> Error {
    Error::new(ErrorKind::Config, message).during(Operation::Build)
}

/// Undoes `%41`.
pub fn percent_decode(text: &[u8]) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.iter().copied();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'%' => {
                let mut digit = || char::from(rest.next()?).to_digit(16);
                u8::try_from(digit()? * 16 + digit()?).ok()?
            }
            byte => byte,
        });
    }
    String::from_utf8(bytes).ok()
}

/// As [`percent_decode`], for a query, where `+` is a space.
fn query_decode(text: &str) -> Option<String> {
    percent_decode(text.replace('+', " ").as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_in_its_parts() {
        let mut url = CacheUrl::parse("memory://?capacity=10&namespace=a%20b+c").unwrap();
        assert_eq!((url.scheme(), url.rest()), ("memory", ""));
        assert_eq!(url.take("namespace").as_deref(), Some("a b c"));
        assert_eq!(url.take("namespace"), None);
        assert_eq!(url.take("capacity").as_deref(), Some("10"));
        assert!(url.finish(&[]).is_ok());
    }

    #[test]
    fn what_is_wrong_with_a_url_is_said_without_showing_it() {
        let message = |url| match CacheUrl::parse(url) {
            Ok(url) => url.finish(&["ttl", "namespace"]).unwrap_err().to_string(),
            Err(error) => error.to_string(),
        };
        assert!(message("secret").contains("no URL"));
        assert!(
            message("x://user:secret@host?tll=5")
                .contains("no parameter `tll`; there are ttl, namespace")
        );
        assert!(message("x://?a=1&a=secret").contains("twice"));
        assert!(message("x://?a=%zz").contains("percent-encoding"));
        for url in ["secret", "x://user:secret@host?tll=5", "x://?a=1&a=secret"] {
            assert!(!message(url).contains("secret"));
        }
    }
}
