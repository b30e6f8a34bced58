//! Recognizes integers and `None` by how a value serializes.

use std::fmt;

use serde_core::ser::{self, Serialize, Serializer};

/// Returns the decimal digits of a value that serializes as an integer, or as `Some` or a newtype of
/// one.
///
/// For any other value, serialization ends at the first call of the serializer: a large value costs no
/// more than a small one.
pub(crate) fn digits(value: &(impl Serialize + ?Sized)) -> Option<String> {
    value.serialize(Digits).ok()
}

/// Returns whether a value serializes as `None`.
pub(crate) fn is_none(value: &(impl Serialize + ?Sized)) -> bool {
    matches!(value.serialize(Digits), Err(Other::None))
}

struct Digits;

/// The value is not an integer.
#[derive(Debug)]
enum Other {
    None,
    Something,
}

impl fmt::Display for Other {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not an integer")
    }
}

impl std::error::Error for Other {}

impl ser::Error for Other {
    fn custom<T: fmt::Display>(_: T) -> Self {
        Self::Something
    }
}

macro_rules! integers {
    ($($method:ident: $integer:ty;)*) => {$(
        fn $method(self, integer: $integer) -> Result<String, Other> {
            Ok(itoa::Buffer::new().format(integer).to_owned())
        }
    )*};
}

macro_rules! others {
    ($($method:ident($($type:ty),*) -> $output:ty;)*) => {$(
        fn $method(self, $(_: $type),*) -> Result<$output, Other> {
            Err(Other::Something)
        }
    )*};
}

type Impossible = ser::Impossible<String, Other>;

impl Serializer for Digits {
    type Ok = String;
    type Error = Other;
    type SerializeSeq = Impossible;
    type SerializeTuple = Impossible;
    type SerializeTupleStruct = Impossible;
    type SerializeTupleVariant = Impossible;
    type SerializeMap = Impossible;
    type SerializeStruct = Impossible;
    type SerializeStructVariant = Impossible;

    integers! {
        serialize_i8: i8;
        serialize_i16: i16;
        serialize_i32: i32;
        serialize_i64: i64;
        serialize_i128: i128;
        serialize_u8: u8;
        serialize_u16: u16;
        serialize_u32: u32;
        serialize_u64: u64;
        serialize_u128: u128;
    }

    fn serialize_none(self) -> Result<String, Other> {
        Err(Other::None)
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<String, Other> {
        value.serialize(self)
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        value: &T,
    ) -> Result<String, Other> {
        value.serialize(self)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: &T,
    ) -> Result<String, Other> {
        Err(Other::Something)
    }

    fn collect_str<T: fmt::Display + ?Sized>(self, _: &T) -> Result<String, Other> {
        Err(Other::Something)
    }

    others! {
        serialize_bool(bool) -> String;
        serialize_f32(f32) -> String;
        serialize_f64(f64) -> String;
        serialize_char(char) -> String;
        serialize_str(&str) -> String;
        serialize_bytes(&[u8]) -> String;
        serialize_unit() -> String;
        serialize_unit_struct(&'static str) -> String;
        serialize_unit_variant(&'static str, u32, &'static str) -> String;
        serialize_seq(Option<usize>) -> Impossible;
        serialize_tuple(usize) -> Impossible;
        serialize_tuple_struct(&'static str, usize) -> Impossible;
        serialize_tuple_variant(&'static str, u32, &'static str, usize) -> Impossible;
        serialize_map(Option<usize>) -> Impossible;
        serialize_struct(&'static str, usize) -> Impossible;
        serialize_struct_variant(&'static str, u32, &'static str, usize) -> Impossible;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Serialize;

    #[derive(Serialize)]
    struct Id(u64);

    #[derive(Serialize)]
    struct Named {
        id: u64,
    }

    #[test]
    fn integers_are_recognized() {
        assert_eq!(digits(&-5_i8).as_deref(), Some("-5"));
        assert_eq!(
            digits(&u128::MAX).as_deref(),
            Some("340282366920938463463374607431768211455")
        );
        assert_eq!(digits(&Some(Id(7))).as_deref(), Some("7"));
        assert_eq!(digits(&Named { id: 7 }), None);
        assert_eq!(digits("7"), None);
        assert_eq!(digits(&7.0), None);
        assert_eq!(digits(&[7]), None);
        assert_eq!(digits(&true), None);
        assert_eq!(digits(&None::<u8>), None);
    }

    #[test]
    fn none_is_recognized() {
        assert!(is_none(&None::<u8>));
        assert!(!is_none(&Some(7)));
        assert!(!is_none(&()) && !is_none("") && !is_none(&[None::<u8>]));
    }
}
