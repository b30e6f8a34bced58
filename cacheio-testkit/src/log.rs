//! Records what is traced.

use std::fmt::Debug;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};

/// An event, or a span when it was created.
#[derive(Clone, Debug)]
#[allow(missing_docs)]
pub struct Logged {
    pub level: Level,
    pub target: &'static str,
    /// The name of a span, and all fields.
    pub text: String,
}

/// A subscriber that records events and spans as text. Clones share the record.
#[derive(Clone, Debug)]
pub struct Log {
    record: Arc<Mutex<Vec<Logged>>>,
    is_enabled: fn(&Metadata<'_>) -> bool,
}

/// Records everything.
impl Default for Log {
    fn default() -> Self {
        Self::of(|_| true)
    }
}

impl Log {
    /// Records what a filter lets pass.
    pub fn of(is_enabled: fn(&Metadata<'_>) -> bool) -> Self {
        Self {
            record: Arc::default(),
            is_enabled,
        }
    }

    /// Returns what was recorded.
    pub fn lock(&self) -> MutexGuard<'_, Vec<Logged>> {
        self.record.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self, metadata: &Metadata<'static>, Text(text): Text) {
        self.lock().push(Logged {
            level: *metadata.level(),
            target: metadata.target(),
            text,
        });
    }
}

impl Subscriber for Log {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        (self.is_enabled)(metadata)
    }

    fn new_span(&self, attributes: &Attributes<'_>) -> Id {
        let mut text = Text(attributes.metadata().name().to_owned());
        attributes.record(&mut text);
        self.note(attributes.metadata(), text);
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut text = Text(String::new());
        event.record(&mut text);
        self.note(event.metadata(), text);
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

struct Text(String);

impl Visit for Text {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.0.push_str(&format!(" {field}={value:?}"));
    }
}
