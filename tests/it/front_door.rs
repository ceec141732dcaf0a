//! Section 3 of the contract: routes, statuses, bodies.

use std::io::Write;

use super::harness::{Answer, Ask, Gate, House, Relay, Collector, in_time, names, request_of, span};
use tokio::io::AsyncReadExt;

const CHALLENGE: &str = "/.well-known/fastly/logging/challenge";

#[tokio::test]
async fn challenge_lists_the_digest_of_every_service_id_and_a_star() {
    let house = House::open("receivers.fastly.service_ids: [\"abc\", \"*\"]").await;
    let reply = house.ask(Ask::get(CHALLENGE)).await;
    assert_eq!(reply.status, 200);
    assert_eq!(reply.text(), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad\n*\n");
    house.close().await;
}
