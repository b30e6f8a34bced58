//! Generates the code of the derives.

mod cache_key;
mod cacheable;

pub(crate) use cache_key::cache_key;
pub(crate) use cacheable::cacheable;

use syn::ext::IdentExt as _;
use syn::parse::ParseStream;
use syn::{Attribute, Error, Ident, Path, Result};

/// Parses `#[cacheio(crate = path)]`.
fn crate_path(attrs: &[Attribute]) -> Result<Option<Path>> {
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
    Ok(path)
}
