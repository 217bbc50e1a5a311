//! What a long command is at, on standard error: a moving line on a terminal, one line a step elsewhere.

use std::{
    io::{IsTerminal, stderr},
    time::Duration,
};

use indicatif::{ProgressBar, ProgressStyle};

/// How often the line moves.
const TICK: Duration = Duration::from_millis(120);

/// Shows one step after the other until it is dropped.
pub struct Steps(Option<ProgressBar>);

impl Steps {
    /// Shows nothing yet.
    pub fn new() -> Self {
        if !stderr().is_terminal() {
            return Self(None);
        }
        let bar = ProgressBar::new_spinner();
        // The template is a constant of ours; a bar of the default style is as good.
        if let Ok(style) = ProgressStyle::with_template("{spinner} {msg} ({elapsed})") {
            bar.set_style(style);
        }
        bar.enable_steady_tick(TICK);
        Self(Some(bar))
    }

    /// The next step: words without a full stop, such as `reading the chain`.
    pub fn step(&self, text: impl Into<String>) {
        let text = text.into();
        match &self.0 {
            Some(bar) => {
                bar.reset_elapsed();
                bar.set_message(text);
            }
            None => eprintln!("{text} ..."),
        }
    }
}

impl Drop for Steps {
    fn drop(&mut self) {
        if let Some(bar) = &self.0 {
            bar.finish_and_clear();
        }
    }
}
