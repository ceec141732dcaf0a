mod bench;

mod matching;

mod leaving;

mod unmatched;

mod bounds;

mod properties;
