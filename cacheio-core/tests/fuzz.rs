//! Any bytes from a server are read as a value or an error of kind `Decode`, without a panic and without
//! much memory or time.

mod server;

use std::collections::{BTreeMap, HashMap};
use std::fmt::Debug;
use std::sync::Arc;
use std::time::{Duration, Instant};

use cacheio_core::{Codec, Compressed, ErrorKind, Json, MessagePack, Postcard, Value};
use proptest::prelude::*;
use proptest::sample::Index;
use serde::{Deserialize, Serialize};
use server::{Item, Order, State, Wire};

thread_local! {
    static WIRES: Vec<(&'static str, Wire)> = wires();
}

/// Runs a test with each codec.
fn each(mut test: impl FnMut(&'static str, &Wire)) {
    WIRES.with(|wires| wires.iter().for_each(|(name, wire)| test(name, wire)));
}

/// Returns a cache for every format, and some with each compression.
fn wires() -> Vec<(&'static str, Wire)> {
    let compressed =
        |codec: Compressed| Wire::new(Arc::new(codec.above(0).max_decompressed(1 << 20)));
    vec![
        ("json", Wire::new(Arc::new(Json))),
        ("msgpack", Wire::new(Arc::new(MessagePack))),
        ("postcard", Wire::new(Arc::new(Postcard))),
        ("json+zstd", compressed(Compressed::zstd(Json))),
        ("postcard+zstd", compressed(Compressed::zstd(Postcard))),
        ("msgpack+lz4", compressed(Compressed::lz4(MessagePack))),
        ("postcard+lz4", compressed(Compressed::lz4(Postcard))),
    ]
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum Tree {
    Leaf,
    Node(Vec<Tree>),
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Link {
    next: Option<Box<Link>>,
}

fn read<V: Value<Stored = V>>(wire: &Wire, bytes: &[u8]) {
    if let Err(error) = wire.read::<V>(bytes) {
        assert_eq!(error.kind(), ErrorKind::Decode);
    }
}

/// Reads bytes as types without a limited size.
fn read_as_unbounded_types(wire: &Wire, bytes: &[u8]) {
    read::<String>(wire, bytes);
    read::<Vec<u8>>(wire, bytes);
    read::<Vec<()>>(wire, bytes);
    read::<Vec<Vec<String>>>(wire, bytes);
    read::<HashMap<String, Order>>(wire, bytes);
    read::<Tree>(wire, bytes);
    read::<Link>(wire, bytes);
    read::<serde_json::Value>(wire, bytes);
}

/// Reads bytes as many types.
fn read_as_many_types(wire: &Wire, bytes: &[u8]) {
    read_as_unbounded_types(wire, bytes);
    read::<()>(wire, bytes);
    read::<bool>(wire, bytes);
    read::<i64>(wire, bytes);
    read::<u128>(wire, bytes);
    read::<f32>(wire, bytes);
    read::<char>(wire, bytes);
    read::<Option<String>>(wire, bytes);
    read::<(u8, Option<i16>, [u64; 3])>(wire, bytes);
    read::<State>(wire, bytes);
    read::<Order>(wire, bytes);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes_can_be_read(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        each(|_, wire| {
            read_as_many_types(wire, &bytes);
        });
    }

    #[test]
    fn any_bytes_after_a_mark_can_be_read(
        mark in prop::sample::select(vec![
            &b"\xC0\x00"[..],
            b"\xC0\x01",
            b"\xC0\x01\x28\xB5\x2F\xFD",
            b"\xC0\x01\x28\xB5\x2F\xFD\x20\x40",
            b"\xC0\x02",
            b"\xC0\x02\x40\x00\x00\x00",
            b"\xC1\x01\x00\x00",
            b"\xC1\x01\x12\x00\x01\x10\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF",
            b"\xC1",
            b"\xC1\x01",
        ]),
        bytes in prop::collection::vec(any::<u8>(), 0..100),
    ) {
        each(|_, wire| {
            read_as_many_types(wire, &[mark, &bytes].concat());
        });
    }

    #[test]
    fn damaged_values_can_be_read(
        order in order(),
        damages in prop::collection::vec((any::<Index>(), any::<u8>()), 0..4),
        end in any::<Index>(),
    ) {
        each(|_, wire| {
            let mut bytes = wire.write(order.clone());
            read_as_many_types(wire, &bytes[..end.index(bytes.len())]);
            for (at, byte) in &damages {
                let at = at.index(bytes.len());
                bytes[at] = *byte;
            }
            read_as_many_types(wire, &bytes);
            read_as_many_types(wire, &[&bytes[..], b"\0"].concat());
        });
    }

    #[test]
    fn written_values_are_read(order in order()) {
        fn round_trip<V: Value<Stored = V> + PartialEq + Debug>(wire: &Wire, value: &V) {
            let bytes = wire.write(value.clone());
            assert_eq!(&*wire.read::<V>(&bytes).unwrap(), value);
        }
        each(|_, wire| {
            round_trip(wire, &order);
            round_trip(wire, &vec![Some(order.state.clone()), None]);
            round_trip(wire, &(order.customer.clone(), order.initial));
            round_trip(wire, &order.customer);
            round_trip(wire, &order.raw);
            round_trip(wire, &order.place);
            round_trip(wire, &order.id);
        });
    }

    #[test]
    fn truncated_values_and_extra_bytes_are_errors(order in order(), end in any::<Index>()) {
        each(|name, wire| {
            let bytes = wire.write(order.clone());
            let cut = &bytes[..end.index(bytes.len())];
            assert!(wire.read::<Order>(cut).is_err(), "{}", name);
            let more = [&bytes[..], b"x"].concat();
            assert!(wire.read::<Order>(&more).is_err(), "{}", name);
        });
    }
}

fn order() -> impl Strategy<Value = Order> {
    let state = prop_oneof![
        Just(State::Open),
        ".{0,20}".prop_map(State::Reason),
        (".{0,20}", any::<u8>()).prop_map(|(carrier, days)| State::Shipped { carrier, days }),
    ];
    let state = state.prop_recursive(3, 4, 1, |state| {
        (any::<i16>(), prop::option::of(state))
            .prop_map(|(code, state)| State::Returned(code, state.map(Box::new)))
    });
    let item = (".{0,20}", any::<f64>(), any::<i32>(), any::<Option<u8>>()).prop_map(
        |(sku, price, quantity, discount)| Item {
            sku,
            price,
            quantity,
            discount,
        },
    );
    (
        (
            any::<u64>(),
            ".{0,100}",
            any::<bool>(),
            any::<Option<String>>(),
        ),
        prop::collection::vec(item, 0..4),
        state,
        prop::collection::btree_map(".{0,5}", any::<i64>(), 0..3),
        prop::collection::vec(any::<u8>(), 0..50),
        (any::<f64>(), any::<f32>()),
        any::<char>(),
    )
        .prop_map(
            |((id, customer, paid, note), items, state, labels, raw, place, initial)| Order {
                id,
                customer,
                paid,
                note,
                items,
                state,
                labels: BTreeMap::from_iter(labels),
                raw,
                place,
                initial,
            },
        )
}

/// Returns bytes that claim a large size or depth. A decoder that trusts them allocates gigabytes or
/// overflows the stack.
fn bombs() -> Vec<(&'static str, Vec<u8>)> {
    const DEEP: usize = 100_000;
    const GIB: u64 = 1 << 30;
    let mut bombs = vec![
        ("JSON arrays", vec![b'['; DEEP]),
        ("JSON maps", b"{\"next\":".repeat(DEEP)),
        ("JSON variants", b"{\"Node\":[".repeat(DEEP)),
        ("MessagePack arrays", vec![0x91; DEEP]),
        ("MessagePack maps", b"\x81\xA4next".repeat(DEEP)),
        ("MessagePack variants", b"\x81\xA4Node\x91".repeat(DEEP)),
        (
            "MessagePack, largest array",
            b"\xDD\xFF\xFF\xFF\xFF".to_vec(),
        ),
        ("MessagePack, largest map", b"\xDF\xFF\xFF\xFF\xFF".to_vec()),
        (
            "MessagePack, largest text",
            b"\xDB\xFF\xFF\xFF\xFF".to_vec(),
        ),
        (
            "MessagePack, largest bytes",
            b"\xC6\xFF\xFF\xFF\xFF".to_vec(),
        ),
        (
            "MessagePack, largest extension",
            b"\xC9\xFF\xFF\xFF\xFF\x01".to_vec(),
        ),
        (
            "MessagePack, large and deep arrays",
            b"\xDC\xFF\xFF".repeat(DEEP),
        ),
        ("Postcard, options and variants", vec![1; DEEP]),
        ("Postcard, largest length", varint(u64::MAX)),
        ("Postcard, large lengths", varint(GIB).repeat(DEEP)),
        (
            "Postcard, large and deep variants",
            [&[1][..], &varint(100)].concat().repeat(DEEP),
        ),
    ];
    // 1 GiB of zeros, with a true length and with lengths that are too small and too large.
    let zeros = |length: u64, claims: u64| {
        let blocks = length >> 17;
        let mut frame = b"\xC0\x01\x28\xB5\x2F\xFD\xE0".to_vec();
        frame.extend(claims.to_le_bytes());
        for block in 1..=blocks {
            let header = (1_u32 << 17 << 3) | 1 << 1 | u32::from(block == blocks);
            frame.extend(&header.to_le_bytes()[..3]);
            frame.push(0);
        }
        frame
    };
    bombs.push(("Zstandard, 1 GiB", zeros(GIB, GIB)));
    bombs.push(("Zstandard, 1 GiB that claims 1 MiB", zeros(GIB, 1 << 20)));
    bombs.push(("Zstandard, 1 MiB of zeros", zeros(1 << 20, 1 << 20)));
    bombs.push((
        "Zstandard, 128 kiB that claims 1 MiB",
        zeros(1 << 17, 1 << 20),
    ));
    bombs.push((
        "Zstandard, no content that claims the maximum",
        zeros(0, u64::MAX),
    ));
    let zeros = |length: usize, claims: u32| {
        let mut block = b"\xC0\x02".to_vec();
        block.extend(claims.to_le_bytes());
        block.extend(b"\x1F\0\x01\0");
        block.extend(vec![255; length / 255]);
        block.extend(b"\0\x50\0\0\0\0\0");
        block
    };
    bombs.push(("LZ4, 1 GiB", zeros(1 << 30, 1 << 30)));
    bombs.push(("LZ4, 1 GiB that claims 1 MiB", zeros(1 << 30, 1 << 20)));
    bombs.push(("LZ4, 1 kiB that claims 1 MiB", zeros(1 << 10, 1 << 20)));
    bombs.push((
        "LZ4, no content that claims the maximum",
        zeros(0, u32::MAX),
    ));
    bombs
}

fn varint(mut number: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    while number > 127 {
        bytes.push(number as u8 | 128);
        number >>= 7;
    }
    bytes.push(number as u8);
    bytes
}

#[test]
fn large_claims_take_little_memory_and_time() {
    for (name, bomb) in bombs() {
        each(|codec, wire| {
            let begin = Instant::now();
            let allocated = allocation_counter::measure(|| read_as_unbounded_types(wire, &bomb));
            let took = begin.elapsed();
            assert!(
                took < Duration::from_secs(10),
                "{name} by {codec} took {took:?}"
            );
            let most = (4 << 20) + 4 * bomb.len() as u64;
            assert!(
                allocated.bytes_max < most,
                "{name} by {codec} took {allocated:?}"
            );
        });
    }
}

#[test]
fn a_type_of_nested_options_is_an_error() {
    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    #[serde(transparent)]
    struct Chain(Option<Box<Chain>>);

    // Not JSON: there `Some` takes no bytes, so that this type cannot be written.
    for codec in [Arc::new(Postcard) as Arc<dyn Codec>, Arc::new(MessagePack)] {
        let error = Wire::new(codec).read::<Chain>(&[1; 1000]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Decode);
    }
}

#[test]
fn a_value_that_is_too_large_to_read_is_not_written() {
    let codec = Compressed::zstd(Json).max_decompressed(2000);
    assert!(codec.encode(&"x".repeat(1990)).is_ok());
    let error = codec.encode(&"x".repeat(2000)).unwrap_err();
    assert!(error.to_string().contains("2002 bytes"), "{error}");
}

#[test]
fn a_deep_value_is_read_with_every_codec() {
    each(|_, wire| {
        let mut link = Link { next: None };
        for _ in 0..60 {
            link = Link {
                next: Some(Box::new(link)),
            };
        }
        let bytes = wire.write(link.clone());
        assert_eq!(*wire.read::<Link>(&bytes).unwrap(), link);
    });
}
