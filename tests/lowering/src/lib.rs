//! Tests of the program build's lowering: see `tests/on_chain.rs`. The program lies in `program`, a workspace of its own.
