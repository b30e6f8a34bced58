//! Parses the values of arguments.

use syn::parse::{Parse, ParseStream};
use syn::{Error, Expr, ExprLit, Ident, Lit, LitInt, LitStr, Result, Token};

/// A duration: a number of seconds, a text such as `"5m"`, or an expression.
pub(crate) enum DurationArg {
    Seconds(LitInt),
    Text(LitStr),
    Expression(Expr),
}

/// Parses `= value`. The example is for messages.
pub(crate) fn value<T: Parse>(name: &Ident, example: &str, input: ParseStream<'_>) -> Result<T> {
    let missing = || {
        let message = format!("missing value; write `{name} = {example}`");
        Error::new(name.span(), message)
    };
    if !input.peek(Token![=]) {
        return Err(missing());
    }
    input.parse::<Token![=]>()?;
    if input.is_empty() || input.peek(Token![,]) {
        return Err(missing());
    }
    input.parse()
}

impl DurationArg {
    /// Returns whether the duration is known at compile time.
    pub(crate) fn is_known(&self) -> bool {
        !matches!(self, Self::Expression(_))
    }

    pub(crate) fn parse(name: &Ident, example: &str, input: ParseStream<'_>) -> Result<Self> {
        let value: Expr = value(name, example, input)?;
        let expected = expected_duration(&name.to_string());
        match literal(&value) {
            Some(Lit::Int(seconds)) => match seconds.base10_parse() {
                Ok(0) if name == "ttl" => Err(Error::new(
                    seconds.span(),
                    "a `ttl` of 0 stores nothing; leave it out to use the default TTL of the cache",
                )),
                Ok::<u64, _>(_) if seconds.suffix().is_empty() => {
                    Ok(Self::Seconds(seconds.clone()))
                }
                _ => Err(Error::new(seconds.span(), expected)),
            },
            Some(Lit::Str(text)) => Ok(Self::Text(text.clone())),
            Some(other) => Err(Error::new(other.span(), expected)),
            None if is_negative(&value) => Err(Error::new_spanned(value, expected)),
            None => Ok(Self::Expression(value)),
        }
    }
}

/// Returns the message for an argument that is not a duration.
pub(crate) fn expected_duration(name: &str) -> String {
    format!(
        "`{name}` must be a whole number of seconds, a string such as \"500ms\", \"5m\" or \"1h30m\", \
         or a `Duration`"
    )
}

/// Returns the literal that an expression is, also if another macro passed it on.
pub(crate) fn literal(value: &Expr) -> Option<&Lit> {
    match value {
        Expr::Lit(ExprLit { lit, .. }) => Some(lit),
        Expr::Group(group) => literal(&group.expr),
        _ => None,
    }
}

/// Returns whether an expression is a literal with a sign.
pub(crate) fn is_negative(value: &Expr) -> bool {
    matches!(value, Expr::Unary(unary) if literal(&unary.expr).is_some())
}
