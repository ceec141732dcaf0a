//! Budget of bytes in memory, shared by all that hold bodies.
//!
//! In: charges, one for each body, which grow and shrink with it. Out: permission to grow, or a refusal. Promises: granted
//! charges never exceed the capacity together; a charge that is dropped gives all of its bytes back. A part of a budget has a
//! capacity of its own within the whole.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;

/// Shared budget. Clones are the same budget.
#[derive(Debug, Clone)]
pub(crate) struct Budget(Arc<Account>);

/// Bytes of one body. Dropping it gives them back.
#[derive(Debug)]
pub(crate) struct Charge {
    account: Arc<Account>,
    bytes: u64,
}

/// A body and its charge.
#[derive(Debug)]
pub(crate) struct ChargedBody {
    pub(crate) bytes: Bytes,
    pub(crate) charge: Charge,
}

/// Refusal to grow a charge.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct OverBudget {
    /// Capacity of the whole budget, if the charge alone would exceed it.
    pub(crate) never_fits: Option<u64>,
}

#[derive(Debug)]
struct Account {
    capacity: u64,
    used: AtomicU64,
    whole: Option<Arc<Account>>,
}

// === impl Budget ===

impl Budget {
    pub(crate) fn new(capacity: u64) -> Self {
        Self(Arc::new(Account { capacity, used: AtomicU64::new(0), whole: None }))
    }

    /// Returns a budget whose charges count in this one too, with a capacity of its own.
    pub(crate) fn part(&self, capacity: u64) -> Self {
        Self(Arc::new(Account { capacity, used: AtomicU64::new(0), whole: Some(Arc::clone(&self.0)) }))
    }

    /// Returns an empty charge.
    pub(crate) fn charge(&self) -> Charge {
        Charge { account: Arc::clone(&self.0), bytes: 0 }
    }
}

// === impl Charge ===

impl Charge {
    /// Grows the charge, unless the budget would be exceeded.
    pub(crate) fn grow(&mut self, bytes: u64) -> Result<(), OverBudget> {
        if !self.account.take(bytes) {
            return Err(self.over(bytes));
        }
        self.bytes += bytes;
        Ok(())
    }

    /// Checks without growing the charge whether it could grow now.
    pub(crate) fn check(&self, bytes: u64) -> Result<(), OverBudget> {
        if self.account.has(bytes) { Ok(()) } else { Err(self.over(bytes)) }
    }

    /// Sets the charge to what is in memory already, whether or not that exceeds the budget.
    pub(crate) fn set(&mut self, bytes: u64) {
        match bytes.checked_sub(self.bytes) {
            Some(more) => self.account.add(more),
            None => self.account.give_back(self.bytes - bytes),
        }
        self.bytes = bytes;
    }

    fn over(&self, bytes: u64) -> OverBudget {
        let capacity = self.account.capacity;
        OverBudget { never_fits: (self.bytes.saturating_add(bytes) > capacity).then_some(capacity) }
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.account.give_back(self.bytes);
    }
}

// === impl Account ===

impl Account {
    fn take(&self, bytes: u64) -> bool {
        let fits = |used: u64| used.checked_add(bytes).filter(|used| *used <= self.capacity);
        if self.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits).is_err() {
            return false;
        }
        let taken = self.whole.as_ref().is_none_or(|whole| whole.take(bytes));
        if !taken {
            self.used.fetch_sub(bytes, Ordering::Relaxed);
        }
        taken
    }

    fn has(&self, bytes: u64) -> bool {
        let used = self.used.load(Ordering::Relaxed).checked_add(bytes);
        used.is_some_and(|used| used <= self.capacity)
            && self.whole.as_ref().is_none_or(|whole| whole.has(bytes))
    }

    fn add(&self, bytes: u64) {
        self.used.fetch_add(bytes, Ordering::Relaxed);
        if let Some(whole) = &self.whole {
            whole.add(bytes);
        }
    }

    fn give_back(&self, bytes: u64) {
        self.used.fetch_sub(bytes, Ordering::Relaxed);
        if let Some(whole) = &self.whole {
            whole.give_back(bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    impl Budget {
        pub(crate) fn used(&self) -> u64 {
            self.0.used.load(Ordering::Relaxed)
        }
    }

    impl Charge {
        /// Returns a charge of a budget without a bound.
        pub(crate) fn unlimited() -> Self {
            Budget::new(u64::MAX).charge()
        }

        /// Returns the number of bytes that the charge holds.
        pub(crate) fn bytes(&self) -> u64 {
            self.bytes
        }
    }

    impl<B: Into<Bytes>> From<B> for ChargedBody {
        /// Charges a budget without a bound.
        fn from(body: B) -> Self {
            let (bytes, mut charge) = (body.into(), Charge::unlimited());
            charge.set(bytes.len() as u64);
            Self { bytes, charge }
        }
    }

    #[derive(Debug, Clone)]
    enum Step {
        Open { of_part: bool },
        Grow(usize, u64),
        Set(usize, u64),
        Close(usize),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            any::<bool>().prop_map(|of_part| Step::Open { of_part }),
            (0_usize..8, 0_u64..60).prop_map(|(index, bytes)| Step::Grow(index, bytes)),
            (0_usize..8, 0_u64..60).prop_map(|(index, bytes)| Step::Set(index, bytes)),
            (0_usize..8).prop_map(Step::Close),
        ]
    }

    const WHOLE: u64 = 100;
    const PART: u64 = 40;

    proptest! {
        /// The naive model adds all charges up at every step.
        #[test]
        fn a_charge_grows_exactly_if_it_fits_into_its_part_and_the_whole(steps in proptest::collection::vec(step(), 0..60)) {
            let whole = Budget::new(WHOLE);
            let part = whole.part(PART);
            let mut charges: Vec<(Charge, bool, u64)> = Vec::new();
            for step in steps {
                let sum = |charges: &[(Charge, bool, u64)], only_part: bool| -> u64 {
                    charges.iter().filter(|(_, of_part, _)| *of_part || !only_part).map(|(_, _, bytes)| bytes).sum()
                };
                match step {
                    Step::Open { of_part } => {
                        charges.push((if of_part { part.charge() } else { whole.charge() }, of_part, 0));
                    }
                    Step::Grow(index, more) if index < charges.len() => {
                        let of_part = charges[index].1;
                        let fits = sum(&charges, false) + more <= WHOLE
                            && (!of_part || sum(&charges, true) + more <= PART);
                        let (charge, _, bytes) = &mut charges[index];
                        prop_assert_eq!(charge.check(more).is_ok(), fits);
                        let grown = charge.grow(more);
                        prop_assert_eq!(grown.is_ok(), fits);
                        let capacity = if of_part { PART } else { WHOLE };
                        if let Err(OverBudget { never_fits }) = grown {
                            prop_assert_eq!(never_fits, (*bytes + more > capacity).then_some(capacity));
                        } else {
                            *bytes += more;
                        }
                    }
                    Step::Set(index, now) if index < charges.len() => {
                        charges[index].0.set(now);
                        charges[index].2 = now;
                    }
                    Step::Close(index) if index < charges.len() => drop(charges.remove(index)),
                    Step::Grow(..) | Step::Set(..) | Step::Close(_) => {}
                }
                prop_assert!(charges.iter().all(|(charge, _, bytes)| charge.bytes() == *bytes));
                prop_assert_eq!((whole.used(), part.used()), (sum(&charges, false), sum(&charges, true)));
            }
            drop(charges);
            prop_assert_eq!((whole.used(), part.used()), (0, 0));
        }
    }
}
