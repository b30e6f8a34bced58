//! Bodies that may run in the background: they get copies of the borrowed arguments.

use proc_macro2::{Group, Ident, Spacing, TokenStream, TokenTree};
use quote::{ToTokens as _, format_ident, quote, quote_spanned};
use syn::visit_mut::{self, VisitMut};
use syn::{
    Attribute, Error, Expr, FnArg, Item, Macro, Pat, PatIdent, PatType, Path, Receiver,
    ReceiverKind, Result, Type, parse_quote,
};

use crate::function::{Function, argument, bare, borrow, last_segment, named_in};
use crate::path::{respanned, shown_at};

/// The borrowed arguments that the body uses.
#[derive(Default)]
pub(crate) struct OwnedArgs(Vec<OwnedArg>);

struct OwnedArg {
    cfgs: Vec<Attribute>,
    /// The name of the argument.
    name: Ident,
    /// The pattern of the borrowed copy in the body.
    inside: PatIdent,
    /// Whether the argument is an `Option<&T>`.
    is_optional: bool,
}

impl Function {
    /// Prepares the body, and the expressions that see its result, to run in the background, as `policy`
    /// requires.
    pub(crate) fn own_args(
        &mut self,
        policy: &Ident,
        mut of_result: Vec<&mut Expr>,
    ) -> Result<OwnedArgs> {
        let mut owned = OwnedArgs::default();
        if let Some(receiver) = self.sig.receiver() {
            let this = Ident::from(receiver.self_token);
            let inside = Ident::new("__cacheio_self", this.span());
            if borrowed(&receiver_type(receiver), "self", policy)?.is_some() {
                let mut rename = Rename::new(&inside);
                rename.visit_block_mut(&mut self.body);
                for expression in &mut of_result {
                    rename.visit_expr_mut(expression);
                }
                if rename.finish()? {
                    owned.0.push(OwnedArg {
                        cfgs: Vec::new(),
                        name: this,
                        inside: name_pattern(inside),
                        is_optional: false,
                    });
                }
            }
        }
        let typed = self.sig.inputs.iter_mut().filter_map(|input| match input {
            FnArg::Receiver(_) => None,
            FnArg::Typed(typed) => Some(typed),
        });
        for (typed, known) in typed.zip(&self.arguments) {
            let what = typed.pat.to_token_stream().to_string();
            let Some(is_optional) = borrowed(&typed.ty, &what, policy)? else {
                continue;
            };
            let inside = pattern_in_body(typed, policy)?;
            let is_used = |name| {
                named_in(&self.body, name)
                    || (of_result.iter()).any(|expression| named_in(&**expression, name))
            };
            if is_used(&inside.ident) {
                owned.0.push(OwnedArg {
                    cfgs: known.cfgs.clone(),
                    name: inside.ident.clone(),
                    inside,
                    is_optional,
                });
            }
        }
        Ok(owned)
    }
}

impl OwnedArgs {
    /// Generates statements that copy the arguments.
    pub(crate) fn copies(&self, private: &TokenStream) -> TokenStream {
        let copies = self.0.iter().enumerate().map(|(at, arg)| {
            let OwnedArg { cfgs, name, .. } = arg;
            let copy = copy(at);
            // An error about the copy is shown at the argument.
            let span = shown_at(name.span());
            let here = respanned(private, span);
            let of = quote_spanned!(span=> #here::OwnedArg::new);
            let copied = match arg.is_optional {
                true => quote!(::core::option::Option::map(#name, #of)),
                false => quote_spanned!(span=> #of(#name)),
            };
            quote!(#(#cfgs)* let #copy = #copied;)
        });
        copies.collect()
    }

    /// Generates statements that lend the copies to the body.
    pub(crate) fn borrows(&self, private: &TokenStream) -> TokenStream {
        let borrows = self.0.iter().enumerate().map(|(at, arg)| {
            let OwnedArg { cfgs, inside, .. } = arg;
            let copy = copy(at);
            let lent = match arg.is_optional {
                true => quote!(::core::option::Option::map(
                    ::core::option::Option::as_ref(&#copy),
                    #private::OwnedArg::as_arg,
                )),
                false => quote!(#private::OwnedArg::as_arg(&#copy)),
            };
            quote!(#(#cfgs)* let #inside = #lent;)
        });
        borrows.collect()
    }
}

fn copy(at: usize) -> Ident {
    format_ident!("__cacheio_copy{at}")
}

fn name_pattern(ident: Ident) -> PatIdent {
    PatIdent {
        attrs: Vec::new(),
        by_ref: None,
        mutability: None,
        ident,
        subpat: None,
    }
}

fn receiver_type(receiver: &Receiver) -> Type {
    let this = Ident::new("Self", receiver.self_token.span);
    match &receiver.kind {
        ReceiverKind::Reference(and, lifetime, mutability) => {
            parse_quote!(#and #lifetime #mutability #this)
        }
        ReceiverKind::Typed(_, ty) => (**ty).clone(),
        _ => parse_quote!(#this),
    }
}

/// Returns whether an argument of this type is an `Option<&T>`, if it is borrowed. The body takes
/// any other argument with it.
fn borrowed(ty: &Type, name: &str, policy: &Ident) -> Result<Option<bool>> {
    let option = last_segment(ty).filter(|last| last.ident == "Option");
    let (inner, is_optional) = match option.and_then(argument) {
        Some(inside) => (bare(inside), true),
        None => (bare(ty), false),
    };
    let background = format!("`{policy}` may run the body in the background");
    let (is_borrowed, rest) = match inner {
        Type::Reference(reference) if reference.mutability.is_some() => {
            let message = format!("{background}, so `{name}` cannot be `&mut`");
            return Err(Error::new_spanned(ty, message));
        }
        Type::Reference(reference)
            if reference
                .lifetime
                .as_ref()
                .is_none_or(|lifetime| lifetime.ident != "static") =>
        {
            (true, &*reference.elem)
        }
        _ => (false, ty),
    };
    match borrow(rest) {
        Some(span) => {
            let message = format!(
                "{background}, so `{name}` cannot borrow here; take an owned type, or a reference \
                 such as `&str`, `&[T]` or `Option<&T>`, which is copied"
            );
            Err(Error::new(span, message))
        }
        None => Ok(is_borrowed.then_some(is_optional)),
    }
}

/// Returns the pattern of a borrowed argument in the body, and moves its `mut` there.
fn pattern_in_body(typed: &mut PatType, policy: &Ident) -> Result<PatIdent> {
    match &mut *typed.pat {
        Pat::Ident(name) if name.by_ref.is_none() && name.subpat.is_none() => {
            let inside = name.clone();
            name.mutability = None;
            Ok(inside)
        }
        // The body cannot use an argument without a name.
        Pat::Wild(wild) => Ok(name_pattern(Ident::new(
            "__cacheio_unused",
            wild.underscore_token.span,
        ))),
        pattern => {
            let message = format!(
                "with `{policy}` the body gets a copy of this borrowed argument; give it a name, and \
                 destructure it in the body"
            );
            Err(Error::new_spanned(pattern, message))
        }
    }
}

/// Renames `self`.
struct Rename<'a> {
    to: &'a Ident,
    found: bool,
    error: Option<Error>,
}

impl<'a> Rename<'a> {
    fn new(to: &'a Ident) -> Self {
        Self {
            to,
            found: false,
            error: None,
        }
    }

    /// Returns whether there was a `self`.
    fn finish(self) -> Result<bool> {
        self.error.map_or(Ok(self.found), Err)
    }

    fn renamed(&mut self, this: &Ident) -> Ident {
        self.found = true;
        Ident::new(&self.to.to_string(), this.span())
    }

    fn tokens(&mut self, tokens: TokenStream) -> TokenStream {
        let mut tokens = tokens.into_iter().peekable();
        let mut renamed = TokenStream::new();
        while let Some(token) = tokens.next() {
            renamed.extend([match token {
                TokenTree::Ident(this) if this == "self" && !begins_path(tokens.peek()) => {
                    TokenTree::Ident(self.renamed(&this))
                }
                TokenTree::Group(group) => {
                    let mut inside = Group::new(group.delimiter(), self.tokens(group.stream()));
                    inside.set_span(group.span());
                    TokenTree::Group(inside)
                }
                TokenTree::Literal(literal) => {
                    let text = literal.to_string();
                    if text.contains("{self}") || text.contains("{self:") {
                        let message = "a format string cannot capture `self` here; write `{}`, and \
                                       pass `self` as an argument";
                        let error = Error::new(literal.span(), message);
                        self.error.get_or_insert(error);
                    }
                    TokenTree::Literal(literal)
                }
                token => token,
            }]);
        }
        renamed
    }
}

/// Returns whether `self` is a module, judged by the next token.
fn begins_path(next: Option<&TokenTree>) -> bool {
    matches!(next, Some(TokenTree::Punct(next))
        if next.as_char() == ':' && next.spacing() == Spacing::Joint)
}

impl VisitMut for Rename<'_> {
    fn visit_path_mut(&mut self, path: &mut Path) {
        // `self::…` is a module.
        if path.is_ident("self") {
            let this = &mut path.segments[0].ident;
            *this = self.renamed(this);
        }
        visit_mut::visit_path_mut(self, path);
    }

    fn visit_macro_mut(&mut self, call: &mut Macro) {
        // A macro that declares a function has its own `self`.
        if !named_in(&call.tokens, &format_ident!("fn")) {
            call.tokens = self.tokens(std::mem::take(&mut call.tokens));
        }
    }

    // An item in the body has its own `self`, too.
    fn visit_item_mut(&mut self, _: &mut Item) {}
}
