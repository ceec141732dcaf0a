//! Spans and their log events meet whichever fronts accepted them.

use super::broker::shared;
use super::fleet::{Complete, Fleet, assigned, delivered, event_of, post, span_of, stopped};
use crate::harness::{Collector, any_moment_within};
use std::time::Duration;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_and_spans_that_came_to_different_fronts_meet_in_either_order() {
    let Some(brokers) = shared("events_and_spans_that_came_to_different_fronts").await else { return };
    let collector = Collector::start([]).await;
    // Much longer than they are apart, so that a busy machine does not part them.
    let fleet = Fleet::new(brokers, &collector, "processors.span_events.wait: 10s").await;
    let fronts = [fleet.start("front").await, fleet.start("front").await];
    let workers = [fleet.start("worker").await, fleet.start("worker").await];
    assigned(&[&workers[0], &workers[1]]).await;
    const TRACES: u64 = 120;
    let (early, late): (Vec<u64>, Vec<u64>) = (1..=TRACES).partition(|number| number % 2 == 0);
    for begin in (0..early.len()).step_by(20) {
        let [early, late] = [&early, &late].map(|numbers| &numbers[begin..begin + 20]);
        // Of some the span comes first, of the others the event.
        post(&fronts[0], &early.iter().map(|number| span_of(*number)).collect::<Vec<_>>()).await;
        post(&fronts[0], &late.iter().map(|number| event_of(*number)).collect::<Vec<_>>()).await;
        let is_last = begin + 20 >= early.len();
        any_moment_within(Duration::from_millis(if is_last { 2000 } else { 500 })).await;
        post(&fronts[1], &early.iter().map(|number| event_of(*number)).collect::<Vec<_>>()).await;
        post(&fronts[1], &late.iter().map(|number| span_of(*number)).collect::<Vec<_>>()).await;
    }
    let mut names = delivered(&collector, TRACES as usize).await;
    names.sort();
    let mut expected: Vec<(String, String)> = (1..=TRACES)
        .map(|number| ("/v1/traces".to_owned(), format!("span-{number}: event-{number}")))
        .collect();
    expected.sort();
    assert_eq!(names, expected);
    let relays = [&fronts[0], &fronts[1], &workers[0], &workers[1]];
    assert_eq!(fleet.is_balanced(&relays, Complete::BOTH).await as u64, 2 * TRACES);
    stopped([fronts, workers].into_iter().flatten().collect()).await;
    collector.finish();
}
