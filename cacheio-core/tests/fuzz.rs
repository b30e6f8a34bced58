//! What is read from a server may be anything: it is a value or an error of kind `Decode`, never a
//! panic, and never takes much memory or time.

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

/// For each codec.
fn each(mut test: impl FnMut(&'static str, &Wire)) {
    WIRES.with(|wires| wires.iter().for_each(|(name, wire)| test(name, wire)));
}

/// Every format, and every compression of some.
fn wires() -> Vec<(&'static str, Wire)> {
    let compressed = |codec: Compressed| Wire::new(Arc::new(codec.above(0).at_most(1 << 20)));
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

/// Reads bytes as types of any size.
fn read_as_what_grows(wire: &Wire, bytes: &[u8]) {
    read::<String>(wire, bytes);
    read::<Vec<u8>>(wire, bytes);
    read::<Vec<()>>(wire, bytes);
    read::<Vec<Vec<String>>>(wire, bytes);
    read::<HashMap<String, Order>>(wire, bytes);
    read::<Tree>(wire, bytes);
    read::<Link>(wire, bytes);
    read::<serde_json::Value>(wire, bytes);
}

/// Reads bytes as all sorts of types.
fn read_as_anything(wire: &Wire, bytes: &[u8]) {
    read_as_what_grows(wire, bytes);
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
    fn anything_can_be_read(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        each(|_, wire| {
            read_as_anything(wire, &bytes);
        });
    }

    #[test]
    fn anything_behind_a_mark_can_be_read(
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
            read_as_anything(wire, &[mark, &bytes].concat());
        });
    }

    #[test]
    fn what_was_written_and_then_damaged_can_be_read(
        order in order(),
        damages in prop::collection::vec((any::<Index>(), any::<u8>()), 0..4),
        end in any::<Index>(),
    ) {
        each(|_, wire| {
            let mut bytes = wire.write(order.clone());
            read_as_anything(wire, &bytes[..end.index(bytes.len())]);
            for (at, byte) in &damages {
                let at = at.index(bytes.len());
                bytes[at] = *byte;
            }
            read_as_anything(wire, &bytes);
            read_as_anything(wire, &[&bytes[..], b"\0"].concat());
        });
    }

    #[test]
    fn what_was_written_is_read(order in order()) {
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
    fn what_is_cut_off_or_goes_on_is_no_value(order in order(), end in any::<Index>()) {
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

/// What may be claimed: some of these take gigabytes, or a stack of any depth, where it is believed.
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
            "MessagePack's greatest array",
            b"\xDD\xFF\xFF\xFF\xFF".to_vec(),
        ),
        (
            "MessagePack's greatest map",
            b"\xDF\xFF\xFF\xFF\xFF".to_vec(),
        ),
        (
            "MessagePack's greatest text",
            b"\xDB\xFF\xFF\xFF\xFF".to_vec(),
        ),
        (
            "MessagePack's greatest bytes",
            b"\xC6\xFF\xFF\xFF\xFF".to_vec(),
        ),
        (
            "MessagePack's greatest extension",
            b"\xC9\xFF\xFF\xFF\xFF\x01".to_vec(),
        ),
        (
            "MessagePack's arrays, great and deep",
            b"\xDC\xFF\xFF".repeat(DEEP),
        ),
        ("Postcard's options and variants", vec![1; DEEP]),
        ("Postcard's greatest length", varint(u64::MAX)),
        ("Postcard's great lengths", varint(GIB).repeat(DEEP)),
        (
            "Postcard's variants, great and deep",
            [&[1][..], &varint(100)].concat().repeat(DEEP),
        ),
    ];
    // 1 GiB of zeros; a lie about more than there is, and about less.
    let zeros = |length: u64, says: u64| {
        let blocks = length >> 17;
        let mut frame = b"\xC0\x01\x28\xB5\x2F\xFD\xE0".to_vec();
        frame.extend(says.to_le_bytes());
        for block in 1..=blocks {
            let header = (1_u32 << 17 << 3) | 1 << 1 | u32::from(block == blocks);
            frame.extend(&header.to_le_bytes()[..3]);
            frame.push(0);
        }
        frame
    };
    bombs.push(("Zstandard, 1 GiB", zeros(GIB, GIB)));
    bombs.push(("Zstandard, 1 GiB that says 1 MiB", zeros(GIB, 1 << 20)));
    bombs.push(("Zstandard, 1 MiB of zeros", zeros(1 << 20, 1 << 20)));
    bombs.push((
        "Zstandard, 128 kiB that says 1 MiB",
        zeros(1 << 17, 1 << 20),
    ));
    bombs.push(("Zstandard, nothing that says all", zeros(0, u64::MAX)));
    let zeros = |length: usize, says: u32| {
        let mut block = b"\xC0\x02".to_vec();
        block.extend(says.to_le_bytes());
        block.extend(b"\x1F\0\x01\0");
        block.extend(vec![255; length / 255]);
        block.extend(b"\0\x50\0\0\0\0\0");
        block
    };
    bombs.push(("LZ4, 1 GiB", zeros(1 << 30, 1 << 30)));
    bombs.push(("LZ4, 1 GiB that says 1 MiB", zeros(1 << 30, 1 << 20)));
    bombs.push(("LZ4, 1 kiB that says 1 MiB", zeros(1 << 10, 1 << 20)));
    bombs.push(("LZ4, nothing that says all", zeros(0, u32::MAX)));
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
fn what_claims_much_takes_little() {
    for (name, bomb) in bombs() {
        each(|codec, wire| {
            let begin = Instant::now();
            let allocated = allocation_counter::measure(|| read_as_what_grows(wire, &bomb));
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
fn a_chain_of_nothing_but_options_ends() {
    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    #[serde(transparent)]
    struct Chain(Option<Box<Chain>>);

    // In JSON, an option that is there adds no byte: such a type is none of JSON's.
    for codec in [Arc::new(Postcard) as Arc<dyn Codec>, Arc::new(MessagePack)] {
        let error = Wire::new(codec).read::<Chain>(&[1; 1000]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Decode);
    }
}

#[test]
fn a_value_larger_than_may_be_read_is_not_written() {
    let codec = Compressed::zstd(Json).at_most(2000);
    assert!(codec.encode(&"x".repeat(1990)).is_ok());
    let error = codec.encode(&"x".repeat(2000)).unwrap_err();
    assert!(error.to_string().contains("2002 bytes"), "{error}");
}

#[test]
fn a_deep_value_is_read_by_every_codec_alike() {
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
