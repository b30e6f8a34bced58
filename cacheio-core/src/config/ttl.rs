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
    if jitter == 0.0 {
        return Lifetime::Live(Some(after));
    }
    let spread = after.mul_f64(1.0 - jitter * random);
    Lifetime::Live(Some(spread.max(Duration::from_millis(1).min(after))))
}

/// Parses a duration: `"500ms"`, `"30s"`, `"1.5h"`, `"1h30m"`, or a number of seconds.
///
/// The units are `w`, `d`, `h`, `m`, `s`, `ms`, `us` or `µs`, and `ns`, each at most once and from the longest
/// to the shortest.
///
/// The function is `const`: the macros check their arguments at compile time with it.
///
/// # Errors
///
/// Returns the expected value, as the end of a sentence that begins with "must be".
pub const fn parse_duration(text: &str) -> Result<Duration, &'static str> {
    const EXPECTED: &str =
        "a duration such as \"500ms\", \"30s\", \"1h30m\" or \"1d\", or a number of seconds";
    const TOO_LONG: &str = "a shorter duration: at most 2^64 seconds";
    let mut rest = text.as_bytes();
    let mut sum: u128 = 0;
    let mut last_unit = u128::MAX;
    loop {
        let Some((number, billionths, after)) = parse_number(rest) else {
            return Err(EXPECTED);
        };
        let unit = match parse_unit(after) {
            // Without a unit, a number is one of seconds, and the only one.
            None if after.is_empty() && last_unit == u128::MAX => (SECOND, after),
            None => return Err(EXPECTED),
            Some(unit) => unit,
        };
        let (nanoseconds, after) = unit;
        if nanoseconds >= last_unit {
            return Err(EXPECTED);
        }
        // At most 9 units of 2^64 each: this does not overflow.
        sum += number as u128 * nanoseconds + billionths as u128 * nanoseconds / SECOND;
        if sum / SECOND > u64::MAX as u128 {
            return Err(TOO_LONG);
        }
        if after.is_empty() {
            let (seconds, nanoseconds) = (sum / SECOND, sum % SECOND);
            return Ok(Duration::new(seconds as u64, nanoseconds as u32));
        }
        (rest, last_unit) = (after, nanoseconds);
    }
}

/// A second in nanoseconds.
const SECOND: u128 = 1_000_000_000;

/// Parses `12` or `12.5`: the whole number, the billionths, and what follows. More than 9 decimals are
/// ignored.
const fn parse_number(text: &[u8]) -> Option<(u64, u32, &[u8])> {
    let mut number: u64 = 0;
    let mut at = 0;
    while at < text.len() && text[at].is_ascii_digit() {
        let Some(tens) = number.checked_mul(10) else {
            return None;
        };
        let Some(sum) = tens.checked_add((text[at] - b'0') as u64) else {
            return None;
        };
        number = sum;
        at += 1;
    }
    if at == 0 {
        return None;
    }
    let mut billionths = 0;
    if at < text.len() && text[at] == b'.' {
        let point = at;
        let mut place = 100_000_000;
        at += 1;
        while at < text.len() && text[at].is_ascii_digit() {
            billionths += place * (text[at] - b'0') as u32;
            place /= 10;
            at += 1;
        }
        if at == point + 1 {
            return None;
        }
    }
    Some((number, billionths, text.split_at(at).1))
}

/// Parses a unit: its nanoseconds, and what follows.
const fn parse_unit(text: &[u8]) -> Option<(u128, &[u8])> {
    Some(match text {
        [b'm', b's', rest @ ..] => (1_000_000, rest),
        [b'u', b's', rest @ ..] => (1_000, rest),
        // `µ` has two code points that look the same.
        [0xC2, 0xB5, b's', rest @ ..] | [0xCE, 0xBC, b's', rest @ ..] => (1_000, rest),
        [b'n', b's', rest @ ..] => (1, rest),
        [b's', rest @ ..] => (SECOND, rest),
        [b'm', rest @ ..] => (60 * SECOND, rest),
        [b'h', rest @ ..] => (3_600 * SECOND, rest),
        [b'd', rest @ ..] => (86_400 * SECOND, rest),
        [b'w', rest @ ..] => (604_800 * SECOND, rest),
        _ => return None,
    })
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
        let ms = Duration::from_millis;
        for (text, duration) in [
            ("500ms", ms(500)),
            ("60", MIN),
            ("0", Duration::ZERO),
            ("0.25", ms(250)),
            ("1m", MIN),
            ("2h", MIN * 120),
            ("1d", MIN * 60 * 24),
            ("1w", MIN * 60 * 24 * 7),
            ("1.5s", ms(1_500)),
            ("0.5h", MIN * 30),
            ("1h30m", MIN * 90),
            ("1h0m", MIN * 60),
            ("1d2h3m4s5ms", ms(93_784_005)),
            ("1m1.5s", ms(61_500)),
            ("90m", MIN * 90),
            ("7us", Duration::from_micros(7)),
            ("7µs", Duration::from_micros(7)),
            ("7ns", Duration::from_nanos(7)),
            ("0.0000000019s", Duration::from_nanos(1)),
            ("18446744073709551615s", Duration::from_secs(u64::MAX)),
        ] {
            assert_eq!(parse_duration(text), Ok(duration), "{text}");
        }
        for wrong in [
            "",
            "m",
            ".5s",
            "1.s",
            "1.",
            "1..5s",
            "5x",
            "5S",
            "-5s",
            "+5s",
            "1e3s",
            "1h30",
            "30m1h",
            "1h1h",
            "1h 30m",
            " 1h",
            "1h ",
            "1h,",
            "1 hour",
            "1min",
            "5 minutes",
            "99999999999999999999s",
        ] {
            let expected = parse_duration(wrong).unwrap_err();
            assert!(expected.contains("\"1h30m\""), "{wrong}: {expected}");
        }
        assert!(
            parse_duration("18446744073709551615h")
                .unwrap_err()
                .contains("shorter")
        );
        assert!(
            parse_duration("18446744073709551615s1000ms")
                .unwrap_err()
                .contains("shorter")
        );
    }

    #[test]
    fn a_duration_is_read_as_debug_writes_it() {
        for nanoseconds in [0, 1, 1_500, 2_000_001, 1_500_000_000, 3_600_000_000_001] {
            let duration = Duration::from_nanos(nanoseconds);
            assert_eq!(parse_duration(&format!("{duration:?}")), Ok(duration));
        }
    }
}
