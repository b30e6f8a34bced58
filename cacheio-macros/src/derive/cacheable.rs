//! `#[derive(Cacheable)]` and `#[derive(AsyncCacheable)]`.

use proc_macro2::{Span, TokenStream};
use quote::{format_ident, quote, quote_spanned};
use syn::spanned::Spanned as _;
use syn::{Attribute, Data, DeriveInput, Error, Field, Fields, Member, Meta, Result};

use crate::function::named_in;
use crate::path::{ASYNC, Api, SYNC, shown_at};

pub(crate) fn cacheable(input: TokenStream, api: &'static Api) -> TokenStream {
    syn::parse2(input)
        .and_then(|input| expand(&input, api))
        .unwrap_or_else(Error::into_compile_error)
}

fn expand(input: &DeriveInput, api: &'static Api) -> Result<TokenStream> {
    let path = super::crate_path(&input.attrs)?;
    let what = format!("`{}`", api.cacheable);
    let private = api.private(path.as_ref(), &what, Span::call_site())?;
    let ident = &input.ident;
    let (generics, arguments, clause) = input.generics.split_for_impl();
    let (cacheable, cache) = (api.ident(api.cacheable), api.ident(api.cache));
    let (ty, body) = match cache_field(input, api)? {
        Some((member, field)) => {
            let ty = &field.ty;
            check_world(field, api)?;
            // A wrong type is reported at the field, and not at each method.
            let check =
                quote_spanned!(shown_at(ty.span())=> let _: &#private::#cache = &self.#member;);
            (quote!(#ty), quote!(#check &self.#member))
        }
        None => (
            quote!(#private::#cache),
            quote! {
                static __CACHEIO_CACHES: #private::TypeCaches<#private::#cache> =
                    #private::TypeCaches::new();
                #private::TypeCaches::of::<Self>(&__CACHEIO_CACHES)
            },
        ),
    };
    Ok(quote! {
        #[automatically_derived]
        impl #generics #private::#cacheable for #ident #arguments #clause {
            type Cache = #ty;

            #[inline]
            fn cache(&self) -> &#ty {
                #body
            }
        }
    })
}

/// Returns the field of the cache. A type without one has a cache of its own.
fn cache_field<'a>(input: &'a DeriveInput, api: &Api) -> Result<Option<(Member, &'a Field)>> {
    let Data::Struct(data) = &input.data else {
        return Ok(None);
    };
    let fields: Vec<(Member, &Field)> = data.fields.members().zip(&data.fields).collect();
    for mark in api.marks {
        let mut marked = Vec::new();
        for (member, field) in &fields {
            if let Some(attr) = marking(field, mark)? {
                marked.push((attr, member, *field));
            }
        }
        match marked.as_slice() {
            [] => {}
            [(_, member, field)] => return Ok(Some(((*member).clone(), field))),
            [_, (second, ..), ..] => {
                let message = format!(
                    "more than one field is marked with `#[{mark}]`; mark only the cache that methods use"
                );
                return Err(Error::new(second.span(), message));
            }
        }
    }
    let named = |field: &Field| field.ident.as_ref().is_some_and(|name| name == "cache");
    if let Some(position) = fields.iter().position(|(_, field)| named(field)) {
        return Ok(fields.into_iter().nth(position));
    }
    match fields.iter().find(|(_, field)| holds(field, api)) {
        Some((_, unmarked)) => Err(missing(&data.fields, unmarked, api)),
        None => Ok(None),
    }
}

/// Returns whether the type of a field names a cache.
fn holds(field: &Field, api: &Api) -> bool {
    named_in(&field.ty, &format_ident!("{}", api.cache))
}

fn missing(fields: &Fields, unmarked: &Field, api: &Api) -> Error {
    let (cache, mark) = (api.cache, api.marks[0]);
    let message = match fields {
        Fields::Unnamed(_) => {
            format!("this `{cache}` is not marked; put `#[{mark}]` on it if methods use it")
        }
        _ => format!(
            "this `{cache}` is not marked; put `#[{mark}]` on it if methods use it, or name it `cache`"
        ),
    };
    Error::new(unmarked.ty.span(), message)
}

/// Rejects a cache of the other kind.
fn check_world(field: &Field, api: &Api) -> Result<()> {
    let other = if api.cache == SYNC.cache {
        &ASYNC
    } else {
        &SYNC
    };
    if holds(field, api) || !holds(field, other) {
        return Ok(());
    }
    let message = format!(
        "this field holds the cache of another kind; derive `{}` for `{}`, or make it `{}` for `{}`",
        other.cacheable, other.cache, api.cache, api.cacheable
    );
    Err(Error::new(field.ty.span(), message))
}

fn marking<'a>(field: &'a Field, mark: &str) -> Result<Option<&'a Attribute>> {
    match field.attrs.iter().find(|attr| attr.path().is_ident(mark)) {
        Some(attr) if !matches!(attr.meta, Meta::Path(_)) => Err(Error::new_spanned(
            attr,
            format!("`#[{mark}]` takes no value"),
        )),
        attr => Ok(attr),
    }
}
