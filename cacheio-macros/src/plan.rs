//! The facts about a function under `#[cached]` from which its code is generated.

use std::sync::atomic::{AtomicUsize, Ordering};

use proc_macro2::TokenStream;
use syn::{Error, Ident, Result};

use crate::attr::Args;
use crate::function::Function;
use crate::key::Key;
use crate::owned_args::OwnedArgs;
use crate::path::{self, Api, private};

static EXPANSIONS: AtomicUsize = AtomicUsize::new(0);

/// Which of the two attributes is expanded.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Name {
    Cached,
    AsyncCached,
}

/// A checked function with its arguments.
pub(crate) struct Plan {
    pub(crate) function: Function,
    pub(crate) args: Args,
    pub(crate) key: Key,
    pub(crate) private: TokenStream,
    pub(crate) api: &'static Api,
    /// The arguments to copy, if the body may run in the background.
    pub(crate) owned_args: Option<OwnedArgs>,
    /// The number of this expansion in its crate.
    pub(crate) number: usize,
}

impl Plan {
    pub(crate) fn new(args: TokenStream, item: TokenStream, name: Name) -> Result<Self> {
        let mut function = Function::parse(item)?;
        let mut args: Args = syn::parse2(args)?;
        if name == Name::AsyncCached && !function.is_async() {
            let message = "`#[async_cached]` needs an `async fn`; use `#[cached]`";
            return Err(Error::new(function.sig.fn_token.span, message));
        }
        let names = |name: &Ident| {
            function
                .arguments
                .iter()
                .any(|argument| argument.whole.as_ref() == Some(name))
        };
        if let Some(unknown) = args.skip.iter().find(|name| !names(name)) {
            let message = match unknown == "self" {
                true => {
                    "`self` is only part of the key if `key` names it; remove it from `skip`".into()
                }
                false => function.unknown_argument(unknown),
            };
            return Err(Error::new(unknown.span(), message));
        }
        if let (Some((capacity, _)), Some(_)) = (&args.capacity, function.receiver()) {
            let message = "`capacity` has no effect on a method, which uses the cache of its type; \
                           set the capacity where that cache is built";
            return Err(Error::new(capacity.span(), message));
        }
        let api = if function.is_async() {
            &path::ASYNC
        } else {
            &path::SYNC
        };
        let private = private(args.path.as_ref(), api.crates)?;
        let key = Key::new(args.key.take(), std::mem::take(&mut args.skip))?;
        if matches!(key, Key::Arguments { .. }) {
            function.name_arguments();
        }
        if args.cache.is_none() && function.receiver().is_none() {
            args.check_function_cache()?;
        }
        let owned_args = match args.policies.in_background().cloned() {
            Some(policy) => Some(function.own_args(&policy, &mut args.cache_if)?),
            None => None,
        };
        Ok(Self {
            function,
            args,
            key,
            private,
            api,
            owned_args,
            number: EXPANSIONS.fetch_add(1, Ordering::Relaxed),
        })
    }

    /// Returns whether the function has a cache of its own.
    pub(crate) fn has_function_cache(&self) -> bool {
        self.args.cache.is_none() && self.function.receiver().is_none()
    }
}
