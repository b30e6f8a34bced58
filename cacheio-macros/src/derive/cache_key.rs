//! `#[derive(CacheKey)]`.

use proc_macro2::TokenStream;
use quote::{format_ident, quote};
use syn::ext::IdentExt as _;
use syn::spanned::Spanned as _;
use syn::visit::{self, Visit};
use syn::{
    Attribute, Data, DeriveInput, Error, Fields, Generics, Ident, LitStr, Member, Result, Type,
    TypePath, WherePredicate, parse_quote,
};

use crate::path::{KEY_CRATES, private};

pub(crate) fn cache_key(input: TokenStream) -> TokenStream {
    syn::parse2(input)
        .and_then(|input| expand(&input))
        .unwrap_or_else(Error::into_compile_error)
}

fn expand(input: &DeriveInput) -> Result<TokenStream> {
    let private = private(super::crate_path(&input.attrs)?.as_ref(), KEY_CRATES)?;
    let prefix = prefix(&input.attrs)?;
    let name = input.ident.unraw().to_string();
    let mut types = Vec::new();
    let arms = match &input.data {
        Data::Struct(data) => {
            let case = Case::new(&data.fields)?;
            types.extend(case.types());
            if let ([(_, member, _)], None, Fields::Unnamed(_), 1) = (
                case.parts.as_slice(),
                &prefix,
                &data.fields,
                data.fields.len(),
            ) {
                let clause = bounds(&input.generics, &types, &private);
                return Ok(transparent(input, &private, member, &clause));
            }
            case.arm(
                &quote!(Self),
                prefix.as_ref(),
                (!case.has_parts()).then_some(name),
            )
        }
        Data::Enum(data) => {
            let mut arms = TokenStream::new();
            for variant in &data.variants {
                let case = Case::new(&variant.fields)?;
                types.extend(case.types());
                let (ident, name) = (&variant.ident, variant.ident.unraw().to_string());
                arms.extend(case.arm(&quote!(Self::#ident), prefix.as_ref(), Some(name)));
            }
            if data.variants.is_empty() {
                arms.extend(quote!(_ => {}));
            }
            arms
        }
        Data::Union(_) => {
            let message = "`CacheKey` cannot be derived for a union; use a struct or an enum";
            return Err(Error::new(input.ident.span(), message));
        }
    };
    let clause = bounds(&input.generics, &types, &private);
    Ok(implementation(
        input,
        &private,
        &clause,
        &quote! {
            fn write_key(&self, __cacheio_key: &mut #private::KeyWriter<'_>) {
                match self {
                    #arms
                }
            }
        },
    ))
}

/// The fields of a struct or a variant.
struct Case<'a> {
    /// The fields that are part of the key: the names of their bindings, their names, their types.
    parts: Vec<(Ident, Member, &'a Type)>,
}

impl<'a> Case<'a> {
    fn new(fields: &'a Fields) -> Result<Self> {
        let mut parts = Vec::new();
        for (at, (member, field)) in fields.members().zip(fields).enumerate() {
            if !is_skipped(&field.attrs)? {
                parts.push((format_ident!("__cacheio_{at}"), member, &field.ty));
            }
        }
        Ok(Self { parts })
    }

    fn has_parts(&self) -> bool {
        !self.parts.is_empty()
    }

    fn types(&self) -> impl Iterator<Item = &'a Type> {
        self.parts.iter().map(|(_, _, ty)| *ty)
    }

    fn arm(
        &self,
        path: &TokenStream,
        prefix: Option<&LitStr>,
        name: Option<String>,
    ) -> TokenStream {
        let bindings = self
            .parts
            .iter()
            .map(|(name, member, _)| quote!(#member: #name));
        let parts = self.parts.iter().map(|(name, _, ty)| {
            // An error about the part is shown at the type of the field.
            let mut part = name.clone();
            part.set_span(ty.span().resolved_at(name.span()));
            quote!(__cacheio_parts.part(#part);)
        });
        let fixed: Vec<TokenStream> = prefix
            .map(|prefix| quote!(#prefix))
            .into_iter()
            .chain(name.map(|name| quote!(#name)))
            .collect();
        let write = match (fixed.as_slice(), self.parts.as_slice()) {
            ([only], []) => quote!(__cacheio_key.text(#only);),
            _ => quote! {
                __cacheio_key.tuple(|__cacheio_parts| {
                    #(__cacheio_parts.part(#fixed);)*
                    #(#parts)*
                });
            },
        };
        quote! {
            #path { #(#bindings,)* .. } => { #write }
        }
    }
}

/// Generates the key of a struct with one unnamed field: the key of that field.
fn transparent(
    input: &DeriveInput,
    private: &TokenStream,
    member: &Member,
    clause: &TokenStream,
) -> TokenStream {
    implementation(
        input,
        private,
        clause,
        &quote! {
            fn write_key(&self, __cacheio_key: &mut #private::KeyWriter<'_>) {
                #private::CacheKey::write_key(&self.#member, __cacheio_key);
            }

            #[inline]
            fn as_key_text(&self) -> ::core::option::Option<&::core::primitive::str> {
                #private::CacheKey::as_key_text(&self.#member)
            }
        },
    )
}

fn implementation(
    input: &DeriveInput,
    private: &TokenStream,
    clause: &TokenStream,
    methods: &TokenStream,
) -> TokenStream {
    let ident = &input.ident;
    let (generics, arguments, _) = input.generics.split_for_impl();
    quote! {
        #[automatically_derived]
        impl #generics #private::CacheKey for #ident #arguments #clause {
            #methods
        }
    }
}

/// Generates the `where` clause. The type parameters of the fields in the key, and their associated
/// types, must be keys.
fn bounds(generics: &Generics, types: &[&Type], private: &TokenStream) -> TokenStream {
    struct Used<'a> {
        generics: &'a Generics,
        found: Vec<TypePath>,
    }
    impl Visit<'_> for Used<'_> {
        fn visit_type_path(&mut self, path: &TypePath) {
            let first = path.path.segments.first().map(|first| &first.ident);
            let is_parameter = |param: &syn::TypeParam| Some(&param.ident) == first;
            if path.qself.is_none() && self.generics.type_params().any(is_parameter) {
                self.found.push(path.clone());
            }
            visit::visit_type_path(self, path);
        }
    }
    let mut used = Used {
        generics,
        found: Vec::new(),
    };
    for ty in types {
        used.visit_type(ty);
    }
    let own = generics
        .where_clause
        .iter()
        .flat_map(|clause| clause.predicates.iter().cloned());
    let found = used
        .found
        .iter()
        .map(|path| -> WherePredicate { parse_quote!(#path: #private::CacheKey) });
    let predicates: Vec<WherePredicate> = own.chain(found).collect();
    match predicates.is_empty() {
        true => TokenStream::new(),
        false => quote!(where #(#predicates),*),
    }
}

/// Parses `#[cache_key(prefix = "…")]` on the type.
fn prefix(attrs: &[Attribute]) -> Result<Option<LitStr>> {
    let mut prefix = None;
    for attr in attrs
        .iter()
        .filter(|attr| attr.path().is_ident("cache_key"))
    {
        attr.parse_nested_meta(|meta| {
            if !meta.path.is_ident("prefix") {
                return Err(meta.error("unknown option; expected `#[cache_key(prefix = \"…\")]`"));
            }
            prefix = Some(meta.value()?.parse()?);
            Ok(())
        })?;
    }
    Ok(prefix)
}

/// Parses `#[cache_key(skip)]` on a field.
fn is_skipped(attrs: &[Attribute]) -> Result<bool> {
    let mut skipped = false;
    for attr in attrs
        .iter()
        .filter(|attr| attr.path().is_ident("cache_key"))
    {
        attr.parse_nested_meta(|meta| {
            if !meta.path.is_ident("skip") {
                return Err(meta.error("unknown option; expected `#[cache_key(skip)]`"));
            }
            skipped = true;
            Ok(())
        })?;
    }
    Ok(skipped)
}
