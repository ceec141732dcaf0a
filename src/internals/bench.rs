//! Entry points of the benchmarks.
