//! Reads the exact format.

use serde_core::de::{
    DeserializeSeed, Deserializer, EnumAccess, MapAccess, SeqAccess, VariantAccess, Visitor,
};

use super::{
    BYTES, END, Error, F64, FALSE, I64, I128, LEVELS, MAP, NONE, SEQUENCE, SOME, TEXT, TRUE, U64,
    U128, UNIT, UNIT_VARIANT, VARIANT,
};

/// Reads values one after another. None of them borrows from the bytes.
pub(super) struct Reader<'a> {
    bytes: &'a [u8],
    /// How many more levels the value may have.
    levels: u8,
}

fn invalid() -> Error {
    Error("the bytes are not in this format".into())
}

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self {
            bytes,
            levels: LEVELS,
        }
    }

    /// Checks that nothing is left.
    pub(super) fn end(self) -> Result<(), Error> {
        match self.bytes {
            [] => Ok(()),
            _ => Err(invalid()),
        }
    }

    fn tag(&mut self) -> Result<u8, Error> {
        let (tag, rest) = self.bytes.split_first().ok_or_else(invalid)?;
        self.bytes = rest;
        Ok(*tag)
    }

    /// Skips the next tag, if it is this one.
    fn skip(&mut self, tag: u8) -> bool {
        let is_next = self.bytes.first() == Some(&tag);
        if is_next {
            self.bytes = &self.bytes[1..];
        }
        is_next
    }

    fn skip_some(&mut self) {
        while self.skip(SOME) {}
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Error> {
        let (array, rest) = self.bytes.split_first_chunk().ok_or_else(invalid)?;
        self.bytes = rest;
        Ok(*array)
    }

    fn long(&mut self) -> Result<&'a [u8], Error> {
        let length = u32::from_le_bytes(self.array()?) as usize;
        let (long, rest) = self.bytes.split_at_checked(length).ok_or_else(invalid)?;
        self.bytes = rest;
        Ok(long)
    }

    fn text(&mut self) -> Result<&'a str, Error> {
        std::str::from_utf8(self.long()?).map_err(|_| invalid())
    }

    /// Reads the content of a value that contains others.
    fn nested<T>(&mut self, read: impl FnOnce(&mut Self) -> Result<T, Error>) -> Result<T, Error> {
        self.levels = self.levels.checked_sub(1).ok_or_else(Error::too_deep)?;
        let value = read(self)?;
        self.levels += 1;
        Ok(value)
    }

    /// Reads the values of a sequence or a map, and checks that there are no others.
    fn all<T>(&mut self, read: impl FnOnce(&mut Self) -> Result<T, Error>) -> Result<T, Error> {
        self.nested(|reader| {
            let value = read(reader)?;
            match reader.skip(END) {
                true => Ok(value),
                false => Err(invalid()),
            }
        })
    }
}

/// Reads values of a known type, for which `Some` makes no difference: JSON does not write it.
macro_rules! without_some {
    ($($method:ident($($type:ty),*);)*) => {$(
        fn $method<V: Visitor<'de>>(self, $(_: $type,)* visitor: V) -> Result<V::Value, Error> {
            self.skip_some();
            self.deserialize_any(visitor)
        }
    )*};
}

impl<'de> Deserializer<'de> for &mut Reader<'_> {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.tag()? {
            UNIT => visitor.visit_unit(),
            FALSE => visitor.visit_bool(false),
            TRUE => visitor.visit_bool(true),
            I64 => visitor.visit_i64(i64::from_le_bytes(self.array()?)),
            U64 => visitor.visit_u64(u64::from_le_bytes(self.array()?)),
            I128 => visitor.visit_i128(i128::from_le_bytes(self.array()?)),
            U128 => visitor.visit_u128(u128::from_le_bytes(self.array()?)),
            F64 => visitor.visit_f64(f64::from_le_bytes(self.array()?)),
            TEXT => visitor.visit_str(self.text()?),
            BYTES => visitor.visit_bytes(self.long()?),
            NONE => visitor.visit_none(),
            SOME => self.nested(|reader| visitor.visit_some(reader)),
            SEQUENCE => self.all(|reader| visitor.visit_seq(reader)),
            MAP => self.all(|reader| visitor.visit_map(reader)),
            // As JSON shows them to a type that finds out by itself what it reads.
            UNIT_VARIANT => self.nested(|reader| reader.deserialize_any(visitor)),
            VARIANT => self.nested(|reader| {
                let mut variant = Variant { reader, parts: 2 };
                let value = visitor.visit_map(&mut variant)?;
                match variant.parts {
                    0 => Ok(value),
                    _ => Err(invalid()),
                }
            }),
            _ => Err(invalid()),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.bytes.first() {
            Some(&(NONE | SOME)) => self.deserialize_any(visitor),
            Some(&UNIT) => {
                self.tag()?;
                visitor.visit_none()
            }
            _ => self.nested(|reader| visitor.visit_some(reader)),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Error> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.skip_some();
        match self.bytes.first() {
            Some(&tag @ (UNIT_VARIANT | VARIANT)) => self.nested(|reader| {
                reader.tag()?;
                let is_unit = tag == UNIT_VARIANT;
                visitor.visit_enum(Content { reader, is_unit })
            }),
            // The type had another form when the value was written: as JSON has enums.
            Some(&TEXT) => self.nested(|reader| {
                let is_unit = true;
                visitor.visit_enum(Content { reader, is_unit })
            }),
            Some(&MAP) => self.all(|reader| {
                reader.tag()?;
                let is_unit = false;
                visitor.visit_enum(Content { reader, is_unit })
            }),
            _ => Err(invalid()),
        }
    }

    without_some! {
        deserialize_bool();
        deserialize_i8();
        deserialize_i16();
        deserialize_i32();
        deserialize_i64();
        deserialize_i128();
        deserialize_u8();
        deserialize_u16();
        deserialize_u32();
        deserialize_u64();
        deserialize_u128();
        deserialize_f32();
        deserialize_f64();
        deserialize_char();
        deserialize_str();
        deserialize_string();
        deserialize_bytes();
        deserialize_byte_buf();
        deserialize_unit();
        deserialize_seq();
        deserialize_map();
        deserialize_identifier();
        deserialize_unit_struct(&'static str);
        deserialize_tuple(usize);
        deserialize_tuple_struct(&'static str, usize);
        deserialize_struct(&'static str, &'static [&'static str]);
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_any(visitor)
    }
}

impl<'de> SeqAccess<'de> for &mut Reader<'_> {
    type Error = Error;

    fn next_element_seed<S: DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, Error> {
        match self.bytes.first() {
            Some(&END) => Ok(None),
            _ => seed.deserialize(&mut **self).map(Some),
        }
    }
}

impl<'de> MapAccess<'de> for &mut Reader<'_> {
    type Error = Error;

    fn next_key_seed<S: DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, Error> {
        self.next_element_seed(seed)
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, Error> {
        seed.deserialize(&mut **self)
    }
}

/// A variant with a content, as a map of one entry.
struct Variant<'r, 'a> {
    reader: &'r mut Reader<'a>,
    /// How many of its two parts are left.
    parts: u8,
}

impl<'de> MapAccess<'de> for &mut Variant<'_, '_> {
    type Error = Error;

    fn next_key_seed<S: DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, Error> {
        if self.parts < 2 {
            return Ok(None);
        }
        self.parts = 1;
        seed.deserialize(&mut *self.reader).map(Some)
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, Error> {
        self.parts = 0;
        seed.deserialize(&mut *self.reader)
    }
}

/// A variant, as a type reads it that expects one.
struct Content<'r, 'a> {
    reader: &'r mut Reader<'a>,
    /// Nothing follows its name.
    is_unit: bool,
}

impl<'a> Content<'_, 'a> {
    /// Returns a reader of the content.
    fn content(&mut self) -> Result<&mut Reader<'a>, Error> {
        match self.is_unit {
            true => Err(invalid()),
            false => Ok(self.reader),
        }
    }
}

impl<'de> EnumAccess<'de> for Content<'_, '_> {
    type Error = Error;
    type Variant = Self;

    fn variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<(S::Value, Self), Error> {
        let name = seed.deserialize(&mut *self.reader)?;
        Ok((name, self))
    }
}

impl<'de> VariantAccess<'de> for Content<'_, '_> {
    type Error = Error;

    fn unit_variant(self) -> Result<(), Error> {
        match self.is_unit || self.reader.skip(UNIT) {
            true => Ok(()),
            false => Err(invalid()),
        }
    }

    fn newtype_variant_seed<S: DeserializeSeed<'de>>(mut self, seed: S) -> Result<S::Value, Error> {
        seed.deserialize(self.content()?)
    }

    fn tuple_variant<V: Visitor<'de>>(mut self, _: usize, visitor: V) -> Result<V::Value, Error> {
        self.content()?.deserialize_seq(visitor)
    }

    fn struct_variant<V: Visitor<'de>>(
        mut self,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.content()?.deserialize_map(visitor)
    }
}
