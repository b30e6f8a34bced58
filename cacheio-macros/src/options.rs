//! Generates the options of a load: the TTL, the tags and the policies.

use proc_macro2::{Span, TokenStream};
use quote::{format_ident, quote, quote_spanned};
use syn::spanned::Spanned as _;
use syn::{Expr, Ident};

use crate::attr::Args;
use crate::path::shown_at;
use crate::plan::Plan;
use crate::policies::PolicyArg;
use crate::values::{DurationArg, expected_duration};

impl Plan {
    pub(crate) fn options(&self) -> TokenStream {
        let private = &self.private;
        let Args {
            ttl,
            policies,
            tags,
            ..
        } = &self.args;
        let mut options = match ttl {
            None => quote!(#private::Options::new()),
            Some(ttl) => {
                let (span, ttl) = self.duration("ttl", ttl);
                quote_spanned!(span=> #private::Options::ttl(#ttl))
            }
        };
        // `ttl_none` is not an option here: `ttl_of_value` uses it.
        for (name, policy) in policies.iter().filter(|(name, _)| *name != "ttl_none") {
            let (span, value) = self.policy(name, policy);
            let setter = Ident::new(name, span);
            options = quote_spanned!(span=> #options.#setter(#value));
        }
        if self.args.skip_l1.is_some() {
            options = quote!(#options.skip_l1());
        }
        match tags {
            None => options,
            // One call for each tag, since tags may be of different types.
            Some(Expr::Array(tags)) => {
                let tags = tags.elems.iter();
                quote!(#options #(.tags([#tags]))*)
            }
            Some(tags) => quote!(#options.tags(#tags)),
        }
    }

    /// Returns where to show an error about a policy, and generates its value.
    fn policy(&self, name: &str, policy: &PolicyArg) -> (Span, TokenStream) {
        let private = &self.private;
        match policy {
            PolicyArg::Fraction(value) | PolicyArg::RefreshAhead(value) => {
                (shown_at(value.span()), quote!(#value))
            }
            PolicyArg::XFetch => (Span::call_site(), quote!(#private::RefreshAhead::XFETCH)),
            PolicyArg::Duration(duration) => {
                let (span, mut duration) = self.duration(name, duration);
                if name == "hard_timeout" {
                    duration =
                        quote_spanned!(span=> #private::hard_timeout(__cacheio_output, #duration));
                }
                (span, duration)
            }
        }
    }

    /// Returns where to show an error about a duration, and generates it as an expression.
    fn duration(&self, name: &str, duration: &DurationArg) -> (Span, TokenStream) {
        let private = &self.private;
        match duration {
            DurationArg::Seconds(seconds) => (
                shown_at(seconds.span()),
                quote!(#private::Duration::from_secs(#seconds)),
            ),
            // A constant, so that the text is checked even if a generic function is never called.
            DurationArg::Text(text) => {
                let constant = format_ident!("__CACHEIO_{}", name.to_uppercase());
                let expected = expected_duration(name);
                let checked = quote_spanned! {text.span()=> {
                    const #constant: #private::Duration = match #private::parse_duration(#text) {
                        ::core::result::Result::Ok(__cacheio_duration) => __cacheio_duration,
                        ::core::result::Result::Err(_) => ::core::panic!("{}", #expected),
                    };
                    #constant
                }};
                (text.span(), checked)
            }
            DurationArg::Expression(expression) => {
                (shown_at(expression.span()), quote!(#expression))
            }
        }
    }

    /// Generates checks at compile time that the known durations fit together.
    pub(crate) fn checks(&self) -> TokenStream {
        let private = &self.private;
        let known = |name: &'static str| {
            let duration = self.args.policies.duration(name)?;
            let (span, duration) = duration.is_known().then(|| self.duration(name, duration))?;
            Some((name, span, duration))
        };
        let soft = known("soft_timeout");
        let hard = known("hard_timeout");
        let load = known("max_load");
        let zero = [&hard, &load].into_iter().flatten();
        let zero = zero.map(|(name, span, duration)| {
            let message = format!("`{name}` must be greater than zero");
            quote_spanned! {*span=>
                const _: () = if #private::Duration::is_zero(&#duration) { ::core::panic!(#message) };
            }
        });
        let order = [(&soft, &hard), (&soft, &load), (&hard, &load)];
        let order = order.into_iter().filter_map(|(first, second)| {
            let (first, span, duration) = first.as_ref()?;
            let (second, _, other) = second.as_ref()?;
            let message = format!("`{first}` must not be longer than `{second}`");
            Some(quote_spanned! {*span=>
                const _: () = if #private::is_longer(#duration, #other) { ::core::panic!(#message) };
            })
        });
        quote!(#(#zero)* #(#order)*)
    }

    /// Generates `__cacheio_ttl_none`. The body may move the arguments, so that the TTL is
    /// evaluated before it runs.
    pub(crate) fn ttl_none(&self) -> Option<TokenStream> {
        let private = &self.private;
        let (span, ttl) = self.duration("ttl_none", self.args.policies.duration("ttl_none")?);
        let ttl = quote_spanned!(span=> ::core::convert::Into::into(#ttl));
        Some(quote!(let __cacheio_ttl_none: #private::Ttl = #ttl;))
    }

    /// Generates the function that chooses the TTL of a value.
    pub(crate) fn ttl_of_value(&self) -> TokenStream {
        let private = &self.private;
        let ttl_none = self.args.policies.duration("ttl_none");
        let none = match (ttl_none, self.args.skip_none) {
            (Some(ttl), _) => Some((self.duration("ttl_none", ttl).0, quote!(__cacheio_ttl_none))),
            (None, Some(span)) => Some((shown_at(span), quote!(#private::Duration::ZERO))),
            (None, None) => None,
        };
        let stored = match (none, &self.args.cache_if) {
            (None, None) => quote!(#private::store_all(__cacheio_output)),
            (Some((span, none)), None) => {
                quote_spanned!(span=> #private::store_some(__cacheio_output, #none))
            }
            (None, Some(condition)) => {
                let span = shown_at(condition.span());
                quote_spanned!(span=> #private::store_if(__cacheio_output, #condition))
            }
            (Some((span, none)), Some(condition)) => {
                quote_spanned!(span=> #private::store_some_if(__cacheio_output, #none, #condition))
            }
        };
        match &self.args.ttl_of_value {
            None => stored,
            Some(ttl) => {
                let span = shown_at(ttl.span());
                quote_spanned!(span=> #private::store_for(__cacheio_output, #stored, #ttl))
            }
        }
    }
}
