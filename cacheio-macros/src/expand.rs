//! Generates the code of `#[cached]`: one pipeline for sync and async functions.

use std::sync::atomic::{AtomicUsize, Ordering};

use proc_macro2::TokenStream;
use quote::{format_ident, quote, quote_spanned};
use syn::spanned::Spanned as _;
use syn::{Error, Ident, Result, ReturnType};

use crate::attr::Args;
use crate::function::{Function, Kind};
use crate::key::Key;
use crate::key_code::KeyCode;
use crate::owned_args::OwnedArgs;
use crate::path::{self, Api, private, respanned, shown_at};

static EXPANSIONS: AtomicUsize = AtomicUsize::new(0);

/// Which of the two attributes is expanded.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Name {
    Cached,
    AsyncCached,
}

/// Everything that is known before code is generated.
pub(crate) struct Plan {
    pub(crate) function: Function,
    pub(crate) args: Args,
    pub(crate) key: Key,
    pub(crate) private: TokenStream,
    pub(crate) api: &'static Api,
    /// The arguments to copy, if the body may run in the background.
    owned_args: Option<OwnedArgs>,
    /// The number of this expansion in its crate.
    number: usize,
}

/// Expands an attribute. After an error, the function is kept as it is, so that the compiler
/// reports nothing else.
pub(crate) fn expand(args: TokenStream, item: &TokenStream, name: Name) -> TokenStream {
    let expanded = Plan::new(args, item.clone(), name).and_then(|plan| plan.expand());
    expanded.unwrap_or_else(|error| {
        let error = error.into_compile_error();
        quote!(#item #error)
    })
}

impl Plan {
    fn new(args: TokenStream, item: TokenStream, name: Name) -> Result<Self> {
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

    fn expand(&self) -> Result<TokenStream> {
        let Function {
            attrs, vis, sig, ..
        } = &self.function;
        let call = self.call()?;
        let companions = self.companions()?;
        Ok(quote! {
            #(#attrs)*
            #vis #sig {
                #call
            }
            #companions
        })
    }

    /// Returns whether the function has a cache of its own.
    pub(crate) fn has_function_cache(&self) -> bool {
        self.args.cache.is_none() && self.function.receiver().is_none()
    }

    /// Generates the body of the function: a lookup, and a load after a miss.
    fn call(&self) -> Result<TokenStream> {
        let Self { private, api, .. } = self;
        let is_async = self.function.is_async();
        let KeyCode { setup, key } = self.key_code(&self.function.sig.ident, is_async)?;
        let types = self.types();
        let cache = self.cache();
        let engine = api.ident(api.engine);
        // An error about the type of the value is shown at the return type.
        let span = shown_at(self.function.output.span());
        let here = respanned(private, span);
        let lookup = quote_spanned!(span=> #here::lookup);
        let held = self.held();
        let load = self.load(&self.options());
        Ok(self.in_block(&quote! {
            #types
            let (__cacheio_missed, __cacheio_cache) = {
                #cache
                #setup
                let __cacheio_found =
                    #lookup(#private::#engine(__cacheio_cache), &__cacheio_output, &__cacheio_storage, #key);
                match __cacheio_found {
                    ::core::result::Result::Ok(__cacheio_hit) => return __cacheio_hit,
                    // Nothing may borrow from the arguments any more, since the body may move them.
                    ::core::result::Result::Err(__cacheio_missed) => (__cacheio_missed, #held),
                }
            };
            #load
        }))
    }

    /// Generates the body of `…_refresh`, which always runs the original body.
    pub(crate) fn refresh(&self, inside: &Ident) -> Result<TokenStream> {
        let Self { private, api, .. } = self;
        let KeyCode { setup, key } = self.key_code(inside, self.function.is_async())?;
        let types = self.types();
        let cache = self.cache();
        let held = self.held();
        let engine = api.ident(api.engine);
        let options = self.options();
        let refresh = self.load(&quote!(#options.force_refresh()));
        Ok(self.in_block(&quote! {
            #types
            let (__cacheio_missed, __cacheio_cache) = {
                #cache
                #setup
                (#private::#engine(__cacheio_cache).missed(#key), #held)
            };
            #refresh
        }))
    }

    /// Generates `__cacheio_output`, the parts of the return type, and `__cacheio_storage`, how
    /// values are stored.
    fn types(&self) -> TokenStream {
        let private = &self.private;
        let output = &self.function.output;
        let storage = if self.has_function_cache() {
            quote!(AsLocal)
        } else {
            quote!(AsValue)
        };
        quote! {
            let __cacheio_output = {
                #[allow(unused_imports)]
                use #private::{FallibleOutput as _, InfallibleOutput as _};
                (&#private::Returns::<#output>::new()).output()
            };
            let __cacheio_storage = #private::#storage;
        }
    }

    /// Generates `__cacheio_cache`: a reference to the cache.
    pub(crate) fn cache(&self) -> TokenStream {
        let Self { private, api, .. } = self;
        let cache = api.ident(api.cache);
        let named = match (&self.args.cache, self.function.receiver()) {
            (Some(named), _) => quote_spanned!(named.span()=> &(#named)),
            (None, Some(receiver)) => {
                let cacheable = api.ident(api.cacheable);
                let this = receiver.self_token;
                quote!(<Self as #private::#cacheable>::cache(&#this))
            }
            (None, None) => return self.function_cache(),
        };
        quote!(let __cacheio_cache: &#private::#cache = #named;)
    }

    fn function_cache(&self) -> TokenStream {
        let Self { private, api, .. } = self;
        let cache = api.ident(api.cache);
        let capacity = match &self.args.capacity {
            Some((_, capacity)) => quote!(::core::option::Option::Some(#capacity)),
            None => quote!(::core::option::Option::None),
        };
        let new = match self.args.companions {
            Some(_) => {
                let unique = self.number;
                let name = self.function.sig.ident.to_string();
                quote!(shared(
                    ::core::concat!(::core::module_path!(), "::", #name, " ", #unique)
                ))
            }
            None => quote!(new()),
        };
        quote! {
            static __CACHEIO_CACHE: #private::FunctionCache<#private::#cache> = #private::FunctionCache::#new;
            let __cacheio_cache = __CACHEIO_CACHE.get(|| #capacity);
        }
    }

    /// Generates a handle to the cache that lives as long as the body runs.
    pub(crate) fn held(&self) -> TokenStream {
        let Self { private, api, .. } = self;
        let cache = api.ident(api.cache);
        match self.has_function_cache() {
            true => quote!(__cacheio_cache),
            false => quote!(#private::#cache::clone(__cacheio_cache)),
        }
    }

    /// Generates the load after a miss.
    fn load(&self, options: &TokenStream) -> TokenStream {
        let Self { private, api, .. } = self;
        let engine = api.ident(api.engine);
        let cache = if self.has_function_cache() {
            quote!(__cacheio_cache)
        } else {
            quote!(&__cacheio_cache)
        };
        let checks = self.checks();
        let (entry_point, loader) = self.loader();
        let call = quote! {
            #private::#entry_point(
                #private::#engine(#cache),
                &__cacheio_output,
                &__cacheio_storage,
                __cacheio_missed,
                __cacheio_call,
                #loader,
            )
        };
        let call = match self.function.is_async() {
            // Boxed, so that the future of a hit stays small.
            true => quote!(::std::boxed::Box::pin(#call).await),
            false => quote!(#private::poll_ready(#call)),
        };
        let ttl_none = self.ttl_none();
        quote! {
            #checks
            #ttl_none
            let __cacheio_call = #private::Call {
                options: #options,
                clone_error: {
                    #[allow(unused_imports)]
                    use #private::{ErrorIsClone as _, ErrorIsNotClone as _};
                    (&__cacheio_output).clone_error()
                },
                convert_error: {
                    #[allow(unused_imports)]
                    use #private::{ErrorIsFromCache as _, ErrorIsNotFromCache as _};
                    (&__cacheio_output).convert_error()
                },
            };
            #call
        }
    }

    /// Returns the function that runs a loader, and generates the loader.
    fn loader(&self) -> (Ident, TokenStream) {
        let private = &self.private;
        let (ttl, body) = (self.ttl_of_value(), self.body());
        let loader = quote!(#private::loader(__cacheio_output, __cacheio_storage, #ttl, #body));
        let Some(owned_args) = &self.owned_args else {
            return (format_ident!("load"), quote!(|| #loader));
        };
        let (copies, borrows) = (owned_args.copies(private), owned_args.borrows(private));
        let loader = quote! {
            move || {
                #copies
                move || async move {
                    #borrows
                    #loader.await
                }
            }
        };
        (format_ident!("fetch"), loader)
    }

    /// Generates the body as a closure that returns a future.
    fn body(&self) -> TokenStream {
        let private = &self.private;
        let Function { output, body, .. } = &self.function;
        match (&self.function.kind, &self.function.sig.output) {
            (Kind::Sync, ReturnType::Default) => quote!(#private::ready_body(move || #body)),
            (Kind::Sync, _) => quote!(#private::ready_body(move || -> #output #body)),
            // `#[async_trait]` has already annotated the type of the block.
            (Kind::Boxed(_), _) | (Kind::Async, ReturnType::Default) => {
                quote!(move || async move #body)
            }
            // An `async` block has no return type, and an `async` closure does not coerce to one.
            (Kind::Async, _) => quote! {
                move || async move {
                    if let ::core::option::Option::Some(__cacheio_returned) = ::core::option::Option::None::<#output> {
                        #[allow(unreachable_code)]
                        return __cacheio_returned;
                    }
                    let __cacheio_returned: #output = #body;
                    #[allow(unreachable_code)]
                    __cacheio_returned
                }
            },
        }
    }

    /// Generates the block that replaces the body.
    fn in_block(&self, statements: &TokenStream) -> TokenStream {
        match &self.function.kind {
            Kind::Sync | Kind::Async => statements.clone(),
            Kind::Boxed(pin) => quote!(#pin(async move { #statements })),
        }
    }
}
