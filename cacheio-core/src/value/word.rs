//! Values that fit into a word, of types of the standard library. Memory keeps a copy of them next to
//! their key, so that a hit reads neither the value itself nor its reference count.

use std::any::Any;

/// Calls a macro with the types of values that are kept as words.
macro_rules! words {
    ($for_each:ident) => {
        $for_each! {
            () | word => { let _ = word; }, value => { let () = value; 0 };
            bool | word => word != 0, value => u64::from(value);
            char | word => char::from_u32(word as u32).unwrap_or_default(), value => u64::from(value);
            u8 | word => word as u8, value => u64::from(value);
            u16 | word => word as u16, value => u64::from(value);
            u32 | word => word as u32, value => u64::from(value);
            u64 | word => word, value => value;
            usize | word => word as usize, value => value as u64;
            i8 | word => word as i8, value => value as u64;
            i16 | word => word as i16, value => value as u64;
            i32 | word => word as i32, value => value as u64;
            i64 | word => word as i64, value => value as u64;
            isize | word => word as isize, value => value as u64;
            f32 | word => f32::from_bits(word as u32), value => u64::from(value.to_bits());
            f64 | word => f64::from_bits(word), value => value.to_bits();
        }
    };
}

/// Returns a value as a word, if its type is kept as words.
///
/// The compiler evaluates the comparisons of types, here and below. Other types that are `Copy` cannot be
/// recognized, and their `Clone` may be any code.
#[inline]
#[allow(clippy::cast_sign_loss)]
pub(crate) fn to_word<T: 'static>(value: &T) -> Option<u64> {
    let value: &dyn Any = value;
    macro_rules! from_each {
        ($($type:ty | $word:ident => $_:expr, $value:ident => $to_word:expr;)*) => {
            $(if let Some(&$value) = value.downcast_ref::<$type>() {
                return Some($to_word);
            })*
        };
    }
    words!(from_each);
    None
}

/// Returns the function that makes a value from its word, if its type is kept as words.
#[inline]
#[allow(clippy::cast_possible_truncation, clippy::cast_possible_wrap)]
pub(crate) fn from_word<T: 'static>() -> Option<FromWord<T>> {
    macro_rules! to_each {
        ($($type:ty | $word:ident => $from_word:expr, $_:ident => $__:expr;)*) => {
            $({
                let make: FromWord<$type> = |$word| $from_word;
                if let Some(make) = (&make as &dyn Any).downcast_ref::<FromWord<T>>() {
                    return Some(*make);
                }
            })*
        };
    }
    words!(to_each);
    None
}

/// Makes a value from its word.
pub type FromWord<T> = fn(u64) -> T;

#[cfg(test)]
mod tests {
    use super::*;
    use std::fmt::Debug;
    use std::time::Duration;

    fn returns<T: PartialEq + Debug + 'static>(values: impl IntoIterator<Item = T>) {
        for value in values {
            let word = to_word(&value).expect("a word");
            let read = from_word::<T>().expect("a word")(word);
            assert_eq!(read, value);
        }
    }

    #[test]
    fn a_word_keeps_the_value() {
        returns([()]);
        returns([true, false]);
        returns(['a', '\u{10FFFF}', '\0']);
        returns([0_u8, u8::MAX]);
        returns([0_u16, u16::MAX]);
        returns([0_u32, u32::MAX]);
        returns([0_u64, u64::MAX]);
        returns([0_usize, usize::MAX]);
        returns([i8::MIN, -1, i8::MAX]);
        returns([i16::MIN, -1, i16::MAX]);
        returns([i32::MIN, -1, i32::MAX]);
        returns([i64::MIN, -1, i64::MAX]);
        returns([isize::MIN, -1, isize::MAX]);
        returns([f32::MIN, -0.0, f32::INFINITY]);
        returns([f64::MIN, -0.0, f64::INFINITY]);
        let nan = f64::from_bits(0x7FF8_0000_0000_1234);
        let word = to_word(&nan).expect("a word");
        let read = from_word::<f64>().expect("a word")(word);
        assert_eq!(read.to_bits(), nan.to_bits());
    }

    #[test]
    fn other_types_are_not_words() {
        #[derive(Clone, Copy)]
        struct Id(#[allow(dead_code)] u64);
        assert!(to_word(&Id(1)).is_none() && from_word::<Id>().is_none());
        assert!(to_word(&String::new()).is_none() && from_word::<String>().is_none());
        assert!(to_word(&Duration::ZERO).is_none() && from_word::<Duration>().is_none());
        assert!(to_word(&1_u128).is_none() && from_word::<u128>().is_none());
        assert!(to_word(&Some(1_u32)).is_none() && from_word::<Option<u32>>().is_none());
    }
}
