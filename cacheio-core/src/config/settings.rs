//! What a cache is built with.

// Reached by the crates on top alone, whose builders document each setting.
#![allow(missing_docs)]

use std::sync::Arc;

use crate::codec::codec_by_name;
use crate::config::policies::{self, Policies};
use crate::config::ttl::{lifetime, parse_duration};
use crate::config::url::CacheUrl;
use crate::key::namespace_prefix;
use crate::{Codec, Error, ErrorKind, Json, KeyRule, Result, Ttl, config};

/// What a cache is built with, whatever stands behind it: the part that both builders share.
#[doc(hidden)]
#[derive(Clone, Debug)]
pub struct Settings {
    namespace: Option<String>,
    default_ttl: Ttl,
    policies: Policies,
    codec: Arc<dyn Codec>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            namespace: None,
            default_ttl: Ttl::Default,
            policies: Policies::default(),
            codec: Arc::new(Json),
        }
    }
}

/// What the parameters of every cache URL can say, beside the policies.
const PARAMETERS: [&str; 3] = ["namespace", "ttl", "codec"];

impl Settings {
    /// The longest namespace, in bytes, as it stands in keys.
    const NAMESPACE_MAX: usize = 100;

    pub fn set_namespace(&mut self, namespace: String) {
        self.namespace = Some(namespace);
    }

    pub fn set_default_ttl(&mut self, ttl: Ttl) {
        self.default_ttl = ttl;
    }

    /// What the cache says about its loads.
    pub fn policies(&mut self) -> &mut Policies {
        &mut self.policies
    }

    pub fn set_codec(&mut self, codec: Arc<dyn Codec>) {
        self.codec = codec;
    }

    /// Takes the parameters that every URL has; the backend takes its own before.
    ///
    /// # Errors
    ///
    /// A parameter that is left over, or whose value is none. `own` names the backend's.
    pub fn from_url(mut url: CacheUrl<'_>, own: &[&str]) -> Result<Self> {
        let mut settings = Self::default();
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
        for parameter in policies::PARAMETERS {
            if let Some(text) = url.take(parameter) {
                let set = settings.policies.set(parameter, &text);
                set.map_err(|expected| url.invalid(parameter, expected))?;
            }
        }
        if let Some(codec) = url.take("codec") {
            let codec = codec_by_name(&codec);
            settings.set_codec(codec.map_err(|expected| url.invalid("codec", &expected))?);
        }
        url.finish(&[own, &PARAMETERS, &policies::PARAMETERS].concat())?;
        Ok(settings)
    }

    /// Checks it all. `remote` says whether other programs may share the store.
    pub(crate) fn check(self, remote: bool, rule: KeyRule) -> Result<Checked> {
        let namespace = self
            .namespace
            .unwrap_or_else(|| String::from(if remote { "cacheio" } else { "" }));
        let prefix = namespace_prefix(&namespace);
        if prefix.len() > Self::NAMESPACE_MAX {
            return Err(Error::new(
                ErrorKind::Config,
                format!(
                    "a namespace of {} bytes is too long: at most 100 fit in front of every key",
                    prefix.len()
                ),
            ));
        }
        if !rule.keeps(&prefix) {
            return Err(Error::new(
                ErrorKind::Config,
                "the store's keys are too short for this namespace",
            ));
        }
        self.policies.check()?;
        let default_ttl = match self.default_ttl {
            Ttl::Default => Ttl::After(config().default_ttl),
            Ttl::After(ttl) if ttl.is_zero() => {
                return Err(Error::new(
                    ErrorKind::Config,
                    "a default TTL of zero stores nothing; Ttl::Never is for entries that never expire",
                ));
            }
            ttl => ttl,
        };
        lifetime(default_ttl, Ttl::Never, 0.0, 0.0)?;
        Ok(Checked {
            namespace,
            prefix,
            default_ttl,
            policies: self.policies,
            codec: self.codec,
        })
    }
}

/// Settings that make sense.
#[derive(Debug)]
pub(crate) struct Checked {
    pub(crate) namespace: String,
    /// What stands before every key.
    pub(crate) prefix: String,
    pub(crate) default_ttl: Ttl,
    pub(crate) policies: Policies,
    pub(crate) codec: Arc<dyn Codec>,
}
