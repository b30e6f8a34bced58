//! Parses the arguments of `#[cached]`.

use proc_macro2::Span;
use syn::ext::IdentExt as _;
use syn::parse::{Parse, ParseStream};
use syn::punctuated::Punctuated;
use syn::{Error, Expr, Ident, Lit, LitBool, LitStr, Path, Result, Token, parenthesized};

use crate::function::{Argument, Function};
use crate::policies::{POLICIES, Policies};
use crate::values::{DurationArg, literal, value};

/// The arguments besides the policies.
const ARGUMENTS: [&str; 12] = [
    "key",
    "skip",
    "ttl",
    "tags",
    "cache",
    "capacity",
    "cache_none",
    "cache_if",
    "force_refresh",
    "skip_l1",
    "companions",
    "crate",
];

/// The names of all arguments.
fn argument_names() -> impl Iterator<Item = &'static str> {
    let policies = POLICIES.iter().map(|policy| policy.name);
    ARGUMENTS.into_iter().chain(policies)
}

/// What `#[cached(…)]` contains.
#[derive(Default)]
pub(crate) struct Args {
    pub(crate) key: Option<KeyArg>,
    pub(crate) skip: Vec<Ident>,
    pub(crate) ttl: Option<DurationArg>,
    /// A closure that chooses the TTL of a value.
    pub(crate) ttl_of_value: Option<Expr>,
    pub(crate) policies: Policies,
    pub(crate) tags: Option<Expr>,
    pub(crate) cache: Option<Expr>,
    pub(crate) capacity: Option<(Ident, Expr)>,
    /// The place of `cache_none = false`.
    pub(crate) skip_none: Option<Span>,
    pub(crate) cache_if: Option<Expr>,
    pub(crate) force_refresh: Option<Expr>,
    pub(crate) skip_l1: Option<Span>,
    pub(crate) companions: Option<Span>,
    pub(crate) path: Option<Path>,
    /// The names of the arguments that are present.
    present: Vec<Ident>,
}

pub(crate) enum KeyArg {
    Template(LitStr),
    Expression(Expr),
}

impl Parse for Args {
    fn parse(input: ParseStream<'_>) -> Result<Self> {
        let mut args = Self::default();
        while !input.is_empty() {
            let name = argument_name(input)?;
            if args.present.contains(&name) {
                let message = format!("duplicate argument `{name}`");
                return Err(Error::new(name.span(), message));
            }
            args.parse_argument(&name, input)?;
            args.present.push(name);
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
        return Err(input.error("expected the name of an argument; for a key, write `key = \"…\"`"));
    }
    input.call(Ident::parse_any).map_err(|error| {
        let message = format!(
            "expected the name of an argument; there are {}",
            listed(argument_names())
        );
        Error::new(error.span(), message)
    })
}

/// What other libraries call our arguments.
const OTHER_NAMES: [(&str, &[&str]); 9] = [
    (
        "capacity",
        &[
            "size",
            "max_size",
            "maxsize",
            "max_capacity",
            "max_entries",
            "limit",
            "threshold",
        ],
    ),
    (
        "ttl",
        &[
            "time",
            "timeout",
            "ttl_secs",
            "ttl_seconds",
            "ttl_ms",
            "ttl_millis",
            "expire",
            "expires",
            "expire_in",
            "expires_in",
            "expiry",
            "expiration",
            "lifespan",
            "lifetime",
            "time_to_live",
            "max_age",
            "duration",
        ],
    ),
    (
        "ttl_idle",
        &["tti", "idle", "time_to_idle", "time_refresh", "sliding"],
    ),
    ("key", &["convert", "key_fn", "key_builder", "name", "id"]),
    ("skip", &["ignore", "exclude", "skip_args", "without"]),
    ("cache", &["backend", "store", "adapter", "create", "ty"]),
    (
        "force_refresh",
        &[
            "force",
            "force_update",
            "bypass",
            "invalidate_if",
            "no_cache",
        ],
    ),
    ("cache_none", &["option", "skip_none", "none"]),
    (
        "cache_if",
        &[
            "condition",
            "when",
            "only_if",
            "filter",
            "unless",
            "skip_if",
        ],
    ),
];

/// Returns the argument that an unknown name means, if it is known elsewhere, misspelled or shortened.
fn meant(name: &str) -> Option<&'static str> {
    let name = name.to_ascii_lowercase();
    let elsewhere = OTHER_NAMES
        .iter()
        .find(|(_, others)| others.contains(&name.as_str()));
    if let Some((meant, _)) = elsewhere {
        return Some(meant);
    }
    let close = argument_names().map(|known| (distance(&name, known), known));
    let (distance, known) = close.min()?;
    if distance <= name.len() / 3 {
        return Some(known);
    }
    let mut longer = argument_names().filter(|known| known.starts_with(&name));
    longer.next().filter(|_| name.len() > 2)
}

/// Returns how many letters have to be inserted, removed or replaced.
fn distance(one: &str, other: &str) -> usize {
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (at, a) in one.bytes().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], at + 1);
        for (column, b) in other.bytes().enumerate() {
            let replaced = diagonal + usize::from(a != b);
            diagonal = row[column + 1];
            row[column + 1] = replaced.min(diagonal + 1).min(row[column] + 1);
        }
    }
    row[other.len()]
}

/// Lists names for a message: `a`, `b` and `c`.
pub(crate) fn listed<N: std::fmt::Display>(names: impl IntoIterator<Item = N>) -> String {
    let names: Vec<String> = names.into_iter().map(|name| format!("`{name}`")).collect();
    match names.as_slice() {
        [most @ .., last] if !most.is_empty() => format!("{} and {last}", most.join(", ")),
        names => names.concat(),
    }
}

impl Args {
    fn parse_argument(&mut self, name: &Ident, input: ParseStream<'_>) -> Result<()> {
        match name.to_string().as_str() {
            "key" => self.key = Some(KeyArg::from(value::<Expr>(name, "\"user:{id}\"", input)?)),
            "skip" => self.skip = skipped_names(name, input)?,
            "ttl" => match DurationArg::parse(name, "60", input)? {
                DurationArg::Expression(closure @ Expr::Closure(_)) => {
                    self.ttl_of_value = Some(closure);
                }
                ttl => self.ttl = Some(ttl),
            },
            "tags" => self.tags = Some(value(name, "[\"users\"]", input)?),
            "cache" => self.cache = Some(value(name, "self.users", input)?),
            "capacity" => {
                self.capacity = Some((name.clone(), capacity(value(name, "1000", input)?)?));
            }
            "cache_none" => self.skip_none = (!cache_none(name, input)?).then(|| name.span()),
            "cache_if" => self.cache_if = Some(value(name, "|value| …", input)?),
            "force_refresh" => self.force_refresh = Some(value(name, "refresh", input)?),
            "skip_l1" => self.skip_l1 = Some(flag(name, input)?),
            "companions" => self.companions = Some(flag(name, input)?),
            "crate" => self.path = Some(crate_path(name, input)?),
            _ if self.policies.parse(name, input)? => {}
            _ => {
                let message = match meant(&name.to_string()) {
                    Some(meant) => format!("unknown argument `{name}`; did you mean `{meant}`?"),
                    None => format!(
                        "unknown argument `{name}`; there are {}",
                        listed(argument_names())
                    ),
                };
                return Err(Error::new(name.span(), message));
            }
        }
        Ok(())
    }

    /// Returns the expressions that see the result of the body.
    pub(crate) fn of_result(&mut self) -> Vec<&mut Expr> {
        [&mut self.cache_if, &mut self.ttl_of_value]
            .into_iter()
            .flatten()
            .collect()
    }

    /// Leaves an argument that `force_refresh` consists of out of a key that consists of all arguments:
    /// otherwise a call with another flag would have another entry.
    pub(crate) fn skip_flag(&mut self, function: &Function) {
        if let (None, Some(Expr::Path(flag))) = (&self.key, &self.force_refresh)
            && let Some(flag) = flag.path.get_ident()
            && function
                .arguments
                .iter()
                .any(|argument| argument.binds(flag))
            && !self.skip.contains(flag)
        {
            self.skip.push(flag.clone());
        }
    }

    /// Returns the name of an argument, if the argument is present.
    fn find(&self, name: &str) -> Option<&Ident> {
        self.present.iter().find(|present| *present == name)
    }

    /// Returns whether `skip` names an argument.
    pub(crate) fn skips(&self, argument: &Argument) -> bool {
        self.skip.iter().any(|name| argument.binds(name))
    }

    fn check(&self) -> Result<()> {
        if let (Some(_), Some(capacity)) = (self.find("cache"), self.find("capacity")) {
            let message =
                "`capacity` has no effect with `cache`; set the capacity where that cache is built";
            return Err(Error::new(capacity.span(), message));
        }
        if let (Some(ttl_none), Some(_)) = (self.find("ttl_none"), self.skip_none) {
            let message =
                "`ttl_none` has no effect with `cache_none = false`; remove one of the two";
            return Err(Error::new(ttl_none.span(), message));
        }
        Ok(())
    }

    /// Checks the policies of a function with a cache of its own, which has no settings besides
    /// them.
    pub(crate) fn check_function_cache(&self) -> Result<()> {
        if let Some(skip_l1) = self.skip_l1 {
            let message = "`skip_l1` has no effect on the function's own cache, which has no L1; \
                           remove it, or name a cache: `cache = CACHE`";
            return Err(Error::new(skip_l1, message));
        }
        if self.find("stale_for").is_some() {
            return Ok(());
        }
        if let Some(soft_timeout) = self.find("soft_timeout") {
            let message = "`soft_timeout` needs `stale_for`; add it, or use `hard_timeout` to return \
                           an error instead of a stale value";
            return Err(Error::new(soft_timeout.span(), message));
        }
        match self.find("retry_after") {
            Some(retry_after) if self.find("refresh_ahead").is_none() => {
                let message = "`retry_after` needs `stale_for` or `refresh_ahead`; add one of them, \
                               or remove `retry_after`";
                Err(Error::new(retry_after.span(), message))
            }
            _ => Ok(()),
        }
    }
}

/// Parses an argument without a value, and returns its place.
fn flag(name: &Ident, input: ParseStream<'_>) -> Result<Span> {
    match input.peek(Token![=]) {
        true => Err(input.error(format!("`{name}` takes no value"))),
        false => Ok(name.span()),
    }
}

/// Parses `(request_id, context)`.
fn skipped_names(name: &Ident, input: ParseStream<'_>) -> Result<Vec<Ident>> {
    if !input.peek(syn::token::Paren) {
        let message = "missing names of arguments; write `skip(request_id)`";
        return Err(Error::new(name.span(), message));
    }
    let names;
    parenthesized!(names in input);
    let names = Punctuated::<Ident, Token![,]>::parse_terminated_with(&names, Ident::parse_any)?;
    Ok(names.into_iter().collect())
}

fn cache_none(name: &Ident, input: ParseStream<'_>) -> Result<bool> {
    let value: Expr = value(name, "false", input)?;
    match literal(&value) {
        Some(Lit::Bool(LitBool { value, .. })) => Ok(*value),
        _ => Err(Error::new_spanned(
            value,
            "`cache_none` must be `true` or `false`",
        )),
    }
}

/// Parses `crate = path` or `crate = "path"`.
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
        let message = format!("expected a path, such as `crate = {EXAMPLE}`");
        Error::new(error.span(), message)
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

fn capacity(value: Expr) -> Result<Expr> {
    if let Some(Lit::Int(entries)) = literal(&value)
        && entries
            .base10_parse::<u64>()
            .is_ok_and(|entries| entries == 0)
    {
        let message = "`capacity` must be at least 1";
        return Err(Error::new(entries.span(), message));
    }
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_argument_has_a_row_in_the_documentation() {
        let (_, section) = include_str!("lib.rs")
            .split_once("/// # Arguments")
            .unwrap();
        let (section, _) = section.split_once("/// # Keys").unwrap();
        let rows = section.lines().filter_map(|line| {
            let row = line.strip_prefix("/// | `")?;
            row.split(['`', '(']).next()
        });
        let mut documented: Vec<&str> = rows.collect();
        let mut parsed: Vec<&str> = argument_names().collect();
        documented.sort_unstable();
        parsed.sort_unstable();
        assert_eq!(documented, parsed);
    }

    #[test]
    fn an_argument_is_found_by_another_name_or_a_misspelled_one() {
        for (name, expected) in [
            ("max_size", Some("capacity")),
            ("ttl_secs", Some("ttl")),
            ("capcity", Some("capacity")),
            ("tag", Some("tags")),
            ("stalefor", Some("stale_for")),
            ("companion", Some("companions")),
            ("TTL", Some("ttl")),
            ("stale", Some("stale_for")),
            ("refresh", Some("refresh_ahead")),
            ("ca", None),
            ("colour", None),
            ("x", None),
        ] {
            assert_eq!(meant(name), expected, "{name}");
        }
        for (meant, others) in OTHER_NAMES {
            assert!(argument_names().any(|name| name == meant), "{meant}");
            assert!(
                !argument_names().any(|name| others.contains(&name)),
                "{others:?}"
            );
        }
    }

    #[test]
    fn every_listed_argument_is_parsed() {
        for name in argument_names() {
            if let Err(error) = syn::parse_str::<Args>(name) {
                assert!(error.to_string().starts_with("missing"), "{error}");
            }
        }
    }

    #[test]
    fn the_policies_are_those_of_core() {
        let names = POLICIES.map(|policy| policy.name);
        assert_eq!(names.as_slice(), cacheio::__private::POLICY_NAMES);
    }
}
