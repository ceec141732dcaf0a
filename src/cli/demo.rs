//! `spanrelay demo`.
