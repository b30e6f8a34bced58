//! Different keys make different texts, and any text is made legal.

#![cfg(not(shuttle))]

use cacheio_core::{CacheKey, KeyRule, key_text};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

/// Text of what could be mistaken for a join, an escape, or a missing value.
fn nasty() -> impl Strategy<Value = String> {
    let part = prop_oneof![
        "[:%()\\[\\]# \r\n\t_a0]{0,6}",
        Just(String::from("%none")),
        Just(String::from("none")),
        Just(String::from("%3A")),
        Just(String::from("()")),
        Just(String::from("[]")),
        "[ä🦀\u{0}\u{7f}\u{a0}:%]{0,4}",
        Just("x".repeat(300)),
    ];
    prop_oneof![4 => part.clone(), 1 => (part.clone(), part).prop_map(|(a, b)| a + &b)]
}

fn differ<K: CacheKey + PartialEq + std::fmt::Debug>(one: &K, two: &K) -> Result<(), TestCaseError> {
    prop_assert_eq!(one == two, key_text(one) == key_text(two), "{:?} and {:?}", key_text(one), key_text(two));
    // Inside of another tuple too.
    prop_assert_eq!(one == two, key_text((1, one, 2)) == key_text((1, two, 2)));
    Ok(())
}

const WIRE: KeyRule = KeyRule::Wire { max: 250 };

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 2_000, ..ProptestConfig::default() })]

    #[test]
    fn different_pairs_are_different_keys(one in (nasty(), nasty()), two in (nasty(), nasty())) {
        differ(&one, &two)?;
    }

    #[test]
    fn different_nested_tuples_are_different_keys(
        one in ((nasty(), nasty()), nasty(), (nasty(),)),
        two in ((nasty(), nasty()), nasty(), (nasty(),)),
    ) {
        differ(&one, &two)?;
    }

    #[test]
    fn different_options_are_different_keys(
        one in (option::of(nasty()), option::of(nasty())),
        two in (option::of(nasty()), option::of(nasty())),
    ) {
        differ(&one, &two)?;
    }

    #[test]
    fn different_lists_are_different_keys(one in (vec(nasty(), 0..4), nasty()), two in (vec(nasty(), 0..4), nasty())) {
        differ(&one, &two)?;
    }

    #[test]
    fn different_lists_of_lists_are_different_keys(
        one in vec(vec(option::of(nasty()), 0..3), 0..3),
        two in vec(vec(option::of(nasty()), 0..3), 0..3),
    ) {
        differ(&one, &two)?;
    }

    #[test]
    fn a_pair_is_no_triple(one in (nasty(), nasty()), two in (nasty(), nasty(), nasty())) {
        prop_assert_ne!(key_text(&one), key_text(&two));
        prop_assert_ne!(key_text((0, &one)), key_text((0, &two)));
        let nested = ((two.0.clone(), two.1.clone()), two.2.clone());
        prop_assert_ne!(key_text(&two), key_text(nested));
    }

    #[test]
    fn any_text_is_made_legal(text in nasty(), more in ".{0,300}") {
        for text in [text.clone(), more.clone(), format!("{text}{more}")] {
            let legal = WIRE.legal(&text);
            prop_assert!((1..=250).contains(&legal.len()));
            prop_assert!(!legal.chars().any(|c| c == ' ' || c.is_ascii_control()), "{legal:?}");
            // Replaced once more, it is another's: nobody names what it stands for.
            if legal != text {
                prop_assert_ne!(WIRE.legal(&legal), legal.clone());
            }
            prop_assert_eq!(WIRE.legal(&text), legal, "it is the same each time");
            prop_assert_eq!(KeyRule::Any.legal(&text), text.as_str());
        }
    }

    #[test]
    fn different_texts_stay_different(one in nasty(), two in nasty(), max in 64_usize..300) {
        let rule = KeyRule::Wire { max };
        prop_assert_eq!(one == two, rule.legal(&one) == rule.legal(&two));
        prop_assert!(rule.legal(&one).len() <= max);
    }
}

#[test]
fn an_option_of_an_option_tells_its_nones_apart() {
    assert_ne!(key_text((None::<Option<u8>>, 1)), key_text((Some(None::<u8>), 1)));
}

#[test]
fn an_empty_list_is_no_list_of_an_empty_text() {
    assert_ne!(key_text(Vec::<String>::new()), key_text(vec![String::new()]));
    assert_ne!(key_text((Vec::<String>::new(), 1)), key_text((vec![String::new()], 1)));
}

#[test]
fn no_value_is_no_text() {
    assert_ne!(key_text(None::<&str>), key_text(Some("%none")));
    assert_ne!(key_text((None::<&str>, 1)), key_text((Some("%none"), 1)));
    assert_ne!(key_text((None::<&str>, 1)), key_text((Some("none"), 1)));
}

#[test]
fn what_is_legal_stays_as_it_is() {
    for text in ["user:42", "a", "%3A", "#", "ünï:🦀", &"x".repeat(250)] {
        assert_eq!(WIRE.legal(text), text);
    }
}
