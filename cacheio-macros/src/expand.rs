//! `#[cached]`, as code: one way for threads and tasks.

use std::sync::atomic::{AtomicUsize, Ordering};

use proc_macro2::{Span, TokenStream};
use quote::{format_ident, quote, quote_spanned};
use syn::spanned::Spanned as _;
use syn::{Error, Expr, Ident, Result, ReturnType};

use crate::attr::{Args, DurationArg, RefreshArg};
use crate::function::{Function, Kind};
use crate::key::{Key, KeyCode};
use crate::owned_args::Lent;
use crate::path::{self, Face, private, respanned, shown_at};

static EXPANSIONS: AtomicUsize = AtomicUsize::new(0);

/// Which of the two attributes it is.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Name {
    Cached,
    AsyncCached,
}

/// All that is known before code is generated.
pub(crate) struct Plan {
    pub(crate) function: Function,
    pub(crate) args: Args,
    pub(crate) key: Key,
    pub(crate) private: TokenStream,
    pub(crate) face: &'static Face,
    /// What the body is lent, if it may go on when its caller has left.
    lent: Option<Lent>,
    /// Which of the expansions in its crate it is.
    number: usize,
}

/// The code of an attribute; after an error the function as it was, so that nothing else seems
/// to be wrong.
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
            let message = "this function is not `async`: use `#[cached]`";
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
                true => "`self` does not count unless `key` says so: it need not be skipped".into(),
                false => format!("no argument is named `{unknown}`: {}", function.listed()),
            };
            return Err(Error::new(unknown.span(), message));
        }
        if let (Some((capacity, _)), Some(_)) = (&args.capacity, function.receiver()) {
            let message =
                "a method uses the cache of its type: say the capacity where that is built";
            return Err(Error::new(capacity.span(), message));
        }
        let face = if function.is_async() {
            &path::TASKS
        } else {
            &path::THREADS
        };
        let private = private(args.path.as_ref(), face.crates)?;
        let key = Key::new(args.key.take(), std::mem::take(&mut args.skip))?;
        if matches!(key, Key::Arguments { .. }) {
            function.name_arguments();
        }
        if args.cache.is_none() && function.receiver().is_none() {
            args.check_alone()?;
        }
        let lent = match args.behind().cloned() {
            Some(setting) => Some(function.lend(&setting, &mut args.cache_if)?),
            None => None,
        };
        Ok(Self {
            function,
            args,
            key,
            private,
            face,
            lent,
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

    /// Whether the function has a cache of its own.
    pub(crate) fn is_own(&self) -> bool {
        self.args.cache.is_none() && self.function.receiver().is_none()
    }

    /// The body of the function.
    fn call(&self) -> Result<TokenStream> {
        let Self { private, face, .. } = self;
        let is_async = self.function.is_async();
        let KeyCode { setup, key } = self.key_code(&self.function.sig.ident, is_async)?;
        let shape = self.shape();
        let cache = self.cache();
        let engine = face.ident(face.engine);
        // What cannot be a value is shown where the function says what it returns.
        let span = shown_at(self.function.output.span());
        let here = respanned(private, span);
        let lookup = quote_spanned!(span=> #here::lookup);
        let held = self.held();
        let load = self.awaited(&self.options());
        Ok(self.in_block(&quote! {
            #shape
            let (__cacheio_missed, __cacheio_cache) = {
                #cache
                #setup
                let __cacheio_found =
                    #lookup(#private::#engine(__cacheio_cache), &__cacheio_output, &__cacheio_storage, #key);
                match __cacheio_found {
                    ::core::result::Result::Ok(__cacheio_hit) => return __cacheio_hit,
                    // The body may do with the arguments what it likes: nothing borrows from them.
                    ::core::result::Result::Err(__cacheio_missed) => (__cacheio_missed, #held),
                }
            };
            #load
        }))
    }

    /// The body of a function that runs the original's in any case.
    pub(crate) fn refresh(&self, inside: &Ident) -> Result<TokenStream> {
        let Self { private, face, .. } = self;
        let KeyCode { setup, key } = self.key_code(inside, self.function.is_async())?;
        let shape = self.shape();
        let cache = self.cache();
        let held = self.held();
        let engine = face.ident(face.engine);
        let options = self.options();
        let refresh = self.awaited(&quote!(#options.force_refresh()));
        Ok(self.in_block(&quote! {
            #shape
            let (__cacheio_missed, __cacheio_cache) = {
                #cache
                #setup
                (#private::#engine(__cacheio_cache).missed(#key), #held)
            };
            #refresh
        }))
    }

    /// What a function is, and how it keeps its values.
    fn shape(&self) -> TokenStream {
        let private = &self.private;
        let output = &self.function.output;
        let keeping = if self.is_own() {
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
            let __cacheio_storage = #private::#keeping;
        }
    }

    /// `__cacheio_cache`: a reference to the cache.
    pub(crate) fn cache(&self) -> TokenStream {
        let Self { private, face, .. } = self;
        let cache = face.ident(face.cache);
        let named = match (&self.args.cache, self.function.receiver()) {
            (Some(named), _) => quote_spanned!(named.span()=> &(#named)),
            (None, Some(receiver)) => {
                let cacheable = face.ident(face.cacheable);
                let this = receiver.self_token;
                quote!(<Self as #private::#cacheable>::cache(&#this))
            }
            (None, None) => return self.own_cache(),
        };
        quote!(let __cacheio_cache: &#private::#cache = #named;)
    }

    fn own_cache(&self) -> TokenStream {
        let Self { private, face, .. } = self;
        let cache = face.ident(face.cache);
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

    /// The cache for as long as the body runs.
    pub(crate) fn held(&self) -> TokenStream {
        let Self { private, face, .. } = self;
        let cache = face.ident(face.cache);
        match self.is_own() {
            true => quote!(__cacheio_cache),
            false => quote!(#private::#cache::clone(__cacheio_cache)),
        }
    }

    /// Runs the body to the end, or as far as the caller waits.
    fn awaited(&self, options: &TokenStream) -> TokenStream {
        let Self { private, face, .. } = self;
        let engine = face.ident(face.engine);
        let cache = if self.is_own() {
            quote!(__cacheio_cache)
        } else {
            quote!(&__cacheio_cache)
        };
        let checks = self.checks();
        let (how, loader) = self.loader();
        let call = quote! {
            #private::#how(
                #private::#engine(#cache),
                &__cacheio_output,
                &__cacheio_storage,
                __cacheio_missed,
                __cacheio_call,
                #loader,
            )
        };
        let call = match self.function.is_async() {
            // On the heap, so that the future of a hit stays small.
            true => quote!(::std::boxed::Box::pin(#call).await),
            false => quote!(#private::poll_ready(#call)),
        };
        let ttl_none = self.args.ttl_none.as_ref().map(|ttl| {
            let (span, ttl) = self.duration("ttl_none", ttl);
            let ttl = quote_spanned!(span=> ::core::convert::Into::into(#ttl));
            quote!(let __cacheio_ttl_none: #private::Ttl = #ttl;)
        });
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

    /// What runs a loader, and the loader: the body, in its caller or behind it.
    fn loader(&self) -> (Ident, TokenStream) {
        let private = &self.private;
        let (keep, body) = (self.keep(), self.body());
        let loader = quote!(#private::loader(__cacheio_output, __cacheio_storage, #keep, #body));
        let Some(lent) = &self.lent else {
            return (format_ident!("load"), quote!(|| #loader));
        };
        let (copies, loans) = (lent.copies(private), lent.loans(private));
        let loader = quote! {
            move || {
                #copies
                move || async move {
                    #loans
                    #loader.await
                }
            }
        };
        (format_ident!("fetch"), loader)
    }

    /// The body, as a function of nothing that gives a future.
    fn body(&self) -> TokenStream {
        let private = &self.private;
        let Function { output, body, .. } = &self.function;
        match (&self.function.kind, &self.function.sig.output) {
            (Kind::Sync, ReturnType::Default) => quote!(#private::ready_body(move || #body)),
            (Kind::Sync, _) => quote!(#private::ready_body(move || -> #output #body)),
            // `#[async_trait]` did already what follows.
            (Kind::Boxed(_), _) | (Kind::Async, ReturnType::Default) => {
                quote!(move || async move #body)
            }
            // An `async` block cannot say what it returns, nor does an `async` closure coerce to it.
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

    fn options(&self) -> TokenStream {
        let private = &self.private;
        let Args {
            ttl,
            ttl_idle,
            jitter,
            stale_for,
            retry_after,
            refresh_ahead,
            soft_timeout,
            hard_timeout,
            max_load,
            tags,
            ..
        } = &self.args;
        let mut options = match ttl {
            None => quote!(#private::Options::new()),
            Some(ttl) => {
                let (span, ttl) = self.duration("ttl", ttl);
                quote_spanned!(span=> #private::Options::ttl(#ttl))
            }
        };
        if let Some(jitter) = jitter {
            options = quote_spanned!(shown_at(jitter.span())=> #options.jitter(#jitter));
        }
        options = match refresh_ahead {
            None => options,
            Some(RefreshArg::XFetch) => {
                quote!(#options.refresh_ahead(#private::RefreshAhead::XFETCH))
            }
            Some(RefreshArg::Expression(ahead)) => {
                quote_spanned!(shown_at(ahead.span())=> #options.refresh_ahead(#ahead))
            }
        };
        let durations = [
            ("ttl_idle", ttl_idle),
            ("stale_for", stale_for),
            ("retry_after", retry_after),
            ("soft_timeout", soft_timeout),
            ("hard_timeout", hard_timeout),
            ("max_load", max_load),
        ];
        for (name, duration) in durations {
            let Some(duration) = duration else { continue };
            let (span, mut duration) = self.duration(name, duration);
            if name == "hard_timeout" {
                duration =
                    quote_spanned!(span=> #private::hard_timeout(__cacheio_output, #duration));
            }
            let setter = Ident::new(name, span);
            options = quote_spanned!(span=> #options.#setter(#duration));
        }
        match tags {
            None => options,
            // One by one, since they may be of different types.
            Some(Expr::Array(tags)) => {
                let tags = tags.elems.iter();
                quote!(#options #(.tags([#tags]))*)
            }
            Some(tags) => quote!(#options.tags(#tags)),
        }
    }

    /// Stops the compiler where durations that are known do not fit together.
    fn checks(&self) -> TokenStream {
        let private = &self.private;
        let known = |name: &'static str, duration: &Option<DurationArg>| {
            let duration = duration.as_ref().filter(|duration| duration.is_known())?;
            let (span, duration) = self.duration(name, duration);
            Some((name, span, duration))
        };
        let soft = known("soft_timeout", &self.args.soft_timeout);
        let hard = known("hard_timeout", &self.args.hard_timeout);
        let load = known("max_load", &self.args.max_load);
        let zero = [&hard, &load].into_iter().flatten();
        let zero = zero.map(|(name, span, duration)| {
            let message = format!("a {name} of zero would let no body come to its end");
            quote_spanned! {*span=>
                const _: () = if #private::Duration::is_zero(&#duration) { ::core::panic!(#message) };
            }
        });
        let order = [(&soft, &hard), (&soft, &load), (&hard, &load)];
        let order = order.into_iter().filter_map(|(first, second)| {
            let (first, span, duration) = first.as_ref()?;
            let (second, _, other) = second.as_ref()?;
            let message = format!("{first} is longer than {second}, and so would never be over");
            Some(quote_spanned! {*span=>
                const _: () = if #private::is_longer(#duration, #other) { ::core::panic!(#message) };
            })
        });
        quote!(#(#zero)* #(#order)*)
    }

    /// A duration as an expression, and where to show what is wrong with it.
    fn duration(&self, name: &str, duration: &DurationArg) -> (Span, TokenStream) {
        let private = &self.private;
        match duration {
            DurationArg::Seconds(seconds) => (
                shown_at(seconds.span()),
                quote!(#private::Duration::from_secs(#seconds)),
            ),
            // In a constant, so that it is checked when the program is, also in what is generic.
            DurationArg::Text(text) => {
                let constant = format_ident!("__CACHEIO_{}", name.to_uppercase());
                let checked = quote_spanned! {text.span()=> {
                    const #constant: #private::Duration = match #private::parse_duration(#text) {
                        ::core::result::Result::Ok(duration) => duration,
                        ::core::result::Result::Err(wrong) => ::core::panic!("{}", wrong),
                    };
                    #constant
                }};
                (text.span(), checked)
            }
            DurationArg::Expression(expression) => {
                (shown_at(expression.span()), quote!(#expression))
            }
        }
    }

    fn keep(&self) -> TokenStream {
        let private = &self.private;
        let none = match (&self.args.ttl_none, self.args.skip_none) {
            (Some(ttl), _) => Some((self.duration("ttl_none", ttl).0, quote!(__cacheio_ttl_none))),
            (None, Some(span)) => Some((shown_at(span), quote!(#private::Duration::ZERO))),
            (None, None) => None,
        };
        match (none, &self.args.cache_if) {
            (None, None) => quote!(#private::store_all(__cacheio_output)),
            (Some((span, none)), None) => {
                quote_spanned!(span=> #private::store_some(__cacheio_output, #none))
            }
            (None, Some(keep)) => {
                quote_spanned!(shown_at(keep.span())=> #private::store_if(__cacheio_output, #keep))
            }
            (Some((span, none)), Some(keep)) => {
                quote_spanned!(span=> #private::store_some_if(__cacheio_output, #none, #keep))
            }
        }
    }

    /// Puts statements where the body stood.
    fn in_block(&self, statements: &TokenStream) -> TokenStream {
        match &self.function.kind {
            Kind::Sync | Kind::Async => statements.clone(),
            Kind::Boxed(pin) => quote!(#pin(async move { #statements })),
        }
    }
}

impl Face {
    pub(crate) fn ident(&self, name: &str) -> Ident {
        Ident::new(name, Span::call_site())
    }
}
