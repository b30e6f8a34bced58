//! The URLs of caches.

use crate::{Error, ErrorKind, Operation, Result};

/// A cache URL: `scheme://rest?name=value&…`.
///
/// Errors show only its scheme, because the rest may be a password: also the names of unknown
/// parameters, which are a part of the password if it has a `?` that is not percent-encoded.
#[doc(hidden)]
pub struct CacheUrl<'a> {
    scheme: &'a str,
    rest: &'a str,
    parameters: Vec<(String, String)>,
}

impl<'a> CacheUrl<'a> {
    /// Parses a URL.
    ///
    /// # Errors
    ///
    /// Returns [`ErrorKind::Config`] when the text is not a URL.
    pub fn parse(url: &'a str) -> Result<Self> {
        let (scheme, rest) = url.split_once("://").ok_or_else(|| {
            config("not a cache URL: expected `scheme://…`, for example `memory://`")
        })?;
        if !is_scheme(scheme) {
            return Err(config(
                "not a cache URL: expected a scheme before `://`, for example `memory://`",
            ));
        }
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let mut parameters: Vec<(String, String)> = Vec::new();
        let pairs = query.split('&').filter(|pair| !pair.is_empty());
        for (at, pair) in pairs.enumerate() {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let (Some(name), Some(value)) = (query_decode(name), query_decode(value)) else {
                return Err(config(format!(
                    "the percent-encoding of parameter {} of a {scheme}:// URL is invalid",
                    at + 1
                )));
            };
            parameters.push((name, value));
        }
        Ok(Self {
            scheme,
            rest,
            parameters,
        })
    }

    /// Adds parameters to those of the text.
    pub fn add(&mut self, parameters: &[(String, String)]) {
        self.parameters.extend_from_slice(parameters);
    }

    /// Returns the text before `://`.
    pub fn scheme(&self) -> &'a str {
        self.scheme
    }

    /// Returns the text between `://` and `?`.
    pub fn rest(&self) -> &'a str {
        self.rest
    }

    /// Removes a parameter, and returns its value.
    pub fn take(&mut self, name: &str) -> Option<String> {
        let at = self
            .parameters
            .iter()
            .position(|(other, _)| other == name)?;
        Some(self.parameters.remove(at).1)
    }

    /// Returns the error for a parameter with an invalid value.
    pub fn invalid(&self, name: &str, expected: &str) -> Error {
        config(format!(
            "the parameter `{name}` of a {}:// URL must be {expected}",
            self.scheme
        ))
    }

    /// Returns an error that this URL is the reason of.
    pub fn refuse(&self, reason: &str) -> Error {
        config(format!("in a {}:// URL, {reason}", self.scheme))
    }

    /// Returns the error for a scheme that is not in `known`.
    pub fn unknown_scheme(&self, known: &[&[&str]]) -> Error {
        let needs = FEATURES
            .iter()
            .find(|(_, schemes)| schemes.contains(&self.scheme));
        config(match needs {
            Some((feature, _)) => format!(
                "`{}://` needs the feature `{feature}` of cacheio; turn it on",
                self.scheme
            ),
            None => format!(
                "unknown scheme `{}://`; use one of {}",
                self.scheme,
                listed(&known.concat())
            ),
        })
    }

    /// Checks that the scheme is one of `schemes`.
    ///
    /// # Errors
    ///
    /// Returns [`ErrorKind::Config`] when it is another one.
    pub fn expect(&self, schemes: &[&str]) -> Result<()> {
        match schemes.contains(&self.scheme) {
            true => Ok(()),
            false => Err(config(format!(
                "unexpected scheme `{}://`; this cache is opened with {}",
                self.scheme,
                listed(schemes)
            ))),
        }
    }

    /// Checks that every parameter was [taken](Self::take). `allowed` is for the message.
    ///
    /// # Errors
    ///
    /// Returns [`ErrorKind::Config`] when a parameter is left.
    pub fn finish(self, allowed: &[&str]) -> Result<()> {
        let Some((name, value)) = self.parameters.first() else {
            return Ok(());
        };
        let scheme = self.scheme;
        if allowed.contains(&&**name) {
            return Err(config(format!(
                "a {scheme}:// URL has the parameter `{name}` twice, or one that excludes it"
            )));
        }
        let meant = allowed.iter().find(|allowed| is_similar(name, allowed));
        let advice = match meant {
            Some(meant) => format!("did you mean `{meant}`? The"),
            // A password that is not percent-encoded.
            None if name.contains('@') || value.contains('@') => {
                "write a `?` in a password as %3F. The".to_owned()
            }
            None => "the".to_owned(),
        };
        Err(config(format!(
            "unknown parameter of a {scheme}:// URL; {advice} parameters are {}",
            allowed.join(", ")
        )))
    }
}

/// Returns whether a text is a scheme as in RFC 3986. Others are not shown.
fn is_scheme(text: &str) -> bool {
    let is_legal = |byte: u8| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte);
    text.len() <= 32
        && text.starts_with(|first: char| first.is_ascii_alphabetic())
        && text.bytes().all(is_legal)
}

/// Returns whether a name is probably another one with a typing error: one character more, less or
/// different, or two neighbours swapped.
fn is_similar(name: &str, meant: &str) -> bool {
    let (name, meant) = (name.to_lowercase(), meant.as_bytes());
    let name = name.as_bytes();
    let same = name.iter().zip(meant).take_while(|(a, b)| a == b).count();
    let (name, meant) = (&name[same..], &meant[same..]);
    match (name, meant) {
        ([], []) => true,
        ([a, b, name @ ..], [c, d, meant @ ..]) if (a, b) == (d, c) => name == meant,
        _ => {
            let after = |text: &'_ [u8]| text.get(1..).map(<[u8]>::to_vec);
            let (name_after, meant_after) = (after(name), after(meant));
            name_after.as_deref() == Some(meant)
                || meant_after.as_deref() == Some(name)
                || name_after.is_some() && name_after == meant_after
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

/// The schemes of the URLs of Memcached.
pub const MEMCACHED_SCHEMES: &[&str] = &["memcache", "memcache+unix", "memcache+tls"];

/// The schemes of the URLs of Redis.
pub const REDIS_SCHEMES: &[&str] = &[
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

/// The features, and the schemes of their stores.
const FEATURES: [(&str, &[&str]); 3] = [
    ("memory", &["memory"]),
    ("memcached", MEMCACHED_SCHEMES),
    ("redis", REDIS_SCHEMES),
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

/// Decodes `%41` and the like. Returns `None` when the encoding is invalid.
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

/// Decodes the text of a query, where `+` is a space.
fn query_decode(text: &str) -> Option<String> {
    percent_decode(text.replace('+', " ").as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_split_into_its_parts() {
        let mut url = CacheUrl::parse("memory://?capacity=10&namespace=a%20b+c").unwrap();
        assert_eq!((url.scheme(), url.rest()), ("memory", ""));
        assert_eq!(url.take("namespace").as_deref(), Some("a b c"));
        assert_eq!(url.take("namespace"), None);
        assert_eq!(url.take("capacity").as_deref(), Some("10"));
        assert!(url.finish(&[]).is_ok());
    }

    #[test]
    fn errors_do_not_show_the_url() {
        let message = |url| match CacheUrl::parse(url) {
            Ok(url) => url.finish(&["ttl", "namespace"]).unwrap_err().to_string(),
            Err(error) => error.to_string(),
        };
        assert!(message("secret").contains("not a cache URL"));
        assert!(
            message("x://user:secret@host?tll=5")
                .contains("unknown parameter of a x:// URL; did you mean `ttl`?")
        );
        assert!(message("x://?ttl=1&ttl=secret").contains("twice"));
        assert!(message("x://?a=1&b=%zz").contains("percent-encoding of parameter 2"));
        assert!(message("x://user:pass?secret@host").contains("%3F"));
        for url in [
            "secret",
            "secret@x://",
            "://secret",
            "x:secret://host",
            "x://user:secret@host?tll=5",
            "x://?ttl=1&ttl=secret",
            "x://user:pass?secret@host",
            "x://?secret=%zz",
            "x://?secret",
        ] {
            assert!(!message(url).contains("secret"));
        }
    }

    #[test]
    fn a_typing_error_in_a_parameter_is_recognized() {
        for name in ["tl", "ttll", "tll", "ttl", "tlt", "Ttl", "xttl", "xtl"] {
            assert!(is_similar(name, "ttl"), "{name}");
        }
        for name in ["", "t", "timeout", "ttlxx", "lt", "ltt_none"] {
            assert!(!is_similar(name, "ttl"), "{name}");
        }
        assert!(is_similar("tiemout", "timeout"));
        assert!(is_similar("namspace", "namespace"));
    }
}
