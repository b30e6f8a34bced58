//! Parses the function under `#[cached]`.

use std::fmt::Display;

use proc_macro2::{Span, TokenStream};
use quote::{format_ident, quote};
use syn::ext::IdentExt as _;
use syn::spanned::Spanned as _;
use syn::visit::{self, Visit};
use syn::{
    AttrStyle, Attribute, Block, Error, Expr, FnArg, GenericArgument, Ident, ItemFn, Pat,
    PathArguments, PathSegment, Receiver, Result, ReturnType, Safety, Signature, Stmt, Type,
    TypeParamBound, Visibility, parse_quote,
};

use crate::attr::listed;

/// The function, with the parts that the key, the body and the companions need.
pub(crate) struct Function {
    pub(crate) attrs: Vec<Attribute>,
    pub(crate) vis: Visibility,
    pub(crate) sig: Signature,
    /// The arguments except `self`.
    pub(crate) arguments: Vec<Argument>,
    pub(crate) kind: Kind,
    /// The type of the result, for an `async fn` the output of its future.
    pub(crate) output: Type,
    pub(crate) body: Block,
}

pub(crate) struct Argument {
    /// The names that the pattern binds.
    pub(crate) names: Vec<Ident>,
    /// The name of the argument, if the pattern is a name.
    pub(crate) whole: Option<Ident>,
    pub(crate) ty: Type,
    pub(crate) cfgs: Vec<Attribute>,
}

pub(crate) enum Kind {
    Sync,
    Async,
    /// An `async fn` that `#[async_trait]` has expanded to `Box::pin(async move { … })`.
    Boxed(Box<Expr>),
}

impl Function {
    pub(crate) fn parse(item: TokenStream) -> Result<Self> {
        let span = item.span();
        let function: ItemFn = syn::parse2(item).map_err(|error| not_a_function(span, &error))?;
        let ItemFn {
            mut attrs,
            vis,
            sig,
            block,
            ..
        } = function;
        check(&sig)?;
        for attr in &mut attrs {
            attr.style = AttrStyle::Outer;
        }
        let mut body = *block;
        let declared: Type = match &sig.output {
            ReturnType::Default => parse_quote!(()),
            ReturnType::Type(_, output) => (**output).clone(),
        };
        let (kind, output) = if sig.asyncness.is_some() {
            (Kind::Async, declared)
        } else if let Some((pin, block, output)) = boxed(&body, &declared) {
            body = block;
            (Kind::Boxed(pin), output)
        } else if is_future(&declared) {
            let message = "a function that returns a future cannot be cached; write an `async fn`";
            return Err(Error::new(declared.span(), message));
        } else {
            (Kind::Sync, declared)
        };
        check_output(&output)?;
        let arguments = sig.inputs.iter().filter_map(|input| match input {
            FnArg::Receiver(_) => None,
            FnArg::Typed(argument) => Some(Argument::new(argument)),
        });
        Ok(Self {
            arguments: arguments.collect(),
            attrs,
            vis,
            sig,
            kind,
            output,
            body,
        })
    }

    pub(crate) fn is_async(&self) -> bool {
        !matches!(self.kind, Kind::Sync)
    }

    pub(crate) fn receiver(&self) -> Option<&Receiver> {
        self.sig.receiver()
    }

    /// Gives every argument a name. A pattern moves into the body.
    pub(crate) fn name_arguments(&mut self) {
        let typed = self.sig.inputs.iter_mut().filter_map(|input| match input {
            FnArg::Receiver(_) => None,
            FnArg::Typed(argument) => Some(argument),
        });
        let mut bindings: Vec<Stmt> = Vec::new();
        for (at, (typed, argument)) in typed.zip(&mut self.arguments).enumerate() {
            if argument.whole.is_none() {
                let name = format_ident!("__cacheio_argument{at}", span = typed.pat.span());
                let pattern = std::mem::replace(&mut *typed.pat, parse_quote!(#name));
                if !matches!(pattern, Pat::Wild(_)) {
                    bindings.push(parse_quote!(let #pattern = #name;));
                }
                argument.whole = Some(name);
            }
        }
        self.body.stmts.splice(0..0, bindings);
    }

    /// Returns the message for a name that is not an argument.
    pub(crate) fn unknown_argument(&self, unknown: impl Display) -> String {
        let names: Vec<&Ident> = self
            .arguments
            .iter()
            .flat_map(|argument| &argument.names)
            .collect();
        let known = match names.as_slice() {
            [] => "the function has none".into(),
            [one] => format!("the only one is `{one}`"),
            names => format!("there are {}", listed(names)),
        };
        format!("no argument is named `{unknown}`; {known}")
    }
}

impl Argument {
    /// Returns whether the pattern of the argument binds a name.
    pub(crate) fn binds(&self, name: &Ident) -> bool {
        self.names.iter().any(|known| known.unraw() == name.unraw())
    }

    pub(crate) fn new(argument: &syn::PatType) -> Self {
        struct Names(Vec<Ident>);
        impl Visit<'_> for Names {
            fn visit_pat_ident(&mut self, name: &syn::PatIdent) {
                // `None` in a pattern is not a binding. Only rustc knows for sure; the case tells
                // here.
                if !name.ident.to_string().starts_with(char::is_uppercase) {
                    self.0.push(name.ident.clone());
                }
                visit::visit_pat_ident(self, name);
            }
        }
        let mut names = Names(Vec::new());
        names.visit_pat(&argument.pat);
        let whole = match &*argument.pat {
            Pat::Ident(name) if name.by_ref.is_none() && name.subpat.is_none() => {
                Some(name.ident.clone())
            }
            _ => None,
        };
        let cfgs = argument
            .attrs
            .iter()
            .filter(|attr| attr.path().is_ident("cfg"));
        Self {
            names: names.0,
            whole,
            ty: (*argument.ty).clone(),
            cfgs: cfgs.cloned().collect(),
        }
    }
}

fn not_a_function(span: Span, error: &Error) -> Error {
    let text = error.to_string();
    if text.contains("expected curly braces") || text.contains("expected `{`") {
        return Error::new(
            error.span(),
            "a method without a body cannot be cached; put `#[cached]` on its implementation",
        );
    }
    Error::new(
        span,
        "`#[cached]` can only be put on a function or a method",
    )
}

fn check(sig: &Signature) -> Result<()> {
    if let Some(token) = &sig.constness {
        return Err(Error::new(
            token.span,
            "a `const fn` cannot be cached; remove `const` or `#[cached]`",
        ));
    }
    if let Safety::Unsafe(token) = &sig.safety {
        return Err(Error::new(
            token.span,
            "an `unsafe fn` cannot be cached; cache a safe function that calls it",
        ));
    }
    match &sig.variadic {
        Some(variadic) => Err(Error::new(
            variadic.span(),
            "a variadic function cannot be cached",
        )),
        None => Ok(()),
    }
}

/// Rejects a return type that no cache can store.
fn check_output(output: &Type) -> Result<()> {
    struct Unnamed(Option<Span>);
    impl Visit<'_> for Unnamed {
        fn visit_type_impl_trait(&mut self, ty: &syn::TypeImplTrait) {
            self.0.get_or_insert(ty.impl_token.span);
        }
    }
    let mut unnamed = Unnamed(None);
    unnamed.visit_type(output);
    if let Some(span) = unnamed.0 {
        let message = "`impl Trait` cannot be cached; name the return type";
        return Err(Error::new(span, message));
    }
    match borrow(output) {
        Some(span) => {
            let message = "a cached value cannot borrow from the arguments; return an owned type, such as \
                           `String` instead of `&str`";
            Err(Error::new(span, message))
        }
        None => Ok(()),
    }
}

/// Returns where a type borrows, judged by its tokens.
pub(crate) fn borrow(ty: &Type) -> Option<Span> {
    struct Borrows(Option<Span>);
    impl Visit<'_> for Borrows {
        fn visit_type_reference(&mut self, ty: &syn::TypeReference) {
            if ty.lifetime.is_none() {
                self.0.get_or_insert(ty.and_token.span);
            }
            visit::visit_type_reference(self, ty);
        }
        fn visit_lifetime(&mut self, lifetime: &syn::Lifetime) {
            if lifetime.ident != "static" {
                self.0.get_or_insert(lifetime.span());
            }
        }
        // Function types and `for<'a>` declare the lifetimes that they use.
        fn visit_trait_bound(&mut self, bound: &syn::TraitBound) {
            if bound.lifetimes.is_none() {
                visit::visit_trait_bound(self, bound);
            }
        }
        fn visit_type_fn_ptr(&mut self, _: &syn::TypeFnPtr) {}
        fn visit_parenthesized_generic_arguments(
            &mut self,
            _: &syn::ParenthesizedGenericArguments,
        ) {
        }
    }
    let mut borrows = Borrows(None);
    borrows.visit_type(ty);
    borrows.0
}

/// Returns the part of a value that is a `&'static`, judged by its tokens.
pub(crate) fn static_reference(value: &Type) -> Option<&Type> {
    match bare(value) {
        reference @ Type::Reference(_) => Some(reference),
        Type::Tuple(tuple) => tuple.elems.iter().find_map(static_reference),
        Type::Array(array) => static_reference(&array.elem),
        _ => {
            let last = last_segment(value)?;
            let holders = ["Option", "Result", "Vec", "Box", "Arc", "Rc"];
            // Of a `Result`, only the value is stored: it is the first argument.
            let is_holder = holders.iter().any(|holder| last.ident == holder);
            argument(last)
                .filter(|_| is_holder)
                .and_then(static_reference)
        }
    }
}

/// Returns whether an argument is `&mut`, or an `Option` of it.
pub(crate) fn is_mutable(ty: &Type) -> bool {
    match bare(ty) {
        Type::Reference(reference) => reference.mutability.is_some(),
        _ => last_segment(ty)
            .filter(|last| last.ident == "Option")
            .and_then(argument)
            .is_some_and(is_mutable),
    }
}

/// Takes apart what `#[async_trait]` made of an `async fn`: the path of `Box::pin`, the block, and
/// the type of the result.
fn boxed(body: &Block, output: &Type) -> Option<(Box<Expr>, Block, Type)> {
    let output = boxed_output(output)?;
    let [Stmt::Expr(Expr::Call(call), None)] = body.stmts.as_slice() else {
        return None;
    };
    let Expr::Path(pin) = &*call.func else {
        return None;
    };
    if pin.path.segments.last()?.ident != "pin" {
        return None;
    }
    match call.args.iter().collect::<Vec<_>>().as_slice() {
        [Expr::Async(block)] => Some((call.func.clone(), block.block.clone(), output)),
        _ => None,
    }
}

/// Returns `R` of `Pin<Box<dyn Future<Output = R> + …>>`.
fn boxed_output(ty: &Type) -> Option<Type> {
    let boxed = argument(last_segment(ty).filter(|last| last.ident == "Pin")?)?;
    let future = argument(last_segment(boxed).filter(|last| last.ident == "Box")?)?;
    let Type::TraitObject(future) = bare(future) else {
        return None;
    };
    let TypeParamBound::Trait(future) = future.bounds.first()? else {
        return None;
    };
    let future = future
        .path
        .segments
        .last()
        .filter(|last| last.ident == "Future")?;
    let PathArguments::AngleBracketed(arguments) = &future.arguments else {
        return None;
    };
    arguments.args.iter().find_map(|argument| match argument {
        GenericArgument::AssocType(output) if output.ident == "Output" => Some(output.ty.clone()),
        _ => None,
    })
}

fn is_future(ty: &Type) -> bool {
    let names_future = |bound: &TypeParamBound| match bound {
        TypeParamBound::Trait(bound) => bound
            .path
            .segments
            .last()
            .is_some_and(|last| last.ident == "Future"),
        _ => false,
    };
    match bare(ty) {
        Type::ImplTrait(ty) => ty.bounds.iter().any(names_future),
        _ => {
            boxed_output(ty).is_some()
                || last_segment(ty)
                    .is_some_and(|last| last.ident == "BoxFuture" || last.ident == "LocalBoxFuture")
        }
    }
}

pub(crate) fn last_segment(ty: &Type) -> Option<&PathSegment> {
    match bare(ty) {
        Type::Path(ty) => ty.path.segments.last(),
        _ => None,
    }
}

pub(crate) fn argument(segment: &PathSegment) -> Option<&Type> {
    let PathArguments::AngleBracketed(arguments) = &segment.arguments else {
        return None;
    };
    arguments.args.iter().find_map(|argument| match argument {
        GenericArgument::Type(ty) => Some(ty),
        _ => None,
    })
}

pub(crate) fn bare(ty: &Type) -> &Type {
    match ty {
        Type::Group(group) => bare(&group.elem),
        Type::Paren(paren) => bare(&paren.elem),
        _ => ty,
    }
}

/// Returns whether tokens contain a name, also in a string: `format!("{name}")`.
fn mentions(tokens: &TokenStream, name: &Ident) -> bool {
    use proc_macro2::TokenTree;
    tokens.clone().into_iter().any(|token| match token {
        TokenTree::Ident(ident) => ident == *name,
        TokenTree::Group(group) => mentions(&group.stream(), name),
        TokenTree::Literal(literal) => literal.to_string().contains(&format!("{{{}", name.unraw())),
        TokenTree::Punct(_) => false,
    })
}

/// Returns whether the tokens of a node contain a name.
pub(crate) fn named_in(node: &impl quote::ToTokens, name: &Ident) -> bool {
    mentions(&node.to_token_stream(), name)
}

/// Returns whether a type is a string, judged by its tokens.
pub(crate) fn is_text(ty: &Type) -> bool {
    let ty = match bare(ty) {
        Type::Reference(reference) if reference.mutability.is_none() => bare(&reference.elem),
        ty => {
            return quote!(#ty).to_string() == "String";
        }
    };
    matches!(quote!(#ty).to_string().as_str(), "str" | "String")
}
