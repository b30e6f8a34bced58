//! Owned copies of borrowed arguments, for a body that may run in the background.

use std::borrow::Borrow;

/// An owned copy of an argument that the caller only lends.
pub struct OwnedArg<T: ToOwnedArg + ?Sized>(T::Owned);

impl<T: ToOwnedArg + ?Sized> OwnedArg<T> {
    pub fn new(borrowed: &T) -> Self {
        Self(borrowed.to_owned_arg())
    }

    pub fn as_arg(&self) -> &T {
        self.0.borrow()
    }
}

/// A type of which a body in the background can have a copy.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be copied for a body that may run in the background",
    label = "not `Clone + Send + Sync + 'static`",
    note = "with `refresh_ahead`, `soft_timeout`, `hard_timeout` or `max_load`, the body gets copies of borrowed \
            arguments: derive `Clone`, pass an `Arc`, or take the argument by value"
)]
pub trait ToOwnedArg {
    type Owned: Borrow<Self> + Send + Sync + 'static;

    fn to_owned_arg(&self) -> Self::Owned;
}

#[diagnostic::do_not_recommend]
impl<T: ToOwned<Owned: Send + Sync + 'static> + ?Sized> ToOwnedArg for T {
    type Owned = T::Owned;

    fn to_owned_arg(&self) -> T::Owned {
        self.to_owned()
    }
}
