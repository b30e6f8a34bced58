//! The policies: the arguments that set the option of the same name.
//!
//! [`POLICIES`] is the only list of their names in this crate.

use syn::parse::ParseStream;
use syn::{Error, Expr, Ident, Lit, Result};

use crate::values::{DurationArg, is_negative, literal, value};

/// The name of a policy, and what its value is.
pub(crate) struct Policy {
    pub(crate) name: &'static str,
    kind: Kind,
    /// A value, for messages.
    example: &'static str,
    /// Whether the body may run in the background.
    in_background: bool,
}

enum Kind {
    Fraction,
    RefreshAhead,
    Duration,
}

pub(crate) const POLICIES: [Policy; 9] = [
    Policy::new("jitter", Kind::Fraction, "0.1"),
    Policy::new("stale_for", Kind::Duration, "\"1h\""),
    Policy::new("retry_after", Kind::Duration, "\"30s\""),
    Policy::new("refresh_ahead", Kind::RefreshAhead, "0.8").in_background(),
    Policy::new("soft_timeout", Kind::Duration, "\"100ms\"").in_background(),
    Policy::new("hard_timeout", Kind::Duration, "\"2s\"").in_background(),
    Policy::new("max_load", Kind::Duration, "\"30s\"").in_background(),
    Policy::new("ttl_none", Kind::Duration, "\"10s\""),
    Policy::new("ttl_idle", Kind::Duration, "\"30m\""),
];

impl Policy {
    const fn new(name: &'static str, kind: Kind, example: &'static str) -> Self {
        Self {
            name,
            kind,
            example,
            in_background: false,
        }
    }

    const fn in_background(self) -> Self {
        Self {
            in_background: true,
            ..self
        }
    }

    fn parse(&self, name: &Ident, input: ParseStream<'_>) -> Result<PolicyArg> {
        Ok(match self.kind {
            Kind::Fraction => PolicyArg::Fraction(fraction(value(name, self.example, input)?)?),
            Kind::RefreshAhead => refresh_ahead(value(name, self.example, input)?)?,
            Kind::Duration => PolicyArg::Duration(DurationArg::parse(name, self.example, input)?),
        })
    }
}

/// The value of a policy.
pub(crate) enum PolicyArg {
    Fraction(Expr),
    RefreshAhead(Expr),
    /// `refresh_ahead = "xfetch"`
    XFetch,
    Duration(DurationArg),
}

/// The policies of one `#[cached(…)]`.
#[derive(Default)]
pub(crate) struct Policies(Vec<(&'static Policy, Ident, PolicyArg)>);

impl Policies {
    /// Parses the value of the policy `name`. Returns `false` if there is no such policy.
    pub(crate) fn parse(&mut self, name: &Ident, input: ParseStream<'_>) -> Result<bool> {
        let Some(policy) = POLICIES.iter().find(|policy| name == policy.name) else {
            return Ok(false);
        };
        let argument = policy.parse(name, input)?;
        self.0.push((policy, name.clone(), argument));
        Ok(true)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&'static str, &PolicyArg)> {
        self.0
            .iter()
            .map(|(policy, _, argument)| (policy.name, argument))
    }

    pub(crate) fn duration(&self, name: &str) -> Option<&DurationArg> {
        self.iter().find_map(|(policy, argument)| match argument {
            PolicyArg::Duration(duration) if policy == name => Some(duration),
            _ => None,
        })
    }

    /// Returns the first policy with which the body may run in the background.
    pub(crate) fn in_background(&self) -> Option<&Ident> {
        self.0
            .iter()
            .find_map(|(policy, name, _)| policy.in_background.then_some(name))
    }
}

/// Checks a fraction. An expression that is not a literal is checked at run time.
fn fraction(value: Expr) -> Result<Expr> {
    let fraction = match literal(&value) {
        Some(Lit::Float(fraction)) => fraction.base10_parse::<f64>().ok(),
        Some(_) => None,
        None if is_negative(&value) => None,
        None => return Ok(value),
    };
    match fraction {
        Some(fraction) if (0.0..=1.0).contains(&fraction) => Ok(value),
        _ => Err(Error::new_spanned(
            value,
            "`jitter` must be a fraction of the TTL, from 0.0 to 1.0",
        )),
    }
}

fn refresh_ahead(value: Expr) -> Result<PolicyArg> {
    match literal(&value) {
        Some(Lit::Str(text)) if text.value() == "xfetch" => return Ok(PolicyArg::XFetch),
        Some(Lit::Float(fraction)) => {
            let fraction = fraction.base10_parse::<f64>();
            if fraction.is_ok_and(|fraction| fraction > 0.0 && fraction < 1.0) {
                return Ok(PolicyArg::RefreshAhead(value));
            }
        }
        Some(_) => {}
        None if is_negative(&value) => {}
        None => return Ok(PolicyArg::RefreshAhead(value)),
    }
    Err(Error::new_spanned(
        value,
        "`refresh_ahead` must be a fraction of the TTL between 0.0 and 1.0, such as 0.8, or \
         \"xfetch\", or a `RefreshAhead`",
    ))
}
