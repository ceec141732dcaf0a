//! What the fuzz targets and the benchmarks may reach of the modules inside, as functions over bytes.
//!
//! Only with the feature `internals`, which no release is built with, and in the crate's own tests. Nothing here is a
//! promise: it changes with what it reaches.

pub mod bench;
pub mod fuzz;
#[cfg(test)]
pub(crate) mod random;
