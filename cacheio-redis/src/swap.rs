//! Changes of an entry that depend on what it is: `take` and `compare_and_swap`.
//!
//! The claim on the key ends before the command, as with every write. A script that had both keys would be
//! refused while their slot moves.

use cacheio_core::{Entry, Key, TtlChange};
use redis::cmd;

use crate::failure::Failure;
use crate::redis::Redis;
use crate::reply::{entry, last};
use crate::request::{Change, bytes, on_key, replace};

/// Removes a key if it has the value in the arguments. Returns how many entries were removed.
const REMOVE: &str = "\
if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('UNLINK', KEYS[1]) end
return 0";

impl Redis {
    /// Removes an entry, and returns it. Of several callers, one gets it.
    pub(crate) async fn take_one(&self, key: &Key<'_>) -> Result<Option<Entry>, Failure> {
        let _copies = self.ends_copies(key);
        let take = self.write(key, on_key("GETDEL", key.text()));
        let reply = self.topology.send(key, &take.not_idempotent()).await?;
        entry(last(reply)?)
    }

    /// Changes what a key holds if that is still `current`. Returns whether it was.
    pub(crate) async fn swap_one(
        &self,
        key: &Key<'_>,
        current: Option<Entry>,
        new: Option<(Entry, TtlChange)>,
    ) -> Result<bool, Failure> {
        let _copies = self.ends_copies(key);
        let command = match (current, new) {
            (Some(current), Some((new, ttl))) => {
                let change = Change::of_all(current, new, ttl)?;
                replace([(key.text(), &change)], [])
            }
            (Some(current), None) => {
                let mut remove = cmd("EVAL");
                remove
                    .arg(REMOVE)
                    .arg(1)
                    .arg(key.text())
                    .arg(bytes(current)?);
                remove
            }
            (None, Some((new, ttl))) => return self.add_one(key, new, ttl.of_new()).await,
            (None, None) => {
                let exists = self.write(key, on_key("EXISTS", key.text()));
                return Ok(!self.affects(key, exists).await?);
            }
        };
        let swap = self.write(key, command).not_idempotent();
        self.affects(key, swap).await
    }
}
