//! Commands of the program other than `run`.
