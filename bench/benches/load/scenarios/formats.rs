//! Loads in other formats than lines of OTLP/JSON: access logs, and OTLP as calls of gRPC.

use super::super::batch::Shape;
use super::super::contest::Effort;
use super::{BATCH, LINES, Outcome, SINGLE, flat_out, relay};

/// Compares lines of access logs with canonical lines, in the same relay.
pub(super) fn access_logs(effort: Effort, outcome: &mut Outcome) {
    const ENABLED: &str = "receivers.fastly.access_logs.preset=auto";
    for (delivery, settings) in [("single", SINGLE), ("batch", BATCH)] {
        let settings = [settings, &[ENABLED]].concat();
        let of = |name, shape| relay(name, &settings, flat_out(effort, shape, LINES, 4));
        let columns = effort.contest(vec![
            of("spanrelay, Fastly's JSON", Shape::AccessJson),
            of("spanrelay, NCSA combined", Shape::AccessNcsa),
            of("spanrelay, canonical lines", Shape::Canonical),
        ]);
        outcome.show(&format!("access logs: {delivery}, batches of 1000 lines, `as: logs`"), &columns);
        for (column, what) in columns.iter().zip(["Fastly's JSON", "NCSA combined"]) {
            let measure = format!("access logs, {what}, {delivery}: CPU per line against a canonical line");
            outcome.at_most(&measure, 2.0, column, &columns[2]);
        }
    }
}

/// Compares gRPC with protobuf by HTTP/1.1, on each side of the relay.
pub(super) fn grpc(effort: Effort, outcome: &mut Outcome) {
    for (spans, connections, delivery) in [(1, 32, "single"), (100, 4, "batch"), (LINES, 4, "batch")] {
        let http =
            [&*format!("exporters.otlp_http.delivery={delivery}"), "exporters.otlp_http.encoding=protobuf"];
        let grpc = [&*format!("exporters.otlp_grpc.delivery={delivery}")];
        let of = |shape| flat_out(effort, shape, spans, connections);
        let columns = effort.contest(vec![
            relay("spanrelay, gRPC in and out", &grpc, of(Shape::OtlpGrpc)),
            relay("spanrelay, gRPC in", &http, of(Shape::OtlpGrpc)),
            relay("spanrelay, gRPC out", &grpc, of(Shape::OtlpProtobuf)),
            relay("spanrelay, HTTP/protobuf", &http, of(Shape::OtlpProtobuf)),
        ]);
        let spans = if spans == 1 { "one span".to_owned() } else { format!("{spans} spans") };
        outcome.show(&format!("gRPC: {delivery}, OTLP in requests of {spans}"), &columns);
        for (column, what) in columns.iter().zip(["in and out", "in", "out"]) {
            let measure =
                format!("gRPC {what}, {delivery}, requests of {spans}: CPU per span against HTTP/protobuf");
            outcome.at_most(&measure, 1.0, column, &columns[3]);
        }
    }
}
