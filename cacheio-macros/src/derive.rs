//! The derives.

mod cache_key;
mod cacheable;

pub(crate) use cache_key::cache_key;
pub(crate) use cacheable::cacheable;

use proc_macro2::TokenStream;
use syn::ext::IdentExt as _;
use syn::parse::ParseStream;
use syn::{Attribute, Error, Ident, Result};

/// The hidden module, where `#[cacheio(crate = path)]` or the dependencies say it is.
fn private(attrs: &[Attribute], crates: &[&str]) -> Result<TokenStream> {
    let mut path = None;
    for attr in attrs.iter().filter(|attr| attr.path().is_ident("cacheio")) {
        attr.parse_args_with(|input: ParseStream<'_>| {
            let name = input.call(Ident::parse_any)?;
            if name != "crate" {
                let message = format!("there is no `{name}` here, only `#[cacheio(crate = path)]`");
                return Err(Error::new(name.span(), message));
            }
            path = Some(crate::attr::crate_path(&name, input)?);
            Ok(())
        })?;
    }
    crate::path::private(path.as_ref(), crates)
}
