//! Keeping what the chain says of the container in step with the settings and the hardware. The decision is pure.

use std::sync::Arc;

use datagalax_client::amount::Ath;
use solana_pubkey::Pubkey;
use tokio::time::Instant;

use crate::{
    chain::{Act, Offer},
    retry::Retry,
};

/// What the settings say; `None`: whatever the chain has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// Where others reach this agent.
    pub endpoint: Option<String>,
    /// Price per hour, base units.
    pub price_per_hour: Option<u64>,
}

/// What the offer should be, `None` when it is that already.
///
/// `closed` says that it was this agent that closed the container to new leases. Only then it opens it again: a provider that
/// closed it by hand has reasons of its own.
pub fn due(now: &Offer, wanted: &Wanted, unfit: bool, closed: bool) -> Option<Offer> {
    let accepting = match (unfit, closed) {
        (true, _) => false,
        (false, true) => true,
        (false, false) => now.accepting,
    };
    let offer = Offer {
        endpoint: wanted.endpoint.clone().unwrap_or_else(|| now.endpoint.clone()),
        price_per_hour: wanted.price_per_hour.unwrap_or(now.price_per_hour),
        accepting,
        ..now.clone()
    };
    (offer != *now).then_some(offer)
}

/// The command that makes this change by hand.
pub fn command(container: Pubkey, now: &Offer, due: &Offer) -> String {
    let mut command = format!("datagalax --keypair PROVIDER.json container update {container}");
    if due.endpoint != now.endpoint {
        // The setting was checked to hold nothing that a shell reads.
        command += &format!(" --endpoint '{}'", due.endpoint);
    }
    if due.price_per_hour != now.price_per_hour {
        command += &format!(" --price {}", Ath(due.price_per_hour));
    }
    if due.accepting != now.accepting {
        command += &format!(" --accepting {}", due.accepting);
    }
    command
}

/// Makes the change, or says how it is made.
pub struct Keeper {
    act: Arc<dyn Act>,
    container: Pubkey,
    wanted: Wanted,
    retry: Retry,
    /// What was tried last, so that another change is not held up by its failures.
    tried: Option<Offer>,
}

impl Keeper {
    /// Keeps this container in step.
    pub fn new(act: Arc<dyn Act>, container: Pubkey, wanted: Wanted, retry: Retry) -> Self {
        Self { act, container, wanted, retry, tried: None }
    }

    /// What is due.
    pub fn due(&self, now: &Offer, unfit: bool, closed: bool) -> Option<Offer> {
        due(now, &self.wanted, unfit, closed)
    }

    /// Whether this agent can change the offer by itself.
    pub fn can(&self) -> bool {
        self.act.can_offer()
    }

    /// Brings the chain from `now` to `due`. Says what is in the way, with the command to run.
    pub async fn keep(&mut self, now: &Offer, due: &Offer) -> Option<String> {
        let command = command(self.container, now, due);
        if !self.act.can_offer() {
            return Some(format!("the chain is not in step and there is no --provider-keypair: run `{command}`"));
        }
        if self.tried.as_ref() != Some(due) {
            self.retry.succeeded();
            self.tried = Some(due.clone());
        }
        if !self.retry.is_due(Instant::now()) {
            return Some(format!(
                "the chain is not in step; the last attempt failed and another follows, or run `{command}`"
            ));
        }
        match self.act.offer(self.container, due).await {
            Ok(()) => {
                tracing::info!(container = %self.container, ?due, "the chain is in step");
                self.retry.succeeded();
                None
            }
            Err(error) => {
                self.retry.failed(Instant::now());
                tracing::warn!(%error, "the offer cannot be brought in step");
                Some(format!("the chain is not in step ({error}); tried again, or run `{command}`"))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn offer() -> Offer {
        Offer { endpoint: "http://a:1".into(), price_per_hour: 5, accepting: true, minimum_lease: 600, spec_hash: [1; 32] }
    }

    #[test]
    fn nothing_is_due_when_nothing_differs_or_nothing_is_wanted() {
        assert_eq!(due(&offer(), &Wanted::default(), false, false), None);
        let same = Wanted { endpoint: Some("http://a:1".into()), price_per_hour: Some(5) };
        assert_eq!(due(&offer(), &same, false, false), None);
    }

    #[test]
    fn settings_replace_what_they_name_and_nothing_else() {
        let wanted = Wanted { endpoint: Some("http://b:2".into()), price_per_hour: Some(1_234_500_000) };
        let changed = due(&offer(), &wanted, false, false).unwrap();
        assert_eq!(changed, Offer { endpoint: "http://b:2".into(), price_per_hour: 1_234_500_000, ..offer() });
        let command = command(Pubkey::default(), &offer(), &changed);
        let expected = "datagalax --keypair PROVIDER.json container update 11111111111111111111111111111111 \
                        --endpoint 'http://b:2' --price 1,234.500000";
        assert_eq!(command, expected);
    }

    #[test]
    fn it_closes_when_unfit_and_opens_only_what_it_closed_itself() {
        let none = Wanted::default();
        let closed = due(&offer(), &none, true, false).unwrap();
        assert_eq!(closed, Offer { accepting: false, ..offer() });
        assert!(command(Pubkey::default(), &offer(), &closed).ends_with("--accepting false"));
        assert_eq!(due(&closed, &none, true, true), None, "closed already");
        assert_eq!(due(&closed, &none, false, true), Some(offer()), "fit again");
        assert_eq!(due(&closed, &none, false, false), None, "closed by the provider");
    }
}
