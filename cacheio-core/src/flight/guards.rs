//! Writes in progress: a guard is held until the store has done the write.

use std::sync::Arc;

use super::registry::{Stripe, stripe_of};
use super::sync::EventListener;
use crate::Key;

/// A write of one key.
#[derive(Debug)]
pub(crate) struct WriteGuard<'a> {
    pub(super) stripes: &'a [Stripe],
    pub(super) key: Key<'a>,
    pub(super) publishing: Option<EventListener>,
}

impl WriteGuard<'_> {
    /// Returns what to wait for before the write goes to the store.
    pub(crate) fn take_publishing(&mut self) -> Option<EventListener> {
        self.publishing.take()
    }
}

impl Drop for WriteGuard<'_> {
    fn drop(&mut self) {
        let stripe = stripe_of(self.stripes, self.key.hash());
        let mut registry = stripe.lock();
        let hash = self.key.hash();
        if let Some(index) = registry.writes.iter().rposition(|other| *other == hash) {
            registry.writes.swap_remove(index);
        }
        // A load that began during the write may return the value from before it.
        let claim = registry.invalidate_with_claim(self.key.text());
        stripe.advance_epoch();
        drop(registry);
        // Else all processes would wait for a load whose value cannot be stored.
        drop(claim);
    }
}

/// A write of several keys.
#[derive(Debug)]
pub(crate) struct WriteGuards<'a>(pub(crate) Vec<WriteGuard<'a>>);

impl Drop for WriteGuards<'_> {
    fn drop(&mut self) {
        // The last guard is at the end of its registry, where it is found first.
        while self.0.pop().is_some() {}
    }
}

/// A `clear` of all keys with a prefix.
#[derive(Debug)]
pub(crate) struct ClearGuard<'a> {
    pub(super) stripes: &'a [Stripe],
    pub(super) prefix: Arc<str>,
    pub(super) publishing: Vec<EventListener>,
}

impl ClearGuard<'_> {
    /// Returns what to wait for before the write goes to the store.
    pub(crate) fn take_publishing(&mut self) -> Vec<EventListener> {
        std::mem::take(&mut self.publishing)
    }
}

impl Drop for ClearGuard<'_> {
    fn drop(&mut self) {
        for stripe in self.stripes {
            let mut registry = stripe.lock();
            let clears = &mut registry.clears;
            let this = clears
                .iter()
                .position(|other| Arc::ptr_eq(other, &self.prefix));
            if let Some(index) = this {
                clears.swap_remove(index);
            }
            registry.invalidate_all(&self.prefix);
            stripe.advance_epoch();
        }
    }
}
