//! `#[main]` and `#[test]` of selkie.
