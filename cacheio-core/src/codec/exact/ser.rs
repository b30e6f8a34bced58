//! Writes the exact format.

use serde_core::ser::{self, Serialize, Serializer};

use super::{
    BYTES, END, Error, F64, FALSE, I64, I128, LEVELS, MAP, NONE, SEQUENCE, SOME, TEXT, TRUE, U64,
    U128, UNIT, UNIT_VARIANT, VARIANT,
};

/// Writes one value.
pub(super) struct Writer<'a> {
    bytes: &'a mut Vec<u8>,
    /// How many more levels the value may have.
    levels: u8,
}

impl<'a> Writer<'a> {
    pub(super) fn new(bytes: &'a mut Vec<u8>) -> Self {
        Self {
            bytes,
            levels: LEVELS,
        }
    }

    fn put(self, tag: u8, content: &[u8]) -> Result<(), Error> {
        self.bytes.push(tag);
        self.bytes.extend_from_slice(content);
        Ok(())
    }

    fn put_long(self, tag: u8, content: &[u8]) -> Result<(), Error> {
        let length = u32::try_from(content.len())
            .map_err(|_| Error("a text or a byte array of 4 GiB or more".into()))?;
        self.bytes.push(tag);
        self.bytes.extend_from_slice(&length.to_le_bytes());
        self.bytes.extend_from_slice(content);
        Ok(())
    }

    /// Begins a value that contains others.
    fn enter(mut self, tag: u8) -> Result<Self, Error> {
        self.levels = self.levels.checked_sub(1).ok_or_else(Error::too_deep)?;
        self.bytes.push(tag);
        Ok(self)
    }

    /// Begins a variant that has a content.
    fn enter_variant(self, name: &str) -> Result<Self, Error> {
        let mut writer = self.enter(VARIANT)?;
        writer.part().put_long(TEXT, name.as_bytes())?;
        Ok(writer)
    }

    /// Returns a writer of a value in this one.
    fn part(&mut self) -> Writer<'_> {
        Writer {
            bytes: self.bytes,
            levels: self.levels,
        }
    }

    fn leave(self) -> Result<(), Error> {
        self.bytes.push(END);
        Ok(())
    }
}

/// Writes numbers as wider ones.
macro_rules! as_wider {
    ($($method:ident($type:ty) => $wider:ident;)*) => {$(
        fn $method(self, value: $type) -> Result<(), Error> {
            self.$wider(value.into())
        }
    )*};
}

impl<'a> Serializer for Writer<'a> {
    type Ok = ();
    type Error = Error;
    type SerializeSeq = Writer<'a>;
    type SerializeTuple = Writer<'a>;
    type SerializeTupleStruct = Writer<'a>;
    type SerializeTupleVariant = Writer<'a>;
    type SerializeMap = Writer<'a>;
    type SerializeStruct = Writer<'a>;
    type SerializeStructVariant = Writer<'a>;

    as_wider! {
        serialize_i8(i8) => serialize_i64;
        serialize_i16(i16) => serialize_i64;
        serialize_i32(i32) => serialize_i64;
        serialize_u8(u8) => serialize_u64;
        serialize_u16(u16) => serialize_u64;
        serialize_u32(u32) => serialize_u64;
        serialize_f32(f32) => serialize_f64;
    }

    fn serialize_bool(self, value: bool) -> Result<(), Error> {
        self.put(if value { TRUE } else { FALSE }, &[])
    }

    fn serialize_i64(self, value: i64) -> Result<(), Error> {
        self.put(I64, &value.to_le_bytes())
    }

    fn serialize_i128(self, value: i128) -> Result<(), Error> {
        match i64::try_from(value) {
            Ok(value) => self.serialize_i64(value),
            Err(_) => self.put(I128, &value.to_le_bytes()),
        }
    }

    fn serialize_u64(self, value: u64) -> Result<(), Error> {
        self.put(U64, &value.to_le_bytes())
    }

    fn serialize_u128(self, value: u128) -> Result<(), Error> {
        match u64::try_from(value) {
            Ok(value) => self.serialize_u64(value),
            Err(_) => self.put(U128, &value.to_le_bytes()),
        }
    }

    fn serialize_f64(self, value: f64) -> Result<(), Error> {
        self.put(F64, &value.to_le_bytes())
    }

    fn serialize_char(self, value: char) -> Result<(), Error> {
        self.serialize_str(value.encode_utf8(&mut [0; 4]))
    }

    fn serialize_str(self, value: &str) -> Result<(), Error> {
        self.put_long(TEXT, value.as_bytes())
    }

    fn serialize_bytes(self, value: &[u8]) -> Result<(), Error> {
        self.put_long(BYTES, value)
    }

    fn serialize_none(self) -> Result<(), Error> {
        self.put(NONE, &[])
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<(), Error> {
        value.serialize(self.enter(SOME)?)
    }

    fn serialize_unit(self) -> Result<(), Error> {
        self.put(UNIT, &[])
    }

    fn serialize_unit_struct(self, _: &'static str) -> Result<(), Error> {
        self.serialize_unit()
    }

    fn serialize_unit_variant(
        self,
        _: &'static str,
        _: u32,
        name: &'static str,
    ) -> Result<(), Error> {
        self.enter(UNIT_VARIANT)?.put_long(TEXT, name.as_bytes())
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        value: &T,
    ) -> Result<(), Error> {
        value.serialize(self)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: u32,
        name: &'static str,
        value: &T,
    ) -> Result<(), Error> {
        value.serialize(self.enter_variant(name)?)
    }

    fn serialize_seq(self, _: Option<usize>) -> Result<Self, Error> {
        self.enter(SEQUENCE)
    }

    fn serialize_tuple(self, _: usize) -> Result<Self, Error> {
        self.enter(SEQUENCE)
    }

    fn serialize_tuple_struct(self, _: &'static str, _: usize) -> Result<Self, Error> {
        self.enter(SEQUENCE)
    }

    fn serialize_tuple_variant(
        self,
        _: &'static str,
        _: u32,
        name: &'static str,
        _: usize,
    ) -> Result<Self, Error> {
        self.enter_variant(name)?.enter(SEQUENCE)
    }

    fn serialize_map(self, _: Option<usize>) -> Result<Self, Error> {
        self.enter(MAP)
    }

    fn serialize_struct(self, _: &'static str, _: usize) -> Result<Self, Error> {
        self.enter(MAP)
    }

    fn serialize_struct_variant(
        self,
        _: &'static str,
        _: u32,
        name: &'static str,
        _: usize,
    ) -> Result<Self, Error> {
        self.enter_variant(name)?.enter(MAP)
    }
}

/// Writes the elements of a sequence.
macro_rules! elements {
    ($($trait:ident::$method:ident)*) => {$(
        impl ser::$trait for Writer<'_> {
            type Ok = ();
            type Error = Error;

            fn $method<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Error> {
                value.serialize(self.part())
            }

            fn end(self) -> Result<(), Error> {
                self.leave()
            }
        }
    )*};
}

/// Writes the fields of a struct.
macro_rules! fields {
    ($($trait:ident)*) => {$(
        impl ser::$trait for Writer<'_> {
            type Ok = ();
            type Error = Error;

            fn serialize_field<T: Serialize + ?Sized>(
                &mut self,
                name: &'static str,
                value: &T,
            ) -> Result<(), Error> {
                self.part().serialize_str(name)?;
                value.serialize(self.part())
            }

            fn end(self) -> Result<(), Error> {
                self.leave()
            }
        }
    )*};
}

elements! {
    SerializeSeq::serialize_element
    SerializeTuple::serialize_element
    SerializeTupleStruct::serialize_field
    SerializeTupleVariant::serialize_field
}

fields! { SerializeStruct SerializeStructVariant }

impl ser::SerializeMap for Writer<'_> {
    type Ok = ();
    type Error = Error;

    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), Error> {
        key.serialize(self.part())
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Error> {
        value.serialize(self.part())
    }

    fn end(self) -> Result<(), Error> {
        self.leave()
    }
}
