//! Finds out, before a value is encoded, what a format would change or could not read again.

use std::cell::Cell;
use std::fmt;

use serde_core::ser::{self, Serialize, Serializer};

/// A format whose limits are known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[doc(hidden)]
pub enum Format {
    Json,
    MessagePack,
    Postcard,
}

/// What a format does to a value.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Finding {
    /// It keeps the value.
    Kept,
    /// It keeps the value, unless the type reads it by a detour: `#[serde(flatten)]`, `tag` and `untagged`
    /// know no 128-bit integers, and no keys of maps that are not texts in JSON.
    Doubtful(Doubts),
    /// It does not tell `Some(None)` or `Some(())` from `None`, unless the type does.
    Merged,
    /// It changes the value or refuses it.
    Changed,
    /// It does not read values that are nested so deep.
    TooDeep,
}

/// What is in a value that a format may not keep.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Doubts {
    integers: bool,
    keys: bool,
}

/// Returns what a format does to a value.
pub(crate) fn check(value: &(impl Serialize + ?Sized), format: Format) -> Finding {
    let doubts = Cell::new(Doubts::default());
    let checker = Checker {
        format,
        // One less than the formats read: a number or a name is a level to some of them.
        levels: 127,
        doubts: &doubts,
    };
    match value.serialize(checker) {
        Err(Stop::Changed) => Finding::Changed,
        Err(Stop::Merged) => Finding::Merged,
        Err(Stop::TooDeep) => Finding::TooDeep,
        // Encoding reports the error of the type.
        Err(Stop::Own) => Finding::Kept,
        Ok(_) if doubts.get() == Doubts::default() => Finding::Kept,
        Ok(_) => Finding::Doubtful(doubts.get()),
    }
}

/// Why a check ends early.
#[derive(Debug)]
enum Stop {
    Changed,
    Merged,
    TooDeep,
    Own,
}

impl fmt::Display for Stop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the check has ended")
    }
}

impl std::error::Error for Stop {}

impl ser::Error for Stop {
    fn custom<T: fmt::Display>(_: T) -> Self {
        Self::Own
    }
}

/// What a value is in the format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Null,
    Text,
    Scalar,
    Composite,
}

#[derive(Clone, Copy)]
struct Checker<'a> {
    format: Format,
    /// How many more levels the value may have.
    levels: u8,
    doubts: &'a Cell<Doubts>,
}

impl Checker<'_> {
    fn deeper(mut self, levels: u8) -> Result<Self, Stop> {
        self.levels = self.levels.checked_sub(levels).ok_or(Stop::TooDeep)?;
        Ok(self)
    }

    /// Enters what is a level to the binary formats only.
    fn wrapped(self) -> Result<Self, Stop> {
        self.deeper(u8::from(self.format != Format::Json))
    }

    /// Enters a variant that contains a sequence or a map.
    fn variant(self) -> Result<Self, Stop> {
        self.deeper(1 + u8::from(self.format == Format::Json))
    }

    fn scalar(self) -> Result<Kind, Stop> {
        Ok(Kind::Scalar)
    }

    fn text(self) -> Result<Kind, Stop> {
        self.wrapped()?;
        Ok(Kind::Text)
    }

    fn float(self, is_finite: bool) -> Result<Kind, Stop> {
        match self.format {
            Format::Json if !is_finite => Err(Stop::Changed),
            _ => Ok(Kind::Scalar),
        }
    }

    fn integer(self) -> Result<Kind, Stop> {
        if self.format != Format::Postcard {
            self.doubts.set(Doubts {
                integers: true,
                ..self.doubts.get()
            });
        }
        Ok(Kind::Scalar)
    }

    fn value(self, value: &(impl Serialize + ?Sized)) -> Result<(), Stop> {
        value.serialize(self).map(drop)
    }

    fn key(self, key: &(impl Serialize + ?Sized)) -> Result<(), Stop> {
        match (key.serialize(self)?, self.format) {
            (Kind::Scalar, Format::Json) => self.doubts.set(Doubts {
                keys: true,
                ..self.doubts.get()
            }),
            (Kind::Null | Kind::Composite, Format::Json) => return Err(Stop::Changed),
            _ => {}
        }
        Ok(())
    }
}

macro_rules! scalars {
    ($($method:ident: $type:ty;)*) => {$(
        fn $method(self, _: $type) -> Result<Kind, Stop> {
            self.scalar()
        }
    )*};
}

impl Serializer for Checker<'_> {
    type Ok = Kind;
    type Error = Stop;
    type SerializeSeq = Self;
    type SerializeTuple = Self;
    type SerializeTupleStruct = Self;
    type SerializeTupleVariant = Self;
    type SerializeMap = Self;
    type SerializeStruct = Self;
    type SerializeStructVariant = Self;

    scalars! {
        serialize_bool: bool;
        serialize_i8: i8;
        serialize_i16: i16;
        serialize_i32: i32;
        serialize_i64: i64;
        serialize_u8: u8;
        serialize_u16: u16;
        serialize_u32: u32;
        serialize_u64: u64;
    }

    fn is_human_readable(&self) -> bool {
        self.format == Format::Json
    }

    fn serialize_i128(self, _: i128) -> Result<Kind, Stop> {
        self.integer()
    }

    fn serialize_u128(self, _: u128) -> Result<Kind, Stop> {
        self.integer()
    }

    fn serialize_f32(self, value: f32) -> Result<Kind, Stop> {
        self.float(value.is_finite())
    }

    fn serialize_f64(self, value: f64) -> Result<Kind, Stop> {
        self.float(value.is_finite())
    }

    fn serialize_char(self, _: char) -> Result<Kind, Stop> {
        self.text()
    }

    fn serialize_str(self, _: &str) -> Result<Kind, Stop> {
        self.text()
    }

    fn collect_str<T: fmt::Display + ?Sized>(self, _: &T) -> Result<Kind, Stop> {
        self.text()
    }

    fn serialize_bytes(self, _: &[u8]) -> Result<Kind, Stop> {
        self.deeper(1)?;
        Ok(Kind::Composite)
    }

    fn serialize_none(self) -> Result<Kind, Stop> {
        self.wrapped()?;
        Ok(Kind::Null)
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<Kind, Stop> {
        match value.serialize(self.wrapped()?)? {
            Kind::Null if self.format != Format::Postcard => Err(Stop::Merged),
            kind => Ok(kind),
        }
    }

    fn serialize_unit(self) -> Result<Kind, Stop> {
        self.wrapped()?;
        Ok(Kind::Null)
    }

    fn serialize_unit_struct(self, _: &'static str) -> Result<Kind, Stop> {
        self.serialize_unit()
    }

    fn serialize_unit_variant(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
    ) -> Result<Kind, Stop> {
        self.text()
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        value: &T,
    ) -> Result<Kind, Stop> {
        value.serialize(self.wrapped()?)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        value: &T,
    ) -> Result<Kind, Stop> {
        self.deeper(1)?.value(value)?;
        Ok(Kind::Composite)
    }

    fn serialize_seq(self, _: Option<usize>) -> Result<Self, Stop> {
        self.deeper(1)
    }

    fn serialize_tuple(self, _: usize) -> Result<Self, Stop> {
        self.deeper(1)
    }

    fn serialize_tuple_struct(self, _: &'static str, _: usize) -> Result<Self, Stop> {
        self.deeper(1)
    }

    fn serialize_tuple_variant(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: usize,
    ) -> Result<Self, Stop> {
        self.variant()
    }

    fn serialize_map(self, _: Option<usize>) -> Result<Self, Stop> {
        self.deeper(1)
    }

    fn serialize_struct(self, _: &'static str, _: usize) -> Result<Self, Stop> {
        self.deeper(1)
    }

    fn serialize_struct_variant(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: usize,
    ) -> Result<Self, Stop> {
        self.variant()
    }
}

/// Checks the parts of a value. Postcard finds fields by their order, so it does not read a struct
/// without one of them.
macro_rules! elements {
    ($($trait:ident::$method:ident($($name:ty)?) $($skip_field:ident)?;)*) => {$(
        impl ser::$trait for Checker<'_> {
            type Ok = Kind;
            type Error = Stop;

            fn $method<T: Serialize + ?Sized>(
                &mut self,
                $(_: $name,)?
                value: &T,
            ) -> Result<(), Stop> {
                self.value(value)
            }

            $(fn $skip_field(&mut self, _: &'static str) -> Result<(), Stop> {
                match self.format {
                    Format::Postcard => Err(Stop::Changed),
                    _ => Ok(()),
                }
            })?

            fn end(self) -> Result<Kind, Stop> {
                Ok(Kind::Composite)
            }
        }
    )*};
}

elements! {
    SerializeSeq::serialize_element();
    SerializeTuple::serialize_element();
    SerializeTupleStruct::serialize_field();
    SerializeTupleVariant::serialize_field();
    SerializeStruct::serialize_field(&'static str) skip_field;
    SerializeStructVariant::serialize_field(&'static str) skip_field;
}

impl ser::SerializeMap for Checker<'_> {
    type Ok = Kind;
    type Error = Stop;

    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), Stop> {
        self.key(key)
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Stop> {
        self.value(value)
    }

    fn end(self) -> Result<Kind, Stop> {
        Ok(Kind::Composite)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn each_format_has_its_limits() {
        use Finding::{Changed, Doubtful, Kept, Merged};
        let integers = || {
            Doubtful(Doubts {
                integers: true,
                keys: false,
            })
        };
        let keys = || {
            Doubtful(Doubts {
                integers: false,
                keys: true,
            })
        };
        fn all(value: impl Serialize) -> [Finding; 3] {
            [Format::Json, Format::MessagePack, Format::Postcard]
                .map(|format| check(&value, format))
        }
        assert_eq!(
            all((1, "x", 0.5, Some(1), None::<u8>, ())),
            [Kept, Kept, Kept]
        );
        assert_eq!(all([f64::NAN]), [Changed, Kept, Kept]);
        assert_eq!(all(f32::NEG_INFINITY), [Changed, Kept, Kept]);
        assert_eq!(all(Some(None::<u8>)), [Merged, Merged, Kept]);
        assert_eq!(all([Some(())]), [Merged, Merged, Kept]);
        assert_eq!(all(1_u128), [integers(), integers(), Kept]);
        assert_eq!(all(BTreeMap::from([(1, 2)])), [keys(), Kept, Kept]);
        assert_eq!(all(BTreeMap::from([("a", 2)])), [Kept, Kept, Kept]);
        assert_eq!(all(BTreeMap::from([((1, 1), 2)])), [Changed, Kept, Kept]);
    }

    #[test]
    fn a_value_is_too_deep_where_its_format_does_not_read_it() {
        let nested = |levels: usize| {
            (0..levels).fold(serde_json::json!(1), |value, _| serde_json::json!([value]))
        };
        for format in [Format::Json, Format::MessagePack, Format::Postcard] {
            assert_eq!(check(&nested(126), format), Finding::Kept);
            assert_eq!(check(&nested(128), format), Finding::TooDeep);
        }
        assert_eq!(check(&nested(127), Format::Json), Finding::Kept);
        let text = serde_json::to_string(&nested(127)).unwrap();
        assert!(serde_json::from_str::<serde_json::Value>(&text).is_ok());
        let text = serde_json::to_string(&nested(128)).unwrap();
        assert!(serde_json::from_str::<serde_json::Value>(&text).is_err());
    }
}
