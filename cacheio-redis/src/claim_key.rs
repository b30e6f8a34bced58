//! The keys of claims.

use std::sync::LazyLock;

use crate::slots::{SLOTS, crc16, crc16_from, slot};

/// Ends the key of which the rest is a claim. No key of a user contains it.
const MARK: u8 = 1;
/// How many characters follow the mark in a cluster.
const SUFFIX: usize = 3;

/// Returns the key of the claims on `key`: it begins with `key`, as permissions, patterns and `clear` demand.
pub(crate) fn claim_key(key: &str) -> String {
    let mut claim = String::with_capacity(key.len() + 1 + SUFFIX);
    claim.push_str(key);
    claim.push(char::from(MARK));
    claim
}

/// Does the same for a cluster, where both keys must be in one slot.
pub(crate) fn claim_key_in_slot(key: &str) -> String {
    claim_key_at(key, slot(key.as_bytes()))
}

/// Returns a key of the form of a claim in a slot, unless the key has a tag for another slot.
pub(crate) fn claim_key_at(key: &str, slot: u16) -> String {
    let mut claim = claim_key(key);
    // CRC-16 is linear: the suffix is chosen by what it has to add.
    let without = crc16_from(crc16(claim.as_bytes()), &[0; SUFFIX]) % SLOTS;
    let suffix = SUFFIXES[usize::from(slot ^ without)];
    claim.extend(suffix.map(char::from));
    claim
}

/// Returns whether a key is that of a claim.
pub(crate) fn is_claim_key(key: &[u8]) -> bool {
    let at = |from_end| key.len().checked_sub(from_end).map(|at| key[at]);
    at(1) == Some(MARK) || at(1 + SUFFIX) == Some(MARK)
}

/// Returns the key on which a key is a claim, if it is one.
pub(crate) fn claimed_key(key: &str) -> Option<&str> {
    let (claimed, _) = key.rsplit_once(char::from(MARK))?;
    is_claim_key(key.as_bytes()).then_some(claimed)
}

/// For each slot, characters that are in it.
static SUFFIXES: LazyLock<Vec<[u8; SUFFIX]>> = LazyLock::new(|| {
    const ALPHABET: &[u8; 64] = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_";
    let mut suffixes = vec![[0; SUFFIX]; usize::from(SLOTS)];
    for first in ALPHABET {
        for second in ALPHABET {
            for third in ALPHABET {
                let suffix = [*first, *second, *third];
                suffixes[usize::from(crc16(&suffix) % SLOTS)] = suffix;
            }
        }
    }
    suffixes
});

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_claim_is_in_the_slot_of_its_key() {
        assert!(
            SUFFIXES.iter().all(|suffix| suffix[0] != 0),
            "all slots have one"
        );
        for number in 0..5_000 {
            let digits = format!("{number:x}");
            for key in [
                format!("shop:{digits}"),
                format!("shop:{{{digits}}}:x"),
                format!("shop:{{}}{digits}{{"),
                format!("}}{digits}{{a}}{{b}}"),
                format!("{{{digits}"),
            ] {
                let claim = claim_key_in_slot(&key);
                assert_eq!(slot(claim.as_bytes()), slot(key.as_bytes()), "{key}");
                assert!(claim.starts_with(&key) && is_claim_key(claim.as_bytes()));
                assert!(is_claim_key(claim_key(&key).as_bytes()));
                assert!(!is_claim_key(key.as_bytes()));
                assert_eq!(claimed_key(&claim), Some(&*key));
                assert_eq!(claimed_key(&key), None);
            }
        }
        assert!(!is_claim_key(b"") && !is_claim_key(b"a"));
    }
}
