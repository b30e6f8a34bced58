//! The arguments of `#[cached]`.

use proc_macro2::Span;
use syn::ext::IdentExt as _;
use syn::parse::{Parse, ParseStream};
use syn::punctuated::Punctuated;
use syn::{
    Error, Expr, ExprLit, Ident, Lit, LitBool, LitInt, LitStr, Path, Result, Token, parenthesized,
};

const KNOWN: &str = "`key`, `ttl`, `ttl_none`, `ttl_idle`, `jitter`, `stale_for`, `retry_after`, `refresh_ahead`, \
                     `soft_timeout`, `hard_timeout`, `max_load`, `tags`, `cache`, `capacity`, `skip`, \
                     `cache_none`, `cache_if`, `companions` and `crate`";

/// Those with which a body may go on when its caller has left.
const BEHIND: [&str; 4] = ["refresh_ahead", "soft_timeout", "hard_timeout", "max_load"];

/// What stands in the parentheses of `#[cached(…)]`.
#[derive(Default)]
pub(crate) struct Args {
    pub(crate) key: Option<KeyArg>,
    pub(crate) ttl: Option<DurationArg>,
    pub(crate) ttl_none: Option<DurationArg>,
    pub(crate) ttl_idle: Option<DurationArg>,
    pub(crate) jitter: Option<Expr>,
    pub(crate) stale_for: Option<DurationArg>,
    pub(crate) retry_after: Option<DurationArg>,
    pub(crate) refresh_ahead: Option<RefreshArg>,
    pub(crate) soft_timeout: Option<DurationArg>,
    pub(crate) hard_timeout: Option<DurationArg>,
    pub(crate) max_load: Option<DurationArg>,
    pub(crate) tags: Option<Expr>,
    pub(crate) cache: Option<Expr>,
    pub(crate) capacity: Option<(Ident, Expr)>,
    pub(crate) skip: Vec<Ident>,
    /// `cache_none = false`, where it stands.
    pub(crate) skip_none: Option<Span>,
    pub(crate) cache_if: Option<Expr>,
    pub(crate) companions: Option<Span>,
    pub(crate) path: Option<Path>,
    /// The names of all that is there.
    named: Vec<Ident>,
}

pub(crate) enum KeyArg {
    Template(LitStr),
    Expression(Expr),
}

pub(crate) enum RefreshArg {
    XFetch,
    Expression(Expr),
}

pub(crate) enum DurationArg {
    Seconds(LitInt),
    Text(LitStr),
    Expression(Expr),
}

impl Parse for Args {
    fn parse(input: ParseStream<'_>) -> Result<Self> {
        let mut args = Self::default();
        while !input.is_empty() {
            let name = argument_name(input)?;
            if args.named.contains(&name) {
                return Err(Error::new(
                    name.span(),
                    format!("`{name}` stands here twice"),
                ));
            }
            args.parse_argument(&name, input)?;
            args.named.push(name);
            if !input.is_empty() {
                input.parse::<Token![,]>()?;
            }
        }
        args.check()?;
        Ok(args)
    }
}

fn argument_name(input: ParseStream<'_>) -> Result<Ident> {
    if input.peek(LitStr) {
        return Err(input.error("for a key, write `key = \"…\"`"));
    }
    input
        .call(Ident::parse_any)
        .map_err(|error| Error::new(error.span(), format!("expected an argument: {KNOWN}")))
}

impl Args {
    fn parse_argument(&mut self, name: &Ident, input: ParseStream<'_>) -> Result<()> {
        match name.to_string().as_str() {
            "key" => self.key = Some(KeyArg::from(value::<Expr>(name, "\"user:{id}\"", input)?)),
            "ttl" => self.ttl = Some(DurationArg::of(name, "60", input)?),
            "ttl_none" => self.ttl_none = Some(DurationArg::of(name, "\"10s\"", input)?),
            "ttl_idle" => self.ttl_idle = Some(DurationArg::of(name, "\"30m\"", input)?),
            "jitter" => self.jitter = Some(jitter(value(name, "0.1", input)?)?),
            "stale_for" => self.stale_for = Some(DurationArg::of(name, "\"1h\"", input)?),
            "retry_after" => self.retry_after = Some(DurationArg::of(name, "\"30s\"", input)?),
            "refresh_ahead" => {
                self.refresh_ahead = Some(RefreshArg::new(value(name, "0.8", input)?)?);
            }
            "soft_timeout" => self.soft_timeout = Some(DurationArg::of(name, "\"100ms\"", input)?),
            "hard_timeout" => self.hard_timeout = Some(DurationArg::of(name, "\"2s\"", input)?),
            "max_load" => self.max_load = Some(DurationArg::of(name, "\"30s\"", input)?),
            "tags" => self.tags = Some(value(name, "[\"users\"]", input)?),
            "cache" => self.cache = Some(value(name, "self.users", input)?),
            "capacity" => {
                self.capacity = Some((name.clone(), capacity(value(name, "1000", input)?)?));
            }
            "cache_if" => self.cache_if = Some(value(name, "|value| …", input)?),
            "skip" => {
                if !input.peek(syn::token::Paren) {
                    let message = "name the arguments that do not count: `skip(request_id)`";
                    return Err(Error::new(name.span(), message));
                }
                let names;
                parenthesized!(names in input);
                let names = Punctuated::<Ident, Token![,]>::parse_terminated_with(
                    &names,
                    Ident::parse_any,
                )?;
                self.skip.extend(names);
            }
            "cache_none" => {
                let value: Expr = value(name, "false", input)?;
                match literal(&value) {
                    Some(Lit::Bool(LitBool { value: true, .. })) => {}
                    Some(Lit::Bool(LitBool { value: false, .. })) => {
                        self.skip_none = Some(name.span());
                    }
                    _ => return Err(Error::new_spanned(value, "write `cache_none = false`")),
                }
            }
            "companions" => {
                if input.peek(Token![=]) {
                    return Err(input.error("`companions` stands alone, without a value"));
                }
                self.companions = Some(name.span());
            }
            "crate" => self.path = Some(crate_path(name, input)?),
            _ => {
                let message = format!("there is no argument `{name}`; there are {KNOWN}");
                return Err(Error::new(name.span(), message));
            }
        }
        Ok(())
    }

    /// The name of an argument, if it is there.
    fn at(&self, name: &str) -> Option<&Ident> {
        self.named.iter().find(|named| *named == name)
    }

    /// The argument with which the body may go on when its caller has left.
    pub(crate) fn behind(&self) -> Option<&Ident> {
        BEHIND.iter().find_map(|name| self.at(name))
    }

    fn check(&self) -> Result<()> {
        let at = |name| self.at(name);
        if let (Some(_), Some(skip)) = (at("key"), at("skip")) {
            let message =
                "`skip` is for the key of all arguments: what `key` does not name does not count";
            return Err(Error::new(skip.span(), message));
        }
        if let (Some(_), Some(capacity)) = (at("cache"), at("capacity")) {
            let message =
                "the cache that `cache` names has its own capacity: say it where that is built";
            return Err(Error::new(capacity.span(), message));
        }
        if let (Some(ttl), Some(_)) = (at("ttl_none"), self.skip_none) {
            let message = "`cache_none = false` stores no `None` that could have a TTL: leave one of \
                           the two out";
            return Err(Error::new(ttl.span(), message));
        }
        Ok(())
    }

    /// The same for a function with a cache of its own, which has no other settings than these.
    pub(crate) fn check_alone(&self) -> Result<()> {
        if self.stale_for.is_some() {
            return Ok(());
        }
        if let Some(soft_timeout) = self.at("soft_timeout") {
            let message = "`soft_timeout` needs `stale_for`: when it is over, something stale is \
                           returned; add `stale_for`, or write `hard_timeout` for an error instead";
            return Err(Error::new(soft_timeout.span(), message));
        }
        match self.at("retry_after") {
            Some(retry_after) if self.refresh_ahead.is_none() => {
                let message = "`retry_after` needs `stale_for` or `refresh_ahead`: it is how long a \
                               body that failed is not run again, while something older is returned";
                Err(Error::new(retry_after.span(), message))
            }
            _ => Ok(()),
        }
    }
}

fn value<T: Parse>(name: &Ident, example: &str, input: ParseStream<'_>) -> Result<T> {
    if !input.peek(Token![=]) {
        let message = format!("`{name}` needs a value: `{name} = {example}`");
        return Err(Error::new(name.span(), message));
    }
    input.parse::<Token![=]>()?;
    if input.is_empty() || input.peek(Token![,]) {
        let message = format!("`{name}` needs a value: `{name} = {example}`");
        return Err(Error::new(name.span(), message));
    }
    input.parse()
}

/// `crate = path` or `crate = "path"`.
pub(crate) fn crate_path(name: &Ident, input: ParseStream<'_>) -> Result<Path> {
    const EXAMPLE: &str = "my_reexport::cacheio";
    if !input.peek(Token![=]) {
        return value(name, EXAMPLE, input);
    }
    input.parse::<Token![=]>()?;
    if input.peek(LitStr) {
        input.parse::<LitStr>()?.parse_with(Path::parse_mod_style)
    } else {
        input.call(Path::parse_mod_style)
    }
    .map_err(|error| {
        Error::new(
            error.span(),
            format!("expected a path: `crate = {EXAMPLE}`"),
        )
    })
}

impl From<Expr> for KeyArg {
    fn from(value: Expr) -> Self {
        match literal(&value) {
            Some(Lit::Str(template)) => Self::Template(template.clone()),
            _ => Self::Expression(value),
        }
    }
}

impl DurationArg {
    /// Whether it can be known when the program is compiled.
    pub(crate) fn is_known(&self) -> bool {
        !matches!(self, Self::Expression(_))
    }

    fn of(name: &Ident, example: &str, input: ParseStream<'_>) -> Result<Self> {
        let value: Expr = value(name, example, input)?;
        let what = match name.to_string().as_str() {
            "ttl" => "a TTL".to_owned(),
            name => format!("`{name}`"),
        };
        let expected = format!(
            "{what} is a whole number of seconds, a text such as \"500ms\" or \"5m\", or a `Duration`"
        );
        match literal(&value) {
            Some(Lit::Int(seconds)) => match seconds.base10_parse() {
                Ok(0) if name == "ttl" => Err(Error::new(
                    seconds.span(),
                    "a TTL of 0 stores nothing: leave it out for the cache's default",
                )),
                Ok::<u64, _>(_) if seconds.suffix().is_empty() => {
                    Ok(Self::Seconds(seconds.clone()))
                }
                _ => Err(Error::new(seconds.span(), expected)),
            },
            Some(Lit::Str(text)) => Ok(Self::Text(text.clone())),
            Some(other) => Err(Error::new(other.span(), expected)),
            None => match &value {
                Expr::Unary(unary) if literal(&unary.expr).is_some() => {
                    Err(Error::new_spanned(unary, expected))
                }
                _ => Ok(Self::Expression(value)),
            },
        }
    }
}

impl RefreshArg {
    fn new(value: Expr) -> Result<Self> {
        match literal(&value) {
            Some(Lit::Str(text)) if text.value() == "xfetch" => return Ok(Self::XFetch),
            Some(Lit::Float(fraction)) => {
                let fraction = fraction.base10_parse::<f64>();
                if fraction.is_ok_and(|fraction| fraction > 0.0 && fraction < 1.0) {
                    return Ok(Self::Expression(value));
                }
            }
            Some(_) => {}
            None => match &value {
                Expr::Unary(unary) if literal(&unary.expr).is_some() => {}
                _ => return Ok(Self::Expression(value)),
            },
        }
        Err(Error::new_spanned(
            value,
            "`refresh_ahead` is the fraction of the TTL after which the body is run anew: a number \
             between 0.0 and 1.0, such as 0.8; or \"xfetch\", or a `RefreshAhead`",
        ))
    }
}

/// A fraction; what is no literal is checked when it is used.
fn jitter(value: Expr) -> Result<Expr> {
    let fraction = match literal(&value) {
        Some(Lit::Float(fraction)) => fraction.base10_parse::<f64>().ok(),
        Some(_) => None,
        None => match &value {
            Expr::Unary(unary) if literal(&unary.expr).is_some() => None,
            _ => return Ok(value),
        },
    };
    match fraction {
        Some(fraction) if (0.0..=1.0).contains(&fraction) => Ok(value),
        _ => Err(Error::new_spanned(
            value,
            "`jitter` is the fraction of the TTL by which entries expire earlier: from 0.0 to 1.0",
        )),
    }
}

fn capacity(value: Expr) -> Result<Expr> {
    if let Some(Lit::Int(entries)) = literal(&value)
        && entries
            .base10_parse::<u64>()
            .is_ok_and(|entries| entries == 0)
    {
        let message =
            "a cache of capacity 0 would store nothing: write at least 1, or drop `#[cached]`";
        return Err(Error::new(entries.span(), message));
    }
    Ok(value)
}

/// The literal that an expression is, also where a macro passed it on.
fn literal(value: &Expr) -> Option<&Lit> {
    match value {
        Expr::Lit(ExprLit { lit, .. }) => Some(lit),
        Expr::Group(group) => literal(&group.expr),
        _ => None,
    }
}
