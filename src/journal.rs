//! What was promised to a provider, on disk, before it is asked.
