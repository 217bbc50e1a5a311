//! Announces steps and how long each took.

use std::time::Instant;

use anyhow::{Context, Result};

/// Steps of a command, one after the other.
pub struct Steps {
    start: Instant,
    done: Vec<(String, f64)>,
}

impl Steps {
    /// Starts counting time.
    pub fn start() -> Self {
        Self { start: Instant::now(), done: Vec::new() }
    }

    /// Runs a step; its failure carries the step's name.
    pub fn run<T>(&mut self, name: &str, step: impl FnOnce() -> Result<T>) -> Result<T> {
        println!("==> {name} ({:.0} s so far)", self.start.elapsed().as_secs_f64());
        let start = Instant::now();
        let result = step().with_context(|| format!("step \"{name}\" failed"))?;
        let seconds = start.elapsed().as_secs_f64();
        println!("==> {name}: done in {seconds:.1} s");
        self.done.push((name.to_owned(), seconds));
        Ok(result)
    }

    /// Prints where the time went.
    pub fn finish(self) {
        let parts: Vec<String> = self.done.iter().map(|(name, seconds)| format!("{name} {seconds:.1} s")).collect();
        println!("==> {:.0} s in all: {}", self.start.elapsed().as_secs_f64(), parts.join(", "));
    }
}
