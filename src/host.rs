//! What touches the box: the probe, processes, free ports.
