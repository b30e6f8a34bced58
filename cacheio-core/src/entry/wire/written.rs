//! What only writes change in an entry with times.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::LazyLock;

use super::{Header, parse};

/// Returns a number that differs between entries, unless they differ only in the latest read, or in the pause after
/// a failed load, which are recorded in the header; `None` if the entry has no times, so that nothing is recorded.
pub(crate) fn written(bytes: &[u8]) -> Option<u64> {
    static RANDOM: LazyLock<RandomState> = LazyLock::new(RandomState::new);
    let Ok(Some(header)) = parse(bytes) else {
        return None;
    };
    header.times.as_ref()?;
    let Header { idle, retry_at, .. } = header;
    let idle = idle.filter(|field| field.len() == 16);
    let read_at = idle.map(|field| field.end - 8..field.end);
    // With its id and its length.
    let retry_at = retry_at.map(|field| field.start - 2..field.end);
    let fields = header.body - retry_at.as_ref().map_or(0, ExactSizeIterator::len);
    let mut recorded: Vec<_> = read_at.into_iter().chain(retry_at).collect();
    recorded.sort_by_key(|range| range.start);
    let mut hasher = RANDOM.build_hasher();
    hasher.write_usize(fields);
    // After the length of the fields.
    let mut at = 4;
    for range in recorded {
        hasher.write(&bytes[at..range.start]);
        at = range.end;
    }
    hasher.write(&bytes[at..]);
    Some(hasher.finish())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::{Body, seal_with, with_expiry, with_retry_at};
    use super::*;
    use crate::Timestamp;
    use crate::entry::expiry::Expiry;

    #[test]
    fn reads_and_failed_loads_are_no_writes() {
        let second = Duration::from_secs(1);
        let now = Timestamp::from_millis(1_000);
        let expiry = Expiry {
            idle: Some(second),
            ..Expiry::new(now, second, Some(second), second)
        };
        let entry = seal_with(expiry, Body::Integer(b"5"));
        let read = Expiry {
            read_at: now.after(second),
            ..expiry
        };
        let read = with_expiry(&entry, read).unwrap();
        let failed = with_retry_at(&entry, now.after(second)).unwrap();
        let both = with_retry_at(&read, now.after(second * 2)).unwrap();
        assert_ne!(entry, read);
        for recorded in [&read, &failed, &both] {
            assert_eq!(written(recorded), written(&entry));
        }
        let touched = with_expiry(&entry, expiry.touched(now.after(second * 9))).unwrap();
        let same_times = seal_with(expiry, Body::Integer(b"6"));
        let longer = seal_with(expiry, Body::Integer(b"56"));
        for other in [&touched, &same_times, &longer] {
            assert_ne!(written(other), written(&entry));
        }
        assert_eq!(written(b"5"), None);
        assert_eq!(written(b"\xC1\x01\x00\x00text"), None);
    }
}
