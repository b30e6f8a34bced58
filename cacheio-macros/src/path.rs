//! What generated code names: the crate, and in it the face for threads or the one for tasks.

use proc_macro_crate::{FoundCrate, crate_name};
use proc_macro2::{Span, TokenStream};
use quote::{format_ident, quote};
use syn::{Error, Path, Result};

/// The names of one of the two faces, in `__private`.
pub(crate) struct Face {
    pub(crate) cache: &'static str,
    pub(crate) engine: &'static str,
    pub(crate) cacheable: &'static str,
    /// The fields' attributes that mark the cache, the stronger one first.
    pub(crate) marks: &'static [&'static str],
    pub(crate) crates: &'static [&'static str],
}

pub(crate) const THREADS: Face = Face {
    cache: "Cache",
    engine: "engine",
    cacheable: "Cacheable",
    marks: &["cache"],
    crates: &["cacheio", "cacheio-sync"],
};

pub(crate) const TASKS: Face = Face {
    cache: "AsyncCache",
    engine: "async_engine",
    cacheable: "AsyncCacheable",
    marks: &["async_cache", "cache"],
    crates: &["cacheio", "cacheio-async"],
};

/// Where keys are found: in all of them.
pub(crate) const KEYS: &[&str] = &["cacheio", "cacheio-sync", "cacheio-async", "cacheio-core"];

/// The hidden module that generated code stands on: in the crate that the user names, or else in
/// the first of these that is a dependency.
pub(crate) fn private(named: Option<&Path>, crates: &[&str]) -> Result<TokenStream> {
    if let Some(path) = named {
        return Ok(quote!(#path::__private));
    }
    let found = crates.iter().find_map(|name| {
        Some(match crate_name(name).ok()? {
            // Tests, examples and doctests of the crate itself name it as others do.
            FoundCrate::Itself => format_ident!("{}", name.replace('-', "_")),
            FoundCrate::Name(name) => format_ident!("{name}"),
        })
    });
    match found {
        Some(name) => Ok(quote!(::#name::__private)),
        None => Err(Error::new(
            Span::call_site(),
            format!(
                "cannot find the crate `{}`: add it with `cargo add {}`, or say where it is \
                 re-exported: `crate = path`",
                crates[0], crates[0]
            ),
        )),
    }
}

/// Where errors are to be shown, for names that are the macro's own: what a user wrote may come
/// from yet another macro, in which those names would not be known.
pub(crate) fn shown_at(span: Span) -> Span {
    Span::call_site().located_at(span)
}

/// The same path, for errors that are to be shown elsewhere than at the macro.
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
    fn a_missing_crate_is_named() {
        let error = private(None, TASKS.crates).unwrap_err().to_string();
        assert!(
            error.contains("`cargo add cacheio`") && error.contains("`crate = path`"),
            "{error}"
        );
    }
}
