//! Recognizes types of the standard library that are copied, not cloned.

use std::any::TypeId;
use std::time::{Duration, Instant, SystemTime};

/// Returns whether values of this type are a few bytes of the standard library, so that cloning one
/// runs no code of a user.
///
/// The compiler evaluates this. Other types that are `Copy` cannot be recognized, and their `Clone`
/// may be any code.
#[inline]
pub(crate) fn is_plain<T: 'static>() -> bool {
    let id = TypeId::of::<T>();
    macro_rules! is_one_of {
        ($($type:ty)*) => {
            $(id == TypeId::of::<$type>() || id == TypeId::of::<Option<$type>>() ||)* false
        };
    }
    is_one_of! {
        () bool char
        u8 u16 u32 u64 u128 usize
        i8 i16 i32 i64 i128 isize
        f32 f64
        Duration Instant SystemTime
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_small_types_of_the_standard_library_are_plain() {
        #[derive(Clone, Copy)]
        struct Id(#[allow(dead_code)] u64);
        assert!(is_plain::<u64>() && is_plain::<Option<f32>>() && is_plain::<bool>());
        assert!(!is_plain::<String>() && !is_plain::<Id>() && !is_plain::<[u8; 4096]>());
    }
}
