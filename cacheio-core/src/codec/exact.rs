//! A format that returns every value of serde's data model as it was. It holds the values that the
//! codec of a cache would change, or could not read again: `NaN` and `Some(None)` in JSON, for
//! instance. Only cacheio reads it.
//!
//! A value is a tag (1 byte) and what the tag says. Numbers are little-endian.
//!
//! | tag | content |
//! | --- | --- |
//! | 0 | the unit |
//! | 1, 2 | `false`, `true` |
//! | 3, 4 | an integer: `i64`, `u64` (8 bytes) |
//! | 5, 6 | an integer: `i128`, `u128` (16 bytes) |
//! | 7 | a floating-point number: `f64` (8 bytes) |
//! | 8, 9 | a text, and bytes: their length (4 bytes), and they |
//! | 10 | `None` |
//! | 11 | `Some` of the value that follows |
//! | 12 | a sequence: values up to the end |
//! | 13 | a map or a struct: keys and values in turn, up to the end |
//! | 14 | a unit variant: its name, as a value |
//! | 15 | any other variant: its name and its content, as values |
//! | 16 | the end |

mod de;
mod ser;

use std::fmt;

use serde_core::{Deserialize, Serialize};

use super::Codec;
use crate::error::BoxError;

const UNIT: u8 = 0;
const FALSE: u8 = 1;
const TRUE: u8 = 2;
const I64: u8 = 3;
const U64: u8 = 4;
const I128: u8 = 5;
const U128: u8 = 6;
const F64: u8 = 7;
const TEXT: u8 = 8;
const BYTES: u8 = 9;
const NONE: u8 = 10;
const SOME: u8 = 11;
const SEQUENCE: u8 = 12;
const MAP: u8 = 13;
const UNIT_VARIANT: u8 = 14;
const VARIANT: u8 = 15;
const END: u8 = 16;

/// How many levels values may be nested: reading takes stack for each.
const LEVELS: u8 = 128;

/// The format as a codec.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Exact;

impl Codec for Exact {
    fn encode(&self, value: &dyn erased_serde::Serialize) -> Result<Vec<u8>, BoxError> {
        encode(value)
    }

    fn decode(
        &self,
        bytes: &[u8],
        read: &mut dyn FnMut(&mut dyn erased_serde::Deserializer<'_>) -> Result<(), BoxError>,
    ) -> Result<(), BoxError> {
        let mut reader = de::Reader::new(bytes);
        read(&mut <dyn erased_serde::Deserializer<'_>>::erase(
            &mut reader,
        ))?;
        Ok(reader.end()?)
    }
}

/// Encodes a value.
pub(crate) fn encode(value: &(impl Serialize + ?Sized)) -> Result<Vec<u8>, BoxError> {
    let mut bytes = Vec::with_capacity(128);
    value.serialize(ser::Writer::new(&mut bytes))?;
    Ok(bytes)
}

/// Decodes a value. It does not borrow from the bytes, whatever its lifetime.
pub(crate) fn decode<'de, T: Deserialize<'de>>(bytes: &[u8]) -> Result<T, BoxError> {
    let mut reader = de::Reader::new(bytes);
    let value = T::deserialize(&mut reader)?;
    reader.end()?;
    Ok(value)
}

/// The error of a type's own code, or of this format.
#[derive(Debug)]
struct Error(String);

impl Error {
    fn too_deep() -> Self {
        Self("the value is nested too deep".into())
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Error {}

impl serde_core::ser::Error for Error {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self(message.to_string())
    }
}

impl serde_core::de::Error for Error {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self(message.to_string())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, HashMap};
    use std::fmt::Debug;

    use proptest::prelude::*;
    use serde::de::DeserializeOwned;
    use serde::{Deserialize, Serialize};

    use super::*;

    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    enum Shape {
        Empty,
        Wrapped(Option<Option<u8>>),
        Pair(i8, String),
        Named { a: (), b: Vec<f32> },
    }

    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    struct Unit;

    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    struct Wrapper(Option<()>);

    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    struct Everything {
        shapes: Vec<Shape>,
        unit: Unit,
        wrapper: Wrapper,
        tuple: (bool, char, i128, u128, i64, u64, f64),
        keys: BTreeMap<(u8, Option<bool>), Box<Self>>,
        #[serde(flatten)]
        rest: HashMap<String, Untagged>,
        #[serde(skip_serializing_if = "Option::is_none")]
        skipped: Option<u8>,
        tagged: Tagged,
    }

    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    #[serde(untagged)]
    enum Untagged {
        Number(i64),
        Text(String),
        Shape(Shape),
        Keys(BTreeMap<u32, f64>),
    }

    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    #[serde(tag = "type")]
    enum Tagged {
        Keys {
            keys: BTreeMap<i32, Option<Option<u8>>>,
        },
        Nothing,
    }

    fn everything() -> Everything {
        let inner = Everything {
            shapes: vec![
                Shape::Empty,
                Shape::Wrapped(None),
                Shape::Wrapped(Some(None)),
                Shape::Wrapped(Some(Some(7))),
                Shape::Pair(-8, "ä\0".into()),
                Shape::Named {
                    a: (),
                    b: vec![f32::INFINITY, 0.1],
                },
            ],
            unit: Unit,
            wrapper: Wrapper(Some(())),
            tuple: (
                true,
                'ß',
                i128::MIN,
                u128::MAX,
                i64::MIN,
                u64::MAX,
                f64::MIN_POSITIVE,
            ),
            keys: BTreeMap::new(),
            rest: HashMap::from([
                ("number".into(), Untagged::Number(-1)),
                ("text".into(), Untagged::Text(String::new())),
                ("shape".into(), Untagged::Shape(Shape::Pair(1, "x".into()))),
                (
                    "by number".into(),
                    Untagged::Keys(BTreeMap::from([(7, f64::NEG_INFINITY)])),
                ),
            ]),
            skipped: None,
            tagged: Tagged::Keys {
                keys: BTreeMap::from([(-1, Some(None)), (1, None)]),
            },
        };
        Everything {
            keys: BTreeMap::from([((1, None), Box::new(inner.clone()))]),
            tagged: Tagged::Nothing,
            skipped: Some(1),
            ..inner
        }
    }

    fn comes_back<T: Serialize + DeserializeOwned + PartialEq + Debug>(value: &T) {
        let bytes = encode(value).unwrap();
        assert_eq!(&decode::<T>(&bytes).unwrap(), value);
        for end in 0..bytes.len() {
            assert!(
                decode::<T>(&bytes[..end]).is_err(),
                "{end} bytes of {value:?}"
            );
        }
        assert!(decode::<T>(&[&bytes[..], &[UNIT]].concat()).is_err());
    }

    #[test]
    fn every_value_comes_back() {
        comes_back(&everything());
        comes_back(&Some(None::<Option<()>>));
        comes_back(&Some(Some(Some(()))));
        comes_back(&[f64::INFINITY, -0.0]);
        comes_back(&serde_json::json!({"a": [null, 1.5, -1, "x", {}]}));
        assert!(decode::<f64>(&encode(&f64::NAN).unwrap()).unwrap().is_nan());
        assert!(decode::<f32>(&encode(&f32::NAN).unwrap()).unwrap().is_nan());
    }

    /// Other processes read what this one writes, also of another version.
    #[test]
    fn the_bytes_stay_the_same() {
        let value = (Some(None::<u8>), 1_i8, true, Shape::Pair(-1, "é".into()));
        let expected = b"\x0C\x0B\x0A\x03\x01\0\0\0\0\0\0\0\x02\x0F\x08\x04\0\0\0Pair\
            \x0C\x03\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\x08\x02\0\0\0\xC3\xA9\x10\x10";
        assert_eq!(encode(&value).unwrap(), expected);
        let value = (Shape::Empty, Unit, u64::MAX, u128::MAX, f64::INFINITY);
        let expected = [
            b"\x0C\x0E\x08\x05\0\0\0Empty\0\x04\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\x06".as_slice(),
            &[0xFF; 16],
            b"\x07\0\0\0\0\0\0\xF0\x7F\x10",
        ];
        assert_eq!(encode(&value).unwrap(), expected.concat());
    }

    #[test]
    fn a_type_that_has_changed_is_read_as_with_json() {
        #[derive(Debug, PartialEq, Deserialize)]
        struct Changed {
            b: f64,
            #[serde(default)]
            c: Option<u8>,
            a: Option<u8>,
        }
        let bytes = encode(&BTreeMap::from([("a", 1), ("b", 2), ("d", 3)])).unwrap();
        let expected = Changed {
            b: 2.0,
            c: None,
            a: Some(1),
        };
        assert_eq!(decode::<Changed>(&bytes).unwrap(), expected);
        assert!(decode::<BTreeMap<String, bool>>(&bytes).is_err());
        let bytes = encode(&BTreeMap::from([("a", 1)])).unwrap();
        let error = decode::<Changed>(&bytes).unwrap_err();
        assert_eq!(error.to_string(), "missing field `b`");
    }

    #[test]
    fn a_variant_that_has_changed_is_read_as_with_json() {
        #[derive(Debug, PartialEq, Serialize, Deserialize)]
        enum Before {
            A,
            B(Box<Before>),
            N(Option<f64>),
        }
        #[derive(Debug, PartialEq, Deserialize)]
        enum After {
            A(Box<After>),
            B,
            N(f64),
        }
        fn as_after<T: Serialize>(value: T) -> [Option<Vec<After>>; 2] {
            let exact = decode(&encode(&value).unwrap()).ok();
            let json = serde_json::to_string(&value).unwrap();
            [exact, serde_json::from_str(&json).ok()]
        }
        for value in [
            vec![Before::A, Before::B(Box::new(Before::A))],
            vec![Before::B(Box::new(Before::A))],
            vec![Before::N(Some(1.5))],
            vec![Before::N(None)],
        ] {
            let [exact, json] = as_after(&value);
            assert_eq!(exact, json, "{value:?}");
        }
        // A text, and a map with one entry, are variants too.
        assert_eq!(as_after(["B"])[0], Some(vec![After::B]));
        let map = BTreeMap::from([("N", 1.5)]);
        assert_eq!(as_after([map])[0], Some(vec![After::N(1.5)]));
        let map = BTreeMap::from([("N", 1.5), ("O", 1.5)]);
        assert_eq!(as_after([map])[0], None);
    }

    #[test]
    fn the_depth_is_limited() {
        let mut value = serde_json::json!(1);
        for _ in 0..=LEVELS {
            value = serde_json::json!([value]);
        }
        assert!(encode(&value).is_err());
        assert!(decode::<serde_json::Value>(&[SEQUENCE; 100_000]).is_err());
        assert!(decode::<serde_json::Value>(&[SOME; 100_000]).is_err());
        assert!(decode::<serde_json::Value>(&[VARIANT; 100_000]).is_err());
        #[derive(Debug, Deserialize)]
        struct Chain(#[allow(dead_code)] Option<Box<Self>>);
        assert!(decode::<Chain>(&[FALSE]).is_err());
    }

    proptest! {
        #[test]
        fn any_bytes_are_decoded_or_refused(bytes in proptest::collection::vec(0_u8..20, 0..64)) {
            let _ = decode::<Everything>(&bytes);
            let _ = decode::<serde_json::Value>(&bytes);
            let _ = decode::<Vec<Shape>>(&bytes);
        }
    }
}
