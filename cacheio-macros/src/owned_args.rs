//! Bodies that may go on when their callers have left: they get copies of what they are lent.

use proc_macro2::{Group, Ident, Spacing, TokenStream, TokenTree};
use quote::{ToTokens as _, format_ident, quote, quote_spanned};
use syn::visit_mut::{self, VisitMut};
use syn::{Attribute, Error, Expr, FnArg, Item, Macro, Pat, PatIdent, PatType, Path, Result, Type};

use crate::function::{Function, argument, bare, borrow, last_segment, named_in};
use crate::path::{respanned, shown_at};

/// What the body of a function is lent, and uses.
#[derive(Default)]
pub(crate) struct Lent(Vec<Loan>);

struct Loan {
    cfgs: Vec<Attribute>,
    /// What the caller lends.
    name: Ident,
    /// What the body knows it as.
    inside: PatIdent,
    is_optional: bool,
}

impl Function {
    /// Readies the body, and what else runs with it, for being run behind the caller. `setting` is
    /// the one that asks for it.
    pub(crate) fn lend(&mut self, setting: &Ident, beside: &mut Option<Expr>) -> Result<Lent> {
        let mut lent = Lent::default();
        if let Some(receiver) = self.sig.receiver() {
            let this = Ident::from(receiver.self_token);
            let inside = Ident::new("__cacheio_self", this.span());
            if is_lent(&receiver.ty, "self", setting)?.is_some() {
                let mut rename = Rename::new(&inside);
                rename.visit_block_mut(&mut self.body);
                if let Some(beside) = beside {
                    rename.visit_expr_mut(beside);
                }
                if rename.finish()? {
                    lent.0.push(Loan {
                        cfgs: Vec::new(),
                        name: this,
                        inside: plain(inside),
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
            let Some(is_optional) = is_lent(&typed.ty, &what, setting)? else {
                continue;
            };
            let inside = lent_name(typed, setting)?;
            let is_used = |name| {
                named_in(&self.body, name)
                    || beside.as_ref().is_some_and(|beside| named_in(beside, name))
            };
            if is_used(&inside.ident) {
                lent.0.push(Loan {
                    cfgs: known.cfgs.clone(),
                    name: inside.ident.clone(),
                    inside,
                    is_optional,
                });
            }
        }
        Ok(lent)
    }
}

impl Lent {
    /// Statements that copy what is lent.
    pub(crate) fn copies(&self, private: &TokenStream) -> TokenStream {
        let copies = self.0.iter().enumerate().map(|(at, loan)| {
            let Loan { cfgs, name, .. } = loan;
            let copy = copy(at);
            // What cannot be copied is shown where the argument is.
            let span = shown_at(name.span());
            let here = respanned(private, span);
            let of = quote_spanned!(span=> #here::OwnedArg::new);
            let copied = match loan.is_optional {
                true => quote!(::core::option::Option::map(#name, #of)),
                false => quote_spanned!(span=> #of(#name)),
            };
            quote!(#(#cfgs)* let #copy = #copied;)
        });
        copies.collect()
    }

    /// Statements that lend the copies to the body.
    pub(crate) fn loans(&self, private: &TokenStream) -> TokenStream {
        let loans = self.0.iter().enumerate().map(|(at, loan)| {
            let Loan { cfgs, inside, .. } = loan;
            let copy = copy(at);
            let lent = match loan.is_optional {
                true => quote!(::core::option::Option::map(
                    ::core::option::Option::as_ref(&#copy),
                    #private::OwnedArg::borrow,
                )),
                false => quote!(#private::OwnedArg::borrow(&#copy)),
            };
            quote!(#(#cfgs)* let #inside = #lent;)
        });
        loans.collect()
    }
}

fn copy(at: usize) -> Ident {
    format_ident!("__cacheio_copy{at}")
}

fn plain(ident: Ident) -> PatIdent {
    PatIdent {
        attrs: Vec::new(),
        by_ref: None,
        mutability: None,
        ident,
        subpat: None,
    }
}

/// Whether an argument of this type is lent, and if so, whether as an `Option`; what is not goes
/// with the body.
fn is_lent(ty: &Type, what: &str, setting: &Ident) -> Result<Option<bool>> {
    let option = last_segment(ty).filter(|last| last.ident == "Option");
    let (lent, is_optional) = match option.and_then(argument) {
        Some(inside) => (bare(inside), true),
        None => (bare(ty), false),
    };
    let behind = format!("with `{setting}` the body may go on when its caller has left");
    let (is_lent, rest) = match lent {
        Type::Reference(lent) if lent.mutability.is_some() => {
            let message = format!("{behind}, so it cannot change what `{what}` refers to");
            return Err(Error::new_spanned(ty, message));
        }
        Type::Reference(lent)
            if lent
                .lifetime
                .as_ref()
                .is_none_or(|lifetime| lifetime.ident != "static") =>
        {
            (true, &*lent.elem)
        }
        _ => (false, ty),
    };
    match borrow(rest) {
        Some(span) => {
            let message = format!(
                "{behind}, so `{what}` cannot borrow here: take what owns it, or a plain reference \
                 such as `&str`, `&[T]` or `Option<&T>`, which is copied"
            );
            Err(Error::new(span, message))
        }
        None => Ok(is_lent.then_some(is_optional)),
    }
}

/// The name of an argument that is lent; what is `mut` is so only in the body.
fn lent_name(typed: &mut PatType, setting: &Ident) -> Result<PatIdent> {
    match &mut *typed.pat {
        Pat::Ident(name) if name.by_ref.is_none() && name.subpat.is_none() => {
            let inside = name.clone();
            name.mutability = None;
            Ok(inside)
        }
        // It has no name, so nobody uses it.
        Pat::Wild(wild) => Ok(plain(Ident::new(
            "__cacheio_nothing",
            wild.underscore_token.span,
        ))),
        pattern => {
            let message = format!(
                "with `{setting}` the body gets a copy of what this refers to: give it a name, and \
                 take it apart in the body"
            );
            Err(Error::new_spanned(pattern, message))
        }
    }
}

/// Gives `self` another name.
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

    /// Whether there was any.
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
                        let message =
                            "here `self` cannot stand in a string: write `{}`, and `self` behind it";
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

/// Whether `self` is a module, by what follows it.
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
        // What declares a function there has a `self` of its own.
        if !named_in(&call.tokens, &format_ident!("fn")) {
            call.tokens = self.tokens(std::mem::take(&mut call.tokens));
        }
    }

    // As has what is declared in the body.
    fn visit_item_mut(&mut self, _: &mut Item) {}
}
