//! Bodies in which access logs are expected: OTLP in them is read as ever, and everything is read again the same way.

use bytes::Bytes;
use spanrelay::internals::KeptHeaders;

use super::forwarded::{Forwarded, check_reading};
use super::receivers::fastly;

/// Any bytes.
pub fn access_log(input: &[u8]) {
    let body = Bytes::copy_from_slice(input);
    let plain = check_reading(&body, &fastly("").read(&body));
    for form in ["logs", "spans", "both"] {
        let receiver = fastly(&format!("access_logs: {{as: {form}}}"));
        let all = check_reading(&body, &receiver.read(&body));
        let mut rest = all.iter();
        for item in &plain {
            assert!(rest.any(|other| says(other) == says(item)), "OTLP is not read as without access logs");
        }
        let again = fastly("repair: false").read_as(&body, &receiver.parameters(), &KeptHeaders::default());
        assert_eq!(all.len(), again.items.len(), "the parameters do not tell how a body was read");
    }
}

fn says(item: &[Forwarded]) -> Vec<String> {
    item.iter().map(|forwarded| format!("{:?}", forwarded.says)).collect()
}
