//! Callers that wait until a key is changed: leaders whose key another process loads.

use once_cell::sync::OnceCell;

use crate::Key;
use crate::flight::sync::{Event, EventListener};

/// The number of events. Two keys with the same event at worst wake each other's callers.
const EVENTS: usize = 1024;

/// The changes of keys that a server tells of, and those by this process.
#[derive(Default)]
pub(super) struct Changes(OnceCell<Box<[Event]>>);

impl Changes {
    /// Returns a listener that is notified of the next change of a key.
    pub(super) fn listen(&self, key: &Key<'_>) -> EventListener {
        let events = || (0..EVENTS).map(|_| Event::new()).collect();
        self.0.get_or_init(events)[position(key)].listen()
    }

    pub(super) fn notify(&self, key: &Key<'_>) {
        if let Some(events) = self.0.get() {
            events[position(key)].notify(usize::MAX);
        }
    }

    pub(super) fn notify_all(&self) {
        for event in self.0.get().into_iter().flatten() {
            event.notify(usize::MAX);
        }
    }
}

fn position(key: &Key<'_>) -> usize {
    (key.hash() >> 20) as usize % EVENTS
}
