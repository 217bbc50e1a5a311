//! What can be leased now. A command of its own beside `rent`: reading needs no key, and `rent` always spends.

use anyhow::Result;
use clap::Args;
use datagalax_client::amount::Ath;

use crate::{
    context::Context,
    lease::{
        market,
        offer::{self, Offer, Wanted},
    },
    report::{Cell, Report},
};

/// Which.
#[derive(Args)]
pub struct Offers {
    #[command(flatten)]
    wanted: Wanted,
    /// Show at most so many
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u16).range(1..), value_name = "COUNT")]
    limit: u16,
}

const COLUMNS: [&str; 11] = [
    "container",
    "class",
    "gpus",
    "memory_a_gpu",
    "region",
    "place",
    "price_per_hour",
    "least_time",
    "availability",
    "leases_served",
    "endpoint",
];

impl Offers {
    /// Carries the command out.
    pub async fn run(self, context: &Context) -> Result<Report> {
        context.network().await?;
        let all = market::offers(&context.reader).await?;
        let (taking, limit) = (all.len(), usize::from(self.limit));
        let fit = offer::fitting(all, &self.wanted);
        let shown = fit.iter().take(limit).map(row).collect();
        let mut report = Report::new().rows("offers", &COLUMNS, shown);
        if fit.len() > limit {
            report = report.note(format!("{} more fit: narrow them, or show more with --limit.", fit.len() - limit));
        } else if fit.len() < taking {
            report = report.note(format!("{} other containers take leases and do not fit.", taking - fit.len()));
        } else if taking == 0 {
            report = report.note(
                "No container takes a lease now: those that there are do not accept, are leased, or are not live. `datagalax container list` shows them.",
            );
        }
        if let Some(cheapest) = fit.first() {
            report = report.note(format!(
                "Run something on the first: `datagalax run --container {} -- <command>`. Availability is by epoch, the newest first.",
                cheapest.address
            ));
        }
        Ok(report)
    }
}

fn row(offer: &Offer) -> Vec<Cell> {
    let (id, name, memory) = &offer.class;
    vec![
        offer.address.into(),
        if name.is_empty() { id.to_string().into() } else { name.clone().into() },
        offer.container.gpus.into(),
        if *memory == 0 { Cell::None } else { Cell::Bytes(*memory) },
        if offer.region.is_empty() { Cell::None } else { offer.region.clone().into() },
        offer.place().into(),
        Ath(offer.container.price_per_hour).into(),
        Cell::Span(offer.least_seconds().into()),
        Cell::Percents(offer.recent.iter().map(|(_, percent)| *percent).collect()),
        offer.container.leases_served.into(),
        offer.container.endpoint().into(),
    ]
}
