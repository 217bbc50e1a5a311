//! `datagalax-shim`: the supervisor of one lease's workload; the agent starts it.

use std::process::ExitCode;

fn main() -> ExitCode {
    ExitCode::from(datagalax_runtime::shim::main())
}
