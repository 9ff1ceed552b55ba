//! The messages on MQTT as other programs see them: `docs/wire.cddl` against the code in both directions, golden
//! vectors read by an independent CBOR reader, messages of older and newer versions, and payloads made to do harm.
//!
//! `BLESS=1 cargo test --test wire` writes the golden vectors anew, `docs/schema` and the examples of `docs/topics.md`. Do
//! that for a new message or an appended field, never because an old vector no longer decodes.

#[path = "support/python.rs"]
mod python;

mod wire {
    mod compatible;
    mod golden;
    mod hostile;
    mod json_schema;
    mod mismatch;
    mod page;
    mod samples;
    mod schema;
}
