//! Where the key of a call comes from.

use proc_macro2::Span;
use syn::ext::IdentExt as _;
use syn::spanned::Spanned as _;
use syn::{Expr, Ident, LitStr, Result};

use crate::attr::KeyArg;
use crate::function::{Argument, named_in};
use crate::template::Template;

/// The source of the key.
pub(crate) enum Key {
    Template(Template, Span),
    Expression(Expr),
    /// All arguments except the skipped ones.
    Arguments {
        skipped: Vec<Ident>,
    },
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

    /// Returns whether an argument is part of the key.
    pub(crate) fn uses(&self, argument: &Argument) -> bool {
        let mut names = argument.names.iter();
        match self {
            Self::Template(template, _) => names.any(|name| {
                template.placeholders().any(|placeholder| {
                    let spec = placeholder.spec.as_ref();
                    let name = name.unraw();
                    name == placeholder.name
                        || spec.is_some_and(|spec| spec.contains(&name.to_string()))
                })
            }),
            Self::Expression(expression) => names.any(|name| named_in(expression, name)),
            Self::Arguments { skipped } => !names.any(|name| {
                let mut skipped = skipped.iter();
                skipped.any(|skipped| skipped.unraw() == name.unraw())
            }),
        }
    }

    /// Returns whether a placeholder names an argument, also one that the function does not have.
    pub(crate) fn names_argument(&self, has_self: bool) -> bool {
        match self {
            Self::Template(template, _) => {
                let mut placeholders = template.placeholders();
                placeholders.any(|placeholder| placeholder.name != "self" || !has_self)
            }
            Self::Expression(_) | Self::Arguments { .. } => false,
        }
    }

    /// Returns where the key is written, if it is.
    pub(crate) fn span(&self) -> Option<Span> {
        match self {
            Self::Template(_, span) => Some(*span),
            Self::Expression(expression) => Some(expression.span()),
            Self::Arguments { .. } => None,
        }
    }

    /// Returns whether the key names a type argument.
    pub(crate) fn names(&self, name: &Ident) -> bool {
        match self {
            Self::Template(..) => false,
            Self::Expression(expression) => named_in(expression, name),
            Self::Arguments { .. } => true,
        }
    }
}
