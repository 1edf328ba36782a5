//! selkie
