//! How long an entry lives.

use std::time::Duration;

use crate::{Error, ErrorKind, Result};

/// How long an entry lives.
///
/// A [`Duration`] is one, so `cache.set_with("k", 1, Duration::from_secs(60))` works.
/// [`Duration::ZERO`] stores nothing and removes what was there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Ttl {
    /// What the cache was built with.
    #[default]
    Default,
    /// For this long, to the millisecond (whole seconds, rounded up, on Memcached).
    After(Duration),
    /// Until it is deleted or evicted.
    Never,
}

impl Ttl {
    /// The longest duration that can be asked for: 290 years.
    pub const MAX: Duration = Duration::from_secs(290 * 365 * 24 * 60 * 60);
}

impl From<Duration> for Ttl {
    fn from(duration: Duration) -> Self {
        Self::After(duration)
    }
}

/// A [`Ttl`] with nothing left open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lifetime {
    /// Store nothing, remove what is there.
    Zero,
    /// Store for a time, or for ever.
    Live(Option<Duration>),
}

/// The lifetime that `ttl` asks for in a cache whose default is `default`.
///
/// `jitter` shortens it by up to that fraction, as `random` (from 0 to 1) says.
pub(crate) fn lifetime(ttl: Ttl, default: Ttl, jitter: f64, random: f64) -> Result<Lifetime> {
    let after = match (ttl, default) {
        (Ttl::After(after), _) | (Ttl::Default, Ttl::After(after)) => after,
        (Ttl::Never, _) | (Ttl::Default, Ttl::Never) => return Ok(Lifetime::Live(None)),
        (Ttl::Default, Ttl::Default) => unreachable!("a cache's own default is never `Default`"),
    };
    if after > Ttl::MAX {
        return Err(Error::new(
            ErrorKind::Config,
            format!(
                "a TTL of {} s is longer than 290 years, the longest there is; \
                 Ttl::Never keeps an entry until it is deleted or evicted",
                after.as_secs()
            ),
        ));
    }
    if after.is_zero() {
        return Ok(Lifetime::Zero);
    }
    let spread = after.mul_f64(1.0 - jitter * random);
    Ok(Lifetime::Live(Some(
        spread.max(Duration::from_millis(1).min(after)),
    )))
}

/// A duration as people write it: `"500ms"`, `"30s"`, `"5m"`, `"2h"`, `"1d"`, or a bare number of
/// seconds. It is `const`, so that the macros check theirs when the program is compiled.
pub const fn parse_duration(text: &str) -> Result<Duration, &'static str> {
    const EXPECTED: &str =
        "a duration is a whole number and a unit: \"500ms\", \"30s\", \"5m\", \"2h\" or \"1d\"";
    let bytes = text.as_bytes();
    let mut number: u64 = 0;
    let mut at = 0;
    while at < bytes.len() && bytes[at].is_ascii_digit() {
        number = match number.checked_mul(10) {
            Some(tens) => match tens.checked_add((bytes[at] - b'0') as u64) {
                Some(number) => number,
                None => return Err("the duration is too long"),
            },
            None => return Err("the duration is too long"),
        };
        at += 1;
    }
    if at == 0 {
        return Err(EXPECTED);
    }
    let (_, unit) = bytes.split_at(at);
    let seconds: u64 = match unit {
        b"ms" => return Ok(Duration::from_millis(number)),
        b"" | b"s" => 1,
        b"m" => 60,
        b"h" => 3_600,
        b"d" => 86_400,
        _ => return Err(EXPECTED),
    };
    match number.checked_mul(seconds) {
        Some(seconds) => Ok(Duration::from_secs(seconds)),
        None => Err("the duration is too long"),
    }
}

/// A fraction from 0 to 1, from the standard library's own randomness.
#[allow(clippy::cast_precision_loss)]
pub(crate) fn random_fraction() -> f64 {
    use std::hash::{BuildHasher, RandomState};
    let bits = RandomState::new().hash_one(0);
    (bits >> 11) as f64 / (1_u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIN: Duration = Duration::from_secs(60);

    #[test]
    fn default_takes_the_caches_own() {
        assert_eq!(
            lifetime(Ttl::Default, Ttl::After(MIN), 0.0, 0.5).unwrap(),
            Lifetime::Live(Some(MIN))
        );
        assert_eq!(
            lifetime(Ttl::Default, Ttl::Never, 0.0, 0.5).unwrap(),
            Lifetime::Live(None)
        );
        assert_eq!(
            lifetime(Ttl::Never, Ttl::After(MIN), 0.0, 0.5).unwrap(),
            Lifetime::Live(None)
        );
    }

    #[test]
    fn zero_stores_nothing() {
        assert_eq!(
            lifetime(Duration::ZERO.into(), Ttl::Never, 0.5, 1.0).unwrap(),
            Lifetime::Zero
        );
    }

    #[test]
    fn too_long_is_refused() {
        let error = lifetime(Duration::MAX.into(), Ttl::Never, 0.0, 0.0).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config);
        assert!(error.to_string().contains("Ttl::Never"), "{error}");
        assert!(lifetime(Ttl::MAX.into(), Ttl::Never, 0.0, 0.0).is_ok());
    }

    #[test]
    fn jitter_only_shortens_and_never_to_zero() {
        let at = |random| lifetime(MIN.into(), Ttl::Never, 0.1, random).unwrap();
        assert_eq!(at(0.0), Lifetime::Live(Some(MIN)));
        assert_eq!(at(1.0), Lifetime::Live(Some(Duration::from_secs(54))));
        let tiny = Duration::from_nanos(1);
        assert_eq!(
            lifetime(tiny.into(), Ttl::Never, 1.0, 1.0).unwrap(),
            Lifetime::Live(Some(tiny))
        );
    }

    #[test]
    fn durations_as_people_write_them() {
        assert_eq!(parse_duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(parse_duration("60"), Ok(MIN));
        assert_eq!(parse_duration("1m"), Ok(MIN));
        assert_eq!(parse_duration("2h"), Ok(MIN * 120));
        assert_eq!(parse_duration("1d"), Ok(MIN * 60 * 24));
        for wrong in ["", "m", "5x", "-5s", "1.5s", "99999999999999999999s"] {
            assert!(parse_duration(wrong).is_err(), "{wrong}");
        }
    }
}
