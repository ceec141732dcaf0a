//! Bodies in which access logs are expected: OTLP in them is read as ever, and everything is read again the same way.

use bytes::Bytes;

use super::forwarded::{Forwarded, check_reading};
use super::line::fastly_of;
use crate::event::KeptHeaders;
use crate::receiver::Receiver;
use crate::receiver::fastly::{AccessLogForm, AccessLogsConfig};

/// Any bytes.
pub fn access_log(input: &[u8]) {
    let body = Bytes::copy_from_slice(input);
    let plain = check_reading(&body, &fastly_of(true, None).read(&body));
    for form in [AccessLogForm::Logs, AccessLogForm::Spans, AccessLogForm::Both] {
        let config = AccessLogsConfig { r#as: form, ..AccessLogsConfig::default() };
        let receiver = fastly_of(true, Some(config));
        let all = check_reading(&body, &receiver.read(&body));
        let mut rest = all.iter();
        for item in &plain {
            assert!(rest.any(|other| says(other) == says(item)), "OTLP is not read as without access logs");
        }
        let again = fastly_of(false, None).read_as(&body, &receiver.parameters(), &KeptHeaders::default());
        assert_eq!(all.len(), again.items.len(), "the parameters do not tell how a body was read");
    }
}

fn says(item: &[Forwarded]) -> Vec<String> {
    item.iter().map(|forwarded| format!("{:?}", forwarded.says)).collect()
}
