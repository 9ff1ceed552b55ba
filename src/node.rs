//! The composition root: builds the parts, wires them, orders the shutdown.
