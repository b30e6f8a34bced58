//! Generates the companions of a function `find`: `find_key`, `find_invalidate`, `find_refresh` and
//! `find_cache`.

use proc_macro2::TokenStream;
use quote::{ToTokens as _, quote};
use syn::punctuated::Punctuated;
use syn::{
    Error, FnArg, GenericParam, Generics, Ident, Pat, ReceiverKind, Result, Signature, Token, Type,
    WherePredicate, parse_quote,
};

use crate::function::{Argument, Kind, named_in};
use crate::key::Key;
use crate::key_code::{KeyCode, companion_name};
use crate::plan::Plan;

impl Plan {
    pub(crate) fn companions(&self) -> Result<TokenStream> {
        let Some(span) = self.args.companions else {
            return Ok(TokenStream::new());
        };
        if let Kind::Boxed(_) = self.function.kind {
            let message = "`companions` does not work under `#[async_trait]`; move the cached \
                           function out of the trait";
            return Err(Error::new(span, message));
        }
        let key = self.key_companion()?;
        let invalidate = self.invalidate_companion()?;
        let refresh = self.refresh_companion()?;
        let cache = self.cache_companion();
        Ok(quote!(#key #invalidate #refresh #cache))
    }

    /// Generates access to a cache that nothing else names.
    fn cache_companion(&self) -> Option<TokenStream> {
        if !self.has_function_cache() {
            return None;
        }
        let private = &self.private;
        let vis = &self.function.vis;
        let name = companion_name(&self.function.sig.ident, "cache");
        let attrs = self.attrs(&format!(
            "Returns the cache of `{}`, which the first call of one of its functions builds.",
            self.function.sig.ident
        ));
        let cache = self.api.ident(self.api.cache);
        let function_cache = self.cache();
        Some(quote! {
            #attrs
            #[must_use]
            #vis fn #name() -> &'static #private::#cache {
                #function_cache
                __cacheio_cache
            }
        })
    }

    fn key_companion(&self) -> Result<TokenStream> {
        let private = &self.private;
        let vis = &self.function.vis;
        let name = companion_name(&self.function.sig.ident, "key");
        let attrs = self.attrs(&format!(
            "Returns the key of the entry of `{}` for these arguments, without the namespace of its cache.",
            self.function.sig.ident
        ));
        let mut sig = self.signature(&name, false)?;
        sig.asyncness = None;
        sig.output = parse_quote!(-> #private::String);
        let KeyCode { setup, key } = self.key_code(&name, false)?;
        let names = names(&sig);
        Ok(quote! {
            #attrs
            #[must_use]
            #vis #sig {
                #(let _ = &#names;)*
                #setup
                #private::key_text(#key)
            }
        })
    }

    fn invalidate_companion(&self) -> Result<TokenStream> {
        let private = &self.private;
        let api = self.api;
        let vis = &self.function.vis;
        let name = companion_name(&self.function.sig.ident, "invalidate");
        let attrs = self.attrs(&format!(
            "Deletes the entry of `{}` for these arguments. Returns whether there was one.\n\n# Errors\n\n\
             Returns an error if the store fails.",
            self.function.sig.ident
        ));
        let is_async = self.function.is_async();
        let mut sig = self.signature(&name, true)?;
        sig.output = parse_quote!(-> #private::Result<::core::primitive::bool>);
        let names = names(&sig);
        let KeyCode { setup, key } = self.key_code(&name, is_async)?;
        let cache = self.cache();
        let held = self.held();
        let engine = api.ident(api.engine);
        let by_reference = if self.has_function_cache() {
            quote!()
        } else {
            quote!(&)
        };
        let delete = quote! {
            #private::Engine::delete(#private::#engine(#by_reference __cacheio_cache), __cacheio_key)
        };
        let delete = match is_async {
            true => quote!(#delete.await),
            false => quote!(#private::poll_ready(#delete)),
        };
        Ok(quote! {
            #attrs
            #vis #sig {
                #(let _ = &#names;)*
                let (__cacheio_key, __cacheio_cache) = {
                    #cache
                    #setup
                    (#private::key_text(#key), #held)
                };
                #delete
            }
        })
    }

    fn refresh_companion(&self) -> Result<TokenStream> {
        let vis = &self.function.vis;
        let name = companion_name(&self.function.sig.ident, "refresh");
        let attrs = self.attrs(&format!(
            "Runs the body of `{}` for these arguments, also after a hit, and replaces the entry.",
            self.function.sig.ident
        ));
        let mut sig = self.function.sig.clone();
        sig.ident = name.clone();
        let refresh = self.refresh(&name)?;
        // `force_refresh` is not evaluated here.
        let names = names(&sig);
        Ok(quote! {
            #attrs
            #vis #sig {
                #(let _ = &#names;)*
                #refresh
            }
        })
    }

    fn attrs(&self, doc: &str) -> TokenStream {
        let kept = self
            .function
            .attrs
            .iter()
            .filter(|attr| attr.path().is_ident("cfg") || attr.path().is_ident("allow"));
        quote! {
            #(#kept)*
            #[doc = #doc]
        }
    }

    /// Generates the signature, without the return type, of a companion that takes only the
    /// arguments of the key.
    fn signature(&self, name: &Ident, with_cache: bool) -> Result<Signature> {
        let mut sig = self.function.sig.clone();
        sig.ident = name.clone();
        sig.output = syn::ReturnType::Default;
        let mut arguments = self.function.arguments.iter();
        let mut inputs = Punctuated::<FnArg, Token![,]>::new();
        for input in sig.inputs {
            let mut typed = match input {
                FnArg::Receiver(receiver) => {
                    inputs.push(FnArg::Receiver(shared(receiver)));
                    continue;
                }
                FnArg::Typed(typed) => typed,
            };
            let Some(argument) = arguments.next() else {
                continue;
            };
            let in_cache = |cache| argument.names.iter().any(|name| named_in(cache, name));
            if self.key.uses(argument)
                || with_cache && self.args.cache.as_ref().is_some_and(in_cache)
            {
                if let Pat::Ident(name) = &mut *typed.pat {
                    name.mutability = None;
                }
                inputs.push(FnArg::Typed(typed));
            } else if matches!(self.key, Key::Arguments { .. }) && has_impl_trait(&argument.ty) {
                return Err(Error::new_spanned(
                    &argument.ty,
                    "a skipped argument needs a named type in a function with companions; write a type \
                     parameter, as in `fn find<T: Trait>(context: T)`",
                ));
            }
        }
        sig.inputs = inputs;
        self.prune(&mut sig.generics, &sig.inputs, with_cache);
        Ok(sig)
    }

    /// Removes the type parameters that the companion does not use.
    fn prune(
        &self,
        generics: &mut Generics,
        inputs: &Punctuated<FnArg, Token![,]>,
        with_cache: bool,
    ) {
        let names: Vec<Ident> = generics
            .params
            .iter()
            .filter_map(parameter)
            .cloned()
            .collect();
        let mut used: Vec<&Ident> = Vec::new();
        let is_named = |name: &Ident| {
            let in_cache = |cache| named_in(cache, name);
            named_in(inputs, name)
                || self.key.names(name)
                || with_cache && self.args.cache.as_ref().is_some_and(in_cache)
        };
        used.extend(names.iter().filter(|name| is_named(name)));
        // The bounds of a used parameter may name others.
        while let Some(more) = names.iter().find(|name| {
            let bounds =
                |param: &&GenericParam| parameter(param).is_some_and(|param| used.contains(&param));
            !used.contains(name)
                && generics
                    .params
                    .iter()
                    .filter(bounds)
                    .any(|param| named_in(param, name))
        }) {
            used.push(more);
        }
        let unused: Vec<&Ident> = names.iter().filter(|name| !used.contains(name)).collect();
        let names_unused =
            |predicate: &WherePredicate| unused.iter().any(|name| named_in(predicate, name));
        let params = std::mem::take(&mut generics.params).into_iter();
        generics.params = params
            .filter(|param| parameter(param).is_none_or(|name| !unused.contains(&name)))
            .collect();
        if let Some(clause) = &mut generics.where_clause {
            let predicates = std::mem::take(&mut clause.predicates).into_iter();
            clause.predicates = predicates
                .filter(|predicate| !names_unused(predicate))
                .collect();
        }
    }
}

/// Returns what the patterns of the arguments bind. Not all of it is part of the key.
fn names(sig: &Signature) -> Vec<Ident> {
    let typed = sig.inputs.iter().filter_map(|input| match input {
        FnArg::Receiver(_) => None,
        FnArg::Typed(typed) => Some(Argument::new(typed)),
    });
    typed
        .filter(|argument| argument.cfgs.is_empty())
        .flat_map(|argument| argument.names)
        .collect()
}

fn parameter(param: &GenericParam) -> Option<&Ident> {
    match param {
        GenericParam::Type(param) => Some(&param.ident),
        GenericParam::Const(param) => Some(&param.ident),
        GenericParam::Lifetime(_) => None,
    }
}

/// Returns the receiver of a companion that only reads: `&self`, unless its type is written out.
fn shared(receiver: syn::Receiver) -> syn::Receiver {
    let kind = match receiver.kind {
        ReceiverKind::Value => ReceiverKind::Reference(Default::default(), None, None),
        ReceiverKind::Reference(and, lifetime, _) => ReceiverKind::Reference(and, lifetime, None),
        typed => typed,
    };
    syn::Receiver {
        mutability: None,
        kind,
        ..receiver
    }
}

pub(crate) fn has_impl_trait(ty: &Type) -> bool {
    let mut tokens = ty.to_token_stream().into_iter();
    tokens.any(|token| matches!(token, proc_macro2::TokenTree::Ident(ident) if ident == "impl"))
}
