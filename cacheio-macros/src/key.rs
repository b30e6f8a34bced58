//! The key of a call, as code.

use proc_macro2::{Span, TokenStream};
use quote::{format_ident, quote, quote_spanned};
use syn::ext::IdentExt as _;
use syn::spanned::Spanned as _;
use syn::{Error, Expr, Ident, LitStr, Member, Result};

use crate::attr::KeyArg;
use crate::expand::Plan;
use crate::function::{Argument, is_text, named_in};
use crate::path::{respanned, shown_at};
use crate::template::{Piece, Placeholder, Template};

/// Where the key comes from.
pub(crate) enum Key {
    Template(Template, Span),
    Expression(Expr),
    /// All arguments but the skipped ones.
    Arguments {
        skipped: Vec<Ident>,
    },
}

/// The code of a key, in a function of a certain name.
pub(crate) struct KeyCode {
    /// What stands before.
    pub(crate) setup: TokenStream,
    /// An expression: a reference to the key.
    pub(crate) key: TokenStream,
}

impl Key {
    pub(crate) fn new(key: Option<KeyArg>, skipped: Vec<Ident>) -> Result<Self> {
        Ok(match key {
            Some(KeyArg::Template(text)) => {
                Self::Template(Template::parse(&text)?, LitStr::span(&text))
            }
            Some(KeyArg::Expression(expression)) => Self::Expression(expression),
            None => Self::Arguments { skipped },
        })
    }

    /// Whether an argument counts.
    pub(crate) fn uses(&self, argument: &Argument) -> bool {
        let mut names = argument.names.iter();
        match self {
            Self::Template(template, _) => names.any(|name| {
                template.placeholders().any(|placeholder| {
                    let spec = placeholder.spec.as_ref();
                    *name == placeholder.name
                        || spec.is_some_and(|spec| spec.contains(&name.to_string()))
                })
            }),
            Self::Expression(expression) => names.any(|name| named_in(expression, name)),
            Self::Arguments { skipped } => !names.any(|name| skipped.contains(name)),
        }
    }

    /// Whether it names this: a type argument.
    pub(crate) fn names(&self, name: &Ident) -> bool {
        match self {
            Self::Template(..) => false,
            Self::Expression(expression) => named_in(expression, name),
            Self::Arguments { .. } => true,
        }
    }
}

impl Plan {
    /// The key in the function of this name: the one under `#[cached]`, or a companion.
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
                    __cacheio_key.placeholder(#terminator).display(::core::format_args!(#format, #value));
                }
            }
            None => {
                let here = respanned(private, at);
                quote_spanned! {at=> {
                    #[allow(unused_imports)]
                    use #private::{WriteDisplay as _, WriteKey as _, WriteNeither as _};
                    (&#here::Placeholder(&#value)).write(&mut __cacheio_key.placeholder(#terminator));
                }}
            }
        })
    }

    /// `a.b.c` of `{a.b.c}`.
    fn value(&self, placeholder: &Placeholder, span: Span) -> Result<TokenStream> {
        let Placeholder { name, fields, .. } = placeholder;
        let root = if name == "self" {
            let Some(receiver) = self.function.receiver() else {
                return Err(Error::new(
                    span,
                    "there is no `self` here: the function has no receiver",
                ));
            };
            Ident::new("self", span.resolved_at(receiver.self_token.span))
        } else {
            let mut names = self
                .function
                .arguments
                .iter()
                .flat_map(|argument| &argument.names);
            let Some(found) = names.find(|known| known.unraw() == name.trim_start_matches("r#"))
            else {
                let message = format!("no argument is named `{name}`: {}", self.function.listed());
                return Err(Error::new(span, message));
            };
            let mut found = found.clone();
            found.set_span(span.resolved_at(found.span()));
            found
        };
        let mut value = quote!(#root);
        for field in fields {
            let field: Member = match syn::parse_str::<Ident>(field) {
                Ok(mut field) => {
                    field.set_span(span);
                    field.into()
                }
                Err(_) => syn::Index {
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

    /// What stands before the arguments: the name of the function, where it is needed.
    fn prefix(&self, inside: &Ident, is_async: bool) -> TokenStream {
        let private = &self.private;
        let name = &self.function.sig.ident;
        let probe = quote!(let __cacheio_probe = || (););
        let prefix = if self.is_own() {
            // An `async fn` is a closure itself, in the name of what stands in it.
            let levels = if is_async {
                "::{{closure}}::{{closure}}"
            } else {
                "::{{closure}}"
            };
            let (plain_name, levels) = (inside.unraw().to_string(), levels);
            quote! {
                #private::own_prefix(
                    &__cacheio_probe,
                    ::core::concat!(::core::module_path!(), "::", #plain_name, #levels),
                )
            }
        } else {
            quote!(#private::function_name(&__cacheio_probe))
        };
        if inside == name {
            return quote!(#probe let __cacheio_prefix: &str = #prefix;);
        }
        let (companion, name) = (inside.unraw().to_string(), name.unraw().to_string());
        quote! {
            #probe
            let __cacheio_prefix = #private::companion_prefix(#prefix, #companion, #name);
            let __cacheio_prefix: &str = &__cacheio_prefix;
        }
    }

    fn arguments_key(&self) -> TokenStream {
        let private = &self.private;
        let counting: Vec<(&Argument, &Ident)> = self
            .function
            .arguments
            .iter()
            .filter(|argument| self.key.uses(argument))
            .filter_map(|argument| Some((argument, argument.whole.as_ref()?)))
            .collect();
        if let ([(argument, name)], true) = (counting.as_slice(), self.is_own())
            && is_text(&argument.ty)
            && argument.cfgs.is_empty()
        {
            return quote!(&#private::TextKey { prefix: __cacheio_prefix, text: &#name });
        }
        let prefix = quote!(__cacheio_parts.part(&#private::FunctionName(__cacheio_prefix)););
        let prefix = match self.is_own() {
            true => quote!(if !__cacheio_prefix.is_empty() { #prefix }),
            false => prefix,
        };
        let parts = counting.iter().map(|(argument, name)| {
            let cfgs = &argument.cfgs;
            // Whatever is wrong with it is shown where the argument is.
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

/// The expression, or of a tuple or an array its elements, by reference: nothing is moved.
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

/// The name of a companion.
pub(crate) fn companion_name(function: &Ident, suffix: &str) -> Ident {
    format_ident!("{}_{suffix}", function.unraw(), span = function.span())
}
