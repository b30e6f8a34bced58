//! The policies: how long values live, and what a cache does when a load is slow or fails.

use std::time::Duration;

use crate::config::ttl::parse_duration;
use crate::config::url::CacheUrl;
use crate::{Error, ErrorKind, Result, Ttl};

/// Calls another macro with the table of the policies: the documentation, name and argument of the
/// setter in both cache builders, the type, and the parser of a URL parameter.
///
/// To add a policy, change four files:
///
/// 1. this one: a row here, and in [`Policies::check`] the values that are refused;
/// 2. `config/options.rs`: the setter of [`Options`](crate::Options), with its documentation;
/// 3. the file of `engine/` that applies the policy;
/// 4. `cacheio-macros/src/policies.rs`: the argument of `#[cached]`.
///
/// Tests fail until 2 and 4 have the policies of the table.
#[doc(hidden)]
#[macro_export]
macro_rules! __policies {
    ({ $($callback:tt)+ } $arguments:tt) => {
        $($callback)+! {
            @policies $arguments

            /// Sets by which part of its TTL, at most, an entry expires early at random, from 0 to 1: see
            /// [`Options::jitter`](crate::Options::jitter).
            jitter(fraction: f64) -> f64 = parse_fraction;

            /// Sets for how long after its TTL a loaded value is served when a new load fails or is slow:
            /// see [`Options::stale_for`](crate::Options::stale_for).
            stale_for(duration: Duration) -> Duration = parse_duration;

            /// Sets how long no load is started after a failed one: see
            /// [`Options::retry_after`](crate::Options::retry_after).
            retry_after(duration: Duration) -> Duration = parse_duration;

            /// Sets when a live entry is loaded again, before it expires: see
            /// [`Options::refresh_ahead`](crate::Options::refresh_ahead).
            refresh_ahead(ahead: impl Into<RefreshAhead>) -> RefreshAhead = RefreshAhead::parse;

            /// Sets how long a caller waits for a load when it can get a stale value: see
            /// [`Options::soft_timeout`](crate::Options::soft_timeout).
            soft_timeout(duration: Duration) -> Duration = parse_duration;

            /// Sets how long a caller waits for a load at most: see
            /// [`Options::hard_timeout`](crate::Options::hard_timeout).
            hard_timeout(duration: Duration) -> Duration = parse_duration;

            /// Sets after which time a load no longer blocks its key: see
            /// [`Options::max_load`](crate::Options::max_load).
            max_load(duration: Duration) -> Duration = parse_duration;

            /// Sets the TTL of a loaded `None`: see [`Options::ttl_none`](crate::Options::ttl_none).
            ttl_none(ttl: impl Into<Ttl>) -> Ttl = parse_ttl;

            /// Sets after which time without a read a loaded entry expires: see
            /// [`Options::ttl_idle`](crate::Options::ttl_idle).
            ttl_idle(duration: Duration) -> Duration = parse_duration;
        }
    };
}

macro_rules! policies {
    (@policies {} $(
        $(#[$doc:meta])*
        $name:ident($argument:ident: $argument_type:ty) -> $type:ty = $parse:path;
    )*) => {
        /// The policies of a cache or a call. `None` means the default: of the cache for a call, and
        /// of this library for a cache.
        #[doc(hidden)]
        #[allow(missing_docs)]
        #[derive(Clone, Copy, Debug, Default)]
        pub struct Policies {
            $(pub $name: Option<$type>,)*
        }

        /// The names of the policies: as URL parameters, setters and arguments of `#[cached]`.
        #[doc(hidden)]
        pub const POLICY_NAMES: &[&str] = &[$(stringify!($name)),*];

        impl Policies {
            pub(crate) const NONE: Self = Self {
                $($name: None,)*
            };

            /// Returns these policies, and those of `others` that are not set here.
            pub(crate) fn or(self, others: &Self) -> Self {
                Self {
                    $($name: self.$name.or(others.$name),)*
                }
            }

            /// Takes the policies out of the parameters of a URL.
            pub(crate) fn take_from_url(&mut self, url: &mut CacheUrl<'_>) -> Result<()> {
                $(if let Some(text) = url.take(stringify!($name)) {
                    let parsed = $parse(&text).map_err(|expected| url.invalid(stringify!($name), expected));
                    self.$name = Some(parsed?);
                })*
                Ok(())
            }
        }
    };
}

crate::__policies!({ policies } {});

/// Writes the setters of the policies in a cache builder with a field `settings`. The builder's
/// module imports the types of the arguments.
#[doc(hidden)]
#[macro_export]
macro_rules! __policy_setters {
    () => {
        $crate::__policies!({ $crate::__policy_setters } {});
    };
    (@policies {} $(
        $(#[$doc:meta])*
        $name:ident($argument:ident: $argument_type:ty) -> $type:ty = $parse:path;
    )*) => {
        $(
            $(#[$doc])*
            pub fn $name(mut self, $argument: $argument_type) -> Self {
                self.settings.policies().$name = ::std::option::Option::Some($argument.into());
                self
            }
        )*
    };
}

fn parse_fraction(text: &str) -> Result<f64, &'static str> {
    text.parse().map_err(|_| "a number between 0 and 1")
}

fn parse_ttl(text: &str) -> Result<Ttl, &'static str> {
    match text {
        "never" => Ok(Ttl::Never),
        text => parse_duration(text).map(Ttl::After),
    }
}

impl Policies {
    /// Returns whether loaded entries carry a header.
    pub(crate) fn writes_headers(&self) -> bool {
        let stale_for = self.stale_for.unwrap_or_default();
        let ahead = self.refresh_ahead.unwrap_or(RefreshAhead::Never);
        !stale_for.is_zero() || ahead != RefreshAhead::Never || self.ttl_idle.is_some()
    }

    /// Checks the policies of a cache: that each is valid, and that none contradicts another.
    pub(crate) fn check(&self) -> Result<()> {
        self.check_values()?;
        let has_stale = !self.stale_for.unwrap_or_default().is_zero();
        let refreshes = !matches!(self.refresh_ahead, None | Some(RefreshAhead::Never));
        if self.retry_after.is_some() && !has_stale && !refreshes {
            return Err(invalid(
                "`retry_after` needs `stale_for` or `refresh_ahead`; set one of them, or remove \
                 `retry_after`",
            ));
        }
        if self.soft_timeout.is_some() && !has_stale {
            return Err(invalid(
                "`soft_timeout` needs `stale_for`; set it, or use `hard_timeout` to return an error \
                 instead of a stale value",
            ));
        }
        self.check_order()
    }

    /// Checks each policy for itself: of a cache, or of a call.
    pub(crate) fn check_values(&self) -> Result<()> {
        check_jitter(self.jitter.unwrap_or_default())?;
        self.refresh_ahead.map_or(Ok(()), RefreshAhead::check)?;
        for (name, duration) in [
            ("hard_timeout", self.hard_timeout),
            ("max_load", self.max_load),
            ("ttl_idle", self.ttl_idle),
        ] {
            if duration == Some(Duration::ZERO) {
                return Err(invalid(format!("`{name}` must be greater than zero")));
            }
        }
        Ok(())
    }

    /// Returns the policies without those that are invalid.
    pub(crate) fn valid(self) -> Self {
        let is_positive = |duration: &Duration| !duration.is_zero();
        Self {
            jitter: self.jitter.filter(|jitter| check_jitter(*jitter).is_ok()),
            refresh_ahead: self.refresh_ahead.filter(|ahead| ahead.is_valid()),
            hard_timeout: self.hard_timeout.filter(is_positive),
            max_load: self.max_load.filter(is_positive),
            ttl_idle: self.ttl_idle.filter(is_positive),
            ..self
        }
    }

    /// Checks that no timeout is longer than one that ends the waiting before it.
    fn check_order(&self) -> Result<()> {
        let soft = ("soft_timeout", self.soft_timeout);
        let hard = ("hard_timeout", self.hard_timeout);
        let load = ("max_load", self.max_load);
        for ((name, timeout), (limit_name, limit)) in [(soft, hard), (soft, load), (hard, load)] {
            if timeout
                .zip(limit)
                .is_some_and(|(timeout, limit)| timeout > limit)
            {
                return Err(invalid(format!(
                    "`{name}` must not be longer than `{limit_name}`"
                )));
            }
        }
        Ok(())
    }
}

fn invalid(message: impl Into<std::borrow::Cow<'static, str>>) -> Error {
    Error::new(ErrorKind::Config, message)
}

fn check_jitter(fraction: f64) -> Result<()> {
    if (0.0..=1.0).contains(&fraction) {
        return Ok(());
    }
    Err(invalid(format!(
        "`jitter` must be between 0 and 1, got {fraction}"
    )))
}

/// When a live entry is loaded again, so that callers do not wait for a load after it has expired.
///
/// An `f64` converts into a [`Fraction`](Self::Fraction).
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum RefreshAhead {
    /// Never: only an expired entry is loaded again.
    Never,
    /// After this fraction of the TTL: more than 0, less than 1.
    Fraction(f64),
    /// At random, with a probability that grows towards the expiry and with the time that the last
    /// load took.
    ///
    /// This is `XFetch`, the optimal probabilistic early expiration of Vattani, Chierichetti and
    /// Lowenstein (PVLDB 8(8), 2015). It keeps processes that share a server from refreshing at the
    /// same time.
    XFetch {
        /// How early: values above 1 refresh earlier, values below 1 later. 1 is optimal.
        beta: f64,
    },
}

/// `XFetch` never refreshes earlier than this many load times (times `beta`) before the expiry: the
/// probability is less than one in eight million.
pub(crate) const XFETCH_REACH: f64 = 16.0;

impl RefreshAhead {
    /// [`XFetch`](Self::XFetch) with the `beta` that its authors recommend.
    pub const XFETCH: Self = Self::XFetch { beta: 1.0 };

    fn parse(text: &str) -> Result<Self, &'static str> {
        match text {
            "never" => Ok(Self::Never),
            "xfetch" => Ok(Self::XFETCH),
            fraction => match fraction.parse() {
                Ok(fraction) => Ok(Self::Fraction(fraction)),
                Err(_) => Err("a number between 0 and 1, \"xfetch\", or \"never\""),
            },
        }
    }

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
        Err(invalid(match self {
            Self::XFetch { beta } => {
                format!(
                    "`beta` of `RefreshAhead::XFetch` must be greater than 0 and finite, got {beta}"
                )
            }
            Self::Fraction(fraction) => {
                format!("`refresh_ahead` must be greater than 0 and less than 1, got {fraction}")
            }
            Self::Never => unreachable!("`Never` is valid"),
        }))
    }
}

impl From<f64> for RefreshAhead {
    fn from(fraction: f64) -> Self {
        Self::Fraction(fraction)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn refused(policies: Policies) -> String {
        policies.check().unwrap_err().to_string()
    }

    #[test]
    fn contradictory_policies_are_refused_with_both_names() {
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
    fn invalid_values_are_refused() {
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
    fn valid_policies_are_accepted() {
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
