//! What a cache is built with.

// Reached by the crates on top alone, whose builders document each setting.
#![allow(missing_docs)]

use std::sync::Arc;
use std::time::Duration;

use crate::codec::codec_by_name;
use crate::key::namespace_prefix;
use crate::ttl::{lifetime, parse_duration};
use crate::url::CacheUrl;
use crate::{Codec, Error, ErrorKind, Json, KeyRule, Result, Ttl, config};

/// What a cache is built with, whatever stands behind it: the part that both builders share.
#[doc(hidden)]
#[derive(Clone, Debug)]
pub struct Settings {
    namespace: Option<String>,
    default_ttl: Ttl,
    jitter: f64,
    stale_for: Duration,
    retry_after: Option<Duration>,
    codec: Arc<dyn Codec>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            namespace: None,
            default_ttl: Ttl::Default,
            jitter: 0.0,
            stale_for: Duration::ZERO,
            retry_after: None,
            codec: Arc::new(Json),
        }
    }
}

/// What the parameters of every cache URL can say.
const PARAMETERS: [&str; 6] = [
    "namespace",
    "ttl",
    "jitter",
    "stale_for",
    "retry_after",
    "codec",
];

/// How long nothing is tried again after a load failed, unless it is said.
const RETRY_AFTER: Duration = Duration::from_secs(30);

impl Settings {
    /// The longest namespace, in bytes, as it stands in keys.
    const NAMESPACE_MAX: usize = 100;

    pub fn set_namespace(&mut self, namespace: String) {
        self.namespace = Some(namespace);
    }

    pub fn set_default_ttl(&mut self, ttl: Ttl) {
        self.default_ttl = ttl;
    }

    pub fn set_jitter(&mut self, fraction: f64) {
        self.jitter = fraction;
    }

    pub fn set_stale_for(&mut self, duration: Duration) {
        self.stale_for = duration;
    }

    pub fn set_retry_after(&mut self, duration: Duration) {
        self.retry_after = Some(duration);
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
        if let Some(jitter) = url.take("jitter") {
            let fraction = jitter.parse();
            settings
                .set_jitter(fraction.map_err(|_| url.invalid("jitter", "a number from 0 to 1"))?);
        }
        if let Some(stale_for) = duration(&mut url, "stale_for")? {
            settings.set_stale_for(stale_for);
        }
        if let Some(retry_after) = duration(&mut url, "retry_after")? {
            settings.set_retry_after(retry_after);
        }
        if let Some(codec) = url.take("codec") {
            let codec = codec_by_name(&codec);
            settings.set_codec(codec.map_err(|expected| url.invalid("codec", &expected))?);
        }
        url.finish(&[own, &PARAMETERS].concat())?;
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
        check_jitter(self.jitter)?;
        if self.stale_for.is_zero() && self.retry_after.is_some() {
            return Err(Error::new(
                ErrorKind::Config,
                "retry_after needs stale_for: it is how long a load that failed is not tried again, \
                 while something stale is served; set stale_for too, or leave retry_after out",
            ));
        }
        if self.stale_for > Ttl::MAX {
            return Err(Error::new(
                ErrorKind::Config,
                "a stale_for of more than 290 years is longer than the longest TTL there is",
            ));
        }
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
            jitter: self.jitter,
            stale_for: self.stale_for,
            retry_after: self.retry_after.unwrap_or(RETRY_AFTER),
            codec: self.codec,
        })
    }
}

fn duration(url: &mut CacheUrl<'_>, name: &str) -> Result<Option<Duration>> {
    let duration = url.take(name).map(|text| parse_duration(&text));
    let duration = duration.transpose();
    duration.map_err(|expected| url.invalid(name, expected))
}

/// The fraction, if it is one.
pub(crate) fn check_jitter(fraction: f64) -> Result<f64> {
    if (0.0..=1.0).contains(&fraction) {
        return Ok(fraction);
    }
    Err(Error::new(
        ErrorKind::Config,
        format!(
            "a jitter of {fraction} makes no sense: it is the fraction of the TTL, from 0 to 1, by \
             which entries expire earlier"
        ),
    ))
}

/// Settings that make sense.
#[derive(Debug)]
pub(crate) struct Checked {
    pub(crate) namespace: String,
    /// What stands before every key.
    pub(crate) prefix: String,
    pub(crate) default_ttl: Ttl,
    pub(crate) jitter: f64,
    pub(crate) stale_for: Duration,
    pub(crate) retry_after: Duration,
    pub(crate) codec: Arc<dyn Codec>,
}
