//! What loads may rely on when the origin is slow, fails or hangs.

use std::time::Duration;

use crate::config::ttl::parse_duration;
use crate::{Error, ErrorKind, Result, Ttl};

/// When what is still live is loaded anew, so that nobody ever waits for it.
///
/// An `f64` is a [`Fraction`](Self::Fraction).
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum RefreshAhead {
    /// Not before it has expired.
    Never,
    /// When this fraction of its TTL has passed: more than 0, less than 1.
    Fraction(f64),
    /// At random, the likelier the nearer the end and the longer the load took: `XFetch`, the
    /// optimal probabilistic early expiration of Vattani, Chierichetti and Lowenstein (PVLDB 8(8),
    /// 2015). Processes that share a server do not all refresh at once then. A `beta` above 1
    /// refreshes earlier, one below 1 later; 1 is optimal.
    XFetch {
        /// How early.
        beta: f64,
    },
}

/// No load is refreshed so many of its own (and `beta`) times before its end: the odds are less
/// than one in eight million.
pub(crate) const XFETCH_REACH: f64 = 16.0;

impl RefreshAhead {
    /// [`XFetch`](Self::XFetch) as its authors recommend it.
    pub const XFETCH: Self = Self::XFetch { beta: 1.0 };

    /// As URLs write it.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        match text {
            "never" => Some(Self::Never),
            "xfetch" => Some(Self::XFETCH),
            fraction => fraction.parse().ok().map(Self::Fraction),
        }
    }

    /// Whether it makes sense.
    pub(crate) fn is_valid(self) -> bool {
        match self {
            Self::Never => true,
            Self::Fraction(fraction) => fraction > 0.0 && fraction < 1.0,
            Self::XFetch { beta } => beta > 0.0 && beta.is_finite(),
        }
    }

    fn check(self) -> Result<()> {
        if self.is_valid() {
            return Ok(());
        }
        let message = match self {
            Self::XFetch { beta } => {
                format!("a refresh_ahead by XFetch needs a beta above 0, not {beta}")
            }
            Self::Fraction(fraction) => format!(
                "a refresh_ahead of {fraction} makes no sense: it is the fraction of the TTL after \
                 which an entry is loaded anew, more than 0 and less than 1"
            ),
            Self::Never => unreachable!("never is always sensible"),
        };
        Err(Error::new(ErrorKind::Config, message))
    }
}

impl From<f64> for RefreshAhead {
    fn from(fraction: f64) -> Self {
        Self::Fraction(fraction)
    }
}

/// What a cache or a call says about its loads; nothing means what is said elsewhere.
#[doc(hidden)]
#[allow(missing_docs)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Policies {
    pub jitter: Option<f64>,
    pub stale_for: Option<Duration>,
    pub retry_after: Option<Duration>,
    pub refresh_ahead: Option<RefreshAhead>,
    pub soft_timeout: Option<Duration>,
    pub hard_timeout: Option<Duration>,
    pub max_load: Option<Duration>,
    pub ttl_none: Option<Ttl>,
    pub ttl_idle: Option<Duration>,
}

/// What parameters of a URL say what [`Policies`] do.
pub(crate) const PARAMETERS: [&str; 9] = [
    "jitter",
    "stale_for",
    "retry_after",
    "refresh_ahead",
    "soft_timeout",
    "hard_timeout",
    "max_load",
    "ttl_none",
    "ttl_idle",
];

impl Policies {
    pub(crate) const NONE: Self = Self {
        jitter: None,
        stale_for: None,
        retry_after: None,
        refresh_ahead: None,
        soft_timeout: None,
        hard_timeout: None,
        max_load: None,
        ttl_none: None,
        ttl_idle: None,
    };

    /// Takes what a parameter of a URL says.
    ///
    /// # Errors
    ///
    /// What it should have been.
    pub(crate) fn set(&mut self, parameter: &str, text: &str) -> Result<(), &'static str> {
        match parameter {
            "jitter" => {
                self.jitter = Some(text.parse().map_err(|_| "a number from 0 to 1")?);
            }
            "stale_for" => self.stale_for = Some(parse_duration(text)?),
            "retry_after" => self.retry_after = Some(parse_duration(text)?),
            "refresh_ahead" => {
                let ahead = RefreshAhead::parse(text);
                self.refresh_ahead =
                    Some(ahead.ok_or("a number between 0 and 1, \"xfetch\", or \"never\"")?);
            }
            "soft_timeout" => self.soft_timeout = Some(parse_duration(text)?),
            "hard_timeout" => self.hard_timeout = Some(parse_duration(text)?),
            "max_load" => self.max_load = Some(parse_duration(text)?),
            "ttl_none" => self.ttl_none = Some(Ttl::After(parse_duration(text)?)),
            _ => self.ttl_idle = Some(parse_duration(text)?),
        }
        Ok(())
    }

    /// Whether what is loaded carries the moments of its life.
    pub(crate) fn writes_headers(&self) -> bool {
        let stale_for = self.stale_for.unwrap_or_default();
        let ahead = self.refresh_ahead.unwrap_or(RefreshAhead::Never);
        !stale_for.is_zero() || ahead != RefreshAhead::Never || self.ttl_idle.is_some()
    }

    /// Checks each, and that they fit together.
    pub(crate) fn check(&self) -> Result<()> {
        check_jitter(self.jitter.unwrap_or_default())?;
        self.refresh_ahead.map_or(Ok(()), RefreshAhead::check)?;
        let stale_for = self.stale_for.unwrap_or_default();
        let refreshes = !matches!(self.refresh_ahead, None | Some(RefreshAhead::Never));
        if self.retry_after.is_some() && stale_for.is_zero() && !refreshes {
            return Err(Error::new(
                ErrorKind::Config,
                "retry_after needs stale_for or refresh_ahead: it is how long a load that failed is \
                 not tried again, while something older is served; set one of them too, or leave \
                 retry_after out",
            ));
        }
        if self.soft_timeout.is_some() && stale_for.is_zero() {
            return Err(Error::new(
                ErrorKind::Config,
                "soft_timeout needs stale_for: when it is over, something stale is served; set \
                 stale_for too, or hard_timeout for an error instead",
            ));
        }
        for (name, duration) in [
            ("hard_timeout", self.hard_timeout),
            ("max_load", self.max_load),
        ] {
            if duration == Some(Duration::ZERO) {
                return Err(Error::new(
                    ErrorKind::Config,
                    format!("a {name} of zero would let no load come to its end"),
                ));
            }
        }
        if self.ttl_idle == Some(Duration::ZERO) {
            return Err(Error::new(
                ErrorKind::Config,
                "a ttl_idle of zero stores nothing: it is how long an entry stays that nobody reads",
            ));
        }
        let in_order = |first: Option<Duration>, second: Option<Duration>| {
            first
                .zip(second)
                .is_none_or(|(first, second)| first <= second)
        };
        if !in_order(self.soft_timeout, self.hard_timeout) {
            return Err(Error::new(
                ErrorKind::Config,
                "soft_timeout is longer than hard_timeout, and so would never be over: it is when \
                 something stale is served, hard_timeout when there is an error",
            ));
        }
        for (name, timeout) in [
            ("soft_timeout", self.soft_timeout),
            ("hard_timeout", self.hard_timeout),
        ] {
            if !in_order(timeout, self.max_load) {
                return Err(Error::new(
                    ErrorKind::Config,
                    format!(
                        "{name} is longer than max_load, and so would never be over: max_load ends \
                         the load itself"
                    ),
                ));
            }
        }
        let of_none = match self.ttl_none {
            Some(Ttl::After(ttl)) => Some(ttl),
            _ => None,
        };
        for (name, duration) in [
            ("stale_for", self.stale_for),
            ("retry_after", self.retry_after),
            ("ttl_none", of_none),
        ] {
            if duration.is_some_and(|duration| duration > Ttl::MAX) {
                return Err(Error::new(
                    ErrorKind::Config,
                    format!(
                        "a {name} of more than 290 years is longer than the longest TTL there is"
                    ),
                ));
            }
        }
        Ok(())
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn refused(policies: Policies) -> String {
        policies.check().unwrap_err().to_string()
    }

    #[test]
    fn what_does_not_fit_together_is_named() {
        let stale = Policies {
            stale_for: Some(SECOND),
            ..Policies::default()
        };
        let both = |message: String, one, other| {
            assert!(
                message.contains(one) && message.contains(other),
                "{message}"
            );
        };
        both(
            refused(Policies {
                soft_timeout: Some(SECOND),
                ..Policies::default()
            }),
            "soft_timeout",
            "stale_for",
        );
        both(
            refused(Policies {
                soft_timeout: Some(SECOND * 2),
                hard_timeout: Some(SECOND),
                ..stale
            }),
            "soft_timeout",
            "hard_timeout",
        );
        both(
            refused(Policies {
                hard_timeout: Some(SECOND * 2),
                max_load: Some(SECOND),
                ..stale
            }),
            "hard_timeout",
            "max_load",
        );
        both(
            refused(Policies {
                retry_after: Some(SECOND),
                ..Policies::default()
            }),
            "retry_after",
            "refresh_ahead",
        );
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for ahead in [0.0, 1.0, -0.5, 8.0, f64::NAN] {
            let policies = Policies {
                refresh_ahead: Some(ahead.into()),
                ..Policies::default()
            };
            assert!(refused(policies).contains("refresh_ahead"), "{ahead}");
        }
        for beta in [0.0, -1.0, f64::INFINITY, f64::NAN] {
            let policies = Policies {
                refresh_ahead: Some(RefreshAhead::XFetch { beta }),
                ..Policies::default()
            };
            assert!(refused(policies).contains("beta"), "{beta}");
        }
        let zero = Some(Duration::ZERO);
        assert!(
            refused(Policies {
                hard_timeout: zero,
                ..Policies::default()
            })
            .contains("hard_timeout")
        );
        assert!(
            refused(Policies {
                max_load: zero,
                ..Policies::default()
            })
            .contains("max_load")
        );
    }

    #[test]
    fn what_fits_is_taken() {
        let all = Policies {
            jitter: Some(0.1),
            stale_for: Some(SECOND * 60),
            retry_after: Some(SECOND),
            refresh_ahead: Some(RefreshAhead::XFETCH),
            soft_timeout: Some(Duration::ZERO),
            hard_timeout: Some(SECOND),
            max_load: Some(Duration::MAX),
            ttl_none: Some(Duration::ZERO.into()),
            ttl_idle: Some(Duration::MAX),
        };
        all.check().unwrap();
        Policies::default().check().unwrap();
    }
}
