//! How the engine reaches a store, from threads or from tasks.

use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use crate::engine::Coordination;
use crate::sync::{EventListener, Listener};
use crate::{AsyncStore, Clock, Entry, Form, Key, KeyRule, Result, Store};

/// A store, and the world from which it is called.
#[derive(Clone, Debug)]
pub struct Backend {
    store: AnyStore,
    waiting: Waiting,
    form: Form,
    key_rule: KeyRule,
}

#[derive(Clone, Debug)]
enum AnyStore {
    /// Is called directly: it may block the thread, or never waits.
    Direct(Arc<dyn Store>),
    /// Never waits; is called directly too.
    Immediate(Arc<dyn AsyncStore>),
    /// Gives futures.
    Suspending(Arc<dyn AsyncStore>),
}

#[derive(Clone, Copy, Debug)]
enum Waiting {
    BlocksTheThread,
    SuspendsTheTask,
}

impl Backend {
    /// A store for threads.
    pub fn threads(store: Arc<dyn Store>) -> Self {
        Self {
            form: store.form(),
            key_rule: store.key_rule(),
            store: AnyStore::Direct(store),
            waiting: Waiting::BlocksTheThread,
        }
    }

    /// A store for tasks.
    pub fn tasks(store: Arc<dyn AsyncStore>) -> Self {
        Self {
            form: store.form(),
            key_rule: store.key_rule(),
            store: match store.immediate() {
                Some(_) => AnyStore::Immediate(store),
                None => AnyStore::Suspending(store),
            },
            waiting: Waiting::SuspendsTheTask,
        }
    }

    #[inline]
    pub(crate) fn form(&self) -> Form {
        self.form
    }

    #[inline]
    pub(crate) fn key_rule(&self) -> KeyRule {
        self.key_rule
    }

    /// The store, if it keeps the values themselves and answers at once.
    #[inline]
    pub(crate) fn immediate(&self) -> Option<&dyn Store> {
        match self.form {
            Form::Objects => self.direct(),
            Form::Bytes => None,
        }
    }

    #[inline]
    fn direct(&self) -> Option<&dyn Store> {
        match &self.store {
            AnyStore::Direct(store) => Some(&**store),
            AnyStore::Immediate(store) => store.immediate(),
            AnyStore::Suspending(_) => None,
        }
    }

    pub(crate) fn store(&self) -> &dyn Debug {
        match &self.store {
            AnyStore::Direct(store) => store,
            AnyStore::Immediate(store) | AnyStore::Suspending(store) => store,
        }
    }

    pub(crate) async fn wait(&self, listener: EventListener) {
        match self.waiting {
            Waiting::BlocksTheThread => listener.wait(),
            Waiting::SuspendsTheTask => listener.await,
        }
    }

    pub(crate) fn clock(&self) -> Arc<dyn Clock> {
        match &self.store {
            AnyStore::Direct(store) => store.clock(),
            AnyStore::Immediate(store) | AnyStore::Suspending(store) => store.clock(),
        }
    }

    pub(crate) fn evictions(&self) -> u64 {
        match &self.store {
            AnyStore::Direct(store) => store.evictions(),
            AnyStore::Immediate(store) | AnyStore::Suspending(store) => store.evictions(),
        }
    }

    pub(crate) fn coordination(&self) -> Option<Arc<Coordination>> {
        match &self.store {
            AnyStore::Direct(store) => store.coordination(),
            AnyStore::Immediate(store) | AnyStore::Suspending(store) => store.coordination(),
        }
    }

    pub(crate) fn check(&self) -> Result<()> {
        match &self.store {
            AnyStore::Direct(store) => store.check(),
            AnyStore::Immediate(store) | AnyStore::Suspending(store) => store.check(),
        }
    }
}

macro_rules! operations {
    ($($operation:ident($($arg:ident: $type:ty),*) -> $output:ty;)*) => {
        impl Backend {$(
            pub(crate) async fn $operation(&self, $($arg: $type),*) -> Result<$output> {
                match &self.store {
                    AnyStore::Direct(store) => store.$operation($($arg),*),
                    AnyStore::Immediate(store) => match store.immediate() {
                        Some(store) => store.$operation($($arg),*),
                        None => store.$operation($($arg),*).await,
                    },
                    AnyStore::Suspending(store) => store.$operation($($arg),*).await,
                }
            }
        )*}
    };
}

operations! {
    get(key: &Key<'_>) -> Option<Entry>;
    has(key: &Key<'_>) -> bool;
    get_many(keys: &[Key<'_>]) -> Vec<Option<Entry>>;
    set(key: &Key<'_>, entry: Entry, ttl: Option<Duration>) -> ();
    set_many(entries: Vec<(Key<'_>, Entry)>, ttl: Option<Duration>) -> ();
    add(key: &Key<'_>, entry: Entry, ttl: Option<Duration>) -> bool;
    delete(key: &Key<'_>) -> bool;
    delete_many(keys: &[Key<'_>]) -> usize;
    increment(key: &Key<'_>, by: i64, ttl: Option<Duration>) -> i64;
    touch(key: &Key<'_>, ttl: Option<Duration>) -> bool;
    clear(prefix: &str) -> ();
    ping() -> ();
}
