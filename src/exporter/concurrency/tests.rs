use std::ops::RangeInclusive;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures_util::FutureExt;
use proptest::prelude::*;
use tokio::task::JoinSet;

use super::*;

const SECOND: Duration = Duration::from_secs(1);

fn concurrency(max: usize) -> [Arc<Concurrency>; Signal::ALL.len()] {
    Concurrency::for_all_signals(max, &Metrics::new())
}

fn traces(max: usize) -> Arc<Concurrency> {
    concurrency(max).into_iter().next().unwrap()
}

impl Concurrency {
    fn limit(&self) -> usize {
        self.book().level.limit
    }
}

/// How an attempt ends, and after how long, by how many are on the wire.
type Answer = fn(usize) -> (Meaning, Duration);

/// A downstream that is never short of requests.
struct Downstream {
    concurrency: Arc<Concurrency>,
    answer: Arc<Mutex<Answer>>,
    on_the_wire: Arc<AtomicUsize>,
    _senders: JoinSet<()>,
}

impl Downstream {
    fn start(concurrency: &Arc<Concurrency>, answer: Answer) -> Self {
        let (answer, on_the_wire) = (Arc::new(Mutex::new(answer)), Arc::new(AtomicUsize::new(0)));
        let mut senders = JoinSet::new();
        for _ in 0..300 {
            let (concurrency, answer) = (Arc::clone(concurrency), Arc::clone(&answer));
            let on_the_wire = Arc::clone(&on_the_wire);
            senders.spawn(async move {
                loop {
                    let place = Arc::clone(&concurrency).place().await;
                    let others = on_the_wire.fetch_add(1, Ordering::Relaxed);
                    let (outcome, after) = answer.lock().unwrap()(others + 1);
                    tokio::time::sleep(after).await;
                    on_the_wire.fetch_sub(1, Ordering::Relaxed);
                    place.ended(outcome, after);
                }
            });
        }
        Self { concurrency: Arc::clone(concurrency), answer, on_the_wire, _senders: senders }
    }

    fn becomes(&self, answer: Answer) {
        *self.answer.lock().unwrap() = answer;
    }

    /// The limits that are seen from now on, for so long.
    async fn limits_during(&self, time: Duration) -> RangeInclusive<usize> {
        let until = Instant::now() + time;
        let (mut least, mut most) = (usize::MAX, 0);
        while Instant::now() < until {
            tokio::time::sleep(Duration::from_millis(5)).await;
            let limit = self.concurrency.limit();
            (least, most) = (least.min(limit), most.max(limit));
            let on_the_wire = self.on_the_wire.load(Ordering::Relaxed);
            assert!(on_the_wire <= self.concurrency.book().level.max);
        }
        least..=most
    }
}

fn well(_: usize) -> (Meaning, Duration) {
    (Meaning::Sent, Duration::from_millis(50))
}

fn slowly(_: usize) -> (Meaning, Duration) {
    (Meaning::Sent, SECOND)
}

fn no_more(_: usize) -> (Meaning, Duration) {
    (Meaning::Throttled, Duration::from_millis(5))
}

/// Works on eight at a time; the others wait.
fn eight_at_a_time(on_the_wire: usize) -> (Meaning, Duration) {
    let rounds = u32::try_from(on_the_wire).unwrap() as f64 / 8.0;
    (Meaning::Sent, Duration::from_millis(50).mul_f64(rounds.max(1.0)))
}

/// Refuses the ninth.
fn eight_and_no_more(on_the_wire: usize) -> (Meaning, Duration) {
    if on_the_wire > 8 { no_more(on_the_wire) } else { well(on_the_wire) }
}

#[tokio::test(start_paused = true)]
async fn a_downstream_that_takes_everything_gets_max_in_flight_within_a_second() {
    let downstream = Downstream::start(&traces(32), well);
    assert_eq!(*downstream.limits_during(SECOND).await.start(), FIRST_LIMIT);
    assert_eq!(downstream.limits_during(10 * SECOND).await, 32..=32);
}

#[tokio::test(start_paused = true)]
async fn a_downstream_that_has_not_answered_yet_is_not_spared() {
    let downstream = Downstream::start(&traces(32), |_| (Meaning::Sent, 10 * SECOND));
    assert_eq!(downstream.limits_during(9 * SECOND).await, 32..=32);
    assert_eq!(downstream.on_the_wire.load(Ordering::Relaxed), 32);
}

#[tokio::test(start_paused = true)]
async fn stays_near_the_capacity_of_a_downstream_whose_queue_shows_in_its_latency() {
    let downstream = Downstream::start(&traces(256), eight_at_a_time);
    downstream.limits_during(10 * SECOND).await;
    let limits = downstream.limits_during(100 * SECOND).await;
    // below eight it would be idle; at 24 everyone waits three times as long as for it alone
    assert!(*limits.start() >= 8 && *limits.end() < 24, "{limits:?}");
}

#[tokio::test(start_paused = true)]
async fn stays_near_the_capacity_of_a_downstream_that_refuses_what_is_too_much() {
    let downstream = Downstream::start(&traces(256), eight_and_no_more);
    downstream.limits_during(10 * SECOND).await;
    let limits = downstream.limits_during(100 * SECOND).await;
    assert!(*limits.start() >= 4 && *limits.end() <= 10, "{limits:?}");
}

#[tokio::test(start_paused = true)]
async fn one_place_is_left_while_everything_is_refused_and_all_come_back_afterwards() {
    let downstream = Downstream::start(&traces(32), well);
    downstream.limits_during(SECOND).await;
    for refusal in [no_more, |_| (Meaning::Retryable, 10 * SECOND)] {
        downstream.becomes(refusal);
        downstream.limits_during(100 * SECOND).await;
        assert_eq!(downstream.limits_during(10 * SECOND).await, 1..=1);
        assert_eq!(downstream.on_the_wire.load(Ordering::Relaxed), 1);
        downstream.becomes(well);
        // a place more with every round trip
        downstream.limits_during(15 * SECOND).await;
        assert_eq!(downstream.limits_during(SECOND).await, 32..=32);
    }
}

#[tokio::test(start_paused = true)]
async fn a_downstream_that_has_become_slow_for_other_reasons_is_not_starved_for_ever() {
    let downstream = Downstream::start(&traces(32), well);
    downstream.limits_during(10 * SECOND).await;
    downstream.becomes(slowly);
    let limits = downstream.limits_during(60 * SECOND).await;
    assert_eq!(*limits.start(), 1, "first it looks like overload");
    downstream.limits_during(60 * SECOND).await;
    assert_eq!(downstream.limits_during(60 * SECOND).await, 32..=32);
}

#[tokio::test(start_paused = true)]
async fn many_refusals_at_once_halve_once() {
    let concurrency = traces(32);
    let downstream = Downstream::start(&concurrency, well);
    downstream.limits_during(10 * SECOND).await;
    drop(downstream);
    let mut places = Vec::new();
    for _ in 0..32 {
        places.push(Arc::clone(&concurrency).place().await);
    }
    tokio::time::sleep(SECOND).await;
    places.into_iter().for_each(|place| place.ended(Meaning::Retryable, SECOND));
    assert_eq!(concurrency.limit(), 16);
}

#[tokio::test(start_paused = true)]
async fn grows_only_when_the_places_were_all_taken() {
    let concurrency = traces(32);
    Arc::clone(&concurrency).place().await.ended(Meaning::Throttled, SECOND);
    for _ in 0..100 {
        let places = [Arc::clone(&concurrency).place().await, Arc::clone(&concurrency).place().await];
        tokio::time::sleep(SECOND).await;
        places.into_iter().for_each(|place| place.ended(Meaning::Sent, SECOND));
    }
    assert_eq!(concurrency.limit(), 16);
}

#[tokio::test(start_paused = true)]
async fn a_signal_that_is_down_leaves_the_others_their_places() {
    let [traces, logs, metrics] = concurrency(8);
    let down = Downstream::start(&logs, no_more);
    let up = Downstream::start(&traces, well);
    down.limits_during(10 * SECOND).await;
    assert_eq!((logs.limit(), traces.limit(), metrics.limit()), (1, 8, 8));
    assert!(up.on_the_wire.load(Ordering::Relaxed) >= 7);
}

#[tokio::test(start_paused = true)]
async fn places_are_given_in_the_order_of_asking() {
    let concurrency = traces(1);
    let first = Arc::clone(&concurrency).place().await;
    let mut second = Box::pin(Arc::clone(&concurrency).place());
    let mut third = Box::pin(Arc::clone(&concurrency).place());
    assert!((&mut second).now_or_never().is_none() && (&mut third).now_or_never().is_none());
    first.ended(Meaning::Throttled, Duration::ZERO);
    assert!((&mut third).now_or_never().is_none(), "it is the second one's turn");
    drop(second.now_or_never().expect("a place is free"));
    assert!(third.now_or_never().is_some(), "given back, though nothing is known of how it ended");
}

proptest! {
    #[test]
    fn whatever_happens_there_are_as_many_places_as_the_limit_says(
        max in 1_usize..40,
        steps in proptest::collection::vec((0_usize..4, 0_u64..400, 0_usize..40), 1..300),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
        runtime.unwrap().block_on(async {
            let concurrency = traces(max);
            let mut places = Vec::new();
            for (step, millis, which) in steps {
                match step {
                    0 if !places.is_empty() => drop(places.swap_remove(which % places.len())),
                    1 if !places.is_empty() => {
                        let place: Place = places.swap_remove(which % places.len());
                        let took = place.began().elapsed();
                        let outcome = if which % 3 == 0 { Meaning::Throttled } else { Meaning::Sent };
                        place.ended(outcome, took);
                    }
                    2 => tokio::time::advance(Duration::from_millis(millis)).await,
                    _ => places.extend(Arc::clone(&concurrency).place().now_or_never()),
                }
                assert!((1..=max).contains(&concurrency.limit()) && places.len() <= max);
            }
            places.clear();
            while let Some(place) = Arc::clone(&concurrency).place().now_or_never() {
                places.push(place);
            }
            assert_eq!(places.len(), concurrency.limit());
        });
    }
}
