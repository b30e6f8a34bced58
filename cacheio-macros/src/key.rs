//! Where the key of a call comes from.

use proc_macro2::Span;
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
                    *name == placeholder.name
                        || spec.is_some_and(|spec| spec.contains(&name.to_string()))
                })
            }),
            Self::Expression(expression) => names.any(|name| named_in(expression, name)),
            Self::Arguments { skipped } => !names.any(|name| skipped.contains(name)),
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
