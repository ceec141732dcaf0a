//! Nothing that was acknowledged is lost: section 7 of the contract with a queue on disk, against the real program as a
//! process.

mod downstream;

mod home;

mod ledger;

mod load;

mod random;

mod kills;

mod restarts;
