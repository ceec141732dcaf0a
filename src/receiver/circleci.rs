//! CircleCI webhooks.
