//! What is told of a keeper: metrics, and what is in the way of its work.

use std::{collections::BTreeMap, sync::Arc};

use datagalax_client::Address;
use datagalax_service::{
    Health,
    metrics::{Counter, Family, Gauge, label},
};
use futures_util::future::BoxFuture;

use crate::{
    books::{Books, BooksError, Entry, Fate, Sum, Sums},
    decide::Kind,
    keeper::Seen,
};

label! {
    /// What was done.
    pub enum ActionLabel: "action" {
        Advance = "advance", Churn = "churn", Draw = "draw", Seat = "seat", Tally = "tally", OpenCase = "open-case",
        CloseCase = "close-case", Release = "release", Vacate = "vacate", CancelLease = "cancel-lease",
        CloseLease = "close-lease", Settle = "settle", Reclaim = "reclaim", Claim = "claim",
    }
}

impl From<Kind> for ActionLabel {
    fn from(kind: Kind) -> Self {
        match kind {
            Kind::Advance => Self::Advance,
            Kind::Churn => Self::Churn,
            Kind::Draw => Self::Draw,
            Kind::Seat => Self::Seat,
            Kind::Tally => Self::Tally,
            Kind::OpenCase => Self::OpenCase,
            Kind::CloseCase => Self::CloseCase,
            Kind::Release => Self::Release,
            Kind::Vacate => Self::Vacate,
            Kind::CancelLease => Self::CancelLease,
            Kind::CloseLease => Self::CloseLease,
            Kind::Settle => Self::Settle,
            Kind::Reclaim => Self::Reclaim,
            Kind::Claim => Self::Claim,
        }
    }
}

datagalax_service::metrics! {
    /// What a keeper counts.
    pub struct Metrics: "datagalax_keeper" {
        /// Actions that landed, by action.
        pub done: Family<ActionLabel, Counter>,
        /// Actions that landed and failed, so that their fee was lost, by action; a few are races with other keepers.
        pub failed: Family<ActionLabel, Counter>,
        /// Transactions that landed, by action.
        pub transactions: Family<ActionLabel, Counter>,
        /// Fees paid, for what failed too, by action.
        pub fees_lamports: Family<ActionLabel, Counter>,
        /// Pay that the program credited for, base units of ATH, by action.
        pub pay_units: Family<ActionLabel, Counter>,
        /// Actions that may be done now, by whichever keeper; alert when it stays high for an epoch.
        pub due: Gauge,
        /// The epoch that the chain's clock is in.
        pub epoch: Gauge,
        /// Seconds since the end of the epoch that the network advanced to last, 0 while that is the clock's; alert above two lengths.
        pub behind_seconds: Gauge,
        /// Lamports spent in the last 24 hours, what may still land included.
        pub spent_lamports: Gauge,
        /// Lamports of the fee payer.
        pub balance_lamports: Gauge,
        /// Pay that waits to be withdrawn, base units of ATH.
        pub pay_due_units: Gauge,
        /// Other keepers at work, as far as their pay on chain tells.
        pub others: Gauge,
    }
}

fn gauge(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

/// Books that count what is written into them.
pub struct Counted {
    /// The books.
    pub books: Arc<dyn Books>,
    /// Where it is counted.
    pub metrics: Metrics,
}

impl Books for Counted {
    fn write(&self, entries: Vec<Entry>) -> BoxFuture<'_, Result<(), BooksError>> {
        for entry in entries.iter().filter(|entry| matches!(entry.fate, Fate::Done | Fate::Wasted)) {
            let (label, sum) = (ActionLabel::from(entry.kind), Sum::of(entry));
            let add = |family: &Family<ActionLabel, Counter>, value| family.get_or_create(&label).inc_by(value);
            add(&self.metrics.done, sum.done);
            add(&self.metrics.failed, sum.wasted);
            add(&self.metrics.transactions, sum.transactions);
            add(&self.metrics.fees_lamports, sum.fees);
            add(&self.metrics.pay_units, sum.pay);
        }
        self.books.write(entries)
    }

    fn open(&self) -> BoxFuture<'_, Result<Vec<Entry>, BooksError>> {
        self.books.open()
    }

    fn spent_since(&self, time: i64) -> BoxFuture<'_, Result<u64, BooksError>> {
        self.books.spent_since(time)
    }

    fn sums(&self, first: u32) -> BoxFuture<'_, Result<Sums, BooksError>> {
        self.books.sums(first)
    }
}

/// Shows what a keeper saw in its metrics and health.
pub fn show(seen: &Seen, payer: &Address, low: u64, metrics: &Metrics, health: &Health) {
    health.set("chain", seen.trouble.clone());
    if seen.now == 0 {
        return;
    }
    metrics.due.set(gauge(seen.due as u64));
    metrics.epoch.set(seen.epoch.map_or(-1, i64::from));
    metrics.behind_seconds.set(seen.behind);
    metrics.spent_lamports.set(gauge(seen.spent));
    metrics.balance_lamports.set(gauge(seen.balance));
    metrics.pay_due_units.set(gauge(seen.earned.map_or(0, |(due, _)| due)));
    metrics.others.set(gauge(seen.others as u64));
    let late = seen.behind > i64::from(seen.length) * 2;
    let behind = seen.behind;
    health.set("epochs", late.then(|| {
        format!(
            "no epoch was advanced to for {behind} s, two lengths and more: see the warnings above, whether the fee payer \
             {payer} can pay, and whether the node is of the right cluster and in step with it"
        )
    }));
    let balance = seen.balance;
    health.set(
        "balance",
        (balance < low)
            .then(|| format!("the fee payer {payer} has {balance} lamports, less than --low-balance {low}: send SOL to it")),
    );
}

/// What an epoch cost and earned, in a line of the log, once it is over.
pub fn log_epoch(epoch: u32, sums: &Sums) {
    let mut total = Sum::default();
    let mut done = BTreeMap::new();
    for ((of, kind), sum) in sums {
        if *of == epoch {
            total.add(sum);
            done.insert(kind.name(), sum.done);
        }
    }
    let Sum { transactions, fees, fees_wasted, pay, .. } = total;
    tracing::info!(epoch, transactions, fees, fees_wasted, pay, ?done, "the epoch's fees (lamports) and pay (base units)");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::books::MemoryBooks;
    use datagalax_service::metrics::{Metrics as _, Registry, encode};
    use solana_signature::Signature;

    #[test]
    fn every_action_has_its_own_label() {
        for kind in Kind::ALL {
            assert_eq!(ActionLabel::from(kind).as_str(), kind.name());
            assert_eq!(Kind::named(kind.name()), Some(kind));
        }
    }

    #[tokio::test]
    async fn what_is_written_is_counted_once_it_landed() {
        let mut registry = Registry::default();
        let metrics = Metrics::register(&mut registry);
        let counted = Counted { books: Arc::new(MemoryBooks::default()), metrics };
        let entry = |i: u8, fate| {
            let (signature, kind) = (Signature::from([i; 64]), Kind::Tally);
            Entry { signature, kind, actions: 9, epoch: 1, at: 1, fee: 5_000, pay: 90, fate }
        };
        counted.write(vec![entry(1, Fate::Open), entry(2, Fate::Expired)]).await.unwrap();
        counted.write(vec![entry(1, Fate::Done), entry(3, Fate::Wasted)]).await.unwrap();
        let text = encode(&registry);
        for line in [
            "done_total{action=\"tally\"} 9",
            "failed_total{action=\"tally\"} 9",
            "fees_lamports_total{action=\"tally\"} 10000",
        ] {
            assert!(text.contains(&format!("datagalax_keeper_{line}")), "{line} in {text}");
        }
    }

    #[test]
    fn what_is_in_the_way_says_what_to_do() {
        let (health, metrics) = (Health::default(), Metrics::register(&mut Registry::default()));
        health.started();
        let payer = Address::new_from_array([3; 32]);
        let seen = Seen { now: 1, epoch: Some(4), length: 60, behind: 120, balance: 10, ..Seen::default() };
        let topics = |seen: &Seen| {
            show(seen, &payer, 10, &metrics, &health);
            health.topics()
        };
        assert!(topics(&seen).is_empty(), "{:?}", health.topics());
        let late = topics(&Seen { behind: 121, ..seen.clone() });
        assert!(late["epochs"].contains("121 s") && late["epochs"].contains(&payer.to_string()), "{late:?}");
        let poor = topics(&Seen { balance: 9, ..seen.clone() });
        assert!(poor["balance"].contains("send SOL"), "{poor:?}");
        let cut_off = topics(&Seen { trouble: Some("no answer".into()), ..seen.clone() });
        assert_eq!(cut_off.keys().collect::<Vec<_>>(), [&"chain"]);
        assert!(topics(&seen).is_empty());
    }
}
