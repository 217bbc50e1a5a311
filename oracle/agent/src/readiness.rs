//! Whether the agent can do its work, and if not, why.

use std::sync::{Mutex, PoisonError};

/// The reasons against being ready, by topic.
#[derive(Debug)]
pub struct Readiness(Mutex<Vec<(&'static str, String)>>);

impl Default for Readiness {
    fn default() -> Self {
        Self(Mutex::new(vec![("start", "starting".to_owned())]))
    }
}

impl Readiness {
    /// Sets or clears (`None`) the reason of a topic; a change is logged once.
    pub fn set(&self, topic: &'static str, reason: Option<String>) {
        let mut reasons = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let known = reasons.iter().position(|(known, _)| *known == topic);
        match (known, reason) {
            (Some(at), None) => {
                reasons.remove(at);
                tracing::info!(topic, "fine again");
            }
            (Some(at), Some(reason)) => reasons[at].1 = reason,
            (None, Some(reason)) => {
                tracing::warn!(topic, reason, "not ready");
                reasons.push((topic, reason));
            }
            (None, None) => {}
        }
    }

    /// What is in the way; empty when ready.
    pub fn reasons(&self) -> Vec<String> {
        let reasons = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        reasons.iter().map(|(topic, reason)| format!("{topic}: {reason}")).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn starts_unready_and_names_what_is_missing() {
        let readiness = Readiness::default();
        assert_eq!(readiness.reasons(), ["start: starting"]);
        readiness.set("chain", Some("no answer".into()));
        readiness.set("start", None);
        readiness.set("chain", Some("still no answer".into()));
        assert_eq!(readiness.reasons(), ["chain: still no answer"]);
        readiness.set("chain", None);
        assert!(readiness.reasons().is_empty());
    }
}
