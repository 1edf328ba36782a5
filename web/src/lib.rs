//! The web backend of selkie.
