//! How properties are tried: with the same cases in every run, so that one who changed nothing sees nothing fail.
//! `OOMPH_TEST_FULL=1` tries other cases each time.

use proptest::prelude::ProptestConfig;
use proptest::test_runner::RngSeed;

/// Whether the long and random search is wanted.
pub fn full() -> bool {
    std::env::var_os("OOMPH_TEST_FULL").is_some()
}

/// `cases` tries of a property.
pub fn config(cases: u32) -> ProptestConfig {
    let rng_seed = if full() { RngSeed::Random } else { RngSeed::Fixed(20_261_127) };
    ProptestConfig { cases, rng_seed, ..ProptestConfig::default() }
}
