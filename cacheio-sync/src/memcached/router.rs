//! Which server holds a key.
//!
//! All processes that share the servers must agree on it, whatever their platform, their Rust, and
//! their version of this crate: the hash is as fixed as the bytes of an entry.

/// Rendezvous hashing: each server has a score for a key, and the highest one wins.
pub(super) struct Router {
    /// The hash of each server's address.
    servers: Vec<u64>,
}

impl Router {
    pub(super) fn new<'a>(addresses: impl IntoIterator<Item = &'a str>) -> Self {
        Self {
            servers: addresses.into_iter().map(fnv1a).collect(),
        }
    }

    /// Returns the index of the server that holds a key.
    pub(super) fn route(&self, key: &str) -> usize {
        if self.servers.len() == 1 {
            return 0;
        }
        let key = fnv1a(key);
        let scores = self.servers.iter().map(|server| mix(key ^ server));
        let best = scores.enumerate().max_by_key(|(_, score)| *score);
        best.map_or(0, |(index, _)| index)
    }
}

/// FNV-1a with 64 bits.
fn fnv1a(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

/// The finalizer of `SplitMix64`: each bit of the input changes half of the bits of the output.
fn mix(mut x: u64) -> u64 {
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SERVERS: [&str; 4] = [
        "10.0.0.1:11211",
        "10.0.0.2:11211",
        "[::1]:11211",
        "cache:11211",
    ];

    /// A change of these values sends the keys of running clients to other servers.
    #[test]
    fn keys_stay_on_their_servers() {
        assert_eq!(fnv1a(""), 0xcbf2_9ce4_8422_2325);
        assert_eq!(fnv1a("foobar"), 0x8594_4171_f739_67e8);
        assert_eq!(mix(0x9e37_79b9_7f4a_7c15), 0xe220_a839_7b1d_cdaf);
        let router = Router::new(SERVERS);
        let routes: Vec<usize> = (0..16)
            .map(|id| router.route(&format!("shop:user:{id}")))
            .collect();
        assert_eq!(routes, [3, 1, 1, 2, 1, 1, 3, 1, 0, 2, 0, 0, 3, 2, 2, 3]);
        assert_eq!(router.route("ключ"), 3);
    }

    #[test]
    fn keys_are_spread_evenly() {
        let router = Router::new(SERVERS);
        let mut counts = [0; 4];
        for id in 0..4_000 {
            counts[router.route(&format!("user:{id}"))] += 1;
        }
        assert!(
            counts.iter().all(|count| (900..1_100).contains(count)),
            "{counts:?}"
        );
    }

    #[test]
    fn only_the_keys_of_a_removed_server_move_and_the_order_does_not_matter() {
        let four = Router::new(SERVERS);
        let rest = ["cache:11211", "10.0.0.1:11211", "[::1]:11211"];
        let three = Router::new(rest);
        for id in 0..4_000 {
            let key = format!("user:{id}");
            let before = SERVERS[four.route(&key)];
            let after = rest[three.route(&key)];
            assert!(before == after || before == "10.0.0.2:11211", "{key}");
        }
    }
}
