//! Fastly log batches.
