//! Cases: dishonesty, judged by every committee of the window; breach, a recorded fact.

mod close_case;
mod open_case;
mod release_row;
mod report_breach;
mod slash;

pub use close_case::*;
pub use open_case::*;
pub use release_row::*;
pub use report_breach::*;
pub use slash::*;
