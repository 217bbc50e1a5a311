//! What a long command is at, on standard error: a moving line on a terminal, one line a step elsewhere.

use std::{
    cell::Cell,
    io::{IsTerminal, stderr},
    time::{Duration, Instant},
};

use indicatif::{ProgressBar, ProgressStyle};

/// How often the line moves.
const TICK: Duration = Duration::from_millis(120);
/// How often a step that goes on is told where no line can move.
const TELL_EVERY: Duration = Duration::from_secs(30);

/// Shows one step after the other until it is dropped.
pub struct Steps {
    bar: Option<ProgressBar>,
    silent: bool,
    told: Cell<Option<Instant>>,
}

impl Steps {
    /// Shows nothing yet.
    pub fn new() -> Self {
        if !stderr().is_terminal() {
            return Self { bar: None, silent: false, told: Cell::new(None) };
        }
        let bar = ProgressBar::new_spinner();
        // The template is a constant of ours; a bar of the default style is as good.
        if let Ok(style) = ProgressStyle::with_template("{spinner} {msg} ({elapsed})") {
            bar.set_style(style);
        }
        bar.enable_steady_tick(TICK);
        Self { bar: Some(bar), silent: false, told: Cell::new(None) }
    }

    /// Shows nothing: for programs, which read standard error.
    pub const fn silent() -> Self {
        Self { bar: None, silent: true, told: Cell::new(None) }
    }

    /// The next step: words without a full stop, such as `reading the chain`.
    pub fn step(&self, text: impl Into<String>) {
        let text = text.into();
        match &self.bar {
            Some(bar) => {
                bar.reset_elapsed();
                bar.set_message(text);
            }
            None => self.tell(&text),
        }
    }

    /// The same step goes on, and its words change. Where no line can move they are told now and then.
    pub fn goes_on(&self, text: impl Into<String>) {
        let text = text.into();
        match &self.bar {
            Some(bar) => bar.set_message(text),
            None if self.told.get().is_none_or(|told| told.elapsed() >= TELL_EVERY) => self.tell(&text),
            None => {}
        }
    }

    fn tell(&self, text: &str) {
        if !self.silent {
            self.told.set(Some(Instant::now()));
            eprintln!("{text} ...");
        }
    }
}

impl Drop for Steps {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
