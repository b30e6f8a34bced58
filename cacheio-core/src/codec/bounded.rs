//! A deserializer with limits, for bytes that may be hostile.
//!
//! Binary formats announce the number of elements, and serde reserves memory for them. Postcard
//! recurses as deep as the bytes tell it to.

use std::cell::Cell;
use std::fmt;

use serde_core::Deserializer;
use serde_core::de::{
    DeserializeSeed, EnumAccess, Error, MapAccess, SeqAccess, VariantAccess, Visitor,
};

use crate::error::BoxError;

/// The deepest nesting of values: that of `serde_json`, but options count too. A debug build then
/// uses half of the 2 MiB stack that threads have by default.
const DEPTH: usize = 128;

/// A deserializer, visitor, seed or access of serde, with limits.
pub(super) struct Bounded<'a, T> {
    part: T,
    limits: Limits<'a>,
}

#[derive(Clone, Copy)]
struct Limits<'a> {
    /// How many more levels are allowed.
    depth: usize,
    /// How many more elements are allowed, over all sequences and maps.
    elements: &'a Cell<usize>,
    /// Whether elements are counted: their number is in the bytes, not in the type.
    counted: bool,
}

impl<'de, 'a, D: Deserializer<'de>> Bounded<'a, D> {
    /// Calls `read` with a deserializer that reads at most `elements` elements of sequences and maps.
    pub(super) fn read(
        deserializer: D,
        elements: usize,
        read: &mut dyn FnMut(&mut dyn erased_serde::Deserializer<'_>) -> Result<(), BoxError>,
    ) -> Result<(), BoxError> {
        let bounded = Bounded {
            part: deserializer,
            limits: Limits {
                depth: DEPTH,
                elements: &Cell::new(elements),
                counted: false,
            },
        };
        read(&mut <dyn erased_serde::Deserializer<'_>>::erase(bounded))
    }

    /// Enters a level whose number of elements is in the bytes.
    fn counted<V, E: Error>(self, visitor: V) -> Result<(D, Bounded<'a, V>), E> {
        let limits = self.limits.deeper(true)?;
        Ok((self.part, limits.on(visitor)))
    }

    /// Enters a level whose number of elements is in the type.
    fn fixed<V, E: Error>(self, visitor: V) -> Result<(D, Bounded<'a, V>), E> {
        let limits = self.limits.deeper(false)?;
        Ok((self.part, limits.on(visitor)))
    }
}

impl<'a> Limits<'a> {
    fn on<T>(self, part: T) -> Bounded<'a, T> {
        Bounded { part, limits: self }
    }

    fn deeper<E: Error>(self, counted: bool) -> Result<Self, E> {
        match self.depth.checked_sub(1) {
            Some(depth) => Ok(Self {
                depth,
                counted,
                ..self
            }),
            None => Err(E::custom("the value is nested too deep")),
        }
    }

    /// Takes `elements` from the number that is allowed.
    fn take<E: Error>(&self, elements: usize) -> Result<(), E> {
        let left = self.elements.get().checked_sub(elements);
        self.elements
            .set(left.ok_or_else(|| E::custom("the value has more elements than bytes"))?);
        Ok(())
    }

    /// Takes the announced elements at once, before memory is reserved for them. Without an
    /// announcement, [`next`](Self::next) takes them one by one.
    fn announced<E: Error>(self, elements: Option<usize>) -> Result<Self, E> {
        match elements {
            Some(elements) if self.counted => {
                self.take(elements)?;
                Ok(Self {
                    counted: false,
                    ..self
                })
            }
            _ => Ok(self),
        }
    }

    fn next<E: Error>(&self) -> Result<(), E> {
        if self.counted { self.take(1) } else { Ok(()) }
    }
}

macro_rules! scalars {
    ($($method:ident)*) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
            self.part.$method(visitor)
        }
    )*};
}

macro_rules! counted {
    ($($method:ident)*) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
            let (deserializer, visitor) = self.counted(visitor)?;
            deserializer.$method(visitor)
        }
    )*};
}

macro_rules! fixed {
    ($($method:ident($($arg:ident: $type:ty),*);)*) => {$(
        fn $method<V: Visitor<'de>>(
            self,
            $($arg: $type,)*
            visitor: V,
        ) -> Result<V::Value, D::Error> {
            let (deserializer, visitor) = self.fixed(visitor)?;
            deserializer.$method($($arg,)* visitor)
        }
    )*};
}

impl<'de, D: Deserializer<'de>> Deserializer<'de> for Bounded<'_, D> {
    type Error = D::Error;

    scalars! {
        deserialize_bool
        deserialize_i8 deserialize_i16 deserialize_i32 deserialize_i64 deserialize_i128
        deserialize_u8 deserialize_u16 deserialize_u32 deserialize_u64 deserialize_u128
        deserialize_f32 deserialize_f64
    }

    // MessagePack may visit a sequence or a map, also when a string is requested.
    counted! {
        deserialize_any deserialize_ignored_any deserialize_seq deserialize_map
        deserialize_char deserialize_str deserialize_string deserialize_identifier
        deserialize_bytes deserialize_byte_buf deserialize_unit
    }

    fixed! {
        deserialize_option();
        deserialize_unit_struct(name: &'static str);
        deserialize_newtype_struct(name: &'static str);
        deserialize_tuple(len: usize);
        deserialize_tuple_struct(name: &'static str, len: usize);
        deserialize_struct(name: &'static str, fields: &'static [&'static str]);
        deserialize_enum(name: &'static str, variants: &'static [&'static str]);
    }

    fn is_human_readable(&self) -> bool {
        self.part.is_human_readable()
    }
}

macro_rules! visit_scalars {
    ($($method:ident($type:ty);)*) => {$(
        fn $method<E: Error>(self, value: $type) -> Result<V::Value, E> {
            self.part.$method(value)
        }
    )*};
}

impl<'de, V: Visitor<'de>> Visitor<'de> for Bounded<'_, V> {
    type Value = V::Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.part.expecting(f)
    }

    visit_scalars! {
        visit_bool(bool);
        visit_i8(i8);
        visit_i16(i16);
        visit_i32(i32);
        visit_i64(i64);
        visit_i128(i128);
        visit_u8(u8);
        visit_u16(u16);
        visit_u32(u32);
        visit_u64(u64);
        visit_u128(u128);
        visit_f32(f32);
        visit_f64(f64);
        visit_char(char);
        visit_str(&str);
        visit_borrowed_str(&'de str);
        visit_string(String);
        visit_bytes(&[u8]);
        visit_borrowed_bytes(&'de [u8]);
        visit_byte_buf(Vec<u8>);
    }

    fn visit_none<E: Error>(self) -> Result<V::Value, E> {
        self.part.visit_none()
    }

    fn visit_unit<E: Error>(self) -> Result<V::Value, E> {
        self.part.visit_unit()
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<V::Value, D::Error> {
        self.part.visit_some(self.limits.on(deserializer))
    }

    fn visit_newtype_struct<D: Deserializer<'de>>(
        self,
        deserializer: D,
    ) -> Result<V::Value, D::Error> {
        self.part.visit_newtype_struct(self.limits.on(deserializer))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, elements: A) -> Result<V::Value, A::Error> {
        let limits = self.limits.announced(elements.size_hint())?;
        self.part.visit_seq(limits.on(elements))
    }

    fn visit_map<A: MapAccess<'de>>(self, entries: A) -> Result<V::Value, A::Error> {
        let limits = self.limits.announced(entries.size_hint())?;
        self.part.visit_map(limits.on(entries))
    }

    fn visit_enum<A: EnumAccess<'de>>(self, variant: A) -> Result<V::Value, A::Error> {
        self.part.visit_enum(self.limits.on(variant))
    }
}

impl<'de, S: DeserializeSeed<'de>> DeserializeSeed<'de> for Bounded<'_, S> {
    type Value = S::Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<S::Value, D::Error> {
        self.part.deserialize(self.limits.on(deserializer))
    }
}

impl<'de, A: SeqAccess<'de>> SeqAccess<'de> for Bounded<'_, A> {
    type Error = A::Error;

    fn next_element_seed<S: DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, A::Error> {
        self.limits.next()?;
        self.part.next_element_seed(self.limits.on(seed))
    }

    fn size_hint(&self) -> Option<usize> {
        self.part.size_hint()
    }
}

impl<'de, A: MapAccess<'de>> MapAccess<'de> for Bounded<'_, A> {
    type Error = A::Error;

    fn next_key_seed<S: DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, A::Error> {
        self.limits.next()?;
        self.part.next_key_seed(self.limits.on(seed))
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, A::Error> {
        self.part.next_value_seed(self.limits.on(seed))
    }

    fn size_hint(&self) -> Option<usize> {
        self.part.size_hint()
    }
}

impl<'de, 'a, A: EnumAccess<'de>> EnumAccess<'de> for Bounded<'a, A> {
    type Error = A::Error;
    type Variant = Bounded<'a, A::Variant>;

    fn variant_seed<S: DeserializeSeed<'de>>(
        self,
        seed: S,
    ) -> Result<(S::Value, Self::Variant), A::Error> {
        let (value, variant) = self.part.variant_seed(self.limits.on(seed))?;
        Ok((value, self.limits.on(variant)))
    }
}

impl<'de, A: VariantAccess<'de>> VariantAccess<'de> for Bounded<'_, A> {
    type Error = A::Error;

    fn unit_variant(self) -> Result<(), A::Error> {
        self.part.unit_variant()
    }

    fn newtype_variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<S::Value, A::Error> {
        self.part.newtype_variant_seed(self.limits.on(seed))
    }

    fn tuple_variant<V: Visitor<'de>>(self, len: usize, visitor: V) -> Result<V::Value, A::Error> {
        self.part.tuple_variant(len, self.limits.on(visitor))
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, A::Error> {
        self.part.struct_variant(fields, self.limits.on(visitor))
    }
}
