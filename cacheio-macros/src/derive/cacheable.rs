//! `#[derive(Cacheable)]` and `#[derive(AsyncCacheable)]`.

use proc_macro2::{Span, TokenStream};
use quote::{quote, quote_spanned};
use syn::spanned::Spanned as _;
use syn::{Attribute, Data, DeriveInput, Error, Field, Fields, Member, Meta, Result};

use crate::path::{Face, shown_at};

pub(crate) fn cacheable(input: TokenStream, face: &'static Face) -> TokenStream {
    syn::parse2(input)
        .and_then(|input| expand(&input, face))
        .unwrap_or_else(Error::into_compile_error)
}

fn expand(input: &DeriveInput, face: &'static Face) -> Result<TokenStream> {
    let private = super::private(&input.attrs, face.crates)?;
    let (member, field) = cache_field(input, face)?;
    let ident = &input.ident;
    let (generics, arguments, clause) = input.generics.split_for_impl();
    let (cacheable, cache) = (face.ident(face.cacheable), face.ident(face.cache));
    let ty = &field.ty;
    // A field of a wrong type is shown here, not at each method.
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

fn cache_field<'a>(input: &'a DeriveInput, face: &Face) -> Result<(Member, &'a Field)> {
    let (derive, cache) = (face.cacheable, face.cache);
    let Data::Struct(data) = &input.data else {
        let message = format!("`{derive}` is for structs, which have a field `cache: {cache}`");
        return Err(Error::new(input.ident.span(), message));
    };
    let fields: Vec<(Member, &Field)> = data.fields.members().zip(&data.fields).collect();
    for mark in face.marks {
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
                    "another field is marked `#[{mark}]` already: mark the one that methods use"
                );
                return Err(Error::new(second.span(), message));
            }
        }
    }
    let named = |field: &Field| field.ident.as_ref().is_some_and(|name| name == "cache");
    match fields.into_iter().find(|(_, field)| named(field)) {
        Some(found) => Ok(found),
        None => Err(missing(&data.fields, input.ident.span(), face)),
    }
}

fn missing(fields: &Fields, span: Span, face: &Face) -> Error {
    let (cache, mark) = (face.cache, face.marks[0]);
    let message = match fields {
        Fields::Unnamed(_) => format!("no field is marked: write `#[{mark}]` before the `{cache}`"),
        _ => format!(
            "no field holds the cache: add `cache: {cache}`, or mark another with `#[{mark}]`"
        ),
    };
    Error::new(span, message)
}

fn marking<'a>(field: &'a Field, mark: &str) -> Result<Option<&'a Attribute>> {
    match field.attrs.iter().find(|attr| attr.path().is_ident(mark)) {
        Some(attr) if !matches!(attr.meta, Meta::Path(_)) => {
            Err(Error::new_spanned(attr, format!("write just `#[{mark}]`")))
        }
        attr => Ok(attr),
    }
}
