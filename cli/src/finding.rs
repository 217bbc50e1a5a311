//! What a check found, and what to do about it.

use std::{fmt::Display, time::Duration};

use serde_json::{Value, json};
use tokio::time::timeout;

/// Longest that one reading may take.
pub const PATIENCE: Duration = Duration::from_secs(5);

/// A reading, or why there is none.
pub type Reading<T> = Result<T, String>;

/// Waits for a reading, for [`PATIENCE`] at most.
pub async fn bounded<T, E: Display>(reading: impl Future<Output = Result<T, E>>) -> Reading<T> {
    match timeout(PATIENCE, reading).await {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => Err(format!("{error:#}")),
        Err(_) => Err(format!("no answer within {} s", PATIENCE.as_secs())),
    }
}

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// As it should be.
    Ok,
    /// Works, and will not for long or not well.
    Warning,
    /// Does not work.
    Failed,
    /// Not looked at; says why.
    Skipped,
}

impl State {
    /// The mark in tables.
    pub const fn mark(self) -> &'static str {
        match self {
            Self::Ok => "✓",
            Self::Warning => "!",
            Self::Failed => "✗",
            Self::Skipped => "-",
        }
    }

    /// The word in JSON.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warning => "warning",
            Self::Failed => "failed",
            Self::Skipped => "skipped",
        }
    }
}

/// One check's outcome.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Which check; programs go by it, so it stays what it is.
    pub id: &'static str,
    /// Of what, where there are several: an endpoint, a file.
    pub of: Option<String>,
    /// How bad it is.
    pub state: State,
    /// What was found, in words.
    pub found: String,
    /// What to do; of everything that is not ok.
    pub advice: Option<String>,
}

impl Finding {
    /// As it should be.
    pub fn ok(id: &'static str, found: impl Into<String>) -> Self {
        Self { id, of: None, state: State::Ok, found: found.into(), advice: None }
    }

    /// Works, but.
    pub fn warning(id: &'static str, found: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { state: State::Warning, advice: Some(advice.into()), ..Self::ok(id, found) }
    }

    /// Does not work.
    pub fn failed(id: &'static str, found: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { state: State::Failed, advice: Some(advice.into()), ..Self::ok(id, found) }
    }

    /// Not looked at.
    pub fn skipped(id: &'static str, why: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { state: State::Skipped, advice: Some(advice.into()), ..Self::ok(id, why) }
    }

    /// Of this one among several.
    pub fn of(self, what: impl Into<String>) -> Self {
        Self { of: Some(what.into()), ..self }
    }

    /// For programs.
    pub fn json(&self) -> Value {
        let Self { id, of, state, found, advice } = self;
        json!({ "id": id, "of": of, "state": state.word(), "found": found, "advice": advice })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn readings_are_bounded_in_time() {
        assert_eq!(bounded(async { Ok::<_, String>(7) }).await, Ok(7));
        assert_eq!(bounded(async { Err::<u8, _>("no") }).await, Err("no".to_owned()));
        let never = std::future::pending::<Result<u8, String>>();
        assert_eq!(bounded(never).await, Err("no answer within 5 s".to_owned()));
    }
}
