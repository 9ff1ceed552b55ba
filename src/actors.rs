//! Thin shells around `logic`, one noun each.
