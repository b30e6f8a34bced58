//! Where a scan goes on in what can only be listed from its beginning: a shard of memory, or a server of Memcached.
//!
//! If one of them has more keys than were listed, its listing is begun again, for four times as many.

use cacheio_core::{Error, ErrorKind, Result};

/// How many keys are listed at least.
pub(crate) const MIN_KEYS: usize = 1_000;

/// The shard or the server that is listed, and how many of its keys to list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Position {
    pub(crate) at: usize,
    pub(crate) max: usize,
}

impl Position {
    /// Returns where a scan begins or goes on, for a caller that needs about this number of live entries.
    pub(crate) fn new(from: Option<&str>, wanted: usize) -> Result<Self> {
        let (at, again) = match from {
            None => (0, 0),
            Some(from) => parse(from).ok_or_else(no_position)?,
        };
        // Some keys have no live entry.
        let max = wanted.saturating_add(wanted / 4).max(MIN_KEYS);
        Ok(Self {
            at,
            max: max.max(again),
        })
    }

    /// Returns where to go on if there are more keys than were listed.
    pub(crate) fn again(self) -> String {
        text(self.at, self.max.saturating_mul(4))
    }

    /// Returns where to go on at the beginning of another shard or server.
    pub(crate) fn at_beginning_of(at: usize) -> String {
        text(at, 0)
    }
}

fn text(at: usize, max: usize) -> String {
    format!("{at} {max}")
}

fn parse(position: &str) -> Option<(usize, usize)> {
    let (at, max) = position.split_once(' ')?;
    Some((at.parse().ok()?, max.parse().ok()?))
}

pub(crate) fn no_position() -> Error {
    Error::new(ErrorKind::Config, "the scan has no part at this position")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scan_goes_on_where_it_was_left() {
        let first = Position::new(None, 4_000).unwrap();
        assert_eq!((first.at, first.max), (0, 5_000));
        let again = Position::new(Some(&first.again()), 4_000).unwrap();
        assert_eq!((again.at, again.max), (0, 20_000));
        let next = Position::at_beginning_of(1);
        let next = Position::new(Some(&next), 10).unwrap();
        assert_eq!((next.at, next.max), (1, MIN_KEYS));
        for from in ["", "1", "x 1", "1 x"] {
            let error = Position::new(Some(from), 1).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Config, "{from}");
        }
    }
}
