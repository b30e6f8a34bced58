//! The facts about a function under `#[cached]` from which its code is generated.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::atomic::{AtomicUsize, Ordering};

use proc_macro2::TokenStream;
use syn::ext::IdentExt as _;
use syn::{Error, Ident, Result};

use crate::attr::{Args, listed};
use crate::function::{Argument, Function, is_mutable, named_in, static_reference};
use crate::key::Key;
use crate::owned_args::OwnedArgs;
use crate::path::{self, Api};

static EXPANSIONS: AtomicUsize = AtomicUsize::new(0);

/// Returns a number that only one expansion has.
fn expansion() -> u64 {
    let mut hasher = DefaultHasher::new();
    for variable in ["CARGO_PKG_NAME", "CARGO_PKG_VERSION", "CARGO_CRATE_NAME"] {
        std::env::var(variable).ok().hash(&mut hasher);
    }
    EXPANSIONS.fetch_add(1, Ordering::Relaxed).hash(&mut hasher);
    hasher.finish()
}

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
    /// A number that only this expansion has, in all crates of a program.
    pub(crate) expansion: u64,
}

impl Plan {
    pub(crate) fn new(args: TokenStream, item: TokenStream, name: Name) -> Result<Self> {
        let mut function = Function::parse(item)?;
        let mut args: Args = syn::parse2(args)?;
        if name == Name::AsyncCached && !function.is_async() {
            let message = "`#[async_cached]` needs an `async fn`; use `#[cached]`";
            return Err(Error::new(function.sig.fn_token.span, message));
        }
        let is_argument = |name: &Ident| {
            let mut wholes = function
                .arguments
                .iter()
                .filter_map(|known| known.whole.as_ref());
            wholes.any(|whole| whole.unraw() == name.unraw())
        };
        if let Some(unknown) = args.skip.iter().find(|name| !is_argument(name)) {
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
        let (what, span) = match function.sig.asyncness {
            Some(token) => ("an `async fn`", token.span),
            None if function.is_async() => ("an `async fn`", function.sig.fn_token.span),
            None => ("a function that is not `async`", function.sig.fn_token.span),
        };
        let private = api.private(args.path.as_ref(), what, span)?;
        args.skip_flag(&function);
        let key = Key::new(args.key.take(), args.skip.clone())?;
        check_mutable(&function, &args)?;
        if key.span().is_some() {
            check_skipped(&function, &args, &key)?;
        }
        check_key(&function, &args, &key)?;
        if matches!(key, Key::Arguments { .. }) {
            function.name_arguments();
        }
        if args.cache.is_none() && function.receiver().is_none() {
            args.check_function_cache()?;
        }
        let owned_args = match args.policies.in_background().cloned() {
            Some(policy) => Some(function.own_args(&policy, args.of_result())?),
            None => None,
        };
        let plan = Self {
            function,
            args,
            key,
            private,
            api,
            owned_args,
            expansion: expansion(),
        };
        plan.check_value()?;
        Ok(plan)
    }

    /// Rejects a value that no server can hold, where the cache may be on a server.
    fn check_value(&self) -> Result<()> {
        if self.has_function_cache() {
            return Ok(());
        }
        match static_reference(&self.function.output) {
            Some(reference) => {
                let message = "a value in a cache that may be on a server cannot be a `&'static`; return \
                               an owned type, such as `String` instead of `&'static str`";
                Err(Error::new_spanned(reference, message))
            }
            None => Ok(()),
        }
    }

    /// Returns whether the function has a cache of its own.
    pub(crate) fn has_function_cache(&self) -> bool {
        self.args.cache.is_none() && self.function.receiver().is_none()
    }
}

/// Rejects a `&mut` argument, which a hit leaves as it is.
fn check_mutable(function: &Function, args: &Args) -> Result<()> {
    let mut arguments = function.arguments.iter();
    let Some(mutable) =
        arguments.find(|argument| is_mutable(&argument.ty) && !args.skips(argument))
    else {
        return Ok(());
    };
    let name = mutable
        .whole
        .as_ref()
        .map_or_else(|| "_".into(), Ident::to_string);
    let message = format!(
        "a hit does not run the body, and changes nothing through `{name}`; return the new value instead, \
         or write `skip({name})` if results do not depend on such a change, as with a connection"
    );
    Err(Error::new_spanned(&mutable.ty, message))
}

/// Rejects `skip` of an argument that `key` uses.
fn check_skipped(function: &Function, args: &Args, key: &Key) -> Result<()> {
    let is_used = |name: &Ident| {
        let mut arguments = function.arguments.iter();
        arguments.any(|argument| argument.binds(name) && key.uses(argument))
    };
    match args.skip.iter().find(|name| is_used(name)) {
        Some(name) => {
            let message = format!("`key` uses `{name}`; remove it from `skip`, or from `key`");
            Err(Error::new(name.span(), message))
        }
        None => Ok(()),
    }
}

/// Rejects a `key` that is the same for all arguments.
fn check_key(function: &Function, args: &Args, key: &Key) -> Result<()> {
    let Some(span) = key.span() else {
        return Ok(());
    };
    let is_used = |argument: &Argument| key.uses(argument);
    if key.names_argument(function.receiver().is_some()) || function.arguments.iter().any(is_used) {
        return Ok(());
    }
    let is_cache = |name: &Ident| {
        args.cache
            .as_ref()
            .is_some_and(|cache| named_in(cache, name))
    };
    let counted = function
        .arguments
        .iter()
        .filter(|argument| !args.skips(argument) && !argument.names.iter().any(is_cache));
    let left_out: Vec<&Ident> = counted.flat_map(|argument| &argument.names).collect();
    let Some(first) = left_out.first() else {
        return Ok(());
    };
    let names: Vec<String> = left_out.iter().map(ToString::to_string).collect();
    let message = format!(
        "this key is the same for all values of {}; write a key such as `\"…:{{{first}}}\"`, or `skip({})` \
         if results do not depend on them",
        listed(&left_out),
        names.join(", ")
    );
    Err(Error::new(span, message))
}
