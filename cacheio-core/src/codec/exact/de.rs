//! Reads the exact format.

use serde_core::de::{
    DeserializeSeed, Deserializer, EnumAccess, MapAccess, SeqAccess, VariantAccess, Visitor,
};
use serde_core::forward_to_deserialize_any;

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
            VARIANT => self.nested(|reader| visitor.visit_map(Variant { reader, parts: 2 })),
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
            _ => visitor.visit_some(self),
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
        match self.tag()? {
            UNIT_VARIANT | VARIANT => self.nested(|reader| visitor.visit_enum(reader)),
            _ => Err(invalid()),
        }
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit
        unit_struct seq tuple tuple_struct map struct identifier ignored_any
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

impl<'de> MapAccess<'de> for Variant<'_, '_> {
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

impl<'de> EnumAccess<'de> for &mut Reader<'_> {
    type Error = Error;
    type Variant = Self;

    fn variant_seed<S: DeserializeSeed<'de>>(
        self,
        seed: S,
    ) -> Result<(S::Value, Self::Variant), Error> {
        let name = seed.deserialize(&mut *self)?;
        Ok((name, self))
    }
}

impl<'de> VariantAccess<'de> for &mut Reader<'_> {
    type Error = Error;

    fn unit_variant(self) -> Result<(), Error> {
        Ok(())
    }

    fn newtype_variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<S::Value, Error> {
        seed.deserialize(self)
    }

    fn tuple_variant<V: Visitor<'de>>(self, _: usize, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_any(visitor)
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.deserialize_any(visitor)
    }
}
