//! Stores that forward to other stores: pointers, and adapters between the two traits.
//!
//! The methods of a store are listed once, in `__store_methods!`. Each macro that forwards them is
//! called with that table, and writes every method, also those with a default.

use std::sync::Arc;

use crate::{AsyncStore, Store};

/// Calls another macro with the table of the methods of a store.
///
/// `operations` do I/O: they return a `Result`, and a future of one in [`AsyncStore`].
/// `properties` are the same in both traits. `$lifetime` is that of the references in arguments.
#[doc(hidden)]
#[macro_export]
macro_rules! __store_methods {
    ($lifetime:lifetime, { $($callback:tt)+ } $arguments:tt) => {
        $($callback)+! {
            @methods $arguments
            operations {
                get(key: &$lifetime $crate::Key<$lifetime>) -> ::std::option::Option<$crate::Entry>;
                set(key: &$lifetime $crate::Key<$lifetime>, entry: $crate::Entry, ttl: ::std::option::Option<::std::time::Duration>) -> ();
                delete(key: &$lifetime $crate::Key<$lifetime>) -> bool;
                clear(prefix: &$lifetime str) -> ();
                add(key: &$lifetime $crate::Key<$lifetime>, entry: $crate::Entry, ttl: ::std::option::Option<::std::time::Duration>) -> bool;
                increment(key: &$lifetime $crate::Key<$lifetime>, by: i64, ttl: ::std::option::Option<::std::time::Duration>) -> i64;
                touch(key: &$lifetime $crate::Key<$lifetime>, ttl: ::std::option::Option<::std::time::Duration>) -> bool;
                take(key: &$lifetime $crate::Key<$lifetime>) -> ::std::option::Option<$crate::Entry>;
                compare_and_swap(key: &$lifetime $crate::Key<$lifetime>, current: ::std::option::Option<$crate::Entry>, new: ::std::option::Option<($crate::Entry, $crate::TtlChange)>) -> bool;
                replace(key: &$lifetime $crate::Key<$lifetime>, replacement: $crate::Replacement) -> bool;
                replace_many(replacements: ::std::vec::Vec<($crate::Key<$lifetime>, $crate::Replacement)>) -> ();
                has(key: &$lifetime $crate::Key<$lifetime>) -> bool;
                get_many(keys: &$lifetime [$crate::Key<$lifetime>]) -> ::std::vec::Vec<::std::option::Option<$crate::Entry>>;
                get_with_ttls(keys: &$lifetime [$crate::Key<$lifetime>]) -> ::std::vec::Vec<::std::option::Option<$crate::Entry>>;
                set_many(entries: ::std::vec::Vec<($crate::Key<$lifetime>, $crate::Entry, ::std::option::Option<::std::time::Duration>)>) -> ();
                delete_many(keys: &$lifetime [$crate::Key<$lifetime>]) -> usize;
                claim(keys: &$lifetime [$crate::Key<$lifetime>], mode: $crate::ClaimMode) -> ::std::vec::Vec<$crate::Claimed>;
                settle(loads: ::std::vec::Vec<$crate::Settlement<$lifetime>>) -> ::std::vec::Vec<bool>;
                scan(prefix: &$lifetime str, from: ::std::option::Option<::std::string::String>, max: usize) -> $crate::ScanPage;
                usage(prefix: &$lifetime str) -> $crate::Usage;
                ping() -> ();
            }
            properties {
                form() -> $crate::Form;
                key_rule() -> $crate::KeyRule;
                shared_loads() -> $crate::SharedLoads;
                clock() -> ::std::sync::Arc<dyn $crate::Clock>;
                evictions() -> u64;
                circuit_opens() -> u64;
                server() -> ::std::option::Option<$crate::Server>;
                shared_state() -> ::std::option::Option<::std::sync::Arc<$crate::__private::SharedState>>;
                check() -> $crate::Result<()>;
            }
        }
    };
}

/// Implements [`AsyncStore`] for a [`Store`] that never waits, such as one in memory.
///
/// ```
/// use cacheio::store::{Entry, Form, Key, Store, immediate_store};
/// use cacheio::Result;
/// use std::time::Duration;
///
/// #[derive(Debug)]
/// struct Nothing;
///
/// impl Store for Nothing {
///     fn form(&self) -> Form { Form::Objects }
///     fn get(&self, _: &Key<'_>) -> Result<Option<Entry>> { Ok(None) }
///     fn set(&self, _: &Key<'_>, _: Entry, _: Option<Duration>) -> Result<()> { Ok(()) }
///     fn delete(&self, _: &Key<'_>) -> Result<bool> { Ok(false) }
///     fn clear(&self, _: &str) -> Result<()> { Ok(()) }
/// }
///
/// immediate_store!(Nothing);
/// ```
#[macro_export]
macro_rules! immediate_store {
    ($store:ty) => {
        #[warn(clippy::missing_trait_methods)]
        impl $crate::AsyncStore for $store {
            $crate::__store_methods!('a, { $crate::__immediate_methods } {});

            fn immediate(&self) -> ::std::option::Option<&dyn $crate::Store> {
                ::std::option::Option::Some(self)
            }
        }
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __immediate_methods {
    (@methods {}
        operations { $($operation:ident($($arg:ident: $type:ty),*) -> $output:ty;)* }
        properties { $($property:ident() -> $value:ty;)* }
    ) => {
        $(fn $operation<'a>(&'a self, $($arg: $type),*) -> $crate::BoxFuture<'a, $crate::Result<$output>> {
            let output = <Self as $crate::Store>::$operation(self, $($arg),*);
            ::std::boxed::Box::pin(::std::future::ready(output))
        })*
        $(fn $property(&self) -> $value {
            <Self as $crate::Store>::$property(self)
        })*
    };
}

macro_rules! pointer {
    ($pointer:ident) => {
        #[warn(clippy::missing_trait_methods)]
        impl<S: Store + ?Sized> Store for $pointer<S> {
            __store_methods!('_, { pointer } { Store });

            fn get_fast(
                &self,
                key: &crate::Key<'_>,
            ) -> Result<Arc<dyn crate::Object>, crate::FastMiss> {
                (**self).get_fast(key)
            }

            fn get_word(
                &self,
                key: &crate::Key<'_>,
                stored: ::std::any::TypeId,
            ) -> Result<u64, crate::FastMiss> {
                (**self).get_word(key, stored)
            }

            fn in_namespace(&self, prefix: &str) -> Option<Arc<dyn Store>> {
                (**self).in_namespace(prefix)
            }

            fn maintain(&self) {
                (**self).maintain();
            }
        }

        #[warn(clippy::missing_trait_methods)]
        impl<S: AsyncStore + ?Sized> AsyncStore for $pointer<S> {
            __store_methods!('a, { pointer } { AsyncStore });

            fn immediate(&self) -> Option<&dyn Store> {
                (**self).immediate()
            }
        }
    };
    (@methods { Store }
        operations { $($operation:ident($($arg:ident: $type:ty),*) -> $output:ty;)* }
        properties { $($property:ident() -> $value:ty;)* }
    ) => {
        $(fn $operation(&self, $($arg: $type),*) -> crate::Result<$output> {
            (**self).$operation($($arg),*)
        })*
        $(fn $property(&self) -> $value {
            (**self).$property()
        })*
    };
    (@methods { AsyncStore }
        operations { $($operation:ident($($arg:ident: $type:ty),*) -> $output:ty;)* }
        properties { $($property:ident() -> $value:ty;)* }
    ) => {
        $(fn $operation<'a>(&'a self, $($arg: $type),*) -> crate::BoxFuture<'a, crate::Result<$output>> {
            (**self).$operation($($arg),*)
        })*
        $(fn $property(&self) -> $value {
            (**self).$property()
        })*
    };
}

pointer!(Arc);
pointer!(Box);
