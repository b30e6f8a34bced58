//! `#[derive(Cacheable)]` and `#[derive(AsyncCacheable)]`.

use proc_macro2::{Span, TokenStream};
use quote::{quote, quote_spanned};
use syn::spanned::Spanned as _;
use syn::{Attribute, Data, DeriveInput, Error, Field, Fields, Member, Meta, Result};

use crate::path::{Api, shown_at};

pub(crate) fn cacheable(input: TokenStream, api: &'static Api) -> TokenStream {
    syn::parse2(input)
        .and_then(|input| expand(&input, api))
        .unwrap_or_else(Error::into_compile_error)
}

fn expand(input: &DeriveInput, api: &'static Api) -> Result<TokenStream> {
    let private = super::private(&input.attrs, api.crates)?;
    let (member, field) = cache_field(input, api)?;
    let ident = &input.ident;
    let (generics, arguments, clause) = input.generics.split_for_impl();
    let (cacheable, cache) = (api.ident(api.cacheable), api.ident(api.cache));
    let ty = &field.ty;
    // A wrong type is reported at the field, and not at each method.
    let check = quote_spanned!(shown_at(ty.span())=> let _: &#private::#cache = &self.#member;);
    Ok(quote! {
        #[automatically_derived]
        impl #generics #private::#cacheable for #ident #arguments #clause {
            type Cache = #ty;

            #[inline]
            fn cache(&self) -> &#ty {
                #check
                &self.#member
            }
        }
    })
}

fn cache_field<'a>(input: &'a DeriveInput, api: &Api) -> Result<(Member, &'a Field)> {
    let (derive, cache) = (api.cacheable, api.cache);
    let Data::Struct(data) = &input.data else {
        let message = format!(
            "`{derive}` can only be derived for a struct; it needs a field `cache: {cache}`"
        );
        return Err(Error::new(input.ident.span(), message));
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
            [(_, member, field)] => return Ok(((*member).clone(), field)),
            [_, (second, ..), ..] => {
                let message = format!(
                    "more than one field is marked with `#[{mark}]`; mark only the cache that methods use"
                );
                return Err(Error::new(second.span(), message));
            }
        }
    }
    let named = |field: &Field| field.ident.as_ref().is_some_and(|name| name == "cache");
    match fields.into_iter().find(|(_, field)| named(field)) {
        Some(found) => Ok(found),
        None => Err(missing(&data.fields, input.ident.span(), api)),
    }
}

fn missing(fields: &Fields, span: Span, api: &Api) -> Error {
    let (cache, mark) = (api.cache, api.marks[0]);
    let message = match fields {
        Fields::Unnamed(_) => format!("no field is marked; put `#[{mark}]` on the `{cache}`"),
        _ => format!(
            "no field holds the cache; add `cache: {cache}`, or mark a field with `#[{mark}]`"
        ),
    };
    Error::new(span, message)
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
