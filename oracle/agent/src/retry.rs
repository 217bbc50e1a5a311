//! Growing pauses between attempts.

use std::time::Duration;

use tokio::time::Instant;

/// When something that failed is tried again.
#[derive(Clone, Copy, Debug)]
pub struct Retry {
    first: Duration,
    longest: Duration,
    pause: Duration,
    due: Option<Instant>,
}

impl Retry {
    /// Due at once; after a failure in `first`, then each time in twice as long, at most `longest`.
    pub const fn new(first: Duration, longest: Duration) -> Self {
        Self { first, longest, pause: first, due: None }
    }

    /// Whether it may be tried.
    pub fn is_due(&self, now: Instant) -> bool {
        self.due.is_none_or(|due| due <= now)
    }

    /// It was tried and failed.
    pub fn failed(&mut self, now: Instant) {
        self.due = Some(now + self.pause);
        self.pause = (self.pause * 2).min(self.longest);
    }

    /// It was tried and succeeded, or is something else now.
    pub fn succeeded(&mut self) {
        (self.pause, self.due) = (self.first, None);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_longest_and_begin_anew_after_success() {
        let second = Duration::from_secs(1);
        let mut now = Instant::now();
        let mut retry = Retry::new(second, 3 * second);
        for pause in [1, 2, 3, 3] {
            assert!(retry.is_due(now));
            retry.failed(now);
            assert!(!retry.is_due(now + pause * second - Duration::from_millis(1)));
            now += pause * second;
        }
        retry.succeeded();
        assert!(retry.is_due(now));
        retry.failed(now);
        assert!(retry.is_due(now + second));
    }
}
