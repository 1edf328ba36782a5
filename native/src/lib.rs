//! The native backend of selkie.
