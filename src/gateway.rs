//! The HTTP data plane: listen, admission, balance, forward.
