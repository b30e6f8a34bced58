//! What a store tells about the entries that it holds.

/// Keys that a store holds: a part of them, from [`Store::scan`](crate::Store::scan).
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct ScanPage {
    /// The keys. The cache reads their entries, and so finds out which are live.
    pub keys: Vec<String>,
    /// Where the next part begins; none after the last one.
    pub next: Option<String>,
}

impl ScanPage {
    /// Creates a part of the keys.
    ///
    /// ```
    /// use cacheio::store::ScanPage;
    ///
    /// let page = ScanPage::new(vec!["shop:user:42".into()], None);
    /// assert!(page.next.is_none());
    /// ```
    pub fn new(keys: Vec<String>, next: Option<String>) -> Self {
        Self { keys, next }
    }
}

/// How much a namespace holds, from [`Store::usage`](crate::Store::usage).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Usage {
    /// The number of live entries.
    pub entries: usize,
    /// Their weight.
    pub weight: u64,
}

impl Usage {
    /// Creates a count of entries and their weight.
    ///
    /// ```
    /// use cacheio::store::Usage;
    ///
    /// assert_eq!(Usage::new(2, 50).weight, 50);
    /// ```
    pub fn new(entries: usize, weight: u64) -> Self {
        Self { entries, weight }
    }
}
