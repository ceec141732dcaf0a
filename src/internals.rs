//! Entry points of the fuzz targets and the benchmarks into internal modules, as functions over bytes.
//!
//! Available only with the feature `internals`, which no release enables, and in the crate's own tests. This is not a
//! stable interface: it changes with the modules that it calls.

pub mod bench;
pub mod fuzz;
#[cfg(test)]
pub(crate) mod random;
