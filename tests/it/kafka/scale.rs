//! Length of the scenarios: short ones in every run of the tests, long ones by request.

/// Environment variable that makes the scenarios as long and as hard as docs/kafka.md says.
const LONG: &str = "SPANRELAY_KAFKA_LONG";

/// Returns the first value in a short scenario, and the second in a long one.
pub(super) fn either<T>(short: T, long: T) -> T {
    if std::env::var_os(LONG).is_some() { long } else { short }
}
