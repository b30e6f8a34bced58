//! What generated code names: the path of the crate, and the items of its sync or async API.

use proc_macro_crate::{FoundCrate, crate_name};
use proc_macro2::{Span, TokenStream};
use quote::{format_ident, quote};
use syn::{Error, Ident, Path, Result};

/// The names of the sync or the async items in `__private`.
pub(crate) struct Api {
    pub(crate) cache: &'static str,
    pub(crate) engine: &'static str,
    pub(crate) cacheable: &'static str,
    /// The attributes that mark the field of the cache, in order of precedence.
    pub(crate) marks: &'static [&'static str],
    /// The crates that export the API, in order of precedence.
    pub(crate) crates: &'static [&'static str],
    /// The feature of those crates.
    pub(crate) feature: &'static str,
    is_enabled: bool,
}

pub(crate) const SYNC: Api = Api {
    cache: "Cache",
    engine: "engine",
    cacheable: "Cacheable",
    marks: &["cache"],
    crates: &["cacheio", "cacheio-sync"],
    feature: "sync",
    is_enabled: cfg!(feature = "sync"),
};

pub(crate) const ASYNC: Api = Api {
    cache: "AsyncCache",
    engine: "async_engine",
    cacheable: "AsyncCacheable",
    marks: &["async_cache", "cache"],
    crates: &["cacheio", "cacheio-async"],
    feature: "async",
    is_enabled: cfg!(feature = "async"),
};

impl Api {
    /// Returns a name as an identifier of generated code.
    pub(crate) fn ident(&self, name: &str) -> Ident {
        Ident::new(name, Span::call_site())
    }

    /// Returns the path of the hidden module, where the API is enabled.
    ///
    /// `what` needs the API, and is written at `span`.
    pub(crate) fn private(
        &self,
        named: Option<&Path>,
        what: &str,
        span: Span,
    ) -> Result<TokenStream> {
        let private = private(named, self.crates)?;
        if self.is_enabled {
            return Ok(private);
        }
        let feature = self.feature;
        Err(Error::new(
            span,
            format!(
                "{what} needs the feature `{feature}`, which is off; enable it with `cargo add {} \
                 --features {feature}`",
                self.crates[0]
            ),
        ))
    }
}

/// The crates that export `CacheKey`, in order of precedence.
pub(crate) const KEY_CRATES: &[&str] =
    &["cacheio", "cacheio-sync", "cacheio-async", "cacheio-core"];

/// Returns the path of the hidden module that generated code uses: in the crate that the user
/// names, or in the first of `crates` that is a dependency.
pub(crate) fn private(named: Option<&Path>, crates: &[&str]) -> Result<TokenStream> {
    if let Some(path) = named {
        return Ok(quote!(#path::__private));
    }
    let found = crates.iter().find_map(|name| {
        Some(match crate_name(name).ok()? {
            // Tests, examples and doctests of the crate name it like its users do.
            FoundCrate::Itself => format_ident!("{}", name.replace('-', "_")),
            FoundCrate::Name(name) => format_ident!("{name}"),
        })
    });
    match found {
        Some(name) => Ok(quote!(::#name::__private)),
        None => Err(Error::new(
            Span::call_site(),
            format!(
                "cannot find the crate `{}`; add it with `cargo add {}`, or name a re-export with \
                 `crate = path`",
                crates[0], crates[0]
            ),
        )),
    }
}

/// Returns a span that shows errors at `span` and resolves names at the macro call.
///
/// The user's tokens may come from another macro, where the names of generated code are unknown.
pub(crate) fn shown_at(span: Span) -> Span {
    Span::call_site().located_at(span)
}

/// Returns the same path, with errors shown at `span`.
pub(crate) fn respanned(path: &TokenStream, span: Span) -> TokenStream {
    let tokens = path.clone().into_iter().map(|mut token| {
        token.set_span(span.resolved_at(token.span()));
        token
    });
    tokens.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_feature_that_is_off_is_named() {
        let off = Api {
            is_enabled: false,
            ..ASYNC
        };
        let path: Path = syn::parse_quote!(cacheio);
        let error = off.private(Some(&path), "an `async fn`", Span::call_site());
        assert_eq!(
            error.unwrap_err().to_string(),
            "an `async fn` needs the feature `async`, which is off; enable it with `cargo add cacheio \
             --features async`"
        );
    }

    #[test]
    fn a_missing_crate_is_named() {
        let error = private(None, &["no-cache"]).unwrap_err().to_string();
        assert!(
            error.contains("`cargo add no-cache`") && error.contains("`crate = path`"),
            "{error}"
        );
    }
}
