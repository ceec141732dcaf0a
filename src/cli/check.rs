//! `spanrelay check`.
