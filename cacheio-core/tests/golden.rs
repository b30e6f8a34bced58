//! The bytes of entries on a server are those in `tests/golden/`.
//!
//! Programs with other versions of cacheio read and write these bytes, so they must not change.

mod server;

use std::collections::{BTreeMap, HashMap};
use std::fmt::{Debug, Write as _};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use cacheio_core::{
    Codec, Compressed, ErrorKind, Json, MessagePack, Options, Postcard, Ttl, Value,
};
use server::{Item, Order, State, Wire};

const CODECS: [&str; 7] = [
    "json",
    "msgpack",
    "postcard",
    "json+zstd",
    "json+lz4",
    "msgpack+zstd",
    "postcard+lz4",
];

/// The value whose compressed bytes may differ between versions of the compressor. They must be
/// readable.
const COMPRESSED: &str = "long text";

#[test]
fn values_have_the_bytes_of_the_golden_files_in_both_directions() {
    let update = std::env::var_os("UPDATE_GOLDEN").is_some();
    for name in CODECS {
        let path = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("tests/golden")
            .join(format!("{}.txt", name.replace('+', "-")));
        let wire = wire(name);
        let mut written = String::new();
        for case in cases() {
            let bytes = (case.write)(&wire);
            writeln!(written, "{}: {}", case.name, bytes.escape_ascii()).unwrap();
        }
        if update {
            std::fs::write(&path, &written).unwrap();
            continue;
        }
        let golden = std::fs::read_to_string(&path).unwrap();
        assert_eq!(golden.lines().count(), cases().len(), "{}", path.display());
        for (case, (golden, written)) in cases().iter().zip(golden.lines().zip(written.lines())) {
            let text = golden.strip_prefix(&format!("{}: ", case.name)).unwrap();
            (case.read)(&wire, &unescape(text));
            if case.name == COMPRESSED && name.contains('+') {
                assert_eq!(text[..8], written[case.name.len() + 2..][..8], "{name}");
                assert!(text.len() < 500, "{name}");
            } else {
                assert_eq!(written, golden, "{name}");
            }
        }
    }
    assert!(
        !update,
        "The golden files were updated. Published versions read and write the old bytes: check each \
         difference, then run the test without UPDATE_GOLDEN."
    );
}

#[test]
fn values_of_other_programs_are_read() {
    let wire = wire("json");
    // The output of Python's json.dumps with the defaults of aiocache.
    let numbers = wire.read::<HashMap<String, i64>>(br#"{"a": 1, "b": -2}"#);
    assert_eq!(
        *numbers.unwrap(),
        HashMap::from([("a".into(), 1), ("b".into(), -2)])
    );
    assert_eq!(*wire.read::<Vec<u8>>(b"[1, 2]").unwrap(), [1, 2]);
    assert_eq!(
        *wire.read::<String>(br#""caf\u00e9 \ud83e\udd80""#).unwrap(),
        "café 🦀"
    );
    assert_eq!(*wire.read::<Option<String>>(b"null").unwrap(), None);
    assert!(*wire.read::<bool>(b"true").unwrap());
    let unread = wire.read::<String>(b"caf\xE9").unwrap_err();
    assert_eq!(unread.kind(), ErrorKind::Decode);
}

#[test]
fn counters_are_read_under_every_codec() {
    for name in CODECS {
        let wire = wire(name);
        // Memcached pads a counter with spaces when it gets shorter.
        assert_eq!(*wire.read::<i64>(b"9 ").unwrap(), 9);
        assert_eq!(*wire.read::<u8>(b"42").unwrap(), 42);
        assert_eq!(*wire.read::<i64>(b"-42").unwrap(), -42);
        assert_eq!(*wire.read::<f64>(b"42").unwrap(), 42.0);
        assert_eq!(*wire.read::<Option<u64>>(b"7").unwrap(), Some(7));
        for beyond in [&b"256"[..], b"-1", b"99999999999999999999"] {
            let error = wire.read::<u8>(beyond).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Decode);
        }
    }
}

#[test]
fn headers_are_read_under_every_codec() {
    for name in CODECS {
        let wire = wire(name);
        let body = wire.write(String::from("text"));
        let plain = [&b"\xC1\x01\x00\x00"[..], &body].concat();
        let fields = [&b"\xC1\x01\x06\x00\xF0\x02ab\xF1\x00"[..], &body].concat();
        assert_eq!(*wire.read::<String>(&plain).unwrap(), "text");
        assert_eq!(*wire.read::<String>(&fields).unwrap(), "text");
        let later = [&b"\xC1\x02\x00\x00"[..], &body].concat();
        let odd = [&b"\xC1\x01\x0A\x00\x01\x0812345678"[..], &body].concat();
        let unreadable = (1..10)
            .map(|end| &fields[..end])
            .chain([&later[..], &odd[..]]);
        for bytes in unreadable {
            let error = wire.read::<String>(bytes).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Decode, "{}", bytes.escape_ascii());
        }
    }
}

#[test]
fn compression_can_be_turned_on_and_changed_without_a_flush() {
    for (before, after) in [
        ("json", "json+zstd"),
        ("json", "json+lz4"),
        ("json+zstd", "json+lz4"),
        ("json+lz4", "json+zstd"),
        ("msgpack", "msgpack+zstd"),
        ("msgpack+lz4", "msgpack+zstd"),
    ] {
        let writer = wire(before);
        let reader = wire(after);
        for case in cases() {
            (case.read)(&reader, &(case.write)(&writer));
        }
    }
}

/// Returns a cache with the codec of a name.
fn wire(codec: &str) -> Wire {
    fn compressed(codec: impl Codec, compression: Option<&str>) -> Arc<dyn Codec> {
        match compression {
            None => Arc::new(codec),
            Some("zstd") => Arc::new(Compressed::zstd(codec)),
            Some("lz4") => Arc::new(Compressed::lz4(codec)),
            Some(other) => panic!("unknown compression {other}"),
        }
    }
    let (format, compression) = match codec.split_once('+') {
        Some((format, compression)) => (format, Some(compression)),
        None => (codec, None),
    };
    Wire::new(match format {
        "json" => compressed(Json, compression),
        "msgpack" => compressed(MessagePack, compression),
        "postcard" => compressed(Postcard, compression),
        other => panic!("unknown codec {other}"),
    })
}

struct Case {
    name: &'static str,
    write: Write,
    read: Read,
}

/// Stores a value, and returns its bytes.
type Write = Box<dyn Fn(&Wire) -> Vec<u8>>;

/// Reads bytes, and checks the value.
type Read = Box<dyn Fn(&Wire, &[u8])>;

fn case<V: Value<Stored = V> + Debug + PartialEq>(name: &'static str, value: V) -> Case {
    let expected = value.clone();
    Case {
        name,
        write: Box::new(move |wire| wire.write(value.clone())),
        read: Box::new(move |wire, bytes| assert_eq!(*wire.read::<V>(bytes).unwrap(), expected)),
    }
}

/// Returns the case of a value that stays stale for an hour after its TTL of a minute.
fn kept_stale<V: Value<Stored = V> + Debug + PartialEq>(name: &'static str, value: V) -> Case {
    let minute = Duration::from_secs(60);
    let written = value.clone();
    Case {
        write: Box::new(move |wire| {
            let options = Options::new().ttl(minute).stale_for(minute * 60);
            wire.write_with(written.clone(), &options)
        }),
        ..case(name, value)
    }
}

/// Returns the case of a value that expires when it is not read for a minute.
fn unless_idle<V: Value<Stored = V> + Debug + PartialEq>(name: &'static str, value: V) -> Case {
    let written = value.clone();
    Case {
        write: Box::new(move |wire| {
            let options = Options::new()
                .ttl(Ttl::Never)
                .ttl_idle(Duration::from_secs(60));
            wire.write_with(written.clone(), &options)
        }),
        ..case(name, value)
    }
}

fn cases() -> Vec<Case> {
    vec![
        case("order", order()),
        case("unit variant", State::Open),
        case("none", None::<String>),
        case("some", Some(String::from("text"))),
        case("empty text", String::new()),
        case("text", String::from("Grüße, 世界 🦀\n\"\\")),
        case("text of digits", String::from("17")),
        case(COMPRESSED, "All work and no play. ".repeat(50)),
        case("integer", 42_i32),
        case("negative integer", -7_i64),
        case("least integer", i64::MIN),
        case("greatest integer", u64::MAX),
        case("some integer", Some(5_u8)),
        case("float", 0.1_f64),
        case("whole float", 7.0_f64),
        case("true", true),
        case("unit", ()),
        case("no elements", Vec::<String>::new()),
        case("bytes", vec![0_u8, 9, 127, 128, 255]),
        case("what may look like an integer", [b'5', b'5']),
        case("what may look like a header", [0xC1_u8, 1]),
        case("what may look compressed", [0xC0_u8, 1]),
        case("what may look escaped", [0xC0_u8, 0]),
        case("a byte that may be a mark", [0xC0_u8]),
        kept_stale("text that outlives its TTL", String::from("text")),
        kept_stale("integer that outlives its TTL", 42_i32),
        unless_idle("text that is read", String::from("text")),
        unless_idle("integer that is read", 42_i32),
    ]
}

fn order() -> Order {
    Order {
        id: u64::MAX,
        customer: "Zoë 🦀".into(),
        paid: true,
        note: None,
        items: vec![
            Item {
                sku: "A-1".into(),
                price: 19.99,
                quantity: 3,
                discount: Some(10),
            },
            Item {
                sku: String::new(),
                price: -0.5,
                quantity: -300,
                discount: None,
            },
        ],
        state: State::Returned(
            -1,
            Some(Box::new(State::Shipped {
                carrier: "post".into(),
                days: 200,
            })),
        ),
        labels: BTreeMap::from([("x".into(), i64::MIN), ("y".into(), 1)]),
        raw: vec![0, 1, 255],
        place: (52.5, -13.25),
        initial: 'ß',
    }
}

/// The reverse of [`escape_ascii`](slice::escape_ascii).
fn unescape(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'\\' => match rest.next().unwrap() {
                b'n' => b'\n',
                b'r' => b'\r',
                b't' => b'\t',
                b'x' => {
                    let digits: String = rest.by_ref().take(2).map(char::from).collect();
                    u8::from_str_radix(&digits, 16).unwrap()
                }
                escaped => escaped,
            },
            byte => byte,
        });
    }
    bytes
}
