//! The settings of a cache.

// Only the builders of the caches use these items, and document each setting.
#![allow(missing_docs)]

use std::path::{self, PathBuf};
use std::sync::Arc;

use crate::codec::codec_by_name;
use crate::config::policies::{POLICY_NAMES, Policies};
use crate::config::ttl::parse_duration;
use crate::config::url::CacheUrl;
use crate::key::namespace_prefix;
use crate::l1::{L1Memory, L1Settings};
use crate::{Codec, Error, ErrorKind, Form, Json, KeyRule, Operation, Result, Ttl, config};

/// The settings that both cache builders share.
#[doc(hidden)]
#[derive(Clone, Debug)]
pub struct BuilderSettings {
    namespace: Option<String>,
    default_ttl: Ttl,
    policies: Policies,
    codec: Arc<dyn Codec>,
    /// Without it, the store decides.
    shared_loads: Option<bool>,
    l1: Option<L1Settings>,
    snapshot: Option<PathBuf>,
}

impl Default for BuilderSettings {
    fn default() -> Self {
        Self {
            namespace: None,
            default_ttl: Ttl::Default,
            policies: Policies::default(),
            codec: Arc::new(Json),
            shared_loads: None,
            l1: None,
            snapshot: None,
        }
    }
}

/// Returns the error of a builder that got a store and a capacity.
pub fn capacity_of_a_store() -> Error {
    let message = "`capacity` has no effect with `store`; set the capacity where the store is built, as in \
                   `Memory::with_capacity(10_000)`";
    Error::new(ErrorKind::Config, message).during(Operation::Build)
}

/// The parameters of every cache URL, without the policies.
const PARAMETERS: [&str; 5] = [
    "namespace",
    "ttl",
    "codec",
    "max_decompressed",
    "shared_loads",
];

/// How the parameter `l1` of a URL makes memory.
#[doc(hidden)]
#[derive(Clone, Copy, Debug)]
pub enum UrlMemory {
    /// Not at all: the store is no server.
    NoServer,
    /// Not at all: the feature `memory` is off.
    IsOff,
    /// By this function, which takes the number of entries.
    Make(fn(usize) -> Arc<dyn L1Memory>),
}

impl UrlMemory {
    fn parameters(self) -> &'static [&'static str] {
        match self {
            Self::NoServer => &[],
            Self::IsOff | Self::Make(_) => &["l1", "max_staleness"],
        }
    }

    fn take_l1(self, url: &mut CacheUrl<'_>) -> Result<Option<L1Settings>> {
        let (capacity, staleness) = (url.take("l1"), url.take("max_staleness"));
        let Some(capacity) = capacity else {
            return match staleness {
                Some(_) => {
                    Err(url.refuse("`max_staleness` belongs to `l1`; add `l1=10000`, or remove it"))
                }
                None => Ok(None),
            };
        };
        let make = match self {
            Self::Make(make) => make,
            Self::NoServer => {
                return Err(url.refuse(
                    "`l1` is memory before a server, and this URL names no server; remove it",
                ));
            }
            Self::IsOff => {
                return Err(url.refuse("`l1` needs the feature `memory` of cacheio; turn it on"));
            }
        };
        let capacity = capacity.parse::<usize>();
        let mut l1 = L1Settings::new(make(
            capacity.map_err(|_| url.invalid("l1", "a number of entries"))?,
        ));
        if let Some(staleness) = staleness {
            l1.max_staleness = parse_duration(&staleness)
                .map_err(|expected| url.invalid("max_staleness", expected))?;
        }
        Ok(Some(l1))
    }
}

impl BuilderSettings {
    /// The longest prefix of keys, in bytes.
    const PREFIX_MAX: usize = 100;

    pub fn set_namespace(&mut self, namespace: String) {
        self.namespace = Some(namespace);
    }

    pub fn set_default_ttl(&mut self, ttl: Ttl) {
        self.default_ttl = ttl;
    }

    pub fn policies(&mut self) -> &mut Policies {
        &mut self.policies
    }

    pub fn set_codec(&mut self, codec: Arc<dyn Codec>) {
        self.codec = codec;
    }

    pub fn set_l1(&mut self, l1: L1Settings) {
        self.l1 = Some(l1);
    }

    pub fn set_snapshot(&mut self, path: PathBuf) {
        self.snapshot = Some(path);
    }

    pub fn set_shared_loads(&mut self, shared: bool) {
        self.shared_loads = Some(shared);
    }

    /// Reads the settings from a URL, after the store has taken its own parameters, whose names are
    /// `own`.
    ///
    /// # Errors
    ///
    /// Returns [`ErrorKind::Config`] when a parameter is unknown, or its value is invalid.
    pub fn from_url(mut url: CacheUrl<'_>, own: &[&str], memory: UrlMemory) -> Result<Self> {
        let mut settings = Self {
            l1: memory.take_l1(&mut url)?,
            ..Self::default()
        };
        if let Some(namespace) = url.take("namespace") {
            settings.set_namespace(namespace);
        }
        if let Some(ttl) = url.take("ttl") {
            settings.set_default_ttl(match ttl.as_str() {
                "never" => Ttl::Never,
                ttl => Ttl::After(parse_duration(ttl).map_err(|expected| {
                    url.invalid("ttl", &format!("{expected}, or \"never\""))
                })?),
            });
        }
        if let Some(shared) = url.take("shared_loads") {
            settings.set_shared_loads(match shared.as_str() {
                "true" => true,
                "false" => false,
                _ => return Err(url.invalid("shared_loads", "true or false")),
            });
        }
        settings.policies.take_from_url(&mut url)?;
        let max_decompressed = url.take("max_decompressed");
        let max_decompressed = max_decompressed.map(|text| {
            parse_bytes(&text).ok_or_else(|| {
                url.invalid(
                    "max_decompressed",
                    "a number of bytes, such as 1000000, 512KiB or 64MiB",
                )
            })
        });
        let max_decompressed = max_decompressed.transpose()?;
        let codec = url.take("codec");
        if codec.is_some() || max_decompressed.is_some() {
            let codec = codec_by_name(codec.as_deref().unwrap_or("json"), max_decompressed);
            settings.set_codec(codec.map_err(|expected| url.invalid("codec", &expected))?);
        }
        url.finish(&[own, memory.parameters(), &PARAMETERS, POLICY_NAMES].concat())?;
        Ok(settings)
    }

    /// Checks the settings, for a store of this form. Other programs can use one of bytes too.
    pub(crate) fn check(self, form: Form, rule: KeyRule) -> Result<Checked> {
        let remote = form == Form::Bytes;
        let namespace = self
            .namespace
            .unwrap_or_else(|| String::from(if remote { "cacheio" } else { "" }));
        if remote && namespace.is_empty() {
            return Err(Error::new(
                ErrorKind::Config,
                "an empty namespace would read and replace the keys of every program that uses the \
                 server; choose a namespace, or set none for `cacheio`",
            ));
        }
        let prefix = namespace_prefix(&namespace);
        if prefix.len() > Self::PREFIX_MAX {
            return Err(Error::new(
                ErrorKind::Config,
                format!(
                    "the namespace takes {} bytes of each key; at most {} are allowed",
                    prefix.len(),
                    Self::PREFIX_MAX
                ),
            ));
        }
        if !rule.keeps(&prefix) {
            return Err(Error::new(
                ErrorKind::Config,
                "the namespace is too long for the keys of this store; choose a shorter one",
            ));
        }
        self.policies.check()?;
        if let Some(l1) = &self.l1 {
            l1.check(form)?;
        }
        let default_ttl = match self.default_ttl {
            Ttl::Default => Ttl::After(config().default_ttl),
            Ttl::After(ttl) if ttl.is_zero() => {
                return Err(Error::new(
                    ErrorKind::Config,
                    "the default TTL must be greater than zero; use `Ttl::Never` for entries that never expire",
                ));
            }
            ttl => ttl,
        };
        let snapshot = self.snapshot.map(|path| {
            // The program may change its folder later.
            path::absolute(path).map_err(|error| {
                Error::new(ErrorKind::Config, "the path of the snapshot is invalid")
                    .with_source(error)
            })
        });
        Ok(Checked {
            namespace,
            prefix,
            default_ttl,
            policies: self.policies,
            codec: self.codec,
            shared_loads: self.shared_loads,
            l1: self.l1,
            snapshot: snapshot.transpose()?,
        })
    }
}

/// Parses a number of bytes, more than zero: `1000000`, `512KiB`, `64MiB` or `1GiB`.
fn parse_bytes(text: &str) -> Option<usize> {
    let digits = text.trim_end_matches(|c: char| !c.is_ascii_digit());
    let unit: usize = match &text[digits.len()..] {
        "" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        _ => return None,
    };
    let number = digits.parse::<usize>().ok()?.checked_mul(unit)?;
    (number > 0).then_some(number)
}

/// Valid settings.
#[derive(Debug)]
pub(crate) struct Checked {
    pub(crate) namespace: String,
    /// The prefix of every key.
    pub(crate) prefix: String,
    pub(crate) default_ttl: Ttl,
    pub(crate) policies: Policies,
    pub(crate) codec: Arc<dyn Codec>,
    pub(crate) shared_loads: Option<bool>,
    pub(crate) l1: Option<L1Settings>,
    pub(crate) snapshot: Option<PathBuf>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_policy_is_a_url_parameter() {
        let read = |name: &str, value: &str| {
            let url = format!("memory://?{name}={value}");
            BuilderSettings::from_url(CacheUrl::parse(&url).unwrap(), &[], UrlMemory::NoServer)
        };
        for name in POLICY_NAMES {
            read(name, "1").unwrap();
            let refused = read(name, "?").unwrap_err();
            assert_eq!(refused.kind(), ErrorKind::Config);
            assert!(refused.to_string().contains(&format!("`{name}`")));
        }
    }
}
