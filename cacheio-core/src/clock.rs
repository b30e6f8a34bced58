//! Clocks.

use std::fmt::Debug;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// A point in time on a [`Clock`]: nanoseconds since an origin that each clock chooses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(u64);

impl Timestamp {
    /// The earliest timestamp.
    pub const MIN: Self = Self(0);
    /// The latest timestamp; as an expiry, it means never.
    pub const MAX: Self = Self(u64::MAX);

    /// Creates a timestamp from nanoseconds since the origin of the clock.
    ///
    /// ```
    /// use cacheio::Timestamp;
    ///
    /// assert!(Timestamp::from_nanos(1) < Timestamp::from_nanos(2));
    /// ```
    pub const fn from_nanos(nanos: u64) -> Self {
        Self(nanos)
    }

    pub(crate) fn as_nanos(self) -> u64 {
        self.0
    }

    /// Returns the timestamp `duration` later, at most [`Timestamp::MAX`].
    ///
    /// ```
    /// use cacheio::Timestamp;
    /// use std::time::Duration;
    ///
    /// let later = Timestamp::MIN.after(Duration::from_nanos(5));
    /// assert_eq!(later, Timestamp::from_nanos(5));
    /// ```
    #[must_use]
    #[inline]
    pub fn after(self, duration: Duration) -> Self {
        let nanos = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        Self(self.0.saturating_add(nanos))
    }

    /// Returns the timestamp `duration` earlier, at least [`Timestamp::MIN`].
    pub(crate) fn before(self, duration: Duration) -> Self {
        let nanos = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        Self(self.0.saturating_sub(nanos))
    }

    /// Returns milliseconds since the origin of the clock, rounded down.
    pub(crate) fn as_millis(self) -> u64 {
        self.0 / 1_000_000
    }

    pub(crate) fn from_millis(millis: u64) -> Self {
        Self(millis.saturating_mul(1_000_000))
    }

    /// Returns the duration since `earlier`, or zero if `earlier` is later.
    ///
    /// ```
    /// use cacheio::Timestamp;
    /// use std::time::Duration;
    ///
    /// let (earlier, later) = (Timestamp::from_nanos(2), Timestamp::from_nanos(5));
    /// assert_eq!(later.since(earlier), Duration::from_nanos(3));
    /// assert_eq!(earlier.since(later), Duration::ZERO);
    /// ```
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

/// A source of time, by which the entries of a store expire.
///
/// Programs use the default, [`SystemClock`]. Tests use a [`ManualClock`], to expire entries without
/// sleeping.
pub trait Clock: Debug + Send + Sync + 'static {
    /// Returns the current time. It never goes back.
    fn now(&self) -> Timestamp;

    /// Returns the current time less exactly, but faster: it may be late by up to [`CLOCK_LAG`].
    ///
    /// A read in memory uses this time, and calls [`now`](Self::now) only for an entry that expires
    /// within the lag.
    fn recent(&self) -> Timestamp {
        self.now()
    }
}

/// The longest lag of [`Clock::recent`]: ten ticks of the slowest kernel, because a virtual machine may
/// miss some.
pub const CLOCK_LAG: Duration = Duration::from_millis(100);

/// The monotonic clock of the system, in nanoseconds. On Linux, [`recent`](Clock::recent) reads the
/// coarse clock of the kernel, at a tenth of the cost.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        system::precise()
    }

    #[inline]
    fn recent(&self) -> Timestamp {
        system::coarse()
    }
}

/// The coarse clock of the kernel: entries may live up to a tick (1 to 10 ms) longer.
#[derive(Clone, Copy, Debug, Default)]
pub struct CoarseClock;

impl Clock for CoarseClock {
    fn now(&self) -> Timestamp {
        system::coarse()
    }
}

/// Unix time, which the clients of a server share.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct WallClock;

impl Clock for WallClock {
    fn now(&self) -> Timestamp {
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        Timestamp::MIN.after(since.unwrap_or_default())
    }
}

/// A clock for tests, which moves only when [`advance`](Self::advance) is called.
///
/// ```
/// use cacheio::{Clock, ManualClock};
/// use std::time::Duration;
///
/// let clock = ManualClock::new();
/// let start = clock.now();
/// clock.advance(Duration::from_secs(60));
/// assert_eq!(clock.now().since(start), Duration::from_secs(60));
/// ```
#[derive(Debug)]
pub struct ManualClock {
    nanos: AtomicU64,
}

impl ManualClock {
    /// Creates a clock that shows one hour after its origin.
    pub fn new() -> Self {
        Self {
            nanos: AtomicU64::new(3_600_000_000_000),
        }
    }

    /// Moves the clock forward.
    ///
    /// ```
    /// use cacheio::{Cache, ManualClock, Memory};
    /// use std::sync::Arc;
    /// use std::time::Duration;
    ///
    /// let clock = Arc::new(ManualClock::new());
    /// let memory = Memory::builder().clock(clock.clone()).build();
    /// let cache = Cache::builder().store(memory).build()?;
    ///
    /// cache.set_with("k", 1, Duration::from_secs(60))?;
    /// clock.advance(Duration::from_secs(60));
    /// assert!(!cache.has("k")?);
    /// # Ok::<(), cacheio::Error>(())
    /// ```
    pub fn advance(&self, by: Duration) {
        let nanos = u64::try_from(by.as_nanos()).unwrap_or(u64::MAX);
        let advanced = |now: u64| Some(now.saturating_add(nanos));
        let _ = self
            .nanos
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, advanced);
    }
}

impl Default for ManualClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        Timestamp(self.nanos.load(Ordering::SeqCst))
    }
}

impl<C: Clock + ?Sized> Clock for std::sync::Arc<C> {
    fn now(&self) -> Timestamp {
        (**self).now()
    }

    fn recent(&self) -> Timestamp {
        (**self).recent()
    }
}

#[cfg(any(target_os = "linux", target_os = "android"))]
mod system {
    use rustix::time::{ClockId, clock_gettime};

    use super::Timestamp;

    pub(super) fn precise() -> Timestamp {
        read(ClockId::Monotonic)
    }

    #[inline]
    pub(super) fn coarse() -> Timestamp {
        read(ClockId::MonotonicCoarse)
    }

    #[inline]
    fn read(clock: ClockId) -> Timestamp {
        let time = clock_gettime(clock);
        Timestamp((time.tv_sec as u64) * 1_000_000_000 + time.tv_nsec as u64)
    }
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
mod system {
    use std::time::Instant;

    use once_cell::sync::Lazy;

    use super::Timestamp;

    static START: Lazy<Instant> = Lazy::new(Instant::now);

    pub(super) fn precise() -> Timestamp {
        Timestamp::from_nanos(1_000_000_000).after(START.elapsed())
    }

    pub(super) fn coarse() -> Timestamp {
        precise()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_coarse_clock_is_within_its_lag() {
        for _ in 0..1_000 {
            let coarse = SystemClock.recent();
            let precise = SystemClock.now();
            assert!(coarse <= precise && precise.since(coarse) < CLOCK_LAG * 10);
        }
    }

    #[test]
    fn timestamps_saturate() {
        assert_eq!(Timestamp::MIN.after(Duration::MAX), Timestamp::MAX);
        assert_eq!(Timestamp::MIN.since(Timestamp::MAX), Duration::ZERO);
    }
}
