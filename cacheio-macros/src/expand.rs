//! Generates the code of `#[cached]`: one pipeline for sync and async functions.

use proc_macro2::{Delimiter, Group, TokenStream};
use quote::{format_ident, quote, quote_spanned};
use syn::spanned::Spanned as _;
use syn::{Block, Ident, Result, ReturnType};

use crate::function::{Function, Kind};
use crate::key_code::KeyCode;
use crate::path::{respanned, shown_at};
use crate::plan::{Name, Plan};

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
        let lookup = match self.args.skip_l1 {
            Some(_) => quote_spanned!(span=> #here::lookup_past_l1),
            None => quote_spanned!(span=> #here::lookup),
        };
        let held = self.held();
        let found = quote! {
            #lookup(#private::#engine(__cacheio_cache), &__cacheio_output, &__cacheio_storage, #key)
        };
        let (force, found, options) = match &self.args.force_refresh {
            None => (None, found, self.options()),
            Some(force) => {
                let span = shown_at(force.span());
                let force =
                    quote_spanned!(span=> let __cacheio_force: ::core::primitive::bool = #force;);
                let missed =
                    quote!(#private::Engine::missed(#private::#engine(__cacheio_cache), #key));
                let found = quote! {
                    match __cacheio_force {
                        true => ::core::result::Result::Err(#missed),
                        false => #found,
                    }
                };
                let options = self.options();
                let options = quote!(#private::refreshed(#options, __cacheio_force));
                (Some(force), found, options)
            }
        };
        let load = self.load(&options);
        Ok(self.in_block(&quote! {
            #types
            #force
            let (__cacheio_missed, __cacheio_cache) = {
                #cache
                #setup
                let __cacheio_found = #found;
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
                (#private::Engine::missed(#private::#engine(__cacheio_cache), #key), #held)
            };
            #refresh
        }))
    }

    /// Generates `__cacheio_output`, the parts of the return type, and `__cacheio_storage`, how
    /// values are stored.
    fn types(&self) -> TokenStream {
        let private = &self.private;
        let output = &self.function.output;
        // An error about the type of the value is shown at the return type.
        let span = shown_at(output.span());
        let here = respanned(private, span);
        let storage = match self.has_function_cache() {
            true => quote!({
                use #private::{ArcStorage as _, LocalStorage as _};
                (&&#private::InMemoryOf(&__cacheio_output)).__cacheio_storage()
            }),
            false => quote_spanned!(span=> #here::as_value(&__cacheio_output)),
        };
        let fallible = match self.owned_args {
            Some(_) => format_ident!("SentOutput"),
            None => format_ident!("SharedOutput"),
        };
        quote! {
            let __cacheio_output = {
                use #private::{#fallible as _, InfallibleOutput as _, UnsharedOutput as _};
                (&&&#private::Returns::<#output>::new()).__cacheio_output()
            };
            let __cacheio_storage = #storage;
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
                let unique = self.expansion;
                let name = self.function.sig.ident.to_string();
                quote!(shared(
                    ::core::concat!(::core::module_path!(), "::", #name, " ", #unique)
                ))
            }
            None => quote!(new()),
        };
        quote! {
            static __CACHEIO_CACHE: #private::FunctionCache<#private::#cache> = #private::FunctionCache::#new;
            let __cacheio_cache = #private::FunctionCache::get(&__CACHEIO_CACHE, || #capacity);
        }
    }

    /// Generates a handle to the cache that lives as long as the body runs.
    pub(crate) fn held(&self) -> TokenStream {
        let Self { private, api, .. } = self;
        let cache = api.ident(api.cache);
        match self.has_function_cache() {
            true => quote!(__cacheio_cache),
            false => quote!(<#private::#cache as ::core::clone::Clone>::clone(__cacheio_cache)),
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
        let call = match (self.function.is_async(), &self.owned_args) {
            // Boxed, so that the future of a hit stays small.
            (true, None) => quote!(#private::Box::pin(#call).await),
            (true, Some(_)) => quote!(#private::boxed_send(#call).await),
            (false, _) => quote!(#private::poll_ready(#call)),
        };
        let ttl_none = self.ttl_none();
        quote! {
            #checks
            #ttl_none
            let __cacheio_call = #private::Call {
                options: #options,
                clone_error: {
                    use #private::{ErrorIsClone as _, ErrorIsNotClone as _};
                    (&__cacheio_output).__cacheio_clone_error()
                },
                convert_error: {
                    use #private::{ErrorIsFromCache as _, ErrorIsNotFromCache as _};
                    (&__cacheio_output).__cacheio_convert_error()
                },
            };
            #call
        }
    }

    /// Returns the function that runs a loader, and generates the loader.
    fn loader(&self) -> (Ident, TokenStream) {
        let private = &self.private;
        let (ttl, body) = (self.ttl_of_value(), self.body());
        let slot = match self.owned_args {
            Some(_) => quote!(#private::slot(&__cacheio_output)),
            None => quote!(__cacheio_slot),
        };
        let loader =
            quote!(#private::loader(__cacheio_output, __cacheio_storage, #slot, #ttl, #body));
        let Some(owned_args) = &self.owned_args else {
            return (format_ident!("load"), quote!(|__cacheio_slot| #loader));
        };
        let loader = match self.function.is_async() {
            true => quote!(#private::boxed_send(#loader)),
            false => loader,
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
            (Kind::Async, _) => {
                let body = generated(body);
                quote! {
                    move || async move {
                        if let ::core::option::Option::Some(__cacheio_returned) = ::core::option::Option::None::<#output> {
                            return __cacheio_returned;
                        }
                        #body
                    }
                }
            }
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

/// Returns a block whose braces are not the user's, so that the compiler does not suggest to remove them.
fn generated(block: &Block) -> Group {
    let statements = &block.stmts;
    let mut generated = Group::new(Delimiter::Brace, quote!(#(#statements)*));
    generated.set_span(shown_at(block.span()));
    generated
}
