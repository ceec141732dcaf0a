//! Log events become events of the spans that they belong to.
