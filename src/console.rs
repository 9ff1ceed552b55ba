//! The API, metrics and health for people and monitoring.
