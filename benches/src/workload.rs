//! Keys, and the order in which a pass reads them.

use rand::SeedableRng;
use rand::distr::Distribution;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand_distr::Zipf;

/// Keys and a zipf-distributed order of accesses to them.
#[derive(Debug)]
pub struct Workload {
    /// Keys of 20 bytes, each once.
    pub keys: Vec<String>,
    present: Vec<String>,
    absent: Vec<String>,
    /// The indices of the accesses in `present` and `absent`.
    order: Vec<u32>,
}

/// Where in memory a pass finds the text of the keys that it reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// Each key is stored once, so that most accesses read a key from a random place, as a program
    /// does that gets its keys from a large data structure.
    Shuffled,
    /// Each access has its own copy of the key, in the order of the accesses: reading the keys
    /// costs no cache miss, as in a program that has just parsed a request.
    Sequential,
}

impl Workload {
    /// The number of accesses of a pass.
    pub const ACCESSES: usize = 200_000;

    /// Makes a workload over `keys` keys.
    pub fn new(keys: u32, layout: Layout) -> Self {
        let mut random = StdRng::seed_from_u64(42);
        let mut rank: Vec<u32> = (0..keys).collect();
        rank.shuffle(&mut random);
        let zipf = Zipf::new(f64::from(keys), 0.99).expect("a valid exponent");
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        let accesses: Vec<u32> = (0..Self::ACCESSES)
            .map(|_| rank[zipf.sample(&mut random) as usize - 1])
            .collect();
        let (texts, order) = match layout {
            Layout::Shuffled => ((0..keys).collect(), accesses),
            #[allow(clippy::cast_possible_truncation)]
            Layout::Sequential => (accesses, (0..Self::ACCESSES as u32).collect()),
        };
        let present = |key: &u32| format!("user:profile:{key:07}");
        let absent = |key: &u32| format!("user:missing:{key:07}");
        Self {
            keys: (0..keys).map(|key| present(&key)).collect(),
            present: texts.iter().map(present).collect(),
            absent: texts.iter().map(absent).collect(),
            order,
        }
    }

    /// Returns a capacity that holds all keys, whatever a cache does with its shards.
    pub fn capacity(&self) -> u64 {
        self.keys.len() as u64 * 2
    }

    /// Returns the accesses, all to keys of the workload; each thread begins at another place.
    pub fn hits(&self, thread: usize) -> impl Iterator<Item = &str> {
        self.accesses(&self.present, thread)
    }

    /// Returns as many accesses to keys that no cache has.
    pub fn misses(&self, thread: usize) -> impl Iterator<Item = &str> {
        self.accesses(&self.absent, thread)
    }

    fn accesses<'a>(&'a self, texts: &'a [String], thread: usize) -> impl Iterator<Item = &'a str> {
        let (late, early) = self.order.split_at(thread * 7919 % self.order.len());
        early
            .iter()
            .chain(late)
            .map(|&at| texts[at as usize].as_str())
    }
}
