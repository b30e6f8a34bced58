//! Generates the key of a call.

use proc_macro2::{Span, TokenStream};
use quote::{format_ident, quote, quote_spanned};
use syn::ext::IdentExt as _;
use syn::spanned::Spanned as _;
use syn::{Error, Expr, Ident, LitStr, Member, Result};

use crate::companions::has_impl_trait;
use crate::function::{Argument, is_text};
use crate::key::Key;
use crate::path::{respanned, shown_at};
use crate::plan::Plan;
use crate::template::{Piece, Placeholder, is_name};

/// The code of the key in one function.
pub(crate) struct KeyCode {
    /// Statements that come first.
    pub(crate) setup: TokenStream,
    /// An expression: a reference to the key.
    pub(crate) key: TokenStream,
}

impl Plan {
    /// Generates the key in the function `inside`: the function under `#[cached]`, or a companion.
    pub(crate) fn key_code(&self, inside: &Ident, is_async: bool) -> Result<KeyCode> {
        let private = &self.private;
        match &self.key {
            Key::Template(template, span) => {
                let pieces = template.pieces.iter().map(|piece| self.piece(piece, *span));
                let pieces = pieces.collect::<Result<TokenStream>>()?;
                let key = quote! {
                    &#private::KeyFn(|__cacheio_key: &mut #private::KeyWriter<'_>| { #pieces })
                };
                Ok(KeyCode {
                    setup: TokenStream::new(),
                    key,
                })
            }
            Key::Expression(expression) => {
                let key = by_reference(expression);
                let key = quote_spanned!(expression.span()=> &#key);
                Ok(KeyCode {
                    setup: TokenStream::new(),
                    key,
                })
            }
            Key::Arguments { .. } => Ok(KeyCode {
                setup: self.prefix(inside, is_async),
                key: self.arguments_key(),
            }),
        }
    }

    fn piece(&self, piece: &Piece, span: Span) -> Result<TokenStream> {
        let private = &self.private;
        let placeholder = match piece {
            Piece::Literal(text) => return Ok(quote!(__cacheio_key.literal(#text);)),
            Piece::Placeholder(placeholder) => placeholder,
        };
        let value = self.value(placeholder, span)?;
        let at = shown_at(span);
        let terminator = match placeholder.terminator {
            Some(c) => quote!(::core::option::Option::Some(#c)),
            None => quote!(::core::option::Option::None),
        };
        Ok(match &placeholder.spec {
            Some(spec) => {
                let format = LitStr::new(&format!("{{:{spec}}}"), span);
                quote_spanned! {at=>
                    #private::KeyWriter::display(
                        &mut __cacheio_key.placeholder(#terminator),
                        ::core::format_args!(#format, #value),
                    );
                }
            }
            None => {
                let here = respanned(private, at);
                quote_spanned! {at=> {
                    use #private::{WriteDisplay as _, WriteKey as _, WriteNeither as _};
                    (&#here::Placeholder(&#value)).__cacheio_write(&mut __cacheio_key.placeholder(#terminator));
                }}
            }
        })
    }

    /// Generates `a.b.c` of the placeholder `{a.b.c}`.
    fn value(&self, placeholder: &Placeholder, span: Span) -> Result<TokenStream> {
        let Placeholder { name, fields, .. } = placeholder;
        let root = if name == "self" {
            let Some(receiver) = self.function.receiver() else {
                return Err(Error::new(
                    span,
                    "the function has no `self`; name one of its arguments",
                ));
            };
            Ident::new("self", span.resolved_at(receiver.self_token.span))
        } else {
            let mut names = self
                .function
                .arguments
                .iter()
                .flat_map(|argument| &argument.names);
            let Some(found) = names.find(|known| known.unraw() == name) else {
                return Err(Error::new(span, self.function.unknown_argument(name)));
            };
            let mut found = found.clone();
            found.set_span(span.resolved_at(found.span()));
            found
        };
        let mut value = quote!(#root);
        for field in fields {
            let field: Member = match field_name(field, span) {
                Some(field) => field.into(),
                None => syn::Index {
                    index: field
                        .parse()
                        .map_err(|_| Error::new(span, format!("no field `{field}`")))?,
                    span,
                }
                .into(),
            };
            value = quote_spanned!(span=> #value.#field);
        }
        Ok(value)
    }

    /// Generates `__cacheio_prefix`, the name of the function where the key needs one.
    fn prefix(&self, inside: &Ident, is_async: bool) -> TokenStream {
        let private = &self.private;
        let function = self.function.sig.ident.unraw().to_string();
        let companion = inside.unraw().to_string();
        let identity = self.identity();
        let (named, not_generic) = match self.has_function_cache() {
            false => (quote!(prefix), None),
            true => {
                // An `async fn` adds a closure to the names of the items in its body.
                let levels = if is_async {
                    "::{{closure}}::{{closure}}"
                } else {
                    "::{{closure}}"
                };
                let not_generic =
                    quote!(::core::concat!(::core::module_path!(), "::", #companion, #levels));
                (quote!(own_prefix), Some(not_generic))
            }
        };
        quote! {
            static __CACHEIO_NAMES: #private::FunctionNames = #private::FunctionNames::new();
            let __cacheio_probe = || ();
            let __cacheio_prefix: &::core::primitive::str = #private::FunctionNames::#named(
                &__CACHEIO_NAMES, &__cacheio_probe, #identity, #function, #companion, #not_generic
            );
        }
    }

    /// Generates a reference to a value whose type is another one for each set of type arguments.
    ///
    /// A closure has such a type, but not the same in the function and in its companions.
    fn identity(&self) -> TokenStream {
        let private = &self.private;
        if self.args.companions.is_none() {
            return quote!(&__cacheio_probe);
        }
        let expansion = self.expansion;
        let this = self.function.receiver().map(|_| quote!(Self));
        let params = self.function.sig.generics.type_params();
        let params = params.map(|param| &param.ident).map(|name| quote!(#name));
        let types = this.into_iter().chain(params);
        let unnamed = self.function.arguments.iter().filter(|argument| {
            self.key.uses(argument) && has_impl_trait(&argument.ty) && argument.cfgs.is_empty()
        });
        let unnamed = unnamed.filter_map(|argument| argument.whole.as_ref());
        quote! {
            &(
                #private::Expansion::<#expansion>,
                #(::core::marker::PhantomData::<#types>,)*
                #(#private::type_of(&#unnamed),)*
            )
        }
    }

    fn arguments_key(&self) -> TokenStream {
        let private = &self.private;
        let parts: Vec<(&Argument, &Ident)> = self
            .function
            .arguments
            .iter()
            .filter(|argument| self.key.uses(argument))
            .filter_map(|argument| Some((argument, argument.whole.as_ref()?)))
            .collect();
        if let ([(argument, name)], true) = (parts.as_slice(), self.has_function_cache())
            && is_text(&argument.ty)
            && argument.cfgs.is_empty()
        {
            return quote!(&#private::TextKey { prefix: __cacheio_prefix, text: &#name });
        }
        let prefix = quote!(__cacheio_parts.part(&#private::Prefix(__cacheio_prefix)););
        let prefix = match self.has_function_cache() {
            true => quote!(if !__cacheio_prefix.is_empty() { #prefix }),
            false => prefix,
        };
        let parts = parts.iter().map(|(argument, name)| {
            let cfgs = &argument.cfgs;
            // An error about the part is shown at the argument.
            let part = quote_spanned!(name.span()=> &#name);
            quote!(#(#cfgs)* __cacheio_parts.part(#part);)
        });
        quote! {
            &#private::KeyFn(|__cacheio_key: &mut #private::KeyWriter<'_>| {
                __cacheio_key.tuple(|__cacheio_parts| {
                    #prefix
                    #(#parts)*
                });
            })
        }
    }
}

/// Generates a reference to the expression. Of a tuple or an array, each element is taken by
/// reference, so that nothing is moved.
fn by_reference(expression: &Expr) -> TokenStream {
    match expression {
        Expr::Tuple(tuple) if !tuple.elems.is_empty() => {
            let elements = tuple.elems.iter().map(by_reference);
            quote_spanned!(tuple.span()=> &(#(#elements,)*))
        }
        Expr::Array(array) if !array.elems.is_empty() => {
            let elements = array.elems.iter().map(by_reference);
            quote_spanned!(array.span()=> &[#(#elements),*])
        }
        Expr::Paren(paren) => by_reference(&paren.expr),
        Expr::Group(group) => by_reference(&group.expr),
        _ => quote_spanned!(expression.span()=> &(#expression)),
    }
}

/// Returns the name of a field, which may be a keyword; `None` for the number of a field.
fn field_name(field: &str, span: Span) -> Option<Ident> {
    let mut name = match syn::parse_str::<Ident>(field) {
        Ok(name) => name,
        Err(_) if is_name(field) => Ident::new_raw(field, span),
        Err(_) => return None,
    };
    name.set_span(span);
    Some(name)
}

/// Returns the name of a companion.
pub(crate) fn companion_name(function: &Ident, suffix: &str) -> Ident {
    // Not every companion is called, and the compiler does not report unused code of macros.
    format_ident!(
        "{}_{suffix}",
        function.unraw(),
        span = shown_at(function.span())
    )
}
