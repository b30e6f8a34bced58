//! Generates the code of the derives.

mod cache_key;
mod cacheable;

pub(crate) use cache_key::cache_key;
pub(crate) use cacheable::cacheable;

use proc_macro2::TokenStream;
use syn::ext::IdentExt as _;
use syn::parse::ParseStream;
use syn::{Attribute, Error, Ident, Result};

/// Returns the path of the hidden module, by `#[cacheio(crate = path)]` or by the dependencies.
fn private(attrs: &[Attribute], crates: &[&str]) -> Result<TokenStream> {
    let mut path = None;
    for attr in attrs.iter().filter(|attr| attr.path().is_ident("cacheio")) {
        attr.parse_args_with(|input: ParseStream<'_>| {
            let name = input.call(Ident::parse_any)?;
            if name != "crate" {
                let message =
                    format!("unknown option `{name}`; expected `#[cacheio(crate = path)]`");
                return Err(Error::new(name.span(), message));
            }
            path = Some(crate::attr::crate_path(&name, input)?);
            Ok(())
        })?;
    }
    crate::path::private(path.as_ref(), crates)
}
