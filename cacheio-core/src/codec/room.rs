//! The memory in which values are decompressed, over all readers of the process.

use std::cell::Cell;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// How many bytes all readers together may decompress at the same time.
const TOTAL: usize = 64 << 20;

/// Smaller values are not counted: a thread needs about as much itself.
const SMALL: usize = 256 << 10;

static IN_USE: Mutex<usize> = Mutex::new(0);
static FREED: Condvar = Condvar::new();

thread_local! {
    static IS_HOLDING: Cell<bool> = const { Cell::new(false) };
}

/// Room for one decompressed value.
#[must_use]
pub(super) struct Room(usize);

impl Room {
    /// Waits until there is room. A value that needs more than all is decompressed alone.
    ///
    /// Other readers hold their room while they decompress and decode, which needs the processor and
    /// nothing else: so this waits no longer than a busy processor would make the reader wait.
    pub(super) fn reserve(bytes: usize) -> Self {
        // A value whose type reads another value must not wait for itself.
        if bytes <= SMALL || IS_HOLDING.replace(true) {
            return Self(0);
        }
        let mut in_use = lock();
        while *in_use > 0 && in_use.saturating_add(bytes) > TOTAL {
            in_use = FREED.wait(in_use).unwrap_or_else(PoisonError::into_inner);
        }
        *in_use += bytes;
        Self(bytes)
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        if self.0 > 0 {
            *lock() -= self.0;
            IS_HOLDING.set(false);
            FREED.notify_all();
        }
    }
}

fn lock() -> MutexGuard<'static, usize> {
    IN_USE.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_readers_together_take_no_more_than_the_total() {
        std::thread::scope(|scope| {
            for reader in 0..8 {
                scope.spawn(move || {
                    for round in 0..50 {
                        let bytes = (reader + round) % 5 * (16 << 20);
                        let room = Room::reserve(bytes);
                        assert!(*lock() <= TOTAL);
                        // A value whose type reads another value.
                        drop(Room::reserve(TOTAL));
                        assert!(*lock() <= TOTAL);
                        drop(room);
                    }
                });
            }
        });
        assert_eq!(*lock(), 0);
        let room = Room::reserve(3 * TOTAL);
        assert_eq!(*lock(), 3 * TOTAL, "a larger value is read alone");
        drop(room);
    }
}
