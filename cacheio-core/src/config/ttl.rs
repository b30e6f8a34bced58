//! TTLs and durations.

use std::time::Duration;

/// How long an entry lives.
///
/// A [`Duration`] converts into a `Ttl`: `cache.set_with("k", 1, Duration::from_secs(60))`. With
/// [`Duration::ZERO`], nothing is stored, and the entry that was there is removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Ttl {
    /// The default TTL of the cache.
    #[default]
    Default,
    /// This long, in milliseconds; on Memcached in whole seconds, rounded up.
    After(Duration),
    /// Until it is deleted or evicted.
    Never,
}

impl Ttl {
    /// The longest TTL: 290 years. A longer one means [`Never`](Self::Never).
    pub const MAX: Duration = Duration::from_secs(290 * 365 * 24 * 60 * 60);
}

impl From<Duration> for Ttl {
    fn from(duration: Duration) -> Self {
        Self::After(duration)
    }
}

/// A [`Ttl`] whose default is resolved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lifetime {
    /// Nothing is stored, and the entry that was there is removed.
    Zero,
    /// The entry lives this long, or forever.
    Live(Option<Duration>),
}

/// Resolves `ttl` in a cache with the TTL `default`.
///
/// The lifetime is shortened by the fraction `jitter * random` of it; `random` is between 0 and 1. A
/// TTL that is longer than [`Ttl::MAX`] means never.
pub(crate) fn lifetime(ttl: Ttl, default: Ttl, jitter: f64, random: f64) -> Lifetime {
    let after = match (ttl, default) {
        (Ttl::After(after), _) | (Ttl::Default, Ttl::After(after)) => after,
        (Ttl::Never, _) | (Ttl::Default, Ttl::Never) => return Lifetime::Live(None),
        (Ttl::Default, Ttl::Default) => {
            unreachable!("the default of a cache is never `Ttl::Default`")
        }
    };
    if after > Ttl::MAX {
        return Lifetime::Live(None);
    }
    if after.is_zero() {
        return Lifetime::Zero;
    }
    let spread = after.mul_f64(1.0 - jitter * random);
    Lifetime::Live(Some(spread.max(Duration::from_millis(1).min(after))))
}

/// Parses a duration: `"500ms"`, `"30s"`, `"5m"`, `"2h"`, `"1d"`, or a number of seconds.
///
/// The function is `const`: the macros check their arguments at compile time with it.
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

/// Returns a random number between 0 and 1, from the randomness of the standard library.
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
    fn the_default_is_that_of_the_cache() {
        assert_eq!(
            lifetime(Ttl::Default, Ttl::After(MIN), 0.0, 0.5),
            Lifetime::Live(Some(MIN))
        );
        assert_eq!(
            lifetime(Ttl::Default, Ttl::Never, 0.0, 0.5),
            Lifetime::Live(None)
        );
        assert_eq!(
            lifetime(Ttl::Never, Ttl::After(MIN), 0.0, 0.5),
            Lifetime::Live(None)
        );
    }

    #[test]
    fn zero_stores_nothing() {
        assert_eq!(
            lifetime(Duration::ZERO.into(), Ttl::Never, 0.5, 1.0),
            Lifetime::Zero
        );
    }

    #[test]
    fn a_ttl_above_the_maximum_is_never() {
        for ttl in [Ttl::MAX + Duration::from_nanos(1), Duration::MAX] {
            let lifetime = lifetime(ttl.into(), Ttl::After(MIN), 1.0, 1.0);
            assert_eq!(lifetime, Lifetime::Live(None));
        }
        let longest = lifetime(Ttl::MAX.into(), Ttl::Never, 0.0, 0.0);
        assert_eq!(longest, Lifetime::Live(Some(Ttl::MAX)));
    }

    #[test]
    fn jitter_only_shortens_and_never_to_zero() {
        let at = |random| lifetime(MIN.into(), Ttl::Never, 0.1, random);
        assert_eq!(at(0.0), Lifetime::Live(Some(MIN)));
        assert_eq!(at(1.0), Lifetime::Live(Some(Duration::from_secs(54))));
        let tiny = Duration::from_nanos(1);
        assert_eq!(
            lifetime(tiny.into(), Ttl::Never, 1.0, 1.0),
            Lifetime::Live(Some(tiny))
        );
    }

    #[test]
    fn durations_are_parsed_with_their_units() {
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
