//! The function under `#[cached]`, taken apart.

use proc_macro2::{Span, TokenStream};
use quote::{format_ident, quote};
use syn::spanned::Spanned as _;
use syn::visit::{self, Visit};
use syn::{
    AttrStyle, Attribute, Block, Error, Expr, FnArg, GenericArgument, Ident, ItemFn, Pat,
    PathArguments, PathSegment, Receiver, Result, ReturnType, Signature, Stmt, Type,
    TypeParamBound, Visibility, parse_quote,
};

/// The function, and of it what the key, the body and the companions need.
pub(crate) struct Function {
    pub(crate) attrs: Vec<Attribute>,
    pub(crate) vis: Visibility,
    pub(crate) sig: Signature,
    /// Those beside `self`.
    pub(crate) arguments: Vec<Argument>,
    pub(crate) kind: Kind,
    /// What a call gives in the end.
    pub(crate) output: Type,
    /// What makes it.
    pub(crate) body: Block,
}

pub(crate) struct Argument {
    /// The names that its pattern binds.
    pub(crate) names: Vec<Ident>,
    /// The name of the whole, if its pattern is one.
    pub(crate) whole: Option<Ident>,
    pub(crate) ty: Type,
    pub(crate) cfgs: Vec<Attribute>,
}

pub(crate) enum Kind {
    Sync,
    Async,
    /// What `#[async_trait]` makes of an `async fn`: `Box::pin(async move { … })`.
    Boxed(Box<Expr>),
}

impl Function {
    pub(crate) fn parse(item: TokenStream) -> Result<Self> {
        let span = item.span();
        let function: ItemFn = syn::parse2(item).map_err(|error| refused(span, &error))?;
        let ItemFn {
            mut attrs,
            vis,
            sig,
            block,
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
            let message = "a function that returns a future cannot be cached, but an `async fn` can: write one";
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

    /// Gives every argument a name by which the whole of it is known; the body takes it apart.
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

    /// All names of arguments, for messages.
    pub(crate) fn listed(&self) -> String {
        let names: Vec<String> = self
            .arguments
            .iter()
            .flat_map(|argument| &argument.names)
            .map(|name| format!("`{name}`"))
            .collect();
        match names.as_slice() {
            [] => "the function has none".into(),
            [one] => format!("there is {one}"),
            [most @ .., last] => format!("there are {} and {last}", most.join(", ")),
        }
    }
}

impl Argument {
    fn new(argument: &syn::PatType) -> Self {
        struct Names(Vec<Ident>);
        impl Visit<'_> for Names {
            fn visit_pat_ident(&mut self, name: &syn::PatIdent) {
                // `None` in a pattern is no binding; rustc knows, we go by the case.
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

fn refused(span: Span, error: &Error) -> Error {
    let text = error.to_string();
    if text.contains("expected curly braces") || text.contains("expected `{`") {
        return Error::new(
            error.span(),
            "a method without a body cannot be cached: put `#[cached]` where it is implemented",
        );
    }
    Error::new(
        span,
        "`#[cached]` stands on a function or a method; of an `impl`, on the methods in it",
    )
}

fn check(sig: &Signature) -> Result<()> {
    if let Some(token) = &sig.constness {
        return Err(Error::new(
            token.span,
            "a `const fn` cannot be cached: drop `const`, or `#[cached]`",
        ));
    }
    if let Some(token) = &sig.unsafety {
        return Err(Error::new(
            token.span,
            "an `unsafe fn` cannot be cached: cache a safe function that calls it",
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

/// Refuses what no cache could give out again.
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
        let message = "`impl Trait` cannot be cached: name the type that the function returns";
        return Err(Error::new(span, message));
    }
    match borrow(output) {
        Some(span) => {
            let message = "a cached value outlives the call, so it cannot borrow from the arguments: return an \
                           owned one, such as `String` for `&str`";
            Err(Error::new(span, message))
        }
        None => Ok(()),
    }
}

/// Where a type borrows, as it is written.
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
        // The lifetimes in the types of functions, and those of `for<'a>`, are their own.
        fn visit_trait_bound(&mut self, bound: &syn::TraitBound) {
            if bound.lifetimes.is_none() {
                visit::visit_trait_bound(self, bound);
            }
        }
        fn visit_type_bare_fn(&mut self, _: &syn::TypeBareFn) {}
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

/// What `#[async_trait]` made of an `async fn`: its `Box::pin`, the block in it, its own return type.
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

/// `R` of `Pin<Box<dyn Future<Output = R> + …>>`.
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

/// Whether tokens name this, also in a string: `format!("{name}")`.
fn mentions(tokens: &TokenStream, name: &Ident) -> bool {
    use proc_macro2::TokenTree;
    tokens.clone().into_iter().any(|token| match token {
        TokenTree::Ident(ident) => ident == *name,
        TokenTree::Group(group) => mentions(&group.stream(), name),
        TokenTree::Literal(literal) => literal.to_string().contains(&format!("{{{name}")),
        TokenTree::Punct(_) => false,
    })
}

/// Whether a type, or whatever else, names this.
pub(crate) fn named_in(node: &impl quote::ToTokens, name: &Ident) -> bool {
    mentions(&node.to_token_stream(), name)
}

/// Whether a type is text, as it is written.
pub(crate) fn is_text(ty: &Type) -> bool {
    let ty = match bare(ty) {
        Type::Reference(reference) if reference.mutability.is_none() => bare(&reference.elem),
        ty => {
            return quote!(#ty).to_string() == "String";
        }
    };
    matches!(quote!(#ty).to_string().as_str(), "str" | "String")
}
