//! Keys, and the order in which they are asked for.

use rand::SeedableRng;
use rand::distr::Distribution;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand_distr::Zipf;

/// Some keys, and a zipf-distributed order in which to ask for them.
#[derive(Debug)]
pub struct Workload {
    /// Keys of 20 bytes.
    pub keys: Vec<String>,
    /// Keys of 20 bytes that no cache has.
    pub absent: Vec<String>,
    order: Vec<u32>,
}

impl Workload {
    /// How many accesses a pass has.
    pub const ACCESSES: usize = 200_000;

    /// A workload over so many keys.
    pub fn new(keys: u32) -> Self {
        let mut random = StdRng::seed_from_u64(42);
        let mut rank: Vec<u32> = (0..keys).collect();
        rank.shuffle(&mut random);
        let zipf = Zipf::new(f64::from(keys), 0.99).expect("a valid exponent");
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        let order = (0..Self::ACCESSES)
            .map(|_| rank[zipf.sample(&mut random) as usize - 1])
            .collect();
        Self {
            keys: (0..keys).map(|i| format!("user:profile:{i:07}")).collect(),
            absent: (0..keys).map(|i| format!("nobody:there:{i:07}")).collect(),
            order,
        }
    }

    /// The keys in their order; `start` lets threads begin at different places.
    pub fn accesses<'a>(
        &'a self,
        keys: &'a [String],
        start: usize,
    ) -> impl Iterator<Item = &'a str> {
        let (late, early) = self.order.split_at(start % self.order.len());
        early
            .iter()
            .chain(late)
            .map(|&key| keys[key as usize].as_str())
    }
}
