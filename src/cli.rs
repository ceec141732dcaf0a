//! Commands of the program other than `run`.

pub(crate) mod check;
pub(crate) mod demo;

mod waterfall;
